"""Each sick twin is the healthy model but for the one thing that it is named after."""

from __future__ import annotations

import pytest
import torch

from trainlab.errors import UsageError
from trainlab.examples import tiny
from trainlab.examples.digits import TWINS
from trainlab.examples.digits.run import Run
from trainlab.examples.digits.twins import plant


def changed(twin: str) -> set[str]:
    """The names of the weights that a twin's planting changes or freezes."""
    healthy, sick = Run.start(tiny.CONFIG).model, Run.start(tiny.CONFIG).model
    plant(sick, twin)
    return {
        name
        for (name, before), after in zip(healthy.named_parameters(), sick.parameters(), strict=True)
        if after.requires_grad != before.requires_grad or not torch.equal(before, after)
    }


SPACE = {"blocks.0.space.query.weight", "blocks.1.space.query.weight"}
TIME = {"blocks.1.time.query.weight"}
PLANTED = {
    "uniform_attention": SPACE | TIME,
    "uniform_time_attention": TIME,
    "zero_head": {"head.out.weight", "head.out.bias"},
    "constant_bias": {"head.out.weight"},
    "dead_relu": {"head.hidden.bias"},
    "only_tau": {"embed.weight", "embed.bias"},
    "nan_weight": {"blocks.1.mlp.0.weight"},
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_differs_in_the_stated_weights_alone(twin):
    assert changed(twin) == PLANTED[twin]


def answers(kind: str | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a tiny model says to its batch, to other content, and to other noise levels."""
    subjects = tiny.healthy() if kind is None else tiny.sick(kind)
    model, x, tau = subjects["model"], subjects["batch"]["x"], subjects["batch"]["tau"]
    with torch.no_grad():
        return model(x, tau), model(x.flip(0), tau), model(x, tau.flip(0))


def test_the_healthy_model_beats_the_mean_and_listens_to_all_that_it_is_given():
    target = tiny.healthy()["batch"]["target"]
    output, other_content, other_tau = answers(None)
    assert (output - target).square().mean() < 0.8 * (target.mean(0) - target).square().mean()
    assert (output - other_content).abs().mean() > 0.1
    assert (output - other_tau).abs().mean() > 0.01


@pytest.mark.parametrize("kind", ["zero_head", "constant_bias", "dead_relu"])
def test_a_collapsed_twin_says_the_same_to_every_clip(kind):
    output, other_content, other_tau = answers(kind)
    assert torch.equal(output, other_content)
    assert torch.equal(output, other_tau)
    assert output.any() != (kind == "zero_head")


def test_only_tau_hears_nothing_but_tau():
    output, other_content, other_tau = answers("only_tau")
    assert torch.equal(output, other_content)
    assert (output - other_tau).abs().mean() > 1e-4


def test_a_nan_weight_reaches_the_output():
    assert answers("nan_weight")[0].isnan().any()


@pytest.mark.parametrize("kind", ["uniform_attention", "uniform_time_attention"])
def test_uniform_attention_does_not_collapse_the_output(kind):
    output, other_content, _ = answers(kind)
    assert (output - other_content).abs().mean() > 0.1


def test_uniform_attention_weighs_all_patches_alike():
    model = tiny.sick("uniform_attention")["model"]
    tokens = torch.randn(2, 3, 16, tiny.CONFIG.dim)
    attended = model.blocks[0].space(tokens)
    torch.testing.assert_close(attended, attended[:, :, :1].expand_as(attended))


def test_a_dead_unit_stays_dead_through_training():
    subjects = tiny.sick("dead_relu")
    heard = []
    subjects["model"].head.relu.register_forward_hook(lambda _module, _inputs, output: heard.append(output))
    subjects["model"](subjects["batch"]["x"], subjects["batch"]["tau"])
    assert not heard[0].any()


def test_every_call_hands_out_a_copy():
    first, again = tiny.healthy(), tiny.healthy()
    torch.nn.init.zeros_(first["model"].embed.weight)
    first["batch"]["x"].zero_()
    assert again["model"].embed.weight.any()
    assert tiny.healthy()["batch"]["x"].any()


def test_the_tiny_batch_has_16_clips():
    batch = tiny.healthy()["batch"]
    assert batch["x"].shape == batch["target"].shape == (16, 4, 1, 8, 8)
    assert batch["tau"].shape == (16, 4)


def test_blobs_differ_from_each_other():
    blobs = tiny.blobs()
    assert blobs.shape == (8, 4, 4)
    assert len(blobs.unique(dim=0)) == 8


def test_a_mistyped_kind_is_named():
    with pytest.raises(UsageError, match="no such twin") as error:
        tiny.sick("only_tao")
    assert "did you mean 'only_tau'?" in str(error.value)


def test_kinds_are_the_twins():
    assert tuple(TWINS) == tiny.KINDS
    assert set(PLANTED) == set(TWINS)


def test_tiny_subjects_need_no_scikit_learn(fresh_modules):
    loaded = fresh_modules("from trainlab.examples import tiny; tiny.healthy()")
    assert "sklearn" not in loaded
    assert "matplotlib.pyplot" not in loaded
