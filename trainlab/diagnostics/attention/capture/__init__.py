"""Hears every attention that a model computes, however it is written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.capture.coverage import Book, Coverage
from trainlab.diagnostics.attention.capture.heads import heads_of, labels
from trainlab.diagnostics.attention.capture.kernels import Fused, fused
from trainlab.diagnostics.attention.capture.manual import Manual
from trainlab.diagnostics.attention.capture.projection import Projection
from trainlab.diagnostics.attention.capture.tags import arguments, aside
from trainlab.visit.ops import Op, Run, ops

__all__ = ["Coverage", "capture"]


@contextmanager
def capture(
    model: nn.Module,
    heard: Callable[[Call], None],
    projected: Callable[[int, Tensor], None] | None = None,
) -> Iterator[Coverage]:
    """Calls ``heard(call)`` for each attention that the model computes inside, as soon as it has.

    Recorded are the fused kernels (scaled dot products, `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` on
    their fast paths, flex attention), each from what it is given, and whatever is written out as a softmax, or as
    exponentials that sum to 1, that meets values in a matrix product: the weights as they meet them, before
    dropout, heads mixed where the model mixes them. Not recorded, and told by the coverage as far as it shows:
    attention without a softmax (sigmoid, linear), weights straight from a linear layer (routers, gates, outlook
    attention) or from parameters alone, values that are a table, weights in bands or that meet values in pieces,
    TorchScript, custom operators, other threads. Edges that are gathered and scattered by index do not show.
    What a checkpoint computes again in backward is not recorded again.

    Outputs, gradients and random streams are those of an unheard run, and no tensor is kept.

    Args:
        model: Inside, call this model, or any part of it.
        heard: Gets each attention, with gradients and autocast off. Its errors rise through the model's forward.
        projected: Gets the number of an attention and its output projection W_O (out, head, value depth), where the
            attention's output goes to one for certain.
    """
    coverage = Coverage()
    listener = _Listener(model, heard, projected, coverage)
    try:
        with ops(model, listener), listener.book.hearing_threads():
            yield coverage
    finally:
        listener.finish()


class _Listener:
    """Stands around each op of the model."""

    def __init__(
        self,
        model: nn.Module,
        heard: Callable[[Call], None],
        projected: Callable[[int, Tensor], None] | None,
        coverage: Coverage,
    ) -> None:
        self.heard, self.projected, self.coverage = heard, projected, coverage
        self.book = Book(model)
        self.manual = Manual(model)
        self.projection = Projection(self.manual.marks.constant)
        self.heads = functools.cache(functools.partial(heads_of, dict(model.named_modules())))
        self.inside = False  # a kernel, whose own ops are its own

    def __call__(self, op: Op, run: Run) -> object:
        if self.inside or torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - no public way to see a backward
            return run()
        kernel, before = fused(op), self.coverage.recorded
        self.inside = kernel is not None
        try:
            result = run()
        finally:
            self.inside = False
        if kernel is not None:
            with aside():
                self._fused(op, kernel, result)
        else:
            self.book.hear(op, self.coverage.recorded - before)
            self._written(op, result)
        return result

    def _fused(self, op: Op, kernel: Callable[[Op, Any, int], Fused], result: object) -> None:
        if not all(each.is_nested or each.numel() for each in arguments(op)):
            self.book.note(op.name, op.module, "it has no entries, queries or keys", attends=False)
            return
        try:
            found = kernel(op, result, self.heads(op.module))
        except Exception as error:  # noqa: BLE001 - the model's own have risen; ours must not
            self.book.note(op.name, op.module, f"it could not be read: {error}")
            return
        inner = f"{op.module}.{found.inner}".strip(".")
        module = inner if inner in self.book.classes else op.module
        self._record(op, op.name.removesuffix(".apply"), module, found.facts)
        if found.projection is not None:
            weight, heads = found.projection, found.facts["q"].shape[1]
            self._project(self.coverage.recorded - 1, weight.view(len(weight), heads, -1))
        else:
            self._expect(found.out, found.axes, -1, found.facts)

    def _written(self, op: Op, result: object) -> None:
        try:
            with torch.no_grad():
                projection = self.projection.follow(op, result)
                found = self.manual.follow(op, result, self.heads(op.module))
        except Exception as error:  # noqa: BLE001 - the model's own have risen; ours must not
            self.book.note(op.name, op.module, f"it could not be followed: {error}")
            return
        if projection is not None:
            self._project(*projection)
        if found is not None:
            with aside():
                self._record(op, found.kernel, op.module, found.facts)
                self._expect(found.out, found.axes, found.depth, found.facts)

    def _record(self, op: Op, kernel: str, module: str, facts: dict[str, Any]) -> None:
        given: dict[str, Any] = {k: v.detach() if isinstance(v, Tensor) else v for k, v in facts.items()}
        number, self.coverage.recorded = self.coverage.recorded, self.coverage.recorded + 1
        self.book.recorded.add(module)
        self.heard(Call(number, module, kernel, str(op.site), **given))

    def _expect(self, out: Tensor | None, axes: Sequence[int], depth: int, facts: dict[str, Any]) -> None:
        """Waits for the output to be projected."""
        if self.projected is not None and out is not None:
            heads, width = facts["out"].shape[1], facts["out"].shape[3]
            label = labels(out, axes, depth % out.dim(), heads)
            self.projection.begin(self.coverage.recorded - 1, out, label, heads, heads * width)

    def _project(self, number: int, weight: Tensor) -> None:
        if self.projected is not None:
            with aside():
                self.projected(number, weight.detach())

    def finish(self) -> None:
        """Closes the books, and lets go of every tensor."""
        left = [each for each in self.manual.softmaxes if not each.met]
        self.coverage.softmaxes = len(left)
        self.book.unmet(left)
        self.book.unweighted(self.manual.products)
        self.coverage.missed = self.book.told()
        for tags in (self.manual.marks, self.projection.tags):
            tags.clear()
