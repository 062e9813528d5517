"""Two predictions side by side, with the inputs that they belong to: images, clips, sequences or vectors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from trainlab.diagnostics.variation.result import VariationResult
from trainlab.errors import NotApplicable
from trainlab.figure import ACCENT, DIVERGING, MUTED, SECOND, SEQUENTIAL

__all__ = ["knobs", "predictions"]


def knobs(r: VariationResult) -> dict[str, object]:
    """Which samples there are, and which frames where the output is a clip."""
    last = len(r.output_samples) - 1
    found: dict[str, object] = {"a": (0, last, 1), "b": (0, last, 1)} if last > 0 else {}
    if r.output_samples.ndim == 5 and r.output_samples.shape[1] > 1:
        found["frame"] = (0, r.output_samples.shape[1] - 1, 1)
    return found


def predictions(
    r: VariationResult, figure: Figure | SubFigure, *, a: int = 0, b: int = 1, frame: int = 0
) -> None:
    """Draws two samples' contents, predictions and their difference.

    Args:
        r: The result.
        figure: Where to draw.
        a: One sample.
        b: The other.
        frame: Which frame of a clip.
    """
    outputs, contents = r.output_samples, r.content_samples
    if len(outputs) < 2 or outputs[0].size < 2:
        raise NotApplicable("each prediction is a single number; the view distances shows them all")
    given = [_flat(contents[i], frame) for i in (a, b)] if len(contents) == len(outputs) else []
    made = [_flat(outputs[i], frame) for i in (a, b)]
    clip = f", frame {frame}" if outputs.ndim == 5 else ""
    panels = [(f"input {name}{clip}", values) for name, values in zip((a, b), given, strict=False)]
    panels += [(f"{r.output_name} {name}{clip}", values) for name, values in zip((a, b), made, strict=True)]
    if made[0].ndim == 1:
        _lines(figure, given, made, (a, b), r.output_name)
        return
    grid = list(np.atleast_1d(figure.subplots(1, len(panels) + 1)))
    for axes, (title, values), peers in zip(grid, panels, [given] * len(given) + [made] * 2, strict=False):
        _show(axes, values, title, SEQUENTIAL, _range(peers))
    apart = made[0] - made[1]
    reach = float(np.nanmax(np.abs(apart), initial=0.0)) or 1.0
    if outputs.ndim == 3:
        for axes in grid[len(given) :]:
            axes.set(xlabel="channel", ylabel="token")
    _show(grid[-1], apart, f"{r.output_name} {a} − {b}", DIVERGING, (-reach, reach))


def _flat(sample: np.ndarray, frame: int) -> np.ndarray:
    """A vector, or one image (height, width): channels are averaged, tokens are rows."""
    if sample.ndim == 4:
        sample = sample[min(frame, len(sample) - 1)]
    if sample.ndim == 3:
        sample = sample.mean(0)
    return sample[:, 0] if sample.ndim == 2 and sample.shape[1] == 1 else sample


def _range(images: list[np.ndarray]) -> tuple[float, float]:
    finite = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    if finite.size == 0 or finite.min() == finite.max():
        middle = float(finite[0]) if finite.size else 0.0
        return middle - 0.5, middle + 0.5
    return float(finite.min()), float(finite.max())


def _show(axes: Axes, values: np.ndarray, title: str, colours: str, span: tuple[float, float]) -> None:
    axes.set_title(title, fontsize=9)
    if values.ndim == 1:
        axes.plot(values, color=ACCENT, lw=1)
        axes.tick_params(labelsize=7)
        return
    tall = values.shape[0] / values.shape[1]
    image = axes.imshow(
        values, cmap=colours, vmin=span[0], vmax=span[1], aspect="equal" if 0.25 < tall < 4 else "auto"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    bar = axes.figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.9, pad=0.04)
    bar.ax.tick_params(labelsize=7)
    bar.ax.locator_params(nbins=3)


def _lines(
    figure: Figure | SubFigure,
    given: list[np.ndarray],
    made: list[np.ndarray],
    names: tuple[int, int],
    output: str,
) -> None:
    flat = [values for values in (given, made) if values and values[0].ndim == 1]
    for axes, values in zip(np.atleast_1d(figure.subplots(1, len(flat))), flat, strict=True):
        places = np.arange(len(values[0]))
        style = {"ls": "-", "lw": 1.2} if len(places) > 24 else {"ls": ":", "lw": 0.8, "marker": "o", "ms": 5}
        axes.plot(places, values[0], color=ACCENT, label=f"sample {names[0]}", **style)
        axes.plot(
            places,
            values[1],
            color=SECOND,
            label=f"sample {names[1]}",
            **{**style, "marker": "s"} if "marker" in style else style,
        )
        axes.axhline(0, color=MUTED, lw=0.6)
        axes.set_title(output if values is made else "input")
        axes.set_xlabel("element")
        axes.set_ylabel("value")
        axes.legend(loc="best")
