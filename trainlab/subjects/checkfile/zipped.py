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

__all__ = ["Archive", "Record", "parse_descriptor", "parse_local"]

CENTRAL = struct.Struct(
    "<IHHHHHHIIIHHHHHII"
)  # signature, made by, needs, flags, method, time, date, crc, packed, size, …
LOCAL = struct.Struct("<IHHHHHIIIHH")
END = struct.Struct("<IHHHHIIH")
END64 = struct.Struct("<IQHHIIQQQQ")
LOCATOR = struct.Struct("<IIQI")
TAIL = 65_535 + END.size + LOCATOR.size + END64.size
INFLATED = 256 * 2**20  # bytes; a record is not inflated beyond this
ENTRIES = 2_000_000
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
        records: Every entry, in the central directory's order, duplicates included.
        notes: What is odd about the directory.

    Raises:
        SubjectError: It has no end, as a file that was cut short, or its directory is damaged.
    """

    def __init__(self, path: Path, start: int = 0, length: int | None = None) -> None:
        self.path = path
        self.start = start
        self._file = os.open(path, os.O_RDONLY)
        try:
            self.size = os.fstat(self._file).st_size - start if length is None else length
            self.notes: list[str] = []
            self.directory = self._directory()
            self.records = self._entries()
        except BaseException:
            os.close(self._file)
            raise
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def at(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer where it ends."""
        return os.pread(self._file, size, self.start + offset)

    def duplicates(self) -> list[str]:
        """The names that more than one record bears."""
        names = [each.name for each in self.records]
        if len(set(names)) == len(names):  # nearly always
            return []
        return [name for name, count in Counter(names).items() if count > 1]

    def named(self, short: str) -> list[Record]:
        """Every record with this name, whatever folder of the archive it lies in."""
        return [each for each in self.records if each.short == short]

    def offset(self, record: Record) -> int:
        """Where the content of a record begins in the file.

        Raises:
            SubjectError: There is no local header where the directory says.
        """
        known = self._offsets.get(record.header)
        if known is None:
            local = parse_local(self.at(record.header, LOCAL.size))
            if local is None:
                raise damaged(self.path, f"record {record.name!r} does not lie where the directory says")
            known = self._offsets[record.header] = record.header + LOCAL.size + local[9] + local[10]
        return self.start + known

    def read(self, record: Record, limit: int = INFLATED) -> bytes:
        """The content of a record, inflated where it is compressed, its CRC not looked at.

        Args:
            record: One of `records`.
            limit: The most bytes that are inflated: a small record can hold gigabytes of zeros.
        """
        raw = os.pread(self._file, min(record.packed, limit), self.offset(record))
        if record.method == 0:
            return raw
        if record.method != 8:
            raise damaged(
                self.path,
                f"record {record.name!r} is compressed in a way torch does not know ({record.method})",
            )
        try:
            return zlib.decompressobj(-15).decompress(raw, limit)
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
                    self.path, "the archive's end does not lie where it says", cut=True, size=self.size
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
        unpack = CENTRAL.unpack_from
        found: list[Record] = []
        for _ in range(min(count, ENTRIES)):
            if pos + CENTRAL.size > len(raw) or raw[pos : pos + 4] != b"PK\x01\x02":
                raise damaged(self.path, f"the archive's directory breaks off after {pos} of {size} bytes")
            fields = unpack(raw, pos)
            _, _, _, flags, method, _, _, crc, packed, full, name_size, extra_size, note_size, *_, header = (
                fields
            )
            begin = pos + CENTRAL.size
            end = begin + name_size
            pos = end + extra_size + note_size
            if _WIDE in (full, packed, header):
                full, packed, header = _wide(raw[end : end + extra_size], full, packed, header)
            name = str(raw[begin:end], "utf-8", "replace")
            short = name.partition("/")[2] or name
            found.append(Record(name, header, full, packed, crc, method, flags, fields, short))
        if pos != size:
            self.notes.append(f"{size - pos} bytes of the archive's directory belong to no record")
        return found


def parse_local(raw: bytes) -> tuple[int, ...] | None:
    """The fields of a local header, or None where there is none."""
    return LOCAL.unpack(raw) if len(raw) == LOCAL.size and raw[:4] == b"PK\x03\x04" else None


def parse_descriptor(raw: bytes, size: int) -> int | None:
    """The CRC in the descriptor after a record of this size, or None where there is none (raw: 24 bytes)."""
    if raw[:4] != b"PK\x07\x08":
        return None
    for form in ("<IIII", "<IIQQ"):
        if len(raw) >= struct.calcsize(form):
            _, crc, packed, full = struct.unpack_from(form, raw)
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
