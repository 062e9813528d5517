"""One training run in memory: its model, its optimizer, its schedule, its randomness, and one step of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from trainlab.errors import TrainlabError
from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import draw
from trainlab.examples.digits.model import DigitDynamics
from trainlab.examples.digits.slips import slip
from trainlab.examples.digits.twins import LATE, TWINS, plant

__all__ = ["Run", "lr_share"]


def lr_share(step: int, config: Config) -> float:
    """What share of its peak the learning rate has at a step: linear warm-up, then cosine down to the floor.

    Args:
        step: Steps already taken.
        config: Of its settings warmup, steps and lr_floor.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr_floor + (1 - config.lr_floor) * (1 + math.cos(math.pi * done)) / 2


@dataclass
class Run:
    """All that a training run is made of, and what its checkpoints hold.

    Everything random after the model's init is drawn from ``rng``: the clips, their noise levels, the noise.
    """

    config: Config
    model: DigitDynamics
    optimizer: AdamW
    scheduler: LambdaLR
    rng: torch.Generator
    iter: int = 0

    @classmethod
    def start(cls, config: Config) -> Run:
        """Builds a run at step 0 from its config alone; the global RNG is left as found."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = DigitDynamics(config)
        if config.twin is not None and config.twin in TWINS.keys() - LATE:
            plant(model, config.twin)
        optimizer = AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        scheduler = LambdaLR(optimizer, lambda step: lr_share(step, config))
        return cls(config, model, optimizer, scheduler, torch.Generator().manual_seed(config.seed))

    def step(self, glyphs: Tensor) -> dict[str, float]:
        """Takes one step on new clips of ``glyphs``.

        Returns:
            ``loss`` (MSE of the clean frames), ``grad_norm`` (before clipping), ``lr`` (that it was taken
            with), and ``tau_min``, ``tau_mean``, ``tau_max`` of the batch.

        Raises:
            TrainlabError: The loss is not finite.
        """
        config = self.config
        batch = slip(draw(glyphs, config.batch, config, self.rng), config.twin)
        tau = batch["tau"]
        with torch.autocast("cpu", torch.bfloat16, enabled=config.autocast):
            predicted = self.model(batch["x"], tau)
        loss = mse_loss(predicted.float(), batch["target"])
        if not loss.isfinite():
            raise TrainlabError(
                f"The loss is not finite at step {self.iter + 1}", seen=loss.item(), fix="lower lr"
            )
        torch.autograd.backward(loss)
        lr = self.optimizer.param_groups[0]["lr"]
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.iter += 1
        return {
            "loss": loss.item(),
            "grad_norm": grad_norm.item(),
            "lr": lr,
            "tau_min": tau.min().item(),
            "tau_mean": tau.mean().item(),
            "tau_max": tau.max().item(),
        }

    def epoch(self, glyphs: int) -> int:
        """How often the run has seen as many clips as there are glyphs."""
        return self.iter * self.config.batch // glyphs

    def state(self, glyphs: int) -> dict[str, Any]:
        """What a checkpoint holds: plain types and tensors, enough to go on as if never stopped."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rng": self.rng.get_state(),
            "iter": self.iter,
            "epoch": self.epoch(glyphs),
            "config": asdict(self.config),
        }
