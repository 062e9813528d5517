"""One attention that a model computed, as its capture hands it on while it is being computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Call", "Missed"]


@dataclass(frozen=True, slots=True)
class Call:
    """One attention kernel, whole: either queries and keys, from which weights follow, or the weights themselves.

    The tensors are the model's own, live and detached: read them while you are called, do not change or keep them.

    Attributes:
        number: Order of the call among the recorded ones, from 0.
        module: Qualified name of the innermost module that made it; ``""`` for the model itself.
        kernel: What computed it: ``scaled_dot_product_attention``, ``flex_attention``, ``encoder layer``,
            ``softmax and matmul``, …
        site: ``file:line in function`` of the user's code.
        q: (batch, head, query, depth), or None.
        k: (batch, key head, key, depth), or None. Head h looks at key head h // (heads / key heads).
        v: (batch, key head, key, value depth), where known.
        scale: What q·k is multiplied by.
        mask: None, or (batch | 1, head | 1, query | 1, key) bool, True where a query sees the key, or float, added to the
            scores. Never expanded.
        causal: Query i sees keys j <= i only (both counted from the left, as torch does), on top of ``mask``.
        change: None, or what a kernel does to its scores before the softmax (soft cap, ``score_mod``, ``mask_mod``):
            (scores (entry, head, row, key) float32, entries (entry) int64, rows (row) int64) -> scores, where entries
            and rows number batch entries and queries.
        weights: (batch, head, query, key), where the model itself makes them; then q, k, mask, change may be None.
        scores: (batch, head, query, key), what the softmax that made ``weights`` was given, where it was heard and is
            still in memory.
        out: (batch, head, query, value depth): weights times values, by head, where known.
    """

    number: int
    module: str
    kernel: str
    site: str
    q: Tensor | None = None
    k: Tensor | None = None
    v: Tensor | None = None
    scale: float = 1.0
    mask: Tensor | None = None
    causal: bool = False
    change: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    weights: Tensor | None = None
    scores: Tensor | None = None
    out: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """What looked like attention and was not recorded.

    Attributes:
        kernel: What was heard.
        module: Where.
        count: How often.
        attends: True where it is attention for certain, so that a map is missing; False for a softmax that never met
            values (a classifier, a router): counted, no fault.
        why: In words.
    """

    kernel: str
    module: str
    count: int
    attends: bool
    why: str
