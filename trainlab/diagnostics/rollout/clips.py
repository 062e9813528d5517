"""Finds the clips in a batch: which tensor, which axis is what, and from where to where its values go."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from trainlab.errors import NotApplicable, SubjectError, UsageError, did_you_mean
from trainlab.visit import tensors
from trainlab.visit.target import TARGETS

__all__ = ["CHANNELS_FIRST", "FRAMES_FIRST", "Clips", "find"]

FRAMES_FIRST = "frames first"
CHANNELS_FIRST = "channels first"
CHANNELS = (1, 3, 4)  # grey, RGB, RGB and alpha


@dataclass(frozen=True)
class Clips:
    """The true clips.

    Attributes:
        frames: (clip, frame, channel, height, width), floating.
        name: Its name in the batch, and its layout, in words.
        channels_first: In the batch, and so for the model, the channels come before the frames.
        low: Value of black.
        high: Value of white.
        range_reason: Where these two are from.
    """

    frames: Tensor
    name: str
    channels_first: bool
    low: float
    high: float
    range_reason: str


def find(
    batch: object, *, video: str, layout: str, low: float | None, high: float | None, clips: int
) -> Clips:
    """Finds the clips: the floating tensor of five axes that is the target, or the first there is.

    Args:
        batch: Any nesting of tensors.
        video: Name of the tensor; "" looks for it.
        layout: ``frames first`` (batch, frame, channel, height, width), ``channels first`` (batch, channel, frame,
            height, width) or "": channels first where axis 1 could be channels (1, 3, 4) and axis 2 could not.
        low: Value of black; None guesses.
        high: Value of white; None guesses.
        clips: Take at most so many.

    Raises:
        NotApplicable: There is no such tensor, or it is one number everywhere.
        SubjectError: It holds NaN or Inf.
        UsageError: A name is not known, or the value range is empty.
    """
    if layout not in ("", FRAMES_FIRST, CHANNELS_FIRST):
        raise UsageError(
            f"there is no layout {layout!r}", fix=did_you_mean(layout, [FRAMES_FIRST, CHANNELS_FIRST])
        )
    held = tensors(batch)
    fit = {name: t for name, t in held.items() if t.dim() == 5 and t.is_floating_point() and t.numel()}
    if video and video not in held:
        raise UsageError(f"the batch has no entry {video!r}", fix=did_you_mean(video, held))
    if video not in fit and (video or not fit):
        shapes = ", ".join(
            f"{name or 'batch'} {tuple(t.shape)} {str(t.dtype)[6:]}" for name, t in held.items()
        )
        raise NotApplicable(
            f"{video} is no video" if video else "the batch holds no video",
            seen=shapes or type(batch).__name__,
            fix="a floating tensor (batch, frame, channel, height, width), in the values that the model takes",
        )
    chosen = video or next((name for name in TARGETS if name in fit), next(iter(fit)))
    found = fit[chosen][:clips].detach()
    if not found.isfinite().all():
        raise SubjectError(
            f"{chosen or 'the batch'} is not finite, and it is the truth to compare with",
            seen=f"{int((~found.isfinite()).sum())} NaN or Inf in {tuple(found.shape)}",
            fix="look at how the batch is loaded and normalised",
        )
    first, second = found.shape[1:3]
    channels_first = layout == CHANNELS_FIRST or (not layout and first in CHANNELS and second not in CHANNELS)
    frames = found.transpose(1, 2) if channels_first else found
    words = (
        f"{chosen or 'the batch'} {tuple(found.shape)}, {CHANNELS_FIRST if channels_first else FRAMES_FIRST}"
    )
    least, most, reason = value_range(frames, low, high)
    return Clips(
        frames, words + (" as given" if layout else " by its shape"), channels_first, least, most, reason
    )


def value_range(frames: Tensor, low: float | None, high: float | None) -> tuple[float, float, str]:
    """From where to where the values of a video go: as given, or the least usual range that holds the truth."""
    least, most = float(frames.min()), float(frames.max())
    if least == most:
        raise NotApplicable(
            "the clips are one number everywhere", fix="give a batch of clips in which something moves"
        )
    usual = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
    slack = 1e-3  # resampling and half precision overshoot a little
    guess = next(
        ((a, b) for a, b in usual if least >= a - slack * (b - a) and most <= b + slack * (b - a)), None
    )
    start, end = guess or (least, most)
    reason = (
        f"the truth goes from {least:.3g} to {most:.3g}: the least usual range that holds it"
        if guess
        else f"the truth's own least and largest value, {least:.3g} and {most:.3g}: no usual range holds them"
    )
    if low is not None and high is not None:
        reason = "as given"
    elif low is not None or high is not None:
        reason = f"{'low' if low is not None else 'high'} as given; {reason}"
    start, end = (start if low is None else float(low)), (end if high is None else float(high))
    if not -math.inf < start < end < math.inf:
        raise UsageError(
            "the value range is empty",
            seen=f"low {start:g}, high {end:g}",
            fix="low below high, e.g. 0 and 1",
        )
    return start, end, reason
