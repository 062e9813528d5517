"""Is every byte of this checkpoint as it was written? Checked against the CRCs that torch stores and never reads.

Costs one reading of the file, at the speed of zlib's crc32 on every core. safetensors, legacy files and archives saved
with ``set_crc32_options(False)`` hold no checksum: of those, only the structure and the length can be told.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.peek import content_of
from trainlab.subjects.checkfile.sniff import sniff
from trainlab.subjects.checkfile.tensors import TensorInfo
from trainlab.subjects.checkfile.zipped import LOCAL, Archive, Record, parse_descriptor, parse_local

__all__ = ["Check", "State", "Verification", "crc_of", "verify"]

_MAKERS = ((0x031E, 45), (45, 45))  # what miniz, which torch uses, and zipfile call themselves
PIECE = 2**19  # bytes: a buffer that stays in the core's cache between reading and summing
WINDOW = 2**23  # bytes mapped at a time
MAPPED = 2**20  # bytes: a shorter run is read instead
BATCH = 2**22  # bytes: shorter records are checked together, a task each would cost more than its checking
POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # of Linux: fetches a window's pages at once


class State(StrEnum):
    """What is known of some bytes."""

    GOOD = "good"
    """They have the checksum that was stored with them."""
    UNVERIFIABLE = "unverifiable"
    """Nothing was stored that they could be checked against."""
    DAMAGED = "damaged"
    """They are not what was written, or not there."""


@dataclass(frozen=True)
class Check:
    """One record or tensor that was checked: what it is, the tensors in it, its state and what is wrong."""

    name: str
    state: State
    tensors: tuple[str, ...] = ()
    wrong: str = ""


@dataclass(frozen=True, repr=False)
class Verification:
    """What a verification found.

    Attributes:
        path: The file or folder.
        size: Bytes that were looked at.
        checks: Every record, in the file's order.
        notes: What is wrong with the file as a whole.
    """

    path: Path
    size: int
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def damaged(self) -> tuple[Check, ...]:
        """The records that are not as they were written."""
        return tuple(each for each in self.checks if each.state is State.DAMAGED)

    @property
    def state(self) -> State:
        """Damaged if anything is, unverifiable if anything is, good if all is."""
        states = {each.state for each in self.checks}
        if self.notes or State.DAMAGED in states:
            return State.DAMAGED
        return State.UNVERIFIABLE if State.UNVERIFIABLE in states or not states else State.GOOD

    def __repr__(self) -> str:
        counts = Counter(each.state for each in self.checks)
        told = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        lines = [f"{self.path}: {self.state} ({told or 'nothing in it'})"]
        lines += [f"  {note}" for note in self.notes]
        for each in self.damaged[:20]:
            tensors = (
                f" ({', '.join(each.tensors[:4])}{', …' if len(each.tensors) > 4 else ''})"
                if each.tensors
                else ""
            )
            lines.append(f"  {each.name}{tensors}: {each.wrong}")
        if self.state is State.UNVERIFIABLE:
            lines.append(
                "  a file without checksums can be checked only against a manifest that was written before"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from trainlab.markup import block, paragraph, table

        title, *lines = repr(self).split("\n")
        rows = [
            {"record": each.name, "state": str(each.state), "tensors": ", ".join(each.tensors[:3])}
            for each in self.checks
        ]
        rows.sort(key=lambda row: row["state"] == "good")
        return block(title, [*(paragraph(line.strip()) for line in lines), table(rows, limit=20)])


def verify(path: str | Path, *, workers: int | None = None) -> Verification:
    """Checks every byte of a checkpoint that can be checked.

    Args:
        path: A file, or a folder: then every checkpoint in it.
        workers: Threads; None takes one per core.

    Raises:
        SubjectError: It is missing or no checkpoint.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder(path, workers)
    if sniff(path) == "zip":
        return _archive(path, workers)
    content = content_of(path)
    checks = [_structural(path, name, info) for name, info in content.tensors.items()]
    broken = [note for note in content.notes if not note.endswith("of it is not shown")]
    return Verification(path, path.stat().st_size, tuple(checks), tuple(broken))


