"""Walk the nested batches and outputs that models take and give."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = ["is_dataclass", "map_tensors", "parts", "resolution", "tensors"]

T = TypeVar("T")


def tensors(tree: object) -> dict[str, Tensor]:
    """Names every tensor in nested tuples, lists, mappings, dataclasses and Hugging Face outputs.

    Returns:
        Tensors by path, in order: ``"logits"``, ``"0.hidden[1]"``; a lone tensor's path is ``""``. Anything
        that is not a tensor is passed over.
    """
    return dict(_leaves(tree, ""))


def map_tensors(tree: T, f: Callable[[str, Tensor], Tensor]) -> T:
    """Replaces every tensor by ``f(path, tensor)``: the same structure, the same types, a new tree.

    The tree that came in is left alone. Containers are rebuilt, everything that is not a tensor is shared.
    Lengths in a PackedSequence are passed over by both walks: they belong on the CPU.
    """
    return cast("T", _mapped(tree, f, ""))


def resolution(dtype: torch.dtype) -> float:
    """Distance from 1 to the next number of the dtype: the smallest relative step; 0 for whole numbers."""
    return torch.finfo(dtype).eps if dtype.is_floating_point or dtype.is_complex else 0.0


def _leaves(tree: object, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield path, tree
    for key, part in parts(tree):
        yield from _leaves(part, _join(path, key))


def _mapped(tree: object, f: Callable[[str, Tensor], Tensor], path: str) -> object:
    if isinstance(tree, Tensor):
        return f(path, tree)
    mapped = {key: _mapped(part, f, _join(path, key)) for key, part in parts(tree)}
    return _rebuilt(tree, mapped) if mapped else tree


def _join(path: str, key: object) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]" if path else str(key)
    return f"{path}.{key}" if path else str(key)


def is_dataclass(tree: object) -> bool:
    """Whether the tree is an instance of a dataclass, frozen or not."""
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def parts(tree: object) -> list[tuple[object, object]]:
    """What a container holds, by key, field or position; nothing for anything else."""
    if isinstance(tree, Mapping):  # before dataclasses: a Hugging Face ModelOutput is both
        return list(tree.items())
    if is_dataclass(tree):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(cast("Any", tree))]
    if isinstance(tree, PackedSequence):
        return [(name, getattr(tree, name)) for name in tree._fields if name != "batch_sizes"]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return list(zip(tree._fields, tree, strict=True))
    return list(enumerate(tree)) if isinstance(tree, tuple | list) else []


def _rebuilt(tree: Any, mapped: Mapping[Any, object]) -> object:
    if isinstance(tree, tuple):
        return tree._replace(**mapped) if hasattr(tree, "_replace") else type(tree)(mapped.values())
    if isinstance(tree, Mapping) and not isinstance(tree, MutableMapping):
        return cast("Any", type(tree))(mapped)
    new = copy.copy(tree)
    for key, part in mapped.items():
        if is_dataclass(new) and not isinstance(new, Mapping):
            object.__setattr__(new, str(key), part)  # frozen ones too
        else:
            new[key] = part
    return new
