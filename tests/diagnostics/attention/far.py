"""A second device that does not exist: its tensors compute on the CPU, and refuse to meet tensors of the CPU.

It goes by the name of ``meta``, which torch knows without hardware. Like MPS, it has no float64.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["Far", "FarDevice"]

ops = torch.ops.aten
BY_INDEX = {ops.index.Tensor, ops.index_put_.default}  # of these, indices may be on the CPU


class Far(torch.Tensor):
    """A tensor on it."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device="meta"
        )
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class FarDevice(TorchDispatchMode):
    """Inside, tensors can be made on it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    far = {id(each.near): each for each in given if isinstance(each, Far)}
    held = given[:1] if func in BY_INDEX else [] if func is ops.copy_.default else given
    if far and any(not isinstance(each, Far) and each.dim() for each in held):
        raise RuntimeError(f"{func} of tensors on two devices")
    made_far = bool(far) if kwargs.get("device") is None else kwargs["device"].type == "meta"
    near = {**kwargs, "device": "cpu"} if kwargs.get("device") is not None else kwargs
    made = func(*tree_map(_near, args), **tree_map(_near, near))
    if func in (ops.equal.default, ops._local_scalar_dense.default):
        return made
    return tree_map(lambda each: far[id(each)] if id(each) in far else _far(each), made) if made_far else made


def _near(each: Any) -> Any:
    return each.near if isinstance(each, Far) else each


def _far(each: Any) -> Any:
    if isinstance(each, Tensor) and each.dtype == torch.float64:
        raise TypeError("it has no float64")
    return Far(each) if isinstance(each, Tensor) else each
