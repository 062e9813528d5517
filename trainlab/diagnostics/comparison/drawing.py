"""How runs look in every picture of `comparison`: colours, names and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.errors import UsageError, did_you_mean
from trainlab.figure import ACCENT, INK, PALETTE, SECOND, cut

__all__ = [
    "FAINT",
    "NAME",
    "NOBODY",
    "duration",
    "figures",
    "look",
    "name_rows",
    "number_of",
    "row_font",
    "write_beside",
]

NOBODY = "none"
MANY = 10  # runs that can be told apart by colour and dash; of more, only some stand out
FAINT = "#aab4be"
NAME = 30  # characters
DASHES = ("-", "--", ":", "-.")


def look(r: ComparisonResult, run: int, highlight: str = NOBODY) -> dict[str, Any]:
    """Colour, dash, width and order of a run's line.

    Up to ten runs each have their own, repeats of one colour; of more, or where one is highlighted, the best and that
    one stand out.
    """
    if highlight not in (NOBODY, *r.run_name):
        raise UsageError(f"there is no run {highlight!r}", fix=did_you_mean(highlight, r.run_name))
    if r.run_name[run] == highlight:
        return {"color": SECOND, "lw": 2.2, "zorder": 5, "ls": "-"}
    if len(r.run_name) <= MANY and highlight == NOBODY:
        repeats = [i for i, group in enumerate(r.run_group) if group == r.run_group[run]]
        kinds = list(
            dict.fromkeys(r.run_group.tolist())
        )  # in the order of the runs, so that a ranking changes no colour
        colour = kinds.index(int(r.run_group[run]))
        dash = repeats.index(run) + colour // len(PALETTE)
        heavy = {"lw": 2.2, "zorder": 5} if run == r.best_run else {"lw": 1.5, "zorder": 3}
        return {"color": PALETTE[colour % len(PALETTE)], "ls": DASHES[dash % len(DASHES)], **heavy}
    if run == r.best_run:
        return {"color": ACCENT, "lw": 2.2, "zorder": 4, "ls": "-"}
    if run == r.reference:
        return {"color": PALETTE[-1], "lw": 1.6, "zorder": 4, "ls": "--"}
    return {"color": FAINT, "lw": 0.9, "zorder": 2, "ls": "-"}


def figures(values: np.ndarray) -> int:
    """How many decimals tell these values apart: four significant digits of their spread, two to six in all."""
    known = values[np.isfinite(values)]
    spread = float(np.ptp(known)) if len(known) > 1 else 0.0
    size = float(np.abs(known).max()) if len(known) else 1.0
    least = 3 - int(np.floor(np.log10(size))) if size > 0 else 0
    wanted = 1 - int(np.floor(np.log10(spread))) if spread > 0 else 0
    return int(np.clip(max(least, wanted), 0, 6))


def number_of(value: float, decimals: int) -> str:
    """The value with so many decimals, more where it is small, a short word where it is not finite."""
    if not np.isfinite(value):
        return "nan" if np.isnan(value) else "inf" if value > 0 else "-inf"
    if 0 < abs(value) < 10.0 ** (2 - decimals):  # beside much larger ones
        return f"{value:.4g}"
    return f"{value:,.{decimals}f}"


def name_rows(axes: Axes, names: list[str]) -> None:
    """Names the rows 0, 1 … from the top, in letters that fit."""
    wide = int(axes.figure.bbox.width / axes.figure.dpi * 4)
    axes.set_yticks(range(len(names)), [cut(name, max(9, min(NAME, wide))) for name in names])
    axes.tick_params(axis="y", length=0, labelsize=row_font(axes, len(names)))
    axes.set_ylim(len(names) - 0.5, -0.5)


def row_font(axes: Axes, count: int) -> float:
    """The size of letters, in points, with which so many rows fit."""
    height = axes.figure.bbox.height / axes.figure.dpi * 72 * 0.75
    return float(np.clip(0.75 * height / max(count, 1), 3.5, 9.5))


def write_beside(axes: Axes, row: int, text: str, *, letter: str = "", colour: str = INK) -> None:
    """Writes to the right of a row that `name_rows` named: a letter in bold, and the text behind it."""
    size = min(row_font(axes, len(axes.get_yticks())), 8.5)
    place: dict[str, Any] = {
        "xycoords": axes.get_yaxis_transform(),
        "textcoords": "offset points",
        "va": "center",
        "fontsize": size,
    }
    if letter:
        axes.annotate(letter, (1.01, row), xytext=(2, 0), fontweight="bold", color=colour, **place)
    axes.annotate(text, (1.01, row), xytext=(2.2 * size if letter else 2, 0), **place)


def duration(seconds: float) -> str:
    """e.g. ``1:02 h``, ``2:03 min`` or ``4.2 s``; a dash where it is not known."""
    if not np.isfinite(seconds):
        return "–"
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"
    return f"{int(seconds // 60)}:{int(seconds % 60):02d} min" if seconds >= 60 else f"{seconds:.3g} s"
