"""Read text logs, whatever wrote them: lines of named numbers, progress bars, tables of rows or columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainlab.errors import SubjectError
from trainlab.progress import track
from trainlab.subjects.runlog.log import Ints, RunLog
from trainlab.subjects.runlog.recording import Recording
from trainlab.subjects.runlog.source import open_bytes
from trainlab.subjects.runlog.text_config import claims, settings
from trainlab.subjects.runlog.text_events import event_of
from trainlab.subjects.runlog.text_grammar import Parsed, parse
from trainlab.subjects.runlog.text_numbers import NUMBER, QUICK
from trainlab.subjects.runlog.text_rows import Cell, Cells, cell, row
from trainlab.subjects.runlog.text_scan import CHUNK, Chunk, Scan, chunks
from trainlab.subjects.runlog.text_store import Store

__all__ = ["TextReader", "nothing_found", "parts_of", "read"]

LEARNED = 2000  # kinds of lines; of those that come after, only lines that speak of training are looked into
_WORDS = (b"loss", b"step", b"epoch", b"iter", b"acc", b"lr", b"ppl", b"reward", b"it/s", b"%|", b"| ")
_TRAINING = re.compile(
    rb"(?:loss|step|epoch|iter|iteration|acc|accuracy|lr|ppl|reward|it/s)\w{0,8}[\"']?[\s=:|(\[]{1,6}[-+]?[\d.ni]|\d\s*\|\s*$|%\|"
)
_CODE = re.compile(
    rb"\s*(?:def \w+\(|class \w+.*:\s*$|import \w|from [\w.]+ import |return\b|elif .*:|else:|try:|except\b.*:|if .*:$|for .* in .*:$|assert |@\w)"
)
EACH = 1000  # events of one kind of line that are told one by one; warnings are told once, with their number
HEAD_LINES = 3000  # settings stand before the first record, and not further down than this
NEAR = 3  # lines: so near to a line of values, a progress bar tells their step


@dataclass(frozen=True)
class _Learned:
    """What a kind of line is: what it says, the event it tells; a bar of no value matters only beside values."""

    told: Parsed | Cell | None
    event: str | None

    @property
    def beside(self) -> bool:
        return isinstance(self.told, Parsed) and not self.told.values and self.told.counters.bar


class TextReader:
    """Reads a text log part by part; `finish` makes the log.

    Args:
        path: The file; only its name is used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scan = Scan(self._learn)
        self.store = Store()
        self.cells = Cells()
        self._head: list[tuple[int, bytes]] = []
        self._events: list[tuple[int, str, str]] = []
        self._code: list[int] = []  # lines of source code, one of each kind
        self._told: dict[int, int] = {}  # how many events of a kind of line were told
        self._other: dict[tuple[int, tuple[bytes, ...]], Parsed | Cell | None] = {}
        self._wanted = np.zeros(0, np.int8)  # of each kind of line: 1 values, 2 beside values, 4 an event

    def take(self, raw: bytes) -> None:
        """Takes the next part of the file, which ends where a line ends."""
        chunk = self.scan.take(raw)
        if len(self._head) < HEAD_LINES:
            few = min(len(chunk.ends), HEAD_LINES)
            self._head += [(int(chunk.line[at]), chunk.piece(at)[:4000]) for at in range(few)]
        fresh = [_wanted(each.learned) for each in self.scan.skeletons[len(self._wanted) :]]
        self._wanted = np.concatenate([self._wanted, np.array(fresh, np.int8)])
        wanted = self._wanted[chunk.kind]
        told = (wanted & 1) > 0
        near = told.copy()
        for apart in range(1, NEAR + 1):
            near[apart:] |= told[:-apart]
            near[:-apart] |= told[apart:]
        near[:NEAR] = near[-NEAR:] = True
        self._tell(chunk, np.flatnonzero(told | ((wanted & 2) > 0) & near))
        for at in np.flatnonzero(wanted & 4).tolist():
            self._event(chunk, at)

    def _learn(self, chunk: Chunk, at: int) -> _Learned | None:
        piece = chunk.piece(at)
        event = event_of(piece)
        if _CODE.match(piece) and not (
            at and b'File "' in chunk.piece(at - 1)
        ):  # a traceback shows code, too
            self._code.append(int(chunk.line[at]))
        told: Parsed | Cell | None = None
        if len(self.scan.skeletons) < LEARNED or _speaks(piece.lower()):
            told = cell(piece) or parse(piece)
            if told is None or (isinstance(told, Parsed) and not told.values):
                above = [chunk.piece(index) for index in range(at - 1, max(at - 60, -1), -1)]
                told = row(piece, above) or told
        if event is not None and not (isinstance(told, Parsed) and told.counters):
            told = None
        return None if told is None and event is None else _Learned(told, event)

    def _tell(self, chunk: Chunk, at: Ints) -> None:
        """Reads the numbers of these lines, kind by kind."""
        kinds = chunk.kind[at]
        order = np.argsort(kinds, kind="stable")
        bounds = np.flatnonzero(np.diff(kinds[order])) + 1
        for part in np.split(at[order], bounds):
            if len(part):
                self._tell_kind(chunk, int(chunk.kind[part[0]]), part)

    def _tell_kind(self, chunk: Chunk, kind: int, at: Ints) -> None:
        skeleton = self.scan.skeletons[kind]
        learned = skeleton.learned
        assert isinstance(learned, _Learned)
        told = learned.told
        if isinstance(told, Cell) and told.at < 0:
            self.cells.add(told, [], chunk.first + at, chunk.line[at])
            return
        pieces = chunk.pieces(at)
        first = NUMBER.findall(skeleton.example)
        count = len(first)
        quick = QUICK.findall(skeleton.example) == first
        tokens = (QUICK if quick else NUMBER).findall(b"\n".join(pieces))
        if len(tokens) != count * len(at):  # numbers that are set apart otherwise than in the first line
            for place, piece in zip(at, pieces, strict=True):
                self._keep(parse(piece), [[each] for each in NUMBER.findall(piece)], chunk, np.array([place]))
            return
        columns = [tokens[number::count] for number in range(count)]
        assert told is not None
        if all(
            column.count(column[0]) == len(at) and column[0] == first[number]
            for number, column in _fixed(told, columns)
        ):
            self._keep(told, columns, chunk, at)
            return
        names: dict[tuple[bytes, ...], list[int]] = {}
        for index, key in enumerate(zip(*(column for _, column in _fixed(told, columns)), strict=True)):
            names.setdefault(key, []).append(index)
        for key, rows in names.items():
            if (kind, key) not in self._other:
                self._other[kind, key] = cell(pieces[rows[0]]) or parse(pieces[rows[0]])
            self._keep(
                self._other[kind, key],
                [[column[index] for index in rows] for column in columns],
                chunk,
                at[rows],
            )

    def _keep(self, told: Parsed | Cell | None, columns: list[list[bytes]], chunk: Chunk, at: Ints) -> None:
        if isinstance(told, Cell):
            self.cells.add(told, columns, chunk.first + at, chunk.line[at])
        elif told is not None and told.numbers == len(columns):
            self.store.add(told, columns, chunk.first + at, chunk.line[at])

    def _event(self, chunk: Chunk, at: int) -> None:
        kind = int(chunk.kind[at])
        self._told[kind] = self._told.get(kind, 0) + 1
        if self._told[kind] <= EACH:
            learned = self.scan.skeletons[kind].learned
            assert isinstance(learned, _Learned)
            assert learned.event is not None
            self._events.append((int(chunk.line[at]), learned.event, _shown(chunk.piece(at))))

    def finish(self) -> RunLog:
        """The log, with no series where no line tells a quantity of training."""
        recording = Recording(self.path, "text")
        if self.scan.nulls:
            recording.notes.append(f"{self.scan.nulls:,} NUL bytes were passed over")
        self.store.fill(recording, program=max(self._code) if len(self._code) >= 5 else 0)
        self.cells.fill(recording)
        for line, kind, text in self._events:
            recording.event(kind, text, line)
        for index, skeleton in enumerate(self.scan.skeletons):
            more = skeleton.count - min(self._told.get(index, 0), EACH)
            if isinstance(skeleton.learned, _Learned) and skeleton.learned.event and more:
                recording.event(skeleton.learned.event, _shown(skeleton.example), skeleton.line, count=more)
        log = recording.finish()
        first = min((int(each.line[0]) for each in log.series.values()), default=HEAD_LINES)
        head = [piece.decode("utf-8", "replace") for line, piece in self._head if line < first]
        return replace(log, config=settings(head), totals={**claims("\n".join(head)), **log.totals})


