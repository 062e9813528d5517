"""Which objective was the model trained with? Told by names first, then by what its answers resemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trainlab.diagnostics.timesteps.accumulating import finite_mean
from trainlab.diagnostics.timesteps.objectives import KINDS, Denoising
from trainlab.diagnostics.timesteps.reading import Reading
from trainlab.diagnostics.timesteps.schedules import Schedule
from trainlab.errors import SubjectError, UsageError, did_you_mean

__all__ = ["OBJECTIVES", "Guess", "guess"]

OBJECTIVES = (*KINDS, *(f"forcing_{kind}" for kind in KINDS[:4]), "forcing", "lm", "next_frame")
TIMESTEPS = 1000  # of DDPM and most that came after


@dataclass(frozen=True)
class Guess:
    """An objective and how it was found.

    Attributes:
        kind: One of `KINDS`, ``lm`` or ``next_frame``.
        per_frame: Each frame has its own level.
        schedule: The name of the schedule.
        steps: How many timesteps; 0 for continuous levels.
        why: One sentence.
    """

    kind: str
    per_frame: bool
    schedule: str
    steps: int
    why: str


def guess(
    model: nn.Module,
    reading: Reading,
    *,
    objective: str,
    schedule: str,
    steps: int,
    convention: str,
    seed: int,
) -> Guess:
    """Completes what the caller has left open.

    Raises:
        UsageError: There is no such objective.
        SubjectError: The model takes no level, and its data are neither tokens nor frames.
    """
    if objective and objective not in OBJECTIVES:
        raise UsageError(f"there is no objective {objective!r}", fix=did_you_mean(objective, OBJECTIVES))
    if objective in ("lm", "next_frame"):
        return Guess(objective, per_frame=False, schedule="", steps=0, why="as given")
    if not objective and not reading.level:
        return _without_level(reading)
    if objective and not reading.level:
        raise SubjectError(
            f"objective {objective!r} needs an argument of forward that takes the level",
            seen=f"forward takes {reading.entry}, {', '.join(reading.others) or 'nothing else'}",
            fix="level='…' names it",
        )
    per_frame = objective.startswith("forcing") or (not objective and reading.per_frame)
    kind = objective.removeprefix("forcing").removeprefix("_") or ("x0" if objective else "")
    if not objective and reading.level.startswith(("sigma", "noise_labels")):
        kind = "edm"
    given = reading.given
    whole = reading.level.startswith("timestep") if given is None else not given.is_floating_point()
    count = steps or (TIMESTEPS if whole else 0)
    named = f"forward takes {reading.level!r}" + (", one a frame in the batch" if per_frame else "")
    if kind.startswith("edm"):
        return Guess(kind, per_frame, "karras", 0, "as given" if objective else named)
    chosen = schedule or ("linear" if count else "cosine" if kind in ("epsilon", "v") else "straight")
    if kind:
        return Guess(kind, per_frame, chosen, count, "as given")
    found, why = _by_resemblance(model, reading, Schedule(chosen, count, convention), per_frame, seed)
    return Guess(found, per_frame, chosen, count, f"{named}; {why}")


def _without_level(reading: Reading) -> Guess:
    if not reading.clean.is_floating_point() and reading.clean.ndim == 2:
        return Guess(
            "lm", per_frame=False, schedule="", steps=0, why=f"{reading.entry!r} holds whole numbers: tokens"
        )
    if reading.axis is not None:
        return Guess(
            "next_frame",
            per_frame=False,
            schedule="",
            steps=0,
            why="forward takes no level, and the data have frames",
        )
    raise SubjectError(
        "nothing tells along what the loss could be looked at",
        seen=f"forward takes {reading.entry}, {', '.join(reading.others) or 'nothing else'}; data {tuple(reading.clean.shape)}",
        fix="level='…' names the argument that takes the noise level, or loss= is your own",
    )


def _by_resemblance(
    model: nn.Module, reading: Reading, schedule: Schedule, per_frame: bool, seed: int
) -> tuple[str, str]:
    """The kind as which the answers at the middle levels come nearest to what a Gaussian denoiser of that kind loses."""
    at = schedule.at_place(np.array([0.3, 0.5, 0.7]))
    rows = torch.arange(min(len(reading.clean), 16))
    nearness, share = {}, {}
    for kind in ("x0", "epsilon", "v", "flow"):
        task = Denoising(reading, kind, schedule, at, per_frame, seed=seed)
        width = task.frames if per_frame else 1
        places = (torch.full((len(rows), width), level) for level in range(len(at)))
        lost = np.array([float(task.losses(model, rows, each, 0, None)["loss"].mean()) for each in places])
        known = {name: each.mean((1, 2)) for name, each in task.baselines().items()}
        beside = known["ideal"] if np.isfinite(known["ideal"]).all() else known["zero"]
        nearness[kind] = finite_mean(lost / np.maximum(beside, 1e-12))
        share[kind] = finite_mean(lost / np.maximum(known["zero"], 1e-12))
    best = min(nearness, key=lambda kind: nearness[kind])
    if share[best] < 0.9:
        return best, f"its answers resemble {best} (they lose {share[best]:.2g} of what 0 would)"
    usual = "x0" if per_frame else "epsilon" if schedule.steps else "flow"
    return usual, f"its answers resemble nothing that is known; {usual} is usual there: say objective='…'"
