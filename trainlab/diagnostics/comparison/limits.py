"""Where the rules of `comparison` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOISE_Z", "ComparisonLimits"]

NOISE_Z = 2.0  # standard errors of a gap: chance makes a larger one in 5 of 100 pairs without a difference


@dataclass(frozen=True)
class ComparisonLimits:
    """Thresholds; each is used where its comment says."""

    # A gap counts when it is over so many standard errors; few points or seeds widen it, by Student's t.
    noise_z: float = NOISE_Z
    # How far the last level may lie from the best (ratio - 1): a best point of a noisy curve is 1 to 2 % lucky …
    best_gap_max: float = 0.02
    # … and over the luck of the best of n points, √(2 ln n) standard deviations of a single one (ratio).
    best_gap_luck: float = 1.5
    # First values of runs that start at step 0 or 1, over their median (ratio, or its inverse). Untrained models of
    # one task agree to some per cent; nats against bits differ by 1.44.
    start_ratio_max: float = 1.2
    # Points of the metric a step, between two runs (ratio): the best of more points is lower by luck alone.
    cadence_ratio_max: float = 1.5
    # Speed over the median of the other runs (ratio, or its inverse); other users and heat cost 10 to 15 %.
    speed_ratio_max: float = 1.3
    # Share of the claimed steps at which a run counts as finished.
    finished_min: float = 0.99
    # Share of the way to the ranking's step at which a log may begin, where another begins before.
    late_start_max: float = 0.1
