"""Hear every torch function that a model calls, and stand around each call.

Module hooks hear modules alone: not ``q @ k``, not ``x + y``. `ops` hears them all, says in which module and
on which line of the user's code each one is called, and lets the listener run it as it is, with other
arguments, or again. The model computes what it computes unheard, to the last bit.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch._C import ScriptFunction, ScriptMethod, _is_torch_function_enabled
from torch._ops import OpOverload, OpOverloadPacket
from torch.overrides import TorchFunctionMode

from trainlab.visit import batch
from trainlab.visit.keep import compiler_off, require_module

__all__ = ["Around", "Op", "Run", "Site", "ops"]


class Site(NamedTuple):
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}" if self.file else "unknown"


class Run(Protocol):
    """Performs the call that was heard, once or more."""

    def __call__(self, args: Sequence[Any] = ..., kwargs: dict[str, Any] = ...) -> object:
        """Performs it, as it is or with other arguments; its errors rise from here."""


class Op:
    """One call of a torch function, or of a module, while it is being made.

    Attributes:
        name: What is called, without underscores at its ends: ``linear``, ``matmul``, ``add``, ``add_`` where
            in place, ``getitem``, ``T``; ``space.name`` for a custom operator, ``MyFunction.apply`` for an
            autograd function, the name of its class for a module.
        func: The function itself, or the module.
        args, kwargs: What it is called with: the live objects; do not keep them.
        module: Qualified name of the innermost module that runs, ``""`` for the model itself. A module made
            inside forward goes by the name of the one that made it.
        opaque: Nothing inside it is heard: TorchScript.
        frame: The frame that makes the call, None once the call is over.
    """

    __slots__ = ("args", "frame", "func", "kwargs", "module", "name", "opaque")

    def __init__(
        self,
        name: str,
        func: Callable[..., object],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        module: str,
        *,
        opaque: bool = False,
    ) -> None:
        self.name, self.func, self.args, self.kwargs = name, func, args, kwargs
        self.module, self.opaque = module, opaque
        self.frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - currentframe() would be a cycle

    @property
    def site(self) -> Site:
        """Where the user's code makes the call: the innermost frame that is neither torch's nor trainlab's.

        To be asked while the call is being made; afterwards the line is no longer known. trainlab's own
        examples count as user's code.
        """
        frame, between = self.frame, False
        while frame is not None:
            code = frame.f_code
            if code is _RUN:  # an inner listener's: what lies between it and its ear is not the user's code
                between = True
            elif code is _HEAR:
                between = False
            elif not between and _is_users(code.co_filename):
                return Site(code.co_filename, frame.f_lineno, code.co_qualname)
            frame = frame.f_back
        return Site("", 0, "")


Around = Callable[[Op, Run], object]


@contextmanager
def ops(model: nn.Module, around: Around | None = None, *, modules: Around | None = None) -> Iterator[None]:
    """Calls ``around(op, run)`` in place of each torch function that is called inside, on this thread.

    ``run()`` performs the call, ``run(args, kwargs)`` with other arguments; errors of the call rise from it;
    what ``around`` returns is the result of the call. What ``around`` itself calls is not heard.

    Heard: functions of torch and ``torch.nn.functional``, operators and methods of tensors, views, in-place and
    ``out=`` forms, factories, ``torch.ops``, TorchScript (one opaque op), an autograd function that is called
    as ``MyFunction.apply`` (one op, and the ops of its forward inside it), all as the builtin calls that they
    come down to: ``F.multi_head_attention_forward`` is heard as the linears, matmuls and softmax that it
    makes. Fused paths such as that of ``nn.TransformerEncoderLayer`` stay on, and are one op. Checkpointed code
    is heard again where backward recomputes it inside.

    Not heard: questions (``x.shape``, ``x.size()``), the moves of the batch in `call`, other threads (so nothing of `nn.DataParallel`'s replicas,
    nor of backward on a GPU), Python inside a custom operator, C++ extensions that bypass torch's dispatcher.

    Outputs, gradients and random streams are those of an unheard run. Modules under ``torch.compile`` run
    eagerly. Everything is undone on leaving, also after an error. Contexts nest: the inner one hears first,
    and the outer one what its ``around`` and ``run`` call.

    Cost: some 3 µs for a call, and 1 µs for a question.

    Args:
        model: Gives the modules their names. Inside, call this model, or any part of it.
        around: Stands around each function; None lets them pass.
        modules: Stands around each call of the model's modules in the same way: ``op.func`` is the module and
            ``op.module`` its own name. What is called inside ``run`` is heard.

    Raises:
        SubjectError: The model is no module.
    """
    require_module(model)
    ear = _Ear(model, around, modules)
    with compiler_off(), _blind_checks(), ear.patched(), ear:
        yield


class _Ear(TorchFunctionMode):
    """Hears functions as a mode, and modules, autograd functions and TorchScript through their call."""

    def __init__(self, model: nn.Module, around: Around | None, modules: Around | None) -> None:
        super().__init__()
        self.around, self.modules = around, modules
        self.names = {id(module): name for name, module in model.named_modules()}
        self.path = [""]
        self.known: dict[object, str] = {}  # how functions are called; "" for the ones that are let pass
        self.thread, self.listening = threading.get_ident(), True

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        name = self.known.get(func)
        if name is None:
            name = self.known[func] = _name(func)
        if not name or not self.listening or self.around is None or _moves_the_batch():
            return func(*args, **(kwargs or {}))
        return self.hear(self.around, Op(name, func, args, kwargs or {}, self.path[-1]), func)

    def hear(self, around: Around, op: Op, call: Callable[..., object]) -> object:
        """Hands the call to the listener, whose own calls are not heard."""

        def run(args: Sequence[Any] = op.args, kwargs: dict[str, Any] = op.kwargs) -> object:
            listening, self.listening = self.listening, True
            try:
                return call(*args, **kwargs)
            finally:
                self.listening = listening

        self.listening = False
        try:
            return around(op, run)
        finally:
            self.listening = True
            op.frame = None  # it would keep every local variable on the stack alive

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Stands in the call of modules, autograd functions and TorchScript, which modes do not hear."""
        places = [(nn.Module, "__call__", self._module_call), (torch.autograd.Function, "apply", self._apply)]
        places += [(kind, "__call__", self._script_call) for kind in (ScriptFunction, ScriptMethod)]
        with ExitStack() as stack:
            for place, name, stand_in in places:
                found = vars(place)[name]
                stack.callback(setattr, place, name, found)
                setattr(place, name, stand_in(found))
            yield

    def _here(self) -> bool:
        return self.listening and threading.get_ident() == self.thread

    def _module_call(self, found: Callable[..., object]) -> Callable[..., object]:
        def __call__(module: nn.Module, *args: object, **kwargs: object) -> object:  # noqa: N807
            name = self.names.get(id(module))
            if name is None or not self._here():
                return found(module, *args, **kwargs)
            self.path.append(name)
            try:
                if self.modules is None:
                    return found(module, *args, **kwargs)
                op = Op(type(module).__name__, module, args, kwargs, name)
                return self.hear(self.modules, op, functools.partial(found, module))
            finally:
                self.path.pop()

        return __call__

    def _apply(self, found: Any) -> object:
        def apply(function: Any, /, *args: object, **kwargs: object) -> object:
            call = found.__get__(None, function)
            if self.around is None or not self._here():
                return call(*args, **kwargs)
            op = Op(f"{function.__name__}.apply", call, args, kwargs, self.path[-1])
            return self.hear(self.around, op, call)

        return classmethod(apply)

    def _script_call(self, found: Callable[..., object]) -> Callable[..., object]:
        def __call__(script: Any, *args: object, **kwargs: object) -> object:  # noqa: N807
            if self.around is None or not self._here():
                return found(script, *args, **kwargs)
            op = Op(script.name, script, args, kwargs, self.path[-1], opaque=True)
            return self.hear(self.around, op, functools.partial(found, script))

        return __call__


