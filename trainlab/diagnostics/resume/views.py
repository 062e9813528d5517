"""The pictures of `resume`: the checklist of parts, the two runs, the pieces of the live run, the settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from trainlab.diagnostics.resume.result import ResumeResult
from trainlab.diagnostics.resume.rules import ResumeLimits, inconsistent
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND, SHADE

__all__ = ["losses", "parts", "pieces", "settings"]

GOOD = "#00734d"
BAD = "#b02a00"
DOUBT = "#8f5a00"
STRIPE = "#f6f8fa"
ROWS = 26  # settings that can be read below one another
SAME_FLOOR = 0.3  # decades below the smallest difference at which equal steps are drawn


class Cell(NamedTuple):
    """A word in a table."""

    text: str
    colour: str = INK
    bold: bool = False


def parts(r: ResumeResult, figure: Figure | SubFigure, *, absent: bool = True) -> None:
    """Draws the checklist: which part of a run the file holds, lacks, or contradicts.

    Args:
        r: The result.
        figure: Where to draw.
        absent: Show parts too that nothing says the run needs.
    """
    odd = inconsistent(r, ResumeLimits())
    rows = []
    for name, status, where, detail in zip(
        r.part_name, r.part_status, r.part_where, r.part_detail, strict=True
    ):
        if status == "absent" and not absent:
            continue
        word, colour = {
            "present": ("✓  present", GOOD),
            "missing": ("✗  missing", BAD),
            "absent": ("–  not there", MUTED),
        }[status]
        if name in odd and status == "present":
            word, colour = "!  inconsistent", DOUBT
        told = " · ".join(filter(None, (where, detail)))
        strong = colour in (BAD, DOUBT)
        ink = MUTED if status == "absent" else INK
        rows.append([Cell(name, ink, strong), Cell(word, colour, strong), Cell(told, ink)])
    missing = r.part_status.count("missing")
    title = (
        f"{missing} of {len(r.part_name)} parts missing" if missing else "Nothing that is needed is missing"
    )
    if odd:
        title += f"; {' and '.join(sorted(odd))} inconsistent"
    _table(figure, title, ("part", "in the file", "where"), (0.0, 0.19, 0.38), rows)


def losses(r: ResumeResult, figure: Figure | SubFigure, *, logarithmic: bool = False) -> None:
    """Draws the losses of the uninterrupted and of the resumed run, and how far they are apart.

    Args:
        r: The result.
        figure: Where to draw.
        logarithmic: Draw the losses on a logarithmic scale.
    """
    if r.replay_reason:
        raise NotApplicable(r.replay_reason)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    steps = np.arange(1, len(r.step_uninterrupted) + 1)
    parted = r.first_difference()
    above.plot(
        steps, r.step_uninterrupted, color=ACCENT, marker="o", ms=7, lw=2.4, alpha=0.85, label="goes on"
    )
    above.plot(
        steps,
        r.step_resumed,
        color=SECOND,
        marker="o",
        ms=3.5,
        lw=1.2,
        ls=(0, (4, 2)),
        label="saved and loaded",
    )
    if logarithmic and min(r.step_uninterrupted.min(), r.step_resumed.min()) > 0:
        above.set_yscale("log")
    above.set_ylabel("loss")
    above.grid(axis="y")
    above.set_title(_verdict(r))
    _difference(below, steps, np.abs(r.step_uninterrupted - r.step_resumed), parted)
    if parted is not None:
        above.margins(y=0.22)
        for axes in (above, below):
            axes.axvspan(parted - 0.5, len(steps) + 0.5, color=SHADE, alpha=0.45, lw=0, zorder=0)
        above.text(
            parted - 0.42, 0.97, "from here on another run", transform=above.get_xaxis_transform(), va="top", fontsize=8.5, color=BAD,
        )  # fmt: skip
    below.set_xlim(0.5, len(steps) + 0.5)
    below.set_xlabel("steps after the save")
    lines = above.get_lines()[:2]
    below.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.5), ncols=2)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))


def pieces(r: ResumeResult, figure: Figure | SubFigure, *, same: bool = True) -> None:
    """Draws the pieces of the live run: which differ after loading, at the end, and which are to blame.

    Args:
        r: The result.
        figure: Where to draw.
        same: Show the pieces too that are the same.
    """
    if r.replay_reason:
        raise NotApplicable(r.replay_reason)
    blamed = r.culprits()
    look = {"same": ("✓  same", GOOD), "differs": ("✗  differs", BAD), "hidden": ("–  not comparable", MUTED)}
    rows = []
    for name, where, loaded, ended in zip(
        r.piece_name, r.piece_where, r.piece_loaded, r.piece_ended, strict=True
    ):
        guilty = name in blamed
        if loaded == ended == "same" and not same:
            continue
        rows.append(
            [
                Cell(name, INK, guilty),
                Cell(*look[loaded]),
                Cell(*look[ended]),
                Cell("◀ culprit" if guilty else "", BAD, bold=True),
                Cell(where, MUTED),
            ]
        )
    if not rows:
        raise NotApplicable("all pieces are the same, after loading and at the end")
    heads = ("piece", "after loading", "at the end", "", "in the state")
    _table(figure, _verdict(r), heads, (0.0, 0.16, 0.36, 0.55, 0.68), rows)


def settings(r: ResumeResult, figure: Figure | SubFigure, *, harmless: bool = True) -> None:
    """Draws the settings that differ between the stored config and the one in use.

    Args:
        r: The result.
        figure: Where to draw.
        harmless: Show paths, names and intervals too.
    """
    if not r.config_given:
        raise NotApplicable(r.config_reason)
    columns = zip(r.setting_name, r.setting_stored, r.setting_now, r.setting_effect, strict=True)
    chosen = [row for row in columns if harmless or row[3] != "harmless"]
    if not chosen:
        raise NotApplicable(f"{r.setting_same} settings are the same, and none that matters differs")
    look = {
        "breaks": ("✗  breaks", BAD),
        "unknown": ("?  may matter", DOUBT),
        "harmless": ("–  harmless", MUTED),
    }
    rows = []
    for name, stored, now, effect in chosen[:ROWS]:
        ink = MUTED if effect == "harmless" else INK
        strong = effect == "breaks"
        rows.append([Cell(name, ink, strong), Cell(stored, ink), Cell(now, ink, strong), Cell(*look[effect])])
    left_out = f"; {len(chosen) - ROWS} more not shown" if len(chosen) > ROWS else ""
    breaking = r.setting_effect.count("breaks")
    title = f"{breaking} settings break continuation, {r.setting_same} are the same{left_out}"
    heads = ("setting", "stored", "in use", "continuation")
    _table(figure, title, heads, (0.0, 0.28, 0.53, 0.80), rows)


def _verdict(r: ResumeResult) -> str:
    steps, parted = len(r.step_uninterrupted), r.first_difference()
    if not r.replay_repeatable:
        return "The run is not repeatable"
    if r.replay_disturbed:
        return "Saving changes the run"
    if r.replay_equal:
        return f"{steps} steps equal bit by bit"
    blamed = ", ".join(r.culprits()) or "something outside the state"
    return f"Not restored: {blamed}" + ("" if parted else " (the losses never tell)")


def _difference(axes: Axes, steps: np.ndarray, apart: np.ndarray, parted: int | None) -> None:
    """Stems on a logarithmic scale; a zero has no logarithm and sits on the floor as an open ring."""
    positive = apart[np.isfinite(apart) & (apart > 0)]
    axes.set_ylabel("|difference|")
    if not len(positive):
        axes.set_ylim(-1, 1)
        axes.set_yticks([0], ["0"])
        axes.scatter(
            steps, np.zeros(len(steps)), s=26, facecolors="none", edgecolors=PALETTE[2], linewidths=1.4
        )
        return
    low, high = np.log10(positive.min()), np.log10(positive.max())
    floor = 10 ** (np.floor(low - SAME_FLOOR) - 0.2)
    axes.set_yscale("log")
    axes.set_ylim(floor * 0.5, 10 ** (high + 0.6))
    differs = np.isfinite(apart) & (apart > 0)
    axes.vlines(steps[differs], floor, apart[differs], color=SECOND, lw=1.6)
    axes.scatter(steps[differs], apart[differs], s=22, color=SECOND, zorder=3)
    axes.scatter(steps[apart == 0], np.full((apart == 0).sum(), floor), s=26, facecolors="none", edgecolors=PALETTE[2], linewidths=1.4, clip_on=False, zorder=3)  # fmt: skip
    axes.grid(axis="y")
    if parted is not None and parted > 1:
        axes.text(parted / 2, floor * 2.2, "equal", color=PALETTE[2], fontsize=8.5, ha="center", va="bottom")


def _table(
    figure: Figure | SubFigure,
    title: str,
    heads: Sequence[str],
    places: Sequence[float],
    rows: Sequence[Sequence[Cell]],
) -> None:
    """Writes a table whose columns start at the given shares of the width; long words are cut to fit."""
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) - 0.4, -1.6)
    axes.set_title(title)
    width = figure.bbox.width / figure.get_dpi() * 72  # points
    size = min(9.5, 190 / (len(rows) + 2), max(6.5, width / 58))
    room = [(end - start) * width / (0.60 * size) for start, end in pairwise([*places, 1.0])]
    for head, place in zip(heads, places, strict=True):
        axes.text(place + 0.004, -0.9, head, color=MUTED, fontsize=size * 0.9, va="center")
    axes.axhline(-0.5, color=MUTED, lw=0.8)
    for index, row in enumerate(rows):
        if row[0].bold or index % 2:
            colour = SHADE if row[0].bold else STRIPE
            axes.axhspan(index - 0.5, index + 0.5, color=colour, alpha=0.6, lw=0, zorder=0)
        for cell, place, letters in zip(row, places, room, strict=True):
            fits = int(letters * (0.86 if cell.bold else 1))
            text = cell.text if len(cell.text) <= fits else f"{cell.text[: max(fits - 1, 1)]}…"
            axes.text(
                place + 0.004, index, text, color=cell.colour, fontsize=size, va="center",
                fontweight="bold" if cell.bold else "normal",
            )  # fmt: skip
