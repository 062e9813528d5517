"""Where an odd dtype comes from: a module, parameter, buffer or input that holds it, or a line that makes it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from trainlab.diagnostics.dtypes.sites_tensors import floats, held_tensors, upwards
from trainlab.visit import tensors
from trainlab.visit.ops import Op

__all__ = ["CASTS", "Cause", "Origins"]

CASTS = frozenset({"to", "type", "type_as", "half", "float", "double", "bfloat16"})


@dataclass(frozen=True)
class Cause:
    """What brings an odd dtype into a run.

    Attributes:
        kind: ``module`` (all its floating tensors share the dtype), ``parameter``, ``buffer``, ``attribute`` (a plain
            tensor), ``input``, or ``line`` (a cast or a new tensor in the user's code).
        name: Qualified name, path in the batch, or ``file:line``.
        dtype: The dtype that it brings.
        elements: How many numbers it holds; 0 for a line.
        op: For a line, what is called there: ``half``, ``zeros``.
    """

    kind: str
    name: str
    dtype: torch.dtype
    elements: int = 0
    op: str = ""


class Origins:
    """Follows odd dtypes through a run, from what holds or makes them to each tensor that has them.

    Args:
        model: Its tensors, and those of ``batch``, are known by identity.
        batch: What the model is called with.
        reference: Every other floating dtype is odd.
    """

    def __init__(self, model: nn.Module, batch: object, reference: torch.dtype) -> None:
        self.reference = reference
        self.known: MutableMapping[Tensor, frozenset[Cause]] = WeakTensorKeyDictionary()
        for tensor, cause in _odd_held(model, reference):
            self.known[tensor] = frozenset([cause])
        for path, tensor in tensors(batch).items():
            if tensor.is_floating_point() and tensor.dtype != reference:
                self.known[tensor] = frozenset([Cause("input", path, tensor.dtype, tensor.numel())])

    @property
    def odd(self) -> frozenset[Cause]:
        """All that is known to bring an odd dtype."""
        return frozenset().union(*self.known.values())

    def of(self, tree: object) -> frozenset[Cause]:
        """Why the floating tensors in nested arguments have an odd dtype; empty where none has."""
        return frozenset().union(*(self.known.get(tensor, ()) for tensor in floats(tree)))

    def follow(self, op: Op, given: list[Tensor], result: object) -> set[Cause]:
        """Notes where the odd dtypes in the result of a call come from; returns the lines that made one.

        Args:
            op: The call, under way.
            given: The floating tensors that went in.
            result: What came out.
        """
        lines = set()
        for tensor in floats(result):
            # One that is known already went in: a cast to the dtype it had gives the tensor itself
            if tensor.dtype != self.reference and tensor not in self.known:
                alike = [each for each in given if each.dtype == tensor.dtype]
                causes = self.of(alike)
                if op.name in CASTS or not alike:
                    line = Cause("line", f"{op.site.file}:{op.site.line}", tensor.dtype, op=op.name)
                    lines.add(line)
                    causes |= {line}
                self.known[tensor] = causes
        return lines


def _odd_held(model: nn.Module, reference: torch.dtype) -> Iterator[tuple[Tensor, Cause]]:
    """The tensors of odd dtype, each with the largest module that holds nothing else, or itself, as its cause."""
    held = list(held_tensors(model))
    below: dict[str, tuple[set[torch.dtype], list[int]]] = {}
    for each in held:
        if each.kind != "attribute":  # module.to(dtype) leaves these alone
            for path in upwards(each.owner):
                dtypes, sizes = below.setdefault(path, (set(), []))
                dtypes.add(each.tensor.dtype)
                sizes.append(each.tensor.numel())
    for each in held:
        dtype = each.tensor.dtype
        if dtype == reference:
            continue
        cause = Cause(each.kind, each.name, dtype, each.tensor.numel())
        if each.kind != "attribute":
            for path in upwards(each.owner):
                if below[path][0] == {dtype}:
                    cause = Cause("module", path, dtype, sum(below[path][1]))
        yield each.tensor, cause
