"""Keep what lines said, many at a time, and decide which of it are quantities of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainlab.subjects.runlog.log import Floats, Ints
from trainlab.subjects.runlog.naming import known, role_of, split_of
from trainlab.subjects.runlog.recording import Recording
from trainlab.subjects.runlog.text_grammar import Parsed
from trainlab.subjects.runlog.text_numbers import Moment, to_floats

__all__ = ["Store"]

NAN = float("nan")
ALL_TELL = 0.9  # share of lines whose step the first process tells too, from which on its lines are enough
OFTEN = 10  # lines
TWICE = (
    0.4  # share of lines that tell the same again, from which on lines are taken to be written more than once
)


@dataclass
class _Family:
    """Lines that tell the same quantities and count alike.

    Attributes:
        names: The quantities.
        split: As the lines say.
        clock: What the lines count their steps by.
        bar: They are progress bars.
        parts: For each batch of lines: place, line, step, epoch, total, epochs, elapsed, date, rank, then the values.
    """

    names: tuple[str, ...]
    split: str
    clock: str
    bar: bool
    parts: list[list[Floats]] = field(default_factory=list)

    def table(self) -> Floats:
        """``(9 + quantity, row)`` float64, see ``parts``, in the order of the file."""
        joined = np.concatenate([np.stack(part) for part in self.parts], axis=1)
        self.parts = [list(joined)]  # the numbers of a long log are held once
        if (np.diff(joined[0]) > 0).all():
            return joined
        return joined[:, np.argsort(joined[0], kind="stable")]


class Store:
    """Gathers the numbers of lines by what they tell."""

    def __init__(self) -> None:
        self.families: dict[tuple[object, ...], _Family] = {}

    def add(self, parsed: Parsed, columns: Sequence[Sequence[bytes]], place: Ints, line: Ints) -> None:
        """Adds lines that say the same.

        Args:
            parsed: What they say.
            columns: For each number of the line, its tokens in all lines.
            place: ``(line,)``; orders all lines of the file.
            line: ``(line,)``; their numbers in the file.
        """
        size = len(place)
        counted = parsed.counters

        def told(at: int) -> Floats:
            return to_floats(columns[at]) if at >= 0 else np.full(size, NAN)

        if isinstance(parsed.elapsed, Moment):
            elapsed = parsed.elapsed.seconds(columns)
        else:
            elapsed = told(-1 if parsed.elapsed is None else parsed.elapsed) * parsed.unit
        date = parsed.moment.seconds(columns) if parsed.moment else np.full(size, NAN)
        values = [told(each.at) / told(each.of) if each.of >= 0 else told(each.at) for each in parsed.values]
        names = tuple(each.name for each in parsed.values)
        key = (names, parsed.split, counted.clock, counted.bar, counted.step >= 0, counted.epoch >= 0)
        family = self.families.get(key)
        if family is None:
            splits = {split_of(name) for name in names} if names else {""}
            split = parsed.split or (splits.pop() if len(splits) == 1 else "")
            clock = f"{split.replace('train', '')} {counted.clock}"
            family = self.families[key] = _Family(names, parsed.split, clock, counted.bar)
        counters = [np.abs(told(at)) for at in (counted.step, counted.epoch, counted.total, counted.epochs)]
        family.parts.append(
            [place.astype(float), line.astype(float), *counters, elapsed, date, told(parsed.rank), *values]
        )

    def fill(self, recording: Recording, *, program: int = 0) -> None:
        """Gives the recording what belongs to the training.

        Args:
            recording: What is filled.
            program: The last line of a program that the log holds, or 0; numbers before it count only beside a step.
        """
        tables = [(family, family.table()) for family in self.families.values()]
        counted = [table for _, table in tables if np.isfinite(table[2:4]).any()]
        first = min((float(table[0, 0]) for table in counted), default=np.inf)
        named = [(family, table) for family, table in tables if family.names]
        chosen = [each for each in named if _belongs(*each, first, program)]
        if not chosen:
            return
        often = {
            table.shape[1] for _, table in chosen if np.isfinite(table[2:4]).any() or table.shape[1] > OFTEN
        }
        chosen = [
            each for each in named if any(each is one for one in chosen) or _beside(each[1], often, first)
        ]
        has_elapsed = any(np.isfinite(table[6]).any() for family, table in chosen if not family.bar)
        has_date = any(np.isfinite(table[7]).any() for _, table in chosen)
        lacking = not np.isfinite(max(chosen, key=lambda each: each[1].shape[1])[1][2]).all()
        clock = None if has_elapsed else 7 if has_date else 6
        self._ticks(tables, recording, steps=lacking, clock=clock)
        epochs_told = any(np.isfinite(table[3]).any() for table in counted)
        for family, table in chosen:
            for split, rows in _loops(family, table, recording):
                time = rows[7] if has_date else rows[6]
                if has_elapsed:
                    time = np.full(rows.shape[1], NAN) if family.bar else rows[6]
                if np.isfinite(rows[5]).any():
                    recording.totals["total_epochs"] = float(np.nanmax(rows[5]))
                recording.add_rows(
                    dict(zip(family.names, rows[9:], strict=True)),
                    line=rows[1].astype(np.int64), step=rows[2], time=time, total=rows[4],
                    epoch=_passes(rows[2], rows[4]) if family.bar and not epochs_told else rows[3],
                    split=split, clock=f"{split if split != family.split else ''}{family.clock}",
                    place=rows[0].astype(np.int64),
                )  # fmt: skip

    def _ticks(
        self, tables: list[tuple[_Family, Floats]], recording: Recording, *, steps: bool, clock: int | None
    ) -> None:
        """Lines that only count: a header of an epoch; and, where values tell no step, the bar beside them."""
        for family, table in tables:
            if family.names or (not steps and not np.isfinite(table[3]).any()):
                continue
            if (
                family.bar
            ):  # of several bars (training, evaluation, download), the one that most values stand beside
                totals, counts = np.unique(table[4][np.isfinite(table[4])], return_counts=True)
                if not len(totals):
                    continue
                table = table[:, table[4] == totals[counts.argmax()]]  # noqa: PLW2901
            elif table.shape[1] < 2:
                continue
            if np.isfinite(table[5]).any():
                recording.totals["total_epochs"] = float(np.nanmax(table[5]))
            recording.add_rows(
                {}, line=table[1].astype(np.int64), step=table[2] if steps else None, epoch=table[3],
                total=table[4] if steps else None, time=None if clock is None else table[clock], clock=f"tick{family.clock}", place=table[0].astype(np.int64),
            )  # fmt: skip


def _loops(family: _Family, table: Floats, recording: Recording) -> list[tuple[str, Floats]]:
    """The loops that lines of one form show, each with its split: bars may differ in their length alone."""
    if not family.bar:
        return [(family.split, _once(table, recording))]
    again = (np.diff(table[1:3]) == 0).all(axis=0) & (np.diff(table[9:]) == 0).all(axis=0)
    table = table[:, np.concatenate([[True], ~again])]  # a bar is drawn more than once
    begins = np.concatenate([[True], np.diff(table[4]) != 0])
    totals, turns = np.unique(table[4][begins], return_counts=True)
    if family.split or len(totals) != 2 or turns.min() < 2 or not np.isfinite(totals).all():
        return [(family.split, table)]
    short, long = totals.tolist()
    recording.notes.append(
        f"bars of {short:g} take turns with bars of {long:g}: they are taken for the validation"
    )
    return [("", table[:, table[4] == long]), ("val", table[:, table[4] == short])]


def _once(table: Floats, recording: Recording) -> Floats:
    """Each line once: of those that every process writes, the first process's; of equal ones, the first."""
    ranks = np.unique(table[8][np.isfinite(table[8])])
    count = table[2] if np.isfinite(table[2]).any() else table[3]
    first = table[8] == ranks[0] if len(ranks) > 1 else np.zeros(table.shape[1], bool)
    if first.any() and np.isin(count, count[first]).mean() > ALL_TELL:
        note = f"{len(ranks)} processes write the same lines: those of rank {ranks[0]:g} are taken"
        table = table[:, first]
    else:  # two handlers of one logger, or processes that do not tell their rank
        before, after = table[9:, :-1], table[9:, 1:]
        same = (before == after) | (np.isnan(before) & np.isnan(after))
        again = (np.diff(table[:3], axis=1)[[0, 2]] == [[1], [0]]).all(axis=0) & same.all(axis=0)
        if not len(again) or again.mean() < TWICE:
            return table
        note = f"{again.sum():,} lines repeat the step and the values of the line before: they are left out"
        table = table[:, np.concatenate([[True], ~again])]
    if note not in recording.notes:
        recording.notes.append(note)
    return table


