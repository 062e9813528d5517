"""CUDA's autocast rules as kernels for CPU tensors, and their registration for a while.

Each kernel does what its template in ``ATen/autocast_mode.h`` does, in the same order: autocast goes off, the
arguments are cast, the op runs. Autograd lies below, so it records the casts as it does on a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel

from trainlab.diagnostics.dtypes.rehearsal.policy import Policy, cuda_policy, registrations

__all__ = ["CastCache", "registered"]

Kernel = Callable[..., Any]

_C = torch._C  # noqa: SLF001 - the guard and the key have no public door
_AUTOCAST = _C.DispatchKeySet(_C.DispatchKey.AutocastCPU)


class CastCache:
    """The weights that autocast has cast already, as in ``aten/src/ATen/autocast_mode.cpp``.

    As there, a weight is looked up by itself alone: within one region, a nested autocast to another dtype gets the
    first one's cast.
    """

    def __init__(self) -> None:
        self._cast: dict[int, tuple[Tensor, Tensor]] = {}  # the weight is held, so that its id stays its own

    def clear(self) -> None:
        """Forgets every cast."""
        self._cast.clear()

    def cast(self, dtype: torch.dtype, value: Any) -> Any:
        """An argument in ``dtype`` where it is a floating tensor other than float64, lists of them included."""
        if isinstance(value, list | tuple):
            return [self.cast(dtype, each) for each in value]
        if not _eligible(value) or value.dtype == dtype:
            return value
        cacheable = (
            value.dtype == torch.float32
            and value.requires_grad
            and value.is_leaf
            and dtype == torch.get_autocast_dtype("cpu")
            and torch.is_autocast_cache_enabled()
            and not value._is_view()  # noqa: SLF001
            and not torch.is_inference_mode_enabled()
        )
        if not cacheable:
            return value.to(dtype)
        if id(value) not in self._cast:
            with torch.enable_grad():  # one that was first cast without gradients serves those with them too
                self._cast[id(value)] = value, value.to(dtype)
        return self._cast[id(value)][1]


@contextmanager
def registered(casts: CastCache) -> Iterator[None]:
    """Makes the CPU's autocast follow CUDA's rules; takes some 2 ms, and holds for every thread.

    What torch registered itself stays beneath and acts again afterwards.
    """
    policy = cuda_policy()
    own = {name.removeprefix("aten::") for name in registrations("AutocastCPU") if name.startswith("aten::")}
    library: Any = Library("aten", "IMPL", "AutocastCPU")  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel", UserWarning)
            for name, rule in policy.items():
                library.impl(name, _beneath(_KERNELS[rule](_op(name), casts)))
            for name in own - policy.keys():
                library.impl(name, fallthrough_kernel)
        yield
    finally:
        library._destroy()  # noqa: SLF001 - the only way to undo a registration


def _op(name: str) -> torch._ops.OpOverload:
    packet, _, overload = name.partition(".")
    found: torch._ops.OpOverload = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return found


def _schema(op: torch._ops.OpOverload) -> torch.FunctionSchema:
    return op._schema  # noqa: SLF001 - as the private type of the op itself


def _eligible(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.dtype != torch.float64
        and value.device.type == "cpu"
    )


def _beneath(kernel: Kernel) -> Kernel:
    """Runs a kernel beneath autocast, and unheard by function modes and subclasses, as one in C++ is."""

    def beneath(*args: Any, **kwargs: Any) -> Any:
        with _C._ExcludeDispatchKeyGuard(_AUTOCAST), _C.DisableTorchFunction():  # noqa: SLF001
            return kernel(*args, **kwargs)

    return beneath


def _casting(op: torch._ops.OpOverload, casts: CastCache, dtype: Callable[..., torch.dtype]) -> Kernel:
    """A kernel that casts every argument to ``dtype(*args, **kwargs)``."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        to = dtype(*args, **kwargs)
        return op(
            *(casts.cast(to, each) for each in args), **{k: casts.cast(to, v) for k, v in kwargs.items()}
        )

    return kernel


def _low(*_: object, **__: object) -> torch.dtype:
    return torch.get_autocast_dtype("cpu")


def _float32(*_: object, **__: object) -> torch.dtype:
    return torch.float32


def _widest(*args: Any, **kwargs: Any) -> torch.dtype:
    """The lower dtype, or float32 where one argument has it; a third dtype is refused as torch does."""
    low = current = torch.get_autocast_dtype("cpu")
    for value in (*args, *kwargs.values()):
        for each in value if isinstance(value, list | tuple) else [value]:
            if not _eligible(each):
                continue
            if torch.float32 in (current, each.dtype):
                current = torch.float32
            elif each.dtype != low:
                raise RuntimeError("Unexpected floating ScalarType in at::autocast::prioritize")
    return current


def _set_opt_dtype(op: torch._ops.OpOverload, _: CastCache) -> Kernel:
    """Asks for float32 out, unless the call says otherwise."""
    place = next(i for i, each in enumerate(_schema(op).arguments) if each.name == "dtype")

    def kernel(first: Any, *args: Any, **kwargs: Any) -> Any:
        rest = list(args)
        if _eligible(first):
            if len(rest) >= place:
                rest[place - 1] = rest[place - 1] or torch.float32
            else:
                kwargs["dtype"] = kwargs.get("dtype") or torch.float32
        return op(first, *rest, **kwargs)

    return kernel


def _append_dtype(op: torch._ops.OpOverload, _: CastCache) -> Kernel:
    """Calls the overload of norm that takes a dtype; ``p`` is 2 and ``keepdim`` false where they are left out."""
    whole = _schema(op).overload_name == "Scalar"
    wider = torch.ops.aten.norm.ScalarOpt_dtype if whole else torch.ops.aten.norm.ScalarOpt_dim_dtype
    defaults: tuple[Any, ...] = (2,) if whole else (2, [], False)

    def kernel(first: Tensor, *args: Any) -> Any:
        dtype = torch.float32 if _eligible(first) else first.dtype
        return wider(first, *args, *defaults[len(args) :], dtype=dtype)

    return kernel


def _banned(_: torch._ops.OpOverload, __: CastCache) -> Kernel:
    def kernel(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
            "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
            "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\n"
            "or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
            "safe to autocast."
        )

    return kernel


def _recurrent(op: torch._ops.OpOverload, casts: CastCache) -> Kernel:
    """Half for cuDNN, also where autocast's dtype is bfloat16; without cuDNN the cells are in autocast's dtype."""

    def dtype(first: Tensor, *args: Any, **_: Any) -> torch.dtype:
        weights = next(each for each in reversed(args) if isinstance(each, list | tuple))
        if not torch.backends.cudnn.enabled or not first.numel():
            return torch.get_autocast_dtype("cpu")
        if len({each.dtype for each in weights}) > 1:
            raise RuntimeError("Weight scalar types do not match.")
        return torch.float16

    return _casting(op, casts, dtype)


_KERNELS: dict[Policy, Callable[[torch._ops.OpOverload, CastCache], Kernel]] = {
    "lower_precision_fp": partial(_casting, dtype=_low),
    "fp32": partial(_casting, dtype=_float32),
    "fp32_set_opt_dtype": _set_opt_dtype,
    "fp32_append_dtype": _append_dtype,
    "promote": partial(_casting, dtype=_widest),
    "banned": _banned,
    "recurrent": _recurrent,
}
