"""Four pictures of `dtypes`: the run as a ribbon, its modules, the range of float16, and where it would crash."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trainlab.diagnostics.dtypes.forecast import LARGEST
from trainlab.diagnostics.dtypes.result import DtypesResult, short_place
from trainlab.diagnostics.dtypes.sites_tensors import upwards
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND, SHADE

__all__ = ["headroom", "modules", "part_knobs", "ribbon", "sites"]

WHOLE = "all"
COLOURS = {
    "float64": PALETTE[3],
    "float32": PALETTE[0],
    "bfloat16": PALETTE[4],
    "float16": PALETTE[1],
}
OTHER = "#c9d1d9"  # whole numbers and truth values
CAUSES = {
    "autocast": PALETTE[5],
    "explicit": PALETTE[2],
    "promotion": PALETTE[3],
    "parameter": PALETTE[1],
    "in place": INK,
}
ROWS = 40  # of the modules' table
LINE = 15  # points between two lines of text
LEVELS = 3  # of brackets
LETTER = 0.075  # inches: width of a letter of the size that is used here


def part_knobs(r: DtypesResult) -> dict[str, object]:
    """A part of the model to zoom into."""
    return {"part": [WHOLE, *_parts(r)]}


def ribbon(r: DtypesResult, figure: Figure | SubFigure, *, part: str = WHOLE) -> None:
    """Draws the ops in the order of the run, coloured by the dtype that they give, with every cast.

    Args:
        r: The result.
        figure: Where to draw.
        part: A module; only its ops are shown.
    """
    ops = [i for i, name in enumerate(r.op_module) if _under(name, part)]
    if not ops:
        raise NotApplicable("no op was heard")
    depth = 0 if part == WHOLE else part.count(".") + 1
    brackets, axes, ticks = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1.3, 1.5])
    colours = [COLOURS.get(r.op_output[i], OTHER) for i in ops]
    axes.imshow([[to_rgb(colour) for colour in colours]], aspect="auto", extent=(0, len(ops), 0, 1))
    axes.set_yticks([0.5], ["gives"])
    _brackets(brackets, [r.op_module[i] for i in ops], depth, _width(figure) * 0.8)
    place = {op: x for x, op in enumerate(ops)}
    causes = [cause for cause in CAUSES if cause in r.cast_cause]
    for level, cause in enumerate(reversed(causes)):
        at = sorted({place[int(r.cast_op[i])] for i in r.casts_of(cause) if int(r.cast_op[i]) in place})
        ticks.vlines(np.array(at) + 0.5, level + 0.15, level + 0.85, color=CAUSES[cause], linewidth=1.4)
    ticks.set_yticks(np.arange(len(causes)) + 0.5, causes[::-1])
    ticks.set_ylim(0, max(len(causes), 1))
    ticks.set_xlabel("op, in the order of the run")
    ticks.set_xlim(0, len(ops))
    for i in r.crashes():
        key = r.site_module[i], r.site_op[i], r.site_place[i]
        found = [x for x, op in enumerate(ops) if (r.op_module[op], r.op_name[op], r.op_site[op]) == key]
        axes.plot(
            np.array(found) + 0.5, [0.5] * len(found), "x", color=INK, markersize=9, markeredgewidth=2.2
        )
    for each in (brackets, axes, ticks):
        each.tick_params(length=0)
        each.spines[:].set_visible(False)
    title = f"under autocast({r.autocast!r}, {r.dtype})" if r.dtype else "without autocast"
    brackets.set_title(f"{len(ops)} {'op' if len(ops) == 1 else 'ops'} {title}, {r.evidence}")
    given = Counter(r.op_output[i] for i in ops)
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=f"{name} ({given[name]})")
        for name, colour in COLOURS.items()
        if given[name]
    ]
    others = sum(count for name, count in given.items() if name not in COLOURS)
    if others:
        handles.append(Patch(color=OTHER, label=f"whole numbers ({others})"))
    if r.crashes():
        handles.append(
            Line2D(
                [],
                [],
                marker="x",
                color=INK,
                linestyle="",
                markeredgewidth=2,
                label="raises without autocast",
            )
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))


def modules(r: DtypesResult, figure: Figure | SubFigure, *, part: str = WHOLE) -> None:
    """Draws, for each module, how many of its ops give which dtype, and how many tensors were cast why.

    Args:
        r: The result.
        figure: Where to draw.
        part: A module; only what is in it is shown.
    """
    names = _rows([name for name in r.op_module if _under(name, part)])
    if not names:
        raise NotApplicable("no op was heard")
    row = {name: i for i, name in enumerate(names)}
    dtypes = [name for name in COLOURS if name in r.op_output]
    causes = [cause for cause in CAUSES if cause in r.cast_cause]
    gives = np.zeros((len(names), len(dtypes)), int)
    cast = np.zeros((len(names), len(causes)), int)
    home = [next((row[up] for up in [*upwards(name), ""] if up in row), -1) for name in r.op_module]
    for i, output in enumerate(r.op_output):
        if home[i] >= 0 and output in dtypes:
            gives[home[i], dtypes.index(output)] += 1
    for i, cause in enumerate(r.cast_cause):
        if home[int(r.cast_op[i])] >= 0 and not r.cast_cached[i]:
            cast[home[int(r.cast_op[i])], causes.index(cause)] += 1
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[len(dtypes) or 1, len(causes) or 1])
    _counts(left, gives, [COLOURS[name] for name in dtypes], dtypes, "ops that give")
    _counts(right, cast, [CAUSES[name] for name in causes], causes, "tensors cast by")
    room = int(_width(figure) * 0.34 / LETTER)
    left.set_yticks(range(len(names)), [_tail(name or "model", room) for name in names])
    odd = {name for name, flag in zip(r.tensor_name, r.tensor_odd, strict=True) if flag}
    for label, name in zip(left.get_yticklabels(), names, strict=True):
        if any(weight.rpartition(".")[0] == name for weight in odd):
            label.set(color=SECOND, fontweight="bold")


def headroom(r: DtypesResult, figure: Figure | SubFigure, *, scaled: bool = True) -> None:
    """Draws the largest value of each op, then of each gradient, inside the range of float16.

    Args:
        r: The result.
        figure: Where to draw.
        scaled: Show gradients under the recommended loss scale.
    """
    if not r.range_op:
        raise NotApplicable("no op ran in a lower dtype, or no forecast was asked")
    axes = figure.subplots()
    top = np.log2(LARGEST)
    sizes = _power(r.range_absmax)
    x = np.arange(len(sizes))
    axes.axhspan(top, top + 400, color=SHADE, zorder=0)
    axes.axhspan(-400, -24, color=SHADE, zorder=0)
    axes.axhline(-14, color=MUTED, linewidth=0.8, linestyle=":")
    over = r.range_overflows
    axes.plot(x[~over], sizes[~over], "o", color=ACCENT, markersize=3.5, label="largest value of an op")
    if over.any():
        axes.plot(x[over], sizes[over], "D", color=SECOND, markersize=5.5, label="float16 overflows")
    lowest, highest = np.nanmin(sizes), np.nanmax(sizes)
    total = len(sizes)
    if r.gradient_name:
        factor = np.log2(r.loss_scale) if scaled and np.isfinite(r.loss_scale) else 0.0
        gradients = _power(r.gradient_absmax) + factor
        told = f"gradient × loss scale {r.loss_scale:g}" if factor else "gradient, without loss scale"
        axes.plot(total + np.arange(len(gradients)), gradients, ".", color=PALETTE[2], label=told)
        axes.axvline(total - 0.5, color=MUTED, linewidth=0.8)
        lowest, highest = min(lowest, np.nanmin(gradients)), max(highest, np.nanmax(gradients))
        total += len(gradients)
    axes.set_xlim(-0.5, total - 0.5)
    axes.set_ylim(min(-26, lowest - 2), max(top + 3, highest + 2))
    for y, text in (
        (top, "65504: infinite above"),
        (-24, "2⁻²⁴: zero below"),
        (-14, "2⁻¹⁴: digits are lost below"),
    ):
        axes.annotate(
            text, (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=MUTED, fontsize=8
        )
    for i in np.argsort(-np.nan_to_num(sizes, nan=-999))[:1]:
        name = (
            f"{_tail(r.range_module[i] or 'model', 40)}: {r.range_op[i]}, headroom {r.range_headroom[i]:.1f}"
        )
        right = x[i] > total * 0.5
        axes.annotate(
            name, (x[i], sizes[i]), xytext=(-8 if right else 8, 6), textcoords="offset points",
            ha="right" if right else "left", fontsize=8.5,
        )  # fmt: skip
    axes.set_xlabel("op of the forward" + (", then gradient of the backward" if r.gradient_name else ""))
    axes.set_ylabel("largest magnitude, power of two")
    axes.legend(loc="lower left", ncols=3)
    axes.set_title("What float16 would have to hold")


def sites(r: DtypesResult, figure: Figure | SubFigure) -> None:
    """Writes where a run without autocast raises, what meets there, and the lines that put it right."""
    if not r.site_op:
        raise NotApplicable(
            f"the run without autocast raises nowhere: everything meets in one dtype, {r.reference}"
        )
    axes = figure.subplots()
    axes.set_axis_off()
    letters = int(_width(figure) / LETTER)
    room = int(figure.bbox.height / figure.dpi * 72 / LINE) - 2  # lines beneath the title
    mends = [part for code in r.fix_code for part in textwrap.wrap(code, int(letters * 0.85))]
    if len(mends) > room // 2:
        mends = [*mends[: room // 2 - 1], f"… {len(r.fix_code)} changes in all, in the table"]
    lines: list[tuple[str, str, str]] = []
    order = sorted(range(len(r.site_op)), key=lambda i: r.site_kind[i] != "crash")
    room -= len(mends) + 3  # a blank line and a heading above them, and how many more sites there are
    for shown, i in enumerate(order):
        raises = r.site_kind[i] == "crash"
        name = _tail(f"{r.site_module[i] or 'model'}: {r.site_op[i]}", int(letters * 0.9))
        told = r.site_error[i] if raises else f"runs on, and {r.site_kind[i]} what it gives"
        brought = f", brought in by {r.brought_in_by(i)}" if r.site_causes[i] else ""
        detail = f"{short_place(r.site_place[i])}   {r.site_dtypes[i]}{brought}"
        written = [
            ("bold", SECOND if raises else INK, name),
            *[("normal", INK, part) for part in textwrap.wrap(detail, letters)],
            *[("italic", MUTED, part) for part in textwrap.wrap(told, letters)[:2]],
        ]
        if shown and len(lines) + len(written) > room:
            lines.append(("normal", MUTED, f"… and {len(order) - shown} more, in the table"))
            break
        lines += written
    if mends:
        lines += [("normal", INK, ""), ("bold", PALETTE[2], "applied and run: with this the forward passes")]
        lines += [("code", INK, part) for part in mends]
    for y, (style, colour, text) in enumerate(lines):
        axes.annotate(
            text, (0, 1), xytext=(0, -6 - LINE * y), xycoords="axes fraction", textcoords="offset points", va="top",
            color=colour, fontsize=9, family="DejaVu Sans Mono" if style == "code" else "DejaVu Sans",
            fontweight="bold" if style == "bold" else "normal", annotation_clip=False,
            fontstyle="italic" if style == "italic" else "normal",
        )  # fmt: skip
    count = len(r.crashes())
    axes.set_title(f"{count} {'place raises' if count == 1 else 'places raise'} without autocast")


# --- parts of pictures -----------------------------------------------------------------------------------


def _brackets(axes: Axes, names: Sequence[str], depth: int, inches: float) -> None:
    """Names the modules above the ops that they ran, outermost on top."""
    for level in range(LEVELS):
        y = LEVELS - level - 0.5
        start = 0
        for name, run in groupby(_head(name, depth + level + 1) for name in names):
            end = start + len(list(run))
            width = (end - start) / len(names) * inches
            text = name.rpartition(".")[2]
            if name and name.count(".") >= depth + level:
                axes.plot(
                    [start + 0.15, end - 0.15],
                    [y - 0.28] * 2,
                    color=MUTED,
                    linewidth=1,
                    solid_capstyle="butt",
                )
                if width > (len(text) + 1) * LETTER:
                    axes.text((start + end) / 2, y, text, ha="center", va="center", fontsize=8)
            start = end
    axes.set_ylim(0, LEVELS)
    axes.set_yticks([])


def _counts(axes: Axes, counts: np.ndarray, colours: Sequence[str], names: Sequence[str], title: str) -> None:
    """A table of numbers, each on its column's colour, the deeper the larger its share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    white = np.ones(3)
    image = np.array(
        [
            [
                white + (np.array(to_rgb(colour)) - white) * 0.75 * share
                for colour, share in zip(colours, line, strict=True)
            ]
            for line in shares
        ]
    )
    if image.size:
        axes.imshow(image, aspect="auto")
    for (y, x), count in np.ndenumerate(counts):
        if count:
            axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=8, color=INK)
    axes.set_xticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)


