"""How the rules of `curves` speak of a point, and which limits hold."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.errors import NotApplicable

__all__ = ["at", "ending", "learning", "listed", "named", "preset", "share"]

NAMED = 8  # pieces of evidence that are listed


def preset(r: CurvesResult, limits: CurvesLimits) -> CurvesLimits:
    """The limits, with the pack's where the caller has left the room's own."""
    usual = CurvesLimits()
    every = dict(zip(r.preset_name, r.preset_value.tolist(), strict=True))
    left = {name: value for name, value in every.items() if getattr(limits, name) == getattr(usual, name)}
    values = {name: None if np.isnan(value) else value for name, value in left.items()}
    return dataclasses.replace(limits, **values)  # type: ignore[arg-type]


def learning(r: CurvesResult, least: int = 10) -> Curve:
    """The finite points of the loss that tells how far training is.

    Raises:
        NotApplicable: There is none, or it has too few points.
    """
    if not r.progress_told:
        raise NotApplicable(f"in {r.pack} training the loss does not tell progress")
    curve = r.loss or r.curves.get(r.validation)
    if curve is None:
        raise NotApplicable("the log has no loss")
    if len(curve.finite) < least:
        raise NotApplicable(f"{curve.name} has {len(curve.finite)} finite points; {least} are needed")
    return curve.finite


def at(r: CurvesResult, curve: Curve, index: int) -> str:
    """A point as ``train/loss at step 1,200 (train.log:812)``."""
    return f"{curve.name} at {named(curve, curve.x[index])} ({r.place(int(curve.line[index]))})"


def ending(r: CurvesResult, curve: Curve) -> str:
    """Where the level at the end of a curve is measured: ``train/loss, level up to step 52,000 (train.log:8842)``."""
    return f"{curve.name}, level up to {named(curve, curve.x[-1])} ({r.place(int(curve.line[-1]))})"


def named(curve: Curve, x: float) -> str:
    """A place as ``step 1,200`` or ``epoch 3.5``."""
    return f"{curve.unit} {x:,.0f}" if x == round(x) else f"{curve.unit} {x:,.4g}"


def share(part: float) -> str:
    """A share as ``12 %``."""
    return f"{100 * part:.3g} %"


def listed(names: list[str], most: int = 3) -> str:
    """Names in a row: ``a, b, c and 4 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
