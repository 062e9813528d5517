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

from trainlab.subjects.checkfile.content import Content, Storages, reference
from trainlab.subjects.checkfile.inert import read_pickle
from trainlab.subjects.checkfile.stubs import Document, Persistent
from trainlab.subjects.checkfile.tensors import Storage
from trainlab.subjects.checkfile.zipped import (
    DESCRIPTOR,
    LOCAL,
    descriptor_size,
    parse_descriptor,
    parse_local,
)

__all__ = ["Piece", "read_cut", "scan"]

PICKLE = 256 * 2**20  # bytes; the longest pickle that is looked for
SEARCH = 4 * 2**20  # bytes read at a time while searching for a descriptor


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
        size = packed if full and full != 0xFFFFFFFF else expected.get(name)
        if name.endswith(".pkl") and size is None and method == 0:
            document = _pickle(file, at, end)
            size = None if document.broken else document.end
            _expect(expected, name, document.references)
        found = None if size is None else parse_descriptor(os.pread(file, DESCRIPTOR, at + size), size)
        if size is None or (found is None and size != packed):
            # nothing says how long it is, or the pickle was wrong about it: no descriptor lies where it wants one
            size = _search(file, at, end)
            found = None if size is None else parse_descriptor(os.pread(file, DESCRIPTOR, at + size), size)
        if size is None or at + size > end:
            yield Piece(name, at, end - at, None, whole=False)
            return
        stored = crc if found is None else found
        yield Piece(name, at, size, stored or (None if size else 0), whole=method == 0)
        pos = at + size
        if found is not None:
            pos += descriptor_size(os.pread(file, DESCRIPTOR + 4, pos))


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
    for each in references:
        named = reference(each.id)
        if named is not None:
            expected[f"{folder}/{named[0]}"] = named[3]


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
    whole = {each.name: each for each in pieces if each.whole}
    content = Content("torch", cut=True)
    for piece in pieces:
        if piece.short.endswith(".pkl"):
            storages = _CutStorages(path, piece, whole)
            with path.open("rb") as file:
                file.seek(piece.at)
                walk = content.add(read_pickle(file.read(piece.size)), storages, piece.name)
            if piece.short == "data.pkl" or content.tree is None:
                content.tree = walk.tree
            left, total = len(storages.wanted & set(whole)), len(storages.wanted)
            content.notes.append(f"cut short: {left} of {total} storages are whole")
    if not any(piece.short.endswith(".pkl") for piece in pieces):
        content.notes.append("cut short: nothing says what its records are")
    return content, pieces


class _CutStorages(Storages):
    """The storages of a pickle in an archive that has no directory."""

    def __init__(self, path: Path, pickle: Piece, whole: dict[str, Piece]) -> None:
        super().__init__(path, pickle.at)
        self.folder = pickle.name.removesuffix(".pkl")
        self.whole = whole
        self.wanted: set[str] = set()

    def find(self, key: str, device: str, nbytes: int) -> Storage | None:
        """The record with this key, where it is whole."""
        name = f"{self.folder}/{key}"
        self.wanted.add(name)
        piece = self.whole.get(name)
        if piece is None or piece.size != nbytes:
            return None
        return Storage(self.path, piece.short, piece.at, nbytes, device=device, crc=piece.crc)
