"""A run being made up: series over steps, from which a log is built as a reader would build it, or written as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainlab.subjects.runlog.log import Event, RunLog, Series


@dataclass
class Draft:
    """One run: arrays over its logged steps.

    Attributes:
        shape: What kind of run it is.
        step: (point) float64.
        total: Steps that the run claims it will take.
        values: Series by name: (point) values, NaN where a line does not have it is written as ``missing``.
        config: Settings.
        totals: Claims.
        events: Kind and text, at the index of a point.
        per_step: Seconds a step, (point).
        timed: Does the log tell the time?
    """

    shape: str
    step: np.ndarray
    total: float
    values: dict[str, np.ndarray]
    rng: np.random.Generator
    config: dict[str, object] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    events: list[tuple[str, str, int]] = field(default_factory=list)
    per_step: np.ndarray | None = None
    steps_per_epoch: float = float("nan")
    epochs_only: bool = False
    missing: dict[str, np.ndarray] = field(default_factory=dict)  # (point) bool: the line lacks the series
    splits: dict[str, str] = field(default_factory=dict)
    idle: list[str] = field(default_factory=list)  # lines of text between two points
    path: Path = Path("made.log")
    format: str = "made"

    @property
    def count(self) -> int:
        return len(self.step)

    @property
    def share(self) -> np.ndarray:
        """(point) share of the claimed run."""
        return self.step / self.total

    def cut(self, index: int) -> None:
        """Ends the log at a point."""
        self.step = self.step[:index]
        self.values = {name: each[:index] for name, each in self.values.items()}
        self.missing = {name: each[:index] for name, each in self.missing.items()}
        if self.per_step is not None:
            self.per_step = self.per_step[:index]
        self.events = [each for each in self.events if each[2] < index]

    def log(self) -> RunLog:
        """The log, one line a point."""
        line = 1 + np.arange(self.count, dtype=np.int64) * (1 + len(self.idle))
        seconds = np.full(self.count, np.nan)
        if self.per_step is not None:
            seconds = np.cumsum(np.diff(self.step, prepend=0) * self.per_step)
        series = {}
        for name, value in self.values.items():
            kept = ~self.missing.get(name, np.zeros(self.count, bool))
            step = np.full(self.count, np.nan) if self.epochs_only else self.step
            epoch = self.step if self.epochs_only else self.step / self.steps_per_epoch
            series[name] = Series(
                name, self.splits.get(name, "val" if name.startswith("val") else "train"), value[kept].astype(float),
                step[kept], epoch[kept], seconds[kept], line[kept], np.zeros(int(kept.sum()), np.int64),
            )  # fmt: skip
        events = tuple(
            Event(
                kind,
                text,
                int(line[min(at, self.count - 1)]) + (at >= self.count - 1),
                0,
                float(self.step[min(at, self.count - 1)]),
            )
            for kind, text, at in self.events
        )
        totals = {"total_epochs" if self.epochs_only else "total_steps": self.total, **self.totals}
        return RunLog(
            self.path,
            self.format,
            series,
            self.config,
            events,
            (),
            {k: v for k, v in totals.items() if v > 0},
        )

    def text(self) -> str:
        """The log as a run would print it: ``step=120/5000 loss=2.31 …``, with the idle lines between."""
        lines = []
        for i in range(self.count):
            parts = [f"step={self.step[i]:.0f}/{self.total:.0f}"]
            parts += [
                f"{name}={value[i]:.6g}"
                for name, value in self.values.items()
                if not self.missing.get(name, [False] * self.count)[i]
            ]
            lines += [" ".join(parts), *(each.format(i=i) for each in self.idle)]
            lines += [text for _, text, at in self.events if at == i]
        return "\n".join(lines) + "\n"
