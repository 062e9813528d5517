"""Pictures: a matplotlib Figure that shows itself anywhere, the house style and its colours. No pyplot."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = [
    "ACCENT",
    "DIVERGING",
    "INK",
    "MUTED",
    "PALETTE",
    "SECOND",
    "SEQUENTIAL",
    "SHADE",
    "Picture",
    "cut",
    "house_style",
    "message",
    "shorten",
]

# Okabe and Ito's palette (2008): told apart with any common colour blindness.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
ACCENT, SECOND = PALETTE[:2]
INK = "#1b1f24"
MUTED = "#6a737d"
SHADE = "#f4d9cc"  # the ground of a forbidden zone
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"

_STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",  # opaque, so that ink stays legible on a dark page
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pages look alike everywhere
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.6,
    "image.cmap": SEQUENTIAL,
    "image.interpolation": "nearest",
    "svg.fonttype": "none",
    # a module named "$x$" is a name, not a formula
    "text.parse_math": False,
}


class Picture(Figure):
    """A figure that shows itself in a notebook, an export or a terminal, without pyplot.

    Args:
        width: Inches.
        height: Inches.
        alt: What the picture shows, for those who cannot see it.
    """

    def __init__(self, width: float = 7.2, height: float = 4.0, *, alt: str = "") -> None:
        super().__init__(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
        self._agg: Any = FigureCanvasAgg(self)  # its methods carry no types
        self.alt = alt

    def png(self, *, scale: float = 2.0, quick: bool = False) -> bytes:
        """The picture as PNG.

        Args:
            scale: Pixels per CSS pixel; 2 is crisp on a high-density screen.
            quick: Compress less: half the time, up to twice the bytes; for a redraw under a slider.
        """
        dpi = self.dpi
        self.dpi = dpi * scale
        try:
            self._agg.draw()  # savefig would lay the figure out twice
            pixels = Image.fromarray(np.asarray(self._agg.buffer_rgba())).convert("RGB")
        finally:
            self.dpi = dpi
        title = PngInfo()
        title.add_text("Title", self.alt)
        stream = io.BytesIO()
        pixels.save(
            stream, "png", compress_level=1 if quick else 6, dpi=(dpi * scale, dpi * scale), pnginfo=title
        )
        return stream.getvalue()

    def svg(self) -> bytes:
        """The picture as SVG, its text as text."""
        stream = io.BytesIO()
        self.savefig(stream, format="svg", metadata={"Date": None, "Title": self.alt})
        return stream.getvalue()

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height on screen, in CSS pixels."""
        width, height = self.get_size_inches() * self.dpi
        return round(width), round(height)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        width, height = self.pixels
        return {"image/png": self.png(), "text/plain": repr(self)}, {
            "image/png": {"width": width, "height": height}
        }

    def __repr__(self) -> str:
        return f"<Picture: {self.alt or 'untitled'}>"


@contextmanager
def house_style() -> Iterator[None]:
    """Draws in the house style inside, and leaves the user's own rcParams alone."""
    with mpl.rc_context(_STYLE):
        yield


def cut(text: str, most: int) -> str:
    """The text with its middle left out where it is long: both ends of a name tell where it is."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def shorten(figure: Figure | SubFigure, height: float) -> None:
    """Takes from a picture of ours the height, in inches, that there is nothing to fill with; nothing from a caller's."""
    if isinstance(figure, Picture) and height < figure.get_figheight():
        figure.set_size_inches(figure.get_figwidth(), height)


def message(figure: Figure | SubFigure, text: str) -> None:
    """Writes why there is nothing to draw where the drawing would have been."""
    letters = max(int(figure.bbox.width / figure.dpi * 11), 20)  # wrap=True reaches beyond the edge
    lines = "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
    figure.clear()
    shorten(figure, max(1.0, 0.4 + 0.2 * len(lines.splitlines())))
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, lines, ha="center", va="center", color=MUTED, transform=axes.transAxes)
