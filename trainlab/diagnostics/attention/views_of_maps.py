"""The map of one head, exact: any tile of queries × keys, at any length."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from trainlab.diagnostics.attention import views_drawing as drawing
from trainlab.diagnostics.attention.measuring import weights
from trainlab.diagnostics.attention.result import BLOCKS, AttentionResult
from trainlab.figure import SECOND, cut

__all__ = ["map_knobs", "tile"]

CELLS = 256  # that a picture can show side by side
LABELLED = 40  # tokens that have room for their names
TYPICAL, ONE, POWERS = SCALES = ("typical", "0 to 1", "powers of ten")
SIZES = (16, 64, CELLS, 1024, 4096)


def map_knobs(r: AttentionResult) -> dict[str, object]:
    """Which call, head and entry, and which tile of its map."""
    kept = r.call_kept > 0
    queries, keys = (int(tokens[kept].max(initial=0)) for tokens in (r.call_queries, r.call_keys))
    knobs = drawing.call_knob(r) | drawing.head_knob(r) | drawing.kept_knob(r)
    if max(queries, keys) > SIZES[0]:
        knobs |= {"first_query": (0, queries - 1, 1)} if queries > 1 else {}
        knobs |= {"first_key": (0, keys - 1, 1)} if keys > 1 else {}
        knobs |= {"size": [size for size in SIZES if size <= CELLS or size < 4 * max(queries, keys)]}
    return knobs | {"scale": list(SCALES)}


def tile(
    r: AttentionResult,
    figure: Figure | SubFigure,
    *,
    call: int = 0,
    head: int = 0,
    entry: int = 0,
    first_query: int = 0,
    first_key: int = 0,
    size: int = CELLS,
    scale: str = TYPICAL,
) -> None:
    """Draws a tile of one head's map, computed anew from what was kept; its thumbnail where nothing was.

    Args:
        r: The result.
        figure: Where to draw.
        call: Which attention call.
        head: Which head; of a call with fewer, the last.
        entry: Which of the batch entries that were kept.
        first_query: Where the tile starts.
        first_key: Where the tile starts.
        size: Its queries and keys; more than 256 are shown as means of blocks.
        scale: Colours up to the median of what rows reach at most, from 0 to 1, or by powers of ten.
    """
    call = drawing.chosen(r, call)
    head = drawing.head_of(r, call, head)
    drawing.choice("scale", scale, SCALES)
    longest = int(max(r.call_queries.max(), r.call_keys.max()))
    first_query = drawing.number("first_query", first_query, longest)
    first_key, size = drawing.number("first_key", first_key, longest), drawing.number("size", size, 2**31, 1)
    whole = int(r.call_queries[call]), int(r.call_keys[call])
    title, first, told = f"{drawing.short_names(r, 40)[call]}, head {head}", (0, 0), False
    if r.call_kept[call]:
        number = drawing.kept_entry(r, call, entry)
        spans = min(size, whole[0]), min(size, whole[1])
        first = min(first_query, whole[0] - spans[0]), min(first_key, whole[1] - spans[1])
        rows, columns = (slice(start, start + span) for start, span in zip(first, spans, strict=True))
        exact = weights(r, call, head, number, queries=rows, keys=columns).astype(np.float64)
        step = -(-max(spans) // CELLS)
        shown = _means(exact, step)
        title += f", entry {number}"
        note = f"Each cell is {f'the mean of {step} × {step} weights' if step > 1 else 'one weight'}"
        note += f"; the largest weight here is {exact.max(where=np.isfinite(exact), initial=0):.3g}."
        told = max(spans) <= LABELLED and number == 0
    else:
        spans, shown = whole, drawing.blocks(r, call)[head]
        step = -(-whole[0] // len(shown))
        title += ", its thumbnail"
        note = (
            "The exact map is not kept: probe with a larger keep_mb=, or with only= that names few modules."
        )
    shown[shown == 0] = np.nan
    seen = drawing.behind(r, call) + first[0] + step * np.arange(len(shown))
    late = seen >= BLOCKS * bool(r.call_causal[call])
    norm, ends = _norm(shown, late, scale)
    big, small = figure.subplots(1, 2, width_ratios=[4.2, 1])
    extent = (first[1] - 0.5, first[1] + spans[1] - 0.5, first[0] + spans[0] - 0.5, first[0] - 0.5)
    aspect = "equal" if max(spans) < 3 * min(spans) else "auto"
    big.set_anchor("E")
    big.imshow(drawing.colours_of(shown, norm), extent=extent, aspect=aspect)
    drawing.bare(big, xlabel="key", ylabel="query")
    for axis, start, span, key in (
        (big.yaxis, first[0], spans[0], False),
        (big.xaxis, first[1], spans[1], True),
    ):
        tokens = range(start, start + span) if told else ()
        names = [cut(drawing.place(r, call, i, key=key), 18) for i in tokens]
        if not all(name.isdigit() for name in names):
            axis.set_ticks(tokens, names, fontsize=7, family=drawing.fonts()[0], rotation=90 * key)
    big.set_title(title)
    _between_frames(big, r, call)
    _overview(small, r, call, head, Rectangle(first[::-1], spans[1], spans[0]))
    drawing.colour_bar(figure, big, norm, "weight", more=bool(ends))
    drawing.caption(figure, f"{note} Grey is 0 or not finite.", ends)


def _norm(shown: np.ndarray, late: np.ndarray, scale: str) -> tuple[Normalize, str]:
    """The scale, and what is to be said of it where cells are above its end.

    A causal model's first query has all its weight on one key: the early ones would leave the others in the dark.
    """
    if scale != TYPICAL:
        return (Normalize(0, 1) if scale == ONE else drawing.norm_of(shown, logarithmic=True)), ""
    rows = shown[late] if np.isfinite(shown[late]).any() else shown
    peaks = np.fmax.reduce(rows, axis=1)
    peaks = peaks[np.isfinite(peaks)]
    top = float(np.median(peaks)) if peaks.size else 1.0
    if not np.fmax.reduce(shown, axis=None) > top:
        return Normalize(0, top), ""
    but = "" if len(rows) == len(shown) else f", the first {BLOCKS} queries left aside"
    return Normalize(
        0, top
    ), f"Colours end at {top:.3g}, which half of the rows reach{but}; what is above looks the same."


def _means(values: np.ndarray, step: int) -> np.ndarray:
    """The mean of every block of step × step; of those at the end, of what is there."""
    for _ in range(2):
        edges = np.arange(0, len(values), step)
        values = (np.add.reduceat(values, edges) / np.diff([*edges, len(values)])[:, None]).T
    return values


def _between_frames(axes: Axes, r: AttentionResult, call: int) -> None:
    """Thin lines between the frames of tokens of a whole clip."""
    if r.call_layout[call] != "joint" or not 1 < r.call_frames[call] <= 64:
        return
    inside = int(r.call_height[call] * r.call_width[call])
    edges = r.call_prefix[call] + inside * np.arange(int(r.call_frames[call])) - 0.5
    lines: dict[str, Any] = {"color": "white", "lw": 0.5, "alpha": 0.6}
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    axes.vlines(edges[(edges > left) & (edges < right)], top, bottom, **lines)
    axes.hlines(edges[(edges > top) & (edges < bottom)], left, right, **lines)


def _overview(axes: Axes, r: AttentionResult, call: int, head: int, window: Rectangle) -> None:
    """The head's thumbnail, with the tile marked on it."""
    queries, keys = int(r.call_queries[call]), int(r.call_keys[call])
    small = drawing.blocks(r, call)[head]
    small /= np.fmax.reduce(small, axis=1, keepdims=True, initial=1e-30)
    colours = drawing.colours_of(small, Normalize(0, 1))
    axes.imshow(colours, extent=(0, keys, queries, 0), aspect=keys / queries)
    window.set(fill=False, edgecolor=SECOND, lw=1.8, clip_on=False)
    axes.add_patch(window)
    drawing.bare(axes)
    axes.set(xticks=[], yticks=[], anchor="N")
    text = f"whole: {queries}×{keys}\nin {len(small)}×{small.shape[1]} blocks,\neach row its own scale"
    axes.set_title(text, fontsize=8, fontweight="normal")
