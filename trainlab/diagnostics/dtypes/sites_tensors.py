"""Which dtype does each tensor of a model have, and which are the odd ones out?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainlab.diagnostics.dtypes.casts import dtype_name
from trainlab.visit import tensors

__all__ = ["Held", "TensorRow", "floats", "held_tensors", "reference_dtype", "tensor_rows", "upwards"]


@dataclass(frozen=True, eq=False)
class Held:
    """One floating tensor of a model: ``kind`` is ``parameter``, ``buffer`` or ``attribute``."""

    kind: str
    owner: str
    leaf: str
    tensor: Tensor

    @property
    def name(self) -> str:
        """Qualified name in the model."""
        return f"{self.owner}.{self.leaf}" if self.owner else self.leaf


def floats(tree: object) -> list[Tensor]:
    """The floating tensors in nested arguments."""
    return [value for value in tensors(tree).values() if value.is_floating_point()]


def held_tensors(model: nn.Module) -> Iterator[Held]:
    """Every floating tensor that a model holds, once, by its first name."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        parts: dict[str, Mapping[str, object]] = {
            "parameter": dict(module.named_parameters(recurse=False)),
            "buffer": dict(module.named_buffers(recurse=False)),
            "attribute": vars(module),
        }
        for kind, held in parts.items():
            for leaf, value in held.items():
                if isinstance(value, Tensor) and value.is_floating_point() and id(value) not in seen:
                    seen.add(id(value))
                    yield Held(kind, path, leaf, value)


def reference_dtype(model: nn.Module, batch: object = None) -> torch.dtype:
    """The dtype that the rest should have: that of most trainable weights, else of most weights, else of the batch.

    Tensors are counted, not their elements: one large layer in an odd dtype is still the odd one. At a tie, the
    wider dtype.
    """
    held = [each.tensor for each in held_tensors(model)]
    for group in ([each for each in held if each.requires_grad], held, floats(batch)):
        if group:
            shares = Counter(each.dtype for each in group)
            return max(shares, key=lambda dtype: (shares[dtype], torch.finfo(dtype).bits))
    return torch.get_default_dtype()


@dataclass(frozen=True)
class TensorRow:
    """One row of the table of parameters and buffers.

    Attributes:
        kind: ``parameter``, ``buffer`` or ``attribute`` (a plain tensor).
        dtype: ``float16``, without ``torch.``.
        odd: Its dtype is not the model's reference (see `reference_dtype`), and that does not look meant.
        note: Why it is or is not odd, or what its dtype does to training; empty where there is nothing to say.
    """

    name: str
    kind: str
    dtype: str
    elements: int
    trainable: bool
    odd: bool
    note: str


def tensor_rows(model: nn.Module, batch: object = None) -> tuple[TensorRow, ...]:
    """Every floating parameter, buffer and plain tensor with its dtype, in the order of the modules.

    A frozen network (two modules with weights or more) all in one dtype, such as a half-precision teacher, is taken
    as meant and is not odd. A trainable float16 parameter is noted: GradScaler refuses its gradient.
    """
    reference = reference_dtype(model, batch)
    held = list(held_tensors(model))
    below: dict[str, list[Held]] = {}
    for each in held:
        for path in upwards(each.owner):
            below.setdefault(path, []).append(each)
    rows = []
    for each in held:
        dtype, notes = dtype_name(each.tensor.dtype), []
        meant = [path for path in upwards(each.owner) if _is_frozen_network(below[path])]
        different = each.tensor.dtype != reference
        if different and meant:
            notes.append(f"frozen, as all of {meant[-1]!r} is")
        elif different:
            notes.append(f"the rest is {dtype_name(reference)}")
        if each.tensor.dtype == torch.float16 and each.tensor.requires_grad:
            notes.append("GradScaler raises on it: Attempting to unscale FP16 gradients")
        rows.append(
            TensorRow(
                each.name, each.kind, dtype, each.tensor.numel(), each.tensor.requires_grad,
                different and not meant, "; ".join(notes),
            )
        )  # fmt: skip
    return tuple(rows)


def _is_frozen_network(held: list[Held]) -> bool:
    """Whether these are the weights of two modules or more, none trainable, all of one dtype."""
    owners = {each.owner for each in held if each.kind == "parameter"}
    return (
        len(owners) > 1
        and len({each.tensor.dtype for each in held}) == 1
        and not any(each.tensor.requires_grad for each in held)
    )


def upwards(path: str) -> Iterator[str]:
    """A module's name and its parents', the model itself left out."""
    while path:
        yield path
        path = path.rpartition(".")[0]
