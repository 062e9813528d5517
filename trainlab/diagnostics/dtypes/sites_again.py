"""Run a call again that raised over its dtypes, so that it passes and gives the dtype that promotion would give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from trainlab.diagnostics.dtypes.sites_tensors import floats
from trainlab.visit import map_tensors

__all__ = ["ERRORS", "LEVELS", "again", "cast", "is_in_place", "promoted"]

ERRORS = (RuntimeError, TypeError, ValueError, AssertionError)
"""What torch, and checks in Python, raise over a dtype; NotImplementedError is a RuntimeError."""

LEVELS = (None, torch.float32, torch.float64)
"""The dtypes that a call is tried again in, one after the other; None is the promoted one of its arguments."""

T = TypeVar("T")


def again(
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    level: torch.dtype | None,
    perform: Callable[[Sequence[Any], dict[str, Any]], object],
) -> object:
    """Performs a call with its floating arguments in one dtype.

    What is written in place, or through ``out``, keeps its dtype; any other result is in the promoted dtype of the
    arguments, whatever dtype it was computed in.

    Args:
        name: Of the function, as `trainlab.visit.ops` calls it; says whether it works in place.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        level: One of `LEVELS`.
        perform: Performs the call with the arguments that it is given.
    """
    if is_in_place(name):
        target = args[0]
        dtype = level or target.dtype
        written = target.to(dtype)  # the target itself where it has the dtype
        result = perform((written, *cast(args[1:], dtype)), cast(kwargs, dtype))
        if written is target:
            return result
        target.copy_(written)
        return target if result is not None else None
    out = kwargs.get("out")
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    common = promoted(floats((args, kwargs)))
    result = perform(cast(args, level or common), cast(kwargs, level or common))
    if isinstance(out, Tensor) and isinstance(result, Tensor):
        return out.copy_(result)
    return cast(result, common)


def is_in_place(name: str) -> bool:
    """Whether a function writes to its first argument: ``add_``, ``x[i] = …``."""
    return name.endswith("_") or name == "setitem"


def cast(tree: T, dtype: torch.dtype) -> T:
    """The same nested arguments with every floating tensor in a dtype."""
    return map_tensors(tree, lambda _, value: value.to(dtype) if value.is_floating_point() else value)


def promoted(values: Iterable[Tensor]) -> torch.dtype:
    """The dtype that holds the values of all of these."""
    return functools.reduce(torch.promote_types, {value.dtype for value in values}, torch.float16)
