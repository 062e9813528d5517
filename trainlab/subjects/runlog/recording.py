"""Gather what a format's reader finds in a file, and make a `RunLog` of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainlab.subjects.runlog.log import Event, Floats, Ints, RunLog, Series
from trainlab.subjects.runlog.naming import full_name, split_of
from trainlab.subjects.runlog.timeline import Rows, Timeline, understand

__all__ = ["Recording"]

Column = Floats | np.ma.MaskedArray
NAN = float("nan")


@dataclass
class _Block:
    """Records that tell the same quantities; ``place`` orders them in the file."""

    clock: str
    split: str
    place: Ints
    line: Ints
    step: Floats
    epoch: Floats
    time: Floats
    total: Floats
    columns: Mapping[str, Column]
    exact: bool = False


class Recording:
    """Gathers records, settings and events of one file, in any order; `finish` makes the log.

    Args:
        path: The file.
        format: What it is read as.

    Attributes:
        config: Settings by name; fill it directly.
        totals: What the log claims, by name; fill it directly.
        notes: What had to be understood; fill it directly.
    """

    def __init__(self, path: Path, format: str) -> None:  # noqa: A002 - the word that people use
        self.path = path
        self.format = format
        self.config: dict[str, object] = {}
        self.totals: dict[str, float] = {}
        self.notes: list[str] = []
        self._blocks: list[_Block] = []
        self._events: list[Event] = []
        self._starts: list[int] = []
        self._single: dict[tuple[str, str, tuple[str, ...]], list[tuple[float, ...]]] = {}

    def add(
        self,
        values: Mapping[str, float],
        *,
        line: int,
        step: float = NAN,
        epoch: float = NAN,
        time: float = NAN,
        split: str = "",
        clock: str = "",
    ) -> None:
        """Adds one record: the values that the log tells together at one place.

        Args:
            values: The quantities by name; may be empty where only the step or the epoch is told.
            line: The line in the file, from 1, or the number of the record.
            step: The step, as the log counts it; it may count within the epoch.
            epoch: The epoch.
            time: Seconds, since the run began or since 1970.
            split: ``train``, ``val``, ``test`` or "".
            clock: What the record counts its steps by; by default its split.
        """
        key = (split, clock, tuple(values))
        self._single.setdefault(key, []).append((line, step, epoch, time, *values.values()))

    def add_rows(
        self,
        columns: Mapping[str, Column],
        *,
        line: Ints,
        step: Floats | None = None,
        epoch: Floats | None = None,
        time: Floats | None = None,
        total: Floats | None = None,
        split: str = "",
        clock: str = "",
        place: Ints | None = None,
        exact: bool = False,
    ) -> None:
        """Adds many records at once: arrays of one length, as `add` takes them one by one.

        Args:
            columns: ``(row,)`` values by name; mask (``np.ma``) the cells that are empty, NaN is a value.
            line: ``(row,)`` lines in the file, from 1.
            step: ``(row,)``; NaN where it is not told. So are ``epoch`` and ``time``.
            epoch: As in `add`.
            time: As in `add`.
            total: ``(row,)``; what the step counts up to, where the log tells it.
            split: As in `add`.
            clock: As in `add`.
            place: ``(row,)``; orders records of one line; by default the line.
            exact: The steps are the truth, even where they are far from those of other records.
        """
        if not len(line):
            return
        unknown = np.full(len(line), NAN)
        step, epoch, time, total = (
            unknown if each is None else np.asarray(each, np.float64) for each in (step, epoch, time, total)
        )
        order = line if place is None else place
        lines = np.asarray(line, np.int64)
        block = _Block(clock or split, split, order, lines, step, epoch, time, total, columns, exact=exact)
        self._blocks.append(block)

    def event(self, kind: str, text: str, line: int, *, count: int = 1) -> None:
        """Adds an event; its run and step are found when the log is finished."""
        self._events.append(Event(kind, text, line, count=count))

    def new_run(self, line: int) -> None:
        """Says that another run begins at this line, whatever its steps look like."""
        self._starts.append(line)

    def finish(self) -> RunLog:
        """Splits runs, splices resumes, and makes the log."""
        for (split, clock, names), records in self._single.items():
            table = np.array(records, np.float64).reshape(len(records), -1).T
            line, step, epoch, time = table[:4]
            columns = dict(zip(names, table[4:], strict=True))
            self.add_rows(
                columns,
                line=line.astype(np.int64),
                step=step,
                epoch=epoch,
                time=time,
                split=split,
                clock=clock,
            )
        self._single = {}
        order, rows = self._rows()
        timeline = understand(rows)
        events = self._placed_events(rows, timeline)
        return RunLog(
            path=self.path,
            format=self.format,
            series=self._series(order, rows, timeline),
            config=self.config,
            events=events,
            notes=(*self.notes, *timeline.notes),
            totals={**_last_total(rows, timeline), **timeline.totals, **self.totals},
        )

    def _rows(self) -> tuple[Ints, Rows]:
        """All records in the order of the file; and for each block's rows, one after the other, their place in it."""
        blocks = self._blocks
        if not blocks:
            empty, none = np.zeros(0), np.zeros(0, np.int64)
            return none, Rows(none, empty, empty, empty, empty, none, none)
        clocks = list(dict.fromkeys(block.clock for block in blocks))
        numbers = [np.full(len(block.line), clocks.index(block.clock)) for block in blocks]
        told = list(dict.fromkeys(tuple(block.columns) for block in blocks))
        kinds = [np.full(len(block.line), told.index(tuple(block.columns))) for block in blocks]
        by_place = np.argsort(_joined(block.place for block in blocks), kind="stable")
        line = _joined(block.line for block in blocks)[by_place]
        starts = np.searchsorted(line, self._starts)
        rows = Rows(
            line,
            _joined(block.step for block in blocks)[by_place],
            _joined(block.epoch for block in blocks)[by_place],
            _joined(block.time for block in blocks)[by_place],
            _joined(block.total for block in blocks)[by_place],
            _joined(numbers)[by_place],
            _joined(kinds)[by_place],
            frozenset(int(start) for start in starts if 0 < start < len(line)),
            frozenset(clocks.index(block.clock) for block in blocks if block.exact),
        )
        order = np.empty(len(by_place), np.int64)
        order[by_place] = np.arange(len(by_place))
        return order, rows

    def _series(self, order: Ints, rows: Rows, timeline: Timeline) -> dict[str, Series]:
        """The points of each name, from all blocks that tell it."""
        found: dict[str, tuple[str, list[Ints], list[Floats]]] = {}
        begin = 0
        for block in self._blocks:
            place = order[begin : begin + len(block.line)]
            begin += len(block.line)
            for name, column in block.columns.items():
                value, where = np.asarray(column, np.float64), place
                if isinstance(column, np.ma.MaskedArray):
                    there = ~np.ma.getmaskarray(column)
                    value, where = np.asarray(column.data, np.float64)[there], place[there]
                split = split_of(name) or block.split
                _, places, values = found.setdefault(full_name(name, block.split), (split, [], []))
                places.append(where)
                values.append(value)
        series = {}
        for name, (split, places, values) in found.items():
            place, value = np.concatenate(places), np.concatenate(values)
            if len(places) > 1:
                again = np.argsort(place, kind="stable")
                place, value = place[again], value[again]
            kept = timeline.kept[place]
            place, value = place[kept], value[kept]
            if len(place):
                step, epoch, time = (each[place] for each in (timeline.step, timeline.epoch, timeline.time))
                series[name] = Series(
                    name, split, value, step, epoch, time, rows.line[place], timeline.run[place]
                )
        return dict(sorted(series.items(), key=lambda item: int(item[1].line[0])))

    def _placed_events(self, rows: Rows, timeline: Timeline) -> tuple[Event, ...]:
        """The events with their run and step, and one for each resume that was spliced."""
        events = []
        for event in self._events:
            at = int(np.searchsorted(rows.line, event.line, side="right")) - 1
            run, step = (int(timeline.run[at]), float(timeline.step[at])) if at >= 0 else (0, NAN)
            events.append(Event(event.kind, event.text, event.line, run, step, event.count))
        for at, before, after, replaced in timeline.resumes:
            text = f"back from {before:g} to {after:g}: {replaced} records replaced"
            events.append(Event("resume", text, int(rows.line[at]), int(timeline.run[at]), after))
        return tuple(sorted(events, key=lambda event: event.line))


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(arrays))


def _last_total(rows: Rows, timeline: Timeline) -> dict[str, float]:
    """What the steps count up to, unless that is the end of an epoch."""
    told = rows.total[np.isfinite(rows.total)]
    return {"total_steps": float(told[-1])} if len(told) and "steps_per_epoch" not in timeline.totals else {}
