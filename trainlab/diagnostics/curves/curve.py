"""One series as rules and views read it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Curve"]


@dataclass(frozen=True, eq=False)
class Curve:
    """A series as rules and views read it: all arrays are (point,) float64, ``line`` int64.

    Attributes:
        name: As the log calls it.
        split: ``train``, ``val``, ``test`` or empty.
        role: What it is.
        part: ``component``, ``level`` or empty.
        unit: What ``x`` counts: ``step``, ``epoch``, or ``point`` where the log tells neither.
        x: Where each point stands.
        value: The values; NaN and Inf among them.
        low: The lowest value of each point's bin.
        high: The highest.
        epoch: The epochs; NaN where not told.
        time: Seconds since the run began; NaN where not told.
        line: The lines.
    """

    name: str
    split: str
    role: str
    part: str
    unit: str
    x: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    epoch: np.ndarray
    time: np.ndarray
    line: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def finite(self) -> Curve:
        """The points whose value is finite."""
        good = np.isfinite(self.value)
        return self if good.all() else self.where(good)

    def where(self, chosen: np.ndarray) -> Curve:
        """Some of the points."""
        arrays = (self.x, self.value, self.low, self.high, self.epoch, self.time, self.line)
        return Curve(
            self.name, self.split, self.role, self.part, self.unit, *(array[chosen] for array in arrays)
        )

    @property
    def from_start(self) -> bool:
        """Does the log hold the beginning of the run? A resumed run begins elsewhere."""
        if self.unit == "point" or len(self) < 2:
            return self.unit == "point"
        gap = float(np.median(np.diff(self.x)))
        return bool(self.x[0] <= max(5 * gap, 0.02 * self.x[-1], 1.0))
