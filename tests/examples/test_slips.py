"""A slip changes the named part of a batch and nothing else, and is repeatable."""

from __future__ import annotations

import pytest
import torch

from trainlab.errors import UsageError
from trainlab.examples import tiny
from trainlab.examples.digits.data import draw
from trainlab.examples.digits.slips import SLIPS, slip
from trainlab.examples.digits.twins import TWINS, check_twin

CHANGED = {
    "tau_flipped": {"tau"},
    "tau_ignored": {"tau"},
    "copy_neighbour": {"target"},
    "late_untrained": {"x", "target"},
    "frame_zeroed": {"target"},
    "cosine_mixed": {"x"},
}


def batch():
    return draw(tiny.blobs(), 6, tiny.CONFIG, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_changes_what_it_is_named_after_alone(name):
    before, after = batch(), slip(batch(), name)
    assert {key for key in before if not torch.equal(before[key], after[key])} == CHANGED[name]
    assert all(torch.equal(after[key], each) for key, each in slip(batch(), name).items())


def test_no_slip_leaves_the_batch_alone():
    given = batch()
    for twin in (None, "zero_head"):
        assert slip(given, twin) is given


def test_what_the_slips_do():
    before = batch()
    assert torch.equal(SLIPS["tau_flipped"](before)["tau"], 1 - before["tau"])
    assert torch.equal(SLIPS["copy_neighbour"](before)["target"][:, 1:], before["target"][:, :-1])
    assert not SLIPS["late_untrained"](before)["target"][:, 2:].any()
    assert not SLIPS["frame_zeroed"](before)["target"][:, 2].any()
    clean = before["tau"] == 0
    mixed = SLIPS["cosine_mixed"](before)["x"]
    torch.testing.assert_close(mixed[clean], before["target"][clean])
    torch.testing.assert_close(mixed[before["tau"] == 1], before["x"][before["tau"] == 1])


def test_slips_and_twins_share_no_name_and_are_both_known():
    assert not set(SLIPS) & set(TWINS)
    for name in SLIPS:
        check_twin(name)
    with pytest.raises(UsageError, match="no such twin") as error:
        check_twin("tau_flippd")
    assert "did you mean 'tau_flipped'?" in str(error.value)


def test_a_slipped_model_really_learns_the_slip():
    subjects = tiny.sick("tau_flipped")
    model, x, tau, target = subjects["model"], *(subjects["batch"][key] for key in ("x", "tau", "target"))
    with torch.no_grad():
        as_told, as_trained = (model(x, each) for each in (tau, 1 - tau))
    assert (as_trained - target).square().mean() < 0.5 * (as_told - target).square().mean()
