"""From the values of a sweep to the columns of a result."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainlab.diagnostics.timesteps.accumulating import by_unit, estimate, relative_to_median
from trainlab.diagnostics.timesteps.baselines import NAMES
from trainlab.diagnostics.timesteps.objectives import Task
from trainlab.diagnostics.timesteps.sweep import Sweep

__all__ = ["per_unit", "sweep_columns"]


def sweep_columns(
    names: Sequence[str], sweeps: Sequence[Sweep], task: Task, lengths: np.ndarray
) -> dict[str, Any]:
    """The columns of `level`, `frame` and `cell`, and the losses of single units.

    Args:
        names: Of the checkpoints.
        sweeps: One for each.
        task: What was swept.
        lengths: (clip) the stratum of each clip.
    """
    columns: dict[str, list[Any]] = {}
    known = {key: np.where(task.valid, each, np.nan)[None] for key, each in task.baselines().items()}
    sizes = {"level": len(task.at), "frame": task.frames, "cell": len(task.at) * task.frames}
    for name, done in zip(names, sweeps, strict=True):
        for length in np.unique(lengths):
            here = lengths == length
            values, trivial = (
                {key: each[..., here] for key, each in group.items()} for group in (done.values, known)
            )
            for column, part in _stratum(values, trivial, task, task.valid[:, here]).items():
                columns.setdefault(column, []).append(part)
            for table, size in sizes.items():
                columns.setdefault(f"{table}_length", []).append(np.full(size, length))
                columns.setdefault(f"{table}_checkpoint", []).append([name] * size)
    units = np.stack([per_unit(done.values["loss"]) for done in sweeps])
    return {
        column: tuple(itertools.chain(*parts)) if column.endswith("_checkpoint") else np.concatenate(parts)
        for column, parts in columns.items()
    } | {"unit_loss": units, "unit_length": np.resize(lengths, units.shape[2])}


def per_unit(losses: np.ndarray) -> np.ndarray:
    """(level, unit) mean over frames, and over draws where clips are the units."""
    with np.errstate(invalid="ignore"):
        losses = by_unit(losses)
        known = np.isfinite(losses)
        found: np.ndarray = np.where(known, losses, 0).sum((0, 2)) / np.where(
            known.any((0, 2)), known.sum((0, 2)), np.nan
        )
    return found


def _stratum(
    values: Mapping[str, np.ndarray], baselines: Mapping[str, np.ndarray], task: Task, valid: np.ndarray
) -> dict[str, Any]:
    losses = values["loss"]
    units = by_unit(losses)
    levels, frames = losses.shape[1], losses.shape[2]
    level, frame, cell = estimate(units, (2,)), estimate(units, (1,)), estimate(units, ())
    bad = (~np.isfinite(losses) & valid[None, None]).sum((0, 3))
    nothing = np.full((1, levels, frames, 1), np.nan)
    known = {name: baselines.get(name, nothing) for name in NAMES}
    far = {name: values.get(name, nothing) for name in ("own", "previous")}
    weight = task.weight
    return {
        "level_at": task.at.astype(np.float64),
        "level_noise": task.share,
        "level_mean": level.mean,
        "level_se": level.se,
        "level_count": level.count,
        "level_units": level.units,
        "level_weighted": level.mean * weight,
        "level_spread": _spread(losses, each_frame=task.per_frame),
        "level_nonfinite": bad.sum(1),
        **{f"level_{name}": estimate(each, (2,)).mean for name, each in known.items()},
        **{
            f"level_{name}": estimate(each[:, :, -(frames - 1 or 1) :], (2,)).mean
            for name, each in far.items()
        },
        "frame_at": np.arange(frames),
        "frame_mean": frame.mean,
        "frame_se": frame.se,
        "frame_count": frame.count,
        **{f"frame_{name}": estimate(known[name], (1,)).mean for name in NAMES[:3]},
        "frame_relative": relative_to_median(cell.mean),
        "cell_level": np.repeat(task.at.astype(np.float64), frames),
        "cell_frame": np.tile(np.arange(frames), levels),
        "cell_mean": cell.mean.ravel(),
        "cell_se": cell.se.ravel(),
        "cell_count": cell.count.ravel(),
        "cell_weighted": (cell.mean * weight[:, None]).ravel(),
        "cell_nonfinite": bad.ravel(),
        **{f"cell_{name}": estimate(each, ()).mean.ravel() for name, each in known.items()},
    }


def _spread(losses: np.ndarray, *, each_frame: bool) -> np.ndarray:
    """(level) standard deviation of what a log would show of one clip at one level."""
    known = np.isfinite(losses)
    filled = np.where(known, losses, 0.0)
    if not each_frame:
        filled, known = (
            filled.sum(2, keepdims=True) / np.maximum(known.sum(2, keepdims=True), 1),
            known.any(2, keepdims=True),
        )
    count = known.sum((0, 2, 3))
    mean = filled.sum((0, 2, 3)) / np.where(count, count, np.nan)
    squares = np.where(known, (filled - mean[None, :, None, None]) ** 2, 0.0).sum((0, 2, 3))
    spread: np.ndarray = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
    return spread
