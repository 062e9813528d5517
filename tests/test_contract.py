"""Every diagnostic keeps the contract, and the contract catches those that do not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from trainlab.catalogue import installed
from trainlab.diagnostic import View
from trainlab.testing import check_diagnostic


@pytest.mark.parametrize("name", list(installed()))
def test_every_room_keeps_the_contract(name):
    check_diagnostic(installed()[name])


def test_a_notebook_diagnostic_is_the_equal_of_ours(spread):
    check_diagnostic(spread)


def test_a_probe_that_leaves_the_model_in_another_mode_is_caught(spread):
    def careless(model, batch, *, scale=1.0, train=False):
        model.eval()
        return spread.probe(model, batch, scale=scale, train=train)

    with pytest.raises(AssertionError, match="is as it was found after a probe"):
        check_diagnostic(dataclasses.replace(spread, probe=careless))


def test_a_probe_that_moves_the_random_stream_is_caught(spread):
    def careless(model, batch, *, scale=1.0, train=False):
        torch.rand(1)
        return spread.probe(model, batch, scale=scale, train=train)

    with pytest.raises(AssertionError, match="model: rng is as it was found"):
        check_diagnostic(dataclasses.replace(spread, probe=careless))


def test_a_probe_that_changes_a_weight_is_caught(spread):
    def careless(model, batch, *, scale=1.0, train=False):
        with torch.no_grad():
            model[0].weight[0, 0] += 1
        return spread.probe(model, batch, scale=scale, train=train)

    with pytest.raises(AssertionError, match=r"tensor 0\.weight is as it was found"):
        check_diagnostic(dataclasses.replace(spread, probe=careless))


def test_a_view_that_draws_nothing_is_caught(spread):
    silent = View("silent", "nothing at all", lambda result, figure: None)
    with pytest.raises(AssertionError, match="view silent draws something"):
        check_diagnostic(dataclasses.replace(spread, views=(silent,)))
