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
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.peek import content_of
from trainlab.subjects.checkfile.shown import lines_html, listed
from trainlab.subjects.checkfile.sniff import sniff
from trainlab.subjects.checkfile.tensors import TensorInfo
from trainlab.subjects.checkfile.torchzip import zip_format
from trainlab.subjects.checkfile.wrong import damaged
from trainlab.subjects.checkfile.zipped import (
    DESCRIPTOR,
    END,
    END64,
    LOCAL,
    LOCATOR,
    Archive,
    Record,
    descriptor_size,
    parse_descriptor,
    parse_local,
)

__all__ = ["Check", "State", "Verification", "crc_of", "read_into", "verify"]

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
    """One record or tensor that was checked: what it is, its state, the tensors in it if that is not good, what is wrong."""

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
            tensors = f" ({listed(each.tensors, 4)})" if each.tensors else ""
            lines.append(f"  {each.name}{tensors}: {each.wrong}")
        if self.state is State.UNVERIFIABLE:
            lines.append(
                "  what has no checksum can be checked only against a manifest that was written before"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            {"record": each.name, "state": str(each.state), "tensors": ", ".join(each.tensors[:3])}
            for each in sorted(self.checks, key=lambda each: each.state is State.GOOD)
        ]
        return lines_html(repr(self), rows, limit=20)


def verify(path: str | Path) -> Verification:
    """Checks every byte of a checkpoint that can be checked.

    Args:
        path: A file, or a folder: then every checkpoint in it.

    Raises:
        SubjectError: It is missing or no checkpoint.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder(path)
    if sniff(path) == "zip":
        return _archive(path)
    content = content_of(path)
    checks = [_structural(path, name, info) for name, info in content.tensors.items()]
    broken = [note for note in content.notes if not note.endswith("of it is not shown")]
    return Verification(path, path.stat().st_size, tuple(checks), tuple(broken))


def read_into(file: int, buffer: memoryview, offset: int) -> int:
    """Reads from an open file into a buffer; gives the bytes read, 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(file, [buffer], offset)
    raw = os.pread(file, len(buffer), offset)  # macOS before 11
    buffer[: len(raw)] = raw
    return len(raw)


def crc_of(file: int, offset: int, size: int) -> int | None:
    """CRC-32 of some bytes of an open file; None where the file ends before them.

    Long runs are mapped window by window: copying them into a buffer costs a third of the summing itself.
    """
    crc = 0
    if size < MAPPED or not POPULATE:
        buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
        while size:
            count = read_into(file, buffer[: min(size, PIECE)], offset)
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


def _archive(path: Path) -> Verification:
    size = path.stat().st_size
    try:
        with Archive(path) as archive:
            if not zip_format(archive):
                raise damaged(path, "it is a zip archive, but not one that torch wrote")
            checks = _records(archive)
            notes = [*archive.notes, *_seams(archive)]
    except SubjectError as error:
        return Verification(path, size, (_damage("the archive", error.what),))
    if any(each.state is not State.GOOD for each in checks):
        checks = _with_tensors(path, checks)
    return Verification(path, size, tuple(checks), tuple(notes))


def _with_tensors(path: Path, checks: list[Check]) -> list[Check]:
    """The checks of an archive with the names of the tensors in the records that are not good."""
    names: dict[str, list[str]] = {}
    try:
        tensors = content_of(path).tensors
    except SubjectError:  # the damage is in what would name them
        return checks
    for name, info in tensors.items():
        if info.storage is not None:
            names.setdefault(info.storage.record, []).append(name)
    found = (tuple(names.get(each.name.partition("/")[2] or each.name, ())) for each in checks)
    return [
        each if each.state is State.GOOD else replace(each, tensors=tensors)
        for each, tensors in zip(checks, found, strict=True)
    ]


