"""What the probe of `attention` finds: every attention call, every head, and what was not captured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from trainlab.errors import NotApplicable, UsageError
from trainlab.result import Result, column

__all__ = ["BLOCKS", "AttentionResult", "missed_in_words"]

PAGE = 2**20
"""Bytes of a flat array that a page stores."""
BLOCKS = 32
"""A thumbnail's rows and columns at most: block i of n holds tokens ``i T // n`` up to ``(i + 1) T // n``."""


class AttentionResult(Result, kind="attention", schema=1):
    """Who attends to whom, by call and head, without a map of queries × keys being kept.

    Means are over queries that see a key at all, of all batch entries, padding left out; those of entropy, peak, first, sink,
    spread and similarity over queries that see two, since one key leaves no choice.
    Of a sample of queries (``sampled`` > 0) the fields ``…_se`` are standard errors; otherwise they are 0.
    Ragged arrays are flat, calls one after the other; `thumbnails`, `received`, `frames`, `alike` cut them.
    """

    model_name: str
    batch_size: int
    sampled: int
    """Queries sampled for each call; 0 where every query was measured."""
    seed: int
    sink: int
    """How many first keys ``head_first`` adds up."""
    grid: str
    """Frames × height × width of the tokens behind a prefix, e.g. ``1+8x14x14``; empty where there is none."""
    grid_why: str
    """How it came to be that grid."""
    only: str
    """Which modules were asked for, as a pattern; empty for all."""
    left_out: int
    """Attentions that were captured and not measured, since ``only`` does not name them."""
    softmaxes: int
    """Softmaxes heard that never met values: classifiers, routers."""

    call_name: tuple[str, ...] = column("call")
    """Module, with ``#2`` … where a module attends more than once."""
    call_kernel: tuple[str, ...] = column("call")
    call_site: tuple[str, ...] = column("call")
    call_batch: np.ndarray = column("call")
    """(call) int64; batch entries of the kernel: of space-time models clips × frames, or clips × places."""
    call_heads: np.ndarray = column("call")
    call_key_heads: np.ndarray = column("call")
    """(call) int64; fewer than heads where groups of heads share keys; equal where not known."""
    call_queries: np.ndarray = column("call")
    call_keys: np.ndarray = column("call")
    call_depth: np.ndarray = column("call")
    """(call) int64; width of a query; 0 where the model made its weights by itself."""
    call_scale: np.ndarray = column("call")
    call_measured: np.ndarray = column("call")
    """(call) int64; queries measured, over all batch entries."""
    call_blind: np.ndarray = column("call")
    """(call) int64; queries that see no key at all; left out."""
    call_padding: np.ndarray = column("call")
    """(call) int64; queries at places that no query sees as a key; left out."""
    call_visible: np.ndarray = column("call")
    """(call) float64; keys that a query sees, mean."""
    call_causal: np.ndarray = column("call")
    """(call) bool; no query puts weight on a key behind it."""
    call_layout: tuple[str, ...] = column("call")
    """``space`` (tokens of a frame), ``time`` (one place in all frames), ``joint`` (all tokens of a clip or an image),
    ``cross`` (keys are other tokens than queries), or ``sequence``."""
    call_prefix: np.ndarray = column("call")
    """(call) int64; leading tokens that are not on the grid (CLS, registers, text)."""
    call_frames: np.ndarray = column("call")
    """(call) int64; frames, height and width of its tokens: 1 for what it does not have, 0 for a sequence or cross."""
    call_height: np.ndarray = column("call")
    call_width: np.ndarray = column("call")
    call_kept: np.ndarray = column("call")
    """(call) int64; batch entries whose exact weights can be asked for; 0 where the budget was spent."""

    head_call: np.ndarray = column("head")
    """(head) int64; row of ``call``."""
    head_number: np.ndarray = column("head")
    head_entropy: np.ndarray = column("head")
    """(head) float64; entropy of a query's weights over log(keys it sees), mean: 1 uniform, 0 on one key."""
    head_entropy_se: np.ndarray = column("head")
    head_nats: np.ndarray = column("head")
    """(head) float64; entropy in nats, mean."""
    head_peak: np.ndarray = column("head")
    """(head) float64; greatest weight of a query, mean."""
    head_peak_se: np.ndarray = column("head")
    head_largest: np.ndarray = column("head")
    """(head) float64; greatest weight of any query measured that sees more keys than a thumbnail has columns, or of all
    that see two where none does: what a thumbnail may hide."""
    head_largest_entry: np.ndarray = column("head")
    """(head) int64; where it is: batch entry of the kernel, query and key."""
    head_largest_query: np.ndarray = column("head")
    head_largest_key: np.ndarray = column("head")
    head_first: np.ndarray = column("head")
    """(head) float64; weight on the first ``sink`` keys, mean."""
    head_first_se: np.ndarray = column("head")
    head_sink: np.ndarray = column("head")
    """(head) float64; mean weight received by the most looked-at key, over the queries that see it; of the keys that at
    least half as many queries see as the most-seen one."""
    head_sink_se: np.ndarray = column("head")
    head_sink_key: np.ndarray = column("head")
    """(head) int64; that key."""
    head_self: np.ndarray = column("head")
    """(head) float64; weight of a query on its own token; NaN in cross-attention, as all three below."""
    head_self_se: np.ndarray = column("head")
    head_previous: np.ndarray = column("head")
    """(head) float64; on the token before."""
    head_previous_se: np.ndarray = column("head")
    head_diagonal: np.ndarray = column("head")
    """(head) float64; on tokens at most one away."""
    head_diagonal_se: np.ndarray = column("head")
    head_distance: np.ndarray = column("head")
    """(head) float64; mean distance in tokens between query and key, weighted."""
    head_distance_se: np.ndarray = column("head")
    head_uniform_distance: np.ndarray = column("head")
    """(head) float64; what it would be, were the weights uniform over the visible keys."""
    head_logit: np.ndarray = column("head")
    """(head) float64; largest score in magnitude that a visible key gets before the softmax; NaN where not heard."""
    head_spread: np.ndarray = column("head")
    """(head) float64; standard deviation of a query's scores over its visible keys, mean over queries; log-weights
    where scores were not heard."""
    head_write: np.ndarray = column("head")
    """(head) float64; root mean square of what the head adds through the output projection, or of weights times values
    where no projection was heard; NaN where neither was."""
    head_projected: np.ndarray = column("head")
    """(head) bool; through the projection."""
    head_nonfinite: np.ndarray = column("head")
    """(head) int64; queries with NaN or infinite weights; left out of all means."""
    head_twin: np.ndarray = column("head")
    """(head) int64; the most similar other head of the call, its number; -1 where it is alone."""
    head_similarity: np.ndarray = column("head")
    """(head) float64; to it: mean cosine of both heads' weights of a query, what uniform weights would have taken off, over
    the queries where neither is uniform; 0 where there is none."""
    head_space: np.ndarray = column("head")
    """(head) float64; weight on other places of the query's own frame; NaN off the grid, as all below."""
    head_time: np.ndarray = column("head")
    """(head) float64; on the query's own place in other frames."""
    head_elsewhere: np.ndarray = column("head")
    """(head) float64; on other places in other frames."""
    head_prefix: np.ndarray = column("head")
    """(head) float64; on the prefix."""
    head_reach_space: np.ndarray = column("head")
    """(head) float64; mean distance between query's and key's place, in places (Euclidean), weighted."""
    head_reach_time: np.ndarray = column("head")
    """(head) float64; mean distance in frames, weighted."""

    thumbnail: np.ndarray
    """Flat float32; by call (head, min(32, queries), min(32, keys)): mean weight of the queries of a block on the keys of a
    block, summed over the keys, so that a row sums to 1."""
    receive: np.ndarray
    """Flat float32; by call (head, key): mean weight that a key receives, over all queries."""
    framewise: np.ndarray
    """Flat float32; by call of layout ``time`` or ``joint`` (head, frame, frame): weight of a frame's queries on a frame."""
    likeness: np.ndarray
    """Flat float32; by call (head, head): see ``head_similarity``."""

    # What exact weights are computed from, by call, of the entries that are kept; see `Keeper` and `weights`.
    kept_entry: np.ndarray
    """Flat int64; by call (kept): numbers of the batch entries that are kept."""
    kept_whole: np.ndarray
    """(call) bool; kept as weights: no queries, keys and mask of bits give them."""
    kept_q: np.ndarray
    """Flat float32; by call that is not kept as weights (kept, head, query, depth)."""
    kept_k: np.ndarray
    """Flat float32; likewise (kept, key head, key, depth)."""
    kept_causal: np.ndarray
    """(call) bool; the kernel was told to be causal, on top of its mask."""
    kept_mask: np.ndarray
    """Flat uint8; by call (kept, head | 1, query | 1, byte): bits, a bit for each key, 1 where a query sees it."""
    kept_mask_shape: np.ndarray
    """(call, 3) int64; heads, queries and keys of the mask; 0 where there is none."""
    kept_weights: np.ndarray
    """Flat float32; by call that is kept as weights (kept, head, query, key)."""

    token: tuple[str, ...]
    """Labels of the tokens of the first batch entry; empty where none are known."""
    picture: np.ndarray
    """(frame, height, width, 3) uint8; the first batch entry, where it is images or video, shrunk; empty otherwise."""

    missed_kernel: tuple[str, ...] = column("missed")
    missed_module: tuple[str, ...] = column("missed")
    missed_count: np.ndarray = column("missed")
    missed_attends: np.ndarray = column("missed")
    """(missed) bool; see `Missed`."""
    missed_why: tuple[str, ...] = column("missed")

    def slim(self) -> Self:
        """What a page stores: not what exact weights are computed from, and of the pictures what is not large.

        What tokens receive is rounded to float16, as thumbnails are; a flat array of more than `PAGE` bytes is left out.
        """
        nothing = {name: value[:0] for name, value in vars(self).items() if name.startswith("kept_")}
        flat = {name: getattr(self, name).astype(np.float16) for name in ("thumbnail", "receive")}
        flat |= {name: getattr(self, name) for name in ("framewise", "likeness")}
        small = {name: value if value.nbytes <= PAGE else value[:0] for name, value in flat.items()}
        return dataclasses.replace(self, call_kept=np.zeros_like(self.call_kept), **nothing, **small)

    def rows(self, table: str | None = None) -> list[dict[str, Any]]:
        """As of every result; a head names its call."""
        found = super().rows(table)
        for row in found if table == "head" else ():
            row["call"] = self.call_name[row["call"]]
        return found

    def coverage(self) -> str:
        """One line: what was heard, what of it was recorded, what was not, and why."""
        missed = self.rows("missed")
        lost = [row for row in missed if row["attends"]]
        softmaxes = [row for row in missed if not row["attends"] and row["kernel"] == "softmax"]
        unsure = [row for row in missed if not row["attends"] and row["kernel"] != "softmax"]
        missing = sum(row["count"] for row in lost)
        recorded = len(self.call_name) + self.left_out
        line = f"{_many(recorded + missing, 'attention kernel')} heard, {recorded} recorded"
        if self.left_out:
            line += f" ({self.left_out} of them left out by only={self.only!r})"
        if lost:
            line += f", {missing} not captured ({missed_in_words(lost)})"
        if unsure:
            line += f"; perhaps attention: {missed_in_words(unsure)}"
        if self.softmaxes:
            line += f"; {_many(self.softmaxes, 'softmax')} never met values"
            line += f" ({_some(row['module'] or self.model_name for row in softmaxes)})" if softmaxes else ""
        return line

    def heads_of(self, call: int) -> slice:
        """The rows of table ``head`` that belong to a call."""
        _known(call, self.call_heads)
        first = int(self.call_heads[:call].sum())
        return slice(first, first + int(self.call_heads[call]))

    def thumbnails(self, call: int) -> np.ndarray:
        """(head, block of queries, block of keys) float32; see ``thumbnail``."""
        queries, keys = np.minimum(self.call_queries, BLOCKS), np.minimum(self.call_keys, BLOCKS)
        return _cut(self.thumbnail, call, self.call_heads, queries, keys).astype(np.float32)

    def received(self, call: int) -> np.ndarray:
        """(head, key) float32; see ``receive``."""
        return _cut(self.receive, call, self.call_heads, self.call_keys).astype(np.float32)

    def frames(self, call: int) -> np.ndarray:
        """(head, frame, frame) float32, of size 0 where the call has no frames; see ``framewise``."""
        frames = np.where(np.isin(self.call_layout, ("time", "joint")), self.call_frames, 0)
        return _cut(self.framewise, call, self.call_heads, frames, frames)

    def alike(self, call: int) -> np.ndarray:
        """(head, head) float32; see ``likeness``."""
        return _cut(self.likeness, call, self.call_heads, self.call_heads)

    def kept(self, call: int) -> np.ndarray:
        """(kept) int64: numbers of the batch entries whose exact weights can be asked for."""
        return _cut(self.kept_entry, call, self.call_kept)


