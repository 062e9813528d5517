"""The quick part of the study of `rollout`; `python -m benchmarks.rollout_study` is the whole."""

from __future__ import annotations

import pytest

from benchmarks.rollout_study import FAULTS, cases, fired, holds

CASES = list(cases(sizes=(24,), seeds=(1,)))


def test_the_study_has_every_fault_on_every_kind_of_clip():
    assert len(CASES) == 3 * len(FAULTS) + 1
    assert {f"ROL00{i}" for i in range(1, 9)} <= {case.code for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.fault}-{case.clips}")
def test_faults_are_named_and_healthy_models_are_left_alone(case):
    findings = case.look()
    assert holds(case, findings), f"{case.code or 'no rule'} should fire, these did: {fired(findings)}"
