"""The tiny digits model, really trained, at two steps of its training."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from trainlab.examples.digits.data import draw
from trainlab.examples.digits.model import DigitDynamics
from trainlab.examples.digits.run import Run
from trainlab.examples.tiny import CONFIG, blobs
from trainlab.subjects import Checkpoint
from trainlab.subjects.checkpoint import outline

__all__ = ["example"]

STEPS = (80, 160)


def example() -> dict[str, object]:
    """The model, a batch of 16 clips, and its checkpoints, which lie in memory and have no file."""
    model, weights = _trained()
    batch = draw(blobs(), 16, CONFIG, torch.Generator().manual_seed(1))
    return {"model": copy.deepcopy(model), "batch": batch, "ckpts": tuple(map(_held, STEPS, weights))}


def _held(step: int, weights: dict[str, Tensor]) -> Checkpoint:
    path = Path(f"step_{step:04d}.pt")
    return Checkpoint(
        path, "torch", "model", None, {"iter": step}, outline(weights), {}, lambda: dict(weights)
    )


@cache
def _trained() -> tuple[DigitDynamics, list[dict[str, Tensor]]]:
    run, weights = Run.start(CONFIG), []
    for _ in range(STEPS[-1]):
        run.step(blobs())
        if run.iter in STEPS:
            weights.append({name: each.detach().clone() for name, each in run.model.state_dict().items()})
    return run.model, weights
