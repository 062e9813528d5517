"""Numbers, dates and durations as they stand in lines of text, and their values, many at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainlab.subjects.runlog.log import Floats

__all__ = ["DURATION", "NUMBER", "QUICK", "Moment", "durations", "moments", "to_floats"]

# what is deleted from a line to get its skeleton (`text_scan`) may stand nowhere but in numbers
NUMBER = re.compile(
    rb"(?:(?<=[:=])|(?<=[:=] ))[-+]?(?:\d+,(?:\d+[eE][-+]?\d+|\d(?=\s?%)|\d\d(?!\d)|\d{4,})|0,\d{2,})(?![\d.,:\])]|\w)"  # 2,0872
    rb"|(?<![\d.,:\[(])\d{1,3}(?:,\d{3})+(?!\d|[,.:]\d)"
    rb"|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    rb"|(?<![A-Za-z0-9_])[-+]?(?:nan|NaN|NAN|[Ii]nf|INF|Infinity)(?![A-Za-z0-9_])"
)
# the same where no number of the line is set apart by commas or not finite; four times quicker
QUICK = re.compile(rb"[-+.\d](?:(?<=\d)\d*\.?\d*|(?<=[-+])(?:\d+\.?\d*|\.\d+)|(?<=\.)\d+)(?:[eE][-+]?\d+)?")
NO_DATE = 946_684_800.0  # seconds: the day that a time of day is counted from, 2000-01-01
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_CLOCK = r"(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?)(?:[.,](?P<f>\d+))?"
_MOMENTS = [
    re.compile(rf"(?P<Y>20\d\d)[-/.](?P<M>\d\d)[-/.](?P<D>\d\d)[T _-]+{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?"),
    re.compile(rf"(?P<M>\d\d)/(?P<D>\d\d)/(?P<Y>\d{{2,4}})[ ,-]+{_CLOCK}(?: [AP]M)?"),
    re.compile(rf"(?<!\d)(?P<M>\d\d)[/-](?P<D>\d\d)[ -]+{_CLOCK}"),
    re.compile(rf"(?<!\w)[IWEF](?P<MD>\d{{4}}) {_CLOCK}"),
    re.compile(rf"(?P<Y>20\d\d)(?P<M>\d\d)(?P<D>\d\d)[ T_-]{_CLOCK}"),
    re.compile(
        rf"(?P<mon>{'|'.join(MONTHS)}) +(?P<D>\d{{1,2}})(?:,? (?P<Y>20\d\d))?,? {_CLOCK}(?: (?P<Y2>20\d\d))?"
    ),
    re.compile(rf"^\W{{0,2}}{_CLOCK}(?=[\] |)-])"),
]
DURATION = re.compile(
    r"(?<![\d:.])(?:(?P<d>\d+) ?(?:days?|d),? )?(?P<a>\d{1,4}):(?P<b>\d\d)(?::(?P<c>\d\d(?:\.\d+)?))?(?![\d:])"
)


def to_floats(tokens: Sequence[bytes]) -> Floats:
    """The values of number tokens; a comma may set thousands apart, or stand for the decimal point."""
    joined = np.array(tokens)
    try:
        return joined.astype(np.float64)
    except ValueError:
        return np.array([_plain(token) for token in tokens]).astype(np.float64)


def _plain(token: bytes) -> bytes:
    thousands = re.fullmatch(rb"[1-9]\d{0,2}(?:,\d{3})+", token)
    return token.replace(b",", b"" if thousands else b".")


@dataclass(frozen=True)
class Moment:
    """Where a line tells a date or a duration: for each part of it, the index of its number in the line."""

    parts: tuple[tuple[str, int], ...]
    month: int = 0

    def seconds(self, columns: Sequence[Sequence[bytes]]) -> Floats:
        """Seconds since 1970 of dates, where the year or the day is not told those of 2000; or the seconds of durations.

        Args:
            columns: For each number of the line, its tokens in all lines.
        """
        part = {name: np.abs(to_floats(columns[at])) for name, at in self.parts}
        zero = np.zeros(len(columns[self.parts[0][1]]))
        if "d" in part or "a" in part:
            days, a, b, c = (part.get(name, zero) for name in "dabc")
            lasting: Floats = days * 86400 + (a * 3600 + b * 60 + c if "c" in part else a * 60 + b)
            return lasting
        clock: Floats = part["h"] * 3600 + part["m"] * 60 + part["s"]
        if "f" in part:
            clock = clock + part["f"] / 10 ** np.array(
                [len(token) for token in columns[dict(self.parts)["f"]]]
            )
        if "MD" in part:
            part["M"], part["D"] = part["MD"] // 100, part["MD"] % 100
        if "D" not in part:
            return clock + NO_DATE
        year = part.get("Y", part.get("Y2", zero + 2000))
        year = np.where(year < 100, year + 2000, year).astype(np.int64)
        month = part["M"].astype(np.int64) if "M" in part else np.full(len(zero), self.month)
        months = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
        day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + part["D"] - 1
        clock += day * 86400
        return clock


def moments(line: str, index: dict[int, int]) -> tuple[Moment | None, tuple[int, int]]:
    """The date that a line is stamped with, and its span; None where there is none.

    Args:
        line: The line.
        index: The number that begins at each place of the line.
    """
    for pattern in _MOMENTS:
        found = pattern.search(line)
        if found:
            month = MONTHS.index(found["mon"]) + 1 if "mon" in pattern.groupindex else 0
            moment = _moment(found, index, month)
            if moment is not None:
                return moment, found.span()
    return None, (0, 0)


def durations(line: str, index: dict[int, int]) -> list[tuple[Moment, tuple[int, int]]]:
    """The durations of a line, e.g. ``1:02:03``, and their spans."""
    found = [(_moment(each, index, 0), each.span()) for each in DURATION.finditer(line)]
    return [(moment, span) for moment, span in found if moment is not None]


def _moment(found: re.Match[str], index: dict[int, int], month: int) -> Moment | None:
    parts = []
    for name, text in found.groupdict().items():
        if text is None or name == "mon":
            continue
        start = found.start(name)
        # a dash before the number belongs to its token
        at = index.get(start, index.get(start - 1))
        if at is None:
            return None
        parts.append((name, at))
    return Moment(tuple(parts), month)