def _records(archive: Archive) -> list[Check]:
    counted = Counter(_uniform(record) for record in archive.records).most_common(1)
    common = counted[0][0] if counted else ()

    def check(batch: list[int]) -> list[Check]:
        found = []
        for record in map(archive.records.__getitem__, batch):
            wrong = _wrong_header(archive, record, common) or _wrong_content(archive, record)
            known = State.GOOD if record.crc or not record.size else State.UNVERIFIABLE
            found.append(Check(record.name, State.DAMAGED if wrong else known, (), wrong))
        return found

    batches = _batches(archive.records)
    done = in_parallel([partial(check, each) for each in batches], label=f"verify {archive.path.name}")
    found = dict(zip(chain.from_iterable(batches), chain.from_iterable(done), strict=True))
    return [found[number] for number in range(len(found))]


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
    odd = _uniform(record) != common or (needs, time, date) != (0, 0, 0) or (packed == 0 and crc)
    if torch_wrote and odd:
        return "its header is not as torch writes it"
    if torch_wrote and record.size < 0xFFFFFFFF and rest[name_size:] != padding:
        return "its padding is not as torch writes it"
    if flags & 8 and record.method == 0:
        after = archive.at(archive.offset(record) - archive.start + record.packed, DESCRIPTOR)
        if parse_descriptor(after, record.size) != record.crc:
            return "its size or CRC is told differently behind it"
    return ""


def _wrong_content(archive: Archive, record: Record) -> str:
    if record.method != 0:
        crc: int | None = zlib.crc32(archive.read(record)) if record.crc else 0
    else:
        crc = crc_of(archive.file, archive.offset(record), record.size)
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
            place += descriptor_size(archive.at(place, DESCRIPTOR + 4))
    offset, size, count = archive.directory
    if place != offset:
        yield f"{abs(offset - place)} bytes before the directory belong to no record"
    if count != len(archive.records):
        yield f"the directory has {len(archive.records)} records where its end says {count}"
    yield from _wrong_end(archive, offset, size, count)


def _wrong_end(archive: Archive, offset: int, size: int, count: int) -> Iterator[str]:
    """The end records: every number in them is there twice, or is 0."""
    raw = archive.at(offset + size, 200)
    if raw[:4] == b"PK\x06\x06" and len(raw) >= END64.size + LOCATOR.size + END.size:
        _, length, made, needs, *numbers = END64.unpack_from(raw)
        if (length, *numbers) != (44, 0, 0, count, count, size, offset) or (made, needs) not in _MAKERS:
            yield "the 64-bit end of the archive does not add up"
        if LOCATOR.unpack_from(raw, END64.size) != (0x07064B50, 0, offset + size, 1):
            yield "the end's locator does not add up"
        raw = raw[END64.size + LOCATOR.size :]
    if raw[:4] != b"PK\x05\x06" or len(raw) < END.size:
        yield "there are bytes between the directory and the end"
        return
    _, disk, start, *numbers, note = END.unpack_from(raw)
    told = zip(numbers, (count, count, size, offset), (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
    wrong = any(number not in (meant, full) for number, meant, full in told)
    if wrong or (disk, start) != (0, 0) or len(raw) != END.size + note:
        yield "the end of the archive does not add up"


def _structural(path: Path, name: str, info: TensorInfo) -> Check:
    storage = info.storage
    if storage is not None and storage.data is None and storage.at + storage.nbytes > path.stat().st_size:
        return Check(name, State.DAMAGED, (name,), "the file ends before it does")
    return Check(name, State.UNVERIFIABLE, (name,))


def _folder(path: Path) -> Verification:
    from trainlab.subjects.checkfile.distributed import find_places
    from trainlab.subjects.checkfile.folders import checkpoint_files

    checks: list[Check] = []
    size = 0
    for file in checkpoint_files(path):
        name = str(file.relative_to(path))
        try:
            found = verify(file)
        except SubjectError as error:
            checks.append(_damage(name, error.what))
            continue
        size += found.size
        wrong = "; ".join([*found.notes, *(f"{each.name} {each.wrong}" for each in found.damaged[:5])])
        tensors = tuple(tensor for each in found.damaged for tensor in each.tensors)
        checks.append(Check(name, found.state, tensors, wrong))
    for metadata in sorted(path.rglob(".metadata")):
        places = find_places(metadata.parent)
        if not places:
            checks.append(_damage(str(metadata.relative_to(path)), "it does not say where anything lies"))
        for name, file, start, length in places:
            size += length
            try:
                with Archive(file, start, length) as archive:
                    inner = _records(archive)
            except SubjectError as error:
                inner = [_damage(file.name, error.what)]
            except OSError as error:
                inner = [_damage(file.name, f"it cannot be opened: {error.strerror}")]
            checks += [replace(each, name=f"{name}: {each.name}", tensors=(name,)) for each in inner]
    return Verification(path, size, tuple(checks), () if checks else ("no checkpoint in it",))


def _damage(name: str, wrong: str) -> Check:
    return Check(name, State.DAMAGED, (), wrong)