def crc_of(file: int, offset: int, size: int) -> int | None:
    """CRC-32 of some bytes of an open file; None where the file ends before them.

    Long runs are mapped window by window: copying them into a buffer costs a third of the summing itself.
    """
    crc = 0
    if size < MAPPED or not POPULATE:
        buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
        while size:
            count = os.preadv(file, [buffer[: min(size, PIECE)]], offset)
            if not count:
                return None
            crc = zlib.crc32(buffer[:count], crc)
            offset, size = offset + count, size - count
        return crc
    while size:
        skip = offset % mmap.ALLOCATIONGRANULARITY
        count = min(size, WINDOW)
        if os.fstat(file).st_size < offset + count:  # a map beyond the end would end the process
            return None
        if size > count:
            os.posix_fadvise(file, offset + count, WINDOW, os.POSIX_FADV_WILLNEED)
        with (
            mmap.mmap(
                file, skip + count, mmap.MAP_SHARED | POPULATE, mmap.PROT_READ, offset=offset - skip
            ) as mapped,
            memoryview(mapped) as view,
            view[skip:] as content,
        ):
            crc = zlib.crc32(content, crc)
        offset, size = offset + count, size - count
    return crc


def _archive(path: Path, workers: int | None) -> Verification:
    size = path.stat().st_size
    try:
        archive = Archive(path)
    except SubjectError as error:
        return Verification(path, size, (Check("the archive", State.DAMAGED, (), error.what),))
    with archive:
        try:
            tensors = _by_record(content_of(path).tensors)
        except SubjectError as error:
            return Verification(path, size, (Check("the archive", State.DAMAGED, (), error.what),))
        checks = _records(path, archive, tensors, workers)
        notes = [*archive.notes, *_seams(archive)]
    return Verification(path, size, tuple(checks), tuple(notes))


