"""Which axes are heads: every attention as (batch, head, query, depth)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["by_head", "head_axes", "heads_of", "labels"]

_NAMES = (
    "num_heads", "n_heads", "heads", "num_attention_heads", "n_head", "nhead", "num_head", "nheads", "attn_num_heads",
)  # fmt: skip


def heads_of(modules: Mapping[str, nn.Module], name: str) -> int:
    """How many heads a module says that it has, or the modules around it, up to two; 0 where none does."""
    path = name.split(".") if name else []
    for above in range(min(3, len(path) + 1)):
        module = modules.get(".".join(path[: len(path) - above]))
        for attribute in _NAMES:
            heads = getattr(module, attribute, None)
            if isinstance(heads, int) and heads > 0:
                return heads
    return 0


def head_axes(lead: Sequence[int], heads: int) -> tuple[int, ...]:
    """Which of the axes in front of query and depth are heads; none where the only one is batch × head."""
    if len(lead) < 2:
        return ()
    for length in (1, 2):
        for start in range(len(lead) - length, -1, -1):
            if math.prod(lead[start : start + length]) == heads:
                return tuple(range(start, start + length))
    return (len(lead) - 1,)


def by_head(tensor: Tensor, lead: Sequence[int], axes: Sequence[int], heads: int) -> Tensor:
    """(lead…, query, depth) -> (batch, head, query, depth).

    Args:
        tensor: With ``lead`` in front, or what broadcasts to it.
        lead: The sizes in front of query and depth.
        axes: Those of them that are heads, from `head_axes`.
        heads: How many heads there are, where the only axis in front is batch × head.
    """
    tensor = tensor.expand(*lead, *tensor.shape[-2:])
    if not lead:
        return tensor[None, None]
    if len(lead) == 1:
        return tensor.view(-1, heads if heads and lead[0] % heads == 0 else 1, *tensor.shape[1:])
    rest = [axis for axis in range(len(lead)) if axis not in axes]
    tensor = tensor.permute(*rest, *axes, -2, -1)
    return tensor.reshape(-1, math.prod(lead[axis] for axis in axes), *tensor.shape[-2:])


def labels(out: Tensor, axes: Sequence[int], depth: int, heads: int) -> Tensor:
    """For each value of an attention's output ``head * depth + place in the head``, int32, of the output's shape.

    Takes memory for heads × depth alone, not for tokens; on the CPU, wherever ``out`` is.

    Args:
        out: (…), in the layout that the model has it in.
        axes: Its axes that are heads; none where axis 0 is batch × head, or where there is one head.
        depth: Its axis of the value depth.
        heads: As for `by_head`.
    """

    def along(axis: int, values: Tensor) -> Tensor:
        return values.view([-1 if place == axis % out.dim() else 1 for place in range(out.dim())])

    def count(axis: int) -> Tensor:
        return torch.arange(out.shape[axis], dtype=torch.int32, device="cpu")

    label, size = along(depth, count(depth)), out.shape[depth]
    if not axes and out.dim() == 3 and heads and out.shape[0] % heads == 0:
        label = label + size * along(0, count(0) % heads)
    for axis in reversed(axes):
        label, size = label + size * along(axis, count(axis)), size * out.shape[axis]
    return label.expand(out.shape)
