"""Three pictures of `curves` about the run itself: its learning rate, its speed, and the lines that its log repeats."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.signals import level, smooth
from trainlab.diagnostics.curves.speed import speed
from trainlab.diagnostics.curves.views import finish, plain
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, MUTED, SECOND

__all__ = ["lines", "rate", "throughput"]

MOST = 12  # templates that are drawn
WIDE = 64  # characters of a template


def rate(r: CurvesResult, figure: Figure | SubFigure, *, logarithmic: bool = False) -> None:
    """Draws the learning rate, and the schedule that it follows.

    Args:
        r: The result.
        figure: Where to draw.
        logarithmic: A logarithmic scale.
    """
    found = r.rate
    if found is None:
        raise NotApplicable("the log has no learning rate")
    curve = r.curves[found.name].finite
    axes = figure.add_subplot()
    axes.plot(curve.x, curve.value, color=ACCENT, lw=2.4, label=found.name)
    if np.isfinite(found.shape).any():
        axes.plot(
            found.x,
            found.shape,
            color=SECOND,
            lw=1.2,
            ls=(0, (4, 3)),
            label=f"{found.kind}, off by {100 * found.error:.2f} % at most",
        )
    for i in found.jumps:
        axes.annotate(
            "CRV011",
            (curve.x[i], curve.value[i]),
            xytext=(4, 6),
            textcoords="offset points",
            color=SECOND,
            fontweight="bold",
            fontsize=9,
        )
    if logarithmic:
        axes.set_yscale("log")
        plain(axes)
    else:
        axes.set_ylim(0, 1.12 * found.peak)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_title(f"Learning rate: {found.kind}")
    axes.set_ylabel("learning rate")
    finish(axes, curve.unit)
    axes.legend(loc="best")


def throughput(r: CurvesResult, figure: Figure | SubFigure) -> None:
    """Draws the speed along the run, with its levels in the first and the last quarter.

    Args:
        r: The result.
        figure: Where to draw.
    """
    curve = speed(r)
    if curve is None:
        raise NotApplicable("the log tells no time for 20 points")
    axes = figure.add_subplot()
    axes.plot(curve.x, curve.value, color=ACCENT, lw=0.8, alpha=0.4)
    axes.plot(curve.x, smooth(curve.value), color=ACCENT, lw=1.8, label="running median")
    count = len(curve)
    begin = level(curve.value[count // 20 : max(count // 4, count // 20 + 3)])
    axes.axhline(begin, color=MUTED, lw=1, ls=(0, (4, 3)), label=f"first quarter: {begin:.4g}")
    drop = 1 - CurvesLimits().throughput_drop_max
    axes.axhline(begin * drop, color=SECOND, lw=1, ls=(0, (1, 2)), label=f"limit: {begin * drop:.4g}")
    axes.set_ylim(0, 1.15 * float(np.quantile(curve.value, 0.995)) or 1.0)
    axes.set_title(f"Speed: {curve.name}")
    axes.set_ylabel(curve.name)
    finish(axes, curve.unit)
    axes.legend(loc="lower left", ncols=3)


def lines(r: CurvesResult, figure: Figure | SubFigure) -> None:
    """Draws which lines the log repeats, and which of them hold points.

    Args:
        r: The result.
        figure: Where to draw.
    """
    if not r.lines:
        raise NotApplicable("only the lines of a text log are counted")
    count = min(MOST, len(r.template_text))
    part = r.template_lines[:count] / r.lines
    metric = r.template_metric[:count]
    axes = figure.add_subplot()
    places = np.arange(count)
    for which, colour, label in (
        (metric, ACCENT, "holds points"),
        (~metric, SECOND, "repeats, and holds none"),
    ):
        if which.any():
            axes.barh(places[which], part[which], color=colour, label=label, height=0.7)
    room = max(18, int(figure.bbox.width / figure.dpi * 7.5) - 6)
    names = [
        text or "(empty)" if len(text) <= min(WIDE, room) else f"{text[: min(WIDE, room) - 1]}…"
        for text in r.template_text[:count]
    ]
    axes.set_yticks(places, names, fontfamily="DejaVu Sans Mono", fontsize=7.5)
    for place, value, many in zip(places, part, r.template_lines[:count], strict=True):
        axes.text(float(value), float(place), f" {many:,}", va="center", fontsize=8.5)
    axes.set_xlim(0, min(1.0, 1.25 * float(part.max())))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the lines")
    axes.set_title(f"{r.lines:,} lines, {r.bytes / 1e6:.3g} MB: which repeat?")
    axes.legend(loc="lower right")
