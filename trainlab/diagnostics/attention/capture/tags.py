"""What is known of a tensor while the model holds it, and how it is carried through views."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import (
    get_unwrapped,
    is_batchedtensor,
    is_functorch_wrapped_tensor,
    maybe_get_bdim,
    maybe_get_level,
)
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from trainlab.visit.ops import Op

__all__ = ["Tags", "arguments", "aside", "moves", "plain", "same_view"]

T = TypeVar("T")


class Tags(Generic[T]):
    """Remembers something of each tensor as long as it lives, and keeps none alive."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Tensor], T]] = {}

    def get(self, tensor: object) -> T | None:
        """What is remembered of a tensor, None where nothing is."""
        found = self._of.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def put(self, tensor: Tensor, tag: T) -> None:
        """Remembers it."""
        key = id(tensor)
        self._of[key] = weakref.ref(tensor, partial(self._forget, key)), tag

    def drop(self, tensor: Tensor) -> None:
        """Forgets what is remembered of a tensor."""
        self._of.pop(id(tensor), None)

    def clear(self) -> None:
        """Forgets everything."""
        self._of.clear()

    def _forget(self, key: int, reference: weakref.ref[Tensor]) -> None:
        found = self._of.get(key)
        if found is not None and found[0] is reference:  # else the id is another tensor's by now
            del self._of[key]


def arguments(op: Op) -> Iterator[Tensor]:
    """The tensors that an op is called with, also those in lists."""
    for value in (*op.args, *op.kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            for item in value:
                if isinstance(item, Tensor):
                    yield item


# --- views -----------------------------------------------------------------------------------------------

_MOVES = frozenset(
    """T alias broadcast_to chunk expand expand_as flatten getitem index_select mT moveaxis movedim narrow permute
    reshape reshape_as select slice split split_with_sizes squeeze swapaxes swapdims t tensor_split transpose unbind
    unflatten unsafe_chunk unsafe_split unsafe_view unsqueeze view view_as""".split()  # noqa: SIM905 - shorter
)


def moves(op: Op) -> bool:
    """Whether the op only moves the values of its first argument about."""
    return op.name in _MOVES


def same_view(op: Op, shadow: Tensor) -> object:
    """What the op makes of a shadow, a tensor shaped as its first argument; None where it cannot."""
    func: Callable[..., object] = torch.reshape if op.name in ("view", "unsafe_view") else op.func
    shape = op.args[1:] if func is op.func else (_shape(op.args[1:], op.kwargs),)
    try:
        return func(shadow, *shape, **(op.kwargs if func is op.func else {}))
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
    ):  # an index that is not known without values; a dtype
        return None


def _shape(args: Sequence[object], kwargs: dict[str, object]) -> object:
    if not args:
        return kwargs.get("size", kwargs.get("dtype"))
    return args[0] if not isinstance(args[0], int) else args


# --- functorch -------------------------------------------------------------------------------------------


@contextmanager
def aside() -> Iterator[None]:
    """Computes something of our own in the middle of the model: no gradients, no autocast, no vmap."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(temporarily_clear_interpreter_stack())
        yield


def plain(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors without what vmap and grad wrap them in; what is mapped over is put in front, in one order."""
    if not any(isinstance(each, Tensor) and is_functorch_wrapped_tensor(each) for each in tensors):
        return list(tensors)
    unwrapped = [(None, {}) if each is None else _unwrap(each) for each in tensors]
    levels = sorted({level for _, mapped in unwrapped for level in mapped})
    return [
        None if value is None else value[tuple(slice(None) if level in mapped else None for level in levels)]
        for value, mapped in unwrapped
    ]


def _unwrap(tensor: Tensor) -> tuple[Tensor, dict[int, int]]:
    """The tensor beneath, its mapped dimensions in front, and where each level's stands."""
    if not is_functorch_wrapped_tensor(tensor):
        return tensor, {}
    value, mapped = _unwrap(get_unwrapped(tensor))
    if not is_batchedtensor(tensor):
        return value, mapped
    inner = len(mapped)  # what the levels below map over stands in front already
    value = value.movedim(inner + maybe_get_bdim(tensor), inner)
    return value, {**mapped, maybe_get_level(tensor): inner}
