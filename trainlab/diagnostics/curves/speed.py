"""How fast a run went: from the clock of its points, else from what it says of its own speed."""

from __future__ import annotations

import re

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.result import CurvesResult

__all__ = ["speed"]

BLOCKS = 120  # a clock of whole seconds needs some points between two readings
_RATE = re.compile(
    r"/ ?s|per[ _]sec|samples|tokens|tok|img|images|clips|it_s|wps|ups|fps|throughput|steps", re.IGNORECASE
)
_COST = re.compile(r"^(?!.*(eta|data|total|elapsed)).*(time|ms|sec|dt)", re.IGNORECASE)


def speed(r: CurvesResult) -> Curve | None:
    """The speed along the run, higher is faster; its name says of what; None where the log tells no time."""
    timed = [
        each
        for each in r.curves.values()
        if len(each) >= 20 and each.unit == "step" and np.isfinite(each.time).all()
    ]
    if timed:
        longest = max(timed, key=lambda each: (each.name == r.main, len(each)))
        made = _by_clock(longest)
        if made is not None:
            return made
    for each in r.having("throughput"):
        if len(each.finite) >= 20 and _RATE.search(each.name) and each.finite.value.min() >= 0:
            return each.finite
    for each in r.having("time"):
        good = each.finite
        if (
            len(good) >= 20
            and _COST.search(each.name)
            and good.value.min() > 0
            and not (np.diff(good.value) > 0).mean() > 0.9
        ):
            return _made(f"1 / {each.name}", good, good.x, 1 / good.value, good.line)
    return None


def _by_clock(curve: Curve) -> Curve | None:
    cuts = np.unique(np.linspace(0, len(curve) - 1, min(BLOCKS, len(curve) // 2) + 1).astype(int))
    steps, seconds = np.diff(curve.x[cuts]), np.diff(curve.time[cuts])
    good = (steps > 0) & (seconds > 0)
    if good.sum() < 10:
        return None
    ends = cuts[1:][good]
    return _made("steps per second", curve, curve.x[ends], steps[good] / seconds[good], curve.line[ends])


def _made(name: str, of: Curve, x: np.ndarray, value: np.ndarray, line: np.ndarray) -> Curve:
    unknown = np.full(len(x), np.nan)
    return Curve(name, of.split, "throughput", "", of.unit, x, value, value, value, unknown, unknown, line)
