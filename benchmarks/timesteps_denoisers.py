"""Small denoisers of vectors, really trained in about a second, healthy and with one slip each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.timesteps.objectives import Denoising
from trainlab.diagnostics.timesteps.reading import Reading
from trainlab.diagnostics.timesteps.schedules import Schedule

__all__ = ["Denoiser", "Recipe", "data", "trained"]

WIDTH = 16  # of the vectors
STEPS, BATCH = 1000, 256


@dataclass(frozen=True)
class Recipe:
    """How a denoiser is trained.

    Attributes:
        kind: What it answers.
        schedule: How its training mixes noise.
        steps: Timesteps; 0 for continuous levels.
        hidden: Units in a layer.
        seed: Of everything.
        slip: What goes wrong: ``flipped``, ``ignored``, ``one more``, ``one less``, ``dead``; "" for nothing.
    """

    kind: str = "epsilon"
    schedule: str = "linear"
    steps: int = 50
    hidden: int = 128
    seed: int = 0
    slip: str = ""


def data(count: int, seed: int) -> Tensor:
    """Waves of random frequency and phase, (count, 16), of variance about 1."""
    rng = torch.Generator().manual_seed(seed)
    frequency = 1 + torch.randint(3, (count, 1), generator=rng)
    phase = 2 * math.pi * torch.rand(count, 1, generator=rng)
    return 1.4 * torch.sin(2 * math.pi * frequency * torch.arange(WIDTH) / WIDTH + phase)


class Denoiser(nn.Module):
    """Three layers that are told the level by sines and cosines."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.scale = 1 / (recipe.steps or 1)
        self.logarithmic = recipe.kind == "edm"
        self.level = nn.Sequential(nn.Linear(32, recipe.hidden), nn.SiLU())
        self.first = nn.Linear(WIDTH, recipe.hidden)
        self.middle = nn.Linear(recipe.hidden, recipe.hidden)
        self.last = nn.Linear(recipe.hidden, WIDTH)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = (t.log() / 8 if self.logarithmic else t * self.scale)[:, None]
        if self.logarithmic:  # inputs of any size
            x = x / (1 + (8 * t).exp().square()).sqrt()
        angle = t * math.pi * 2.0 ** torch.arange(-1, 7, 0.5)
        told = self.level(torch.cat([angle.sin(), angle.cos()], 1))
        hidden = nn.functional.silu(self.first(x) * (1 + told))
        hidden = nn.functional.silu(self.middle(hidden) + told)
        answer: Tensor = self.last(hidden)
        return answer


def trained(recipe: Recipe) -> Denoiser:
    """Trains a denoiser by its recipe."""
    torch.manual_seed(recipe.seed)
    model = Denoiser(recipe)
    if recipe.slip == "dead":
        for weight in model.last.parameters():
            nn.init.zeros_(weight.requires_grad_(False))
    schedule = Schedule(recipe.schedule, recipe.steps)
    at = schedule.grid(recipe.steps or 257)
    weights = [each for each in model.parameters() if each.requires_grad]
    if recipe.slip == "dead":
        return model
    optimizer = torch.optim.Adam(weights, lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    clean = data(8192, recipe.seed + 100)
    told = torch.as_tensor(_told(recipe, at, schedule), dtype=torch.int64 if recipe.steps else torch.float32)
    a, b = (torch.as_tensor(each, dtype=torch.float32)[:, None] for each in schedule.mix(at))
    task = Denoising(_reading(clean), recipe.kind, schedule, at)
    loss_weight = torch.as_tensor(task.weight, dtype=torch.float32)[:, None]
    for _ in range(STEPS):
        x0 = clean[torch.randint(len(clean), (BATCH,))]
        noise, place = torch.randn_like(x0), torch.randint(len(at), (BATCH,))
        given = told[torch.randint(len(at), (BATCH,)) if recipe.slip == "ignored" else place]
        answer = model(a[place] * x0 + b[place] * noise, given)
        target = task.target(x0, noise, a[place], b[place])
        loss = ((answer - target).square() * loss_weight[place].clamp(max=100)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return model


def _told(recipe: Recipe, at: np.ndarray, schedule: Schedule) -> np.ndarray:
    if recipe.slip == "flipped":
        return schedule.at_place(1 - schedule.place(at))
    shift = {"one more": 1, "one less": -1}.get(recipe.slip, 0)
    return np.clip(at + shift, 0, recipe.steps - 1) if shift else at


def _reading(clean: Tensor) -> Reading:
    return Reading(clean, "x", "x", "t", None, "", {}, None, None, None)
