"""Tiny subjects, healthy and sick: really trained in under a second, no download, no scikit-learn.

They are the digits example in small (see `trainlab.examples.digits`): 4 frames of 8 x 8 pixels in which a soft
blob bounces, and a model of two blocks. Each is trained once a process; every call hands out a copy.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import TypedDict

import torch
from torch import Tensor

from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import draw
from trainlab.examples.digits.model import DigitDynamics
from trainlab.examples.digits.run import Run
from trainlab.examples.digits.twins import LATE, TWINS, check_twin, plant

__all__ = ["CONFIG", "KINDS", "TinySubjects", "blobs", "healthy", "sick"]

KINDS: tuple[str, ...] = tuple(TWINS)

CONFIG = Config(
    frames=4,
    size=8,
    glyph=4,
    patch=2,
    dim=32,
    depth=2,
    heads=2,
    steps=160,
    batch=8,
    lr=1e-2,
    warmup=10,
    seed=1,
)


class TinySubjects(TypedDict):
    """What a diagnostic needs: ``model(**batch)`` without the target is its forward."""

    model: DigitDynamics
    batch: dict[str, Tensor]


def healthy() -> TinySubjects:
    """The healthy model and a batch of 16 clips: ``x``, ``tau`` and ``target`` as in `digits.one_batch`."""
    return _subjects(None)


def sick(kind: str) -> TinySubjects:
    """A sick twin of the healthy model, and the same batch.

    Args:
        kind: What is wrong with it, one of `KINDS`, told in `trainlab.examples.digits.twins`, or of `SLIPS`, told in
            `trainlab.examples.digits.slips`.

    Raises:
        UsageError: There is no such kind.
    """
    check_twin(kind)
    return _subjects(kind)


def blobs() -> Tensor:
    """What moves: 8 soft blobs, (blob, 4, 4) from -1 to 1, each of its own centre and width."""
    axis = torch.arange(4) - 1.5
    centre = torch.tensor([-0.5, 0.5])
    along = (axis - centre[:, None]).square()  # (centre, pixel)
    distance = along[:, None, :, None] + along[None, :, None, :]  # (row, column, pixel, pixel)
    width = torch.tensor([1.0, 2.0])[:, None, None, None, None]
    return 2 * torch.exp(-distance / width).flatten(0, 2) - 1


def _subjects(kind: str | None) -> TinySubjects:
    batch = draw(blobs(), 16, CONFIG, torch.Generator().manual_seed(1))
    if kind is None or kind not in LATE:
        return {"model": copy.deepcopy(_trained(kind)), "batch": batch}
    model = copy.deepcopy(_trained(None))
    plant(model, kind)
    return {"model": model, "batch": batch}


@cache
def _trained(kind: str | None) -> DigitDynamics:
    run, glyphs = Run.start(replace(CONFIG, twin=kind)), blobs()
    for _ in range(CONFIG.steps):
        run.step(glyphs)
    return run.model
