"""The truth about crash sites: run natively, note the error that rises, patch exactly that call, start again.

A site is (module path, op, file:line): the innermost module whose call was under way, the name of the function that
raised, and the innermost line outside torch (for a module that refuses its input, the line that calls it). All three are read from the native error. A patched call gets its
floating arguments in their promoted dtype; where that dtype has no kernel or is too narrow for a number, it runs in
float32, then float64, and its result is cast back; what is written in place keeps its dtype. Where a module refuses its input in Python, its inputs are cast.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainlab.visit import call, map_tensors, tensors, visit

__all__ = ["Site", "native_error", "true_sites"]

Site = tuple[str, str, str]
_LEVELS = (None, torch.float32, torch.float64)  # None: the promoted dtype of the call's own arguments
_TORCH = str(Path(torch.__file__).parent) + "/"
_DTYPE_ERROR = re.compile(
    r"same dtype|not implemented for|expected scalar type|dtype|same scalar type|Unsupported dtype"
    r"|(Half|BFloat16|Double|Float) (but|and) |type \(|data type|DoubleTensor|HalfTensor|found dtype|to have type"
    r"|without overflow|primitive descriptor"
)


def native_error(model: nn.Module, batch: object) -> str:
    """What a plain evaluation outside autocast raises; empty where it passes."""
    with visit(model):
        try:
            call(model, batch)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
            return str(error)
    return ""


def true_sites(model: nn.Module, batch: object) -> list[tuple[Site, str]]:
    """Every crash of a model outside autocast, in order, with the text of its error."""
    patches: dict[object, int] = {}
    found: dict[Site, str] = {}
    for _ in range(2000):
        with visit(model, seed=0), _blind(), _patched_modules(model, patches):
            run = _Run(patches)
            try:
                with run:
                    call(model, batch)
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                key, site = _where(model, run, error)
                level = patches.get(key, 0)
                if not _DTYPE_ERROR.search(str(error)) or level == len(_LEVELS):
                    raise
                patches[key] = level + 1
                found.setdefault(site, str(error))
            else:
                return list(found.items())
    raise AssertionError("the oracle never came to an end")


class _Run(TorchFunctionMode):
    """Numbers every call to torch, and runs the patched ones with other arguments."""

    def __init__(self, patches: dict[object, int]) -> None:
        super().__init__()
        self.patches, self.index, self.failed = patches, -1, (-1, "", None)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.index += 1
        try:
            level = self.patches.get(self.index, 0)
            return _patched(func, args, kwargs, _LEVELS[level - 1]) if level else func(*args, **kwargs)
        except Exception as error:
            self.failed = (self.index, func.__name__, error)
            raise


def _floats(tree: object) -> list[Tensor]:
    return [each for each in tensors(tree).values() if each.is_floating_point()]


def _cast(tree, dtype: torch.dtype):
    return map_tensors(tree, lambda _, each: each.to(dtype) if each.is_floating_point() else each)


def _promoted(values: list[Tensor]) -> torch.dtype:
    return functools.reduce(torch.promote_types, [each.dtype for each in values])


def _patched(func, args, kwargs, through: torch.dtype | None):
    name = func.__name__
    in_place = name in ("__setitem__", "__iadd__") or (name.endswith("_") and not name.endswith("__"))
    if in_place:
        target, rest = args[0], args[1:]
        dtype = through or target.dtype
        wide = target.to(dtype)  # the target itself where it need not change
        func(wide, *_cast(rest, dtype), **_cast(kwargs, dtype))
        return target.copy_(wide)
    out = kwargs.pop("out", None)
    common = _promoted(_floats(args) + _floats(kwargs))
    dtype = through or common
    result = func(*_cast(args, dtype), **_cast(kwargs, dtype))
    if out is not None:
        return out.copy_(result)
    return _cast(result, common) if through else result


@contextmanager
def _patched_modules(model: nn.Module, patches: dict[object, int]) -> Iterator[None]:
    """Gives the modules that refuse their input an input of their weights' dtype."""
    for name, module in model.named_modules():
        if ("module", name) in patches:
            module.forward = functools.partial(_with_cast_inputs, module, module.forward)
    yield  # the visit puts the forwards back


def _with_cast_inputs(module, forward, *args, **kwargs):
    common = _promoted(_floats(args) + _floats(kwargs) + list(module.parameters()))
    own = next(module.parameters()).dtype
    return _cast(forward(*_cast(args, own), **_cast(kwargs, own)), common)


def _where(model: nn.Module, run: _Run, error: Exception) -> tuple[object, Site]:
    names = {id(module): name for name, module in reversed(list(model.named_modules()))}
    frames = list(_frames(error.__traceback__))
    frame, line = [each for each in frames if _is_users(each[0])][-1]
    place = f"{frame.f_code.co_filename}:{line}"
    calls = [f for f, _ in frames if f.f_code.co_name == "_call_impl" and "self" in f.f_locals]
    inner = calls[-1].f_locals["self"]
    path = names[id(inner)]
    index, op, raised = run.failed
    if raised is error:
        ending = "_" if op.endswith("_") and not op.endswith("__") else ""
        return index, (path, op.strip("_") + ending, place)
    above = frames[: max(i for i, (f, _) in enumerate(frames) if f is calls[-1])]
    frame, line = [each for each in above if _is_users(each[0])][-1]
    return ("module", path), (path, type(inner).__name__, f"{frame.f_code.co_filename}:{line}")


def _is_users(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith((_TORCH, __file__))


def _frames(traceback: TracebackType | None):
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


@contextmanager
def _blind() -> Iterator[None]:
    """Hides the mode from torch's own Python code, so that it takes the paths of a plain run."""
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    found = [
        (module, name, vars(module)[name])
        for key, module in list(sys.modules.items())
        if key.split(".")[0] == "torch" and module is not None
        for name in names
        if name in getattr(module, "__dict__", {})
    ]
    try:
        for module, name, _ in found:
            setattr(module, name, lambda *_: False)
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)