def _by_record(tensors: dict[str, TensorInfo]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, info in tensors.items():
        if info.storage is not None:
            found.setdefault(info.storage.record, []).append(name)
    return found


def _records(path: Path, archive: Archive, tensors: dict[str, list[str]], workers: int | None) -> list[Check]:
    common = _most(_uniform(record) for record in archive.records)
    file = os.open(path, os.O_RDONLY)

    def check(record: Record) -> Check:
        names = tuple(tensors.get(record.short, ()))
        wrong = _wrong_header(archive, record, common) or _wrong_content(archive, file, record)
        if wrong:
            return Check(record.name, State.DAMAGED, names, wrong)
        return Check(record.name, State.GOOD if record.crc or not record.size else State.UNVERIFIABLE, names)

    def check_all(batch: list[int]) -> list[Check]:
        return [check(archive.records[number]) for number in batch]

    try:
        batches = _batches(archive.records)
        done = in_parallel(
            [partial(check_all, each) for each in batches], label=f"verify {path.name}", workers=workers
        )
    finally:
        os.close(file)
    found = {
        number: each
        for batch, checks in zip(batches, done, strict=True)
        for number, each in zip(batch, checks, strict=True)
    }
    return [found[number] for number in range(len(archive.records))]


def _batches(records: list[Record]) -> list[list[int]]:
    """Records to be checked together, the longest first, so that no core idles at the end."""
    batches: list[list[int]] = []
    size = BATCH
    for number in sorted(range(len(records)), key=lambda each: -records[each].size):
        if size >= BATCH:
            batches.append([])
            size = 0
        batches[-1].append(number)
        size += records[number].size + 4096
    return batches


def _uniform(record: Record) -> tuple[int, ...]:
    """The fields that are the same in every entry of a directory."""
    return record.fields[1:7] + record.fields[13:16]


def _most(values: Iterator[tuple[int, ...]]) -> tuple[int, ...]:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else ()


def _wrong_header(archive: Archive, record: Record, common: tuple[int, ...]) -> str:
    """What is wrong around a record: its two headers must tell the same, and the same as all the others."""
    raw = archive.at(record.header, LOCAL.size)
    local = parse_local(raw)
    if local is None:
        return "there is no record where the directory says"
    _, needs, flags, method, time, date, crc, packed, full, name_size, extra_size = local
    rest = archive.at(record.header + LOCAL.size, name_size + extra_size)
    if str(rest[:name_size], "utf-8", "replace") != record.name:
        return "its header names another record"
    if (flags, method) != (record.flags, record.method):
        return "its header contradicts the directory"
    if (crc, packed, full) != (0, 0, 0) and (crc, full) != (record.crc, record.fields[9]):
        return "its header contradicts the directory"
    padding = struct.pack("<2sH", b"FB", max(extra_size - 4, 0)) + b"Z" * (extra_size - 4)
    torch_wrote = record.flags == 0x0808 and record.method == 0
    if torch_wrote and (
        _uniform(record) != common or (needs, time, date) != (0, 0, 0) or (packed == 0 and crc)
    ):
        return "its header is not as torch writes it"
    if torch_wrote and record.size < 0xFFFFFFFF and rest[name_size:] != padding:
        return "its padding is not as torch writes it"
    if flags & 8:
        after = archive.at(archive.offset(record) - archive.start + record.packed, 24)
        if parse_descriptor(after, record.size) != record.crc and record.method == 0:
            return "its size or CRC is told differently behind it"
    return ""


def _wrong_content(archive: Archive, file: int, record: Record) -> str:
    if record.method != 0:
        return (
            ""
            if not record.crc or zlib.crc32(archive.read(record)) == record.crc
            else "its content does not have the stored CRC"
        )
    crc = crc_of(file, archive.offset(record), record.size)
    if crc is None:
        return "the file ends before it does"
    return "its content does not have the stored CRC" if record.crc and crc != record.crc else ""


def _seams(archive: Archive) -> Iterator[str]:
    """Bytes that belong to nothing, and ends that do not add up."""
    place = 0
    for record in sorted(archive.records, key=lambda each: each.header):
        if record.header != place and not archive.notes:
            yield f"{abs(record.header - place)} bytes before {record.name} belong to no record"
        if parse_local(archive.at(record.header, LOCAL.size)) is None:
            return  # said of the record itself
        place = archive.offset(record) - archive.start + record.packed
        if record.flags & 8:
            after = archive.at(place, 28)
            wide = after[24:28] in (b"PK\x03\x04", b"PK\x01\x02") and after[16:20] not in (
                b"PK\x03\x04",
                b"PK\x01\x02",
            )
            place += 24 if wide else 16
    offset, size, count = archive.directory
    if place != offset:
        yield f"{abs(offset - place)} bytes before the directory belong to no record"
    if count != len(archive.records):
        yield f"the directory has {len(archive.records)} records where its end says {count}"
    yield from _wrong_end(archive, offset, size, count)


def _wrong_end(archive: Archive, offset: int, size: int, count: int) -> Iterator[str]:
    """The end records: every number in them is there twice, or is 0."""
    raw = archive.at(offset + size, 200)
    if raw[:4] == b"PK\x06\x06" and len(raw) >= 98:
        _, length, made, needs, disk, start, here, total, cd_size, cd_offset = struct.unpack_from(
            "<IQHHIIQQQQ", raw
        )
        _, zero, end64, disks = struct.unpack_from("<IIQI", raw, 56)
        if (length, disk, start, here, total, cd_size, cd_offset) != (
            44,
            0,
            0,
            count,
            count,
            size,
            offset,
        ) or (made, needs) not in _MAKERS:
            yield "the 64-bit end of the archive does not add up"
        if (raw[56:60], zero, end64, disks) != (b"PK\x06\x07", 0, offset + size, 1):
            yield "the end's locator does not add up"
        raw = raw[76:]
    if raw[:4] != b"PK\x05\x06" or len(raw) < 22:
        yield "there are bytes between the directory and the end"
        return
    _, disk, start, here, total, cd_size, cd_offset, note = struct.unpack_from("<IHHHHIIH", raw)
    exact = (here, total, cd_size, cd_offset) == (count, count, size, offset)
    full = (
        here in (count, 0xFFFF),
        total in (count, 0xFFFF),
        cd_size in (size, 0xFFFFFFFF),
        cd_offset in (offset, 0xFFFFFFFF),
    )
    if (disk, start) != (0, 0) or not (exact or all(full)) or len(raw) != 22 + note:
        yield "the end of the archive does not add up"


def _structural(path: Path, name: str, info: TensorInfo) -> Check:
    storage = info.storage
    if storage is not None and storage.data is None and storage.at + storage.nbytes > path.stat().st_size:
        return Check(name, State.DAMAGED, (name,), "the file ends before it does")
    return Check(name, State.UNVERIFIABLE, (name,))


def _folder(path: Path, workers: int | None) -> Verification:
    from trainlab.subjects.checkfile.folders import archives_in, checkpoint_files

    checks: list[Check] = []
    notes: list[str] = []
    size = 0
    for file in checkpoint_files(path):
        name = str(file.relative_to(path))
        try:
            found = verify(file, workers=workers)
        except SubjectError as error:
            checks.append(Check(name, State.DAMAGED, (), error.what))
            continue
        size += found.size
        wrong = "; ".join([*found.notes, *(f"{each.name} {each.wrong}" for each in found.damaged[:5])])
        checks.append(
            Check(
                name, found.state, tuple(tensor for each in found.damaged for tensor in each.tensors), wrong
            )
        )
    for archive_path, start, length, name in archives_in(path):
        with Archive(archive_path, start, length) as archive:
            checks += [
                Check(f"{name}: {each.name}", each.state, (name,), each.wrong)
                for each in _records(archive_path, archive, {}, workers)
            ]
    if not checks:
        notes.append("no checkpoint in it")
    return Verification(path, size, tuple(checks), tuple(notes))
