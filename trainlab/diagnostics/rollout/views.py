"""The pictures of `rollout`: a strip of frames, every measure by frame, one frame beside the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from trainlab.diagnostics.rollout.limits import RolloutLimits
from trainlab.diagnostics.rollout.result import RolloutResult
from trainlab.figure import ACCENT, DIVERGING, INK, MUTED, PALETTE, SHADE

__all__ = ["curves", "frame", "frame_knobs", "strip", "strip_knobs"]

LIMITS = RolloutLimits()
COLUMNS = 10  # frames that can be seen side by side
BEFORE = 2  # of them from the context
PANELS = (  # title, unit, measure
    ("PSNR", "dB", "psnr"),
    ("SSIM", "1 = alike", "ssim"),
    ("Detail", "× the truth's", "sharpness"),
    ("Motion", "× the truth's, log scale", "motion"),
    ("Jerk", "0 even, 0.6 erratic", "jerk"),
    ("Brightness and contrast", "", ""),
)
STILL = 0.01  # where the axis of motion ends, which is logarithmic
GAP = 0.06  # between rows, in heights of a frame
COPY = "copy of the last frame"


def strip_knobs(r: RolloutResult) -> dict[str, object]:
    """Which clip, and which predicted frame comes first."""
    last = r.horizon - (COLUMNS - min(BEFORE, r.context)) + 1
    return _clip_knob(r) | ({"first": (1, last, 1)} if last > 1 else {})


def strip(r: RolloutResult, figure: Figure | SubFigure, *, clip: int = 0, first: int = 1) -> None:
    """Draws frames side by side: the truth, the prediction, and the prediction minus the truth.

    Args:
        r: The result.
        figure: Where to draw.
        clip: Which clip.
        first: The first predicted frame to show; the end of the context comes before it where it is 1.
    """
    before = min(BEFORE, r.context) if first == 1 else 0
    places = [p for p in range(first - 1 - before, first - 1 - before + COLUMNS) if p < r.horizon]
    height, width = r.truth.shape[-2:]
    down = height / width
    axes = figure.add_subplot()
    axes.set_axis_off()
    reach = _reach(r, clip)
    image = None
    for column, place in enumerate(places):
        middle = column + 0.5
        truth = r.truth[clip, r.context + place].astype(float)
        _at(_picture(axes, truth, r), column, 0, down)
        name, colour = (
            (f"+{place + 1}", INK) if place >= 0 else (f"−{-place - 1}" if place < -1 else "0", MUTED)
        )
        axes.text(middle, -0.1 * down, name, ha="center", va="bottom", color=colour, fontsize=9)
        if place >= 0:
            predicted = r.predicted[clip, place].astype(float)
            _at(_picture(axes, predicted, r), column, 1, down)
            image = _difference(axes, predicted - truth, reach)
            _at(image, column, 2, down)
            axes.text(
                middle,
                2 * (1 + GAP) * down + 1.08 * down,
                _decibels(r.clip_psnr[clip, place]),
                ha="center",
                va="top",
                fontsize=8,
            )
    for row, label in enumerate(("truth", "prediction", "error")):
        axes.text(-0.12, (row * (1 + GAP) + 0.5) * down, label, ha="right", va="center")
    if before:
        axes.text(
            before / 2, (1.5 + GAP) * down, "context", ha="center", va="center", color=MUTED, fontsize=9
        )
    axes.set(xlim=(-0.02, len(places)), ylim=(down * (3 + 2 * GAP), 0), aspect="equal")
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=24, pad=0.01, label="prediction − truth")
    bar.ax.tick_params(labelsize=8)
    axes.set_title(f"Clip {clip}, frames after the context; below each, its PSNR", pad=22)


def curves(r: RolloutResult, figure: Figure | SubFigure) -> None:
    """Draws every measure by frame, beside that of copying the last frame and the limits.

    Args:
        r: The result.
        figure: Where to draw.
    """
    grid = figure.subplots(2, 3)
    psnr, _, detail, motion, jerk, tone = grid.ravel()
    for axes, (title, unit, name) in zip(grid.ravel(), PANELS, strict=True):
        axes.set_title(title)
        axes.set_ylabel(unit, fontsize=9)
        axes.set_xlabel("frames after the context", fontsize=9)
        axes.set_xlim(0.5, r.horizon + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        if name:
            _pair(axes, r, name)
    if len(r.clip_psnr) > 1:
        low, high = (np.where(np.isfinite(v), v, np.nan) for v in (r.clip_psnr.min(0), r.clip_psnr.max(0)))
        psnr.fill_between(r.frame_ahead, low, high, color=ACCENT, alpha=0.15, lw=0, label="all clips")
    jerk.plot(r.frame_ahead, r.frame_truth_jerk, color=INK, lw=1.2, ls=":", label="truth")
    _tone(tone, r)
    motion.set_yscale("log")
    seen = np.concatenate([r.frame_motion, [LIMITS.motion_max]])
    motion.set_ylim(STILL, 2 * np.max(seen, where=np.isfinite(seen), initial=1.0))
    motion.yaxis.set_major_formatter("{x:g}")
    detail.set_ylim(bottom=0)
    allowed = r.frame_truth_jerk + LIMITS.jerk_max
    jerk.set_ylim(0, max(jerk.get_ylim()[1], 1.15 * np.max(allowed, where=np.isfinite(allowed), initial=0.0)))
    _forbid(psnr, r, below=LIMITS.psnr_min)
    detail_from = min(LIMITS.sharp_after, r.horizon - 1)
    _forbid(detail, r, below=np.where(r.frame_ahead > detail_from, LIMITS.sharpness_min, np.nan))
    _forbid(motion, r, below=LIMITS.motion_min, above=LIMITS.motion_max)
    _forbid(jerk, r, above=allowed)
    found = {
        label: handle
        for axes in (psnr, jerk)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    found["not allowed"] = Patch(facecolor=SHADE)
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=len(found))


def frame_knobs(r: RolloutResult) -> dict[str, object]:
    """Which clip, and which predicted frame."""
    return ({"frame": (1, r.horizon, 1)} if r.horizon > 1 else {}) | _clip_knob(r)


def frame(r: RolloutResult, figure: Figure | SubFigure, *, frame: int = 1, clip: int = 0) -> None:
    """Draws one frame: the truth, the prediction, and the prediction minus the truth.

    Args:
        r: The result.
        figure: Where to draw.
        frame: Which predicted frame; 1 is the first.
        clip: Which clip.
    """
    left, middle, right = figure.subplots(1, 3)
    truth = r.truth[clip, r.context + frame - 1].astype(float)
    predicted = r.predicted[clip, frame - 1].astype(float)
    shown = _picture(left, truth, r)
    _picture(middle, predicted, r)
    image = _difference(right, predicted - truth, _reach(r, clip))
    for axes, title in ((left, "truth"), (middle, "prediction"), (right, "prediction − truth")):
        axes.set_title(title, loc="center", fontweight="normal")
        axes.set_axis_off()
    if r.truth.shape[2] != 3:
        figure.colorbar(shown, ax=[left, middle], shrink=0.8, pad=0.02)
    figure.colorbar(image, ax=right, shrink=0.8, pad=0.04)
    figure.suptitle(
        f"Clip {clip}, frame +{frame}: {_decibels(r.clip_psnr[clip, frame - 1])}",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )


def _clip_knob(r: RolloutResult) -> dict[str, object]:
    return {"clip": (0, len(r.truth) - 1, 1)} if len(r.truth) > 1 else {}


def _pair(axes: Axes, r: RolloutResult, name: str) -> None:
    copied, predicted = getattr(r, f"frame_copy_{name}"), getattr(r, f"frame_{name}")
    if name == "motion":  # a logarithmic axis has no 0
        copied, predicted = np.maximum(copied, STILL), np.maximum(predicted, STILL)
    axes.plot(r.frame_ahead, copied, color=MUTED, lw=1.2, ls="--", label=COPY)
    axes.plot(
        r.frame_ahead, predicted, color=ACCENT, label="prediction", clip_on=name != "motion", **_marks(r)
    )


def _marks(r: RolloutResult) -> dict[str, Any]:
    return {"lw": 1.8, "marker": "o" if r.horizon <= 32 else "", "ms": 4}


def _tone(axes: Axes, r: RolloutResult) -> None:
    lines = (
        (r.frame_contrast, ACCENT, "contrast, × the truth's", (LIMITS.contrast_min, LIMITS.contrast_max)),
        (
            r.frame_brightness,
            PALETTE[2],
            "brightness off, of the range",
            (-LIMITS.brightness_max, LIMITS.brightness_max),
        ),
    )
    for values, colour, label, limits in lines:
        axes.plot(r.frame_ahead, values, color=colour, label=label, **_marks(r))
        for limit in limits:
            axes.axhline(limit, color=colour, lw=0.8, ls=":")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.15), max(high, 1.9))  # room for the legend
    axes.legend(loc="upper left")


def _forbid(
    axes: Axes, r: RolloutResult, *, below: float | np.ndarray = np.nan, above: float | np.ndarray = np.nan
) -> None:
    """Shades what a rule does not allow; the limit is always in sight."""
    low, high = axes.get_ylim()
    if np.ndim(below) == 0 and np.isfinite(below):
        low = min(low, 0.9 * float(below))
    x = r.frame_ahead
    for edge, limit in ((low, below), (high, above)):
        edges = np.broadcast_to(np.asarray(limit, float), x.shape)
        x_wide = np.stack([x - 0.5, x + 0.5], 1).ravel()
        axes.fill_between(x_wide, edge, np.clip(np.repeat(edges, 2), low, high), color=SHADE, lw=0, zorder=0)
    axes.set_ylim(low, high)


def _at(image: AxesImage, column: int, row: int, down: float) -> None:
    """Puts a frame into its cell of the strip, which is 1 wide and ``down`` high."""
    top = row * (1 + GAP) * down
    image.set_extent((column, column + 1 - GAP, top + down, top))


def _picture(axes: Axes, values: np.ndarray, r: RolloutResult) -> AxesImage:
    """A frame (channel, height, width) in colour where it has three channels, else the mean of its channels in grey."""
    if len(values) == 3:
        share = np.clip((values - r.low) / (r.high - r.low), 0, 1)
        return axes.imshow(np.nan_to_num(share).transpose(1, 2, 0), aspect="equal")
    return axes.imshow(values.mean(0), cmap="gray", vmin=r.low, vmax=r.high, aspect="equal")


def _difference(axes: Axes, values: np.ndarray, reach: float) -> AxesImage:
    return axes.imshow(values.mean(0), cmap=DIVERGING, vmin=-reach, vmax=reach, aspect="equal")


def _reach(r: RolloutResult, clip: int) -> float:
    """The largest error of a clip in any frame, so that frames can be compared."""
    apart = np.abs((r.predicted[clip].astype(float) - r.truth[clip, r.context :]).mean(1))
    known = apart[np.isfinite(apart)]
    return float(known.max(initial=0.0)) or r.high - r.low


def _decibels(value: float) -> str:
    return "not finite" if np.isnan(value) else f"{value:.1f} dB"
