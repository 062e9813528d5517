"""Rows with named cells, as CSV, JSON lines and W&B keep them: which cell is the step, which a quantity, which a setting.

A cell that is empty, null or missing is no point; a NaN is one. Numbers may be written as texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

import numpy as np

from trainlab.subjects.runlog.log import Floats, Ints
from trainlab.subjects.runlog.naming import SPLITS, STEPS, is_epoch, is_step, is_time, words
from trainlab.subjects.runlog.recording import Recording

__all__ = [
    "Cells",
    "add_records",
    "add_table",
    "cell_moment",
    "cell_number",
    "exported_tag",
    "flat",
    "settings",
]

Cells = np.ma.MaskedArray

_SPLIT_KEYS = ("mode", "split", "phase", "subset", "stage")
_DEEP = 20  # dictionaries in each other; what is nested deeper is no record of training
_LIST = 16  # numbers; a longer list is data, not a quantity
_DATES = ("date", "datetime", "date time", "created at")
_PARAMETERS = ("n parameters", "num parameters", "n params", "num params")
_TEXT = 200  # characters; a longer text is no setting


def cell_number(cell: object) -> float | None:
    """The number in a cell, None where there is none: ``"3.9e-1"`` and ``"45 %"`` are numbers, ``True`` is not."""
    if isinstance(cell, str):
        cell = cell.strip().removesuffix("%")
    elif isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def cell_moment(name: str, cell: object) -> float | None:
    """As `cell_number`; a date in a column that is named as one is seconds since 1970."""
    number = cell_number(cell)
    if number is None and isinstance(cell, str) and (is_time(name) or words(name) in _DATES):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return number


def exported_tag(name: str) -> str:
    """The tag of a file that TensorBoard exported, which stands in the file's name alone: ``run-.-tag-train_loss.csv``."""
    return name.rsplit(".", 1)[0].rsplit("-tag-", 1)[-1]


def flat(record: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The cells of a nested record; names are joined by ``/``, short lists are numbered."""
    for key, value in record.items():
        if isinstance(value, dict):
            if prefix.count("/") < _DEEP:
                yield from flat(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            if len(value) <= _LIST and all(cell_number(each) is not None for each in value):
                yield from ((f"{prefix}{key}/{index}", each) for index, each in enumerate(value))
        else:
            yield f"{prefix}{key}", value


def settings(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings by one name each, joined by ``/``; lists stay whole."""
    told: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and prefix.count("/") < _DEEP:
            told |= settings(value, f"{prefix}{key}/")
        else:
            told[f"{prefix}{key}"] = value
    return told


def add_records(recording: Recording, records: Iterable[tuple[int, Mapping[str, object]]]) -> int:
    """Adds nested records, each with its line; returns how many hold a quantity.

    A record without any number is settings, and so is one that stands, without a step or epoch, before the first
    that has one.
    """
    # records that tell their place by other names count by clocks of their own: mmengine's evaluations count epochs
    told: dict[tuple[str, str], list[tuple[int, dict[str, float]]]] = {}
    pending: list[tuple[int, dict[str, float]]] = []
    for line, record in records:
        numbers, split = {}, ""
        for name, cell in flat(record):
            value = float(cell) if type(cell) is float else cell_moment(name, cell)
            if value is not None and not name.startswith(
                "config/"
            ):  # RLlib repeats its settings on each line
                numbers[name] = value
            elif name in _SPLIT_KEYS and str(cell).lower() in SPLITS:
                split = SPLITS[str(cell).lower()]
            elif isinstance(cell, str | int | float) and len(str(cell)) <= _TEXT:
                recording.config.setdefault(name, cell)
        if numbers:
            clocks = ",".join(sorted(filter(_is_clock, numbers)))
            rows = told.setdefault((split, clocks), []) if split or clocks or told else pending
            rows.append((line, numbers))
    if told:
        for _, numbers in pending:
            recording.config.update(numbers)
    else:
        told["", ""] = pending
    for (split, clocks), rows in told.items():
        lines = np.array([line for line, _ in rows], np.int64)
        add_table(
            recording,
            _columns([numbers for _, numbers in rows]),
            lines,
            split=split,
            clock=f"{split} {clocks}",
        )
    return sum(map(len, told.values()))


def _columns(rows: list[dict[str, float]]) -> dict[str, Cells]:
    filled: dict[str, tuple[list[int], list[float]]] = {}
    for index, row in enumerate(rows):
        for name, value in row.items():
            places, values = filled.setdefault(name, ([], []))
            places.append(index)
            values.append(value)
    columns = {}
    for name, (places, values) in filled.items():
        column = np.full(len(rows), np.nan)
        column[places] = values
        empty = np.ones(len(rows), bool)
        empty[places] = False
        columns[name] = np.ma.masked_array(column, empty)
    return columns


def add_table(
    recording: Recording, columns: Mapping[str, Cells], lines: Ints, *, split: str = "", clock: str = ""
) -> None:
    """Adds columns of one length; those that count steps, epochs or time become the rows' place."""
    steps = sorted(filter(_whole(columns, is_step), columns), key=_rank)
    epochs = list(filter(_whole(columns, is_epoch, whole=False), columns))
    ends = {name for name in steps if words(_last(name)) == "total steps" and _constant(columns[name])}
    for name in ends:  # LLaMA-Factory tells on each line how many there are to be
        recording.totals["total_steps"] = float(columns[name].compressed()[0])
    steps = [name for name in steps if name not in ends]
    times = [name for name in columns if _is_time(name) or _is_running_time(name, columns[name])]
    values = {
        name: column for name, column in columns.items() if name not in {*steps, *ends, *epochs, *times}
    }
    for name in [name for name in values if words(name) in _PARAMETERS]:
        recording.totals["params"] = float(values.pop(name).compressed()[-1])
    recording.add_rows(
        values,
        line=lines,
        step=_merged(steps, columns),
        epoch=_merged(epochs, columns),
        time=_merged(times, columns),
        split=split,
        clock=clock,
    )


def _constant(column: Cells) -> bool:
    value = column.compressed()
    return len(value) > 1 and bool((value == value[0]).all())


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _is_clock(name: str) -> bool:
    last = _last(name)
    return is_step(last) or is_epoch(last)


def _is_time(name: str) -> bool:
    return is_time(_last(name)) or words(name) in _DATES


def _rank(name: str) -> tuple[int, int]:
    return STEPS.index(words(_last(name))), name.count("/")


def _whole(
    columns: Mapping[str, Cells], is_it: Callable[[str], bool], *, whole: bool = True
) -> Callable[[str], bool]:
    """Told by its name, and holding whole numbers where a count must."""

    def test(name: str) -> bool:
        value = columns[name].compressed()
        return (
            is_it(_last(name)) and bool(len(value)) and (not whole or bool((value == np.floor(value)).all()))
        )

    return test


def _is_running_time(name: str, column: Cells) -> bool:
    """``time`` may be the duration of a step or the time since the run began; only the latter never falls."""
    value = column.compressed()
    return words(name) in {"time", "t"} and len(value) > 2 and bool((np.diff(value) > 0).all())


def _merged(names: list[str], columns: Mapping[str, Cells]) -> Floats | None:
    """The first column, its empty cells filled from those that agree with it wherever both are told."""
    if not names:
        return None
    merged: Floats = columns[names[0]].filled(np.nan)
    for name in names[1:]:
        other = columns[name].filled(np.nan)
        both = np.isfinite(merged) & np.isfinite(other)
        if (merged[both] == other[both]).all():
            merged = np.where(np.isfinite(merged), merged, other)
    return merged
