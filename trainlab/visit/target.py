"""What in a batch is input, and what is the target that it brings along?"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from trainlab.errors import UsageError, did_you_mean
from trainlab.visit.tree import tensors

__all__ = ["TARGETS", "forward_names", "without_target"]

TARGETS = ("target", "targets", "label", "labels", "y")
"""Names that a target goes by."""


def forward_names(model: nn.Module) -> list[str]:
    """The names that forward gives to its arguments; empty where it takes anything."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except ValueError:
        return []
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _takes_anything(model: nn.Module, kind: object) -> bool:
    try:
        return any(p.kind is kind for p in inspect.signature(model.forward).parameters.values())
    except ValueError:
        return True


def without_target(model: nn.Module, batch: object, target: str = "") -> tuple[object, str, Tensor | None]:
    """Takes the target out of a batch, where forward does not take it.

    Args:
        model: Its forward says what it takes.
        batch: As for `trainlab.visit.call`, and perhaps with its target.
        target: The target's name; by default one of `TARGETS`, or the last of a tuple that is one too long.

    Returns:
        The batch without it, its name ("" for none) and its values.

    Raises:
        UsageError: The batch has no entry of that name.
    """
    names = forward_names(model)
    if isinstance(batch, Mapping):
        if target and target not in batch:
            raise UsageError(f"the batch has no entry {target!r}", fix=did_you_mean(target, map(str, batch)))
        spare = [key for key in ([target] if target else TARGETS) if key in batch and key not in names]
        if not spare or (not target and _takes_anything(model, inspect.Parameter.VAR_KEYWORD)):
            return batch, target, batch[target] if target else None
        return (
            {key: value for key, value in batch.items() if key != spare[0]},
            spare[0],
            _tensor(batch[spare[0]]),
        )
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        longer = len(batch) == len(names) + 1 and not _takes_anything(model, inspect.Parameter.VAR_POSITIONAL)
        if longer and len(batch) > 1:
            return tuple(batch[:-1]), target or "target", _tensor(batch[-1])
    if target and target not in tensors(batch):
        raise UsageError(f"the batch has no entry {target!r}", fix=did_you_mean(target, tensors(batch)))
    return batch, target, tensors(batch)[target] if target else None


def _tensor(value: object) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
