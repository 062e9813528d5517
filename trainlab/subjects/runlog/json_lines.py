"""JSON lines (mmcv, detectron2, MAE, DETR, any logger's), a JSON array of records, or pretty-printed records.

NaN and Infinity are read although JSON forbids them, since loggers write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.progress import track
from trainlab.subjects.runlog.columns import add_records, cell_number, exported_tag
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.naming import known, role_of
from trainlab.subjects.runlog.packed import read_whole
from trainlab.subjects.runlog.recording import Recording

__all__ = ["JsonLinesReader", "looks_like", "read", "whole_records"]

_RECORD = re.compile(r'\s*\[?\s*\{\s*("|\})')
_TRIPLE = re.compile(r"\[\s*([-+.\w]+)\s*,\s*([-+.\w]+)\s*,\s*([-+.\w]+)\s*\]")
_EXPORT = re.compile(r"\s*\[\s*" + _TRIPLE.pattern)  # as TensorBoard exports: [[wall time, step, value], …]


def looks_like(path: Path, head: bytes) -> bool:  # noqa: ARG001 - told by content alone
    """Whether the text begins with a JSON record, and most of its lines are records or parts of a printed one."""
    text = head.lstrip(b"\xef\xbb\xbf\0").decode("utf-8", "replace")
    if _EXPORT.match(text):
        return True
    if not _RECORD.match(text):
        return False
    lines = text.splitlines()[:50]
    records = sum(line.lstrip().startswith('{"') for line in lines)
    return records >= 0.6 * len(lines) or not lines[0].rstrip().endswith("}")


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:  # noqa: ARG001 - as all formats are read
    """Reads the file: about 15 µs a record of ten numbers.

    Raises:
        SubjectError: If no record holds a number.
    """
    data, notes = read_whole(path)
    reader = JsonLinesReader(path, progress=progress)
    reader.recording.notes += notes
    reader.take(data)
    if reader.count <= 1:  # one document, perhaps over many lines
        reader.recording = _documents(path, data.decode("utf-8-sig", "replace"), notes)
    return reader.finish()


class JsonLinesReader:
    """Reads one record a line, part by part; `finish` makes the log.

    Args:
        path: The file; only its name is used.
        progress: Whether to show a bar.
    """

    def __init__(self, path: Path, *, progress: bool = False) -> None:
        self.recording = Recording(path, "JSON lines")
        self.count = 0
        self._progress = progress
        self._line = 1

    def take(self, data: bytes) -> None:
        """Takes the next part of the file, from the start of a line."""
        lines = data.decode("utf-8-sig", "replace").split("\n")
        other: list[int] = []
        taken = add_records(self.recording, self._records(lines, other))
        self.count += taken
        self._line += len(lines) - 1
        if taken and other and other[-1] == self._line:
            self.recording.notes.append(f"line {other.pop()}, the last one, is half written")
        if taken and other:
            self.recording.notes.append(
                f"{len(other)} lines are no JSON records, the first is line {other[0]}"
            )

    def _records(self, lines: list[str], other: list[int]) -> Iterator[tuple[int, dict[str, object]]]:
        numbered: Iterable[tuple[int, str]] = enumerate(lines, self._line)
        if self._progress:
            numbered = track(numbered, label=f"reading {self.recording.path.name}", total=len(lines))
        for number, line in numbered:
            try:
                record = json.loads(line) if "{" in line else None
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                yield number, record
            elif line.strip("\0 \r\t"):
                other.append(number)

    def finish(self) -> RunLog:
        """The log.

        Raises:
            SubjectError: If no record holds a number.
        """
        log, path = self.recording.finish(), self.recording.path
        if not log.series:
            raise SubjectError(
                f"{path} is JSON, but holds no record with a number", fix="name a metrics file"
            )
        single = all(len(each) == 1 for each in log.series.values())
        if single and not any(_measured(name) for name in log.series):
            raise SubjectError(
                f"{path} is JSON, but looks like settings: one record, and no loss or score in it",
                seen=", ".join(list(log.series)[:8]),
                fix="name a metrics file",
            )
        return log


def _measured(name: str) -> bool:
    """Whether a number of this name is a result, and no setting."""
    return known(name) and role_of(name) not in ("learning_rate", "scale", "weight")


def whole_records(text: str, at: int = 0) -> Iterator[tuple[int, int, dict[str, object]]]:
    """The JSON objects that follow each other from a place on, alone or in an array.

    Yields:
        The line on which an object begins, where it ends in the text, and the object. It stops where something
        else follows, or at an object that is not whole.
    """
    decoder = json.JSONDecoder()
    line = text.count("\n", 0, at) + 1
    while (start := text.find("{", at)) >= 0 and not text[at:start].strip(" \t\r\n,[\0\ufeff"):
        line += text.count("\n", at, start)
        try:
            record, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        yield line, end, record
        line, at = line + text.count("\n", start, end), end


def _documents(path: Path, text: str, notes: list[str]) -> Recording:
    """What is printed over several lines: records one after the other, or one array or object of them."""
    recording = Recording(path, "JSON")
    recording.notes += notes
    if _EXPORT.match(text):
        names = ("wall time", "step", exported_tag(path.name))
        triples = (dict(zip(names, each.groups(), strict=True)) for each in _TRIPLE.finditer(text))
        add_records(recording, ((1, triple) for triple in triples))
        return recording
    found: list[tuple[int, dict[str, object]]] = []
    end = 0
    for line, end, value in whole_records(text):  # noqa: B007 - the last end is what is wanted
        found += _records_in(value, line)
    if text[end:].strip(" \t\r\n,]\0"):
        where = text.count("\n", 0, end) + 1
        recording.notes.append(
            f"from line {where} on there is no whole JSON record: cut off, or something else"
        )
    add_records(recording, found)
    return recording


def _records_in(value: dict[str, object], line: int) -> list[tuple[int, dict[str, object]]]:
    """The records of an object: a list of them in it, lists side by side (as Keras keeps its history), or itself."""
    lists = {name: each for name, each in value.items() if isinstance(each, list) and each}
    for each in lists.values():
        if all(isinstance(row, dict) for row in each):
            return [(line, row) for row in each]
    series = {
        name: each for name, each in lists.items() if all(cell_number(cell) is not None for cell in each)
    }
    if not series or any(cell_number(cell) is not None for cell in value.values()):
        return [(line, value)]
    longest = max(map(len, series.values()))
    clock = {} if "epoch" in series or "step" in series else {"epoch": list(range(longest))}
    rows = ({**clock, **series}).items()
    return [
        (line, {name: each[index] for name, each in rows if index < len(each)}) for index in range(longest)
    ]