def _rows(names: Sequence[str]) -> list[str]:
    """The modules in the order of the run, cut at the depth at which there are few enough."""
    deepest = max((name.count(".") + 1 for name in names), default=0)
    for depth in range(deepest, 0, -1):
        rows = list(dict.fromkeys(_head(name, depth) for name in names))
        if len(rows) <= ROWS:
            return rows
    return list(dict.fromkeys(_head(name, 1) for name in names))[:ROWS]


def _parts(r: DtypesResult) -> list[str]:
    """Modules with others in them, in the order of the run, not too many for a menu."""
    parts = dict.fromkeys(up for name in r.op_module for up in [*upwards(name)][1:])
    return sorted(parts, key=lambda name: (name.count("."), list(parts).index(name)))[:60]


def _head(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _under(name: str, part: str) -> bool:
    return part in (WHOLE, name) or name.startswith(f"{part}.")


def _tail(text: str, letters: int) -> str:
    """The end of a name that is too long: the end tells layers apart."""
    return text if len(text) <= letters else f"…{text[-max(letters - 1, 1) :]}"


def _power(sizes: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        powers = np.log2(sizes)
    return np.where(np.isfinite(powers), powers, np.nan)


def _width(figure: Figure | SubFigure) -> float:
    return float(figure.bbox.width / figure.dpi)
