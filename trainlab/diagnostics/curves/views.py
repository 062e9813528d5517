"""Two pictures of `curves`: the losses with what the rules speak of, and the parts of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.marks import Mark, marks
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.rules_of_parts import components
from trainlab.diagnostics.curves.signals import smooth
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND, SHADE

__all__ = ["curves", "curves_knobs", "finish", "parts", "parts_knobs", "quantity"]

LOSS = "loss"
STEP, EPOCH, HOURS, POINT = "step", "epoch", "hours", "point"
COLOURS = (ACCENT, *PALETTE[2:6], MUTED)
MOST = 5  # components that are told apart
FEW = 60  # points that are shown one by one


def curves_knobs(r: CurvesResult) -> dict[str, object]:
    """Which series, along what, how smooth, and on which scale."""
    names = [LOSS, *(each.name for each in r.curves.values() if each.name not in (r.main, r.validation))]
    return {"show": names, "along": _axes(r), "smoothing": (0.0, 1.0, 0.05), "logarithmic": False}


def curves(
    r: CurvesResult,
    figure: Figure | SubFigure,
    *,
    show: str = LOSS,
    along: str = STEP,
    smoothing: float = 0.5,
    logarithmic: bool = False,
) -> None:
    """Draws the losses of training and validation, or another series; points that a rule speaks of carry its code.

    Args:
        r: The result.
        figure: Where to draw.
        show: ``loss``, or the name of a series.
        along: ``step``, ``epoch`` or ``hours``.
        smoothing: 0 draws the points alone, 1 a running median over a tenth of them.
        logarithmic: A logarithmic scale; values that are not above zero are left out.
    """
    shown = _shown(r, show)
    axes = figure.add_subplot()
    unit = _unit(r, along, shown)
    found = [mark for mark in marks(r) if mark.series in {each.name for each in shown}]
    for curve, colour in zip(shown, (ACCENT, SECOND, *COLOURS[1:]), strict=False):
        _line(axes, curve, quantity(curve, unit), colour, smoothing)
    if logarithmic and any((each.finite.value > 0).any() for each in shown):
        axes.set_yscale("log")
        plain(axes)
    elif not logarithmic:
        _frame(axes, shown)
    _stretches(axes, r, found, unit)
    _points(axes, r, found, unit)
    what = shown[0].name if len(shown) == 1 else "Losses"
    where = f", run {r.run + 1} of {r.runs}" if r.runs > 1 else ""
    axes.set_title(f"{what}: {r.place(0)}{where}")
    axes.set_ylabel(shown[0].role.replace("_", " ") if len(shown) == 1 else "loss")
    finish(axes, unit)
    axes.legend(loc="best")


def parts_knobs(r: CurvesResult) -> dict[str, object]:
    """Along what, and as shares or in their own units."""
    return {"along": _axes(r), "shares": True}


def parts(r: CurvesResult, figure: Figure | SubFigure, *, along: str = STEP, shares: bool = True) -> None:
    """Draws the parts of the training loss as shares of their sum, or each in its own unit on a logarithmic scale.

    Args:
        r: The result.
        figure: Where to draw.
        along: ``step``, ``epoch`` or ``hours``.
        shares: Stack them as shares of the sum of their magnitudes.
    """
    every = components(r)
    if len(every) < 2:
        every = [each for each in r.having("loss", part="level") if len(each.finite) >= 5]
    if len(every) < 2:
        raise NotApplicable("the log has fewer than two parts of a training loss")
    ranked = sorted(every, key=lambda each: -float(np.median(np.abs(each.finite.value))))
    axes = figure.add_subplot()
    unit = _unit(r, along, ranked)
    if shares:
        x = quantity(max(ranked, key=len), unit)
        grid = np.unique(x[np.isfinite(x)])
        heights = [
            np.abs(np.interp(grid, *_sorted(quantity(e.finite, unit), smooth(e.finite.value)), right=0.0))
            for e in ranked
        ]
        labels = [each.name for each in ranked]
        if len(ranked) > MOST:
            heights = [*heights[:MOST], np.sum(heights[MOST:], axis=0)]
            labels = [*labels[:MOST], f"{len(ranked) - MOST} others"]
        whole = np.maximum(np.sum(heights, axis=0), 1e-300)
        axes.stackplot(
            grid,
            *(100 * each / whole for each in heights),
            colors=COLOURS,
            alpha=0.85,
            lw=0,
            labels=labels,
        )
        axes.set_ylim(0, 100)
        axes.margins(x=0)
        axes.set_ylabel("share of their sum (%)")
    else:
        for curve, colour in zip(ranked, COLOURS, strict=False):
            _line(axes, curve, quantity(curve, unit), colour, 0.5)
        if all((each.finite.value > 0).any() for each in ranked):
            axes.set_yscale("log")
            plain(axes)
        axes.set_ylabel("loss")
    axes.set_title("Parts of the loss")
    finish(axes, unit)
    wide = figure.bbox.width > 6 * figure.dpi
    handles, labels = axes.get_legend_handles_labels()
    if wide:
        axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1))
    else:
        axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


# --- the axis along which a run is drawn


def _axes(r: CurvesResult) -> list[str]:
    known = {STEP: r.point_step, EPOCH: r.point_epoch, HOURS: r.point_time}
    return [name for name, column in known.items() if np.isfinite(column).any()] or [POINT]


def _unit(r: CurvesResult, wanted: str, shown: Sequence[Curve]) -> str:
    """What is wanted, where all that is shown has it; else the first that is there."""
    if wanted not in (STEP, EPOCH, HOURS, POINT):
        raise UsageError(f"a run is not drawn along {wanted!r}", fix=did_you_mean(wanted, _axes(r)))
    usable = [
        unit
        for unit in (wanted, STEP, EPOCH, HOURS)
        if all(np.isfinite(quantity(each, unit)).all() for each in shown)
    ]
    return usable[0] if usable else POINT


def quantity(curve: Curve, unit: str) -> np.ndarray:
    """Where the points of a curve stand, in a unit."""
    if unit == HOURS:
        return curve.time / 3600
    if unit == EPOCH:
        return curve.epoch
    if unit == STEP:
        return curve.x if curve.unit == STEP else np.full(len(curve), np.nan)
    return np.arange(1.0, len(curve) + 1)


def finish(axes: Axes, unit: str) -> None:
    """Labels the axis that the run goes along, and draws a quiet grid."""
    axes.set_xlabel({HOURS: "time (hours)"}.get(unit, unit))
    if unit in (STEP, POINT):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.locator_params(axis="x", nbins=7)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def plain(axes: Axes) -> None:
    """Writes a logarithmic scale as plain numbers, between the decades too where there are few."""
    low, high = axes.get_ylim()
    few = high / max(low, 1e-300) < 100
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


# --- what is drawn


def _shown(r: CurvesResult, show: str) -> list[Curve]:
    if show == LOSS:
        found = [r.curves[name] for name in (r.main, r.validation) if name]
        found = found or r.having("loss")[: len(COLOURS)]
        found = [each for each in found if len(each.finite)]
        if not found:
            raise NotApplicable("the log has no loss with a finite value")
        return found
    if show not in r.curves:
        raise UsageError(f"the log has no series {show!r}", fix=did_you_mean(show, [LOSS, *r.curves]))
    if not len(r.curves[show].finite):
        raise NotApplicable(f"{show} has no finite value")
    return [r.curves[show]]


def _line(axes: Axes, curve: Curve, x: np.ndarray, colour: str, smoothing: float) -> None:
    """The points faint, the band of a thinned curve fainter, a running median over both."""
    few = len(curve) <= FEW
    if few:
        axes.plot(x, curve.value, "o-", color=colour, ms=3.5, lw=1.4, label=curve.name)
        return
    if (curve.high > curve.low).any():
        axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
    if smoothing == 0:
        axes.plot(x, curve.value, color=colour, lw=1.0, label=curve.name)
        return
    axes.plot(x, curve.value, color=colour, lw=0.7, alpha=0.3)
    good = np.isfinite(curve.value)
    axes.plot(
        x[good],
        smooth(curve.value[good], max(3, int(smoothing * len(curve) / 10))),
        color=colour,
        lw=1.8,
        label=curve.name,
    )


def _frame(axes: Axes, shown: Sequence[Curve]) -> None:
    """Leaves out of the frame what would flatten all the rest: the highest 0.2 % where they are far above."""
    values = np.concatenate([each.finite.value for each in shown])
    low, most, high = float(values.min()), float(np.quantile(values, 0.998)), float(values.max())
    if high - low > 4 * (most - low) > 1e-6 * abs(low):
        axes.set_ylim(low - 0.05 * (most - low), low + 1.25 * (most - low))


def _stretches(axes: Axes, r: CurvesResult, found: Sequence[Mark], unit: str) -> None:
    for mark in found:
        if mark.until >= 0:
            x = quantity(r.curves[mark.series].finite, unit)
            axes.axvspan(x[mark.point], x[mark.until], color=SHADE, alpha=0.6, lw=0, zorder=0)
            axes.text(
                (x[mark.point] + x[mark.until]) / 2, 0.97, mark.code, color=INK, fontsize=9, fontweight="bold",
                ha="center", va="top", transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def _points(axes: Axes, r: CurvesResult, found: Sequence[Mark], unit: str) -> None:
    low, high = axes.get_ylim()
    for mark in found:
        if mark.until >= 0:
            continue
        curve = r.curves[mark.series].finite
        x, y = float(quantity(curve, unit)[mark.point]), float(curve.high[mark.point])
        inside = min(max(y, low), high)
        axes.plot(
            x,
            inside,
            "v" if inside == y else "^",
            color=INK,
            mec="white",
            mew=0.8,
            ms=8,
            zorder=5,
            clip_on=False,
        )
        above = inside < low + 0.9 * (high - low)
        text = mark.code if inside == y else f"{mark.code}: {y:.3g}"
        left, right = axes.get_xlim()
        late = x > left + 0.85 * (right - left)
        axes.annotate(
            text, (x, inside), xytext=(-6 if late else 6, 8 if above else -12), textcoords="offset points", color=INK,
            fontsize=9, fontweight="bold", ha="right" if late else "left", zorder=6,
        )  # fmt: skip


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x, kind="stable")
    return x[order], y[order]