def _speaks(small: bytes) -> bool:
    return any(word in small for word in _WORDS) and _TRAINING.search(small) is not None


def _fixed(told: Parsed | Cell, columns: list[list[bytes]]) -> list[tuple[int, list[bytes]]]:
    return [(number, columns[number]) for number in told.fixed]


def _wanted(learned: object) -> int:
    if not isinstance(learned, _Learned):
        return 0
    told = 0 if learned.told is None else 2 if learned.beside else 1
    return told | (4 if learned.event not in (None, "warning") else 0)


def _shown(line: bytes) -> str:
    return line[:500].decode("utf-8", "replace").strip()


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:
    """Reads a text log.

    Args:
        path: The file; it may be packed.
        head: Its first bytes.
        progress: Show how far it is, where it takes over a second.

    Raises:
        SubjectError: No line tells a quantity of training.
    """
    reader = TextReader(path)
    for part in parts_of(path, head, progress=progress):
        reader.take(part)
    log = reader.finish()
    if not log.series:
        raise nothing_found(path, reader.scan)
    return log


def parts_of(path: Path, head: bytes, *, progress: bool) -> Iterator[bytes]:
    """Yields a text file in parts that end where a line ends, as UTF-8 where it is UTF-16."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell's > writes
        with open_bytes(path) as file:
            yield file.read().decode("utf-16", "replace").encode()
        return
    with open_bytes(path) as file:
        parts = chunks(file)
        if progress:
            parts = track(parts, label=f"reading {path.name}", total=-(-path.stat().st_size // CHUNK))
        yield from parts


def nothing_found(path: Path, scan: Scan) -> SubjectError:
    """The error for a text in which no line tells a quantity of training."""
    common = sorted(scan.skeletons, key=lambda each: -each.count * bool(NUMBER.search(each.example)))[:3]
    shown = [each.example.decode("utf-8", "replace").strip()[:120] for each in common]
    return SubjectError(
        f"no line of {path} tells a quantity of training with its name",
        seen="\n".join(["lines such as", *shown]) if shown else "an empty file",
        fix="open_log(path, pattern=r'(?P<step>\\d+) .* (?P<loss>[\\d.e+-]+)'): a regex whose groups name the numbers of a line",
    )
