"""What the probe of `rollout` finds: how every predicted frame compares with the true one."""

from __future__ import annotations

import math

import numpy as np

from trainlab.result import Result, column

__all__ = ["RolloutResult"]


class RolloutResult(Result, kind="rollout", schema=1):
    """Clips continued from their first frames, measured by frame beside the answer "nothing moves any more".

    ``frame_copy_…`` are the same numbers for copying the last frame of the context. A frame's number pools all
    clips: energies and squared errors are added up before a ratio is taken; NaN where a frame is not finite.
    Energy is a sum of squares; *high* is above `cutoff`; *coarse* is the 5 × 5 lowest cosines of a frame
    (orthonormal DCT-II), waves of half the frame and longer.
    """

    frame_ahead: np.ndarray = column("frame")
    """(frame) int64; 1 is the first frame after the context."""
    frame_psnr: np.ndarray = column("frame")
    """(frame) float64, dB; peak signal-to-noise ratio over the pixels of all clips; infinite where all are equal."""
    frame_copy_psnr: np.ndarray = column("frame")
    frame_ssim: np.ndarray = column("frame")
    """(frame) float64, −1 to 1; structural similarity (Wang et al. 2004), mean over the clips; NaN for frames of
    less than 3 pixels a side."""
    frame_copy_ssim: np.ndarray = column("frame")
    frame_sharpness: np.ndarray = column("frame")
    """(frame) float64; high energy over the truth's; 1 is as sharp. NaN where the truth is flat. Noise counts as sharp."""
    frame_copy_sharpness: np.ndarray = column("frame")
    frame_motion: np.ndarray = column("frame")
    """(frame) float64; energy of the difference to the frame before, over the truth's; 1 moves as much. NaN where the
    truth stands still."""
    frame_copy_motion: np.ndarray = column("frame")
    frame_jerk: np.ndarray = column("frame")
    """(frame) float64; energy of the coarse third difference over ten times the energy of the truth's coarse
    difference, mean over the rollout: about 0 for even motion, 0.6 where the velocity is drawn anew at each frame, 1
    where the place is. NaN before there are four frames, and where the truth stands still."""
    frame_copy_jerk: np.ndarray = column("frame")
    frame_truth_jerk: np.ndarray = column("frame")
    """(frame) float64; the truth's own."""
    frame_brightness: np.ndarray = column("frame")
    """(frame) float64, share of the value range; mean of the prediction minus mean of the truth."""
    frame_copy_brightness: np.ndarray = column("frame")
    frame_contrast: np.ndarray = column("frame")
    """(frame) float64; standard deviation over the pixels of a frame, over the truth's (variances are pooled). NaN where
    the truth is flat."""
    frame_copy_contrast: np.ndarray = column("frame")
    frame_nonfinite: np.ndarray = column("frame")
    """(frame) int64; NaNs and infinities among the predicted values."""

    clip_psnr: np.ndarray
    """(clip, frame) float64, dB; of each clip alone."""
    clip_motion: np.ndarray
    """(clip, frame) float64; energy of the difference to the frame before, over the mean of the truth's in the same
    clip; NaN where that clip stands still."""
    clip_truth_motion: np.ndarray
    """(clip, frame) float64; the truth's own."""

    truth: np.ndarray
    """(clip, frame, channel, height, width) float16; the first clips, context and future, for the pictures: at most 8
    clips and 2²⁰ numbers, of large frames every 2nd, 3rd, … pixel."""
    predicted: np.ndarray
    """(clip, frame, channel, height, width) float16; the predicted frames of the same clips."""

    method: str
    """How the model was rolled out."""
    method_reason: str
    """Why in that way."""
    video: str
    """Which tensor of the batch is the truth, and its layout."""
    low: float
    high: float
    """Value range, from black to white: the peak of PSNR and SSIM is high − low. Predictions are not clipped to it."""
    range_reason: str
    """Where the range is from."""
    context: int
    """Frames that were given."""
    horizon: int
    """Frames that were predicted."""
    steps: int
    """Denoising steps a frame; of use to diffusion forcing alone."""
    seed: int
    clips: int
    shape: str
    """Channels × height × width of a frame."""
    thinned: int
    """Every so manieth pixel of a frame is kept in `truth` and `predicted`."""
    cutoff: float
    """Cycles a pixel; a tenth of the truth's energy, its mean aside, lies at this spatial frequency and above."""
    ssim_window: int
    """Side of the uniform window of SSIM, pixels; 0 where frames are too small for one."""
    model_name: str
    """Class of the model."""

    def gain(self) -> float:
        """PSNR over all predicted frames minus that of copying the last one, dB; NaN where nothing can be compared."""
        known = ~np.isnan(self.frame_psnr)
        error, copied = (
            float((10 ** (-psnr[known] / 10)).sum()) for psnr in (self.frame_psnr, self.frame_copy_psnr)
        )
        if copied == 0:
            return math.nan
        return math.inf if error == 0 else 10 * math.log10(copied / error)
