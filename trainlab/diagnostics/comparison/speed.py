"""How fast was a run between two steps, with its pauses and without them?

Time is read from what the log tells, the first that it does: the time since the run began (or a date); a time for each
step; a speed. A gap is a pause where it is far longer than its neighbours and an evaluation or a checkpoint falls into
it, or where such gaps are rare: compilation, a hang. Gaps that are often long belong to the rhythm of the run.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from trainlab.diagnostics.comparison.choosing import positions
from trainlab.subjects.runlog.log import RunLog, Series
from trainlab.subjects.runlog.naming import words
from trainlab.subjects.runlog.source import open_bytes

__all__ = ["Speed", "speed"]

NEIGHBOURS = 100  # gaps that tell what is normal among them
LEAST = 8  # gaps; fewer tell no pause
EXCESS = 0.5  # of a normal gap; a pause takes longer by more than this …
Z = 6.0  # … and by so many robust standard deviations of the gaps
RARE = 0.05  # of all gaps; long ones that are more frequent are no pauses
# the time of one step, as words
_STEP_TIME = re.compile(
    r"^(train )?(time|dt|ms|(step|iter|iteration|batch) (time|ms|dt)|time (per )?(step|iter|iteration|batch)|(elapsed )?time per iteration"
    r"|(ms|sec|s) (per )?(step|iter|it))( ms| s| sec| avg)?$"
)
_STEP_SPEED = re.compile(
    r"^(train )?(steps?|it|its|iters?|iterations?|updates?|ups)( per)?( s| sec| second)?$"
)


class Speed(NamedTuple):
    """The columns of a run that its clock gives; told in `ComparisonResult`."""

    speed: float = np.nan
    speed_training: float = np.nan
    speed_from: float = np.nan
    speed_to: float = np.nan
    clock: str = ""
    pauses: int = 0
    pause_seconds: float = 0.0
    pause_every: float = np.nan
    wall: float = np.nan


def speed(log: RunLog, unit: str, begin: float = -np.inf, end: float = np.inf) -> Speed:
    """The speed of a run.

    Args:
        log: The run.
        unit: What steps count.
        begin: A step; the first time that the log tells there or after it is taken.
        end: A step; the last time there or before it.
    """
    clock = _elapsed(log, unit) or _step_times(log, unit)
    if clock is None:
        return _logged_speed(log, unit, begin, end)
    x, seconds, name = clock
    wall = float(seconds[-1] - seconds[0])
    first, after = int(np.searchsorted(x, begin)), int(np.searchsorted(x, end, side="right"))
    if after - first < 2:
        return Speed(wall=wall, clock=name)
    excess = _pauses(x, seconds, _interruptions(log, unit))[first : after - 1]
    x, seconds = x[first:after], seconds[first:after]
    paused = excess > 0
    lost, whole = float(excess.sum()), float(seconds[-1] - seconds[0])
    way = float(x[-1] - x[0])
    at = x[1:][paused]
    return Speed(
        way / whole,
        way / (whole - lost),
        float(x[0]),
        float(x[-1]),
        name,
        int(paused.sum()),
        lost,
        float(np.median(np.diff(at))) if len(at) > 1 else np.nan,
        wall,
    )


Clock = tuple[np.ndarray, np.ndarray, str]


def _elapsed(log: RunLog, unit: str) -> Clock | None:
    """Steps and seconds of the training loss, or of the series that tells most times; both only grow."""
    told = [each for each in log.series.values() if np.isfinite(each.time).sum() > 1]
    clocks = [_rising(positions(each, unit), each.time) for each in told]
    longest = max((len(x) for x, _ in clocks), default=0)
    if longest < 2:
        return None
    # of two about as long, the one of training: validation is logged when it is over
    main = next((clock for each, clock in zip(told, clocks, strict=True) if each is log.loss), clocks[0])
    x, seconds = main if len(main[0]) > 0.9 * longest else max(clocks, key=lambda clock: len(clock[0]))
    return x, seconds, "elapsed"


def _rising(x: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points at which step and time have both grown, of those of one step the last."""
    told = np.isfinite(x) & np.isfinite(seconds)
    x, seconds = x[told], seconds[told]
    if not len(x):
        return x, seconds
    last = np.append(np.diff(x) != 0, True)
    x, seconds = x[last], seconds[last]
    new = np.ones(len(x), bool)
    new[1:] = (x[1:] > np.maximum.accumulate(x)[:-1]) & (seconds[1:] > np.maximum.accumulate(seconds)[:-1])
    return x[new], seconds[new]


