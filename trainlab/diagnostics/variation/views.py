"""The pictures of `variation`: the profile through the layers, the sources, the distances, two predictions."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trainlab.diagnostics.variation.result import VariationResult
from trainlab.diagnostics.variation.rules import VariationLimits
from trainlab.diagnostics.variation.tracing import trace
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND, SEQUENTIAL, SHADE, cut

__all__ = ["distances", "profile", "profile_knobs", "sources"]

ALL = "all inputs"
WHOLE = "the whole model"
ROWS = 28  # names that can be read below one another
NAME = 34  # characters of a name that fit beside the axis
LIMIT = VariationLimits().variation_min


def profile_knobs(r: VariationResult) -> dict[str, object]:
    """Which inputs were swapped, and which modules have others inside."""
    swapped = [name for name, why in zip(r.source_name, r.source_reason, strict=True) if not why]
    inside = trace(r, LIMIT).inside
    parts = [name for name, within in zip(r.layer_name[:-1], inside, strict=False) if len(within) > 1]
    return {
        "inside": [WHOLE, *dict.fromkeys(parts)],
        "swapped": [ALL, *swapped] if len(swapped) > 1 else [ALL],
    }


def profile(
    r: VariationResult,
    figure: Figure | SubFigure,
    *,
    inside: str = WHOLE,
    swapped: str = ALL,
    limit: float = LIMIT,
) -> None:
    """Draws how far each layer's output moves, from the first call down to the last.

    Args:
        r: The result.
        figure: Where to draw.
        inside: Show the calls inside this module, to its full depth where they fit.
        swapped: Which input was swapped.
        limit: Movement below which a layer counts as dead; the shaded zone.
    """
    if not r.layer_name:
        raise NotApplicable("no module of the model was called by itself")
    source = None if swapped == ALL else r.source_name.index(swapped)
    found = trace(r, limit, source=source)
    if source is None:
        moves = np.maximum(r.layer_variation, r.layer_typical)
    else:
        moves = np.maximum(r.swap_variation[:, source], r.swap_typical[:, source])
    shown, left_out = _chosen(r.layer_name, found.inside, found.dies, inside)
    axes = figure.add_subplot()
    low = _left_edge(np.concatenate([moves[shown], r.layer_floor[shown], [limit]]))
    places = np.arange(len(shown))
    axes.axvspan(low, limit, color=SHADE, lw=0, zorder=0)
    x = np.clip(np.nan_to_num(moves[shown], nan=low), low, None)
    dead, known = found.dead[shown], np.isfinite(moves[shown])
    axes.plot(x[known], places[known], color=MUTED, lw=0.8, zorder=1)
    axes.scatter(np.clip(r.layer_floor[shown], low, None), places, marker="|", s=28, color=MUTED, lw=1)
    fresh = r.layer_fresh[shown]
    if np.isfinite(fresh).any() and source is None:
        axes.scatter(
            np.clip(fresh, low, None), places, s=34, facecolors="none", edgecolors=PALETTE[2], zorder=2
        )
    axes.scatter(x[known & ~dead], places[known & ~dead], s=22, color=ACCENT, zorder=3)
    axes.scatter(x[dead], places[dead], s=36, marker="X", color=SECOND, zorder=3, clip_on=False)
    axes.set_xscale("log")
    axes.set_xlim(low, 2)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(places, [_short(r.layer_name[i], r.layer_call[i]) for i in shown])
    axes.tick_params(axis="y", length=0, pad=8, labelsize=min(9.0, 240 / max(len(shown), 1)))
    for label, i in zip(axes.get_yticklabels(), shown, strict=True):
        if found.dies[i] and not any(found.dies[j] for j in found.inside[i]):
            label.set_color(SECOND)
            label.set_fontweight("bold")
        elif not found.known[i]:
            label.set_color(MUTED)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("movement of the output  (0 constant, 1 unrelated; log scale)")
    more = f"; {left_out} of {left_out + len(shown)} calls not shown" if left_out else ""
    axes.set_title(f"Swapping {cut(swapped, 20)}{more}")
    _legend(figure, bool(np.isfinite(fresh).any()) and source is None)


def sources(r: VariationResult, figure: Figure | SubFigure, *, limit: float = LIMIT) -> None:
    """Draws how far the output moves with each input alone, beside what it moves by for no reason.

    Args:
        r: The result.
        figure: Where to draw.
        limit: Movement below which the output counts as dead; the shaded zone.
    """
    listens = np.maximum(r.source_variation, r.source_typical)
    bars: list[tuple[str, float, str, str]] = [("all inputs together", r.output_movement(), ACCENT, "")]
    for name, role, moved, why in zip(r.source_name, r.source_role, listens, r.source_reason, strict=True):
        bars.append((f"{name} ({role})" if role != "input" else name, float(moved), ACCENT, why))
    bars.append(("another seed", r.output_noise, MUTED, ""))
    bars.append(("same seed again", r.output_repeat, MUTED, ""))
    bars.append(("rounding", max(r.output_floor, r.output_typical_floor), MUTED, ""))
    axes = figure.add_subplot()
    low = _left_edge(np.array([value for _, value, _, _ in bars] + [limit]))
    axes.axvspan(low, limit, color=SHADE, lw=0, zorder=0)
    for place, (_, value, colour, why) in enumerate(bars):
        if why or not np.isfinite(value):
            axes.text(
                low * 1.3,
                place,
                f"not swapped: {cut(why, 60)}" if why else "not finite",
                va="center",
                color=MUTED,
                fontsize=8,
            )
            continue
        shade = SECOND if colour == ACCENT and value <= limit else colour
        axes.barh(place, max(value, low) - low, left=low, height=0.62, color=shade, zorder=2)
        text = "0" if value == 0 else f"{value:.2g}"
        axes.text(1.02, place, text, va="center", color=INK, fontsize=9, transform=axes.get_yaxis_transform())
    own = [(place + 1, each) for place, each in enumerate(r.source_own) if np.isfinite(each) and each > 0]
    if own:
        axes.scatter(
            [v for _, v in own],
            [p for p, _ in own],
            marker="D",
            s=30,
            facecolors="white",
            edgecolors=INK,
            zorder=4,
            label="variation of the input itself",
        )
    if np.isfinite(r.target_variation) and r.target_variation > 0:
        axes.axvline(
            r.target_variation,
            color=PALETTE[2],
            lw=1.4,
            ls="--",
            zorder=3,
            label=f"variation of {r.target_name}",
        )
    axes.set_xscale("log")
    axes.set_xlim(low, 2)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [cut(label, NAME) for label, *_ in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("movement of the output  (0 constant, 1 unrelated; log scale)")
    axes.set_title(f"Which input does {r.output_name} listen to?")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2)


def distances(r: VariationResult, figure: Figure | SubFigure, *, metric: str = "variation") -> None:
    """Draws how far apart the outputs of any two samples are.

    Args:
        r: The result.
        figure: Where to draw.
        metric: ``variation``, the distance over ``sqrt(2 E‖f‖²)``, or ``cosine``, 1 − cosine of the angle.
    """
    matrix = r.output_distance if metric == "variation" else r.output_cosine
    axes = figure.add_subplot()
    top = float(matrix.max()) if matrix.max() > LIMIT else 1.0
    image = axes.imshow(matrix, cmap=SEQUENTIAL, vmin=0, vmax=top)
    label = {
        "variation": "distance (0 same, 1 unrelated)",
        "cosine": "1 − cosine (0 alike, 1 unrelated, 2 opposed)",
    }
    figure.colorbar(image, ax=axes, label=label[metric], shrink=0.9)
    step = max(1, len(matrix) // 8)
    axes.set_xticks(range(0, len(matrix), step))
    axes.set_yticks(range(0, len(matrix), step))
    axes.set_xlabel("sample")
    axes.set_ylabel("sample")
    axes.set_title(f"Distances between outputs; effective rank {r.output_rank:.3g}")


def _chosen(
    names: tuple[str, ...], inside: tuple[tuple[int, ...], ...], dies: np.ndarray, part: str
) -> tuple[np.ndarray, int]:
    """The calls to show, and how many are left out: as deep as fits, then every n-th; what dies always stays."""
    root = len(names) - 1 if part == WHOLE else names.index(part)
    levels: dict[int, int] = {}
    waiting = [(root, 0)]
    while waiting:
        call, level = waiting.pop()
        levels[call] = level
        waiting += [(each, level + 1) for each in inside[call]]
    calls = sorted(levels)
    deep = max(levels.values())
    while deep > 1 and sum(level <= deep for level in levels.values()) > ROWS:
        deep -= 1
    fit = [call for call in calls if levels[call] <= deep]
    step = -(-len(fit) // ROWS)
    kept = {*fit[::-1][::step], *[call for call in calls if dies[call]][:ROWS]}
    return np.array(sorted(kept)), len(calls) - len(kept)


def _left_edge(values: np.ndarray) -> float:
    """Where a logarithmic axis starts: a decade below the least value above zero, within reason."""
    least = min((float(v) for v in values if np.isfinite(v) and v > 0), default=1e-8)
    return float(max(10 ** np.floor(np.log10(least) - 0.5), 1e-10))


def _short(name: str, call: int) -> str:
    return cut(name, NAME - 3) + (f" #{call + 1}" if call else "")


def _legend(figure: Figure | SubFigure, fresh: bool) -> None:
    marks = [
        ("o", ACCENT, ACCENT, "moves"),
        ("X", SECOND, SECOND, "stands still"),
        ("|", MUTED, MUTED, "rounding floor"),
    ]
    if fresh:
        marks.append(("o", "none", PALETTE[2], "at init"))
    handles: list[Artist] = [
        Line2D([], [], ls="", marker=shape, markerfacecolor=face, markeredgecolor=edge, label=label)
        for shape, face, edge, label in marks
    ]
    handles.append(Patch(facecolor=SHADE, label="counts as constant"))
    # under the whole figure, which is wider than the axes beside their long names
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.2, columnspacing=1.2
    )
