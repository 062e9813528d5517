"""What cast a tensor, concluded from the dtypes of a call and of its result.

Above the dispatcher, where `ops` hears, a call's casts are not seen, but what they lead to is. A call that is
no conversion by itself is explained by the first of these that fits:

* **explicit**: the call is a conversion (``x.half()``, ``x.to(y)``) or names a dtype (``x.sum(dtype=…)``);
* **in place**: it writes to a tensor whose dtype is kept, whatever the values come in;
* **autocast**: autocast is on, and the call would give another dtype, or raise, without it. With inputs of one
  floating dtype its result would have that dtype. With mixed ones the call is made once more without autocast,
  on copies, once for each function and dtypes: this tells ``linear``, which would raise, from ``layer_norm``,
  which takes bfloat16 values with float32 weights as they are. Of an op that autocast has a rule for, it casts
  every floating input but float64; of any other, such as ``einsum``, the op's inner calls were cast, and what
  is told is that its result is;
* **parameter**: torch promotes mixed inputs, and only parameters or buffers have the widest dtype;
* **promotion**: torch promotes mixed inputs.

Not seen: casts inside one builtin call that its result does not show, such as a composite in float32 whose
inner matmul runs in bfloat16; and TorchScript.

Source of autocast's rules, the cache included: ``aten/src/ATen/autocast_mode.{h,cpp}``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _dispatch_get_registrations_for_dispatch_key

from trainlab.visit.ops import Op
from trainlab.visit.tree import map_tensors

__all__ = ["Cast", "Caster", "autocast_off", "dtype_name", "in_place", "no_autocast"]

Named = tuple[str, Tensor]

_CONVERSIONS = frozenset(("to", "type", "type_as", "half", "float", "double", "bfloat16", "to_copy"))


class Cast(NamedTuple):
    """One tensor that an op took in another dtype than its own.

    Attributes:
        row: Index of the op's row in the trace.
        tensor: Name of the parameter or buffer; otherwise the argument: its position or its keyword;
            ``"result"`` where the op's result has another dtype than its inputs make: by what it was written to,
            or by autocast inside the op.
        before, after: dtypes.
        cause: ``autocast``, ``explicit``, ``promotion``, ``parameter`` or ``in place``.
        by: The parameter or buffer whose dtype is the cause; otherwise ``""``.
        weight: Whether the tensor is a parameter or buffer.
        cached: Served from autocast's cache: nothing was computed.
    """

    row: int
    tensor: str
    before: str
    after: str
    cause: str
    by: str = ""
    weight: bool = False
    cached: bool = False


@functools.cache
def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def in_place(op: Op) -> bool:
    """Whether the op writes to a tensor that it is given."""
    return op.name.endswith("_") or op.name == "setitem" or op.kwargs.get("out") is not None


@contextmanager
def autocast_off(device: str) -> Iterator[None]:
    """Turns autocast off for a kind of device, and leaves its cache alone, which `torch.autocast` may empty."""
    was = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if was:
        torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        if was:
            torch.set_autocast_enabled(device, True)


@contextmanager
def no_autocast() -> Iterator[None]:
    """Outside autocast of either device, whatever is around; on leaving, `torch.autocast` may empty its cache."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


