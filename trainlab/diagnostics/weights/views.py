"""Two pictures of `weights`: every tensor beside its siblings, and what has changed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from trainlab.diagnostics.weights.labels import cut, name_rows
from trainlab.diagnostics.weights.result import WeightsResult
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import ACCENT, DIVERGING, INK, PALETTE, SECOND, SHADE

__all__ = ["change", "change_knobs", "layers", "layers_knobs"]

ROWS = 240  # of the heat map: 2 pixels each at least
LINES = 120  # of a list with names
WRITTEN = 30  # rows beside which the numbers can be read
WHOLE = "all"
WEIGHTS = ("weight", "embedding", "gain")
NARROW = 7.0  # inches; below it the statistics' names stand upright
BROKEN = "not\nfinite"
FACTOR = 30.0  # where the colours of the heat map end


def layers_knobs(r: WeightsResult) -> dict[str, object]:
    """A part of the model to zoom into, and whether biases and buffers are shown too."""
    return {"part": [WHOLE, *_parts(r)], "biases": False}


def layers(r: WeightsResult, figure: Figure | SubFigure, *, part: str = WHOLE, biases: bool = False) -> None:
    """Draws each tensor's statistics beside the median of its siblings, and its shares of what is dead.

    Args:
        r: The result.
        figure: Where to draw.
        part: The first name of the tensors to show; ``all`` of them.
        biases: Show biases, class tokens and buffers too.
    """
    chosen = [
        i
        for i in _under(r, part)
        if r.tensor_elements[i] and r.tensor_role[i] != "integer" and (biases or r.tensor_role[i] in WEIGHTS)
    ]
    if not chosen:
        raise NotApplicable("there is no weight here")
    sizes = {
        "rms": r.tensor_rms,
        "largest": r.max_abs(),
        "longest\nrow": r.tensor_row_peak,
        "spectral\nnorm": r.tensor_spectral,
        "stable\nrank": r.tensor_stable_rank,
        "effective\nrank": r.tensor_effective_rank,
        "change": r.tensor_change,
    }
    sizes = {name: column for name, column in sizes.items() if np.isfinite(column[chosen]).any()}
    shares = {
        "zero": r.tensor_zeros,
        "dead rows\nor columns": r.dead_share(),
        BROKEN: (r.tensor_nan + r.tensor_inf > 0).astype(float),  # one is as bad as all
    }
    if r.earlier:
        shares["not\nmoved"] = 1 - r.tensor_moved
    ratio = (
        np.stack([_beside(r, column) for column in sizes.values()], axis=1)
        if sizes
        else np.ones((len(r.tensor_name), 0))
    )
    share = np.stack(list(shares.values()), axis=1)
    strange = (np.abs(np.log(np.nan_to_num(ratio, nan=1.0, posinf=1e9))) > np.log(10)).any(axis=1)
    strange |= (np.nan_to_num(share) > 0.2).any(axis=1)
    shown = _thinned(chosen, strange, ROWS)
    left, right = figure.subplots(
        1, 2, width_ratios=[max(len(sizes), 1), len(shares)], sharey=True, gridspec_kw={"wspace": 0.03}
    )
    warm = mpl.colormaps[DIVERGING].with_extremes(bad="#dfe3e6")
    image = left.imshow(ratio[shown], aspect="auto", cmap=warm, norm=LogNorm(1 / FACTOR, FACTOR, clip=True))
    shade = LinearSegmentedColormap.from_list("share", ["#f7f7f7", SECOND]).with_extremes(bad="#dfe3e6")
    other = right.imshow(share[shown], aspect="auto", cmap=shade, norm=Normalize(0, 1))
    if len(shown) <= WRITTEN:
        _write(left, image, [[_short(c[i]) for c in sizes.values()] for i in shown], ratio[shown])
        texts = [[_percent(column[i]) for column in shares.values()] for i in shown]
        for row, i in zip(texts, shown, strict=True):
            row[list(shares).index(BROKEN)] = (
                f"{r.tensor_nan[i] + r.tensor_inf[i]:,}" if shares[BROKEN][i] else ""
            )
        _write(right, other, texts, share[shown])
    narrow = figure.bbox.width < NARROW * figure.dpi
    for axes, names in ((left, sizes), (right, shares)):
        axes.set_xticks(range(len(names)), [name.replace("\n", " ") if narrow else name for name in names])
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=8)
        axes.tick_params(axis="x", labelrotation=90 if narrow else 0)
        axes.spines[:].set_visible(False)
    name_rows(left, r, shown, strange)
    bar = figure.colorbar(image, ax=left, location="bottom", shrink=0.9, aspect=40, pad=0.02)
    ticks = {1 / 10: "÷10", 1 / 3: "÷3", 1: "alike", 3: "×3", 10: "×10"}
    ticks = {at: text for at, text in ticks.items() if not narrow or abs(np.log10(at)) == 1}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.minorticks_off()
    bar.set_label("size" if narrow else "beside the median of its siblings", fontsize=9)
    bar = figure.colorbar(other, ax=right, location="bottom", shrink=0.9, aspect=20, pad=0.02)
    bar.set_ticks([0, 1], labels=["0", "100 %"])
    bar.set_label("share", fontsize=9)
    more = f"; {len(chosen) - len(shown)} of {len(chosen)} not shown" if len(shown) < len(chosen) else ""
    figure.suptitle(f"{len(chosen)} tensors{more}", x=0.01, ha="left", fontsize=11, fontweight="bold")


def change_knobs(r: WeightsResult) -> dict[str, object]:
    """A part of the model to zoom into."""
    return {"part": [WHOLE, *_parts(r)]}


def change(r: WeightsResult, figure: Figure | SubFigure, *, part: str = WHOLE) -> None:
    """Draws how far each tensor is from the earlier checkpoint, and names those that never moved.

    Args:
        r: The result.
        figure: Where to draw.
        part: The first name of the tensors to show; ``all`` of them.
    """
    if not r.earlier:
        raise NotApplicable("nothing to compare with: earlier= names an earlier checkpoint")
    known = [
        i
        for i in _under(r, part)
        if np.isfinite(r.tensor_moved[i]) and r.tensor_role[i] not in ("integer", "buffer")
    ]
    if not known:
        raise NotApplicable("no tensor here has the name and shape of one in the earlier checkpoint")
    still = r.tensor_moved == 0
    scaled = np.nan_to_num(r.tensor_turn, nan=1.0) < 0.01
    shown = _thinned(known, still | scaled, LINES)
    places = np.arange(len(shown))
    far = r.tensor_change[shown]
    new = np.isinf(far)
    seen = far[np.isfinite(far) & (far > 0)]
    low = 10 ** np.floor(np.log10(seen.min()) - 0.4) if len(seen) else 1e-3
    high = 10 ** np.ceil(np.log10(max(seen.max(), 1.0)) + 0.1) if len(seen) else 10.0
    axes = figure.add_subplot()
    axes.axvspan(low / 10, low, color=SHADE, lw=0, zorder=0)
    kinds = [
        (~still[shown] & ~scaled[shown] & ~new, "o", ACCENT, "moved"),
        (scaled[shown] & ~still[shown], "v", PALETTE[4], "only scaled, as by weight decay"),
        (still[shown], "X", SECOND, "never moved"),
        (new & ~still[shown], ">", PALETTE[2], "was zero"),
    ]
    x = np.where(still[shown], low / np.sqrt(10), np.where(new, high, far))
    for which, mark, colour, label in kinds:
        if which.any():
            axes.scatter(
                x[which],
                places[which],
                marker=mark,
                s=30 if len(shown) <= 60 else 14,
                color=colour,
                label=label,
                zorder=3,
                clip_on=False,
            )
    axes.set_xscale("log")
    axes.set_xlim(low / 10, high)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    name_rows(axes, r, shown, still | scaled)
    axes.set_xlabel("change over the norm it had")
    more = f"; {len(known) - len(shown)} of {len(known)} not shown" if len(shown) < len(known) else ""
    wide = int(figure.bbox.width / figure.dpi * 5)
    axes.set_title(f"Change since {cut(r.earlier, wide)}{more if wide > 30 else ''}")
    below = -0.5 / (0.85 * figure.bbox.height / figure.dpi)  # half an inch, under the axis' label
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.4, below), ncols=4, handletextpad=0.2, columnspacing=1.2
    )


def _write(axes: Axes, image: AxesImage, texts: Sequence[Sequence[str]], colours: np.ndarray) -> None:
    """Writes into each cell, white on dark."""
    for (y, x), colour in np.ndenumerate(colours):
        red, green, blue, _ = image.cmap(image.norm(colour)) if np.isfinite(colour) else (1, 1, 1, 1)
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        ink = "white" if dark else INK
        axes.text(x, y, texts[y][x], ha="center", va="center", fontsize=7.5, color=ink, clip_on=True)


def _short(number: float) -> str:
    if not np.isfinite(number):
        return "∞" if np.isinf(number) else ""
    return (
        f"{number:.2g}" if abs(number) < 100 else f"{number:,.0f}" if abs(number) < 1e5 else f"{number:.0e}"
    )


def _percent(share: float) -> str:
    """Nothing for nothing, so that what is there stands out."""
    if not share > 0:
        return ""
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def _beside(r: WeightsResult, column: np.ndarray) -> np.ndarray:
    """Each value over the median of its siblings; of its role where there are fewer than four."""
    ratio = np.full(len(column), np.nan)
    groups, roles = np.array(r.tensor_group), np.array(r.tensor_role)
    usable = np.isfinite(column) & (column > 0)
    for i in np.flatnonzero(np.isfinite(column)):
        family = usable & (groups == groups[i])
        if family.sum() < 4:
            family = usable & (roles == roles[i])
        if family.any():
            ratio[i] = max(column[i] / np.median(column[family]), 1e-9)
    return ratio


def _thinned(places: Sequence[int], marked: np.ndarray, most: int) -> list[int]:
    """So many of the places, evenly; what is marked stays as far as it fits."""
    if len(places) <= most:
        return list(places)
    kept = [i for i in places if marked[i]][: most // 2]
    rest = [i for i in places if i not in set(kept)]
    even = np.linspace(0, len(rest) - 1, most - len(kept)).round().astype(int)
    return sorted([*kept, *(rest[each] for each in even)])


def _parts(r: WeightsResult) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in r.tensor_name))


def _under(r: WeightsResult, part: str) -> list[int]:
    if part != WHOLE and part not in _parts(r):
        raise UsageError(f"the checkpoint has no part {part!r}", fix=did_you_mean(part, [WHOLE, *_parts(r)]))
    return [i for i, name in enumerate(r.tensor_name) if part in (WHOLE, name.split(".")[0])]