def _passes(step: Floats, total: Floats) -> Floats:
    """Which pass over the data a bar shows: another one begins where a bar that was full starts again."""
    falls = np.flatnonzero(np.diff(step) < 0)
    full = step[falls] >= 0.9 * total[falls]
    if not len(falls) or full.mean() < 0.5:
        return np.full(len(step), NAN)
    begins = np.zeros(len(step))
    begins[falls + 1] = 1
    return np.cumsum(begins) + 1


def _beside(table: Floats, often: set[int], first: float) -> bool:
    """Does a quantity that no name tells move, and stand in the log as often as one that belongs to it?"""
    size, values = table.shape[1], table[9:]
    near = any(abs(size - each) <= 1 for each in often)
    return size > OFTEN and near and table[0, -1] > first and bool((values != values[:, :1]).any())


def _belongs(family: _Family, table: Floats, first: float, program: int) -> bool:
    """Are these lines of the training, and not settings or prose with a number?

    Args:
        family: The lines.
        table: Their numbers.
        first: The place of the first line that counts anything.
        program: The last line of a program in the log, or 0.
    """
    size = table.shape[1]
    roles = [role_of(name) for name in family.names]
    any_known = any(known(name) for name in family.names)
    if family.bar or np.isfinite(table[2:4]).any():
        return any_known or size >= 3
    if not any_known or table[1, -1] <= program:
        return False
    values = table[9:]
    moves = bool((values != values[:, :1]).any() or not np.isfinite(values).all())
    telling = any(
        role in ("loss", "perplexity") or (role == "metric" and known(name))
        for name, role in zip(family.names, roles, strict=True)
    )
    after = bool(table[0, 0] > first)
    return (size >= 3 and (moves or after)) or (telling and after)
