"""The pictures of `timesteps` that compare: checkpoints, bands, and what the model is told instead of the truth."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure, SubFigure

from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.views import length_knobs, level_axis, line_colours
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND

__all__ = ["change", "change_knobs", "share", "told"]


def change_knobs(r: TimestepsResult) -> dict[str, object]:
    """Which two checkpoints, and which length."""
    names = list(r.checkpoint_name)
    if len(names) < 2:
        return length_knobs(r)
    return {"before": ["the one before", *names], "after": ["last", *names]} | length_knobs(r)


def change(
    r: TimestepsResult,
    figure: Figure | SubFigure,
    *,
    before: str = "the one before",
    after: str = "last",
    length: str = "",
) -> None:
    """Draws what the loss at each level changed by between two checkpoints, with the 95 % interval of paired clips.

    Args:
        r: The result.
        figure: Where to draw.
        before: The earlier checkpoint.
        after: The later one.
        length: Of the clips; the first where left out.
    """
    names = list(r.checkpoint_name)
    if len(names) < 2:
        raise NotApplicable("there is one checkpoint only: ckpts= names several to compare")
    if len(r.levels()) < 2:
        raise NotApplicable("this loss has no noise levels")
    place = [str(each) for each in r.length].index(length) if length else 0
    second = len(names) - 1 if after == "last" else names.index(after)
    first = max(second - 1, 0) if before == "the one before" else names.index(before)
    apart, margin = r.change(first, second, place)
    base = r.grid("level_mean")[first, place]
    base = np.where(base > 0, base, np.nan)
    apart, margin, at = 100 * apart / base, 100 * margin / base, r.levels()
    sure = np.abs(apart) > margin
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, lw=0.8)
    kinds = (
        (sure & (apart < 0), PALETTE[2], "o", "better"),
        (sure & (apart > 0), SECOND, "s", "worse"),
        (~sure, MUTED, "D", "within chance"),
    )
    for which, colour, mark, label in kinds:
        if which.any():
            axes.errorbar(
                at[which],
                apart[which],
                margin[which],
                fmt=mark,
                color=colour,
                ms=6,
                lw=1.4,
                capsize=3,
                label=label,
            )
    level_axis(axes, r)
    axes.margins(y=0.12)
    axes.set_ylabel("change of the loss, %")
    axes.set_title(
        f"From {names[first]} to {names[second]}: {int((sure & (apart < 0)).sum())} of {len(at)} levels improve"
    )
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3)


def share(r: TimestepsResult, figure: Figure | SubFigure, *, length: str = "") -> None:
    """Draws how much of the weighted loss each band of levels makes.

    Args:
        r: The result.
        figure: Where to draw.
        length: Of the clips; the first where left out.
    """
    if len(r.levels()) < 2:
        raise NotApplicable("this loss has no noise levels")
    place = [str(each) for each in r.length].index(length) if length else 0
    shares, bands, at = 100 * r.band_share()[:, place], r.band_of(), r.levels()
    axes = figure.add_subplot()
    count = len(shares)
    width = 0.8 / count
    fair = 100 * np.bincount(bands) / len(bands)
    for number, (name, colour) in enumerate(zip(r.checkpoint_name, line_colours(count), strict=True)):
        x = np.arange(r.bands) + (number - (count - 1) / 2) * width
        bars = axes.bar(x, shares[number], width * 0.92, color=colour, label=name, zorder=2)
        if count <= 4:
            axes.bar_label(
                bars, [f"{each:.0f} %" for each in shares[number]], fontsize=8 if count > 2 else 9, padding=2
            )
    for band in range(r.bands):
        axes.plot(
            [band - 0.46, band + 0.46],
            [fair[band]] * 2,
            color=INK,
            lw=1.2,
            ls="--",
            zorder=3,
            label="equal shares" if band == 0 else None,
        )
    name = r.argument or "level"
    axes.set_xticks(
        range(r.bands),
        [f"{at[bands == band][0]:.3g} … {at[bands == band][-1]:.3g}" for band in range(r.bands)],
    )
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(f"{name}, from clean to noise")
    axes.set_ylabel("share of the loss, %")
    axes.set_ylim(0, max(float(np.nanmax(shares)) * 1.15, 40))
    axes.set_title("Which band of levels makes the loss?")
    figure.legend(loc="outside lower center", ncols=4)


def told(r: TimestepsResult, figure: Figure | SubFigure, *, by_level: bool = False) -> None:
    """Draws what the loss becomes when the model is told another level than the true one.

    Args:
        r: The result.
        figure: Where to draw.
        by_level: At every level, instead of on the whole with its 95 % interval.
    """
    if not r.told_name:
        raise NotApplicable("the model takes no level, or this is a log")
    axes = figure.add_subplot()
    name = r.argument or "level"
    if by_level:
        for row, colour in zip(range(len(r.told_name)), [*PALETTE, *PALETTE], strict=False):
            values = np.where(r.told_level[row] > 0, r.told_level[row], np.nan)
            axes.plot(r.levels(), values, "o-", ms=3, lw=1.5, color=colour, label=r.told_name[row])
        axes.axhline(1, color=INK, lw=0.9)
        axes.set_yscale("log")
        level_axis(axes, r)
        axes.set_ylabel("loss over that when told the truth")
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=3)
    else:
        rows = np.arange(len(r.told_name))
        low, high = (np.where(np.isfinite(each), each, r.told_ratio) for each in (r.told_low, r.told_high))
        for row in range(len(rows)):
            better = r.told_high[row] < 1
            colour = SECOND if better else ACCENT
            reach = [[r.told_ratio[row] - low[row]], [high[row] - r.told_ratio[row]]]
            axes.errorbar(
                r.told_ratio[row],
                row,
                xerr=reach,
                fmt="X" if better else "o",
                color=colour,
                ms=7,
                lw=1.6,
                capsize=3,
            )
            axes.text(
                1.02,
                row,
                f"×{r.told_ratio[row]:.3g}",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=9,
            )
        axes.axvline(1, color=INK, lw=0.9)
        axes.set_xscale("log")
        edges = [each for each in (*low, *high, 1.0) if np.isfinite(each) and each > 0]
        axes.set_xlim(min(edges) / 1.15, max(edges) * 1.15)
        axes.set_yticks(rows, list(r.told_name))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.xaxis.set_minor_formatter("{x:.3g}")
        axes.tick_params(axis="x", which="minor", labelsize=8)
        axes.set_xlabel("loss over that when told the truth   (left of 1: the model prefers this)")
    axes.set_title(f"What if the model is told another {name}?")