# --- names and places ------------------------------------------------------------------------------------

# Asked often, and computing nothing
_QUESTIONS = frozenset(
    """__len__ _is_view _set_grad_enabled data_ptr device dim element_size get_device is_complex is_contiguous
    is_floating_point is_inference is_pinned is_signed ndimension nelement numel requires_grad_ retain_grad
    size storage storage_offset stride untyped_storage""".split()  # noqa: SIM905 - twenty lines shorter
)
_VIEWS = frozenset(("T", "H", "mT", "mH", "real", "imag", "data"))  # the properties that give a tensor


def _name(func: Any) -> str:
    """What a function is called; empty for one that is let pass."""
    if isinstance(func, OpOverload | OpOverloadPacket):
        return (
            str(func).removeprefix("aten.").removesuffix(f".{getattr(func, '_overloadname', '')}").lstrip("_")
        )
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        owner = func.__self__.__name__
        return owner if owner in _VIEWS else ""
    if name == "__set__" or name in _QUESTIONS:
        return ""
    return name.strip("_") + ("_" if name.endswith("_") and not name.endswith("__") else "")


_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_TRAINLAB = f"{Path(__file__).parents[1]}{os.sep}"
_HEAR = _Ear.hear.__code__
_RUN = next(each for each in _HEAR.co_consts if getattr(each, "co_name", "") == "run")


