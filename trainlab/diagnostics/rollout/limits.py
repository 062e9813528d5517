"""Where the rules of `rollout` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RolloutLimits"]


@dataclass(frozen=True)
class RolloutLimits:
    """Thresholds; each is used where its comment says."""

    # Least PSNR of a frame, dB. The bar that people who train video models hold a rollout to; at 15 dB the error is
    # 18 % of the value range (rms), and what is left of a picture is its layout.
    psnr_min: float = 15.0
    # By how much PSNR must exceed that of copying the last frame, over all predicted frames, dB. The MPEG committee takes
    # 0.5 dB as the least difference that can be seen (Salomon, Data Compression, 4th ed., 2007).
    copy_gain_min: float = 0.5
    # Predicted frames after which blur is a fault: "predictions blurry beyond frame 4" is how it is noticed.
    sharp_after: int = 4
    # Least share of the truth's high energy. A quarter of the energy is half of the contrast: MTF50, by which lenses are
    # called sharp or not (measured as in ISO 12233). A Gaussian blur of 0.75 pixels does it at half the Nyquist frequency.
    sharpness_min: float = 0.25
    # Range of the motion's energy over the truth's. For motion less than an edge is wide, energy goes with the square of
    # speed: a quarter is half the speed, 4 is twice.
    motion_min: float = 0.25
    motion_max: float = 4.0
    # How much jerkier than the truth. Motion whose velocity is drawn anew at each frame has 0.6, by arithmetic: the second
    # difference of white noise, (1 + 4 + 1) / 10. Half of that.
    jerk_max: float = 0.3
    # Brightness off the truth, share of the value range: 13 of 255 grey levels. Alone, it holds PSNR below 26 dB.
    brightness_max: float = 0.05
    # Range of the contrast over the truth's: half and twice the variance.
    contrast_min: float = 0.7
    contrast_max: float = 1.4
    # Motion's energy, over the mean of the truth's in the same clip, below which a clip stands still: a tenth of the speed.
    frozen_max: float = 0.01
    # Share of the clips that may freeze before it is a failure and no warning: a single odd clip in ten.
    frozen_share_max: float = 0.1
