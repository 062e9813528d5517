"""The model: what it sees, what it may not see, and how it starts."""

from __future__ import annotations

import pytest
import torch

from trainlab.examples.digits import Config, build

SMALL = {"frames": 4, "size": 8, "glyph": 4, "patch": 4, "dim": 16, "depth": 2, "heads": 2}


@pytest.fixture
def model():
    """A small model whose head has left its zero init."""
    torch.manual_seed(0)
    model = build(SMALL)
    torch.nn.init.normal_(model.head.out.weight)
    return model.eval()


@pytest.fixture
def inputs():
    stream = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 1, 8, 8, generator=stream), torch.rand(3, 4, generator=stream)


def test_the_answer_has_the_shape_of_the_clips(model, inputs):
    assert model(*inputs).shape == inputs[0].shape


def test_before_the_first_step_the_answer_is_zero(inputs):
    assert not build(SMALL)(*inputs).any()


def test_patches_go_back_to_where_they_came_from(model, inputs):
    # With blocks and norm taken out, a token is its own patch, so only that patch answers to it.
    model.blocks = torch.nn.ModuleList()
    x, tau = inputs
    moved = x.clone()
    moved[0, 2, 0, 4:, :4] += 1
    changed = (model(moved, tau) != model(x, tau)).nonzero()
    assert changed.min(0).values.tolist() == [0, 2, 0, 4, 0]
    assert changed.max(0).values.tolist() == [0, 2, 0, 7, 3]


def test_time_attention_is_causal(model, inputs):
    x, tau = inputs
    later = x.clone()
    later[:, 2] += 1
    before, after = model(x, tau), model(later, tau)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_every_frame_answers_to_its_own_noise_level(model, inputs):
    x, tau = inputs
    torch.nn.init.normal_(model.norm.modulate.weight)
    raised = tau.clone()
    raised[:, 3] = 1 - tau[:, 3]
    before, after = model(x, tau), model(x, raised)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_every_nth_block_attends_over_time():
    model = build({**SMALL, "depth": 6, "time_every": 3})
    assert [block.over_time for block in model.blocks] == [False, False, True, False, False, True]
    assert all(hasattr(block, "space") for block in model.blocks)


def test_samples_do_not_mix(model, inputs):
    x, tau = inputs
    torch.testing.assert_close(model(x, tau)[:1], model(x[:1], tau[:1]))


def test_fewer_frames_than_built_for_are_fine(model, inputs):
    x, tau = inputs
    torch.testing.assert_close(model(x[:, :2], tau[:, :2]), model(x, tau)[:, :2])


def test_an_empty_config_builds_the_default():
    assert build().place.shape == ((Config().size // Config().patch) ** 2, Config().dim)
