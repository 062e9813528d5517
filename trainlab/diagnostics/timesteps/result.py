"""What the probe of `timesteps` finds: losses by level, by frame and by both, with errors, counts and baselines."""

from __future__ import annotations

import numpy as np

from trainlab.result import Result, column
from trainlab.student import student

__all__ = ["TimestepsResult"]


class TimestepsResult(Result, kind="timesteps", schema=1):
    """Where along time and noise the loss is made.

    Rows of the tables `level`, `frame` and `cell` go through checkpoints first, then lengths, levels and frames, so that
    `grid` shapes them back. Means are over clips, each clip's mean first; standard errors come from the spread of
    clips. Losses are in the unit of the objective (squared for the built-in ones, nats for a language model).
    """

    source: str
    """``sweep`` or ``log``."""
    objective: str
    """e.g. ``x0``; ``own loss`` where the user gave one."""
    why: str
    """How it came to be that objective."""
    schedule: str
    """How noise was mixed in; empty where there is none, or where the user's loss knows."""
    convention: str
    """What the largest level is said to be."""
    argument: str
    """The argument of forward that takes the level; empty where none does."""
    steps: int
    """How many timesteps there are; 0 where levels are continuous."""
    per_frame: bool
    """Each frame has a level of its own."""
    model_name: str
    batch_name: str
    """The entry of the batch that holds the clean data."""
    unit: str
    """What the standard errors count as independent: ``clip``, or ``noise draw`` of a single clip."""
    clips: int
    frames: int
    """Frames or positions; 1 where there are none."""
    draws: int
    """Draws of noise for each clip and level."""
    seed: int
    se: float
    """The relative standard error that was asked for; 0 for none."""
    stopped: str
    """Why no more was drawn."""
    bands: int
    """Into how many bands the levels are parted."""

    checkpoint_name: tuple[str, ...] = column("checkpoint")
    """What was swept, in time; of a log, its periods."""
    length: tuple[int, ...]
    """Frames or tokens that there are data for: clips of one length are compared with each other only."""

    level_checkpoint: tuple[str, ...] = column("level")
    level_length: np.ndarray = column("level")
    """(row) int64."""
    level_at: np.ndarray = column("level")
    """(row) float64; what the model is told; of a log, the middle of the bin."""
    level_noise: np.ndarray = column("level")
    """(row) float64; share of noise in the input's power: 0 clean, 1 noise."""
    level_mean: np.ndarray = column("level")
    """(row) float64; mean loss, unweighted."""
    level_se: np.ndarray = column("level")
    """(row) float64; its standard error."""
    level_count: np.ndarray = column("level")
    """(row) int64; single losses, one a frame."""
    level_units: np.ndarray = column("level")
    """(row) int64; independent clips among them."""
    level_weighted: np.ndarray = column("level")
    """(row) float64; mean loss times what training weighs this level by."""
    level_spread: np.ndarray = column("level")
    """(row) float64; standard deviation of the clips' losses, one noise draw each."""
    level_nonfinite: np.ndarray = column("level")
    """(row) int64; losses that are NaN or infinite, left out of the means."""
    level_zero: np.ndarray = column("level")
    """(row) float64; what the answer 0 would lose."""
    level_average: np.ndarray = column("level")
    """(row) float64; what the mean of the others' answers would."""
    level_copy: np.ndarray = column("level")
    """(row) float64; what the clean frame before would."""
    level_ideal: np.ndarray = column("level")
    """(row) float64; the posterior mean, were every element Gaussian and by itself."""
    level_own: np.ndarray = column("level")
    """(row) float64; mean squared distance of the predicted clean frames from the true ones, from the second frame on."""
    level_previous: np.ndarray = column("level")
    """(row) float64; from the frames before them."""

    frame_checkpoint: tuple[str, ...] = column("frame")
    frame_length: np.ndarray = column("frame")
    frame_at: np.ndarray = column("frame")
    """(row) int64; number of the frame or position, from 0."""
    frame_mean: np.ndarray = column("frame")
    frame_se: np.ndarray = column("frame")
    frame_count: np.ndarray = column("frame")
    frame_zero: np.ndarray = column("frame")
    frame_average: np.ndarray = column("frame")
    frame_copy: np.ndarray = column("frame")
    frame_relative: np.ndarray = column("frame")
    """(row) float64; mean over levels of the frame's loss there over the level's median frame: 1 is as hard as others."""

    cell_checkpoint: tuple[str, ...] = column("cell")
    cell_length: np.ndarray = column("cell")
    cell_level: np.ndarray = column("cell")
    """(row) float64; what the model is told."""
    cell_frame: np.ndarray = column("cell")
    cell_mean: np.ndarray = column("cell")
    cell_se: np.ndarray = column("cell")
    cell_count: np.ndarray = column("cell")
    cell_weighted: np.ndarray = column("cell")
    cell_nonfinite: np.ndarray = column("cell")
    cell_zero: np.ndarray = column("cell")
    cell_average: np.ndarray = column("cell")
    cell_copy: np.ndarray = column("cell")
    cell_ideal: np.ndarray = column("cell")

    told_name: tuple[str, ...] = column("told")
    """What the last checkpoint was told instead of its level: ``swapped`` (clean for noise), ``half a range off``,
    ``one more``, ``one less``, ``schedule …``; the noisy input stays the same."""
    told_ratio: np.ndarray = column("told")
    """(told) float64; the loss over the loss when told the truth, geometric mean over all levels but the ends:
    below 1 it liked that better."""
    told_low: np.ndarray = column("told")
    """(told) float64; 95 % interval of it, by paired clips."""
    told_high: np.ndarray = column("told")
    told_moved: np.ndarray = column("told")
    """(told) float64; mean change of the loss, of either sign, over its mean: 0 where the level is not listened to."""
    told_level: np.ndarray
    """(told, level) float64; the ratio at each level."""

    step_size: np.ndarray = column("step")
    """(step) float64; share of the way that a shortcut model is told to go at once; of the last checkpoint."""
    step_mean: np.ndarray = column("step")
    """(step) float64; mean squared distance from two steps of half the size; at 0 from the true velocity."""
    step_se: np.ndarray = column("step")
    step_count: np.ndarray = column("step")

    unit_loss: np.ndarray
    """(checkpoint, level, unit) float64; mean over frames and draws, the same noise in every checkpoint; empty of a log."""
    unit_length: np.ndarray
    """(unit) int64; the stratum of each."""

    def grid(self, name: str) -> np.ndarray:
        """A column of `level` or `frame` as (checkpoint, length, …), of `cell` as (checkpoint, length, level, frame)."""
        column = getattr(self, name)
        shape: tuple[int, ...] = (len(self.checkpoint_name), len(self.length))
        rest = {"level": (-1,), "frame": (-1,), "cell": (-1, self.frames)}[name.split("_", 1)[0]]
        found: np.ndarray = column.reshape(*shape, *rest)
        return found

    def levels(self) -> np.ndarray:
        """(level) float64; what the model is told, from clean to noise as far as the convention is right."""
        at: np.ndarray = self.grid("level_at")[0, 0]
        return at

    def margin(self, mean: str) -> np.ndarray:
        """Half the 95 % interval of a mean, e.g. of ``level_mean``, by Student's t over clips."""
        se = getattr(self, mean.replace("_mean", "_se"))
        reach: np.ndarray = student(self.level_units.max() - 1) * se
        return reach

    def trivial(self) -> np.ndarray:
        """(row of `level`) the least that the answers 0 and mean lose; NaN where none is known."""
        best: np.ndarray = np.fmin(self.level_zero, self.level_average)
        return best

    def band_share(self) -> np.ndarray:
        """(checkpoint, length, band) share of the weighted loss that each band of levels makes."""
        weighted = np.where(np.isfinite(self.grid("level_weighted")), self.grid("level_weighted"), 0.0)
        edges = self.band_of()
        total = np.stack([weighted[..., edges == band].sum(-1) for band in range(self.bands)], -1)
        share: np.ndarray = total / np.maximum(weighted.sum(-1, keepdims=True), 1e-300)
        return share

    def band_of(self) -> np.ndarray:
        """(level) int; which band a level belongs to, the cleanest first; bands hold as many levels each as can be."""
        count = len(self.levels())
        bands: np.ndarray = np.arange(count) * self.bands // max(count, 1)
        return bands

    def change(self, first: int, second: int, length: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """What the loss at each level changed by from one checkpoint to another: (level) difference and margin.

        Clips are paired, since both had the same noise; of a log, whose clips differ, the errors add. The margin is half
        the 95 % interval.
        """
        if not self.unit_loss.size:
            mean, se = (self.grid(name)[:, length] for name in ("level_mean", "level_se"))
            return mean[second] - mean[first], 1.96 * np.hypot(se[first], se[second])
        here = self.unit_length == self.length[length]
        apart = self.unit_loss[second][:, here] - self.unit_loss[first][:, here]
        count = here.sum()
        reach = (
            student(count - 1) * apart.std(-1, ddof=1) / np.sqrt(count)
            if count > 1
            else np.full(len(apart), np.nan)
        )
        return apart.mean(-1), reach