class Caster:
    """Names the tensors of a model, and concludes what cast them."""

    def __init__(self, model: nn.Module) -> None:
        held = [*model.named_parameters(), *model.named_buffers()]
        self.weights = {id(tensor): name for name, tensor in held}
        self.cached: set[int] = set()
        self.unaided: dict[object, torch.dtype | None] = {}
        self.has_autocast: dict[str, bool] = {}
        self.rules: dict[str, set[str]] = {}

    @contextmanager
    def hearing_the_cache(self) -> Iterator[None]:
        """Follows autocast's cache, which is emptied where the outermost autocast ends."""
        clear = torch.clear_autocast_cache

        def cleared() -> None:
            self.cached.clear()
            clear()

        torch.clear_autocast_cache = cleared
        try:
            yield
        finally:
            torch.clear_autocast_cache = clear

    def autocast_dtype(self, device: str) -> torch.dtype | None:
        """What autocast casts to on a kind of device; None where it is off."""
        if device not in self.has_autocast:
            self.has_autocast[device] = torch.amp.is_autocast_available(device)
        if self.has_autocast[device] and torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return None

    def inputs(self, op: Op) -> list[Named]:
        """The tensors among the arguments, each by its name as a weight or as an argument."""
        found: list[Named] = []
        self._collect(enumerate(op.args), found)
        if op.kwargs:
            self._collect(((key, value) for key, value in op.kwargs.items() if key != "out"), found)
        return found

    def _collect(self, items: Iterable[tuple[object, object]], found: list[Named], path: str = "") -> None:
        for key, value in items:
            if isinstance(value, Tensor):
                found.append((self.weight(value) or f"{path}{key}", value))
            elif isinstance(value, tuple | list):
                self._collect(enumerate(value), found, f"{path}{key}.")

    def weight(self, tensor: Tensor) -> str:
        """The name of the parameter or buffer that a tensor is, or is a view of; otherwise ``""``."""
        name = self.weights.get(id(tensor), "")
        if name or not tensor._is_view():  # noqa: SLF001 - no public name
            return name
        return self.weights.get(id(tensor._base), "")  # noqa: SLF001 - likewise

    def casts(
        self, row: int, op: Op, inputs: Sequence[Named], outputs: Sequence[Tensor], low: torch.dtype | None
    ) -> list[Cast]:
        """What was cast in one call; ``low`` is what `autocast_dtype` says of its device."""
        floats = [(name, tensor) for name, tensor in inputs if tensor.is_floating_point()]
        after = next(filter(None, map(_precision, outputs)), None)
        if {after} == {tensor.dtype for _, tensor in floats}:  # most calls, so it comes first
            return []
        if op.name in _CONVERSIONS:
            return self._converted(row, inputs, outputs[0])
        if not floats or after is None or op.opaque or "." in op.name:
            return []
        if in_place(op):
            return self._written(row, op, floats, after)
        if _is_made_anew(op.name):
            return []
        if _names_dtype(op, after):
            return self._all(row, floats[:1], after, "explicit")
        mixed = any(tensor.dtype != floats[0][1].dtype for _, tensor in floats)
        wide = _promoted(floats)
        if low is not None and ((not mixed and after == low) or self._without_autocast(op, floats) != after):
            if not self._has_rule(op, floats[0][1].device.type):
                return [Cast(row, "result", dtype_name(wide), dtype_name(after), "autocast")]
            eligible = [each for each in floats if each[1].dtype != torch.float64]
            return self._all(row, eligible, after, "autocast")
        if after != wide:  # the kernel takes mixed dtypes as they are
            return []
        with_dimensions = [each for each in floats if each[1].dim()]
        widest = [self.weight(tensor) for _, tensor in floats if tensor.dtype == wide]
        by = widest[0] if widest and all(widest) else ""
        return self._all(row, with_dimensions, after, "parameter" if by else "promotion", by)

    def _converted(self, row: int, inputs: Sequence[Named], output: Tensor) -> list[Cast]:
        name, tensor = inputs[0]
        if tensor.dtype == output.dtype or not (tensor.is_floating_point() or output.is_floating_point()):
            return []
        return self._all(row, [(name, tensor)], output.dtype, "explicit")

    def _written(self, row: int, op: Op, floats: Sequence[Named], kept: torch.dtype) -> list[Cast]:
        target = op.kwargs.get("out", op.args[0] if op.args else None)
        wide = _promoted(floats)
        if wide == kept:  # the values are cast on their way in
            return self._all(row, [each for each in floats if each[1].dim()], kept, "promotion")
        by = self.weight(target) if isinstance(target, Tensor) else ""
        return [Cast(row, "result", dtype_name(wide), dtype_name(kept), "in place", by)]

    def _all(
        self, row: int, floats: Sequence[Named], after: torch.dtype, cause: str, by: str = ""
    ) -> list[Cast]:
        casts = []
        for name, tensor in floats:
            if tensor.dtype != after:
                cached = cause == "autocast" and self._is_cached(tensor, after)
                before, weight = dtype_name(tensor.dtype), bool(self.weight(tensor))
                casts.append(Cast(row, name, before, dtype_name(after), cause, by, weight, cached))
        return casts

    def _is_cached(self, tensor: Tensor, after: torch.dtype) -> bool:
        """Whether autocast's cache has the tensor already; notes that it has it from now on.

        It keeps float32 leaves that require gradients and are no views, cast to its low dtype; nothing in
        inference mode.
        """
        keeps = (
            torch.is_autocast_cache_enabled()
            and not torch.is_inference_mode_enabled()
            and tensor.dtype == torch.float32
            and after != torch.float32
            and tensor.requires_grad
            and tensor.is_leaf
            and not tensor._is_view()  # noqa: SLF001 - no public name
        )
        if not keeps:
            return False
        known = id(tensor) in self.cached
        self.cached.add(id(tensor))
        return known

    def _has_rule(self, op: Op, device: str) -> bool:
        """Whether autocast has a rule for the function itself."""
        if device not in self.rules:
            names = _dispatch_get_registrations_for_dispatch_key(f"Autocast{device.upper()}")
            self.rules[device] = {name.removeprefix("aten::").split(".")[0] for name in names}
        return getattr(op.func, "__name__", "").split(".")[0] in self.rules[device]

    def _without_autocast(self, op: Op, floats: Sequence[Named]) -> torch.dtype | None:
        """The dtype that the call would give without autocast; None where it would raise."""
        key = (op.func, *[(tensor.dtype, tensor.dim() > 0) for _, tensor in floats])
        if key not in self.unaided:
            self.unaided[key] = _unaided(op, floats[0][1].device)
        return self.unaided[key]


def _unaided(op: Op, device: torch.device) -> torch.dtype | None:
    """Makes the call once more, without autocast, on copies: nothing that it writes to is the model's."""
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices), autocast_off(device.type):
            args = map_tensors(list(op.args), lambda _, tensor: tensor.clone())
            kwargs = map_tensors(op.kwargs, lambda _, tensor: tensor.clone())
            result = op.func(*args, **kwargs)
    except (RuntimeError, ValueError, TypeError):  # what torch raises where dtypes do not fit
        return None
    while isinstance(result, tuple | list) and result:
        result = result[0]
    return _precision(result) if isinstance(result, Tensor) else None


def _precision(tensor: Tensor) -> torch.dtype | None:
    """The dtype of its values, or of their two parts where they are complex; None for integers."""
    if tensor.is_complex():
        return tensor.dtype.to_real()
    return tensor.dtype if tensor.is_floating_point() else None


def _promoted(floats: Sequence[Named]) -> torch.dtype:
    """The dtype to which torch promotes: tensors without dimensions do not widen those that have some."""
    dtypes = [tensor.dtype for _, tensor in floats if tensor.dim()] or [t.dtype for _, t in floats]
    return functools.reduce(torch.promote_types, dtypes)


def _is_made_anew(name: str) -> bool:
    """Whether the op takes a tensor only as a pattern, or its bytes as they are."""
    return name.endswith("_like") or name.startswith("new_") or name == "view"


def _names_dtype(op: Op, dtype: torch.dtype) -> bool:
    return op.kwargs.get("dtype") == dtype or any(each is dtype for each in op.args)
