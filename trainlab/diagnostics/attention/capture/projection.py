"""Follows what heads put out to the layer that projects it, and cuts its weight by heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from trainlab.diagnostics.attention.capture.products import PRODUCTS, letters, operands
from trainlab.diagnostics.attention.capture.tags import Tags, moves, same_view
from trainlab.visit.ops import Op

__all__ = ["Projection"]

# What leaves every value where it is, up to rounding and dropout
_KEEPS = frozenset(
    """alias bfloat16 clone contiguous detach double dropout dropout_ float half requires_grad_ to
    type type_as""".split()  # noqa: SIM905 - shorter
)


class _Head(NamedTuple):
    """Which attention an output comes from, and for each of its values ``head * depth + place in the head``."""

    number: int
    heads: int
    width: int
    labels: Tensor


class Projection:
    """Stands behind the ops and gives W_O (out, head, value depth) where it is certain of it.

    Args:
        constant: Whether a tensor is a weight of the model, or computed from weights alone.
    """

    def __init__(self, constant: Callable[[Tensor], bool]) -> None:
        self.constant = constant
        self.tags: Tags[_Head] = Tags()

    def begin(self, number: int, out: Tensor, labels: Tensor, heads: int, width: int) -> None:
        """Starts to follow an attention's output."""
        self.tags.put(out, _Head(number, heads, width, labels))

    def follow(self, op: Op, result: object) -> tuple[int, Tensor] | None:
        """Takes the labels through one op; at the projection, gives the attention's number and W_O."""
        pair = (operands(op) or ()) if op.name in PRODUCTS else op.args[:2]
        head = self.tags.get(pair[0]) if pair else None
        if head is None:
            return None
        if moves(op):
            self._carry(result, same_view(op, head.labels), head)
        elif op.name in _KEEPS:
            self._carry(result, head.labels, head)
        elif len(pair) == 2 and isinstance(pair[1], Tensor) and self.constant(pair[1]):
            found = _weight(op, (pair[0], pair[1]), head.labels)
            weight = _by_label(*found) if found is not None else None
            if weight is not None and weight.shape[1] == head.width:
                return head.number, weight.detach().reshape(len(weight), head.heads, -1)
        return None

    def _carry(self, result: object, labels: object, head: _Head) -> None:
        if isinstance(result, Tensor) and isinstance(labels, Tensor) and result.shape == labels.shape:
            self.tags.put(result, head._replace(labels=labels))
        elif isinstance(result, tuple | list) and isinstance(labels, tuple | list):
            for each, label in zip(result, labels, strict=True):
                self._carry(each, label, head)


def _weight(op: Op, pair: tuple[Tensor, Tensor], labels: Tensor) -> tuple[Tensor, Tensor] | None:
    """The weight (out, in) that the op multiplies with, and the labels (…, in) of what it sums over."""
    weight = pair[1]
    if op.name.startswith("conv") and weight.dim() > 2 and all(size == 1 for size in weight.shape[2:]):
        return weight.flatten(1), labels.movedim(1, -1)
    found = letters(op, pair) if op.name in PRODUCTS else None
    if found is None:
        return None
    left, right, out = found
    summed = [each for each in right if each in left and each not in out]
    made = [each for each in right if each in out and each not in left]
    if not summed or not made or len(summed) + len(made) != len(right):
        return None
    rest = [each for each in left if each not in summed]
    weight = weight.permute([right.index(each) for each in made + summed]).flatten(0, len(made) - 1)
    labels = labels.permute([left.index(each) for each in rest + summed])
    return weight.flatten(1), labels.flatten(len(rest))


def _by_label(weight: Tensor, labels: Tensor) -> Tensor | None:
    """The weight's columns in the order of heads; None where not every row holds each value of each head once."""
    size = labels.shape[-1]
    one = labels[tuple(slice(1) if not step else slice(None) for step in labels.stride()[:-1])]
    rows = one.reshape(-1, size)
    order = rows[0].long().argsort()
    if weight.shape[1] != size or not torch.equal(rows[0][order].long(), torch.arange(size, device="cpu")):
        return None
    return weight[:, order] if bool((rows == rows[0]).all()) else None
