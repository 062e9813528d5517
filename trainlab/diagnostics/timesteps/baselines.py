"""What would a trivial answer lose at each level and frame? In closed form: no model is run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.timesteps.reading import Reading

__all__ = ["NAMES", "answers", "mean_of_others"]

NAMES = ("zero", "average", "copy", "ideal")


def answers(reading: Reading, kind: str, a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """Expected losses of trivial answers, in the space of the model's own answer.

    * ``zero``: 0 everywhere.
    * ``average``: the mean of what the other clips should be answered with, element by element.
    * ``copy``: the clean frame before; unknown for the first.
    * ``ideal``: the posterior mean if every element were Gaussian with its own mean and variance over the clips, and
      independent of the rest: the loss that no model can beat where that is so, and that a good one beats elsewhere.

    Args:
        reading: The batch.
        kind: What the model answers; see `Denoising`.
        a: (level) factor of the clean data.
        b: (level) factor of the noise.

    Returns:
        (level, frame, clip) float64, by name.
    """
    clean = reading.clean.detach().cpu().double()
    by_frame = reading.by_frame
    size = by_frame(clean.square()).numpy().T  # (frame, clip)
    off_average = by_frame((clean - mean_of_others(reading)).square()).numpy().T
    a, b = a[:, None, None], b[:, None, None]
    # an error in the clean data is so many times larger in the answer's space
    with np.errstate(divide="ignore"):
        stretch = {"epsilon": a / b, "v": (a**2 + b**2) / b, "flow": (a + b) / b}.get(kind, np.ones_like(a))
    # what is to be answered is a part of noise, of variance 1, and a part of clean data
    noisy = {"epsilon": np.ones_like(a), "v": a**2, "flow": np.ones_like(a)}.get(kind, np.zeros_like(a))
    part = {"epsilon": np.zeros_like(a), "v": b**2}.get(kind, np.ones_like(a))
    found = {
        "zero": noisy + part * size,
        "average": noisy + part * off_average,
        "copy": np.full((len(a), *size.shape), np.nan),
        "ideal": _ideal(reading, kind, a, b),
    }
    if reading.axis is not None:
        # an error in the clean data is so many times larger in the answer's space
        with np.errstate(divide="ignore"):
            stretch = {"epsilon": a / b, "v": (a**2 + b**2) / b, "flow": (a + b) / b}.get(
                kind, np.ones_like(a)
            )
        apart = by_frame((clean - clean.roll(1, reading.axis)).square()).numpy().T
        found["copy"] = apart * stretch**2
        found["copy"][:, 0] = np.nan
    return found


def mean_of_others(reading: Reading) -> Tensor:
    """For each clip the mean of all others, element by element, where they have data; 0 where none has."""
    clean, counts = _counted(reading)
    return (clean.sum(0) - clean) / (counts.sum(0) - counts).clamp(min=1)


def _counted(reading: Reading) -> tuple[Tensor, Tensor]:
    """The clean data, 0 where there are none, and 1 where there are."""
    clean = reading.clean.detach().cpu().double()
    mask = torch.ones(len(clean)) if reading.mask is None else reading.mask
    counts = reading.widen(mask.double()).expand(clean.shape)
    return torch.where(counts > 0, clean, 0.0), counts


def _ideal(reading: Reading, kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    shape = (len(a), reading.frames, len(reading.clean))
    if len(reading.clean) < 2:
        return np.full(shape, np.nan)
    clean, counts = _counted(reading)
    total = counts.sum(0, keepdim=True)
    mean = clean.sum(0, keepdim=True) / total.clamp(min=1)
    variance = ((clean - mean) * counts).square().sum(0, keepdim=True) / (total - 1).clamp(min=1)
    gain = {"epsilon": a**2, "v": (a**2 + b**2) ** 2, "flow": (a + b) ** 2}.get(kind, b**2)
    rows = []
    for one_a, one_b, one_gain in zip(a.flat, b.flat, gain.flat, strict=True):
        left = variance * one_gain / (one_a**2 * variance + one_b**2)
        rows.append(
            reading.by_frame(torch.nan_to_num(left)).numpy().T
        )  # 0 / 0: nothing to tell, nothing lost
    return np.broadcast_to(np.stack(rows), shape).copy()
