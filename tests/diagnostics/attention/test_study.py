"""The quick part of the study of the rules of `attention`; `python -m benchmarks.attention_study` is the whole."""

from __future__ import annotations

import pytest

from benchmarks.attention_study import __main__ as table
from benchmarks.attention_study.fresh import fresh
from benchmarks.attention_study.plant import FAULTS
from benchmarks.attention_study.study import Tally, alarms, look, study
from benchmarks.attention_study.zoo import HALVES, ZOO

QUICK = ("ViT, glyphs, 2 × 4 heads", "torch encoder, twice, 2 × 4 heads", "digits, 2 × 2 heads, 4 frames")


def test_planted_faults_are_named_and_healthy_models_left_alone():
    tally = Tally()
    for subject in ZOO:
        if subject.name.startswith(QUICK):
            study(subject, tally, times=1)
    assert {fault for _, fault in tally.planted} == {fault.name for fault in FAULTS}
    assert not tally.wrong
    assert not tally.untrained
    assert table.bars(tally, whole=False) == []
    assert "held out" in table.table(tally)


def test_a_model_that_was_never_trained_is_told_so_and_no_more():
    said = alarms(look(*fresh("ViT"))[1])
    assert [each.code for each in said] == ["ATT003"]
    assert "never trained" in said[0].text


def test_the_study_is_as_large_as_the_bar_asks():
    assert len(ZOO) >= table.MODELS
    assert len({subject.name for subject in ZOO}) == len(ZOO)
    assert min(sum(subject.half == half for subject in ZOO) for half in HALVES) >= table.MODELS // 2


def test_a_missed_bar_is_told():
    tally = Tally()
    tally.planted["held out", "duplicate head"] = 10
    tally.found["held out", "duplicate head"] = 9
    tally.judged["calibration"], tally.alarms["calibration"] = 100, 2
    assert len(table.bars(tally, whole=True)) == 3


@pytest.mark.study
def test_the_whole_study_meets_every_bar():
    assert table.main([]) == 0
