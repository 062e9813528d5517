"""Go through a text log fast: each line is told by its skeleton, the line without its digits.

A log of a million lines has some hundred skeletons. Lines are looked at one by one only where their skeleton is new,
or where its numbers are wanted: 100 MB take about a quarter of a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from trainlab.subjects.runlog.log import Ints

__all__ = ["CHUNK", "Chunk", "Scan", "Skeleton", "chunks"]

CHUNK = 2**22
MANY = 50_000  # skeletons; those that come after and say nothing are not told apart
# digits and what stands in numbers; the bytes of the blocks that bars are drawn with
_DELETED = b"0123456789.+-" + bytes([0xE2, 0x96]) + bytes(range(0x88, 0x90))
_BACK = re.compile(rb"\x08+")
_NEW_LINE = bytes.maketrans(b"\r", b"\n")
_ANSI = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9])")


@dataclass
class Skeleton:
    """A kind of line.

    Attributes:
        example: The first line of this kind.
        line: Its number, from 1.
        learned: What the reader made of it.
        count: How many lines there are.
        size: How many bytes they take.
    """

    example: bytes
    line: int
    learned: object = None
    count: int = 0
    size: int = 0


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some consecutive lines; a carriage return ends one too, but counts as no line of the file.

    Attributes:
        data: The bytes, every line ended by a newline.
        ends: ``(piece,)`` int64, where each ends.
        line: ``(piece,)`` int64, the line of the file it stands on, from 1.
        kind: ``(piece,)`` int64, the index of its skeleton.
        first: How many pieces were before this chunk.
    """

    data: bytes
    ends: Ints
    line: Ints
    kind: Ints
    first: int

    def piece(self, index: int) -> bytes:
        """One piece, without its end."""
        return self.data[self.ends[index - 1] + 1 if index else 0 : self.ends[index]]

    def pieces(self, indices: Ints) -> list[bytes]:
        """Some pieces, without their ends."""
        data, ends = self.data, self.ends
        starts = np.where(indices > 0, ends[indices - 1] + 1, 0).tolist()
        return [data[start:end] for start, end in zip(starts, ends[indices].tolist(), strict=True)]


class Scan:
    """Tells the kinds of lines apart.

    Args:
        learn: What to make of a new kind: called with a chunk and the piece's index; None where it says nothing.

    Attributes:
        skeletons: The kinds, in the order in which they were first seen.
        lines: How many lines the file has, so far.
        nulls: How many NUL bytes were passed over.
    """

    def __init__(self, learn: Callable[[Chunk, int], object]) -> None:
        self.learn = learn
        self.skeletons: list[Skeleton] = []
        self.lines = 0
        self.nulls = 0
        self._pieces = 0
        self._index: dict[bytes, int] = {}
        self._rest = -1  # the kind of all lines that are not told apart

    def take(self, raw: bytes) -> Chunk:
        """Takes the next bytes, which end with a line, and tells each line's kind."""
        if b"\0" in raw:
            self.nulls += raw.count(b"\0")
            raw = raw.replace(b"\0", b"")
        if b"\x1b" in raw:
            raw = _ANSI.sub(b"", raw)
        if b"\b" in raw:  # as Keras draws its bars anew
            raw = _BACK.sub(b"\r", raw)
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"\n")
        if not raw.endswith((b"\n", b"\r")):
            raw += b"\n"
        data = raw.translate(_NEW_LINE)
        kinds = data.translate(None, _DELETED).split(b"\n")
        kinds.pop()
        view = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(view == 10)
        real = np.frombuffer(raw, np.uint8)[ends] == 10
        line = self.lines + 1 + np.cumsum(real) - real
        index = self._index
        known = len(self.skeletons)
        full = known >= MANY
        numbered = (
            (index.get(each, -1) for each in kinds)
            if full
            else (index.setdefault(each, len(index)) for each in kinds)
        )
        chunk = Chunk(data, ends, line, np.fromiter(numbered, np.int64, len(kinds)), self._pieces)
        if full:
            self._learn_more(chunk, kinds)
        else:
            self._learn(chunk, known)
        kind = chunk.kind
        sizes = np.diff(ends, prepend=-1)
        counted = np.bincount(kind, minlength=len(self.skeletons))
        weighed = np.bincount(kind, weights=sizes, minlength=len(self.skeletons))
        for each in np.flatnonzero(counted).tolist():
            self.skeletons[each].count += int(counted[each])
            self.skeletons[each].size += int(weighed[each])
        self.lines += int(real.sum())
        self._pieces += len(ends)
        return chunk

    def _learn(self, chunk: Chunk, known: int) -> None:
        fresh = np.flatnonzero(chunk.kind >= known)
        if not len(fresh):
            return
        _, first = np.unique(chunk.kind[fresh], return_index=True)
        for at in fresh[first].tolist():
            skeleton = Skeleton(chunk.piece(at), int(chunk.line[at]))
            self.skeletons.append(skeleton)
            skeleton.learned = self.learn(chunk, at)

    def _learn_more(self, chunk: Chunk, kinds: list[bytes]) -> None:
        """Tells new kinds apart only where they say something."""
        for at in np.flatnonzero(chunk.kind < 0).tolist():
            number = self._index.get(kinds[at], -1)
            learned = self.learn(chunk, at) if number < 0 else None
            if number < 0 and learned is None:
                if self._rest < 0:
                    self._rest = len(self.skeletons)
                    self.skeletons.append(Skeleton(b"(other lines)", int(chunk.line[at])))
                number = self._rest
            elif number < 0:
                number = self._index[kinds[at]] = len(self.skeletons)
                self.skeletons.append(Skeleton(chunk.piece(at), int(chunk.line[at]), learned))
            chunk.kind[at] = number


def chunks(file: IO[bytes], size: int = CHUNK) -> Iterator[bytes]:
    """Yields the file in parts that end where a line ends; the last may end without one."""
    rest = b""
    while data := file.read(size):
        data = rest + data
        # a progress bar may fill megabytes without one newline; a pair \r\n is not torn
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        if 0 < cut < len(data) and data[cut - 1 : cut + 1] == b"\r\n":
            cut += 1
        rest = data[cut:]
        if cut:
            yield data[:cut]
    if rest:
        yield rest
