"""How tensors are named beside a picture: as many as can be read, long names cut in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from trainlab import figure
from trainlab.diagnostics.weights.result import WeightsResult
from trainlab.figure import SECOND

__all__ = ["cut", "fit", "font", "name_rows"]

NAME = 34


def name_rows(axes: Axes, r: WeightsResult, shown: Sequence[int], marked: np.ndarray) -> None:
    """Names every row, or as many as can be read; what is marked stays, in bold."""
    box, inch = axes.figure.bbox, axes.figure.dpi
    # points; a small figure's headings leave less
    height = box.height / inch * 72 * (0.72 if box.width > 6 * inch else 0.5)
    room = max(1, int(height / 7))
    step = -(-len(shown) // room)
    named = [y for y, i in enumerate(shown) if y % step == 0 and not marked[i]]
    bold = [y for y, i in enumerate(shown) if marked[i]]
    bold = bold[:: -(-len(bold) // room)] if bold else []
    named = sorted([*bold, *(y for y in named if step == 1 or all(abs(y - b) >= step for b in bold))])
    axes.set_yticks(named, [cut(r.tensor_name[shown[y]], fit(axes)) for y in named])
    axes.tick_params(axis="y", length=0, labelsize=min(9.0, max(5.5, 0.8 * height / max(len(named), 1))))
    for label, y in zip(axes.get_yticklabels(), named, strict=True):
        if marked[shown[y]]:
            label.set_color(SECOND)
            label.set_fontweight("bold")


def font(axes: Axes, count: int) -> float:
    """The size of letters, in points, with which so many names fit beside two fifths of the figure."""
    height = axes.figure.bbox.height / axes.figure.dpi * 72 * 0.4
    return float(min(9.0, max(4.5, 0.85 * height / max(count, 1))))


def fit(axes: Axes) -> int:
    """How many characters a name may have beside these axes: a third of the width, or NAME."""
    figure = axes.figure
    return max(9, min(NAME, int(figure.bbox.width / figure.dpi * 4.2)))


def cut(text: str, most: int) -> str:
    """The text with its middle left out where it is long; of a name, ``.weight`` goes first."""
    return figure.cut(text.removesuffix(".weight") if len(text) > most else text, most)