def _step_times(log: RunLog, unit: str) -> Clock | None:
    """The same, summed from the time of single steps: those between two that were logged took as long, but for pauses.

    It begins before the first of them.
    """
    able = [each for name, each in log.series.items() if _STEP_TIME.match(words(name))]
    if not able:
        return None
    series = max(able, key=len)
    x, taken = positions(series, unit), series.value * _seconds(log, series)
    told = np.isfinite(x) & np.isfinite(taken) & (taken > 0)
    x, taken = x[told], taken[told]
    new = np.append(True, np.diff(x) > 0)
    x, taken = x[new], taken[new]
    if len(x) < 2:
        return None
    median = _usual(taken)
    normal = np.where(taken > (1 + EXCESS) * median, median, taken)
    x = np.concatenate([x[:1] - 1, x])
    seconds = np.cumsum(taken + normal * (np.diff(x) - 1))
    return x, np.concatenate([[0.0], seconds]), series.name


def _seconds(log: RunLog, series: Series) -> float:
    """The unit of a time in seconds: by its name, or by what stands behind the number in the log."""
    unit = re.search(r"\b(ms|msec|us)\b", words(series.name))
    if unit is None and log.path.is_file():
        with open_bytes(log.path) as file:
            line = next((text for number, text in enumerate(file, 1) if number == series.line[0]), b"")
        unit = re.search(
            rf"{re.escape(series.name.rsplit('/', 1)[-1])}\W{{0,4}}[\d.]+ ?(ms|msec|us)\b",
            line.decode("utf-8", "replace"),
        )
    return {"us": 1e-6}.get(unit[1], 1e-3) if unit else 1.0


def _logged_speed(log: RunLog, unit: str, begin: float, end: float) -> Speed:
    """The median of the speeds that the log tells."""
    for name, series in log.series.items():
        x = positions(series, unit)
        chosen = (x >= begin) & (x <= end) & np.isfinite(series.value)
        if _STEP_SPEED.match(words(name)) and series.role == "throughput" and chosen.any():
            median = float(np.median(series.value[chosen]))
            return Speed(median, median, float(x[chosen][0]), float(x[chosen][-1]), name)
    return Speed()


def _pauses(x: np.ndarray, seconds: np.ndarray, interruptions: np.ndarray) -> np.ndarray:
    """(gap) float64; what each pause took over a normal gap; 0 for a gap that is none."""
    gaps = np.diff(seconds)
    none = np.zeros(len(gaps))
    if len(gaps) < LEAST:
        return none
    normal = _usual(gaps / np.diff(x)) * np.diff(x)
    excess = gaps - normal
    spread = 1.4826 * float(np.median(np.abs(excess)))
    resolution = 1.0 if (seconds == np.round(seconds)).all() else 0.0  # a clock of whole seconds
    long = excess > np.maximum(EXCESS * normal + 2 * resolution, Z * spread)
    known = np.searchsorted(interruptions, x[1:], side="right") > np.searchsorted(interruptions, x[:-1])
    rare = (long & ~known).mean() <= RARE
    found: np.ndarray = np.where(long & (known | rare), excess, none)
    return found


def _interruptions(log: RunLog, unit: str) -> np.ndarray:
    """The steps, in order, at which the run evaluated or saved."""
    validation = [positions(each, unit) for each in log.series.values() if each.split in ("val", "test")]
    saved = [event.step for event in log.events if event.kind == "saved"] if unit == "step" else []
    steps = np.unique(np.concatenate([*validation, np.array(saved, np.float64)]))
    told: np.ndarray = steps[np.isfinite(steps)]
    return told


def _usual(values: np.ndarray) -> np.ndarray:
    """(gap) float64; what is usual there: the median of a hundred neighbours."""
    parts = np.array_split(values, max(1, len(values) // NEIGHBOURS))
    return np.repeat([np.median(part) for part in parts], [len(part) for part in parts])
