"""The clips: what moves, how it moves, what noise does to it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from trainlab.errors import MissingExtraError, UsageError
from trainlab.examples.digits import Config, one_batch
from trainlab.examples.digits.data import digits, levels, moving, noisy, positions


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_position_bounces_between_the_walls():
    start, velocity = torch.tensor([6, 1, 3]), torch.tensor([2, -1, 0])
    assert positions(start, velocity, 6, room=8).tolist() == [
        [6, 8, 6, 4, 2, 0],
        [1, 0, 1, 2, 3, 4],
        [3, 3, 3, 3, 3, 3],
    ]


def test_a_clip_is_one_glyph_in_every_frame_and_paper_elsewhere():
    glyph = torch.rand(1, 8, 8, generator=rng()) / 2 + 0.25
    clips = moving(glyph, 3, Config(), rng())
    assert clips.shape == (3, 16, 1, 16, 16)
    for frame in clips.flatten(0, 2):
        inked = (frame > -1).nonzero()
        top, left = inked.min(0).values.tolist()
        assert torch.equal(frame[top : top + 8, left : left + 8], glyph[0])
        assert len(inked) == 64


def test_every_clip_moves_in_every_frame():
    clips = moving(digits(held_out=False), 32, Config(), rng())
    assert ((clips[:, 1:] - clips[:, :-1]).abs().amax((2, 3, 4)) > 0).all()


def test_held_out_digits_are_not_trained_on():
    trained, held_out = digits(held_out=False), digits(held_out=True)
    assert (len(trained), len(held_out)) == (1500, 297)
    assert (trained.min(), trained.max()) == (-1, 1)
    distance = torch.cdist(held_out.flatten(1), trained.flatten(1))
    assert distance.min() > 0


def test_tau_0_is_clean_and_tau_1_is_noise():
    clips = moving(digits(held_out=True), 2, Config(), rng())
    tau = torch.zeros(2, 16)
    tau[:, 1], tau[:, 2] = 1, 0.5
    noise = torch.randn(clips.shape, generator=rng(7))
    mixed = noisy(clips, tau, rng(7))
    assert torch.equal(mixed[:, 0], clips[:, 0])
    assert torch.equal(mixed[:, 1], noise[:, 1])
    torch.testing.assert_close(mixed[:, 2], (clips[:, 2] + noise[:, 2]) / 2)


def test_a_sixth_of_the_levels_is_clean_and_a_sixth_is_noise():
    tau = levels(2000, Config(), rng())
    for end in (0, 1):
        assert (tau == end).float().mean().item() == pytest.approx(1 / 6, abs=0.01)
    assert tau.mean().item() == pytest.approx(0.5, abs=0.01)


def test_one_batch_is_the_same_at_every_call():
    first, again, other = one_batch(), one_batch(), one_batch(seed=2)
    assert set(first) == {"x", "tau", "target"}
    assert first["x"].shape == first["target"].shape == (16, 16, 1, 16, 16)
    assert first["tau"].shape == (16, 16)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["target"], other["target"])


def test_one_batch_follows_the_config_and_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    batch = one_batch({"frames": 5, "size": 12}, count=3)
    assert batch["x"].shape == (3, 5, 1, 12, 12)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mistyped_setting_is_named():
    with pytest.raises(UsageError, match="no such setting") as error:
        one_batch({"frame": 5})
    assert "seen: frame" in str(error.value)
    assert "did you mean 'frames'?" in str(error.value)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'trainlab\[demo\]'"):
        one_batch()


def test_a_config_says_what_its_numbers_mean():
    config = Config()
    assert config.convention.startswith("tau 0 = clean, tau 1 = noise")
    assert config.target == "clean"
    assert replace(config, seed=3) != config
