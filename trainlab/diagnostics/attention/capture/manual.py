"""Attention that is written out: a softmax is tagged, followed, and confirmed where it meets values."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainlab.diagnostics.attention.capture.heads import by_head, head_axes
from trainlab.diagnostics.attention.capture.marks import Mark, Marks, Softmax, explain, key_axes, version
from trainlab.diagnostics.attention.capture.products import PRODUCTS, Meeting, meetings, operands, ordered
from trainlab.diagnostics.attention.capture.tags import arguments, aside, plain
from trainlab.visit.ops import Op

__all__ = ["Manual", "Written"]

_SOFTMAX = frozenset(("masked_softmax", "safe_softmax", "softmax"))
_BY_INDEX = frozenset(
    ("index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")
)
_LINEAR = frozenset(("conv1d", "conv2d", "conv3d", "convolution"))


@dataclass(slots=True)
class Written:
    """One attention that was written out.

    Attributes:
        kernel: How.
        facts: Fields of its `Call`.
        out: What the model has of it.
        axes: Axes of ``out`` that are heads, see `labels`.
        depth: Its axis of the value depth.
    """

    kernel: str
    facts: dict[str, Any]
    out: Tensor
    axes: tuple[int, ...]
    depth: int


class Manual:
    """Stands behind the ops of a model.

    Args:
        model: Its parameters and buffers are no activations, and neither is what follows from them alone.
    """

    def __init__(self, model: nn.Module) -> None:
        self.marks = Marks(model)
        self.softmaxes: list[Softmax] = []
        self.products: Counter[tuple[str, str, bool]] = Counter()  # of products: op, module, from layers

    def follow(self, op: Op, result: object, heads: int) -> Written | None:
        """Takes what is known through one op; gives the attention that it completes."""
        made = op.args[0] if op.name == "setitem" else result
        inputs = list(arguments(op))
        if any(each.is_nested for each in inputs) or (isinstance(made, Tensor) and made.is_nested):
            return None
        pair = operands(op) if op.name in PRODUCTS else None
        if (isinstance(made, Tensor) and not made.numel()) or not all(each.numel() for each in pair or ()):
            return None
        self.marks.find_swapped(op, pair or ())
        if pair is not None and not any(map(self.marks.constant, pair)):
            return self._product(op, pair, made, heads) if isinstance(made, Tensor) else None
        self.marks.keep_constants(op, inputs, made)
        mark = self.marks.get(inputs[0]) if inputs else None
        if not isinstance(made, Tensor):
            self.marks.carry(op, inputs, made)
        elif op.name in _SOFTMAX:
            self.softmaxes.append(self.marks.softmax(op, made))
        elif pair is not None or op.name in _LINEAR:
            self.marks.layer(op, pair or (inputs[0], inputs[1]), made)
        elif op.name == "sum" and mark is not None and mark.pair is not None:
            whole = inputs[0].shape
            if made.shape == (*whole[:-2], whole[-1]):
                return self._product(op, mark.pair, made, heads)
        elif op.name in _BY_INDEX and any(each.kind == "exp" for each in map(self.marks.get, inputs) if each):
            why = "exponentials are summed by index, as in attention over the edges of a graph"
            self.softmaxes.append(Softmax(op.module, made.shape, 0, why))
        else:
            self.marks.carry(op, inputs, made)
        return None

    def _product(self, op: Op, pair: tuple[Tensor, Tensor], made: Tensor, heads: int) -> Written | None:
        """Where weights may meet values."""
        found = meetings(op, pair)
        for each in pair if not found else ():
            self._not_understood(self.marks.get(each))
        for meeting in found:
            mark, other = self.marks.get(meeting.weights), self.marks.get(meeting.values)
            if mark is None or mark.kind in ("features", "spread"):
                continue
            if mark.kind == "weights":
                if not (why := self._refusal(meeting, mark)):
                    return _written(op, meeting, mark, made, heads)
                explain(mark, why)
            elif mark.kind != "composed" and not self.marks.weighs(meeting.values) and _stochastic(meeting):
                return _written(op, meeting, mark, made, heads)
            elif mark.kind != "exp":
                learned = mark.learned and other is not None and other.kind in ("features", "weights")
                self.products[op.name, op.module, learned] += 1
        if all(each.dim() > 1 for each in pair):
            kind = "composed" if any(map(self.marks.weighs, pair)) else "scores"
            self.marks.put(made, Mark(kind, learned=all(map(self.marks.get, pair))))
        return None

    @staticmethod
    def _not_understood(mark: Mark | None) -> None:
        for softmax in mark.softmaxes if mark is not None else ():
            softmax.why = softmax.why or "its weights met values in a product that is not understood"
            softmax.attends |= softmax.scored

    def _refusal(self, meeting: Meeting, mark: Mark) -> str:
        """Why weights that meet something are no attention; empty where they are."""
        keys, count, softmax = mark.keys, meeting.weights.shape[meeting.key], mark.softmaxes[0]
        assert keys is not None
        over = key_axes(keys)
        if all(each.why for each in mark.softmaxes):
            softmax.weighs |= over == [meeting.key] and meeting.weights.shape[meeting.query] > 1
            return softmax.why
        if count == 1:
            return "" if any(each.scored for each in mark.softmaxes) else "it is over one key"
        if self.marks.weighs(meeting.values):
            return "it met other weights, not values"
        if over != [meeting.key]:
            return "" if _stochastic(meeting) else "what it met was summed over another axis than its own"
        if count < softmax.keys - 1:  # one column more than there are values is a sink
            softmax.attends = True
            return "only a part of its weights met values at once"
        return ""


@aside()
def _written(op: Op, meeting: Meeting, mark: Mark, made: Tensor, heads: int) -> Written | None:
    """Brings weights, values and what they make into the order of a `Call`."""
    scores = mark.scores[0]() if mark.scores is not None else None
    if scores is not None and mark.scores is not None and version(scores) != mark.scores[1]:
        scores = None
    clean = meeting.weights if mark.clean is None else mark.clean
    weights, values, out, scores = plain(clean, meeting.values, made, scores)
    assert weights is not None
    assert values is not None
    assert out is not None
    weights = weights.to_dense() if weights.is_sparse else weights
    memory, place = weights.untyped_storage(), (weights.data_ptr(), weights.shape)
    if any(softmax.met.get(place, type(None))() is memory for softmax in mark.softmaxes):
        return None  # the same weights meet more values
    for softmax in mark.softmaxes:
        softmax.met[place] = weakref.ref(memory)
    out = ordered(out, meeting.out_order)
    lead = out.shape[:-2]
    if len(lead) == 1 and mark.softmaxes and len(shape := mark.softmaxes[0].shape) == 4:
        heads = shape[1] if shape[0] * shape[1] == lead[0] else heads  # folded since
    axes = head_axes(lead, heads)
    facts = {
        "weights": by_head(ordered(weights, meeting.weights_order), lead, axes, heads),
        "v": by_head(ordered(values, meeting.values_order), lead, axes, heads),
        "out": by_head(out, lead, axes, heads),
    }
    if scores is not None:
        facts["scores"] = by_head(ordered(scores, meeting.weights_order), lead, axes, heads)
    places = [meeting.out_order[axis - len(lead) - 2] for axis in axes if axis >= out.dim() - made.dim()]
    what = "softmax" if mark.softmaxes else "row-stochastic weights"
    depth = meeting.out_order[-1]
    return Written(
        f"{what} and {op.name}", facts, made, tuple(each for each in places if each is not None),
        made.dim() - 1 if depth is None else depth,
    )  # fmt: skip


@aside()
def _stochastic(meeting: Meeting) -> bool:
    """Whether each row is at least 0 and sums to 1, or is empty; over more than one key."""
    (weights,) = plain(meeting.weights)
    assert weights is not None
    key = meeting.key - meeting.weights.dim()
    if not weights.is_floating_point() or weights.shape[key] < 2 or weights.numel() == 0:
        return False
    sums = weights.sum(key, dtype=torch.float32)
    near = (sums - 1).abs() < (1e-4 if weights.dtype in (torch.float32, torch.float64) else 2e-2)
    return bool((near | (sums == 0)).all() and near.any() and weights.amin() >= 0)
