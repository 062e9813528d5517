"""What lies in a loaded checkpoint: the sets of weights, the config and the counters."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from trainlab.errors import SubjectError, did_you_mean
from trainlab.subjects.checkfile.roles import CONFIGS, NOT_WEIGHTS, rank

if TYPE_CHECKING:
    import torch

__all__ = ["Weights", "config_of", "counters_of", "plain", "weights_of"]

Weights = dict[str, "torch.Tensor"]

NESTED = 3  # how deep a set of weights may lie: checkpoint.ema.shadow


def weights_of(
    content: object, key: str | None, where: str
) -> tuple[str, Weights | torch.nn.Module, dict[str, Weights]]:
    """Finds the weights in what a checkpoint file held.

    Args:
        content: The loaded object.
        key: Which set of weights to take, dotted where it lies deeper; None takes the first by `roles.rank`.
        where: The file, for errors.

    Returns:
        The name of the set ("" where the file holds nothing else), the set (a dict, or the module that was
        pickled in its place), and the other sets by name.

    Raises:
        SubjectError: There are no weights, no such key, or several sets with names that say nothing.
    """
    from torch import nn

    found = dict(_sets(content))
    if not found:
        raise SubjectError(
            f"{where} holds no weights",
            seen=_outline(content),
            fix="save the weights with torch.save({'model': model.state_dict(), …})",
        )
    if key is None:
        ranks = {name: rank(name) for name in found}
        best = min(ranks.values())
        first = [name for name, place in ranks.items() if place == best]
        if len(first) > 1:
            raise SubjectError(
                f"{where} holds several sets of weights, and their names do not say which is the model",
                seen="\n".join(f"{name!r}: {len(_tensors(found[name]))} tensors" for name in first),
                fix=f"name one of them, e.g. open_checkpoint(…, key={first[0]!r})",
            )
        key = first[0]
    elif key not in found:
        raise SubjectError(f"{where} has no weights under {key!r}", fix=did_you_mean(key, found))
    chosen = found.pop(key)
    others = {name: _tensors(each) for name, each in found.items()}
    return key, chosen if isinstance(chosen, nn.Module) else _tensors(chosen), others


def config_of(content: object) -> dict[str, Any] | None:
    """The stored config as plain nested dicts: the first of `roles.CONFIGS` that holds names and values."""
    if not isinstance(content, Mapping):
        return None
    configs = (plain(content[name]) for name in CONFIGS if name in content)
    return next((config for config in configs if isinstance(config, dict) and config), None)


def counters_of(content: object) -> dict[str, bool | int | float | str]:
    """The plain values beside the weights: iter, epoch, global_step, best loss, versions …"""
    counters: dict[str, bool | int | float | str] = {}
    for name, value in content.items() if isinstance(content, Mapping) else ():
        single = value.item() if getattr(value, "ndim", None) == 0 else value  # 0-d tensors and numpy scalars
        if isinstance(single, (bool, int, float, str)):
            counters[str(name)] = single
    return counters


def plain(value: object) -> Any:
    """Dicts for everything that maps names to values, at any depth; the rest as it is."""
    if isinstance(value, (argparse.Namespace, SimpleNamespace)):
        value = vars(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    return value


def _sets(value: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every set of weights inside, with its dotted name; a set is not searched further."""
    from torch import Tensor, nn

    if isinstance(value, nn.Module) or _is_state_dict(value):
        yield name, value
    elif isinstance(value, Mapping):
        inner: list[tuple[str, Any]] = []
        for key, each in value.items():
            if name.count(".") + bool(name) < NESTED and not NOT_WEIGHTS.search(str(key)):
                inner += _sets(each, f"{name}.{key}" if name else str(key))
        yield from inner
        if not inner and not name and any(isinstance(each, Tensor) for each in value.values()):
            yield "", {key: each for key, each in value.items() if isinstance(each, Tensor)}


def _is_state_dict(value: object) -> bool:
    from torch import Tensor

    if not isinstance(value, Mapping):
        return False
    tensors = [isinstance(each, Tensor) or str(key).endswith("_extra_state") for key, each in value.items()]
    return bool(tensors) and all(tensors) and all(isinstance(key, str) for key in value)


def _tensors(weights: Any) -> Weights:
    from torch import nn

    return weights.state_dict() if isinstance(weights, nn.Module) else weights


def _outline(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = [f"{key!r}: {type(value).__name__}" for key, value in list(content.items())[:8]]
    return f"a {type(content).__name__} with {', '.join(keys) or 'nothing in it'}"
