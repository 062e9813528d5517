"""What one case of the study is, and how a small model is built and trained for it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CALIBRATION, HELD_OUT = "calibration", "held-out"
HALVES = (CALIBRATION, HELD_OUT)

Batch = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Subjects = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One model with one batch, and what a perfect diagnostic would say of it."""

    name: str
    kind: str
    half: str
    make: Callable[[], Subjects]
    """Builds `model`, `batch` and, where the case is about step 0, `fresh`; the same bits at every call."""
    expected_codes: tuple[str, ...] = ()
    """Codes of which at least one must speak up; empty for a healthy model."""
    injected: str = ""
    """Module whose output is the first that no longer moves; empty where nothing single was planted."""
    also: tuple[str, ...] = ()
    """Other modules that a person would accept as the answer: the linear before the ReLU that it kills."""
    fault: str = "healthy"
    level: str = "fail"
    """Mildest level that counts as found: `warn` where the output still moves (a dead branch, an ignored condition)."""
    source: str = ""
    """Input that the model ignores, where that is the fault."""
    may_warn: bool = False
    """Healthy, yet a warning is honest: a head that is zero by design at step 0."""
    axis: int = 0
    """Which axis is the batch."""


@dataclass(frozen=True)
class Family:
    """A kind of model with the small task that it is trained on."""

    kind: str
    build: Callable[[int], nn.Module]
    """Model of size 0 (calibration) or 1 (held-out)."""
    draw: Callable[[torch.Generator, int], tuple[Batch, Tensor]]
    """Inputs and target for n samples."""
    loss: Callable[[object, Tensor], Tensor]
    steps: int = 80
    lr: float = 3e-3
    held_out_only: bool = False
    axis: int = 0


def generator(seed: int) -> torch.Generator:
    """A random stream of its own, so that no case depends on another."""
    return torch.Generator().manual_seed(seed)


def call(model: nn.Module, batch: object) -> object:
    """Call a model on a batch as its owner would."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple):
        return model(*batch)
    return model(batch)


def built(family: Family, size: int, seed: int) -> nn.Module:
    """The model at init, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(size).eval()


def train(
    model: nn.Module, family: Family, seed: int, *, steps: int, lr: float, decay: float = 0.0
) -> nn.Module:
    """Train with AdamW on fresh draws of the family's task; returns the model in eval mode."""
    stream = generator(seed + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 2)
        for _ in range(steps):
            inputs, target = family.draw(stream, 32)
            optimizer.zero_grad()
            torch.autograd.backward(family.loss(call(model, inputs), target))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@functools.cache
def _trained(family: Family, size: int, seed: int) -> nn.Module:
    return train(built(family, size, seed), family, seed, steps=family.steps, lr=family.lr)


def trained(family: Family, size: int, seed: int) -> nn.Module:
    """A copy of the trained model; training itself happens once."""
    return copy.deepcopy(_trained(family, size, seed))


def batch_for(family: Family, seed: int, n: int = 16) -> Batch:
    """A batch that training has not seen."""
    return family.draw(generator(seed + 7), n)[0]


def seed_for(kind: str, size: int, repeat: int = 0) -> int:
    """Seeds that no two halves share."""
    return 1000 * (size + 1) + 100 * repeat + sum(map(ord, kind)) % 97
