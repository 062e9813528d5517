"""Run a task over levels, clips and noise draws, many to a call, until the errors are small enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trainlab.diagnostics.timesteps.accumulating import by_unit, estimate
from trainlab.diagnostics.timesteps.objectives import Task, Told
from trainlab.progress import track
from trainlab.visit import device_of

__all__ = ["Sweep", "places_of", "run", "sweep"]

ELEMENTS = {"cpu": 2**16}  # numbers in one call: what caches hold; other devices want more
MORE = 2**20
Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sweep:
    """What one model lost.

    Attributes:
        values: By what was measured, (draw, level, frame, clip) float64; NaN where there is no data.
        draws: How many draws of noise each clip and level got.
        stopped: Why no more were drawn.
    """

    values: Values
    draws: int
    stopped: str


def places_of(task: Task, level: int, clip: int, draw: int, seed: int) -> np.ndarray:
    """(frame) int; the levels of a clip's frames.

    All the same, or, where each frame has its own, ``level`` shifted by a random offset a frame: over all ``level`` every
    frame meets every level once, each time among others.
    """
    count = len(task.at)
    if not task.per_frame:
        return np.full(1, level)
    rng = np.random.default_rng(np.random.SeedSequence((seed, clip, draw, 1)))
    shifted: np.ndarray = (level + rng.integers(count, size=task.frames)) % count
    return shifted


def sweep(
    model: nn.Module,
    task: Task,
    *,
    clips: int,
    samples: int,
    se: float,
    budget: int,
    seed: int,
    rows: int,
    label: str,
) -> Sweep:
    """Measures every cell ``samples`` times, and goes on until the relative standard error at every level is ``se``.

    Args:
        model: In the mode that it is to be measured in.
        task: What to measure.
        clips: How many clips take part.
        samples: Losses a cell at least; rounded up to whole draws for each clip.
        se: Standard error of each level's mean over that mean; 0 asks for nothing.
        budget: Losses a cell at most.
        seed: Of the noise and of the frames' levels.
        rows: Clips in a call; 0 chooses.
        label: Names it beside the progress bar.
    """
    wanted = max(1, -(-samples // clips)) if task.draws else 1
    parts: list[Values] = []
    before = np.inf
    while True:
        new = range(len(parts), wanted)
        parts += [
            run(model, task, clips=clips, draw=draw, seed=seed, rows=rows, told=None, label=label)
            for draw in new
        ]
        values = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        found = estimate(by_unit(values["loss"]), (2,))
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = float(np.nanmax(np.where(found.mean > 0, found.se / found.mean, 0.0), initial=0.0))
        if not task.draws:
            stopped = "this loss has no noise to draw again"
        elif worst <= se or not se:
            stopped = (
                "the standard error that was asked for is reached" if se else "as many as were asked for"
            )
        elif 2 * wanted * clips > budget:
            stopped = f"the budget of {budget} losses a cell is spent"
        elif worst > 0.98 * before and clips > 1:
            stopped = (
                "clips differ more than noise draws: more clips in the batch would help, more draws do not"
            )
        else:
            before, wanted = worst, 2 * wanted
            continue
        return Sweep(values, len(parts), stopped)


def run(
    model: nn.Module,
    task: Task,
    *,
    clips: int,
    draw: int,
    seed: int,
    rows: int,
    told: Told | None,
    label: str,
) -> Values:
    """One draw for every clip and level: (level, frame, clip) float64 by what was measured."""
    levels, size = len(task.at), rows or _rows(task, clips, device_of(model))
    cells = np.indices((levels, clips)).reshape(2, -1)  # (level and clip, row)
    parts = [cells] if task.at_once else np.split(cells, levels, axis=1)
    groups = [each for part in parts for each in np.array_split(part, -(-part.shape[1] // size), axis=1)]
    found: dict[str, np.ndarray] = {}
    for group in track(groups, label=f"timesteps: {label}"):
        places = np.stack([places_of(task, level, clip, draw, seed) for level, clip in group.T])
        torch.manual_seed(seed)  # a model that is random by itself is so in the same way each time
        losses = task.losses(model, torch.as_tensor(group[1]), torch.as_tensor(places), draw, told)
        for name, loss in losses.items():
            values = loss.detach().cpu().numpy()  # (row, frame)
            room = found.setdefault(name, np.full((levels, values.shape[1], clips), np.nan))
            at = places if task.per_frame else np.repeat(group[0][:, None], values.shape[1], axis=1)
            room[at, np.arange(values.shape[1]), group[1][:, None]] = values
    for room in found.values():
        room[:, ~task.valid[:, :clips]] = np.nan
    return found


def _rows(task: Task, clips: int, device: torch.device) -> int:
    """How many clips go into one call."""
    fit = int(np.clip(ELEMENTS.get(device.type, MORE) // max(task.size, 1), 1, 256))
    return fit if task.at_once else min(fit, clips)
