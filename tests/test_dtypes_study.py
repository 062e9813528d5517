"""The quick part of the study of dtype crashes; `python -m benchmarks.dtypes_study` is the whole."""

from __future__ import annotations

import pytest
import torch

from benchmarks.dtypes_study.__main__ import alarms, table
from benchmarks.dtypes_study.mutants import mutants
from benchmarks.dtypes_study.oracle import native_error, true_sites
from benchmarks.dtypes_study.study import study
from benchmarks.dtypes_study.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's and transformers' prototypes


@pytest.fixture(scope="module")
def every_mutant():
    """Building the list builds each architecture."""
    return list(mutants())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_sample_of_the_mutants_meets_every_bar(every_mutant):
    tally = study(every_mutant[::17])
    assert tally.wrong == []
    assert tally.found["real"] == tally.found["fake"] == tally.sites > tally.crashing > 10
    assert tally.fixed == tally.crashing >= tally.fixed_by_majority
    assert "1.000   1.000" in table(tally)


def test_no_alarm_in_the_clean_models():
    assert alarms() == []


def test_the_zoo_and_the_mutants_are_as_many_as_the_study_asks_for(every_mutant):
    assert len(ZOO) >= 12
    assert len(every_mutant) >= 200
    assert len({mutant.kind for mutant in every_mutant}) == 5


def test_the_oracle_finds_by_hand_what_was_planted():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3).half(), torch.nn.Linear(3, 3))
    (((module, op, _), error),) = true_sites(model, torch.randn(2, 3))
    assert (module, op) == ("1", "linear")
    assert error == native_error(model, torch.randn(2, 3))
    assert true_sites(torch.nn.Linear(3, 3), torch.randn(2, 3)) == []
