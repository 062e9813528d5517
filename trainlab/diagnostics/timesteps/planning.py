"""Which task is swept: a built-in objective, guessed or given, or the user's own loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainlab.diagnostics.timesteps.guessing import guess
from trainlab.diagnostics.timesteps.objectives import Denoising, Task
from trainlab.diagnostics.timesteps.own import Own, axes_of
from trainlab.diagnostics.timesteps.reading import Reading
from trainlab.diagnostics.timesteps.schedules import Schedule
from trainlab.diagnostics.timesteps.sequences import Language, NextFrame

__all__ = ["plan"]


def plan(
    model: nn.Module,
    reading: Reading,
    batch: object,
    loss: Callable[..., object] | None,
    *,
    objective: str,
    schedule: str,
    convention: str,
    steps: int,
    levels: int,
    weighting: str,
    sigma_data: float,
    seed: int,
) -> tuple[Task, dict[str, Any]]:
    """The task, and what the result says of it."""
    if loss is not None:
        return _own(model, reading, batch, loss, convention=convention, steps=steps, levels=levels, seed=seed)
    found = guess(
        model, reading, objective=objective, schedule=schedule, steps=steps, convention=convention, seed=seed
    )
    facts = {"objective": found.kind, "why": found.why, "schedule": found.schedule, "convention": convention}
    if found.kind in ("lm", "next_frame"):
        task: Task = Language(reading) if found.kind == "lm" else NextFrame(reading)
        return task, facts | {"steps": 0, "convention": ""}
    mixed = Schedule(found.schedule, found.steps, convention)
    task = Denoising(
        reading, found.kind, mixed, mixed.grid(levels), found.per_frame, weighting, sigma_data, seed=seed
    )
    return task, facts | {"steps": found.steps}


def _own(
    model: nn.Module,
    reading: Reading,
    batch: object,
    loss: Callable[..., object],
    *,
    convention: str,
    steps: int,
    levels: int,
    seed: int,
) -> tuple[Task, dict[str, Any]]:
    axes = axes_of(loss)
    name = axes.get("level", "")
    mixed = Schedule("karras" if name.startswith("sigma") else "straight", steps, convention)
    task = Own(reading, loss, batch, mixed, mixed.grid(levels), reading.per_frame, seed)
    first = torch.zeros(1, dtype=torch.int64)
    for end in {0, len(task.at) - 1}:  # tells how many frames the loss has, and the range of levels
        task.losses(model, first, torch.full((1, reading.frames if task.per_frame else 1), end), 0, None)
    says = f"loss={getattr(loss, '__qualname__', type(loss).__name__)}, called with {', '.join(axes.values()) or 'no axis'}"
    return task, {
        "objective": "own loss", "why": says, "schedule": "", "convention": convention if name else "", "steps": steps,
    }  # fmt: skip
