"""W&B's offline `.wandb` file: history, config, summary, console and exit code, without wandb.

The file is a LevelDB log (leveldb/doc/log_format.md; 7 bytes of its own stand first, and the checksum is zlib's
CRC-32) of protobuf records (wandb/proto/wandb_internal.proto). A run that was killed ends in the middle of a
record, which is the normal case: what is whole is read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from trainlab.subjects.runlog.protobuf import WrongMessageError, fields, signed, varint

__all__ = ["OfflineRun", "decode_wandb", "is_wandb"]

_MAGIC = b":W&B\xe1\xbe"
_BLOCK = 32768
_PIECE = Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _LAST = 1, 2, 4
_FACTS = {
    1: "run_id",
    2: "entity",
    3: "project",
    6: "group",
    7: "job_type",
    8: "name",
    9: "notes",
    12: "sweep",
    13: "host",
}


@dataclass
class OfflineRun:
    """The content of a `.wandb` file; records are numbered from 1.

    Attributes:
        history: What each ``log`` call logged, nested names joined by ``/``, with the record's number.
        config: The run's settings.
        summary: The last summary of each key.
        facts: Run id, project, name, host and the like.
        console: The lines of the console, each with the number of the record that ended it (by a line feed or a
            carriage return).
        pieces: How many records of console output there are.
        exit_code: None where the run did not end.
        runtime: Seconds until the run ended; None where not told.
        notes: What is damaged or cut off.
        records: How many records there are.
    """

    history: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)
    summary: dict[str, object] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    console: list[tuple[int, bytes]] = field(default_factory=list)
    pieces: int = 0
    exit_code: int | None = None
    runtime: int | None = None
    notes: list[str] = field(default_factory=list)
    records: int = 0


def is_wandb(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a `.wandb` file."""
    return head.startswith(_MAGIC)


def decode_wandb(data: bytes) -> OfflineRun:
    """Decodes a `.wandb` file: about 15 ms a megabyte."""
    run = OfflineRun()
    unfinished = {"stdout": b"", "stderr": b""}
    for record in _records(data, run.notes):
        run.records += 1
        try:
            for number, start, end in fields(record):
                if number in {4, 13}:
                    run.pieces += 1
                    stream, piece = _console(record, start, end)
                    whole, unfinished[stream] = _cut(unfinished[stream], piece)
                    run.console += [(run.records, line) for line in whole]
                elif number in _READERS:
                    _READERS[number](run, record, start, end)
        except (WrongMessageError, ValueError, RecursionError) as error:
            run.notes.append(f"record {run.records} cannot be read: {error}")
    run.console += [(run.records, rest.strip(b"\r")) for rest in unfinished.values() if rest.strip()]
    if run.exit_code is None:
        run.notes.append("the file holds no exit code: the run was killed, or still runs")
    return run


def _records(data: bytes, notes: list[str]) -> Iterator[bytes]:
    """The whole records; damaged blocks are left out and noted."""
    at = 7
    parts: list[bytes] = []
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < _PIECE.size:
            at += left
            continue
        if at + _PIECE.size > len(data):
            break
        checksum, size, kind = _PIECE.unpack_from(data, at)
        end = at + _PIECE.size + size
        if end > len(data):
            break
        if size > left - _PIECE.size or zlib.crc32(data[at + 6 : end]) != checksum:
            notes.append(f"the block from byte {at} to {at + left} is damaged and left out")
            parts = []
            at += left
            continue
        part = data[at + _PIECE.size : end]
        at = end
        if kind in {_FULL, _FIRST}:
            parts = [part]
        elif parts:  # else the record began in a damaged block
            parts.append(part)
        if kind in {_FULL, _LAST} and parts:
            yield b"".join(parts)
            parts = []
    if parts or at < len(data):
        notes.append("the last record is cut off")


def _history(run: OfflineRun, record: bytes, start: int, end: int) -> None:
    row = _items(record, start, end)
    for number, at, stop in fields(record, start, end):
        if number == 2:  # the step, where it is not among the items; 0 is not stored
            told = [varint(record, *place)[0] for inner, *place in fields(record, at, stop) if inner == 1]
            row.setdefault("_step", *(told or [0]))
    run.history.append((run.records, row))


def _summary(run: OfflineRun, record: bytes, start: int, end: int) -> None:
    run.summary.update(_items(record, start, end))


def _config(run: OfflineRun, record: bytes, start: int, end: int) -> None:
    run.config.update(_items(record, start, end))


def _run(run: OfflineRun, record: bytes, start: int, end: int) -> None:
    for fact, at, stop in fields(record, start, end):
        if fact == 4:
            _config(run, record, at, stop)
        elif fact == 17:
            time = {number: varint(record, *place)[0] for number, *place in fields(record, at, stop)}
            run.facts["start_time"] = time.get(1, 0) + time.get(2, 0) / 1e9
        elif fact in _FACTS:
            run.facts[_FACTS[fact]] = record[at:stop].decode("utf-8", "replace")


def _exit(run: OfflineRun, record: bytes, start: int, end: int) -> None:
    told = {number: varint(record, *place)[0] for number, *place in fields(record, start, end)}
    run.exit_code = signed(told.get(1, 0))  # an integer that is 0 is not stored
    run.runtime = told.get(2)


_READERS = {2: _history, 3: _summary, 5: _config, 17: _run, 18: _exit}


def _items(record: bytes, start: int, end: int) -> dict[str, object]:
    """Keys and values: a key is one name or a path of names, a value is JSON text."""
    found: dict[str, object] = {}
    for number, first, last in fields(record, start, end):
        if number != 1:
            continue
        path, value = [], None
        for inner, at, stop in fields(record, first, last):
            if inner == 16:
                value = json.loads(record[at:stop])
            elif inner in {1, 2}:
                path.append(record[at:stop].decode("utf-8", "replace"))
        found["/".join(path)] = value
    return found


def _console(record: bytes, start: int, end: int) -> tuple[str, bytes]:
    """Which stream a piece of console output was written to, and the piece."""
    stream, piece = "stderr", b""
    for number, at, stop in fields(record, start, end):
        if number == 1 and varint(record, at, stop)[0] == 1:
            stream = "stdout"
        elif number == 3:
            piece = record[at:stop]
    return stream, piece


def _cut(before: bytes, piece: bytes) -> tuple[list[bytes], bytes]:
    """The lines that a piece of output ends, and the line that it leaves unfinished.

    A bar that is drawn again begins with a carriage return; what interrupts it, such as a traceback, begins another line.
    """
    if before.startswith(b"\r") and before.endswith(b"]") and piece[:1].isalpha():
        lines, rest = _cut(b"", piece)
        return [before.strip(b"\r"), *lines], rest
    text = before + piece
    end = max(text.rfind(b"\n") + 1, text.rfind(b"\r"), 0)
    return [line for line in text[:end].splitlines() if line], text[end:]
