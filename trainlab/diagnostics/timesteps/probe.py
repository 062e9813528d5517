"""The probe: sweep a model, or several checkpoints of it, over levels and frames."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trainlab.diagnostics.timesteps.accumulating import strata
from trainlab.diagnostics.timesteps.objectives import Task
from trainlab.diagnostics.timesteps.planning import plan
from trainlab.diagnostics.timesteps.reading import read
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.schedules import CONVENTIONS
from trainlab.diagnostics.timesteps.stepping import shortcuts
from trainlab.diagnostics.timesteps.sweep import Sweep, sweep
from trainlab.diagnostics.timesteps.tables import sweep_columns
from trainlab.diagnostics.timesteps.telling import otherwise
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.subjects import Checkpoint, checkpoints_in, load_model, open_checkpoint
from trainlab.subjects.checkpoint import STEPS
from trainlab.visit import map_tensors, visit

__all__ = ["probe"]

WEIGHTINGS = ("", "snr", "min_snr")
Checkpoints = str | os.PathLike[str] | Checkpoint | Sequence[str | os.PathLike[str] | Checkpoint]


def probe(
    model: nn.Module,
    batch: object,
    *,
    loss: Callable[..., object] | None = None,
    ckpt: Checkpoint | None = None,
    ckpts: Checkpoints | None = None,
    objective: str = "",
    schedule: str = "",
    convention: str = CONVENTIONS[0],
    steps: int = 0,
    levels: int = 16,
    samples: int = 64,
    se: float = 0.0,
    budget: int = 1024,
    bands: int = 4,
    seed: int = 0,
    weighting: str = "",
    sigma_data: float = 0.5,
    level: str = "",
    clean: str = "",
    frame_axis: int | None = None,
    rows: int = 0,
) -> TimestepsResult:
    """Measures the loss at every noise level, frame and position, and whether it is made there for the right reason.

    The noise of a clip depends on seed, clip and draw alone: not on the other clips, on how many go into a call, nor on the
    checkpoint, so that two checkpoints compare to the last digit. Cost: ``levels × samples`` clips without gradients for
    each checkpoint (the frames of a clip share them). For the last one as many again for each other schedule that could
    be taken for its own, and four times as many for a timestep more and one less, where there are timesteps.

    Args:
        model: Any module; left as it was found.
        batch: Clean data, or noisy data with their target, and whatever else forward takes.
        loss: Your own ``loss(model, batch, **axes)`` that returns a number for each clip, or each clip and frame …; it is
            called with the axes that its signature names: a level (tau, t, timesteps, sigma …), noise, generator.
        ckpt: The checkpoint that the weights came from; names them.
        ckpts: Checkpoints to compare: a folder, a glob, or several, in time.
        objective: ``epsilon``, ``x0``, ``v``, ``flow``, ``edm`` (a preconditioned denoiser), ``edm_network``, ``forcing``
            (x0 with a level for each frame; ``forcing_epsilon`` …), ``lm``, ``next_frame``; guessed where left out.
        schedule: ``straight``, ``cosine``, ``linear``, ``scaled_linear``; by the objective where left out.
        convention: What the largest level is: ``1 is noise`` or ``1 is clean``. It is checked.
        steps: How many whole timesteps there are; 0 for levels from 0 to 1.
        levels: How many levels to look at, both ends included.
        samples: Losses for each cell at least.
        se: Relative standard error to reach at every level; 0 for none.
        budget: Losses for each cell at most, where ``se`` asks for more.
        bands: Parts of the level axis for shares of the loss.
        seed: Of the noise.
        weighting: What training multiplies the loss by: ``""`` as the objective has it, ``snr``, ``min_snr``.
        sigma_data: Standard deviation of the data that edm was scaled for.
        level: The argument of forward that takes the level.
        clean: The entry of the batch that holds the clean data.
        frame_axis: Which axis of the data the frames are; guessed where left out.
        rows: Clips in a call; chosen where 0. It changes time and memory, and the numbers only of a loss that draws its
            own noise.

    Returns:
        The result: a few columns for each level, frame and cell, and no data.

    Raises:
        UsageError: A setting or a name is not known.
        SubjectError: Model and batch do not fit each other or the objective.
        NotApplicable: There are fewer than two clips and no noise.
    """
    if weighting not in WEIGHTINGS:
        raise UsageError(f"there is no weighting {weighting!r}", fix=did_you_mean(weighting, WEIGHTINGS))
    if levels < 2 or bands < 1 or samples < 1:
        raise UsageError("too few levels, bands or samples", seen=f"{levels}, {bands}, {samples}", fix="levels=16, bands=4, samples=64")  # fmt: skip
    reading = read(model, batch, clean=clean, level=level, frame_axis=frame_axis)
    if len(reading.clean) > max(samples, 2):
        batch = _first(batch, len(reading.clean), max(samples, 2))
        reading = read(model, batch, clean=clean, level=level, frame_axis=frame_axis)
    clips = len(reading.clean)
    models = _models(model, ckpt, ckpts)
    task: Task | None = None
    done: list[Sweep] = []
    for name, make in models:
        each = make()
        with visit(each, seed=seed):
            if task is None:
                task, facts = plan(
                    each, reading, batch, loss, objective=objective, schedule=schedule, convention=convention, steps=steps,
                    levels=levels, weighting=weighting, sigma_data=sigma_data, seed=seed,
                )  # fmt: skip
                if clips < 2 and not task.draws:
                    raise NotApplicable(
                        "one clip has no spread to judge by", fix="give a batch of two or more"
                    )
            done.append(
                sweep(
                    each,
                    task,
                    clips=clips,
                    samples=samples,
                    se=se,
                    budget=budget,
                    seed=seed,
                    rows=rows,
                    label=name,
                )
            )
            if len(done) == len(models):
                told = otherwise(each, task, done[-1], clips=clips, samples=samples, seed=seed, rows=rows)
                step = shortcuts(each, task, clips)
    assert task is not None
    names = [name for name, _ in models]
    lengths = strata(task.valid.sum(0))
    return TimestepsResult(
        source="sweep",
        **facts,
        argument=reading.level,
        per_frame=task.per_frame,
        model_name=type(model).__name__,
        batch_name=reading.clean_name,
        unit="clip" if clips > 1 else "noise draw",
        clips=clips,
        frames=task.frames,
        draws=done[-1].draws,
        seed=seed,
        se=se,
        stopped=done[-1].stopped,
        bands=min(bands, len(task.at)),
        checkpoint_name=tuple(names),
        length=tuple(np.unique(lengths).tolist()),
        **sweep_columns(names, done, task, lengths),
        **told,
        **step,
    )


def _first(batch: object, clips: int, kept: int) -> object:
    """The batch with its first clips alone."""
    return map_tensors(batch, lambda _, each: each[:kept] if each.ndim and len(each) == clips else each)


def _models(
    model: nn.Module, ckpt: Checkpoint | None, ckpts: Checkpoints | None
) -> list[tuple[str, Callable[[], nn.Module]]]:
    """What is swept, by name: the checkpoints, each into a copy of the model, or the model itself."""
    given: Any = checkpoints_in(ckpts) or ckpts
    files = [given] if isinstance(given, str | os.PathLike | Checkpoint) else list(given or ())
    if not files:
        return [(_name(ckpt) if ckpt else type(model).__name__, lambda: model)]
    opened = [each if isinstance(each, Checkpoint) else open_checkpoint(Path(each)) for each in files]
    names = [_name(each) for each in opened]
    if len(set(names)) < len(names):
        names = [
            f"{name} ({each.path.parent.name}/{each.path.stem})"
            for name, each in zip(names, opened, strict=True)
        ]
    return [
        (name, functools.partial(load_model, model, ckpt=each))
        for name, each in zip(names, opened, strict=True)
    ]


def _name(ckpt: Checkpoint) -> str:
    """Where in training a checkpoint is from, as far as it says; else its file."""
    step = next((f"{name} {ckpt.metadata[name]}" for name in STEPS if name in ckpt.metadata), None)
    return step or ckpt.path.stem
