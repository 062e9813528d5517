"""An archive without its end: its records found one after the other from the front.

torch writes local headers without sizes and a descriptor (CRC, sizes) behind each record. ``data.pkl`` comes first and
tells how long each storage is, so that the next header is found without a search; a descriptor is searched for only
behind records that no pickle describes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainlab.subjects.checkfile.content import Content, Storages, storage_bytes, storage_dtype
from trainlab.subjects.checkfile.inert import read_pickle
from trainlab.subjects.checkfile.stubs import Document, Persistent
from trainlab.subjects.checkfile.tensors import Storage
from trainlab.subjects.checkfile.zipped import LOCAL, parse_descriptor, parse_local

__all__ = ["Piece", "read_cut", "scan"]

PICKLE = 256 * 2**20  # bytes; the longest pickle that is looked for
SEARCH = 4 * 2**20  # bytes read at a time while searching for a descriptor
DESCRIPTOR = 24


@dataclass(frozen=True, slots=True)
class Piece:
    """A record found from the front.

    Attributes:
        name: As stored.
        at: Offset of its content.
        size: Bytes of its content; where it is cut, as many as there are.
        crc: CRC-32 by its descriptor; None where there is none, or the writer left it out.
        whole: Is all of its content there?
    """

    name: str
    at: int
    size: int
    crc: int | None
    whole: bool

    @property
    def short(self) -> str:
        """The name without the archive's folder."""
        return self.name.partition("/")[2] or self.name


def scan(path: Path) -> list[Piece]:
    """Every record of an archive, from its first byte to where the file breaks off."""
    size = path.stat().st_size
    file = os.open(path, os.O_RDONLY)
    try:
        return list(_scan(file, size))
    finally:
        os.close(file)


def _scan(file: int, end: int) -> Iterator[Piece]:
    expected: dict[str, int] = {}
    pos = 0
    while True:
        local = parse_local(os.pread(file, LOCAL.size, pos))
        if local is None:
            return
        _, _, _, method, _, _, crc, packed, full, name_size, extra_size = local
        name = str(os.pread(file, name_size, pos + LOCAL.size), "utf-8", "replace")
        at = pos + LOCAL.size + name_size + extra_size
        if at > end:
            return
        known = packed if full and full != 0xFFFFFFFF else expected.get(name)
        if name.endswith(".pkl") and known is None and method == 0:
            document = _pickle(file, at, end)
            known = document.end if not document.broken else _search(file, at, end)
            _expect(expected, name, document.references)
        if known is None:
            known = _search(file, at, end)
        if known is None or at + known > end:
            yield Piece(name, at, end - at, None, whole=False)
            return
        found = parse_descriptor(os.pread(file, DESCRIPTOR, at + known), known)
        if found is None and known != packed:
            # the pickle was wrong about it: what it wants does not end where a descriptor lies
            known = _search(file, at, end)
            if known is None:
                yield Piece(name, at, end - at, None, whole=False)
                return
            found = parse_descriptor(os.pread(file, DESCRIPTOR, at + known), known)
        stored = found if found is not None else crc
        yield Piece(name, at, known, stored or (None if known else 0), whole=method == 0)
        pos = at + known
        if found is not None:
            head = os.pread(file, DESCRIPTOR + 4, pos)
            pos += (
                24
                if head[24:28] in (b"PK\x03\x04", b"PK\x01\x02")
                and head[16:20] not in (b"PK\x03\x04", b"PK\x01\x02")
                else 16
            )


def _pickle(file: int, at: int, end: int) -> Document:
    """The pickle that begins at an offset and ends nobody knows where: more is read until it does."""
    size = 2**20
    while True:
        document = read_pickle(os.pread(file, min(size, end - at), at))
        if not document.broken or size >= min(PICKLE, end - at):
            return document
        size *= 16


def _expect(expected: dict[str, int], pickle: str, references: list[Persistent]) -> None:
    folder = pickle.removesuffix(".pkl")
    for reference in references:
        pid = reference.id
        dtype = storage_dtype(pid)
        if dtype and type(pid) is tuple:
            expected[f"{folder}/{pid[2]}"] = storage_bytes(dtype, pid[4])


def _search(file: int, at: int, end: int) -> int | None:
    """The size of a record whose descriptor has to be searched for."""
    pos = at
    while pos < end:
        chunk = os.pread(file, SEARCH + DESCRIPTOR, pos)
        place = chunk.find(b"PK\x07\x08")
        while 0 <= place < SEARCH:
            size = pos + place - at
            if parse_descriptor(chunk[place : place + DESCRIPTOR], size) is not None:
                return size
            place = chunk.find(b"PK\x07\x08", place + 1)
        pos += SEARCH
    return None


def read_cut(path: Path) -> tuple[Content, list[Piece]]:
    """What an archive that lost its end still says, and the records that are left of it."""
    pieces = scan(path)
    content = Content("torch", cut=True)
    by_name = {each.name: each for each in pieces}
    for piece in pieces:
        if piece.short.endswith(".pkl"):
            storages = _CutStorages(path, piece, by_name)
            with path.open("rb") as file:
                file.seek(piece.at)
                document = read_pickle(file.read(piece.size))
            walk = content.add(document, storages, piece.name)
            if piece.short == "data.pkl" or content.tree is None:
                content.tree = walk.tree
            total, left = (
                len(storages.wanted),
                len(storages.wanted & {each.name for each in pieces if each.whole}),
            )
            content.notes.append(f"cut short: {left} of {total} storages are whole")
    if not any(piece.short.endswith(".pkl") for piece in pieces):
        content.notes.append("cut short: nothing says what its records are")
    return content, pieces


class _CutStorages(Storages):
    """The storages of a pickle in an archive that has no directory."""

    def __init__(self, path: Path, pickle: Piece, pieces: dict[str, Piece]) -> None:
        super().__init__(path, pickle.at)
        self.folder = pickle.name.removesuffix(".pkl")
        self.pieces = pieces
        self.wanted: set[str] = set()

    def of(self, pid: object) -> tuple[Storage | None, str]:
        """The storage of a persistent id, where its record is whole."""
        dtype = storage_dtype(pid)
        if not dtype or type(pid) is not tuple:
            return None, ""
        name = f"{self.folder}/{pid[2]}"
        self.wanted.add(name)
        piece = self.pieces.get(name)
        if piece is None or not piece.whole or piece.size != storage_bytes(dtype, pid[4]):
            return None, dtype
        return Storage(self.path, piece.short, piece.at, piece.size, device=str(pid[3]), crc=piece.crc), dtype
