"""Three pictures of `comparison`: curves on one axis, the ranking with its noise, and best against last."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from trainlab.diagnostics.comparison.drawing import (
    FAINT,
    NAME,
    NOBODY,
    figures,
    look,
    name_rows,
    number_of,
    row_font,
    write_beside,
)
from trainlab.diagnostics.comparison.limits import NOISE_Z
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import ACCENT, MUTED, PALETTE, SECOND, cut

__all__ = ["best_last", "curves", "curves_knobs", "ranking"]

ROWS = 40  # of a list with names
LEGEND = 12  # names in a legend
NARROW = 7.0  # inches
POINTS = 80  # of a curve; more are smoothed over a fortieth of them


def curves_knobs(r: ComparisonResult) -> dict[str, object]:
    """What runs along the axis, which run stands out, smoothing, and whether the start of the curves is shown."""
    along = [
        name
        for name in ("step", "epoch", "time")
        if name == r.unit or np.isfinite(getattr(r, f"point_{name}")).any()
    ]
    return {"along": {r.unit: "", **{name: name for name in along if name != r.unit}}, "highlight": [NOBODY, *r.run_name],
            "smooth": True, "start": False, "logarithmic": False}  # fmt: skip


def curves(
    r: ComparisonResult,
    figure: Figure | SubFigure,
    *,
    along: str = "",
    highlight: str = NOBODY,
    smooth: bool = True,
    start: bool = False,
    logarithmic: bool = False,
) -> None:
    """Draws the metric of every run on one axis; a dot is a run's best point.

    Args:
        r: The result.
        figure: Where to draw.
        along: ``step``, ``epoch`` or ``time``; by default what the runs are ranked by.
        highlight: A run that stands out, all others but the best grey.
        smooth: Draw a running mean over a fortieth of a long curve, its points faint behind it.
        start: Show all values of the first quarter too, which often hide what follows.
        logarithmic: The metric on a logarithmic scale.
    """
    along = along or r.unit
    allowed = (r.unit, "step", "epoch", "time")
    if along not in allowed:
        raise UsageError(f"curves run along no {along!r}", fix=did_you_mean(along, allowed))
    x_all = r.point_step if along == r.unit else getattr(r, f"point_{along}")
    if not (np.isfinite(x_all) & np.isfinite(r.point_value)).any():
        raise NotApplicable(f"the logs tell no {along}")
    seconds, unit = _time_unit(x_all) if along == "time" else (1.0, along)
    axes = figure.add_subplot()
    seen, levels = [], []
    for run in reversed(r.order):
        mine = r.point_run == run
        x, y = x_all[mine] / seconds, r.point_value[mine]
        style = look(r, run, highlight)
        if not np.isfinite(x).any():
            continue
        window = len(y) // 40 if smooth and len(y) > POINTS else 1
        line = _running_mean(y, window)
        if window > 1 and style["color"] != FAINT:
            axes.plot(x, y, color=style["color"], lw=0.5, alpha=0.25, zorder=1)
        axes.plot(x, line, **style)
        if style["color"] != FAINT and along == r.unit and np.isfinite(r.run_best[run]):
            axes.plot(
                r.run_best_step[run],
                r.run_best[run],
                "o",
                ms=5,
                mec="white",
                mew=0.7,
                color=style["color"],
                zorder=6,
            )
        late = x >= np.nanmin(x) + 0.25 * (np.nanmax(x) - np.nanmin(x))
        seen.append(line[late & np.isfinite(line)])
        if len(seen[-1]):  # of a run that blew up, where it began
            levels.append(min(float(np.median(seen[-1])), float(line[np.isfinite(line)][0])))
    inside = np.concatenate(seen)
    dots = r.run_best[np.isfinite(r.run_best)]
    if not start and len(inside):
        low, high = min(inside.min(), dots.min(initial=np.inf)), max(inside.max(), dots.max(initial=-np.inf))
        if r.better == "lower" and len(dots):  # a run that blew up does not hide the others
            usual = dots.min() + 20 * max(float(np.median(inside)) - dots.min(), 1e-12)
            high = min(high, max(usual, max(levels) + 0.2 * abs(max(levels))))
        room = 0.05 * (high - low or abs(high) or 1)
        axes.set_ylim(max(low - room, low / 2) if logarithmic and low > 0 else low - room, high + room)
    if logarithmic and (inside > 0).all():
        axes.set_yscale("log")
    if along == r.unit:
        axes.axvline(r.at, color=MUTED, lw=1, ls=":", zorder=1)
        axes.annotate(f"ranked at {r.at:,g}", (r.at, 1), xycoords=("data", "axes fraction"), xytext=(-4, -2),
                      textcoords="offset points", ha="right", va="top", fontsize=8, color=MUTED)  # fmt: skip
    axes.grid(axis="y")
    axes.set_xlabel(f"time since the start, {unit}" if along == "time" else unit)
    axes.set_ylabel(f"{r.metric} ({r.better} is better)")
    if axes.get_xlim()[1] >= 1e4 and along != "time":
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _legend(axes, r, highlight)


def _legend(axes: Axes, r: ComparisonResult, highlight: str) -> None:
    """Names the runs in the order of the ranking; of many, those that stand out."""
    decimals = figures(r.run_value)
    styles = {run: look(r, run, highlight) for run in r.order}
    shown = [run for run in r.order if styles[run]["color"] != FAINT][:LEGEND]
    wide = max(10, int(axes.figure.bbox.width / axes.figure.dpi * 3.2))
    handles = [
        Line2D([], [], color=styles[run]["color"], ls=styles[run]["ls"], lw=styles[run]["lw"],
               label=f"{number_of(float(r.run_value[run]), decimals) if r.reaches()[run] else '–':>8}  {cut(r.run_name[run], min(wide, 30))}")
        for run in shown
    ]  # fmt: skip
    rest = len(r.order) - len(shown)
    if rest:
        handles.append(Line2D([], [], color=FAINT, lw=1, label=f"{rest} others"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, title=f"at {r.at:,g}", title_fontsize=8,
                alignment="left", handlelength=1.6, labelspacing=0.6)  # fmt: skip


def ranking(
    r: ComparisonResult, figure: Figure | SubFigure, *, noise_z: float = NOISE_Z, logarithmic: bool = False
) -> None:
    """Draws runs from the best to the worst: a dot for the value at the step, a bar for the level and its noise.

    Args:
        r: The result.
        figure: Where to draw.
        noise_z: Standard errors of the bars, and from which a gap counts; groups with one letter cannot be told apart.
        logarithmic: The metric on a logarithmic scale.
    """
    able = [g for g in range(len(r.group_name)) if np.isfinite(r.group_value[g])][:ROWS]
    lost = [i for i in range(len(r.run_name)) if not np.isfinite(r.run_value[i])]
    if not able:
        raise NotApplicable(f"no run has a value of {r.metric} at {r.unit} {r.at:g}")
    letters = r.ties(noise_z)
    decimals = figures(r.group_value[able])
    axes = figure.add_subplot()
    first = letters[able[0]]
    name_rows(axes, [_title(r, group) for group in able])
    size = min(6.0, 0.8 * row_font(axes, len(able)))
    for row, group in enumerate(able):
        colour = ACCENT if letters[group] == first else MUTED
        reach = noise_z * r.group_error[group] * r.widening(group)
        if np.isfinite(reach):
            axes.errorbar(
                r.group_level[group],
                row,
                xerr=reach,
                color=colour,
                lw=0,
                elinewidth=0.8 * size,
                alpha=0.3,
                zorder=2,
            )
            axes.plot([r.group_level[group]] * 2, [row - 0.22, row + 0.22], color=colour, lw=1.8, zorder=3)
        values = [r.run_value[i] for i in r.runs_of(group) if np.isfinite(r.run_value[i])]
        axes.plot(values, [row] * len(values), "o", ms=size, mfc=colour, mec="white", mew=0.8, zorder=4)
        gap = r.group_value[group] - r.group_value[able[0]]
        text = f"{number_of(float(r.group_value[group]), decimals)}" + (
            f"  {gap:+.{decimals}f}" if row else ""
        )
        write_beside(axes, row, text, letter=letters[group], colour=colour)
    if logarithmic and (r.group_value[able] > 0).all():
        axes.set_xscale("log")
    for row, label in enumerate(axes.get_yticklabels()):
        if r.baseline and r.run_group[r.reference] == able[row]:
            label.set_fontweight("bold")
    axes.margins(x=0.08)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{r.metric} at {r.unit} {r.at:,g} ({r.better} is better)")
    noise = "spread of repeats" if np.isfinite(r.seed_spread) else "noise of each curve"
    title = f"Dot: value · bar: level ± {noise_z:g} standard errors ({noise})"
    narrow = axes.figure.bbox.width < NARROW * axes.figure.dpi
    title += "\none letter: a tie" if narrow else " · one letter: a tie"
    more = len(r.group_name) - len(able) - sum(not np.isfinite(v) for v in r.group_value)
    notes = [f"not shown: {more} more"] if more else []
    notes += (
        [f"no value: {', '.join(cut(r.run_name[i], NAME) for i in lost[:2])}{' …' if len(lost) > 2 else ''}"]
        if lost
        else []
    )
    axes.set_title("\n".join([title, *notes]), fontsize=9, fontweight="normal", color=MUTED, loc="left", x=0)


def _title(r: ComparisonResult, group: int) -> str:
    count = int(r.group_runs[group])
    return r.group_name[group] + (f" ({count}×)" if count > 1 else "")


def best_last(r: ComparisonResult, figure: Figure | SubFigure) -> None:
    """Draws the best, the last and the tail of each run: how much is lost by taking the last checkpoint.

    Args:
        r: The result.
        figure: Where to draw.
    """
    able = [i for i in range(len(r.run_name)) if np.isfinite(r.run_best[i])]
    if not able:
        raise NotApplicable(f"no run has a finite value of {r.metric}")
    shown = sorted(able, key=lambda i: r.sign * r.run_best[i])[:ROWS]
    axes = figure.add_subplot()
    rows = np.arange(len(shown))
    name_rows(axes, [r.run_name[i] for i in shown])
    size = min(6.0, 0.8 * row_font(axes, len(shown)))
    best, last, mean, spread = (
        each[shown] for each in (r.run_best, r.run_last, r.run_tail_mean, r.run_tail_spread)
    )
    axes.hlines(rows, best, np.where(np.isfinite(last), last, best), color=FAINT, lw=1.5, zorder=1)
    axes.errorbar(
        mean,
        rows,
        xerr=np.nan_to_num(spread),
        color=PALETTE[5],
        lw=0,
        elinewidth=0.8 * size,
        alpha=0.55,
        zorder=2,
    )
    axes.plot(last, rows, "o", ms=size, mfc="white", mec=SECOND, mew=0.27 * size, zorder=3)
    axes.plot(best, rows, "D", ms=0.9 * size, color=ACCENT, mec="white", mew=0.7, zorder=4)
    decimals = figures(r.run_best[able])
    for row, run in enumerate(shown):
        words = f"{number_of(float(r.run_best[run]), decimals)} at {r.run_best_step[run]:,g}"
        if not np.isfinite(r.run_last[run]):
            words += f", ends in {number_of(float(r.run_last[run]), 0)}"
        elif r.run_best_step[run] != r.run_last_step[run]:
            words += f", last {number_of(float(r.run_last[run]), decimals)}"
        write_beside(axes, row, words)
    axes.margins(x=0.06)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{r.metric} ({r.better} is better)")
    handles = [
        Line2D([], [], color=ACCENT, marker="D", ms=5.5, lw=0, label="best"),
        Line2D([], [], mec=SECOND, mfc="white", mew=1.6, marker="o", ms=6, lw=0, label="last"),
        Line2D([], [], color=PALETTE[5], alpha=0.55, lw=5, label=f"mean ± spread of the last {r.tail:.0%}"),
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.2, columnspacing=1.5
    )


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each value and its neighbours that are finite; the window narrows towards both ends, which stay."""
    if window < 2:
        return values
    place = np.arange(len(values))
    half = np.minimum(np.minimum(place, place[::-1]), window // 2)
    good = np.isfinite(values)
    total, count = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(good, values, 0.0), good))
    many = count[place + half + 1] - count[place - half]
    mean: np.ndarray = (total[place + half + 1] - total[place - half]) / np.where(many > 0, many, np.nan)
    return np.where(good, mean, np.nan)


def _time_unit(seconds: np.ndarray) -> tuple[float, str]:
    longest = float(np.nanmax(seconds))
    return (3600.0, "hours") if longest > 7200 else (60.0, "minutes") if longest > 120 else (1.0, "seconds")
