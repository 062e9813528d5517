"""What the pictures of `attention` share: names, knobs, colours, and where a token is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import INK, MUTED, SEQUENTIAL, cut

__all__ = [
    "bare",
    "behind",
    "blocks",
    "call_knob",
    "caption",
    "choice",
    "chosen",
    "colour_bar",
    "colours_of",
    "fonts",
    "head_knob",
    "head_of",
    "heading",
    "kept_entry",
    "kept_knob",
    "norm_of",
    "number",
    "pages",
    "place",
    "readable",
    "short_names",
    "thinned",
    "write_numbers",
]

NOTHING = "#dfe3e6"  # what is 0 where that means not seen, or not finite
DEPTH = 1e4  # of a logarithmic scale, from its top
# the house's font first; the others, where they are installed, only for letters that it lacks
FAMILIES = [
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "PingFang SC"),
    *("Hiragino Sans", "Microsoft YaHei", "Noto Emoji", "Segoe UI Emoji"),
]


# --- knobs


def call_knob(r: AttentionResult, fits: Sequence[int] | None = None) -> dict[str, object]:
    """Which of the calls that a picture fits; 0 stands for the first of them."""
    calls = list(range(len(r.call_name))) if fits is None else list(fits)
    names = short_names(r, 44)
    return {"call": {f"{i}: {names[i]}": 0 if i == calls[0] else i for i in calls}} if len(calls) > 1 else {}


def number(knob: str, value: object, most: int, least: int = 0) -> int:
    """A knob that counts, if it is a whole number from the least up to, not including, the most.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(value, int | np.integer) or not least <= value < most:
        raise UsageError(f"there is no {knob} {value!r}", fix=f"{knob}= a number from {least} to {most - 1}")
    return int(value)


def choice(knob: str, value: object, known: Iterable[str]) -> None:
    """Refuses what a knob does not know.

    Raises:
        UsageError: It is none of these.
    """
    if value not in {*known}:
        raise UsageError(f"there is no {knob} {value!r}", fix=did_you_mean(str(value), known))


def chosen(r: AttentionResult, call: int, fits: Sequence[int] | None = None, why: str = "") -> int:
    """The call that a knob means: the first that fits where it says 0.

    Raises:
        UsageError: There is no such call.
        NotApplicable: ``why``: the picture does not fit it.
    """
    call = number("call", call, len(r.call_name))
    if fits is None or call in fits:
        return call
    if call or not fits:
        raise NotApplicable(why)
    return fits[0]


def head_knob(r: AttentionResult) -> dict[str, object]:
    """Which head; of a call with fewer, the last."""
    most = int(r.call_heads.max())
    return {"head": (0, most - 1, 1)} if most > 1 else {}


def head_of(r: AttentionResult, call: int, head: int) -> int:
    """The head that a knob means: of a call with fewer, the last."""
    return min(number("head", head, int(r.call_heads.max())), int(r.call_heads[call]) - 1)


def kept_knob(r: AttentionResult) -> dict[str, object]:
    """Which of the batch entries that were kept."""
    most = int(r.call_kept.max())
    return {"entry": (0, most - 1, 1)} if most > 1 else {}


def kept_entry(r: AttentionResult, call: int, entry: int) -> int:
    """The number of the batch entry that a knob means: one of those kept.

    Raises:
        UsageError: No call has as many.
        NotApplicable: Nothing of this call was kept.
    """
    entry, kept = number("entry", entry, max(int(r.call_kept.max()), 1)), r.kept(call)
    if not len(kept):
        raise NotApplicable(
            f"The exact weights of {cut(r.call_name[call] or 'the model', 60)} are not kept: "
            "probe with a larger keep_mb=, or with only= that names few modules"
        )
    return int(kept[min(entry, len(kept) - 1)])


def pages(name: str, total: int, most: int) -> dict[str, object]:
    """Which page, by its first number, where not everything fits on one."""
    return (
        {name: {f"{i} to {min(i + most, total) - 1}": i for i in range(0, total, most)}}
        if total > most
        else {}
    )


# --- colours


def blocks(r: AttentionResult, call: int) -> np.ndarray:
    """(head, block, block) of thumbnails: mean weight on one key of a block, NaN for 0."""
    found = r.thumbnails(call).astype(np.float64)
    edges = np.arange(found.shape[2] + 1) * int(r.call_keys[call]) // found.shape[2]
    found[found == 0] = np.nan
    found /= np.diff(edges)  # blocks differ by a key, which would show as stripes
    return found


def norm_of(values: np.ndarray, *, logarithmic: bool = False) -> Normalize:
    """From 0 to the largest finite value; or as far as four powers of ten down from it."""
    found = values[np.isfinite(values)]
    high = float(found.max(initial=0.0)) or 1.0
    if not logarithmic:
        return Normalize(0.0, high)
    low = float(found.min(where=found > 0, initial=high))
    return LogNorm(max(low, high / DEPTH) if low < high else high / DEPTH, high, clip=True)


def colours_of(values: np.ndarray, norm: Normalize, cmap: str | Colormap = SEQUENTIAL) -> np.ndarray:
    """(…, 4) colours from 0 to 1, grey for what is not finite."""
    share = np.ma.filled(norm(np.where(np.isfinite(values), values, 0.0)), 0.0)
    colours: np.ndarray = mpl.colormaps.get_cmap(cmap)(share)
    colours[~np.isfinite(values)] = mpl.colors.to_rgba(NOTHING)
    return colours


