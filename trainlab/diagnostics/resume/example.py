"""A tiny run that forgets its scheduler: the loop, and a checkpoint that it wrote after fourteen real steps."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainlab.diagnostics.resume.contents import contents
from trainlab.diagnostics.resume.loop import Loop
from trainlab.subjects import Checkpoint, open_checkpoint
from trainlab.subjects.importing import seeded

__all__ = ["example", "loop_of"]

CONFIG = {"lr": 3e-3, "batch": 16, "warmup": 20, "hidden": 24, "seed": 0}
TAKEN = 14


@dataclass
class State:
    """What the run is made of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    iter: int = 0


def start(path: str | None) -> State:
    """A new run, or the one in the file; its scheduler begins anew, which is the fault."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    state = State(model, optimizer, _schedule(optimizer))
    if path is not None:
        saved = contents(open_checkpoint(path))
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state.iter = saved["iter"]
        torch.set_rng_state(saved["rng"])
    return state


def step(state: State, n: int) -> list[Tensor]:
    """Takes n steps on random points in four classes."""
    taken = []
    for _ in range(n):
        x = torch.randn(16, 8)
        loss = cross_entropy(state.model(x), x[:, :4].argmax(1))
        state.optimizer.zero_grad()
        torch.autograd.backward(loss)
        state.optimizer.step()
        state.scheduler.step()
        state.iter += 1
        taken.append(loss.detach())
    return taken


def save(state: State, path: str) -> None:
    """Writes all but the scheduler."""
    torch.save(
        {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "iter": state.iter,
            "config": CONFIG,
        },
        path,
    )


def example() -> dict[str, Any]:
    """The checkpoint, as the subject of a page run bare."""
    return {"ckpt": open_checkpoint(_file())}


def loop_of(ckpt: Checkpoint) -> Loop | None:
    """The example's file goes with the example's loop, so that a bare page shows the replay too."""
    return Loop(start, step, save) if _file.cache_info().currsize and ckpt.path == _file() else None


@cache
def _file() -> Path:
    """Trains the run once a process, into a folder that goes when the process does."""
    folder = Path(mkdtemp(prefix="trainlab-resume-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "last.pt"
    with seeded():
        state = start(None)
        step(state, TAKEN)
        save(state, str(file))
    return file


def _schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: min(1.0, (taken + 1) / 20))
