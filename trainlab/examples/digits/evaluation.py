"""What the training was worth: held-out loss beside trivial answers, and a strip of frames to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import mse_loss, pad

from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import digits, levels, moving, noisy
from trainlab.examples.digits.model import DigitDynamics

__all__ = ["Evaluation", "ahead", "evaluate", "strip"]


@dataclass(frozen=True)
class Evaluation:
    """Mean squared errors on 64 held-out clips; pixels go from -1 to 1."""

    loss: float
    """All frames, at noise levels drawn as in training."""
    loss_mean: float
    """All frames, answered with the mean training clip."""
    next_loss: float
    """The last frame, from nothing but the clean frames before it."""
    next_copy: float
    """The last frame, answered with the one before it."""
    next_mean: float
    """The last frame, answered with the mean training clip."""

    def __str__(self) -> str:
        return (
            f"held-out loss {self.loss:.4f} (predict the mean: {self.loss_mean:.4f}); "
            f"next frame {self.next_loss:.4f} "
            f"(copy the previous: {self.next_copy:.4f}, predict the mean: {self.next_mean:.4f})"
        )


def evaluate(model: DigitDynamics, config: Config) -> Evaluation:
    """Measures a model on held-out clips, always the same ones.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    rng = torch.Generator().manual_seed(2)
    clips = moving(digits(held_out=True), 64, config, rng)
    mean = moving(digits(held_out=False), 1000, config, rng).mean(0)
    tau = levels(len(clips), config, rng)
    last = torch.zeros_like(tau)
    last[:, -1] = 1
    with torch.no_grad():
        denoised = model(noisy(clips, tau, rng), tau)
        forecast = model(noisy(clips, last, rng), last)[:, -1]
    return Evaluation(
        loss=mse_loss(denoised, clips).item(),
        loss_mean=mse_loss(mean.expand_as(clips), clips).item(),
        next_loss=mse_loss(forecast, clips[:, -1]).item(),
        next_copy=mse_loss(clips[:, -2], clips[:, -1]).item(),
        next_mean=mse_loss(mean[-1].expand_as(clips[:, -1]), clips[:, -1]).item(),
    )


def ahead(model: Callable[[Tensor, Tensor], Tensor], clips: Tensor) -> Tensor:
    """Predicts each frame from nothing but the clean frames before it.

    Args:
        model: Takes noisy frames and their ``tau``, gives clean frames.
        clips: Clean frames, (clip, frame, channel, height, width).

    Returns:
        Shaped as ``clips``. One forward a frame.
    """
    rng = torch.Generator().manual_seed(3)
    predicted, tau = torch.empty_like(clips), torch.ones(clips.shape[:2])
    with torch.no_grad():
        for moment in range(clips.shape[1]):
            predicted[:, moment] = model(noisy(clips, tau, rng), tau)[:, moment]
            tau[:, moment] = 0
    return predicted


def strip(model: DigitDynamics, config: Config) -> Figure:
    """Draws one held-out clip: the truth, its noisy frames, what the model makes of them, and one frame ahead.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    rng = torch.Generator().manual_seed(4)
    clips = moving(digits(held_out=True), 1, config, rng)
    tau = torch.linspace(0, 1, config.frames).expand(clips.shape[:2])
    x = noisy(clips, tau, rng)
    with torch.no_grad():
        predicted = model(x, tau)
    rows = {
        "truth": clips,
        "input: noise grows": x,
        "predicted from it": predicted,
        "one frame ahead": ahead(model, clips),
    }
    figure = Figure(figsize=(11, 3), dpi=150, layout="constrained", facecolor="white")
    for axes, (label, frames) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        axes.imshow(mosaic(frames[0, :, 0]), cmap="gray_r", vmin=-1, vmax=1)
        axes.set_axis_off()
        axes.text(-4, config.size / 2, label, ha="right", va="center")
    return figure


def mosaic(frames: Tensor) -> np.ndarray:
    """Frames (frame, height, width) side by side, a pixel of grey between them: (height, all widths)."""
    return pad(frames, (0, 1)).permute(1, 0, 2).flatten(1)[:, :-1].numpy()