def _cut(flat: np.ndarray, call: int, *axes: np.ndarray) -> np.ndarray:
    """What a call has in a flat array whose calls have these axes, one after the other."""
    _known(call, axes[0])
    ends = np.cumsum(np.prod(axes, axis=0, dtype=np.int64))
    if ends[-1] and not flat.size:
        raise NotApplicable(
            "this was too large for the page", fix="probe again, or load the file that save wrote"
        )
    start = ends[call - 1] if call else 0
    return flat[start : ends[call]].reshape([int(axis[call]) for axis in axes])


def _known(call: int, calls: np.ndarray) -> None:
    if not isinstance(call, int | np.integer) or not 0 <= call < len(calls):
        raise UsageError(
            f"there is no call {call!r}", seen=f"{len(calls)} calls", fix="a row number of frame('call')"
        )


def _many(count: int, what: str) -> str:
    plural = "es" if what.endswith("x") else "s"
    return f"{count} {what}{plural if count != 1 else ''}"


def _some(names: Iterable[str]) -> str:
    """The first three, and how many more there are."""
    every = list(dict.fromkeys(names))
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def missed_in_words(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of table ``missed``, those of one kernel and reason together: ``2 TorchScript in a, b: nothing is heard``."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault((row["kernel"], row["why"]), []).append(row)
    return "; ".join(
        f"{sum(row['count'] for row in group)} {kernel}{where and f' in {where}'}: {why}"
        for (kernel, why), group in alike.items()
        for where in [_some(row["module"] for row in group if row["module"])]
    )
