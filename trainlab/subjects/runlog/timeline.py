"""Where does each record of a log stand: which run, which step, which epoch, at what time?

A file may hold many runs and resumes, steps that count within the epoch, and clocks that restart. All is told
from the main clock: the stream of records (in most logs those of training) that tells a step most often.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainlab.subjects.runlog.log import Floats, Ints

__all__ = ["Rows", "Timeline", "understand"]

Mask = NDArray[np.bool_]
DAY = 86400.0  # seconds
ABSOLUTE = 1e8  # seconds: above it a time is a date, counted from 1970


@dataclass(frozen=True, eq=False)
class Rows:
    """The records of a log in the order of the file; NaN where the log does not tell.

    Attributes:
        line: ``(row,)`` int64.
        step, epoch, time: ``(row,)`` float64.
        total: ``(row,)`` float64; what the step counts up to.
        clock: ``(row,)`` int64; records of one clock count their steps alike.
        kind: ``(row,)`` int64; records of one kind tell the same quantities.
        start: Rows at which the reader knows that another run begins.
        exact: Clocks whose own steps are the truth, however far they are from the main clock's.
    """

    line: Ints
    step: Floats
    epoch: Floats
    time: Floats
    total: Floats
    clock: Ints
    kind: Ints
    start: frozenset[int] = frozenset()
    exact: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.line)


@dataclass
class Timeline:
    """What `understand` found out of the rows.

    Attributes:
        run: ``(row,)`` int64.
        kept: ``(row,)`` bool; false where a resume has replaced the row.
        step, epoch, time: ``(row,)`` float64, filled in from the main clock; steps count over the whole run.
        resumes: Row, step before and step after, and the number of rows replaced, for each resume.
        notes: What had to be understood.
        totals: ``total_steps`` or ``steps_per_epoch``, where the rows tell it.
    """

    run: Ints
    kept: Mask
    step: Floats
    epoch: Floats
    time: Floats
    resumes: list[tuple[int, float, float, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    totals: dict[str, float] = field(default_factory=dict)


def understand(rows: Rows) -> Timeline:
    """Splits runs, splices resumes, makes steps count over the whole run, and fills in what other rows tell."""
    size = len(rows)
    line = Timeline(
        np.zeros(size, np.int64), np.ones(size, bool), rows.step.copy(), rows.epoch.copy(), rows.time
    )
    if not size:
        return line
    main = _main_clock(rows)
    line.epoch = _filled(rows.epoch, line.run)
    at = np.flatnonzero(main & np.isfinite(rows.step))
    within = _within_epochs(rows.step[at], line.epoch[at])
    if within:
        line.step[at] = _counted_on(rows, at, line.epoch)[0]
    key = line.step if len(at) else np.where(main, line.epoch, np.nan)
    _split(rows, np.flatnonzero(main & np.isfinite(key)), key, line)
    if within:
        _count_on(rows, at, line)
    _fill_steps(rows, main, line)
    line.epoch = _filled(rows.epoch, line.run)
    line.time = _elapsed(rows, main, line.run)
    return line


def _main_clock(rows: Rows) -> Mask:
    """The rows of the clock that tells most steps, or most epochs where none tells a step."""
    for told in (np.isfinite(rows.step), np.isfinite(rows.epoch)):
        if told.any():
            break
    else:
        told = np.ones(len(rows), bool)
    main: Mask = rows.clock == np.bincount(rows.clock[told]).argmax()
    return main


def _within_epochs(step: Floats, epoch: Floats) -> bool:
    """Do steps start again in every epoch?"""
    steps, epochs = np.diff(step), np.diff(np.floor(epoch))
    again = steps < 0
    if not (steps > 0).any():  # one record an epoch: its step stays
        again |= steps == 0
    return bool((again & (epochs > 0)).sum() * 2 >= max(again.sum(), 1))


def _counted_on(rows: Rows, at: Ints, epoch: Floats) -> tuple[Floats, float]:
    """Steps within the epoch as steps of the whole run; and how many there are in an epoch."""
    totals, whole = rows.total[at], np.floor(epoch[at])
    per_epoch = float(np.nanmax(totals)) if np.isfinite(totals).any() else float(rows.step[at].max())
    told = np.isfinite(whole)
    first = 1.0 if told.any() and whole[told].min() >= 1 else 0.0
    return np.where(told, (whole - first) * per_epoch, 0.0) + rows.step[at], per_epoch


def _count_on(rows: Rows, at: Ints, line: Timeline) -> None:
    """Makes steps that start again in every epoch count on, in each run by its own length of an epoch."""
    per_epoch = 0.0
    bounds = np.flatnonzero(np.diff(line.run[at])) + 1
    for mine in np.split(at, bounds):
        line.step[mine], per_epoch = _counted_on(rows, mine, line.epoch)
        line.totals["steps_per_epoch"] = per_epoch
    told = "as the log says" if np.isfinite(rows.total[at]).any() else "the most that was logged"
    line.notes.append(f"steps count within the epoch: they are counted on, {per_epoch:g} an epoch ({told})")


def _split(rows: Rows, at: Ints, key: Floats, line: Timeline) -> None:
    """Finds restarts and resumes on the main clock."""
    value = key[at]
    steps = np.diff(value)
    forward = steps[steps > 0]
    stride = float(np.median(forward)) if len(forward) else 1.0
    same = np.flatnonzero((steps == 0) & (np.diff(rows.kind[at]) == 0)) + 1
    falls = np.flatnonzero(steps < 0) + 1
    suspects = set(falls.tolist())
    if (np.isin(same - 1, falls) | (same == 1)).all():
        suspects.update(
            same.tolist()
        )  # nowhere else is a step told twice: the first step again is another run
    suspects.update(np.searchsorted(at, sorted(rows.start)).tolist())
    begin, starts = 0, []
    for index in sorted(suspects):
        if not 0 < index < len(at):
            continue
        now, told = value[index], any(at[index - 1] < row <= at[index] for row in rows.start)
        # a run that logs every 100 steps may log its 100th first
        gap = value[index + 1] - now if index + 1 < len(value) else stride
        if told or now <= max(value[begin] + stride, gap):
            if told or not _interleaved(value, begin, index):
                begin = index
                starts.append(int(at[index]))
        elif now < value[index - 1] and not _interleaved(value, begin, index):
            _splice(at, key, (begin, index), line)
    begins = np.zeros(len(line.run), np.int64)
    begins[[_first_of(rows, start) for start in starts]] = 1
    line.run = np.cumsum(begins)
    if starts:
        lines = [str(rows.line[start]) for start in starts]
        line.notes.append(f"{len(lines) + 1} runs: another begins at line {_listed(lines)}")
    if line.resumes:
        lines = [f"{rows.line[at]} (back from {a:g} to {b:g})" for at, a, b, _ in line.resumes]
        line.notes.append(f"resumed at line {_listed(lines)}: the points replaced are left out")


def _listed(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" … and {len(words) - 8} more" if len(words) > 8 else "")


def _first_of(rows: Rows, start: int) -> int:
    """The row at which a run begins, with what stands before it on the same line."""
    while start > 1 and rows.line[start - 1] == rows.line[start]:
        start -= 1
    return start


def _interleaved(value: Floats, begin: int, index: int) -> bool:
    """Is it only one of several writers that comes late: a new step, and the next one is ahead again?"""
    before = value[index - 1]
    ahead = index + 1 < len(value) and value[index + 1] > before
    return bool(ahead and not (value[begin:index] == value[index]).any())


def _splice(at: Ints, key: Floats, span: tuple[int, int], line: Timeline) -> None:
    """Drops the rows that a resume has replaced: those of this run that stand at its first step or later."""
    begin, index = int(at[span[0]]), int(at[span[1]])
    part = slice(begin, index)
    replaced = line.kept[part] & (key[part] >= key[index])
    before, after = float(key[at[span[1] - 1]]), float(key[index])
    line.kept[part] &= ~replaced
    line.resumes.append((index, before, after, int(replaced.sum())))


def _fill_steps(rows: Rows, main: Mask, line: Timeline) -> None:
    """Gives rows of other clocks the main clock's step, unless their own agrees with it."""
    last = _filled(np.where(main, line.step, np.nan), line.run)
    if not np.isfinite(last).any():
        return
    for clock in np.unique(rows.clock):
        mine = rows.clock == clock
        own = line.step[mine]
        if main[mine].all() and np.isfinite(own).all():
            continue
        if not main[mine].any() and clock not in rows.exact and np.isfinite(own).any():
            span = np.nanmax(last) - np.nanmin(last)
            apart = np.abs(own - last[mine])
            if np.isfinite(apart).any() and np.nanmedian(apart) > max(0.05 * span, 1):
                own = np.full_like(own, np.nan)
        line.step[mine] = np.where(np.isfinite(own), own, last[mine])