def colour_bar(
    figure: Figure | SubFigure,
    axes: Axes | Sequence[Axes],
    norm: Normalize,
    unit: str,
    *,
    cmap: str | Colormap = SEQUENTIAL,
    more: bool = False,
) -> None:
    """Puts a colour bar with its unit beside the axes, with an arrow where there is more."""
    wide = float(norm.vmax or 1.0) > 30 * float(norm.vmin or 1.0)
    ticks = LogLocator(subs=(1,) if wide else (1, 2, 5)) if isinstance(norm, LogNorm) else None
    look: dict[str, Any] = {"pad": 0.02, "aspect": 34, "fraction": 0.05, "panchor": False}
    look["extend"] = "max" if more else "neither"
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, label=unit, ticks=ticks, **look)
    if ticks:
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def write_numbers(axes: Axes, colours: np.ndarray, texts: Sequence[Sequence[str]]) -> None:
    """Writes a text into every cell of an image, dark on light and light on dark."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5, "linespacing": 0.9}
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            ink = INK if colours[y, x, :3] @ (0.3, 0.59, 0.11) > 0.5 else "white"
            axes.text(x, y, text, color=ink, in_layout=False, **look)


def bare(axes: Axes, xlabel: str = "", ylabel: str = "") -> None:
    """Takes ticks and frame off an image, and counts its axes in whole numbers."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


# --- words


def heading(figure: Figure | SubFigure, text: str) -> None:
    """A title over the whole picture."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold", family=fonts()[0])


def caption(figure: Figure | SubFigure, *lines: str) -> None:
    """Small lines below the picture."""
    letters = max(int(figure.bbox.width / figure.dpi * 15), 30)
    text = "\n".join(textwrap.fill(line, letters) for line in lines if line)
    figure.supxlabel(text, fontsize=8.5, color=MUTED, x=0.01, ha="left")


def thinned(count: int, most: int) -> np.ndarray:
    """At most so many of the first numbers, evenly."""
    return np.arange(0, count, -(-count // most))


@cache
def fonts() -> tuple[list[str], frozenset[int]]:
    """Families to write tokens with, and every letter that they have between them."""
    known = set(fontManager.get_font_names())
    families = [name for name in FAMILIES if name in known]
    return families, frozenset().union(*(get_font(findfont(name)).get_charmap() for name in families))


def readable(text: str) -> str:
    """The text with a box for each letter that no font here has, which matplotlib would warn of."""
    return "".join(letter if ord(letter) in fonts()[1] else "▯" for letter in text)


def short_names(r: AttentionResult, most: int = 30) -> list[str]:
    """The calls' modules without what all of them begin with.

    Where they are long still, without what all of them end in, and then without words that all of them have.
    """
    parts = [name.split(".") for name in r.call_name]
    first = max(_shared(parts) - 1, 0)  # "h.0.attn" says more than "0.attn"
    parts = [each[first:] for each in parts]
    if _longest(parts) > most:
        last = _shared([each[::-1] for each in parts])
        parts = [each[: len(each) - last] for each in parts]
    for word in list(parts[0]) if len(parts) > 1 else ():
        if _longest(parts) > most and not word.isdigit() and all(word in each[:-1] for each in parts):
            for each in parts:
                each.remove(word)
    return [cut(readable(".".join(each) or "model"), most) for each in parts]


def _longest(parts: list[list[str]]) -> int:
    return max(len(".".join(each)) for each in parts)


def _shared(lists: list[list[str]]) -> int:
    """How many first parts several lists share, leaving each one part at least."""
    if len(lists) < 2:
        return 0
    same = [len(set(parts)) == 1 for parts in zip(*(each[:-1] for each in lists), strict=False)]
    return (*same, False).index(False)


def place(r: AttentionResult, call: int, position: int, *, key: bool, entry: int = 0) -> str:
    """Where a token is, in words: its place on the grid, or its number and what it says.

    Args:
        r: The result.
        call: Row of ``call``.
        position: Of the token.
        key: It is a key, not a query.
        entry: Its batch entry; labels are known of the first.
    """
    frames, height, width = (int(column[call]) for column in (r.call_frames, r.call_height, r.call_width))
    if frames and r.call_layout[call] != "cross":
        at = position - int(r.call_prefix[call])
        if at < 0:
            return f"prefix {position}"
        spot = f"row {at // width % height}, column {at % width}" if height * width > 1 else ""
        frame = f"frame {at // (height * width)}" if frames > 1 else ""
        return ", ".join(part for part in (frame, spot) if part) or str(position)
    position += 0 if key else behind(r, call)
    own = r.call_layout[call] == "cross" and not key
    if entry == 0 and len(r.token) == (r.call_queries if own else r.call_keys)[call]:
        return f"{position} {cut(readable(r.token[position]), 24)}"
    return str(position)


def behind(r: AttentionResult, call: int) -> int:
    """How many keys come before the first query: in self-attention whose queries are the last of its keys (cached decoding)."""
    return 0 if r.call_layout[call] == "cross" else int(r.call_keys[call] - r.call_queries[call])
