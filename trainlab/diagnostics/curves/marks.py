"""Where on the curves the rules speak: the places that a picture marks with their codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.rules_of_loss import spikes, upward
from trainlab.diagnostics.curves.rules_of_parts import components, vanishing
from trainlab.diagnostics.curves.rules_of_trend import overfits, plateau, untrained
from trainlab.diagnostics.curves.telling import learning, preset
from trainlab.errors import NotApplicable

__all__ = ["Mark", "marks"]

SPIKES = 6  # that are marked


class Mark(NamedTuple):
    """A place that a rule speaks of: a point of a series, or a stretch from ``point`` to ``until``."""

    code: str
    series: str
    point: int  # among the finite points; of a value that is not finite, the last point before it
    until: int = -1


def marks(r: CurvesResult) -> list[Mark]:
    """All marks, by the limits of the room and the pack."""
    limits = preset(r, CurvesLimits())
    found: list[Mark] = []
    for look in (_broken, _upward, _plateau, _spikes, _overfit, _vanished):
        try:
            found += look(r, limits)
        except NotApplicable:  # the rule skips, for the same reason
            continue
    return found


def _broken(r: CurvesResult, _: CurvesLimits) -> Iterator[Mark]:
    for curve in r.having("loss"):
        bad = np.flatnonzero(~np.isfinite(curve.value))
        if len(bad) and len(curve.finite):
            yield Mark("CRV001", curve.name, max(0, int(bad[0]) - 1))


def _upward(r: CurvesResult, limits: CurvesLimits) -> Iterator[Mark]:
    found = upward(r, limits)
    if found is not None:
        yield Mark("CRV002", learning(r).name, found[0])


def _plateau(r: CurvesResult, limits: CurvesLimits) -> Iterator[Mark]:
    curve = untrained(r)
    flat = plateau(r, curve, limits)
    if flat is not None:
        yield Mark("CRV004", curve.name, flat.first, flat.last)


def _spikes(r: CurvesResult, limits: CurvesLimits) -> Iterator[Mark]:
    curve = learning(r, 20)
    for spike in sorted(spikes(r, curve, limits), key=lambda each: -each.ratio)[:SPIKES]:
        yield Mark("CRV006", curve.name, spike.point)


def _overfit(r: CurvesResult, limits: CurvesLimits) -> Iterator[Mark]:
    held = r.curves.get(r.validation)
    if (
        held is not None
        and r.main
        and len(held.finite) >= 4
        and overfits(learning(r), held.finite, limits) is not None
    ):
        yield Mark("CRV009", held.name, int(np.argmin(held.finite.value)))


def _vanished(r: CurvesResult, limits: CurvesLimits) -> Iterator[Mark]:
    for curve in components(r) if r.progress_told else ():
        found = vanishing(r, curve, limits)
        if found is not None:
            yield Mark("CRV012", curve.name, found[0])
