"""The picture of `attention` to begin with: a thumbnail of every head of every call."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from trainlab.diagnostics.attention import views_drawing as drawing
from trainlab.diagnostics.attention.result import BLOCKS, AttentionResult
from trainlab.figure import shorten

__all__ = ["grid", "grid_knobs", "largest_unshown"]

ROWS, COLUMNS = 24, 16  # tiles that can be told apart on a page
STEP = BLOCKS + 3  # pixels from tile to tile
ROW, TILE, ALL = "each row its own", "each tile its own", "one for all"
SCALES = {ROW: ", of the row's largest", TILE: ", of the tile's largest", ALL: ""}


def grid_knobs(r: AttentionResult) -> dict[str, object]:
    """Scales, and which page where there are too many tiles for one."""
    calls = drawing.pages("calls", len(r.call_name), ROWS)
    heads = drawing.pages("heads", int(r.call_heads.max()), COLUMNS)
    return {"scale": list(SCALES), **calls, **heads}


def grid(
    r: AttentionResult,
    figure: Figure | SubFigure,
    *,
    scale: str = ROW,
    calls: int = 0,
    heads: int = 0,
) -> None:
    """Draws a thumbnail of every head of every call.

    Args:
        r: The result.
        figure: Where to draw.
        scale: Colours from 0 to the largest of each row of a tile, of each tile, or of all.
        calls: The first call to show.
        heads: The first head to show.
    """
    total, most = len(r.call_name), int(r.call_heads.max())
    drawing.choice("scale", scale, SCALES)
    calls, heads = drawing.number("calls", calls, total), drawing.number("heads", heads, most)
    rows, columns = range(total)[calls : calls + ROWS], range(most)[heads : heads + COLUMNS]
    tiles = [_tiles(r, call, columns, scale) for call in rows]
    norm = drawing.norm_of(np.concatenate([each.ravel() for each in tiles]))
    names, numbers = _labels(r, rows), [str(head) for head in columns]
    if len(rows) == 1 < len(columns):  # its heads go on below each other
        wide = int(np.ceil(len(columns) ** 0.5))
        tiles = [tiles[0][i : i + wide] for i in range(0, len(columns), wide)]
        names = [
            f"{numbers[i]} …" if i else f"{names[0]}\n{numbers[0]} …" for i in range(0, len(columns), wide)
        ]
        numbers = [""] * wide
    beside = int(np.clip(len(tiles) // (3 * len(numbers)), 1, 4))  # few heads: calls go on beside each other
    down = -(-len(tiles) // beside)
    shorten(figure, max(1.9 + 7 * down / (beside * len(numbers)), 4))
    every: list[Axes] = list(figure.subplots(1, beside, squeeze=False)[0])
    for part, axes in enumerate(every):
        mine = slice(part * down, (part + 1) * down)
        _mosaic(axes, tiles[mine], norm, (down, len(numbers)))
        at, small = np.arange(max(down, len(numbers))) * STEP + BLOCKS / 2, 8 if down <= 14 else 6.5
        axes.set_yticks(at[: len(names[mine])], names[mine], fontsize=small, linespacing=0.95)
        axes.set_xticks(at[: len(numbers)], numbers, fontsize=8)
    drawing.heading(
        figure, f"{f'{total} attention calls' if total > 1 else '1 attention call'}, head by head"
    )
    drawing.colour_bar(figure, every, norm, f"mean weight on a key{SCALES[scale]}")
    means = f" Means of {r.call_batch.max()} batch entries." if r.call_batch.max() > 1 else ""
    counts = (("calls", total, len(rows)), ("heads", most, len(columns)))
    hidden = [f"{count - shown} of {count} {what}" for what, count, shown in counts if shown < count]
    drawing.caption(
        figure,
        f"Queries run down, keys to the right; grey is 0 or not finite.{means}",
        f"On other pages: {' and '.join(hidden)}." if hidden else "",
        largest_unshown(r),
        r.coverage(),
    )


def _mosaic(axes: Axes, tiles: list[np.ndarray], norm: Normalize, size: tuple[int, int]) -> None:
    """Draws rows of tiles as one image, which is much faster than axes for each."""
    canvas = np.ones((size[0] * STEP, size[1] * STEP, 4))
    for y, row in enumerate(tiles):
        for x, tile in enumerate(row):
            canvas[y * STEP :, x * STEP :][:BLOCKS, :BLOCKS] = drawing.colours_of(tile, norm)
    axes.imshow(canvas)
    axes.set_anchor("NE")
    drawing.bare(axes, xlabel="head")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")


def _labels(r: AttentionResult, calls: range) -> list[str]:
    """Name and size of some calls; the size once where all calls have the same."""
    names = drawing.short_names(r)
    sizes = [f"{q}×{k}" for q, k in zip(r.call_queries, r.call_keys, strict=True)]
    alone = len(set(sizes)) == 1
    return [names[call] if alone and call != calls[0] else f"{names[call]}\n{sizes[call]}" for call in calls]


def _tiles(r: AttentionResult, call: int, heads: range, scale: str) -> np.ndarray:
    """The thumbnails of some heads, (head, 32, 32)."""
    found = drawing.blocks(r, call)[heads.start : heads.stop]
    if scale != ALL:
        found /= np.fmax.reduce(found, axis=2 if scale == ROW else (1, 2), keepdims=True, initial=1e-30)
    down, across = (np.arange(BLOCKS) * length // BLOCKS for length in found.shape[1:])
    tiles: np.ndarray = found[:, down][:, :, across]
    return tiles


def largest_unshown(r: AttentionResult) -> str:
    """The largest single weight that a thumbnail averages away, and what the thumbnail shows in its place."""
    coarse = (r.call_queries > BLOCKS) | (r.call_keys > BLOCKS) | (r.call_batch > 1)
    sizes = np.where(coarse[r.head_call], np.nan_to_num(r.head_largest, nan=-1.0), -1.0)
    row = int(sizes.argmax())
    if sizes[row] < 0:
        return ""
    call, head = int(r.head_call[row]), int(r.head_number[row])
    query, key = int(r.head_largest_query[row]), int(r.head_largest_key[row])
    shown = drawing.blocks(r, call)[head]
    block = [
        int(np.searchsorted(np.arange(1, count + 1) * int(tokens[call]) // count, at, "right"))
        for at, tokens, count in zip((query, key), (r.call_queries, r.call_keys), shown.shape, strict=True)
    ]
    entry = f"entry {r.head_largest_entry[row]}, " if r.call_batch[call] > 1 else ""
    return (
        f"Largest single weight that is not shown: {sizes[row]:.3g}, {entry}query {query} on key {key} in "
        f"{drawing.short_names(r)[call]}, head {head}; the mean of its block is {shown[*block]:.3g}."
    )
