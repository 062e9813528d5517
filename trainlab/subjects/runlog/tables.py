"""Tables: CSV and its kin, as Lightning, OpenAI's logger, Keras, Ultralytics and the exports of W&B and TensorBoard write.

What these files are like: columns that appear late, headers that are written again or lost, cells that are empty,
spaces around names, rows cut off, NUL bytes where a file was truncated while its writer had it open.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import _csv

from trainlab.errors import SubjectError
from trainlab.progress import track
from trainlab.subjects.runlog.beside import settings_beside
from trainlab.subjects.runlog.columns import Cells, add_table, cell_moment, cell_number, exported_tag
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.packed import read_whole
from trainlab.subjects.runlog.recording import Recording

__all__ = ["TableReader", "looks_like", "read", "separator"]

_SEPARATORS = ",;\t"
_EXPORT = ["Wall time", "Step", "Value"]  # TensorBoard's, which tells the tag in the file's name only
_MISSING = {"", "none", "null", "n/a", "na", "-", "--"}
_EMPTY_LEAD = b"\0 \t\r\n\xef\xbb\xbf"
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


def looks_like(path: Path, head: bytes) -> bool:
    """Whether most rows of the first 64 KiB have the same cells, and those are numbers."""
    body = head.lstrip(_EMPTY_LEAD)
    if not body and head:  # NULs alone: the table may begin after them
        body = read_whole(path)[0].lstrip(_EMPTY_LEAD)[: 2**16]
    return bool(separator(body.decode("utf-8", "replace")))


def separator(text: str) -> str:
    """What stands between the cells; "" where the text is no table of numbers."""
    lines = [line for line in text.split("\n")[:40] if line.strip() and not line.startswith("#")]
    if len(text) >= 2**16 - 64 and len(lines) > 1:
        lines = lines[:-1]  # it may be cut by the end of what was read
    for mark in _SEPARATORS:
        rows = list(_reader("\n".join(lines), mark))
        if len(rows) < 1 or len(rows[0]) < 2:
            continue
        body = rows[1:] if _is_header(rows[0]) else rows
        alike = sum(abs(len(row) - len(rows[0])) <= len(rows[0]) // 2 for row in body)
        cells = [cell.strip().lower().replace(",", ".") for row in body for cell in row]
        numbers = sum(cell_number(cell) is not None or cell in _MISSING for cell in cells)
        if body and alike >= 0.9 * len(body) and numbers >= 0.6 * len(cells):
            return mark
        if not body and all(re.fullmatch(r"[\w /.@%()\[\]-]{1,60}", cell) for cell in rows[0]):
            return mark  # a header alone
    return ""


def _is_header(row: Sequence[str]) -> bool:
    if cell_number(row[0]) is not None:
        return False  # as nearly every row of a table
    told = [cell for cell in row if cell.strip()]
    return bool(told) and sum(cell_number(cell) is None for cell in told) > len(told) / 2


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:  # noqa: ARG001 - as all formats are read
    """Reads the file: about 0.6 µs a cell.

    Raises:
        SubjectError: If it holds no number.
    """
    data, notes = read_whole(path)
    reader = TableReader(path, progress=progress)
    reader.recording.notes += notes
    reader.take(data)
    reader.recording.config |= settings_beside(path, "hparams.yaml", "args.yaml")
    return reader.finish()


class TableReader:
    """Reads a table, part by part; `finish` makes the log. Each header names the columns of the rows after it.

    Args:
        path: The file; only its name is used.
        progress: Whether to show a bar.
    """

    def __init__(self, path: Path, *, progress: bool = False) -> None:
        self.recording = Recording(path, "table")
        self.names: list[str] | None = None
        self._progress = progress
        self._mark = ""
        self._line = 1

    def take(self, data: bytes) -> None:
        """Takes the next part of the file, from the start of a line."""
        body = data.lstrip(_EMPTY_LEAD)
        lead = data[: len(data) - len(body)]
        self._line += lead.count(b"\n")
        if b"\0" in lead:
            note = f"{lead.count(0)} NUL bytes before line {self._line}: the file was truncated while it was open"
            self.recording.notes.append(note)
        text = body.decode("utf-8", "replace")
        if not self._mark:
            self._mark = separator(text[: 2**16]) or ","
            self.recording.format = {",": "CSV", "\t": "TSV"}.get(self._mark, f"table with {self._mark}")
        rows, lines = self._rows(text)
        if rows and not text.endswith("\n") and self.names and len(rows[-1]) < len(self.names):
            self.recording.notes.append(f"line {lines[-1]}, the last one, is cut off and left out")
            rows, lines = rows[:-1], lines[:-1]
        self._add(rows, lines)

    def _rows(self, text: str) -> tuple[list[list[str]], list[int]]:
        """The rows after the last header, and their lines; those before it are added."""
        rows: list[list[str]] = []
        lines: list[int] = []
        first, before = self._line, 0
        reader = _reader(text, self._mark)
        label = f"reading {self.recording.path.name}"
        for row in track(reader, label=label, total=text.count("\n")) if self._progress else reader:
            line, before = first + before, reader.line_num
            if not any(map(str.strip, row)):
                continue
            if row[0].startswith("#"):
                self._comment(self._mark.join(row))
            elif _is_header(row):
                self._add(rows, lines)
                rows, lines = [], []
                self._name(row, line)
            else:
                rows.append(row)
                lines.append(line)
        self._line = first + text.count("\n")
        return rows, lines

    def finish(self) -> RunLog:
        """The log.

        Raises:
            SubjectError: If the table holds no number.
        """
        log = self.recording.finish()
        if not log.series:
            raise SubjectError(
                f"{self.recording.path} is a table without a number",
                seen=f"columns {', '.join(self.names)}" if self.names else None,
                fix="open a file that has rows: this one holds a header only, or texts",
            )
        return log

    def _comment(self, text: str) -> None:
        """Keeps the settings of a comment line, as stable-baselines' monitor writes them."""
        try:
            told = json.loads(text.lstrip("# "))
        except (ValueError, RecursionError):
            return
        if isinstance(told, dict):
            self.recording.config.update(told)

    def _name(self, row: list[str], line: int) -> None:
        names = [name.strip() or (f"column {index}" if index else "") for index, name in enumerate(row)]
        if names == _EXPORT:
            names[2] = exported_tag(self.recording.path.name)
        runs = {name.split(" - ")[0] for name in names if " - " in name}
        if len(runs) == 1 and names[0] == "Step":  # W&B's export of one run
            names = [name.split(" - ", 1)[-1] for name in names]
        if self.names is not None:
            change = "again" if names == self.names else "again, with other columns,"
            self.recording.notes.append(f"the header is written {change} at line {line}")
        self.names = names

    def _add(self, rows: list[list[str]], lines: list[int]) -> None:
        if not rows:
            return
        known, width = self.names or [], max(map(len, rows))
        every = [*known, *(f"column {index}" for index in range(len(known), width))]
        every[0] = every[0] or "column 0"
        columns: dict[str, Cells] = {}
        for name, cells in zip(every, zip_longest(*rows, fillvalue=""), strict=False):
            column = _numbers(name, cells)
            if column is None:
                if len({*cells}) == 1 and cells[0].strip():
                    self.recording.config.setdefault(name, cells[0].strip())
            elif known[:1] == [""] and name == "column 0" and (np.diff(column) == 1).all():
                continue  # the index of a pandas table
            elif not name.endswith(("__MIN", "__MAX")):  # W&B's export
                columns[name] = column
        if self.names is None:
            self.names = _found_step(every, columns)
            note = f"the header is lost: the columns from line {lines[0]} on are numbered from 0"
            step = f"; column {self.names.index('step')} counts the steps" if "step" in self.names else ""
            self.recording.notes.append(note + step)
        elif width > len(known):
            extra = ", ".join(every[len(known) :])
            self.recording.notes.append(f"columns that the header does not name are called {extra}")
        add_table(self.recording, columns, np.array(lines, np.int64))


