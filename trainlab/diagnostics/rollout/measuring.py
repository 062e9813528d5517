"""Measures predicted frames against true ones: PSNR and SSIM by scikit-image, sharpness and motion by energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trainlab.errors import MissingExtraError
from trainlab.progress import track

__all__ = [
    "MEASURES",
    "Against",
    "Energies",
    "cosines",
    "cutoff",
    "energies",
    "frequencies",
    "measure",
    "metrics",
    "ssim_window",
]

MEASURES = ("psnr", "ssim", "sharpness", "motion", "jerk", "brightness", "contrast")
COARSE = 5  # cosines a side: waves of half the frame and longer
FINE = 0.1  # share of the truth's energy that counts as fine detail
WINDOW = 7  # pixels; scikit-image's own
SILENCE = 1e-10  # energy a pixel over the squared value range below which the truth has none: -100 dB


class Energies(NamedTuple):
    """Sums of squares of each predicted frame, (clip, frame) float64."""

    high: np.ndarray
    """At the cutoff and above."""
    motion: np.ndarray
    """Of the difference to the frame before."""
    coarse: np.ndarray
    """Of the same difference, coarse."""
    jerk: np.ndarray
    """Of the third difference, coarse; NaN before there are four frames."""
    mean: np.ndarray
    """Not an energy: the mean."""
    variance: np.ndarray
    """Per pixel."""


@dataclass(frozen=True)
class Against:
    """A continuation against the truth, by frame (frame) and by clip (clip, frame); see `RolloutResult`."""

    psnr: np.ndarray
    ssim: np.ndarray
    sharpness: np.ndarray
    motion: np.ndarray
    jerk: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    truth_jerk: np.ndarray
    clip_psnr: np.ndarray
    clip_motion: np.ndarray
    clip_truth_motion: np.ndarray


def metrics() -> Any:
    """The module ``skimage.metrics``.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    try:
        import skimage.metrics
    except ImportError as error:
        raise MissingExtraError("scikit-image", extra="video", purpose="The diagnostic rollout") from error
    return skimage.metrics


def cosines(size: int) -> np.ndarray:
    """The orthonormal DCT-II, (frequency, pixel) float64; row k has k / (2 · size) cycles a pixel.

    Mirrors a frame at its edges, where a Fourier transform would see a step from the last pixel to the first.
    """
    frequency, pixel = np.arange(size)[:, None], np.arange(size)[None]
    rows: np.ndarray = np.cos(np.pi * frequency * (2 * pixel + 1) / (2 * size)) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return rows


def frequencies(height: int, width: int) -> np.ndarray:
    """Spatial frequency of each coefficient, (height, width), cycles a pixel."""
    down, across = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    return np.hypot(down[:, None], across[None])


def cutoff(truth: np.ndarray) -> float:
    """The spatial frequency at and above which lies a tenth of the energy of all frames, their means aside.

    Args:
        truth: (clip, frame, channel, height, width) float64.

    Returns:
        Cycles a pixel.
    """
    height, width = truth.shape[-2:]
    down, across = cosines(height), cosines(width)
    power = sum(((down @ clip @ across.T) ** 2).sum((0, 1)) for clip in truth)
    frequency = frequencies(height, width).ravel()
    order = np.argsort(-frequency, kind="stable")[:-1]  # the last is the mean
    above = np.cumsum(np.asarray(power).ravel()[order])
    reached = np.searchsorted(above, FINE * above[-1])
    return float(frequency[order[min(reached, len(order) - 1)]])


