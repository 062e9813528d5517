"""The log of a tiny run that is really trained: a perceptron that restores a noisy blob and tells which of 8 it was."""

from __future__ import annotations

import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from trainlab.examples.tiny import blobs
from trainlab.subjects.runlog.log import RunLog, Series

__all__ = ["trained"]

STEPS = 1200
WARMUP = 60
EVERY = 40  # steps between two evaluations
RATE = 3e-3


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 48), nn.ReLU())
        self.image = nn.Linear(48, 16)
        self.kind = nn.Linear(48, 8)

    def losses(self, clean: Tensor, kind: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Of the restored image and of the kind, each the mean over the batch."""
        x = self.body(noisy)
        return {"image_loss": mse_loss(self.image(x), clean), "kind_loss": cross_entropy(self.kind(x), kind)}


@cache
def trained() -> RunLog:
    """The log; it lies in memory and has no file."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    begin = time.perf_counter()
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        model = _Model()
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        held = _batch(256, rng)
        for step in range(1, STEPS + 1):
            rate = _rate(step)
            optimizer.param_groups[0]["lr"] = rate
            losses = model.losses(*_batch(32, rng))
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            told = {"loss": loss.item(), **{name: each.item() for name, each in losses.items()}}
            told |= {"grad_norm": norm.item(), "lr": rate}
            if step % EVERY == 0:
                with torch.no_grad():
                    told["val_loss"] = torch.stack(list(model.losses(*held).values())).sum().item()
            for name, value in told.items():
                rows.setdefault(name, []).append((step, time.perf_counter() - begin, value))
    series = {name: _series(name, np.array(points)) for name, points in rows.items()}
    config = {"lr": RATE, "warmup_steps": WARMUP, "batch_size": 32}
    return RunLog(
        Path("example.log"), "a run in memory", series, config, totals={"total_steps": float(STEPS)}
    )


def _batch(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.randint(0, 8, (count,), generator=rng)
    clean = blobs().flatten(1)[kind]
    return clean, kind, clean + 0.3 * torch.randn(clean.shape, generator=rng)


def _rate(step: int) -> float:
    """Linear warm-up, then cosine down to a tenth."""
    if step <= WARMUP:
        return RATE * step / WARMUP
    return RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2)


def _series(name: str, points: np.ndarray) -> Series:
    step, seconds, value = points.T
    lines = step.astype(np.int64)
    split = "val" if name.startswith("val") else "train"
    return Series(name, split, value, step, np.full(len(step), np.nan), seconds, lines, np.zeros_like(lines))
