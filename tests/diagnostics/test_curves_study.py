"""A part of the study of `benchmarks/curves_study`, and the real logs where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.curves_study.faults import FAULTS
from benchmarks.curves_study.harmless import HARMLESS
from benchmarks.curves_study.real import TOLD, real
from benchmarks.curves_study.shapes import HEALTHY
from benchmarks.curves_study.study import fired
from trainlab.subjects.runlog.opening import open_log

LOGS = Path(__file__).parents[3] / "shared" / "data" / "logs"
SEED = 4242  # of neither half


@pytest.mark.parametrize("shape", HEALTHY, ids=lambda shape: shape.__name__)
def test_a_healthy_run_is_left_alone(shape):
    assert fired(shape(np.random.default_rng(SEED)).log()) == frozenset()


@pytest.mark.parametrize("make", HARMLESS, ids=lambda make: make.__name__)
def test_what_looks_like_a_fault_and_is_none_is_left_alone(make):
    assert fired(make(np.random.default_rng(SEED)).log()) == frozenset()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_and_nothing_else(fault, tmp_path):
    draft = fault.where[0](np.random.default_rng(SEED), long=fault.long)
    fault.plant(draft)
    if draft.idle:
        draft.path, draft.format = tmp_path / "run.log", "text"
        draft.path.write_text(draft.text())
    said = fired(draft.log())
    assert fault.must in said
    assert said <= fault.may | {fault.must}


@pytest.mark.skipif(not LOGS.is_dir(), reason="the real logs are not here")
@pytest.mark.parametrize("name", TOLD)
def test_a_real_log_is_told_as_a_person_would(name):
    run, must, may = TOLD[name]
    said = fired(open_log(LOGS / name), run)
    assert set(must.split()) <= said
    assert said <= {*must.split(), *may.split()}


@pytest.mark.skipif(not LOGS.is_dir(), reason="the real logs are not here")
def test_every_real_log_that_opens_is_judged():
    there = {path.name for path in LOGS.iterdir()} - {
        "MANIFEST.tsv",
        "events.out.tfevents.1674974582.LFSPOINTER",
    }
    assert {case.name for case, _ in real(LOGS)} == there
