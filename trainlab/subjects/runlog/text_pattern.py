r"""Read the lines that a caller's regular expression names: ``(?P<step>\d+): (?P<loss>[\d.]+)``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.recording import Recording

__all__ = ["compiled", "read_pattern"]

_CLOCKS = ("step", "epoch", "time")
_NEW_LINE = bytes.maketrans(b"\r", b"\n")


def compiled(pattern: str) -> re.Pattern[bytes]:
    """The pattern, ready for bytes.

    Raises:
        UsageError: It is no regular expression, or no group of it names a quantity.
    """
    example = r"e.g. pattern=r'(?P<step>\d+): (?P<loss>[\d.e+-]+)'"
    try:
        regex = re.compile(pattern.encode(), re.MULTILINE)
    except re.error as error:
        pointed = f"{pattern}\n{' ' * (error.pos or 0)}^ {error.msg}"
        raise UsageError("pattern is no regular expression", seen=pointed, fix=example) from None
    if not set(regex.groupindex) - {*_CLOCKS, "split"}:
        seen = f"named groups: {', '.join(regex.groupindex) or 'none'}"
        raise UsageError("pattern has no named group for a quantity", seen=seen, fix=example)
    return regex


def read_pattern(path: Path, parts: Iterable[bytes], regex: re.Pattern[bytes]) -> RunLog:
    """Reads the matches of the pattern; groups ``step``, ``epoch``, ``time`` and ``split`` tell where they stand.

    Raises:
        SubjectError: Nothing matches, or a group holds no number.
    """
    recording = Recording(path, "text by pattern")
    lines, found, sample = 0, 0, b""
    for raw in parts:
        data = raw.replace(b"\r\n", b"\n")
        sample = sample or data[:500]
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
        for match in regex.finditer(data.translate(_NEW_LINE)):
            line = lines + 1 + int(np.searchsorted(ends, match.start()))
            groups = {name: text for name, text in match.groupdict().items() if text is not None}
            split = groups.pop("split", b"").decode("utf-8", "replace")
            values = {name: _number(text, name, f"{path}:{line}") for name, text in groups.items()}
            step, epoch, time = (values.pop(name, float("nan")) for name in _CLOCKS)
            recording.add(values, line=line, step=step, epoch=epoch, time=time, split=split)
            found += 1
        lines += len(ends)
    if not found:
        shown = "\n".join(sample.decode("utf-8", "replace").splitlines()[:3])
        raise SubjectError(
            f"the pattern matches no line of {path}",
            seen=f"{regex.pattern.decode()}\nlines such as\n{shown}",
            fix="write the pattern as a raw string, r'…', so that \\d stays \\d; try it on one line with re.search",
        )
    return recording.finish()


def _number(text: bytes, name: str, where: str) -> float:
    try:
        return float(text.replace(b",", b""))
    except ValueError:
        shown = text.decode("utf-8", "replace")[:80]
        raise SubjectError(
            f"the pattern's group {name!r} holds no number at {where}",
            seen=repr(shown),
            fix=f"narrow it: (?P<{name}>[\\d.e+-]+)",
        ) from None