def energies(clips: np.ndarray, context: int, limit: float, *, label: str) -> Energies:
    """Measures every frame after the context by itself and beside those before it.

    Args:
        clips: (clip, frame, channel, height, width) float64, context and continuation.
        context: Frames of context, 1 or more.
        limit: Cutoff of the high frequencies, cycles a pixel.
        label: What is measured, for the progress.
    """
    height, width = clips.shape[-2:]
    down, across = cosines(height), cosines(width)
    high = frequencies(height, width) >= limit
    rows = []
    for clip in track(clips, label=label):
        coefficients = down @ clip @ across.T
        coarse = coefficients[..., :COARSE, :COARSE]
        third = (np.diff(coarse, n=3, axis=0) ** 2).sum((1, 2, 3))
        early = np.full(min(3, len(clip)), np.nan)
        rows.append(
            (
                (coefficients[context:] ** 2 * high).sum((1, 2, 3)),
                (np.diff(clip, axis=0)[context - 1 :] ** 2).sum((1, 2, 3)),
                (np.diff(coarse, axis=0)[context - 1 :] ** 2).sum((1, 2, 3)),
                np.concatenate([early, third])[context:],
                clip[context:].mean((1, 2, 3)),
                clip[context:].var((1, 2, 3)),
            )
        )
    return Energies(*(np.array(column) for column in zip(*rows, strict=True)))


def measure(
    truth: np.ndarray, predicted: np.ndarray, of_truth: Energies, found: Energies, span: float
) -> Against:
    """Compares a continuation with the truth.

    Args:
        truth: The true frames after the context, (clip, frame, channel, height, width) float64.
        predicted: The continuation, of the same shape.
        of_truth: Energies of the truth.
        found: Energies of the continuation.
        span: Value of white minus value of black.
    """
    library = metrics()
    window = ssim_window(*truth.shape[-2:])
    count = truth.shape[1]

    def psnr(a: np.ndarray, b: np.ndarray) -> float:
        return float(library.peak_signal_noise_ratio(a, b, data_range=span))

    def ssim(a: np.ndarray, b: np.ndarray) -> float:
        return float(library.structural_similarity(a, b, data_range=span, channel_axis=0, win_size=window))

    pairs = list(zip(truth, predicted, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):  # equal frames have an infinite PSNR
        by_clip = np.array([[psnr(*frames) for frames in zip(a, b, strict=True)] for a, b in pairs])
        pooled = np.array([psnr(truth[:, i], predicted[:, i]) for i in range(count)])
        alike = np.full(count, np.nan)
        if window:
            alike = np.mean(
                [
                    [ssim(*frames) for frames in zip(a, b, strict=True)]
                    for a, b in track(pairs, label="rollout: SSIM")
                ],
                axis=0,
            )
    typical = of_truth.motion.mean(1, keepdims=True)
    clip_silence = SILENCE * span**2 * truth[0, 0].size
    silence = clip_silence * len(truth)
    moves = max(
        0.01 * float(typical.sum()), silence
    )  # where all clips pause, there is no motion to compare with
    erratic = 10 * of_truth.coarse.sum(0).mean()  # the third difference's energy, were places drawn anew
    return Against(
        psnr=pooled,
        ssim=alike,
        sharpness=_ratio(found.high.sum(0), of_truth.high.sum(0), silence),
        motion=_ratio(found.motion.sum(0), of_truth.motion.sum(0), moves),
        jerk=_ratio(found.jerk.sum(0), erratic, silence),
        truth_jerk=_ratio(of_truth.jerk.sum(0), erratic, silence),
        brightness=(found.mean - of_truth.mean).mean(0) / span,
        contrast=np.sqrt(
            _ratio(found.variance.sum(0), of_truth.variance.sum(0), SILENCE * span**2 * len(truth))
        ),
        clip_psnr=by_clip,
        clip_motion=_ratio(found.motion, typical, clip_silence),
        clip_truth_motion=_ratio(of_truth.motion, typical, clip_silence),
    )


def ssim_window(height: int, width: int) -> int:
    """Side of the window of SSIM: 7 pixels, or the largest odd number that fits; 0 below 3."""
    side = min(height, width, WINDOW)
    return side - (side + 1) % 2 if side >= 3 else 0


def _ratio(part: np.ndarray, whole: Any, least: float) -> np.ndarray:
    """NaN where the whole is too small to compare with."""
    ratio = np.full(part.shape, np.nan)
    whole = np.broadcast_to(whole, part.shape)
    np.divide(part, whole, out=ratio, where=whole > least)
    return ratio