def _reader(text: str, mark: str) -> _csv.Reader:
    # an odd quote would swallow the rest of the file
    odd = text.count('"') % 2 == 1
    plain = io.StringIO(text.replace("\0", "").replace("\r", ""))
    return csv.reader(
        plain, delimiter=mark, skipinitialspace=True, quoting=csv.QUOTE_NONE if odd else csv.QUOTE_MINIMAL
    )


def _found_step(names: list[str], columns: dict[str, Cells]) -> list[str]:
    """Names the column that counts steps where the header is lost: whole numbers that only grow, the smallest such."""
    rising = {
        name: float(column[-1])
        for name, column in columns.items()
        if not np.ma.is_masked(column)
        and len(column) > 1
        and (np.diff(column.data) > 0).all()
        and (column.data == np.floor(column.data)).all()
    }
    if not rising:
        return names
    step = min(rising, key=rising.__getitem__)
    columns["step"] = columns.pop(step)
    return ["step" if name == step else name for name in names]


def _numbers(name: str, cells: Sequence[str]) -> Cells | None:
    """A column of numbers, its empty cells masked; None where most of what it holds are texts."""
    try:
        return np.ma.masked_array(np.array(list(map(float, cells))))
    except ValueError:
        pass
    try:
        filled = np.array([float(cell) if cell else np.nan for cell in cells])
        empty = np.array([not cell for cell in cells])
        return None if empty.all() else np.ma.masked_array(filled, empty)
    except ValueError:
        pass
    if any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells[:10]):
        cells = [cell.replace(",", ".") for cell in cells]
    numbers = [cell_moment(name, cell) for cell in cells]
    texts = sum(
        number is None and cell.strip().lower() not in _MISSING
        for number, cell in zip(numbers, cells, strict=True)
    )
    empty = np.array([number is None for number in numbers])
    if texts > len(cells) - empty.sum() or empty.all():
        return None
    return np.ma.masked_array(
        np.array([np.nan if each is None else each for each in numbers], np.float64), empty
    )