def _filled(values: Floats, run: Ints) -> Floats:
    """Each NaN replaced by the last value before it in the same run."""
    place = np.where(np.isfinite(values), np.arange(len(values)), -1)
    place = np.maximum.accumulate(place)
    good = (place >= 0) & (run[np.maximum(place, 0)] == run)
    return np.where(good, values[np.maximum(place, 0)], np.nan)


def _elapsed(rows: Rows, main: Mask, run: Ints) -> Floats:
    """Seconds since the run began: dates are counted from the run's first, and a clock that restarts counts on."""
    told = np.isfinite(rows.time)
    if not told.any():
        return rows.time
    dated = told & (rows.time > ABSOLUTE)
    source = dated if dated.any() else (told & main if (told & main).any() else told)
    time = np.full(len(rows), np.nan)
    bounds = np.searchsorted(run, np.arange(int(run[-1]) + 2))
    for begin, end in itertools.pairwise(bounds.tolist()):
        at = begin + np.flatnonzero(source[begin:end])
        if not len(at):
            continue
        seen = rows.time[at]
        before, now = seen[:-1], seen[1:]
        if dated.any():  # a time of day without its date falls at midnight
            time[at] = seen - seen[0] + DAY * np.concatenate([[0], np.cumsum(now < before - DAY / 2)])
        else:  # a little back is another writer; a restart begins anew
            lost = np.where(now < before / 2, before, 0.0)
            time[at] = seen + np.concatenate([[0], np.cumsum(lost)])
    return _filled(time, run)
