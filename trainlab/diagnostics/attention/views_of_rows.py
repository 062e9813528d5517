"""One query and where it looks: over tokens, over the picture, over positions; in one head or through all layers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from trainlab.diagnostics.attention import measuring
from trainlab.diagnostics.attention import views_drawing as drawing
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import NotApplicable, UsageError
from trainlab.figure import ACCENT, MUTED, SECOND, cut

__all__ = ["rollout", "rollout_knobs", "row", "row_knobs"]

KEYS, QUERIES = "query to keys", "key to queries"
NAMED = 8  # weights that are named beside the picture
PANES = 36  # frames side by side
BINS = 1024  # positions side by side
SIZES = (14.0, 12.0, 10.0, 8.0)  # of letters, in points: the largest that fits
LETTER = 0.602  # width of a letter over its height, DejaVu Sans Mono
SHADES = LinearSegmentedColormap.from_list(
    "shades", ["white", "#fdd9a0", "#f5a86b", "#e07b39"]
)  # ink reads on all
PAPER = 0.85  # grey level of a frame whose picture is not known
VEIL = np.array(to_rgb(SECOND))  # laid over a picture, the denser the more weight
DENSE = 0.95 * np.linspace(0, 1, 65)[:, None] ** 0.5
VEILS = LinearSegmentedColormap.from_list("veils", (1 - DENSE) * PAPER + DENSE * VEIL)


@dataclass(frozen=True)
class Line:
    """A row or column of a map: weights by token."""

    r: AttentionResult
    call: int
    entry: int
    values: np.ndarray
    mark: int | None
    """Whose they are, where that is one of the tokens."""
    keys: bool
    """The tokens are keys, not queries."""

    def place(self, position: int) -> str:
        """Where one of the tokens is, in words."""
        return drawing.place(self.r, self.call, position, key=self.keys, entry=self.entry)


def row_knobs(r: AttentionResult) -> dict[str, object]:
    """Which call, head and entry, and whose row or column."""
    longest = int(max(r.call_queries.max(), r.call_keys.max()))
    knobs = {**drawing.call_knob(r), **drawing.head_knob(r), **drawing.kept_knob(r)}
    return (
        knobs | {"direction": [KEYS, QUERIES]} | ({"position": (-1, longest - 1, 1)} if longest > 1 else {})
    )


def row(
    r: AttentionResult,
    figure: Figure | SubFigure,
    *,
    call: int = 0,
    head: int = 0,
    entry: int = 0,
    direction: str = KEYS,
    position: int = -1,
) -> None:
    """Draws where one query looks, or which queries look at one key, with the eight largest weights by name.

    Args:
        r: The result.
        figure: Where to draw.
        call: Which attention call.
        head: Which head; of a call with fewer, the last.
        entry: Which of the batch entries that were kept.
        direction: The keys of a query, or the queries of a key.
        position: Of that query or key; -1 is the last.
    """
    call = drawing.chosen(r, call)
    head, number = drawing.head_of(r, call, head), drawing.kept_entry(r, call, entry)
    drawing.choice("direction", direction, (KEYS, QUERIES))
    keys = direction == KEYS
    at = _at(r, position, int((r.call_queries if keys else r.call_keys)[call]))
    read = measuring.row if keys else measuring.column
    values = read(r, call, head, number, at).astype(np.float64)
    mark = at + drawing.behind(r, call) * (1 if keys else -1)
    _lay_out(
        figure,
        Line(r, call, number, values, None if r.call_layout[call] == "cross" or mark < 0 else mark, keys),
    )
    whose = drawing.place(r, call, at, key=not keys, entry=number)
    told = f"query {whose} to keys" if keys else f"key {whose} from queries"
    drawing.heading(figure, f"{drawing.short_names(r, 36)[call]}, head {head}, entry {number}: {told}")


def rollout_knobs(r: AttentionResult) -> dict[str, object]:
    """Which entry and query, and how far back."""
    try:
        measuring.rolled(r)
    except UsageError:  # the picture says so
        return {}
    longest, calls = int(r.call_queries.max()), len(r.call_name)
    knobs = drawing.kept_knob(r) | ({"position": (-1, longest - 1, 1)} if longest > 1 else {})
    return knobs | ({"through": (-1, calls, 1)} if calls > 1 else {})


def rollout(
    r: AttentionResult, figure: Figure | SubFigure, *, entry: int = 0, position: int = -1, through: int = -1
) -> None:
    """Draws what one query of the last layer draws from the inputs, through all layers (Abnar and Zuidema 2020).

    Args:
        r: The result.
        figure: Where to draw.
        entry: Which of the batch entries that were kept.
        position: Of the query; -1 is the last.
        through: So many calls back from the last; -1 is through all.
    """
    try:
        calls = measuring.rolled(r)
    except UsageError as error:  # of these calls: nobody asked for something wrong
        raise NotApplicable(f"{error.what}: {error.seen}" if error.seen else error.what) from error
    number, tokens = drawing.kept_entry(r, calls[0], entry), int(r.call_queries[calls[0]])
    at = _at(r, position, tokens)
    back = min(drawing.number("through", through, len(r.call_name) + 1, -1), len(calls)) % (len(calls) + 1)
    try:
        values = measuring.rollout(r, number, at)[back].astype(np.float64)
    except UsageError as error:  # an entry or a call that was not kept
        raise NotApplicable(f"{error.what}; {error.fix}") from error
    others, note = len(r.call_name) - len(calls), ""
    if tokens > 1:  # it would outshine all others
        note = f"The token itself keeps {values[at]:.3g}, at least {0.5**back:.2g} of it through the residual stream."
        values[at] = np.nan
    note += f" {others} calls over other tokens are left out." if others else ""
    _lay_out(figure, Line(r, calls[0], number, values, at, keys=True), note)
    whose = drawing.place(r, calls[0], at, key=False, entry=number)
    drawing.heading(figure, f"Rollout through {back} of {len(calls)} calls, entry {number}: query {whose}")


def _at(r: AttentionResult, position: int, tokens: int) -> int:
    """The token that a knob means; where there are fewer, the last."""
    longest = int(max(r.call_queries.max(), r.call_keys.max()))
    return min(drawing.number("position", position, longest, -1), tokens - 1) % tokens


def _lay_out(figure: Figure | SubFigure, line: Line, note: str = "") -> None:
    """The weights on the picture, on the text, or along the positions; the largest named beside it."""
    r, call, values = line.r, line.call, line.values
    if not np.isfinite(values).any():
        raise NotApplicable("no weight here is finite: see ATT001")
    axes, named = figure.subplots(1, 2, width_ratios=[2.6, 1], gridspec_kw={"wspace": 0.06})
    if r.call_layout[call] != "cross" and r.call_height[call] * r.call_width[call] > 1:
        _over_frames(axes, line)
        drawing.colour_bar(figure, axes, drawing.norm_of(values), "weight", cmap=VEILS)
    elif line.entry == 0 and len(r.token) == len(values):
        _over_text(axes, line)
        drawing.colour_bar(figure, axes, drawing.norm_of(values), "weight", cmap=SHADES)
    else:
        _along(axes, line)
    finite = int(np.isfinite(values).sum())
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")[: min(NAMED, finite)]
    named.barh(range(len(order)), values[order], color=ACCENT, height=0.55)
    for y, i in enumerate(order):
        place = cut(line.place(int(i)), 30)
        named.text(0, y - 0.3, place, fontsize=8, va="bottom", family=drawing.fonts()[0])
        named.text(values[i], y, f" {values[i]:.3g}", fontsize=8, va="center")
    named.set(xlim=(0, max(float(np.nanmax(values)) * 1.3, 1e-30)), ylim=(NAMED - 0.3, -0.9))
    named.set_axis_off()
    named.set_title(f"The {len(order)} largest of {finite}", fontsize=9)
    rest = np.delete(values, order)
    others = f"; the largest of the others is {np.nanmax(rest):.2g}" if np.isfinite(rest).any() else ""
    drawing.caption(
        figure, f"They hold {np.nansum(values[order]):.3g} of {np.nansum(values):.3g}{others}. {note}"
    )


def _over_frames(axes: Axes, line: Line) -> None:
    """Lays weights back over the frames, which are put beside each other; the query is framed."""
    r, call, norm = line.r, line.call, drawing.norm_of(line.values)
    prefix, frames, height, width = (
        int(column[call]) for column in (r.call_prefix, r.call_frames, r.call_height, r.call_width)
    )
    weight = line.values[prefix:].reshape(frames, height, width)
    shown = np.arange(frames)
    if frames > PANES:
        shown = np.sort(np.argsort(-np.nan_to_num(weight).sum((1, 2)), kind="stable")[:PANES])
    across = int(np.clip(round((len(shown) * height / width * 1.15) ** 0.5), 1, len(shown)))
    gap = 0.06 * width
    for n, frame in enumerate(shown.tolist()):
        left, top = n % across * (width + gap), n // across * (height + 2.2 * gap)
        extent = (left, left + width, top + height, top)
        axes.imshow(_picture(line, frame), cmap="gray", vmin=0, vmax=1, extent=extent)
        veil = np.full((height, width, 4), [*VEIL, 0.0])
        veil[..., 3] = 0.95 * np.nan_to_num(norm(weight[frame])) ** 0.5
        axes.imshow(veil, extent=extent)
        axes.text(left, top, str(frame) if frames > 1 else "", fontsize=7.5, va="bottom", color=MUTED)
        inside = -1 if line.mark is None else line.mark - prefix - frame * height * width
        if 0 <= inside < height * width:
            corner = (left + inside % width, top + inside // width)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ACCENT, lw=2.2))
    axes.set(
        xlim=(-gap, across * (width + gap)),
        ylim=(-(-len(shown) // across) * (height + 2.2 * gap), -2.2 * gap),
    )
    axes.set_aspect("equal", anchor="E")
    axes.set_axis_off()
    notes = [f"on the prefix: {np.nansum(line.values[:prefix]):.3g}"] if prefix else []
    notes += [f"the {len(shown)} of {frames} frames with the most weight"] if len(shown) < frames else []
    axes.set_title("; ".join(notes), fontsize=9, fontweight="normal")


def _picture(line: Line, frame: int) -> np.ndarray:
    """A frame of the first clip in light grey, 0 to 1; plain paper where it is not known."""
    r, frames = line.r, int(line.r.call_frames[line.call])
    clip = line.entry
    if r.call_layout[line.call] == "space":  # an entry of the kernel is a frame
        frames = max(int(r.call_batch[line.call]) // max(r.batch_size, 1), 1)
        clip, frame = divmod(line.entry, frames)
    if clip or not len(r.picture):
        return np.full((1, 1), PAPER)
    grey: np.ndarray = r.picture[frame * len(r.picture) // frames].mean(-1)
    return 0.25 + 0.75 * grey / 255


def _over_text(axes: Axes, line: Line) -> None:
    """Writes the tokens as running text, the ground shaded by weight; whose weights they are is framed."""
    box, figure = axes.get_position(), axes.figure
    wide = figure.bbox.width / figure.dpi * box.width
    high = figure.bbox.height / figure.dpi * box.height * 0.9
    for size in SIZES:
        letter, step = size / 72 * LETTER, size / 72 * 2.1
        spots, lines = _flow(line.r.token, letter, wide), max(int(high / step), 1)
        if spots[-1][1] < lines:
            break
    by_line = np.bincount([spot[1] for spot in spots], np.nan_to_num(line.values))
    # where not all lines fit: those with the most weight between them
    first = int(np.convolve(by_line, np.ones(lines), "valid").argmax()) if lines < len(by_line) else 0
    colours = drawing.colours_of(line.values, drawing.norm_of(line.values), SHADES)
    shown = [i for i, spot in enumerate(spots) if first <= spot[1] < first + lines]
    for i in shown:
        x, y, length, text = spots[i]
        top = (y - first) * step
        edge = ACCENT if i == line.mark else "none"
        axes.add_patch(Rectangle((x, top), length, step * 0.78, facecolor=colours[i], edgecolor=edge, lw=2))
        look: dict[str, Any] = {"fontsize": size, "family": ["DejaVu Sans Mono", *drawing.fonts()[0]]}
        # known to fit: to have each measured by the layout would take half of the time
        look |= {"ha": "center", "va": "center_baseline", "in_layout": False}
        axes.text(x + length / 2, top + step * 0.39, text, **look)
    axes.set(xlim=(0, wide), ylim=(max(high, step * 3), -step * 0.3))
    axes.set_axis_off()
    if len(shown) < len(spots):
        axes.set_title(f"tokens {shown[0]} to {shown[-1]} of {len(spots)}", fontsize=9, fontweight="normal")


def _flow(tokens: Sequence[str], letter: float, wide: float) -> list[tuple[float, int, float, str]]:
    """Where each token stands in running text: x, line, length, and what it says."""
    spots, x, y = [], 0.0, 0
    for token in tokens:
        text = cut(drawing.readable(token), 28) or "▯"
        length = letter * (sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text) + 0.6)
        if x and x + length > wide:
            x, y = 0.0, y + 1
        spots.append((x, y, length, text))
        x += length + 0.35 * letter
    return spots


def _along(axes: Axes, line: Line) -> None:
    """Draws weight by position; a long row as the largest of each bin."""
    count = len(line.values)
    width = -(-count // BINS)
    edges = np.arange(0, count, width)
    highest, at = np.fmax.reduceat(line.values, edges), edges + (width - 1) / 2
    if count <= 64:
        axes.bar(at, highest, color=ACCENT, width=0.7)
    else:
        axes.fill_between(at, highest, color=ACCENT, edgecolor=ACCENT, lw=0.8, step="mid")
    if line.mark is not None and line.mark < count:
        axes.axvline(line.mark, color=SECOND, lw=1.2, ls="--", zorder=0)
        top = axes.get_xaxis_transform()
        axes.text(line.mark, 1, "itself", transform=top, color=SECOND, fontsize=8, ha="center", va="bottom")
    axes.set(
        xlim=(-0.5, count - 0.5), ylim=(0, max(float(np.nanmax(highest)) * 1.08, 1e-30)), ylabel="weight"
    )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    what = "frame" if line.r.call_layout[line.call] == "time" else "position"
    axes.set_xlabel(what + (f", the largest of {width} each" if width > 1 else ""))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
