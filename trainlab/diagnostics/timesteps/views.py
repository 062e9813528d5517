"""The pictures of `timesteps`: the loss by level, by frame and by both, and where it changes."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, SEQUENTIAL
from trainlab.student import student

__all__ = [
    "by_frame",
    "by_level",
    "cells",
    "checkpoint_knobs",
    "length_knobs",
    "level_axis",
    "level_knobs",
    "line_colours",
]

TRIVIAL = (
    ("zero", "answer 0", ":"),
    ("average", "answer the mean", "--"),
    ("ideal", "Gaussian denoiser", "-."),
)
WRITTEN = 16 * 20  # cells that have room for a number
ALL = "all levels"


def length_knobs(r: TimestepsResult) -> dict[str, object]:
    """Which length of clips."""
    return {"length": [str(each) for each in r.length]} if len(r.length) > 1 else {}


def level_knobs(r: TimestepsResult) -> dict[str, object]:
    """Weights and the scale of the loss, and which length."""
    return {"weighted": False, "relative": False, "logarithmic": True} | length_knobs(r)


def checkpoint_knobs(r: TimestepsResult) -> dict[str, object]:
    """What to show of which checkpoint and length."""
    return {"show": list(SHOWN), "checkpoint": ["last", *r.checkpoint_name[:-1]]} | length_knobs(r)


def by_level(
    r: TimestepsResult,
    figure: Figure | SubFigure,
    *,
    weighted: bool = False,
    relative: bool = False,
    logarithmic: bool = True,
    length: str = "",
) -> None:
    """Draws the loss at every level with its 95 % interval, beside what trivial answers lose.

    Args:
        r: The result.
        figure: Where to draw.
        weighted: Times what training weighs each level by.
        relative: Over what the trivial answer loses.
        logarithmic: On a logarithmic axis.
        length: Of the clips; the first where left out.
    """
    _needs_levels(r)
    place = _place(r, length)
    axes = figure.add_subplot()
    at, trivial = r.levels(), _row(r, "level_trivial", -1, place)
    scale = _factor(r, weighted)
    if relative:
        if not np.isfinite(trivial).any():
            raise NotApplicable("no trivial answer is known for this loss")
        scale = scale / trivial
    else:
        for name, label, style in TRIVIAL:
            values = _row(r, f"level_{name}", -1, place) * scale
            if np.isfinite(values).any():
                axes.plot(
                    at,
                    np.where(np.isfinite(values) & (values > 0), values, np.nan),
                    style,
                    color=MUTED,
                    lw=1.3,
                    label=label,
                )
    units = student(_row(r, "level_units", -1, place) - 1)
    for number, (name, colour) in enumerate(
        zip(r.checkpoint_name, line_colours(len(r.checkpoint_name)), strict=True)
    ):
        mean, margin = (_row(r, column, number, place) * scale for column in ("level_mean", "level_se"))
        margin = margin * units
        axes.fill_between(at, np.maximum(mean - margin, 1e-300), mean + margin, color=colour, alpha=0.2, lw=0)
        axes.plot(at, mean, "o-", color=colour, ms=3.5, lw=1.8, label=name)
    drawn = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    mine = np.concatenate([drawn[-len(at) * len(r.checkpoint_name) :], [np.nan]])
    if not np.isfinite(mine).any():
        raise NotApplicable("no loss is finite: see TIM001")
    top = float(drawn[np.isfinite(drawn)].max())
    if logarithmic and (mine > 0).any():
        low = float(mine[mine > 0].min())
        axes.set_yscale("log")
        axes.set_ylim(low / 2, min(top, low * 1e6) * 1.6)
    else:
        axes.set_ylim(0, max(1.08 * top, 1.1 if relative else 0.0))
    if relative:
        axes.axhline(1, color=INK, lw=0.8, ls=":")
    level_axis(axes, r)
    axes.set_ylabel(
        "loss over the trivial answer's" if relative else f"{'weighted ' if weighted else ''}loss, {_unit(r)}"
    )
    axes.set_title(_title(r, "Loss by level", place))
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=4)


def by_frame(r: TimestepsResult, figure: Figure | SubFigure, *, level: str = ALL, length: str = "") -> None:
    """Draws the loss of every frame or position with its 95 % interval.

    Args:
        r: The result.
        figure: Where to draw.
        level: At this level alone, as its knob names it; ``all levels``.
        length: Of the clips; the first where left out.
    """
    if r.frames < 2:
        raise NotApplicable("the loss has no frames or positions")
    place = _place(r, length)
    axes = figure.add_subplot()
    names = frame_knobs(r)["level"]
    assert isinstance(names, list)
    which = names.index(level) - 1 if level in names else -1
    frames = np.arange(r.frames)
    table = "frame" if which < 0 else "cell"
    units = float(student(r.level_units.max() - 1))

    def column(name: str, number: int) -> np.ndarray:
        grid = r.grid(f"{table}_{name}")[number, place]
        found: np.ndarray = grid if which < 0 else grid[which]
        return found

    for name, label, style in (("average", "answer the mean", "--"), ("copy", "copy the frame before", ":")):
        values = column(name, -1)
        if np.isfinite(values).any():
            axes.plot(
                frames, np.where(np.isfinite(values), values, np.nan), style, color=MUTED, lw=1.3, label=label
            )
    for number, (name, colour) in enumerate(
        zip(r.checkpoint_name, line_colours(len(r.checkpoint_name)), strict=True)
    ):
        mean, margin = column("mean", number), column("se", number) * units
        axes.fill_between(frames, mean - margin, mean + margin, color=colour, alpha=0.2, lw=0)
        axes.plot(frames, mean, "o-" if r.frames <= 64 else "-", color=colour, ms=3.5, lw=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("position" if r.objective == "lm" else "frame")
    axes.set_ylabel(f"loss, {_unit(r)}")
    axes.set_title(
        _title(r, "Loss by position" if r.objective == "lm" else "Loss by frame", place)
        + ("" if which < 0 else f", {level}")
    )
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=4)


def frame_knobs(r: TimestepsResult) -> dict[str, object]:
    """All levels or one of them."""
    names = [f"{r.argument or 'level'} {at:.3g}" for at in r.levels()] if len(r.levels()) > 1 else []
    return {"level": [ALL, *names]} | length_knobs(r)


SHOWN = {
    "loss": "loss, {unit}",
    "over the trivial answer": "loss over the trivial answer's",
    "weighted": "weighted loss, {unit}",
    "standard error": "standard error of the loss, {unit}",
    "count": "losses in the cell",
}


def cells(
    r: TimestepsResult,
    figure: Figure | SubFigure,
    *,
    show: str = "loss",
    checkpoint: str = "last",
    length: str = "",
) -> None:
    """Draws frame × level: one cell each, with how many losses went into it.

    Args:
        r: The result.
        figure: Where to draw.
        show: What the colour and the number are.
        checkpoint: Which; the last.
        length: Of the clips; the first where left out.
    """
    _needs_levels(r)
    place = _place(r, length)
    number = -1 if checkpoint == "last" else r.checkpoint_name.index(checkpoint)

    def column(name: str) -> np.ndarray:
        found: np.ndarray = r.grid(f"cell_{name}")[number, place]
        return found

    values = column(
        {"weighted": "weighted", "standard error": "se", "count": "count"}.get(show, "mean")
    ).astype(float)
    if show == "over the trivial answer":
        values = values / np.fmin(column("zero"), column("average"))
        if not np.isfinite(values).any():
            raise NotApplicable("no trivial answer is known for this loss")
    values = np.where(np.isfinite(values), values, np.nan).T[
        ::-1
    ]  # the first frame at the bottom, levels to the right
    shown = values[np.isfinite(values)]
    if not shown.size:
        raise NotApplicable("no cell holds a finite number")
    axes = figure.add_subplot()
    low, high = float(shown.min()), float(shown.max())
    wide = 0 < low * 20 < high
    norm = LogNorm(low, high) if wide else Normalize(0, high if high > 0 else 1)
    cmap = mpl.colormaps[SEQUENTIAL].with_extremes(bad="#dfe3e6")
    image = axes.imshow(values, aspect="auto", cmap=cmap, norm=norm)
    if values.size <= WRITTEN:
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if norm(value) < 0.6 else INK
                axes.text(x, y, _short(value), ha="center", va="center", fontsize=6.5, color=ink)
    at = r.levels()
    step = max(1, len(at) // 8)
    axes.set_xticks(range(0, len(at), step), [f"{each:.3g}" for each in at[::step]])
    rows = np.arange(r.frames)[:: max(1, r.frames // 16)]
    axes.set_yticks(r.frames - 1 - rows, [str(row) for row in rows])
    axes.set_xlabel(_level_label(r))
    axes.set_ylabel("frame")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=SHOWN[show].format(unit=_unit(r)), pad=0.02)
    count = column("count")
    least, most = int(count.min()), int(count.max())
    told = f"{most} losses a cell" if least == most else f"{least} … {most} losses a cell"
    axes.set_title(f"{_title(r, 'Frame × level', place)}; {told}")


def line_colours(count: int) -> list[str]:
    """A colour for each checkpoint: one alone in the accent, several from pale to dark in time."""
    if count == 1:
        return [ACCENT]
    shades = mpl.colormaps["Blues"](np.linspace(0.4, 1.0, count))
    return [mpl.colors.to_hex(each) for each in shades]


def level_axis(axes: Axes, r: TimestepsResult) -> None:
    """Labels the axis of levels, and which end is which."""
    axes.set_xlabel(_level_label(r))
    if r.schedule == "karras":
        axes.set_xscale("log")


def _level_label(r: TimestepsResult) -> str:
    name, at, noise = r.argument or "level", r.levels(), r.grid("level_noise")[0, 0]
    ends = ("clean", "noise") if (noise[-1] > noise[0]) == (at[-1] > at[0]) else ("noise", "clean")
    return f"{name}   ({at.min():.3g} {ends[0]} … {at.max():.3g} {ends[1]})"


def _row(r: TimestepsResult, name: str, checkpoint: int, place: int) -> np.ndarray:
    """One column for one checkpoint and length: (level)."""
    if name == "level_trivial":
        least: np.ndarray = r.trivial().reshape(len(r.checkpoint_name), len(r.length), -1)[checkpoint, place]
        return least
    found: np.ndarray = r.grid(name)[checkpoint, place].astype(np.float64)
    return found


def _factor(r: TimestepsResult, weighted: bool) -> np.ndarray:
    """(level) what the loss is multiplied by."""
    if not weighted:
        return np.ones(len(r.levels()))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = r.grid("level_weighted")[-1, 0] / r.grid("level_mean")[-1, 0]
    return np.where(np.isfinite(weight), weight, np.nan)


def _place(r: TimestepsResult, length: str) -> int:
    return [str(each) for each in r.length].index(length) if length else 0


def _unit(r: TimestepsResult) -> str:
    if r.objective == "lm":
        return "nats"
    return "as the loss gives it" if r.objective in ("own loss", "as trained") else "squared error"


def _title(r: TimestepsResult, text: str, place: int) -> str:
    return text + (f", clips of length {r.length[place]}" if len(r.length) > 1 else "")


def _needs_levels(r: TimestepsResult) -> None:
    if len(r.levels()) < 2:
        raise NotApplicable("this loss has no noise levels: see the view by frame")


def _short(number: float) -> str:
    """Two digits without what the eye does not need."""
    if number >= 100:
        return f"{number:.0f}"
    text = f"{number:.2g}"
    return text.removeprefix("0") if "e" not in text else f"{number:.0e}".replace("e-0", "e-")
