"""The probe of `variation`: known answers, healthy models left alone, and what a batch may be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainlab.diagnostics.variation import probe
from trainlab.diagnostics.variation.movement import Movement, Sampler, compare
from trainlab.diagnostics.variation.passes import orders
from trainlab.errors import NotApplicable, SubjectError, UsageError
from trainlab.finding import Level
from trainlab.visit import visit

from .variation_models import Conditioned, Scaled, looked_at, mlp, models, noise, seeded, tiny_case

# --- known answers


def test_unrelated_outputs_have_variation_one() -> None:
    result = probe(Scaled(2.0, 0.0), noise(64, 512), pairs=512)
    assert result.output_variation == pytest.approx(1.0, abs=0.01)
    assert result.output_typical == pytest.approx(1.0, abs=0.01)


def test_an_offset_lowers_variation_to_std_over_rms() -> None:
    # E‖f_i − f_j‖² = 2 var, E‖f‖² = var + mean²: V = sqrt(var / (var + mean²))
    result = probe(Scaled(1.0, 3.0), noise(64, 512), pairs=512)
    assert result.output_variation == pytest.approx(math.sqrt(1 / (1 + 9)), abs=0.01)


def test_two_samples_by_hand() -> None:
    # (3, 4) and (0, 1): Σ(a − b)² = 9 + 9, Σ(a² + b²) = 26, in either direction
    result = probe(Scaled(1.0, 0.0), torch.tensor([[3.0, 4.0], [0.0, 1.0]]), pairs=2)
    assert result.output_variation == pytest.approx(math.sqrt(18 / 26), rel=1e-12)
    ratios = (3 / 3 + 3 / math.sqrt(17)) / 2
    assert result.output_typical == pytest.approx(math.pi / (2 * math.sqrt(2)) * ratios, rel=1e-12)
    assert result.output_distance[0, 1] == pytest.approx(math.sqrt(18 / 26), rel=1e-6)


def test_a_constant_is_exactly_zero() -> None:
    result = probe(Scaled(0.0, 5.0), noise(8, 4))
    assert result.output_variation == 0.0
    assert result.output_typical == 0.0
    assert result.output_rank == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("samples", [2, 3, 7])
@pytest.mark.parametrize("train", [False, True])
def test_equals_the_formula_worked_out_pair_by_pair(dtype: torch.dtype, samples: int, train: bool) -> None:
    model, x = seeded(mlp, samples).to(dtype), noise(samples, 6, seed=samples).to(dtype)
    result = probe(model, x, pairs=16, train=train, seed=5)

    def run(batch: Tensor) -> Tensor:
        with visit(model, train=train, seed=5):
            return model(batch).double()

    base, apart, power = run(x), 0.0, 0.0
    for order in orders(samples, 16, 5):
        other = run(x[order])  # row i now holds sample π(i) under the mask of row i
        apart += float((base - other).square().sum())
        power += float(base.square().sum() + other.square().sum())
    assert result.output_variation == pytest.approx(math.sqrt(apart / power), rel=1e-9)
    assert result.pairs == samples * min(samples - 1, -(-16 // samples))


def test_every_order_moves_every_sample_and_none_comes_twice() -> None:
    for samples in range(2, 12):
        found = orders(samples, 1000, seed=3)
        assert len(found) == samples - 1
        assert all(bool((order != torch.arange(samples)).all()) for order in found)
        assert len({tuple(order.tolist()) for order in found}) == samples - 1


@pytest.mark.parametrize("size", [3e38, 1.0, 1e-38, 1e-44])
def test_compare_neither_overflows_nor_vanishes_in_single_precision(size: float) -> None:
    moved = Movement.of(compare(torch.tensor([size, size]), torch.tensor([-size, size])))
    assert moved.variation == pytest.approx(1.0)
    assert moved.typical == pytest.approx(math.pi / 4)


def test_compare_leaves_out_what_is_not_finite() -> None:
    a, b = torch.tensor([1.0, math.nan, 2.0]), torch.tensor([0.0, 1.0, math.inf])
    assert Movement.of(compare(a, b)).variation == 1.0
    assert math.isnan(Movement.of(compare(torch.tensor([math.nan]), torch.tensor([1.0]))).variation)


def test_a_choice_of_elements_is_all_of_few_and_the_same_of_many() -> None:
    sampler, x = Sampler(), noise(100, 100)
    assert torch.equal(sampler.pick(x, 10_000), x.flatten())
    assert torch.equal(sampler.pick(x, 500), Sampler().pick(x, 500))
    assert Movement.of(compare(sampler.pick(x, 2000), sampler.pick(-x, 2000))).variation == pytest.approx(
        math.sqrt(2)
    )


def test_targets_of_classes_vary_by_how_often_they_differ() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    result = probe(seeded(mlp), (noise(4, 6), labels), pairs=100)
    # of the 12 ordered pairs of different samples 8 differ in class
    assert result.target_variation == pytest.approx(math.sqrt(8 / 12))
    assert result.target_name == "target"


# --- healthy models, and what must not change the verdict


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("kind", [None, "constant_bias", "only_tau"])
def test_scale_of_the_output_changes_nothing(kind: str | None, scale: float) -> None:
    class Times(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor, tau: Tensor) -> Tensor:
            return self.inner(x, tau) * scale

    case = tiny_case(kind)
    plain, scaled = looked_at(**case)[1], looked_at(Times(case["model"]), case["batch"])[1]
    assert [f.level for f in scaled] == [f.level for f in plain]


@pytest.mark.parametrize("kind", [None, "dead_relu", "only_tau", "nan_weight", "uniform_attention"])
def test_order_of_the_batch_and_dropout_change_nothing(kind: str | None) -> None:
    case = tiny_case(kind)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    shuffled = {name: tensor[order] for name, tensor in case["batch"].items()}
    plain = looked_at(**case)[1]
    assert [f.level for f in looked_at(case["model"], shuffled)[1]] == [f.level for f in plain]
    noisy = Dropped(case["model"])
    assert [f.level for f in looked_at(noisy, case["batch"], train=True)[1]] == [f.level for f in plain]


class Dropped(nn.Module):
    """A model whose input, or what is left of it, drops out by half."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.drop = inner, nn.Dropout(0.5)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        return self.inner(self.drop(x), tau)


