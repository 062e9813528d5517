"""What the probe of `curves` finds in one run: its series, their points, events, claims and repeated lines."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.schedule import Schedule, fit
from trainlab.result import Result, column

__all__ = ["CurvesResult"]


class CurvesResult(Result, kind="curves", schema=1):
    """One run of a log, in numbers.

    A series of more points than the probe was told to keep is thinned to bins of equal counts: a bin has the mean of its
    finite values, its lowest and highest, and stands at the step and line of its highest. The first and the last
    point, and with them all counts of the ``series`` table, are exact.
    """

    path: str
    """The file or folder."""
    format: str
    """What it was read as, e.g. ``text``."""
    run: int
    """Which run of the file this is, from 0."""
    runs: int
    """How many runs the file holds."""
    pack: str
    """The rule pack: the kind of training, given or guessed."""
    pack_origin: str
    """Why this pack: ``given``, or the words of the log that it was guessed from."""
    main: str
    """The series that is the training loss; empty where there is none."""
    validation: str
    """The series that is the validation loss; empty where there is none."""
    progress_told: bool
    """Does the loss tell how far training is? Not in reinforcement learning, nor between two networks."""
    baseline: float
    """What a trivial prediction scores: known for the pack, or from what the config claims; 0 where it is not known."""
    baseline_origin: str
    """Where that number comes from, e.g. ``ln(50257 tokens)``; empty where there is none."""
    kept: int
    """Most points of a series that are kept one by one."""
    lines: int
    """Lines of a text log, counting those that a carriage return overwrote; 0 for a table or a binary file."""
    bytes: int
    """Size of that text log."""

    series_name: tuple[str, ...] = column("series")
    """As the log calls it."""
    series_split: tuple[str, ...] = column("series")
    """``train``, ``val``, ``test``; empty where the log does not tell."""
    series_role: tuple[str, ...] = column("series")
    """``loss``, ``learning_rate``, ``gradient_norm``, ``perplexity``, ``throughput``, ``time``, ``weight``, ``scale``
    or ``metric``."""
    series_part: tuple[str, ...] = column("series")
    """Of training losses beside the main one: ``component`` or ``level`` (of noise or length); else empty."""
    series_count: np.ndarray = column("series")
    """(series) int64; points in the log."""
    series_nan: np.ndarray = column("series")
    """(series) int64; of them NaN."""
    series_inf: np.ndarray = column("series")
    """(series) int64; of them infinite."""
    series_zero: np.ndarray = column("series")
    """(series) int64; of them exactly 0."""
    series_first: np.ndarray = column("series")
    """(series) float64; the first value."""
    series_last: np.ndarray = column("series")
    """(series) float64; the last value."""
    series_min: np.ndarray = column("series")
    """(series) float64; the lowest finite value; NaN where there is none."""
    series_min_step: np.ndarray = column("series")
    """(series) float64; its step, or epoch where the log tells no steps."""
    series_max: np.ndarray = column("series")
    """(series) float64; the highest finite value."""
    series_max_step: np.ndarray = column("series")
    """(series) float64; its step."""
    series_bad_step: np.ndarray = column("series")
    """(series) float64; the step of the first value that is not finite; NaN where all are, or where it has no step."""
    series_bad_line: np.ndarray = column("series")
    """(series) int64; its line; 0 where all are finite."""
    series_bad_tail: np.ndarray = column("series")
    """(series) int64; how many values at the end, one after the other, are not finite."""

    series_spread: np.ndarray = column("series")
    """(series) float64; half the distance of the 16 % and 84 % quantiles of the last points, over their median, after a
    straight line is taken out; NaN below 30 points or where the median is not above 0."""

    point_series: np.ndarray = column("point")
    """(point) int32; the row of its series."""
    point_step: np.ndarray = column("point")
    """(point) float64; NaN where the log does not tell."""
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
    point_line: np.ndarray = column("point")
    """(point) int64; where it stands in the file."""

    event_kind: tuple[str, ...] = column("event")
    """``warning``, ``error``, ``traceback``, ``oom``, ``completed``, ``early_stop``, ``resume``, …"""
    event_text: tuple[str, ...] = column("event")
    """The line, cut after 200 characters."""
    event_line: np.ndarray = column("event")
    """(event) int64."""
    event_step: np.ndarray = column("event")
    """(event) float64; the last step before it; NaN where there is none."""
    event_count: np.ndarray = column("event")
    """(event) int64; lines that say the same."""

    claim_name: tuple[str, ...] = column("claim")
    """What the log or its config claims: ``total_steps``, ``batch_size``, ``vocab_size`` …"""
    claim_value: np.ndarray = column("claim")
    """(claim) float64."""

    template_text: tuple[str, ...] = column("template")
    """Lines that differ in their numbers alone, written with a # for each number; the most frequent first."""
    template_lines: np.ndarray = column("template")
    """(template) int64."""
    template_bytes: np.ndarray = column("template")
    """(template) int64."""
    template_first: np.ndarray = column("template")
    """(template) int64; the first such line."""
    template_metric: np.ndarray = column("template")
    """(template) bool; points were read from such lines."""

    expected_name: tuple[str, ...] = column("expected")
    """A pattern of series names for which something is expected."""
    expected_progress: np.ndarray = column("expected")
    """(expected) float64; the share of the run, 0 to 1, at which it is; NaN for a band, which holds over the last half."""
    expected_low: np.ndarray = column("expected")
    """(expected) float64; the least value; of a schedule, the value itself."""
    expected_high: np.ndarray = column("expected")
    """(expected) float64; the largest value."""

    preset_name: tuple[str, ...] = column("preset")
    """Limits that the pack sets otherwise than the room."""
    preset_value: np.ndarray = column("preset")
    """(preset) float64."""

    note: tuple[str, ...]
    """What the reader had to understand, one sentence each."""

    # --- how rules and views read it

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Every series by name, with its points in the order of their steps."""
        order = np.argsort(self.point_series, kind="stable")
        ends = np.searchsorted(self.point_series[order], np.arange(len(self.series_name) + 1))
        return {
            name: self._curve(row, order[ends[row] : ends[row + 1]])
            for row, name in enumerate(self.series_name)
        }

    def having(self, role: str, *, part: str | None = None, split: str | None = None) -> list[Curve]:
        """The series of a role, of a part and of a split where these are named."""
        return [
            each
            for each in self.curves.values()
            if each.role == role and part in (None, each.part) and split in (None, each.split)
        ]

    @property
    def loss(self) -> Curve | None:
        """The training loss."""
        return self.curves.get(self.main)

    @cached_property
    def rate(self) -> Schedule | None:
        """The schedule that the learning rate follows; None where none is logged."""
        rates = [each.finite for each in self.having("learning_rate")]
        rates = [each for each in rates if len(each) >= 5 and each.value.max() > 0]
        if not rates:
            return None
        longest = max(rates, key=len)
        return fit(longest, self.progress(float(longest.x[-1]), longest.unit))

    @property
    def claims(self) -> dict[str, float]:
        """What is claimed, by name."""
        return dict(zip(self.claim_name, self.claim_value.tolist(), strict=True))

    def claim(self, *names: str) -> float:
        """The first of these claims that is made; NaN where none is."""
        claims = self.claims
        return next((claims[name] for name in names if name in claims), np.nan)

    def events(self, *kinds: str) -> list[int]:
        """The rows of events of these kinds."""
        return [row for row, kind in enumerate(self.event_kind) if kind in kinds]

    @property
    def last_step(self) -> float:
        """The furthest step of the run, or epoch where the log tells no steps; 0 where it tells neither."""
        return max((float(each.x[-1]) for each in self.curves.values() if len(each)), default=0.0)

    def progress(self, x: float, unit: str) -> float:
        """The share of the run that was done at a step (or epoch): of what is claimed, else of what is there."""
        total = self.claim("total_steps") if unit == "step" else self.claim("total_epochs")
        whole = total if total > 0 else self.last_step
        return x / whole if whole > 0 else np.nan

    def place(self, line: int) -> str:
        """A line as ``train.log:812``."""
        name = self.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        return f"{name}:{line}" if line > 0 else name

    def _curve(self, row: int, points: np.ndarray) -> Curve:
        steps, epochs = self.point_step[points], self.point_epoch[points]
        x, unit = steps, "step"
        if not np.isfinite(steps).all():
            x, unit = epochs, "epoch"
            if not np.isfinite(epochs).all():
                x, unit = np.arange(1.0, len(points) + 1), "point"
        curve = Curve(
            self.series_name[row], self.series_split[row], self.series_role[row], self.series_part[row], unit,
            x, self.point_value[points], self.point_low[points], self.point_high[points],
            epochs, self.point_time[points], self.point_line[points],
        )  # fmt: skip
        # several writers may have mixed their lines
        return curve if (np.diff(x) >= 0).all() else curve.where(np.argsort(x, kind="stable"))
