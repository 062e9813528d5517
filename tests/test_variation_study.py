"""The quick part of the study of `variation`; `python -m benchmarks.variation_study` is the whole."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from benchmarks.variation_study.__main__ import NAMED, main
from benchmarks.variation_study.cases import HALVES, call
from benchmarks.variation_study.faults import collapsed_models
from benchmarks.variation_study.naive import swapped
from benchmarks.variation_study.study import changed, look
from benchmarks.variation_study.zoo import healthy_models

KINDS = {
    "mlp",
    "norm-mlp",
    "sigmoid-head",
    "convnet",
    "lstm",
    "autoencoder",
    "vae",
    "conditioned",
    "space-time",
}


def quick(cases, step):
    return [case for case in cases if case.kind in KINDS][::step]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def healthy(one_thread):
    return [look(case) for case in quick(healthy_models("held-out"), 2)]


@pytest.fixture(scope="module")
def sick(one_thread):
    return [look(case) for case in quick(collapsed_models("held-out"), 2)]


def variation(case):
    """V of the first output, from its definition: samples against their neighbours, same seed, double precision."""
    subjects = case.make()
    values = []
    for shift in (0, 1):
        torch.manual_seed(0)
        output = call(subjects["model"].eval(), swapped(subjects["batch"], lambda t, by=shift: t.roll(by, 0)))
        if isinstance(output, Mapping):
            output = next(iter(output.values()))
        values.append(output.detach().double())
    a, b = values
    return float(((a - b).square().sum() / (2 * a.square().sum().clamp(min=1e-300))).sqrt())


def test_the_cases_are_what_they_say():
    for case in quick(healthy_models("held-out"), 2):
        if not case.may_warn and "target given" not in case.name:
            assert variation(case) > 1e-3, case.name
    for case in quick(collapsed_models("held-out"), 2):
        if case.expected_codes == ("VAR002",):
            assert variation(case) < (3e-3 if "bf16" in case.name else 3e-4), case.name
        elif case.expected_codes != ("VAR001",) and case.kind != "vae":
            assert variation(case) > 1e-3, case.name


def test_the_study_is_as_large_as_the_bar_asks():
    healthy = [case for half in HALVES for case in healthy_models(half)]
    sick = [case for half in HALVES for case in collapsed_models(half) if case.expected_codes != ("VAR001",)]
    assert len(healthy) >= 40
    assert len(sick) >= 200
    assert len({case.kind for case in healthy} & {case.kind for case in sick}) >= 7
    names = [case.name for case in healthy + sick]
    assert len(set(names)) == len(names)


def test_no_healthy_model_is_called_collapsed(healthy):
    assert [row.case.name for row in healthy if row.alarmed] == []


def test_every_planted_collapse_is_found(sick):
    assert [row.case.name for row in sick if not row.found] == []


def test_the_layer_where_it_was_planted_is_named(sick):
    placed = [row for row in sick if row.case.injected and not row.nan]
    right = sum(row.layer_right for row in placed)
    assert right >= NAMED * len(placed), [(row.case.name, row.named) for row in placed if not row.layer_right]


def test_units_order_and_dropout_do_not_change_the_verdict(healthy, sick):
    rows = healthy[::8] + sick[::8]
    assert [
        (name, row.case.name, after) for name, row, after in changed(rows) if after is not row.verdict
    ] == []


def test_the_naive_rule_is_wrong_both_ways(healthy, sick):
    assert any(not row.naive_moves for row in healthy)
    assert any(row.naive_moves_in_train for row in sick)


@pytest.mark.study
def test_the_whole_study_meets_every_bar():
    assert main([]) == 0
