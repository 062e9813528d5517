"""The bytes of a TensorBoard event file as arrays: every scalar of every record, without TensorBoard.

A file is a chain of TFRecords: a length (uint64), its checksum, the message, its checksum. The chain is walked
record by record; then all records of one length are decoded together, since those of one tag differ only in the
bytes of their wall time, step and value. Whatever fits no such template is read one by one.

Every length is checked by its CRC-32C, and so is every message of up to 4096 bytes; longer ones (images, graphs)
are not. What is damaged is left out and noted, and reading goes on at the next length whose checksum is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from struct import Struct

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from trainlab.subjects.runlog.crc32c import masked_crc32c
from trainlab.subjects.runlog.event_records import Scalar, read_record
from trainlab.subjects.runlog.log import Floats, Ints
from trainlab.subjects.runlog.protobuf import WrongMessageError

__all__ = ["HEADER", "EventScalars", "Points", "decode_events", "is_header"]

HEADER = 12  # bytes before a message: its length and the checksum of that
_FRAME = 16  # bytes around a message
_CHECKED = 4096  # bytes; a scalar's message has about 40
_TEMPLATE = 8  # messages from which on a template pays
_GAPS = 100  # damaged places after which the rest of a file is given up
_WINDOW = 1 << 16  # bytes in which the next length is looked for at once
_LENGTH = Struct("<Q")
_MIXERS = np.random.default_rng(1).integers(1, 1 << 63, _CHECKED // 8 + 1, np.uint64) | np.uint64(1)

Bytes = NDArray[np.uint8]
Points = tuple[Ints, Ints, Floats, Floats]


@dataclass
class EventScalars:
    """What an event file holds.

    Attributes:
        points: For each tag, in the order of their first points: record number from 1 (int64), step (int64), wall
            time (float64, seconds since 1970) and value (float64), each (point,), in the order of the file.
        config: Texts and hyperparameters.
        notes: What is damaged.
        records: How many records are whole.
        end: Where the last whole record ends, in bytes.
        rest: How many bytes follow it, which are no whole record.
        begun: Wall time of the first record.
    """

    points: dict[str, Points] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    end: int = 0
    rest: int = 0
    begun: float = float("inf")

    def extend(self, more: EventScalars) -> None:
        """Adds what was decoded from the bytes that follow ``end``."""
        for tag, (number, step, wall, value) in more.points.items():
            after = number + self.records, step, wall, value
            self.points[tag] = _joined([self.points[tag], after]) if tag in self.points else after
        self.config = {**more.config, **self.config}
        self.notes += more.notes
        self.begun = min(self.begun, more.begun)
        self.records += more.records
        self.end += more.end
        self.rest = more.rest


def is_header(head: bytes) -> bool:
    """Whether the bytes begin with a length and its right checksum."""
    return len(head) >= HEADER and bool(_right(np.frombuffer(head[:HEADER], np.uint8)[None])[0])


def decode_events(data: bytes) -> EventScalars:
    """Decodes the records, from the start of one: about 0.5 µs a scalar."""
    found = EventScalars()
    whole = np.frombuffer(data, np.uint8)
    starts, lengths = _walk(data, whole, found)
    found.records = len(starts)
    if not found.records:
        return found
    first = data[starts[0] + HEADER : starts[0] + HEADER + 9]
    if first.startswith(b"\x09"):
        found.begun = float(np.frombuffer(first, "<f8", 1, 1)[0])
    pieces: dict[str, list[Points]] = {}
    order = np.argsort(lengths, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[group[0]])
        if length > _CHECKED:
            messages = (data[start + HEADER : start + HEADER + length] for start in starts[group].tolist())
            decoded: Iterator[tuple[str, Points]] = chain.from_iterable(
                map(_decode_one, messages, (group + 1).tolist(), repeat(found))
            )
        else:
            rows = sliding_window_view(whole, length + 4)[starts[group] + HEADER]
            decoded = _decode_group(rows, group + 1, found)
        for tag, points in decoded:
            pieces.setdefault(tag, []).append(points)
    for tag in sorted(pieces, key=lambda tag: min(int(piece[0][0]) for piece in pieces[tag])):
        number, step, wall, value = _joined(pieces[tag])
        order = np.argsort(number, kind="stable")
        found.points[tag] = (number[order], step[order], wall[order], value[order])
    return found


def _joined(pieces: Sequence[Points]) -> Points:
    number, step, wall, value = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return number, step, wall, value


def _right(rows: Bytes) -> NDArray[np.bool_]:
    """Whether the last four bytes of each row are the checksum of those before: (record,)."""
    right: NDArray[np.bool_] = (
        masked_crc32c(rows[:, :-4]) == np.ascontiguousarray(rows[:, -4:]).view("<u4")[:, 0]
    )
    return right


def _walk(data: bytes, whole: Bytes, found: EventScalars) -> tuple[Ints, Ints]:
    """Where the whole records start and how long their messages are, each (record,)."""
    parts: list[Ints] = []
    place: int | None = 0
    gaps = 0
    while place is not None and gaps < _GAPS:
        if gaps:
            found.notes.append(f"bytes {found.end} to {place} are damaged and left out")
        starts = _chain(data, whole, place)
        if len(starts):
            parts.append(starts)
            last = int(starts[-1])
            found.end = last + _FRAME + _LENGTH.unpack_from(data, last)[0]
        place = _next_record(whole, max(found.end, place + 1))
        gaps += 1
    found.rest = len(data) - found.end
    starts = np.concatenate(parts) if parts else np.empty(0, np.int64)
    lengths = sliding_window_view(whole, 8)[starts].view("<i8")[:, 0] if parts else starts
    return starts, lengths


def _chain(data: bytes, whole: Bytes, at: int) -> Ints:
    """Where the records that follow each other from a place on start, as far as they are whole."""
    length_at, total, starts = _LENGTH.unpack_from, len(data), []
    while at + _FRAME <= total:
        starts.append(at)
        at += length_at(data, at)[0] + _FRAME
    if at > total and starts:
        starts.pop()
    places = np.array(starts, np.int64)
    return places[_right(sliding_window_view(whole, HEADER)[places])] if starts else places


def _next_record(whole: Bytes, start: int) -> int | None:
    """The next place with a length whose checksum is right and that the file is long enough for."""
    for begin in range(start, len(whole) - _FRAME + 1, _WINDOW):
        heads = sliding_window_view(whole[begin : begin + _WINDOW + HEADER - 1], HEADER)
        for offset in np.flatnonzero(_right(heads)):
            place = begin + int(offset)
            if place + _FRAME + int.from_bytes(heads[offset, :8].tobytes(), "little") <= len(whole):
                return place
    return None


def _decode_group(rows: Bytes, numbers: Ints, found: EventScalars) -> Iterator[tuple[str, Points]]:
    """Decodes messages of one length, each with its checksum: (record, byte)."""
    right = _right(rows)
    if not right.all():
        bad = numbers[~right]
        found.notes.append(f"{len(bad)} records with a wrong checksum are left out, the first is {bad[0]}")
    rows, numbers = rows[right, :-4], numbers[right]
    after_step = _after_step(rows)
    for place in np.unique(after_step):
        chosen = np.flatnonzero(after_step == place)
        if place and len(chosen) >= _TEMPLATE:
            points, odd = _decode_alike(rows[chosen], numbers[chosen], int(place))
            yield from points
            chosen = chosen[odd]
        for index in chosen:
            yield from _decode_one(rows[index].tobytes(), int(numbers[index]), found)


def _after_step(rows: Bytes) -> Ints:
    """Where the summary of each message starts; 0 where it does not follow wall time and step."""
    if rows.shape[1] < 21:
        return np.zeros(len(rows), np.int64)
    # 0x09: wall time, 8 bytes; 0x10: step, a varint, whose last byte is below 0x80; 0x2A: summary
    size = np.where(rows[:, 9] == 0x10, np.argmax(rows[:, 10:20] < 0x80, axis=1) + 2, 0)
    key = np.take_along_axis(rows, 9 + size[:, None], axis=1)[:, 0]
    return np.where((rows[:, 0] == 0x09) & (key == 0x2A), 9 + size, 0)


def _decode_alike(rows: Bytes, numbers: Ints, after_step: int) -> tuple[list[tuple[str, Points]], Ints]:
    """Decodes messages whose summaries start at one place, and gives the indices of those that it cannot.

    Messages that agree in every byte but those of wall time, step and values have one structure: that of the
    first of them.
    """
    wall = np.ascontiguousarray(rows[:, 1:9]).view("<f8")[:, 0]
    bits = np.zeros(len(rows), np.uint64)
    for place in range(10, after_step):
        bits |= (rows[:, place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * (place - 10))
    step = bits.view(np.int64)
    template = _scalars(rows[0], wall[0], step[0])
    fixed = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    fixed[:, after_step : rows.shape[1]] = rows[:, after_step:]
    for scalar in template:
        fixed[:, scalar.at : scalar.stop] = 0
    words = fixed.view(np.uint64)
    _, first, kind = np.unique(words @ _MIXERS[: words.shape[1]], return_index=True, return_inverse=True)
    odd = (words != words[first[kind]]).any(axis=1)
    found: list[tuple[str, Points]] = []
    by_kind = np.split(np.argsort(kind, kind="stable"), np.cumsum(np.bincount(kind))[:-1])
    for example, members in zip(first, by_kind, strict=True):
        chosen = members[~odd[members]]
        scalars = _scalars(rows[example], wall[example], step[example])
        if not scalars or [each[2:] for each in scalars] != [each[2:] for each in template]:
            odd[chosen] = True
            continue
        for scalar in scalars:
            value = np.ascontiguousarray(rows[chosen, scalar.at : scalar.stop]).view(scalar.dtype)[:, 0]
            points = (numbers[chosen], step[chosen], wall[chosen], value.astype(np.float64))
            found.append((scalar.tag, points))
    return found, np.flatnonzero(odd)


def _scalars(row: Bytes, wall: np.float64, step: np.int64) -> list[Scalar]:
    """The scalars of a message that keeps each at a fixed place and holds nothing else to be read; else none."""
    try:
        record = read_record(row.tobytes())
    except WrongMessageError:
        return []
    same = record.step == step and np.array_equal(record.wall, wall, equal_nan=True)
    plain = not record.config and all(scalar.at >= 0 for scalar in record.scalars)
    return record.scalars if same and plain else []


def _decode_one(message: bytes, number: int, found: EventScalars) -> Iterator[tuple[str, Points]]:
    try:
        record = read_record(message)
    except WrongMessageError as error:
        found.notes.append(f"record {number} is no event: {error}")
        return
    for name, value in record.config.items():
        found.config.setdefault(name, value)
    place = np.array([number]), np.array([record.step]), np.array([record.wall])
    for scalar in record.scalars:
        yield scalar.tag, (*place, np.array([scalar.value]))