def test_dropout_after_a_constant_is_still_a_collapse() -> None:
    model = nn.Sequential(seeded(mlp), nn.Dropout(0.5))
    nn.init.zeros_(model[0][3].weight)
    result, findings = looked_at(model, noise(8, 6), train=True)
    assert result.output_variation == 0.0
    assert result.output_noise > 0.1
    assert findings["VAR002"].level is Level.FAIL
    assert "0.3" in findings["VAR002"].text


def test_the_healthy_example_is_well() -> None:
    findings = looked_at(**tiny_case(None))[1]
    assert findings.verdict is Level.OK
    assert {f.level for f in findings} == {Level.OK}


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("train", [False, True])
def test_kinds_of_models_are_well(name: str, train: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, batch = models()[name]
    findings = looked_at(model, batch, train=train)[1]
    assert findings.verdict is Level.OK, str(findings)


def test_a_batch_on_axis_one_is_found() -> None:
    assert probe(nn.LSTM(5, 6), noise(7, 4, 5)).samples == 4
    assert probe(nn.LSTM(5, 6), noise(7, 4, 5), batch_axis=0).samples == 7


# --- the batch


def test_sources_are_named_as_forward_names_them() -> None:
    model = seeded(Conditioned)
    for batch in ((noise(8, 6), noise(8, 1)), {"tau": noise(8, 1), "x": noise(8, 6)}):
        result, findings = looked_at(model, batch)
        assert result.source_name == ("x", "tau")
        assert result.source_role == ("content", "input")
        assert findings["VAR004"].level is Level.OK


def test_what_cannot_be_swapped_says_why() -> None:
    result = probe(seeded(Conditioned), {"x": noise(8, 6), "tau": 0.5, "mask": None})
    assert dict(zip(result.source_name, result.source_reason, strict=True)) == {
        "x": "",
        "tau": "one value for the whole batch: 0.5",
    }
    same = probe(seeded(Conditioned), {"x": noise(8, 6), "tau": torch.full((8, 1), 0.3)})
    assert same.source_reason == ("", "the same for every sample")


def test_an_ignored_condition_is_a_warning_that_names_where_it_is_lost() -> None:
    model = seeded(Conditioned)
    nn.init.zeros_(model.level.weight)
    finding = looked_at(model, (noise(8, 6), noise(8, 1)))[1]["VAR004"]
    assert finding.level is Level.WARN
    assert finding.text == "the output ignores tau – lost in level"


def test_one_sample_is_not_enough() -> None:
    with pytest.raises(NotApplicable) as caught:
        probe(seeded(mlp), noise(1, 6))
    assert str(caught.value) == (
        "one sample cannot be compared with another\n"
        "  seen: input of shape (1, 6): 1 on axis 0, which is taken for the batch\n"
        "  try:  give a batch of two or more different samples, or say which axis it is: batch_axis=1"
    )


def test_samples_that_are_all_the_same_are_not_enough() -> None:
    with pytest.raises(NotApplicable, match="all 4 samples of the batch are the same"):
        probe(seeded(mlp), noise(1, 6).expand(4, 6))


def test_an_output_without_samples_is_not_enough() -> None:
    class Loss(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().mean()

    with pytest.raises(
        NotApplicable, match="no output of the model is floating and has an axis of 4 samples"
    ):
        probe(Loss(), noise(4, 6))


def test_mistyped_names_get_advice() -> None:
    model, batch = seeded(Conditioned), {"x": noise(8, 6), "tau": noise(8, 1)}
    with pytest.raises(UsageError, match=r"no input 'taw'(.|\n)*did you mean 'tau'"):
        probe(model, batch, content="taw")
    with pytest.raises(UsageError, match="no output 'logit'"):
        probe(model, batch, output="logit")
    with pytest.raises(UsageError, match="no entry 'aim'"):
        probe(model, batch, target="aim")
    assert probe(model, batch, content="tau").source_role == ("input", "content")


def test_a_model_that_wants_its_samples_in_order_is_told_of() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True).data.new_ones(4) * x.sum(
                (1, 2)
            )

    with pytest.raises(SubjectError, match="not on the same samples in another order"):
        probe(Sorted(), (noise(4, 5, 2), torch.tensor([5, 4, 3, 2])))


def test_a_near_constant_target_excuses_a_near_constant_output() -> None:
    x = noise(16, 6)
    target = 100 + 1e-3 * noise(16, 6)
    _, alone = looked_at(Scaled(1e-3, 100.0), x)
    _, beside = looked_at(Scaled(1e-3, 100.0), {"x": x, "target": target})
    assert alone["VAR002"].level is Level.FAIL
    assert beside["VAR002"].level is Level.OK
    assert beside["VAR003"].level is Level.OK
    _, lazy = looked_at(Scaled(5e-3, 1.0), {"x": x, "target": noise(16, 6, seed=4)})
    assert lazy["VAR002"].level is Level.WARN
    assert "times less than target does" in lazy["VAR002"].text


def test_nan_is_a_finding_of_its_own() -> None:
    x = noise(8, 6)
    x[2, 3] = math.nan
    findings = looked_at(seeded(mlp), x)[1]
    assert findings["VAR001"].level is Level.FAIL
    assert "the batch brings them" in findings["VAR001"].text
    assert findings["VAR001"].fix == "clean input input before it reaches the model"
