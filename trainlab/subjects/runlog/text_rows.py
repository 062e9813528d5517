"""Tables in text logs: one quantity a row (``| loss | 0.3 |``), or a header and a column for each quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from trainlab.subjects.runlog.log import Floats, Ints
from trainlab.subjects.runlog.naming import is_epoch, is_step, is_time, known, words
from trainlab.subjects.runlog.recording import Recording
from trainlab.subjects.runlog.text_counters import Counters
from trainlab.subjects.runlog.text_grammar import Parsed, Value, parse
from trainlab.subjects.runlog.text_numbers import NUMBER, Moment, durations, to_floats

__all__ = ["Cell", "Cells", "cell", "row"]

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf)"
_CELL = re.compile(
    rf"^\s*[|]\s*(?P<name>[^|]*[A-Za-z][^|]*?)\s*[|]\s*(?P<value>{_NUMBER})\s*[%s]?\s*[|]\s*$",
    re.IGNORECASE,
)
_PLAIN = re.compile(rf"^\s*(?P<name>[A-Za-z][\w/@.()-]*(?: [\w/@.()-]+)*)\s{{2,}}(?P<value>{_NUMBER})\s*$")
_SECTION = re.compile(r"^\s*[|]\s*(?P<name>[\w -]+)/\s*[|]\s*[|]\s*$")
_RULES = re.compile("│|┃|║".encode())
_STEPS = (
    "global step",
    "total timesteps",
    "total env interacts",
    "timesteps",
    "num timesteps",
    "step",
    "steps",
    "iteration",
    "iterations",
    "itr",
    "n updates",
    "updates",
)


@dataclass(frozen=True)
class Cell:
    """A row of a table that tells one quantity; ``at`` is -1 for the title of a section."""

    name: str
    at: int
    nested: bool
    fixed: tuple[int, ...]


def cell(raw: bytes) -> Cell | None:
    """The quantity that a table's row tells, the title of a section, or None."""
    raw = _ruled(raw)
    line = raw.decode("latin-1")
    section = _SECTION.match(line)
    if section:
        return Cell(section["name"], -1, nested=False, fixed=())
    found = _CELL.match(line) or _PLAIN.match(line)
    if found is None:
        return None
    starts = [each.start() for each in NUMBER.finditer(raw)]
    if found.start("value") not in starts:
        return None
    fixed = tuple(at for at, start in enumerate(starts) if start < found.end("name"))
    name = found["name"].encode("latin-1").decode("utf-8", "replace")
    return Cell(
        name, starts.index(found.start("value")), line.lstrip("| ") != line and "|    " in line, fixed
    )


@dataclass
class Cells:
    """Gathers the rows of tables that tell one quantity each; rows without a line between them are one record."""

    rows: list[tuple[Ints, Ints, str, bool, Floats]] = field(default_factory=list)
    sections: list[tuple[Ints, str]] = field(default_factory=list)

    def add(self, told: Cell, columns: list[list[bytes]], place: Ints, line: Ints) -> None:
        """Adds rows of one kind: their numbers by column, their places and their lines."""
        if told.at < 0:
            self.sections.append((place, told.name))
        else:
            self.rows.append((place, line, told.name, told.nested, to_floats(columns[told.at])))

    def fill(self, recording: Recording) -> None:
        """Gives the recording every table that tells its step or epoch, or stands in the log again and again."""
        if not self.rows:
            return
        names = list(dict.fromkeys(name for _, _, name, _, _ in self.rows))
        place = np.concatenate([each[0] for each in self.rows])
        order = np.argsort(place, kind="stable")
        place = place[order]
        line = np.concatenate([each[1] for each in self.rows])[order]
        value = np.concatenate([each[4] for each in self.rows])[order]
        name = np.concatenate([np.full(len(each[0]), names.index(each[2])) for each in self.rows])[order]
        nested = np.concatenate([np.full(len(each[0]), each[3]) for each in self.rows])[order]
        block = self._blocks(place, name)
        step, epoch, time = (
            _of_block(names, name, value, block, kind) for kind in (_step_rank, _epoch_rank, _time_rank)
        )
        told = np.isfinite(step) | np.isfinite(epoch)
        if not told.any() and not (block[-1] >= 2 and any(known(each) for each in names)):
            return
        section = self._section(place)
        for index, label in enumerate(names):
            if is_step(label) or is_epoch(label) or _step_rank(label) < len(_STEPS):
                continue
            for number in np.unique(section[(name == index) & nested]).tolist() or [-1]:
                mine = (name == index) & (~nested | (section == number))
                at = block[mine]
                full = f"{self.sections[number][1]}/{label}" if number >= 0 and nested[mine].any() else label
                recording.add_rows(
                    {full: value[mine]}, line=line[mine], step=step[at], epoch=epoch[at], time=time[at],
                    clock="table", place=place[mine],
                )  # fmt: skip

    def _blocks(self, place: Ints, name: Ints) -> Ints:
        """Which record each row belongs to."""
        titles = (
            np.concatenate([each[0] for each in self.sections]) if self.sections else np.zeros(0, np.int64)
        )
        every = np.sort(np.concatenate([place, titles]))
        joined = np.concatenate([[0], np.cumsum(np.diff(every) > 1)])
        block = joined[np.searchsorted(every, place)]
        first = np.concatenate([[True], np.diff(block) > 0])
        head = name[np.maximum.accumulate(np.where(first, np.arange(len(name)), 0))]
        return np.asarray(np.cumsum(first | (name == head)) - 1)

    def _section(self, place: Ints) -> Ints:
        """The index of the section's title above each row, or -1."""
        if not self.sections:
            return np.full(len(place), -1)
        titles = np.concatenate([each[0] for each in self.sections])
        numbers = np.concatenate([np.full(len(each[0]), at) for at, each in enumerate(self.sections)])
        order = np.argsort(titles)
        at = np.searchsorted(titles[order], place) - 1
        return np.where(at >= 0, numbers[order][np.maximum(at, 0)], -1)


