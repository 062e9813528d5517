"""A zip archive read the way torch reads it: raw records at their offsets, without the checks that hide what is there.

`zipfile` refuses a record whose CRC is wrong, gives the last of two records with one name while torch gives
another, and cannot open an archive that lost its end. Here every record of the central directory is kept, in
order, and bytes are read from where they lie.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3: general format, 4.5.3: zip64).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Self

from trainlab.subjects.checkfile.wrong import damaged

__all__ = ["Archive", "Record", "descriptor_size", "local_size", "parse_descriptor", "parse_local"]

# signature, made by, needs, flags, method, time, date, crc, packed, size, …
CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
LOCAL = struct.Struct("<IHHHHHIIIHH")
END = struct.Struct("<IHHHHIIH")
END64 = struct.Struct("<IQHHIIQQQQ")
LOCATOR = struct.Struct("<IIQI")
TAIL = 65_535 + END.size + LOCATOR.size + END64.size
INFLATED = 256 * 2**20  # bytes; a record is not inflated beyond this: a small one can hold gigabytes of zeros
ENTRIES = 2_000_000
DESCRIPTOR = 24  # bytes, at most
_HEADERS = (b"PK\x03\x04", b"PK\x01\x02")  # of a record, and of the directory
_WIDE = 0xFFFFFFFF  # in place of a value that takes 64 bits


class Record(NamedTuple):
    """One entry of the central directory.

    Attributes:
        name: As stored, ``archive/data/12``.
        header: Offset of its local header in the file.
        size: Bytes of its content.
        packed: Bytes that it takes in the file; the same unless it is compressed.
        crc: CRC-32 of the content; 0 where the writer left it out.
        method: 0 stored, 8 deflated.
        flags: The general purpose bits.
        fields: The whole entry as it was stored, for `verify`.
        short: The name without the archive's folder: ``data/12``.
    """

    name: str
    header: int
    size: int
    packed: int
    crc: int
    method: int
    flags: int
    fields: tuple[int, ...]
    short: str


class Archive:
    """An open zip archive; close it, or use it in a ``with``.

    Args:
        path: The file.
        start: Where the archive begins in it, for one that lies inside another file.
        length: How many bytes it has; None takes the rest of the file.

    Attributes:
        file: The open file.
        records: Every entry, in the central directory's order, duplicates included.
        notes: What is odd about the directory.

    Raises:
        SubjectError: It has no end, as a file that was cut short, or its directory is damaged.
    """

    def __init__(self, path: Path, start: int = 0, length: int | None = None) -> None:
        self.path = path
        self.start = start
        self.file = os.open(path, os.O_RDONLY)
        try:
            self.size = os.fstat(self.file).st_size - start if length is None else length
            self.notes: list[str] = []
            self.directory = self._directory()
            self.records = self._entries()
        except BaseException:
            os.close(self.file)
            raise
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    def at(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer where it ends."""
        return os.pread(self.file, size, self.start + offset)

    def duplicates(self) -> list[str]:
        """The names that more than one record bears."""
        counts = Counter(each.name for each in self.records)
        twice = len(counts) < len(self.records)
        return [name for name, count in counts.items() if count > 1] if twice else []

    def offset(self, record: Record) -> int:
        """Where the content of a record begins in the file.

        Raises:
            SubjectError: There is no local header where the directory says.
        """
        known = self._offsets.get(record.header)
        if known is None:
            size = local_size(self.at(record.header, LOCAL.size))
            if not size:
                raise damaged(self.path, f"record {record.name!r} does not lie where the directory says")
            known = self._offsets[record.header] = record.header + size
        return self.start + known

    def read(self, record: Record) -> bytes:
        """The content of a record, inflated where it is compressed, its CRC not looked at; at most `INFLATED` bytes."""
        raw = os.pread(self.file, min(record.packed, INFLATED), self.offset(record))
        if record.method == 0:
            return raw
        if record.method != 8:
            raise damaged(
                self.path, f"record {record.name!r} is compressed in an unknown way ({record.method})"
            )
        try:
            return zlib.decompressobj(-15).decompress(raw, INFLATED)
        except zlib.error as error:
            raise damaged(self.path, f"record {record.name!r} cannot be inflated: {error}") from None

    def _directory(self) -> tuple[int, int, int]:
        """Offset, size and number of entries of the central directory."""
        tail_size = min(self.size, TAIL)
        tail = self.at(self.size - tail_size, tail_size)
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) - place < END.size:
            raise damaged(self.path, "the archive has no end", cut=True, size=self.size)
        _, _, _, _, count, size, offset, _ = END.unpack_from(tail, place)
        end = self.size - tail_size + place
        if place >= LOCATOR.size and tail[place - LOCATOR.size :][:4] == b"PK\x06\x07":
            end = LOCATOR.unpack_from(tail, place - LOCATOR.size)[2]
            raw = self.at(end, END64.size)
            if len(raw) < END64.size or raw[:4] != b"PK\x06\x06":
                raise damaged(
                    self.path, "the archive's end lies elsewhere than it says", cut=True, size=self.size
                )
            *_, count, size, offset = END64.unpack(raw)
        if offset + size > end:
            raise damaged(self.path, "the archive's directory does not fit into it", cut=True, size=self.size)
        if offset + size < end and self.at(offset, 4) not in (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"):
            shift = end - offset - size
            self.notes.append(f"{shift} bytes lie before the archive")
            self.start += shift
        return offset, size, count

    def _entries(self) -> list[Record]:
        offset, size, count = self.directory
        raw = self.at(offset, min(size, ENTRIES * 64))
        pos = 0
        unpack, make = CENTRAL.unpack_from, Record._make
        found: list[Record] = []
        for _ in range(min(count, ENTRIES)):
            if pos + CENTRAL.size > len(raw) or raw[pos : pos + 4] != b"PK\x01\x02":
                raise damaged(self.path, f"the archive's directory breaks off after {pos} of {size} bytes")
            fields = unpack(raw, pos)
            (
                _,
                _,
                _,
                flags,
                method,
                _,
                _,
                crc,
                packed,
                full,
                name_size,
                extra_size,
                note_size,
                _,
                _,
                _,
                header,
            ) = fields
            begin = pos + CENTRAL.size
            end = begin + name_size
            pos = end + extra_size + note_size
            if _WIDE in (full, packed, header):
                full, packed, header = _wide(raw[end : end + extra_size], full, packed, header)
            name = str(raw[begin:end], "utf-8", "replace")
            short = name.partition("/")[2] or name
            found.append(make((name, header, full, packed, crc, method, flags, fields, short)))
        if pos != size:
            self.notes.append(f"{size - pos} bytes of the archive's directory belong to no record")
        return found


def parse_local(raw: bytes) -> tuple[int, ...] | None:
    """The fields of a local header, or None where there is none."""
    return LOCAL.unpack(raw) if len(raw) == LOCAL.size and raw[:4] == b"PK\x03\x04" else None


def local_size(raw: bytes) -> int:
    """Bytes from the start of a local header to the content behind it; 0 where there is none."""
    local = parse_local(raw)
    return LOCAL.size + local[9] + local[10] if local else 0


def descriptor_size(raw: bytes) -> int:
    """Bytes of the descriptor that these 28 begin with: whether it is of 64 bits shows in what comes behind it."""
    wide = raw[24:28] in _HEADERS and raw[16:20] not in _HEADERS
    return DESCRIPTOR if wide else 16


def parse_descriptor(raw: bytes, size: int) -> int | None:
    """The CRC in the descriptor after a record of this size, or None where there is none (raw: 24 bytes)."""
    if raw[:4] != b"PK\x07\x08":
        return None
    for form in (struct.Struct("<IIII"), struct.Struct("<IIQQ")):
        if len(raw) >= form.size:
            _, crc, packed, full = form.unpack_from(raw)
            if packed == full == size:
                return int(crc)
    return None


def _wide(extra: bytes, full: int, packed: int, header: int) -> tuple[int, int, int]:
    """The 64-bit values of an entry whose 32-bit fields are full: extra field 1."""
    pos = 0
    while pos + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, pos)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, pos + 4))
            wide = [next(values, value) if value == _WIDE else value for value in (full, packed, header)]
            return wide[0], wide[1], wide[2]
        pos += 4 + length
    return full, packed, header
