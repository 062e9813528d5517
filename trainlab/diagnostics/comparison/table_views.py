"""Two pictures of `comparison`: how fast each run was, and what was varied."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trainlab.diagnostics.comparison.drawing import duration, figures, name_rows, number_of, write_beside
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, SECOND, SEQUENTIAL, cut

__all__ = ["settings", "throughput", "throughput_knobs"]

ROWS = 40
COLUMNS = 12  # settings side by side


def throughput_knobs(r: ComparisonResult) -> dict[str, object]:
    """Whether samples are counted, where batch sizes are told."""
    return {"samples": False} if np.isfinite(r.run_batch).any() else {}


def throughput(r: ComparisonResult, figure: Figure | SubFigure, *, samples: bool = False) -> None:
    """Draws the speed of each run without pauses (the whole bar) and with them (its dark part).

    Args:
        r: The result.
        figure: Where to draw.
        samples: Samples per second instead of steps per second.
    """
    training = r.samples_per_s(training=True) if samples else r.run_speed_training
    whole = r.samples_per_s() if samples else r.run_speed
    shown = [i for i in r.order if np.isfinite(training[i])]
    if not shown:
        raise NotApplicable(
            "no log tells the time" if not samples else "no log tells both time and batch size"
        )
    shown = shown[:ROWS]
    axes = figure.add_subplot()
    rows = np.arange(len(shown))
    name_rows(axes, [r.run_name[i] for i in shown])
    axes.barh(rows, training[shown], height=0.62, color="#c3d9ea", zorder=2)
    axes.barh(rows, whole[shown], height=0.62, color=ACCENT, zorder=3)
    median = float(np.median(training[shown]))
    axes.axvline(median, color=SECOND, lw=1.2, ls="--", zorder=4)
    unit = "samples/s" if samples else f"{r.unit}s/s"
    for row, run in enumerate(shown):
        words = f"{float(whole[run]):.4g}"
        if r.run_pauses[run]:
            words += f" · {float(training[run]):.4g}  ({r.run_pauses[run]} pause{'s' if r.run_pauses[run] > 1 else ''}, {duration(float(r.run_pause_seconds[run]))})"
        if np.isfinite(r.run_wall[run]):
            words += f"  {duration(float(r.run_wall[run]))}"
        write_beside(axes, row, words)
    axes.set_xlim(0, float(np.max(training[shown])) * 1.03)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(unit)
    handles = [
        Patch(color=ACCENT, label="all time"),
        Patch(color="#c3d9ea", label="without pauses"),
        Line2D([], [], color=SECOND, lw=1.2, ls="--", label="median"),
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.4, columnspacing=1.5
    )
    silent = len(r.run_name) - len([i for i in r.order if np.isfinite(training[i])])
    if silent:
        axes.set_title(f"{silent} tell no time", loc="right", fontsize=9, fontweight="normal", color=MUTED)


def settings(r: ComparisonResult, figure: Figure | SubFigure, *, everything: bool = False) -> None:
    """Draws what was varied: a row for each run, the best first, a column for each setting, beside the value at the step.

    Args:
        r: The result.
        figure: Where to draw.
        everything: Show what trains nothing too: names, folders, dates.
    """
    matrix = r.matrix() if everything else r.matrix("setting", "seed")
    if not matrix:
        raise NotApplicable("the logs tell no setting that differs between runs")
    names, shown = list(matrix)[:COLUMNS], r.order[:ROWS]
    axes = figure.add_subplot()
    value = r.run_value[shown]
    shades = np.column_stack([*(_shades([matrix[name][i] for i in shown]) for name in names), _rank(value)])
    colours = mpl.colormaps[SEQUENTIAL]
    known = np.isfinite(shades)
    cells = np.where(known[..., None], colours(0.15 + 0.85 * np.nan_to_num(shades)), [0.97, 0.97, 0.97, 1.0])
    cells[..., :3] = 1 - 0.45 * (1 - cells[..., :3])  # pale, so that dark letters can be read
    axes.imshow(cells, aspect="auto", interpolation="nearest")
    decimals = figures(value)
    inches = axes.figure.bbox.width / axes.figure.dpi * 0.75 / (len(names) + 1)
    letters = max(5, int(inches * 13))
    size = float(np.clip(axes.figure.bbox.height / axes.figure.dpi * 72 * 0.55 / len(shown), 4.5, 9))
    for row, run in enumerate(shown):
        texts = [matrix[name][run] or "–" for name in names]
        last = number_of(float(r.run_value[run]), decimals) if r.reaches()[run] else "not reached"
        for column, text in enumerate([*texts, last]):
            bold = "bold" if column == len(names) else "normal"
            axes.text(
                column,
                row,
                cut(text, letters),
                ha="center",
                va="center",
                fontsize=size,
                color=INK,
                fontweight=bold,
                clip_on=True,
            )
    axes.axvline(len(names) - 0.5, color="white", lw=4)
    name_rows(axes, [r.run_name[i] for i in shown])
    titles = [cut(name.rsplit(".", 1)[-1] if len(name) > letters else name, letters + 2) for name in names]
    axes.set_xticks(range(len(names) + 1), [*titles, cut(r.metric, letters + 2)])
    axes.tick_params(axis="x", length=0, labelsize=8.5, labelrotation=0 if len(names) <= 7 else 30)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    left_out = [f"{len(matrix) - len(names)} more settings" if len(matrix) > len(names) else "",
                f"{len(r.order) - len(shown)} more runs" if len(r.order) > len(shown) else ""]  # fmt: skip
    said = (
        f"{len(matrix)} setting{'s differ' if len(matrix) > 1 else ' differs'}; one colour, one value"
        + "".join(f"; not shown: {each}" for each in left_out if each)
    )
    axes.set_xlabel(said, color=MUTED, fontsize=9)


def _shades(texts: list[str]) -> np.ndarray:
    """(row) float64 from 0 to 1 for each value, by size where all are numbers; NaN where nothing is told."""
    values = sorted({text for text in texts if text}, key=_sorting)
    if not values:
        return np.full(len(texts), np.nan)
    places = {text: place / max(len(values) - 1, 1) for place, text in enumerate(values)}
    return np.array([places.get(text, np.nan) for text in texts])


def _sorting(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), ""
    except ValueError:
        return True, 0.0, text


def _rank(value: np.ndarray) -> np.ndarray:
    """Rows are ranked already: the best is the darkest."""
    rank = np.arange(len(value)) / max(len(value) - 1, 1)
    return np.where(np.isfinite(value), rank, np.nan)
