"""Frame × frame mass of the heads of a video or image model, and what type each head is."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure, SubFigure

from trainlab.diagnostics.attention import views_drawing as drawing
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import NotApplicable
from trainlab.figure import MUTED, PALETTE

__all__ = ["frames", "frames_knobs", "types", "types_knobs"]

SHOWN = 16  # heads side by side
ROWS = 48  # heads one below the other
SHARES = {  # field: in words, colour
    "head_self": ("itself", "#444c56"),
    "head_space": ("other places of its frame", PALETTE[0]),
    "head_time": ("its place in other frames", PALETTE[1]),
    "head_elsewhere": ("elsewhere", "#c9d1d9"),
    "head_prefix": ("prefix", PALETTE[4]),
}


def frames_knobs(r: AttentionResult) -> dict[str, object]:
    """Which call that looks across frames."""
    calls = _across(r)
    paged = drawing.pages("heads", int(r.call_heads[calls].max(initial=0)), SHOWN)
    return drawing.call_knob(r, calls) | paged


def _across(r: AttentionResult) -> list[int]:
    return np.flatnonzero(np.isin(r.call_layout, ("time", "joint")) & (r.call_frames > 1)).tolist()


def frames(
    r: AttentionResult,
    figure: Figure | SubFigure,
    *,
    call: int = 0,
    heads: int = 0,
) -> None:
    """Draws how much weight each frame's queries put on each frame, head by head.

    Args:
        r: The result.
        figure: Where to draw.
        call: Which attention call.
        heads: The first head to show.
    """
    why = "no attention here looks across frames; grid= says where tokens are frames, as in grid='1+8x14x14'"
    call = drawing.chosen(r, call, _across(r), why)
    every = r.frames(call).astype(np.float64)
    every[every == 0] = np.nan
    heads = min(drawing.number("heads", heads, int(r.call_heads.max())), (len(every) - 1) // SHOWN * SHOWN)
    values = every[heads:][:SHOWN]
    norm = drawing.norm_of(values)
    across = round((1.5 * len(values)) ** 0.5)
    grid = figure.subplots(-(-len(values) // across), across, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(values) :]:
        axes.set_axis_off()
    for number, axes in enumerate(grid.flat[: len(values)]):
        axes.imshow(drawing.colours_of(values[number], norm))
        drawing.bare(axes)
        axes.set_title(f"head {heads + number}", fontsize=9, fontweight="normal")
    grid[-1, 0].set(xlabel="key's frame", ylabel="query's frame")
    drawing.heading(figure, f"Frame by frame, {drawing.short_names(r, 44)[call]}")
    drawing.colour_bar(figure, list(grid.flat), norm, "weight of a frame's queries on a frame")
    shown = f" {len(values)} of {len(every)} heads." if len(values) < len(every) else ""
    drawing.caption(figure, f"Grey is 0 or not finite.{shown}")


def types_knobs(r: AttentionResult) -> dict[str, object]:
    """Which heads, where there are too many for a page."""
    return drawing.pages("first", int(np.isfinite(r.head_space).sum()), ROWS)


def types(r: AttentionResult, figure: Figure | SubFigure, *, first: int = 0) -> None:
    """Draws what share of its weight each head puts on space, time, itself and the rest.

    Args:
        r: The result.
        figure: Where to draw.
        first: The first head to show.
    """
    every = np.flatnonzero(np.isfinite(r.head_space))
    if not len(every):
        raise NotApplicable(
            "the tokens have no grid of frames and places; grid= gives it, as in grid='1+8x14x14'"
        )
    first = drawing.number("first", first, len(every))
    rows = every[first : first + ROWS]
    axes = figure.add_subplot()
    left = np.zeros(len(rows))
    for field, (label, colour) in SHARES.items():
        share = np.nan_to_num(getattr(r, field)[rows])
        if share.max() > 5e-4:
            axes.barh(np.arange(len(rows)), share, left=left, color=colour, height=0.82, label=label)
        left += share
    names, new = drawing.short_names(r, 26), np.diff(r.head_call[rows], prepend=-1) > 0
    told = [
        f"{names[r.head_call[i]] if named else ''}  {r.head_number[i]:>2}"
        for i, named in zip(rows, new, strict=True)
    ]
    axes.set_yticks(range(len(rows)), told, fontsize=8 if len(rows) <= 28 else 6)
    for y in np.flatnonzero(new)[1:]:
        axes.axhline(y - 0.5, color=MUTED, lw=0.6)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="share of a query's weight, mean")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(
        "Where each head looks" + (f", {len(rows)} of {len(every)}" if len(rows) < len(every) else "")
    )
    figure.legend(loc="outside lower center", ncols=5)
