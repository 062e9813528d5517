"""Collapsed small models: a trained one with one fault planted at a known layer, or a training run that collapsed."""

from __future__ import annotations

import functools

import torch

from benchmarks.variation_study.awkward import cast
from benchmarks.variation_study.cases import (
    HALVES,
    Case,
    Family,
    Subjects,
    batch_for,
    call,
    seed_for,
    trained,
)
from benchmarks.variation_study.families import FAMILIES, sizes
from benchmarks.variation_study.fault_table import Fault, faults_of
from benchmarks.variation_study.runaway import runaway


def _planted(family: Family, size: int, seed: int, fault: Fault) -> Subjects:
    model, batch = trained(family, size, seed), batch_for(family, seed)
    with torch.no_grad():
        fault.plant(model)
    if next(model.parameters()).dtype == torch.bfloat16:
        batch = cast(batch, torch.bfloat16)
    with torch.no_grad():
        call(model, batch)  # its owner has run it before: a stale cache is full by now
    return {"model": model, "batch": batch}


def collapsed_models(half: str = "calibration") -> tuple[Case, ...]:
    """Every collapsed case of one half; NaN cases are among them, under the code VAR001."""
    cases: list[Case] = []
    wanted = HALVES.index(half)
    for family in FAMILIES.values():
        if wanted not in sizes(family):
            continue
        seed = seed_for(family.kind, wanted)
        cases += [_case(family, half, seed, fault) for fault in faults_of(family.kind, wanted)]
    cases += [
        Case(f"{kind}/{name}/{wanted}", kind, half, run, ("VAR002",), fault=name)
        for kind, name, run in runaway(wanted)
    ]
    return tuple(cases)


def _case(family: Family, half: str, seed: int, fault: Fault) -> Case:
    size = HALVES.index(half)
    return Case(
        f"{family.kind}/{fault.name}/{size}",
        family.kind,
        half,
        functools.partial(_planted, family, size, seed, fault),
        fault.codes,
        fault.injected,
        fault.also,
        fault.name,
        fault.level,
        fault.source,
        axis=family.axis,
    )
