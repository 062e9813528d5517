"""What fills a log? Its kinds of lines, with their share of lines and bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trainlab.subjects.runlog.source import head_of
from trainlab.subjects.runlog.text import parts_of
from trainlab.subjects.runlog.text_numbers import NUMBER
from trainlab.subjects.runlog.text_scan import Scan

__all__ = ["Template", "templates"]

_BAR = re.compile(r"[▏▎▍▌▋▊▉█━░╸╺]+")


@dataclass(frozen=True)
class Template:
    """One kind of line.

    Attributes:
        text: The line with ``#`` for each number.
        example: The first line of the kind.
        line: Its number, from 1.
        count: How many lines are of this kind; states of a progress bar count each.
        bytes: How many bytes they take.
        line_share: Their share of all lines.
        byte_share: Their share of all bytes.
    """

    text: str
    example: str
    line: int
    count: int
    bytes: int
    line_share: float
    byte_share: float


def templates(path: str | Path, *, progress: bool = True) -> tuple[Template, ...]:
    """Which kinds of lines fill a text log, the most frequent first?

    Lines that differ in their numbers, spaces and bars alone are of one kind. 100 MB take about half a second.

    Args:
        path: The log; it may be packed.
        progress: Show how far it is, where it takes over a second.
    """
    path = Path(path)
    scan = Scan(lambda _chunk, _at: None)
    for part in parts_of(path, head_of(path), progress=progress):
        scan.take(part)
    joined: dict[str, list[int]] = {}
    for index, skeleton in enumerate(scan.skeletons):
        joined.setdefault(_text(skeleton.example), []).append(index)
    lines = sum(each.count for each in scan.skeletons) or 1
    size = sum(each.size for each in scan.skeletons) or 1
    found = []
    for text, indices in joined.items():
        first = scan.skeletons[indices[0]]
        count = sum(scan.skeletons[index].count for index in indices)
        taken = sum(scan.skeletons[index].size for index in indices)
        example = first.example.decode("utf-8", "replace")
        found.append(Template(text, example, first.line, count, taken, count / lines, taken / size))
    return tuple(sorted(found, key=lambda each: (-each.count, each.line)))


def _text(example: bytes) -> str:
    numbered = NUMBER.sub(b"#", example).decode("utf-8", "replace")
    return re.sub(r"\s+", " ", _BAR.sub("", numbered)).strip()
