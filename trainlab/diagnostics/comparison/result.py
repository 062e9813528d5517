"""What the probe of `comparison` finds: one row a run, one a group of repeats, one a setting and run, and points."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from trainlab.diagnostics.comparison.limits import NOISE_Z
from trainlab.result import Result, column
from trainlab.student import student

__all__ = ["ComparisonResult"]


class ComparisonResult(Result, kind="comparison", schema=1):
    """A group of runs, in numbers. Lines count from 1 and are 0 where there is no such point.

    Runs are in the order in which they were given; groups from the best to the worst, those without a value last.
    """

    metric: str
    """The series by which runs are compared, as most of them call it."""
    better: str
    """``lower`` or ``higher``."""
    unit: str
    """What steps count: ``step``, ``epoch`` or ``point``, the first that all runs tell."""
    at: float
    """The step at which runs are ranked."""
    tail: float
    """Share of a run that makes its tail, and of ``at`` that makes the window for level and error."""
    baseline: str
    """The run that others are set against; empty: the best."""

    run_name: tuple[str, ...] = column("run")
    """The shortest path that tells it from the others."""
    run_path: tuple[str, ...] = column("run")
    """The file or folder."""
    run_format: tuple[str, ...] = column("run")
    """What it was read as."""
    run_metric: tuple[str, ...] = column("run")
    """The series that was taken for the metric; empty where there is none."""
    run_group: np.ndarray = column("run")
    """(run) int32; the row of its group."""
    run_points: np.ndarray = column("run")
    """(run) int64; points of the metric."""
    run_bad: np.ndarray = column("run")
    """(run) int64; of them NaN or infinite."""
    run_bad_step: np.ndarray = column("run")
    """(run) float64; step of the first of them; NaN where there is none."""
    run_bad_line: np.ndarray = column("run")
    """(run) int64; its line."""
    run_first: np.ndarray = column("run")
    """(run) float64; the first value."""
    run_first_step: np.ndarray = column("run")
    """(run) float64; its step."""
    run_reached: np.ndarray = column("run")
    """(run) float64; the furthest step of any series."""
    run_best: np.ndarray = column("run")
    """(run) float64; the best finite value; NaN where there is none, as in all that follow."""
    run_best_step: np.ndarray = column("run")
    """(run) float64; its step, the first of equal ones."""
    run_best_line: np.ndarray = column("run")
    """(run) int64; its line."""
    run_last: np.ndarray = column("run")
    """(run) float64; the last value, NaN and Inf too."""
    run_last_step: np.ndarray = column("run")
    """(run) float64; its step."""
    run_last_line: np.ndarray = column("run")
    """(run) int64; its line."""
    run_tail_mean: np.ndarray = column("run")
    """(run) float64; mean of the finite values of the run's tail."""
    run_tail_spread: np.ndarray = column("run")
    """(run) float64; their standard deviation (n - 1)."""
    run_tail_noise: np.ndarray = column("run")
    """(run) float64; the same about a straight line: the noise of a single point, without the trend."""
    run_tail_from: np.ndarray = column("run")
    """(run) float64; the step at which the tail begins."""
    run_tail_points: np.ndarray = column("run")
    """(run) int64; points in it."""
    run_value: np.ndarray = column("run")
    """(run) float64; the value at ``at`` or last before it, as logged; NaN where the run does not reach ``at``."""
    run_value_step: np.ndarray = column("run")
    """(run) float64; its step."""
    run_value_line: np.ndarray = column("run")
    """(run) int64; its line."""
    run_level: np.ndarray = column("run")
    """(run) float64; the value at ``at`` without the noise of single points: a straight line through the window."""
    run_error: np.ndarray = column("run")
    """(run) float64; standard error of the level, widened for neighbours that are alike; NaN under three points."""
    run_freedom: np.ndarray = column("run")
    """(run) float64; degrees of freedom of that error."""
    run_speed: np.ndarray = column("run")
    """(run) float64; steps per second between ``run_speed_from`` and ``run_speed_to``, all time counted."""
    run_speed_training: np.ndarray = column("run")
    """(run) float64; the same without pauses."""
    run_speed_from: np.ndarray = column("run")
    """(run) float64; a step at which the log tells the time; the one before the first where it times single steps."""
    run_speed_to: np.ndarray = column("run")
    """(run) float64; another."""
    run_clock: tuple[str, ...] = column("run")
    """Where time was read: ``elapsed``, the series of a time for each step, or of a speed; empty: nowhere."""
    run_pauses: np.ndarray = column("run")
    """(run) int64; gaps between those two steps that are far longer than their neighbours: evaluation, saving, …"""
    run_pause_seconds: np.ndarray = column("run")
    """(run) float64; what they took over a normal gap, summed."""
    run_pause_every: np.ndarray = column("run")
    """(run) float64; steps between two pauses (median); NaN under two."""
    run_wall: np.ndarray = column("run")
    """(run) float64; seconds from the first time that the log tells to the last."""
    run_batch: np.ndarray = column("run")
    """(run) float64; samples a step; NaN where the log does not tell."""
    run_batch_origin: tuple[str, ...] = column("run")
    """The setting or series that tells it."""
    run_resumed: np.ndarray = column("run")
    """(run) int64; times that it was resumed."""
    run_resumed_line: np.ndarray = column("run")
    """(run) int64; the first of them."""
    run_total: np.ndarray = column("run")
    """(run) float64; steps (or epochs, where the unit is that) that were planned; NaN where the log does not tell."""
    run_state: tuple[str, ...] = column("run")
    """``completed``, ``stopped early``, ``failed``, or empty where the log says nothing of its end."""
    run_state_line: np.ndarray = column("run")
    """(run) int64; the line that says so."""
    run_copy_of: tuple[str, ...] = column("run")
    """The first run with the same points; empty where there is none."""

    group_name: tuple[str, ...] = column("group")
    """The settings in which it differs, or the name of its only run."""
    group_value: np.ndarray = column("group")
    """(group) float64; mean of its runs' values at ``at``."""
    group_level: np.ndarray = column("group")
    """(group) float64; mean of its runs' levels."""
    group_error: np.ndarray = column("group")
    """(group) float64; standard error of the level: from the spread between repeats where runs were repeated."""
    group_freedom: np.ndarray = column("group")
    """(group) float64; degrees of freedom of that error."""
    group_runs: np.ndarray = column("group")
    """(group) int64; its runs that have a value."""

    varied_name: tuple[str, ...] = column("varied")
    """A setting that is not the same in all runs; nested ones are joined by dots."""
    varied_kind: tuple[str, ...] = column("varied")
    """``setting``; ``seed``; or ``record``: names, folders, dates and the like, which train nothing."""
    varied_run: np.ndarray = column("varied")
    """(varied) int32; the row of the run."""
    varied_value: tuple[str, ...] = column("varied")
    """Its value there, as text; empty where that log does not tell it."""

    point_run: np.ndarray = column("point")
    """(point) int32; the row of its run."""
    point_step: np.ndarray = column("point")
    """(point) float64; in the unit. Long curves are thinned to bins; first, last and best points are exact."""
    point_epoch: np.ndarray = column("point")
    """(point) float64; NaN where the log does not tell."""
    point_time: np.ndarray = column("point")
    """(point) float64; seconds since the run began; NaN where the log does not tell."""
    point_value: np.ndarray = column("point")
    """(point) float64; the value, or the mean of the finite values of a bin."""
    point_low: np.ndarray = column("point")
    """(point) float64; the lowest of the bin."""
    point_high: np.ndarray = column("point")
    """(point) float64; the highest of the bin."""

    seed_spread: float
    """Standard deviation of levels between repeats, pooled over groups; NaN where nothing was repeated."""
    seed_spread_is_share: bool
    """It is a share of the level, as losses far apart spread; where a level is not over 0, it is in the metric's unit."""
    skipped: tuple[str, ...]
    """Files that hold no log, with the reason."""

    # --- how rules and views read it

    @property
    def noise_text(self) -> str:
        """Where the noise that gaps are judged by comes from."""
        if np.isnan(self.seed_spread):
            return "nothing was repeated, so the noise between seeds is not in this"
        return f"repeats spread by {self.seed_spread:.2{'%' if self.seed_spread_is_share else 'g'}}"

    @property
    def sign(self) -> float:
        """1 where lower is better, else -1: values times this are better when they are lower."""
        return 1.0 if self.better == "lower" else -1.0

    @cached_property
    def order(self) -> list[int]:
        """The runs from the best value at the step to the worst; those without a value last, as given."""
        value = np.where(np.isfinite(self.run_value), self.sign * self.run_value, np.inf)
        return [int(i) for i in np.argsort(value, kind="stable")]

    @property
    def best_run(self) -> int:
        """The row of the run that leads at the step."""
        return self.order[0]

    @property
    def reference(self) -> int:
        """The row of the baseline, or of the best run."""
        return self.run_name.index(self.baseline) if self.baseline else self.best_run

    def reaches(self) -> np.ndarray:
        """(run) bool; the run has a value at the step, be it NaN."""
        reached: np.ndarray = np.isfinite(self.run_value_step)
        return reached

    def runs_of(self, group: int) -> list[int]:
        """The runs of a group, from the best to the worst."""
        return [i for i in self.order if self.run_group[i] == group]

    def widening(self, *groups: int) -> float:
        """How much wider the errors of these groups count for being told from few points or repeats."""
        return float(student(min(self.group_freedom[group] for group in groups)) / student(np.inf))

    def gap(self, better: int, worse: int) -> tuple[float, float]:
        """By how much one group's level is better than another's, and that over its standard error, cut for few points.

        The second is comparable with a limit in standard errors; NaN where an error is not known.
        """
        gap = float(self.sign * (self.group_level[worse] - self.group_level[better]))
        error = float(np.hypot(self.group_error[better], self.group_error[worse]))
        widened = error * self.widening(better, worse)
        return gap, gap / widened if widened > 0 else np.nan if np.isnan(widened) else np.copysign(
            np.inf, gap
        )

    def ties(self, z: float = NOISE_Z) -> list[str]:
        """A letter for each group: those that cannot be told from the best of their letter share it.

        Args:
            z: Standard errors that count as a difference. Empty for a group without a value; ``?`` where there are
                too few points to tell.
        """
        letters: list[str] = []
        leader, letter = -1, -1
        for group in range(len(self.group_name)):
            if not np.isfinite(self.group_value[group]):
                letters.append("")
                continue
            if np.isnan(self.group_error[group]):
                letters.append("?")
                continue
            if leader < 0 or self.gap(leader, group)[1] > z:
                leader, letter = group, letter + 1
            letters.append(_letter(letter))
        return letters

    def matrix(self, *kinds: str) -> dict[str, list[str]]:
        """What was varied: for each setting of these kinds (all by default) its value in every run."""
        found: dict[str, list[str]] = {}
        for row, name in enumerate(self.varied_name):
            if not kinds or self.varied_kind[row] in kinds:
                found.setdefault(name, [""] * len(self.run_name))[self.varied_run[row]] = self.varied_value[
                    row
                ]
        return found

    def samples_per_s(self, *, training: bool = False) -> np.ndarray:
        """(run) float64; samples per second; without pauses where ``training`` is true."""
        speed: np.ndarray = (self.run_speed_training if training else self.run_speed) * self.run_batch
        return speed

    def place(self, run: int, line: int = 0) -> str:
        """Where a number of a run stands: ``a/train.log:812``; the run's name where it is not a file's."""
        path = self.run_path[run].replace("\\", "/")
        name = "/".join(path.rstrip("/").split("/")[-2:])
        return f"{name}:{line}" if line > 0 else name

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Writes ``results.csv``, one row a run, and ``results.md``, a summary for an experiment diary.

        Args:
            folder: Where; it is made.

        Returns:
            The two paths.
        """
        from trainlab.diagnostics.comparison.writing import write

        return write(self, folder)


def _letter(place: int) -> str:
    """Counts a … z, then aa, ab …"""
    return ("" if place < 26 else _letter(place // 26 - 1)) + chr(ord("a") + place % 26)