def _step_rank(name: str) -> int:
    plain = words(name)
    return _STEPS.index(plain) if plain in _STEPS else len(_STEPS)


def _epoch_rank(name: str) -> int:
    return 0 if is_epoch(name) else len(_STEPS)


def _time_rank(name: str) -> int:
    return 0 if is_time(name) or words(name) == "time elapsed" else len(_STEPS)


def _of_block(names: list[str], name: Ints, value: Floats, block: Ints, rank: object) -> Floats:
    """The value that each record tells of what ``rank`` ranks best; NaN where it does not tell."""
    assert callable(rank)
    found = np.full(int(block[-1]) + 1, np.nan)
    for index in sorted(range(len(names)), key=lambda at: -rank(names[at])):
        if rank(names[index]) < len(_STEPS):
            mine = name == index
            found[block[mine]] = value[mine]
    return found


def row(raw: bytes, above: list[bytes]) -> Parsed | None:
    """What a row of numbers says, by the header of its columns.

    Args:
        raw: The row.
        above: The lines above it, the nearest first.
    """
    raw = _ruled(raw)
    line = raw.decode("latin-1")
    spans = [each.span() for each in NUMBER.finditer(raw)]
    if len(spans) < 2 or len(line) > 1000 or not re.match(r"[\s|]*(?:all\s|[-+]?[\d.])", line):
        return None
    for each in above:
        header = re.sub(r":?\s*\d+%\|.*", "", _ruled(each).decode("latin-1"))
        if re.search(r"[A-Za-z]", header) and not re.match(r"[\s|]*[-+]?[\d.]", header):
            break
    else:
        return None
    for cut in (r"\s*\|\s*|\s{2,}|\t", r"\s*[|,]\s*|\s+"):
        titles, cells = [title for title, _ in _fields(header, cut)], _fields(line, cut)
        if titles[:1] == ["#"] and len(titles) == len(cells) + 1:  # a header in a comment, as NumPy writes it
            titles = titles[1:]
        if cells and _is_header(titles) and 0 <= len(cells) - len(titles) <= 1 + ("%" in line) * 30:
            found = _by_column(titles, cells, spans, line)
            beside = parse(raw)
            if found and beside and beside.counters.bar and found.counters.step < 0:
                bar = beside.counters
                found.counters.step, found.counters.total, found.counters.clock = bar.step, bar.total, "bar"
            return found
    return None


def _ruled(raw: bytes) -> bytes:
    """A row whose columns are set apart by ``|``, whatever lines they were drawn with."""
    return _RULES.sub(b"|", raw)


def _fields(line: str, cut: str) -> list[tuple[str, int]]:
    """The fields of a line and where each begins."""
    ends = [*re.finditer(cut, line), None]
    fields, start = [], 0
    for end in ends:
        text = line[start : end.start() if end else len(line)]
        if text.strip():
            fields.append((text.strip(), start + len(text) - len(text.lstrip())))
        start = end.end() if end else len(line)
    return fields


def _is_header(titles: list[str]) -> bool:
    named = [title for title in titles if re.match(r"[A-Za-z#]", title)]
    telling = [title for title in titles if known(title) or is_step(title) or is_epoch(title)]
    return (
        len(titles) >= 3
        and len(named) == len(titles)
        and len(telling) >= 2
        and all(len(each) <= 40 for each in titles)
    )


def _by_column(
    titles: list[str], cells: list[tuple[str, int]], spans: list[tuple[int, int]], line: str
) -> Parsed | None:
    starts = [start for start, _ in spans]
    values, counted = [], Counters()
    elapsed: Moment | None = None
    for title, (text, begin) in zip(titles, cells, strict=False):
        if begin not in starts or not re.match(rf"{_NUMBER}", text, re.IGNORECASE):
            continue
        at = starts.index(begin)
        of = re.match(r"\d+/(?=\d)", text)
        if is_epoch(title):
            counted.epoch, counted.epochs = at, at + 1 if of else -1
        elif is_step(title) or title == "#":
            counted.step, counted.total, counted.clock = at, at + 1 if of else -1, title.lower()
        elif ":" in text:
            found = durations(line, {start: number for number, start in enumerate(starts)})
            elapsed = (
                next((each for each, (start, _) in found if start == begin), elapsed)
                if is_time(title)
                else elapsed
            )
        else:
            values.append(Value(title if "(" in title else title.rstrip(":)"), at))
    return Parsed(len(spans), tuple(values), counted, None, elapsed) if len(values) >= 2 else None
