"""Slips: sick twins whose fault is one line of the training step, not of the model.

Each trains the healthy model on what the slip makes of every batch; `twins` plants faults in weights instead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["SLIPS", "slip"]

Batch = dict[str, Tensor]


def tau_flipped(batch: Batch) -> Batch:
    """The model is told 1 − tau: trained with the opposite meaning, 1 clean and 0 noise."""
    return batch | {"tau": 1 - batch["tau"]}


def tau_ignored(batch: Batch) -> Batch:
    """Every frame is told the level of some other: the level says nothing, and the model learns not to listen."""
    return batch | {"tau": batch["tau"].flip(0, 1)}


def copy_neighbour(batch: Batch) -> Batch:
    """The target lies one frame back: the model learns to answer with its neighbour, which it can copy."""
    target = batch["target"]
    return batch | {"target": torch.cat([target[:, :1], target[:, :-1]], dim=1)}


def late_untrained(batch: Batch) -> Batch:
    """The second half of every clip is padding that nobody masked: later frames are trained on blanks alone."""
    half = batch["target"].shape[1] // 2
    clean, x = batch["target"].clone(), batch["x"].clone()
    x[:, half:] -= (1 - batch["tau"][:, half:, None, None, None]) * clean[:, half:]
    clean[:, half:] = 0
    return batch | {"x": x, "target": clean}


def frame_zeroed(batch: Batch) -> Batch:
    """One frame's target is black in every clip: an index that the loader never fills."""
    target = batch["target"].clone()
    target[:, target.shape[1] // 2] = 0
    return batch | {"target": target}


def cosine_mixed(batch: Batch) -> Batch:
    """The frames were mixed by a cosine schedule, cos(tau·π/2) · clean + sin(tau·π/2) · noise."""
    tau, clean = batch["tau"][:, :, None, None, None], batch["target"]
    noise = (batch["x"] - (1 - tau) * clean) / tau.clamp(min=1e-3)
    angle = tau * torch.pi / 2
    return batch | {"x": angle.cos() * clean + angle.sin() * noise}


SLIPS: MappingProxyType[str, Callable[[Batch], Batch]] = MappingProxyType(
    {
        each.__name__: each
        for each in (tau_flipped, tau_ignored, copy_neighbour, late_untrained, frame_zeroed, cosine_mixed)
    }
)


def slip(batch: Batch, twin: str | None) -> Batch:
    """The batch that a run of this twin trains on; the same one where the twin is no slip."""
    return SLIPS[twin](batch) if twin is not None and twin in SLIPS else batch