def _moves_the_batch() -> bool:
    """Whether `call` itself makes the call that is heard, before the model runs."""
    return sys._getframe(2).f_code.co_filename == batch.__file__  # noqa: SLF001 - likewise


@functools.cache
def _is_users(file: str) -> bool:
    ours = file.startswith(_TRAINLAB) and not file.startswith(f"{_TRAINLAB}examples{os.sep}")
    return not ours and not file.startswith(_TORCH)


# --- checks made blind -----------------------------------------------------------------------------------


@contextmanager
def _blind_checks() -> Iterator[None]:
    """Lets torch's Python code ask its tensors, and not the mode, whether they override functions.

    Asked about the mode too, as by default, ``F.multi_head_attention_forward`` would be handed to it whole, and
    the fused paths would switch themselves off.
    """
    if torch.overrides.has_torch_function is _any_overrides:  # another context is around this one
        yield
        return
    checks = {name: getattr(torch.overrides, name) for name in _BLIND}
    _swap(checks, _BLIND)
    try:
        yield
    finally:
        _swap(_BLIND, checks)  # also in modules first imported inside


_looked_at: set[str] = set()  # modules, once in a process: there are thousands
_holders: list[dict[str, Any]] = []  # the namespaces of those that hold a check


def _swap(old: dict[str, Any], new: dict[str, Any]) -> None:
    for module in sys.modules.keys() - _looked_at:
        held = getattr(sys.modules[module], "__dict__", {})  # anything can stand in sys.modules
        if not _BLIND.keys().isdisjoint(held):
            _holders.append(held)
        _looked_at.add(module)
    for held in _holders:
        for name, check in old.items():
            if held.get(name) is check:
                held[name] = new[name]


def _overrides(value: object) -> bool:
    kind = type(value)
    if kind is Tensor or kind is nn.Parameter:
        return False
    override = getattr(kind, "__torch_function__", None)
    return override is not None and override is not nn.Parameter.__torch_function__


def _any_overrides(values: Sequence[object]) -> bool:
    return any(map(_overrides, values)) and _is_torch_function_enabled()


_BLIND: dict[str, Callable[..., bool]] = {
    "has_torch_function": _any_overrides,
    "has_torch_function_unary": lambda value: _any_overrides((value,)),
    "has_torch_function_variadic": lambda *values: _any_overrides(values),
}
