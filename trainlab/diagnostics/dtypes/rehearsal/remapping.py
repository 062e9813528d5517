"""Let code that says ``cuda`` run on the CPU for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp import autocast_mode
from torch.overrides import TorchFunctionMode

__all__ = ["remapped"]


class _OnCpu(TorchFunctionMode):
    """Sends what is meant for a GPU to the CPU: ``.cuda()``, ``.to("cuda")``, ``.to(0)``, ``device="cuda"``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.cuda:
            return args[0]
        if _is_cuda(kwargs.get("device")):
            kwargs = {**kwargs, "device": "cpu"}
        if func is Tensor.to and len(args) > 1 and _is_cuda(args[1]):
            args = (args[0], "cpu", *args[2:])
        return func(*args, **kwargs)


def _is_cuda(device: object) -> bool:
    if isinstance(device, torch.device):
        return device.type == "cuda"
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    return isinstance(device, int) and not isinstance(device, bool)


@contextmanager
def remapped(clear: Callable[[], None]) -> Iterator[None]:
    """Makes ``cuda`` mean the CPU inside, for tensors, for autocast and for whether there is a GPU.

    Not reached: ``tensor.is_cuda``, ``torch.Generator("cuda")``, streams and events, memory statistics.

    Args:
        clear: Called whenever torch clears its cache of casts.
    """
    clear_own = torch.clear_autocast_cache

    def clear_both() -> None:
        clear_own()
        clear()

    with ExitStack() as stack:
        for owner, name, replacement in (
            (torch, "is_autocast_enabled", _named(torch.is_autocast_enabled)),
            (torch, "get_autocast_dtype", _named(torch.get_autocast_dtype)),
            (torch, "set_autocast_enabled", _set_enabled(torch.set_autocast_enabled)),
            (torch, "set_autocast_dtype", _named(torch.set_autocast_dtype)),
            (torch, "get_autocast_gpu_dtype", functools.partial(torch.get_autocast_dtype, "cpu")),
            (torch, "set_autocast_gpu_dtype", functools.partial(torch.set_autocast_dtype, "cpu")),
            (torch, "clear_autocast_cache", clear_both),
            (autocast_mode.autocast, "__init__", _init(autocast_mode.autocast.__init__)),
            (autocast_mode, "_cast", _cast(autocast_mode._cast)),  # noqa: SLF001
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "set_device", lambda _: None),
            (torch.cuda, "synchronize", lambda *_: None),
        ):
            stack.callback(setattr, owner, name, vars(owner)[name])
            setattr(owner, name, replacement)
        stack.enter_context(_OnCpu())
        yield


def _on_cpu(device: str) -> str:
    return "cpu" if device == "cuda" else device


def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that begins with a device type: CUDA, where it is left out."""

    def on_cpu(device_type: str = "cuda", *rest: Any, **kwargs: Any) -> Any:
        return function(_on_cpu(device_type), *rest, **kwargs)

    return on_cpu


def _set_enabled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `_named`, where the one argument left out is the first."""

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        named = "device_type" in kwargs or len(args) + len(kwargs) > 1
        return _named(function)(*(args if named else ("cuda", *args)), **kwargs)

    return on_cpu


def _init(function: Callable[..., None]) -> Callable[..., None]:
    def on_cpu(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        function(self, _on_cpu(device_type), *args, **kwargs)

    return on_cpu


def _cast(function: Callable[..., Any]) -> Callable[..., Any]:
    """What ``custom_fwd(cast_inputs=…)`` casts its arguments with."""

    def on_cpu(value: Any, device_type: str, dtype: torch.dtype) -> Any:
        return function(value, _on_cpu(device_type), dtype)

    return on_cpu
