"""What was heard, what of it was recorded, and what was not, and why."""

from __future__ import annotations

import functools
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from trainlab.diagnostics.attention.call import Missed
from trainlab.diagnostics.attention.capture.marks import Softmax
from trainlab.diagnostics.attention.capture.tags import arguments
from trainlab.visit.ops import Op

__all__ = ["Book", "Coverage"]

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


@dataclass(slots=True)
class Coverage:
    """What was heard; complete once the ``with`` is left.

    Attributes:
        recorded: Attentions that were handed on.
        softmaxes: Softmaxes that never met values.
        missed: What was not recorded, and why.
    """

    recorded: int = 0
    softmaxes: int = 0
    missed: tuple[Missed, ...] = ()


class Book:
    """Notes what is not recorded.

    Args:
        model: Says by the names of its classes where attention is to be expected.
    """

    def __init__(self, model: nn.Module) -> None:
        self.classes = {name: type(module).__name__ for name, module in model.named_modules()}
        self.missed: Counter[tuple[str, str, bool, str]] = Counter()
        self.ran: set[str] = set()
        self.recorded: set[str] = set()

    def note(self, kernel: str, module: str, why: str, *, attends: bool = True) -> None:
        """Notes one call."""
        self.missed[kernel, module, attends, why] += 1

    def hear(self, op: Op, recorded: int) -> None:
        """Notes where an op ran, and that its inside is not heard; ``recorded`` is what was, in it."""
        self.ran.add(op.module)
        if op.opaque:
            graph = str(getattr(op.func, "inlined_graph", ""))
            attends = "scaled_dot_product" in graph or ("softmax" in graph and "matmul" in graph)
            self.note("TorchScript", op.module, "nothing is heard inside TorchScript", attends=attends)
        elif not recorded and (_ATTENTION.search(op.name) or ("." in op.name and _takes_queries(op))):
            self.note(op.name, op.module, "nothing was heard inside this operator")

    @contextmanager
    def hearing_threads(self) -> Iterator[None]:
        """Notes each thread that this one starts inside."""
        found, here = threading.Thread.start, threading.get_ident()

        @functools.wraps(found)
        def start(thread: threading.Thread) -> None:
            if threading.get_ident() == here:
                self.note(
                    "thread", "", "what a thread of its own computes, as in nn.DataParallel, is not heard"
                )
            found(thread)

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            threading.Thread.start = found  # type: ignore[method-assign]

    def unmet(self, softmaxes: Iterable[Softmax]) -> None:
        """Notes the softmaxes that never met values: attention all the same where their modules are called so."""
        for softmax in softmaxes:
            named = (softmax.weighs or not softmax.why) and self._attends(softmax.module)
            why = softmax.why or "its weights never met values in a matrix product"
            self.note("softmax", softmax.module, why, attends=softmax.attends or named)

    def unweighted(self, products: Counter[tuple[str, str, bool]]) -> None:
        """Notes products of products: attention without a softmax where layers made what was multiplied."""
        for (kernel, module, learned), count in products.items():
            why = "a product of products without a softmax between, as in linear and sigmoid attention"
            self.missed[kernel, module, learned, why] += count

    def told(self) -> tuple[Missed, ...]:
        """All of it, those that attend first, and every module that is called attention and did none of this."""
        told = {*self.recorded, *(module for _, module, _, _ in self.missed)}
        for name in sorted(self.ran):
            if _ATTENTION.search(self.classes.get(name, "")) and not any(
                _within(name, each) for each in told
            ):
                self.note(self.classes[name], name, "no attention was heard in it", attends=False)
        rows = [
            Missed(kernel, module, n, attends, why)
            for (kernel, module, attends, why), n in self.missed.items()
        ]
        return tuple(sorted(rows, key=lambda row: not row.attends))

    def _attends(self, name: str) -> bool:
        """Whether a module, or the one around it, is called attention by its class."""
        around = name.rpartition(".")[0]
        return any(_ATTENTION.search(self.classes.get(each, "")) for each in (name, around))


def _within(name: str, other: str) -> bool:
    """Whether one of two modules is the other, or inside it."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _takes_queries(op: Op) -> bool:
    """Whether the first three tensors can be queries, keys and values."""
    given = [each for each in arguments(op) if each.is_floating_point() and each.dim() > 2][:3]
    return (
        len(given) == 3
        and given[0].shape[-1] == given[1].shape[-1]
        and given[1].shape[-2] == given[2].shape[-2]
    )
