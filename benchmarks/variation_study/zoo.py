"""Healthy small models: at init, trained, and the awkward ones that a careless rule calls collapsed."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.variation_study.awkward import at_init, awkward, plainly_trained, same
from benchmarks.variation_study.cases import (
    HALVES,
    Case,
    Subjects,
    seed_for,
)
from benchmarks.variation_study.families import FAMILIES, sizes

# Untrained attention averages its tokens to near equality and no residual restores them: at init this is smoothed,
# so only the trained ones count as healthy.
_ONLY_TRAINED = {"attention"}


def healthy_models(half: str = "calibration") -> tuple[Case, ...]:
    """Every healthy case of one half; a case builds its model when `make` is called."""
    cases = []
    wanted = HALVES.index(half)
    for family in FAMILIES.values():
        for size in sizes(family):
            if size != wanted:
                continue
            for repeat in (0, 1):
                seed = seed_for(family.kind, size, repeat)
                makes: dict[str, Callable[[], Subjects]] = {
                    "trained": functools.partial(plainly_trained, family, size, seed, same, 16)
                }
                if family.kind not in _ONLY_TRAINED:
                    makes["at init"] = functools.partial(at_init, family, size, seed, same, 16)
                for state, make in makes.items():
                    name = f"{family.kind}/{state}/{size}{'ab'[repeat]}"
                    cases.append(Case(name, family.kind, half, make, axis=family.axis))
    for kind, name, size, make, may_warn in awkward():
        if size == wanted:
            cases.append(Case(f"{kind}/{name}/{size}", kind, half, make, may_warn=may_warn))
    return tuple(cases)
