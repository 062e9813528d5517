"""Pictures of `attention` that compare heads: a statistic, scores by depth, keys received, and twins."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullLocator

from trainlab.diagnostics.attention import views_drawing as drawing
from trainlab.diagnostics.attention.limits import AttentionLimits
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, DIVERGING, MUTED, SECOND, SHADE

__all__ = ["alike", "alike_knobs", "depth", "heads", "heads_knobs", "received", "received_knobs"]

LIMITS = AttentionLimits()
BINS = 512  # keys side by side
WRITTEN = 16 * 18  # cells that have room for a number
STATISTICS = {  # field, unit
    "entropy": ("entropy", "entropy over log(visible keys): 1 uniform, 0 on one key"),
    "largest weight": ("peak", "largest weight of a query, mean"),
    "first keys": ("first", "weight on the first keys, mean"),
    "sink": ("sink", "mean weight on the most looked-at key"),
    "itself": ("self", "weight on the query's own token"),
    "token before": ("previous", "weight on the token before"),
    "neighbours": ("diagonal", "weight on tokens at most one away"),
    "distance": ("distance", "mean distance of query and key, tokens"),
    "largest score": ("logit", "largest |score| before the softmax"),
    "spread of scores": ("spread", "standard deviation of a query's scores, mean"),
    "written": ("write", "root mean square of what the head adds"),
    "similarity": ("similarity", "similarity to the most similar head of the call"),
    "other places": ("space", "weight on other places of the frame"),
    "other frames": ("time", "weight on the same place in other frames"),
    "elsewhere": ("elsewhere", "weight on other places in other frames"),
    "prefix": ("prefix", "weight on the prefix"),
    "reach in space": ("reach_space", "mean distance, places"),
    "reach in time": ("reach_time", "mean distance, frames"),
}


def heads_knobs(r: AttentionResult) -> dict[str, object]:
    """The statistics that were measured of any head, and the entropy."""
    known = [
        name for name, (field, _) in STATISTICS.items() if np.isfinite(getattr(r, f"head_{field}")).any()
    ]
    return {"statistic": list(dict.fromkeys(["entropy", *known]))}


def heads(r: AttentionResult, figure: Figure | SubFigure, *, statistic: str = "entropy") -> None:
    """Draws a statistic of every head of every call.

    Args:
        r: The result.
        figure: Where to draw.
        statistic: Which.
    """
    drawing.choice("statistic", statistic, STATISTICS)
    field, unit = STATISTICS[statistic]
    values, errors = _by_head(r, f"head_{field}"), np.full(0, np.nan)
    if r.sampled and hasattr(r, f"head_{field}_se"):
        errors = _by_head(r, f"head_{field}_se")
    if not np.isfinite(values).any():
        raise NotApplicable(f"{unit}: measured of no head")
    norm = drawing.norm_of(values)
    if field == "entropy":  # most heads are near 1, and differ there
        norm = Normalize(min(np.floor(10 * np.nanmin(values)) / 10, 0.9), 1.0)
    if field == "similarity":  # whose end is a copy
        norm = Normalize(0.0, 1.0)
    colours = drawing.colours_of(values, norm)
    there = np.arange(values.shape[1]) < r.call_heads[:, None]
    colours[~there] = 0
    axes = figure.add_subplot()
    axes.imshow(colours, aspect="auto")
    drawing.bare(axes, xlabel="head")
    if values.size <= WRITTEN and len(values) <= 24:
        texts = np.where(there, np.vectorize(_short)(values), "")
        if errors.size:
            texts = np.where(there, np.char.add(np.char.add(texts, "\n±"), np.vectorize(_short)(errors)), "")
        drawing.write_numbers(axes, colours, texts.tolist())
    names, rows = drawing.short_names(r), drawing.thinned(len(values), 40)
    axes.set_yticks(rows, [names[i] for i in rows], fontsize=8 if len(rows) <= 24 else 6.5)
    axes.set_xticks(drawing.thinned(values.shape[1], 24))
    axes.set_title(f"{statistic.capitalize()} by call and head")
    drawing.colour_bar(figure, axes, norm, unit)
    if np.isfinite(errors).any():
        most = f"{np.nanmax(errors):.2g}"
        drawing.caption(
            figure, f"Of {r.sampled} sampled queries a call; the standard error is {most} at most."
        )


def _by_head(r: AttentionResult, field: str) -> np.ndarray:
    """(call, head) of a column of ``head``, NaN where a call has fewer heads."""
    values = np.full((len(r.call_name), int(r.call_heads.max())), np.nan)
    values[r.head_call, r.head_number] = getattr(r, field)
    return np.where(np.isfinite(values), values, np.nan)


def _short(value: float) -> str:
    """Two digits, without what the eye does not need."""
    if not np.isfinite(value):
        return "–"
    if abs(value) >= 10:
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.0e}".replace("e+0", "e")
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)  # no -0


def depth(r: AttentionResult, figure: Figure | SubFigure) -> None:
    """Draws the largest score, the spread of scores and the entropy by depth.

    Scores that grow while entropy falls come before a blow-up (Zhai et al. 2023, entropy collapse).

    Args:
        r: The result.
        figure: Where to draw.
    """
    calls = len(r.call_name)
    floor = LIMITS.spread_min / 8  # a logarithmic axis has no 0
    logit, spread, entropy = figure.subplots(3, 1, sharex=True)
    for axes, field, label in (
        (logit, r.head_logit, "largest |score|"),
        (spread, np.maximum(r.head_spread, floor), "spread of scores"),
        (entropy, r.head_entropy, "entropy, of uniform"),
    ):
        values = np.where(np.isfinite(field), field, np.nan)
        axes.plot(r.head_call, values, "o", color=ACCENT, ms=3.5, alpha=0.45, mew=0, label="head")
        known = [mine[np.isfinite(mine)] for mine in (values[r.heads_of(call)] for call in range(calls))]
        middle = [np.median(each) if each.size else np.nan for each in known]
        axes.plot(middle, "-" if calls > 1 else "_", color=SECOND, lw=1.6, label="median")
        axes.set_ylabel(label, fontsize=9)
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        if np.isnan(values).all():
            axes.set_title("not measured", loc="center", y=0.4, fontsize=9, color=MUTED)
    most = np.nanmax([*np.where(np.isfinite(r.head_spread), r.head_spread, np.nan), LIMITS.spread_max])
    spread.set(yscale="log", ylim=(floor / 1.5, most * 4))
    spread.axhspan(floor / 1.5, LIMITS.spread_min, color=SHADE, lw=0, zorder=0)
    spread.axhspan(LIMITS.spread_max, most * 4, color=SHADE, lw=0, zorder=0)
    look: dict[str, Any] = {"transform": spread.transAxes, "ha": "right", "fontsize": 7.5, "color": MUTED}
    spread.text(0.995, 1, "chooses one key", va="top", **look)
    spread.text(0.995, 0, "uniform", va="bottom", **look)
    positive = r.head_logit[np.isfinite(r.head_logit) & (r.head_logit > 0)]
    if positive.size and positive.max() > 20 * positive.min():
        logit.set(yscale="log", ylim=(positive.min() / 1.5, positive.max() * 1.5))
        logit.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axes in (logit, spread):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    entropy.set_ylim(-0.03, 1.05)
    names, ticks = drawing.short_names(r), drawing.thinned(calls, 25)
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    entropy.set_xticks(ticks, [names[i] for i in ticks], fontsize=8, **turned)
    entropy.set_xlim(-0.5, calls - 0.5)
    logit.set_title("Scores and entropy by depth")
    logit.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)


def received_knobs(r: AttentionResult) -> dict[str, object]:
    """Which call, and its scale."""
    return drawing.call_knob(r) | {"logarithmic": True}


def received(
    r: AttentionResult, figure: Figure | SubFigure, *, call: int = 0, logarithmic: bool = True
) -> None:
    """Draws how much weight each key receives from each head; a sink is a bright column.

    Args:
        r: The result.
        figure: Where to draw.
        call: Which attention call.
        logarithmic: Colours by powers of ten.
    """
    call = drawing.chosen(r, call)
    values = r.received(call).astype(np.float64)
    if not np.isfinite(values).any():
        raise NotApplicable("no weight of this call is finite: see ATT001")
    count, keys = values.shape
    width = -(-keys // BINS)
    shown = np.fmax.reduceat(values, np.arange(0, keys, width), axis=1)
    norm = drawing.norm_of(shown, logarithmic=logarithmic)
    axes = figure.add_subplot()
    extent = (-0.5, shown.shape[1] * width - 0.5, count - 0.5, -0.5)
    axes.imshow(drawing.colours_of(shown, norm), aspect="auto", extent=extent)
    drawing.bare(axes, xlabel="key", ylabel="head")
    axes.set_yticks(drawing.thinned(count, 24))
    rows = range(r.heads_of(call).start, r.heads_of(call).stop)
    for y, row in enumerate(rows if count <= 20 else ()):
        if np.isfinite(r.head_sink[row]):
            told = f"{drawing.place(r, call, int(r.head_sink_key[row]), key=True)}: {r.head_sink[row]:.2g}"
            look: dict[str, Any] = {"va": "center", "fontsize": 7.5, "family": drawing.fonts()[0]}
            axes.annotate(told, (1.01, y), xycoords=axes.get_yaxis_transform(), **look)
    axes.set_title(f"Weight that each key receives, {drawing.short_names(r, 44)[call]}")
    drawing.colour_bar(figure, axes, norm, "mean weight over all queries")
    drawing.caption(
        figure,
        f"Each column is the most that one of {width} keys receives." if width > 1 else "",
        "No query sees a later key, so that early keys are seen by more."
        if r.call_causal[call]
        else f"Spread evenly, a key would receive {1 / keys:.2g}.",
        "To the right: the key that a head looks at most, and its mean weight over the queries that see it."
        if count <= 20
        else "",
    )


def alike_knobs(r: AttentionResult) -> dict[str, object]:
    """Which call of several heads."""
    return drawing.call_knob(r, np.flatnonzero(r.call_heads > 1).tolist())


def alike(r: AttentionResult, figure: Figure | SubFigure, *, call: int = 0) -> None:
    """Draws how alike the heads of a call are.

    Args:
        r: The result.
        figure: Where to draw.
        call: Which attention call.
    """
    several = np.flatnonzero(r.call_heads > 1).tolist()
    call = drawing.chosen(r, call, several, "a call of one head has no pair to compare")
    values, norm = r.alike(call).astype(np.float64), Normalize(-1, 1)
    colours = drawing.colours_of(values, norm, DIVERGING)
    axes = figure.add_subplot()
    axes.imshow(colours)
    drawing.bare(axes, xlabel="head", ylabel="head")
    if len(values) <= 20:
        drawing.write_numbers(axes, colours, np.vectorize(_short)(values).tolist())
    axes.set_xticks(drawing.thinned(len(values), 22))
    axes.set_yticks(drawing.thinned(len(values), 22))
    axes.set_title(f"How alike heads look, {drawing.short_names(r, 36)[call]}")
    drawing.colour_bar(figure, axes, norm, "mean cosine of the weights beyond uniform", cmap=DIVERGING)
