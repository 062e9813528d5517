"""The quick part of the study of `timesteps`; `python -m benchmarks.timesteps_study` is the whole."""

from __future__ import annotations

import pytest

from benchmarks.timesteps_study import EXPECTED, alarms, cases, look, main, right

# one healthy model of each kind, the least that trains well, and one of each bug
QUICK = [
    case
    for case in cases()
    if (
        not case.fault
        and case.name
        in {"epsilon, linear, 50 steps, 64 units", "flow, straight, 64 units", "edm, karras, 64 units"}
    )
    or (case.fault and case.name in {"clips, seed 1", "epsilon, linear, 50 steps, 64 units"})
]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.fault or 'healthy'}: {case.name}")
def test_a_bug_is_named_by_its_rule_and_a_healthy_model_left_alone(case):
    findings = look(case)
    assert right(case, findings), alarms(findings)


def test_the_study_is_as_large_as_the_bar_asks():
    whole = list(cases())
    assert {case.fault for case in QUICK} - {""} == set(EXPECTED)
    assert sum(not case.fault for case in whole) >= 9
    assert len({(case.name, case.fault) for case in whole}) == len(whole)


@pytest.mark.study
def test_the_whole_study_meets_every_bar():
    assert main([]) == 0
