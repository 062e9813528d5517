"""What a training log holds: series of points, events, config and claims, each with its place in the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainlab.errors import UsageError, did_you_mean
from trainlab.markup import block, number, paragraph, table
from trainlab.subjects.runlog.naming import best_loss, role_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Event", "Floats", "Ints", "Point", "RunLog", "RunLogs", "Series"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Point(NamedTuple):
    """One value of a series and where it stands: ``step`` is NaN where the log does not tell it."""

    step: float
    value: float
    line: int


@dataclass(frozen=True, eq=False)
class Series:
    """One quantity of a log, point by point, in the order of the file.

    Attributes:
        name: As the log calls it; prefixed where only the context tells the split, e.g. ``val/loss``.
        split: ``train``, ``val``, ``test``, or "" where the log does not tell.
        value: ``(point,)`` float64; NaN and Inf are kept.
        step: ``(point,)`` float64; NaN where the log does not tell.
        epoch: ``(point,)`` float64; NaN where the log does not tell.
        time: ``(point,)`` float64, seconds since the run began; NaN where the log does not tell.
        line: ``(point,)`` int64, from 1; the number of the record in a binary file.
        run: ``(point,)`` int64, from 0: which run of the file.
    """

    name: str
    split: str
    value: Floats
    step: Floats
    epoch: Floats
    time: Floats
    line: Ints
    run: Ints

    def __len__(self) -> int:
        return len(self.value)

    @property
    def role(self) -> str:
        """What it is by its name: one of `trainlab.subjects.runlog.naming.ROLES`."""
        return role_of(self.name)

    @property
    def first(self) -> Point:
        """The first point."""
        return self._point(0)

    @property
    def last(self) -> Point:
        """The last point."""
        return self._point(len(self) - 1)

    def best(self, *, lower: bool = True) -> Point | None:
        """The lowest (or highest) value that is not NaN; None where all are NaN.

        The earliest of equal ones is given.
        """
        if np.isnan(self.value).all():
            return None
        return self._point(int(np.nanargmin(self.value) if lower else np.nanargmax(self.value)))

    def at(self, step: float) -> Point | None:
        """The last point at exactly this step, or None."""
        found = np.flatnonzero(self.step == step)
        return self._point(int(found[-1])) if len(found) else None

    def of_run(self, run: int) -> Series:
        """The points of one run."""
        return self.where(self.run == run)

    def where(self, mask: NDArray[np.bool_]) -> Series:
        """The points where the mask is true."""
        arrays = {
            name: getattr(self, name)[mask] for name in ("value", "step", "epoch", "time", "line", "run")
        }
        return dataclasses.replace(self, **arrays)

    def frame(self) -> pd.DataFrame:
        """The points as a table: run, step, epoch, time, value, line."""
        import pandas as pd

        return pd.DataFrame(
            {name: getattr(self, name) for name in ("run", "step", "epoch", "time", "value", "line")}
        )

    def _point(self, index: int) -> Point:
        return Point(float(self.step[index]), float(self.value[index]), int(self.line[index]))


@dataclass(frozen=True)
class Event:
    """A line of a log that says that something happened.

    Attributes:
        kind: ``warning``, ``error``, ``traceback``, ``oom``, ``completed``, ``early_stop``, ``resume``, ``overflow``,
            ``skipped``, ``saved`` or ``killed``.
        text: The line.
        line: Its number, from 1.
        run: Which run of the file, from 0.
        step: The last step that was logged before it; NaN where there is none.
        count: How many lines say the same; they are one event, placed at the first.
    """

    kind: str
    text: str
    line: int
    run: int = 0
    step: float = float("nan")
    count: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class RunLog:
    """What one log file holds.

    Attributes:
        path: The file or folder.
        format: What it was read as, e.g. ``"text"``, ``"CSV"``.
        series: The quantities by name, in the order of their first points.
        config: Settings that the log holds, by name.
        events: What happened, in the order of the file.
        notes: What the reader had to understand, one sentence each.
        totals: What the log itself claims: ``total_steps``, ``total_epochs``, ``steps_per_epoch``, ``batch_size`` …
    """

    path: Path
    format: str
    series: Mapping[str, Series]
    config: Mapping[str, object] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    totals: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Series:
        if name not in self.series:
            raise UsageError(f"{self.path.name} has no series {name!r}", fix=did_you_mean(name, self.series))
        return self.series[name]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def run_count(self) -> int:
        """How many runs the file holds."""
        return 1 + max((int(each.run.max()) for each in self.series.values() if len(each)), default=0)

    @cached_property
    def runs(self) -> tuple[RunLog, ...]:
        """Each run by itself; a log of one run gives itself."""
        count = self.run_count
        if count == 1:
            return (self,)
        return tuple(self._run(index) for index in range(count))

    def _run(self, index: int) -> RunLog:
        series = {name: each.of_run(index) for name, each in self.series.items()}
        events = tuple(event for event in self.events if event.run == index)
        kept = {name: each for name, each in series.items() if len(each)}
        return dataclasses.replace(self, series=kept, events=events)

    @property
    def loss(self) -> Series | None:
        """The main training loss: the plainest name, then the most points; None where there is no loss."""
        return self._main_loss(("train", "")) or self._main_loss(("val", "test"))

    @property
    def val_loss(self) -> Series | None:
        """The main validation loss, or the test loss where there is no other."""
        return self._main_loss(("val",)) or self._main_loss(("test",))

    @property
    def losses(self) -> tuple[Series, ...]:
        """Every series whose name says that it is a loss."""
        return tuple(each for each in self.series.values() if each.role == "loss")

    def _main_loss(self, splits: tuple[str, ...]) -> Series | None:
        every = list(self.series.values())
        index = best_loss(((each.name, each.split, len(each)) for each in every), splits)
        return None if index is None else every[index]

    def frame(self) -> pd.DataFrame:
        """All series side by side, one row per run and step; the last of several values at one step.

        Where no step is told, a row per epoch, and where none is told either, per point.
        """
        import pandas as pd

        every = list(self.series.values())
        axis = next(
            (
                axis
                for axis in ("step", "epoch")
                if any(np.isfinite(getattr(each, axis)).any() for each in every)
            ),
            "point",
        )
        columns = {}
        for each in every:
            at = np.arange(len(each)) if axis == "point" else getattr(each, axis)
            index = pd.MultiIndex.from_arrays([each.run, at], names=["run", axis])
            column = pd.Series(each.value, index=index, name=each.name)
            columns[each.name] = column[~column.index.duplicated(keep="last")]
        return pd.DataFrame(columns).sort_index()

    def _title(self) -> str:
        runs = self.run_count
        return f"{self.path.name}: {self.format}, {runs} run{'s' if runs > 1 else ''}"

    def _rows(self) -> list[dict[str, object]]:
        rows = []
        for name, each in self.series.items():
            if not len(each):
                continue
            best = each.best()
            rows.append(
                {
                    "series": name, "role": each.role, "split": each.split, "points": len(each),
                    "steps": f"{number(each.step[0])} … {number(each.step[-1])}", "first": float(each.value[0]),
                    "last": float(each.value[-1]), "lowest": best.value if best else float("nan"),
                    "not finite": int((~np.isfinite(each.value)).sum()),
                }
            )  # fmt: skip
        return rows

    def _lines(self) -> list[str]:
        counts: dict[str, int] = {}
        for event in self.events:
            counts[event.kind] = counts.get(event.kind, 0) + event.count
        events = (
            [f"events: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"] if counts else []
        )
        config = [f"config: {len(self.config)} settings"] if self.config else []
        return [*config, *events, *(f"note: {note}" for note in self.notes)]

    def __repr__(self) -> str:
        rows = self._rows()
        shown = [{key: number(value) for key, value in row.items()} for row in rows[:24]]
        more = [f"… and {len(rows) - 24} more series"] if len(rows) > 24 else []
        if shown:
            widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
            shown.insert(0, {key: key for key in widths})
            lines = [
                "  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip() for row in shown
            ]
        else:
            lines = []
        return "\n  ".join([self._title(), *lines, *more, *self._lines()])

    def _repr_html_(self) -> str:
        return block(
            self._title(), [table(self._rows(), limit=40), *(paragraph(line) for line in self._lines())]
        )


@dataclass(frozen=True, eq=False, repr=False)
class RunLogs(Mapping[str, RunLog]):
    """Several runs by name: the shortest paths that tell them apart, one run an entry.

    Attributes:
        logs: The runs by name.
        skipped: Files that hold no log, and why, one sentence each.
    """

    logs: Mapping[str, RunLog]
    skipped: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> RunLog:
        if name not in self.logs:
            raise UsageError(f"there is no run {name!r}", fix=did_you_mean(name, self.logs))
        return self.logs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.logs)

    def __len__(self) -> int:
        return len(self.logs)

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for name, log in self.logs.items():
            loss = log.loss
            best = loss.best() if loss is not None else None
            rows.append(
                {
                    "run": name, "format": log.format, "series": len(log.series),
                    "loss": loss.name if loss is not None else "", "points": len(loss) if loss is not None else 0,
                    "best": best.value if best else float("nan"), "at step": best.step if best else float("nan"),
                }
            )  # fmt: skip
        return rows

    def __repr__(self) -> str:
        lines = ["  ".join(f"{key} {number(value)}" for key, value in row.items()) for row in self._rows()]
        return "\n  ".join([f"{len(self)} runs", *lines, *(f"skipped: {each}" for each in self.skipped)])

    def _repr_html_(self) -> str:
        parts = [table(self._rows()), *(paragraph(f"skipped: {each}") for each in self.skipped)]
        return block(f"{len(self)} runs", parts)
