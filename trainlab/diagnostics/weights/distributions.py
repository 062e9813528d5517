"""Two pictures of `weights`: the values of one tensor among its siblings, and spectra through the layers."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from trainlab.diagnostics.weights.labels import cut, fit, font
from trainlab.diagnostics.weights.result import WeightsResult
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import ACCENT, MUTED, SEQUENTIAL

__all__ = ["spectra", "spectra_knobs", "values", "values_knobs"]

FIRST = "largest"
MOST = 48  # siblings beside each other
WEIGHTS = ("weight", "embedding", "gain")


def values_knobs(r: WeightsResult) -> dict[str, object]:
    """Which tensor."""
    return {"tensor": [FIRST, *(r.tensor_name[i] for i in _measured(r))], "logarithmic": False}


def values(
    r: WeightsResult, figure: Figure | SubFigure, *, tensor: str = FIRST, logarithmic: bool = False
) -> None:
    """Draws the histogram of a tensor, and its quantiles beside those of its siblings.

    Args:
        r: The result.
        figure: Where to draw.
        tensor: Its name; the largest by default.
        logarithmic: Count on a logarithmic scale, so that the tails show.
    """
    able = _measured(r)
    if not able:
        raise NotApplicable("no tensor holds a finite number")
    if tensor != FIRST and tensor not in r.tensor_name:
        raise UsageError(f"there is no tensor {tensor!r}", fix=did_you_mean(tensor, r.tensor_name))
    place = (
        r.tensor_name.index(tensor)
        if tensor != FIRST
        else max(able, key=lambda i: (r.tensor_role[i] in WEIGHTS, r.tensor_elements[i]))
    )
    if place not in able:
        raise NotApplicable(f"{tensor} holds no finite number")
    family = [i for i in able if r.tensor_group[i] == r.tensor_group[place]]
    step = -(-len(family) // MOST)
    family = sorted({*family[::step], place})
    top, bottom = figure.subplots(2, 1, height_ratios=[3, max(0.5, min(len(family) * 0.16, 4.0))])
    low, *_, high = r.quantile[place]
    if low == high:
        low, high = low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2
    edges = np.linspace(low, high, r.histogram.shape[1] + 1)
    top.stairs(r.histogram[place] * 100, edges, fill=True, color=ACCENT)
    top.set_yscale("log" if logarithmic else "linear")
    top.set_ylabel("% of the numbers")
    wide = int(figure.bbox.width / figure.dpi * 6)
    kind = f"{r.tensor_shape[place] or 'one number'}, {r.tensor_dtype[place]}"
    top.set_title(
        f"{cut(r.tensor_name[place], wide)}  ({kind})" if wide > 30 else cut(r.tensor_name[place], wide)
    )
    lines = [
        f"mean {r.tensor_mean[place]:.3g}",
        f"std {r.tensor_std[place]:.3g}",
        f"least {r.tensor_min[place]:.3g}",
        f"largest {r.tensor_max[place]:.3g}",
        f"zero {r.tensor_zeros[place]:.2%}",
    ]
    if r.tensor_nan[place] or r.tensor_inf[place]:
        lines.append(f"not finite {int(r.tensor_nan[place] + r.tensor_inf[place])}")
    top.text(1.02, 1, "\n".join(lines), va="top", transform=top.transAxes, fontsize=9, linespacing=1.5)
    _fan(bottom, r, family, place)


def spectra_knobs(r: WeightsResult) -> dict[str, object]:
    """Which family of matrices."""
    return {"layers": [FIRST, *_families(r)]}


def spectra(r: WeightsResult, figure: Figure | SubFigure, *, layers: str = FIRST) -> None:
    """Draws the singular values of a matrix in every layer, over the largest.

    Args:
        r: The result.
        figure: Where to draw.
        layers: The matrices' name with ``*`` for numbers; those with the most layers by default.
    """
    families = _families(r)
    if not families:
        raise NotApplicable("no spectra were computed: spectra=True computes them")
    if layers != FIRST and layers not in families:
        raise UsageError(f"there are no matrices {layers!r}", fix=did_you_mean(layers, families))
    name = layers if layers != FIRST else max(families, key=lambda each: len(families[each]))
    places = families[name]
    axes = figure.add_subplot()
    colours = mpl.colormaps[SEQUENTIAL](np.linspace(0, 0.9, len(places)))
    lowest = 1.0
    for i, colour in zip(places, colours, strict=True):
        known = r.spectrum_rank[i] > 0
        heights = r.spectrum[i][known] / r.spectrum[i][0]
        floor = np.where(heights > 1e-7, heights, np.nan)
        dots = "o" if len(places) <= 8 else None
        axes.plot(r.spectrum_rank[i][known], floor, color=colour, lw=1.4, marker=dots, ms=3)
        lowest = min(lowest, float(np.nanmin(floor)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(lowest / 1.5, 1.3)
    for axis, many in ((axes.xaxis, False), (axes.yaxis, lowest < 1e-3)):
        axis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(which="major")
    axes.set_xlabel("rank of the singular value")
    axes.set_ylabel("share of the largest")
    axes.set_title(cut(name, int(figure.bbox.width / figure.dpi * 6)))
    if len(places) <= 8:
        labels = [
            f"{cut(r.tensor_name[i], fit(axes))}\nσ₁ {r.tensor_spectral[i]:.3g}, stable rank {r.tensor_stable_rank[i]:.3g}"
            for i in places
        ]
        handles = [Line2D([], [], color=c, lw=2, label=text) for c, text in zip(colours, labels, strict=True)]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), labelspacing=0.8, fontsize=8)
        return
    scale = mpl.colors.ListedColormap(colours)
    bar = figure.colorbar(ScalarMappable(Normalize(-0.5, len(places) - 0.5), scale), ax=axes, pad=0.02)
    ticks = np.unique(np.linspace(0, len(places) - 1, 6).round().astype(int))
    bar.set_ticks(ticks.tolist(), labels=[cut(r.tensor_name[places[t]], fit(axes)) for t in ticks])
    bar.ax.tick_params(labelsize=8, length=0)
    bar.ax.invert_yaxis()


def _fan(axes: Axes, r: WeightsResult, family: Sequence[int], place: int) -> None:
    """Quantiles of each sibling: 0.05 to 99.95 % thin, 5 to 95 % thicker, 25 to 75 % thick, the median a dot."""
    for y, i in enumerate(family):
        colour = ACCENT if i == place else MUTED
        q = r.quantile[i]
        for (a, b), width in zip(((0, -1), (2, -3), (3, -4)), (0.8, 2.0, 4.0), strict=True):
            axes.hlines(y, q[a], q[b], color=colour, lw=width)
        axes.plot(q[len(q) // 2], y, "o", color="white", mec=colour, ms=3.5)
    axes.set_ylim(len(family) - 0.4, -0.6)
    axes.set_yticks(range(len(family)), [cut(r.tensor_name[i], fit(axes)) for i in family])
    axes.tick_params(axis="y", length=0, labelsize=font(axes, len(family)))
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("quantiles: 50, 90 and 99.9 %")


def _measured(r: WeightsResult) -> list[int]:
    return [i for i in range(len(r.tensor_name)) if np.isfinite(r.tensor_norm[i])]


def _families(r: WeightsResult) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i in np.flatnonzero(np.isfinite(r.tensor_spectral)):
        found.setdefault(r.tensor_group[i].rsplit(" ", 1)[0], []).append(int(i))
    return found
