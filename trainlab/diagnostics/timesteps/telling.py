"""Does the model lose less when it is told another level than the true one, at the same noisy input?"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from trainlab.diagnostics.timesteps.accumulating import finite_mean, log_ratio
from trainlab.diagnostics.timesteps.objectives import Denoising, Task, Told
from trainlab.diagnostics.timesteps.schedules import SCHEDULES, Schedule
from trainlab.diagnostics.timesteps.sweep import Sweep, run
from trainlab.diagnostics.timesteps.tables import per_unit
from trainlab.student import student

__all__ = ["alternatives", "otherwise"]

FEW = 16  # pairs of clips and draws to begin with
SURELY = 0.05  # growth of the loss, by its logarithm, beyond which there is nothing left to ask


def alternatives(task: Task) -> list[Told]:
    """What the model may be told instead of the truth.

    Other levels at the same noise, and for a built-in objective what other known schedules would tell.
    """
    schedule = getattr(task, "schedule", None)
    if not isinstance(schedule, Schedule) or len(task.at) < 2:
        return []
    place = schedule.place(task.at)
    found = [
        Told("swapped", schedule.at_place(1 - place), 0),
        Told("half a range off", schedule.at_place((place + 0.5) % 1), 0),
    ]
    if schedule.steps:
        for name, shift in (("one more", 1), ("one less", -1)):
            found.append(Told(name, np.clip(task.at + shift, 0, schedule.steps - 1), 2))
    if isinstance(task, Denoising) and schedule.name != "karras":
        for name in SCHEDULES:
            if name in (schedule.name, "karras"):
                continue
            other = Schedule(name, schedule.steps, schedule.convention)
            if task.kind in ("v", "flow") and other.preserving != schedule.preserving:
                continue  # their answers mean another thing under a schedule that scales otherwise
            with np.errstate(divide="ignore"):
                at = other.told_at(task.b / task.a)
            a, b = other.mix(at)
            size = np.hypot(a, b) / np.hypot(task.a, task.b)
            found.append(Told(f"schedule {name}", at, 1, size))
    return found


def otherwise(
    model: nn.Module, task: Task, done: Sweep, *, clips: int, samples: int, seed: int, rows: int
) -> dict[str, Any]:
    """The columns of `told`: the loss when told otherwise, paired with that when told the truth."""

    def losses(draw: int, some: int, told: Told | None) -> np.ndarray:
        name = "again" if told is None else f"told {told.name}"
        return run(model, task, clips=some, draw=draw, seed=seed, rows=rows, told=told, label=name)["loss"]

    inner = slice(1, -1) if len(task.at) > 3 else slice(None)  # at an end, one told level has no neighbour
    truth = list(done.values["loss"])
    others = sorted(alternatives(task), key=lambda each: each.effect)
    numbers, by_level = [], []
    for told in others:
        # few pairs of clips and draws show that the loss grows, many whether it falls by one per cent
        for pairs in sorted({FEW, (FEW, samples, 4 * samples)[told.effect]}):
            some = min(clips, pairs)
            count = -(-pairs // some)
            truth += [losses(draw, clips, None) for draw in range(len(truth), count)]
            base = np.stack(truth[:count])[..., :some]
            other = np.stack([losses(draw, some, told) for draw in range(count)])
            alike, instead = per_unit(base), per_unit(other)
            ratio, error = log_ratio(instead[inner], alike[inner])
            reach = float(student(alike.shape[1] - 1)) * error
            if ratio - reach > SURELY:
                break
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = finite_mean(np.abs(other - base)) / finite_mean(base)
            by_level.append(instead.mean(1) / alike.mean(1))
        numbers.append([*np.exp([ratio, ratio - reach, ratio + reach]), moved])
    columns = np.array(numbers, np.float64).reshape(-1, 4)
    return {
        "told_name": tuple(told.name for told in others),
        **{f"told_{name}": columns[:, place] for place, name in enumerate(("ratio", "low", "high", "moved"))},
        "told_level": np.array(by_level, np.float64).reshape(-1, len(task.at)),
    }
