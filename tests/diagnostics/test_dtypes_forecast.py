import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.diagnostics.dtypes import forecast as module
from trainlab.diagnostics.dtypes.forecast import LARGEST, NORMAL_POWER, forecast, headroom, share_lost
from trainlab.diagnostics.dtypes.rehearsal import rehearse_cuda


class Scores(nn.Module):
    """`q @ k` of the input with itself, as it comes and squared once more."""

    def forward(self, x):
        scores = x @ x.mT
        return (scores * scores).relu()


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1), weight))

    def forward(self, x):
        return nn.functional.linear(x, self.weight)


def total(model, x):
    return model(x).float().sum()


def found(model, x, **settings):
    return forecast(model, torch.as_tensor(x), **settings)


def test_headroom_is_counted_in_powers_of_two():
    assert headroom(LARGEST) == 0
    assert headroom(LARGEST / 8) == 3
    assert headroom(LARGEST * 2) == -1
    assert headroom(0.0) == math.inf


def test_a_functional_op_that_overflows_is_named_and_what_follows_is_measured():
    result = found(Scores(), [[32.0]])  # 32·32 = 1024, its square is 2**20
    assert [(each.op, each.absmax, each.overflows) for each in result.ops] == [
        ("matmul", 1024.0, False),
        ("mul", 2.0**20, True),
        ("relu", 2.0**20, True),
    ]
    assert result.first is result.ops[1]
    assert result.first.headroom == pytest.approx(-4, abs=1e-3)
    assert result.ops[0].headroom == pytest.approx(6, abs=1e-3)
    assert "test_dtypes_forecast.py" in result.first.site
    assert result.settled


def test_one_run_is_enough_where_nothing_comes_near_an_edge():
    result = found(Scores(), [[1.0]])
    assert (result.first, result.settled) == (None, False)
    assert {each.dtype for each in result.ops} == {torch.bfloat16}


def test_an_op_that_the_model_keeps_in_bfloat16_is_left_alone():
    class Keeps(nn.Module):
        def forward(self, x):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                wide = x @ x
            return wide / 1e6, x @ x

    result = found(Keeps(), [[1e4]])
    assert [each.overflows for each in result.ops] == [False, False, True]


@pytest.mark.parametrize(("value", "overflows"), [(65504.0, False), (65519.0, False), (65520.0, True)])
def test_at_the_edge_a_run_in_float16_decides(value, overflows):
    result = found(Weighted(1.0), [[value]])
    assert result.settled
    assert result.ops[0].overflows is overflows
    assert (result.first is None) is not overflows


def test_a_float32_weight_that_is_cast_to_infinity_is_found_where_the_output_is_small():
    result = found(Weighted(1e6), [[1e-3]])
    (op,) = result.ops
    assert op.absmax == pytest.approx(1e3, rel=1e-2)
    assert op.cast_absmax == 1e6
    assert op.overflows


def test_a_denominator_that_becomes_zero_is_found():
    class Quotient(nn.Module):
        def forward(self, x):
            x = x @ torch.eye(2)
            return x / x.abs().amax()

    assert found(Quotient(), [[1e-9, 2e-9]]).first.op == "div"
    assert found(Quotient(), [[1e-2, 2e-2]]).first is None


def test_masks_are_not_overflows():
    class Masked(nn.Module):
        def forward(self, x):
            scores = x @ x.mT
            mask = torch.tensor([[False, True], [False, False]])
            scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
            scores = scores.masked_fill(mask, float("-inf"))
            mask = torch.zeros(2, 2).masked_fill(mask, torch.finfo(torch.float32).min)
            return scores.softmax(-1), nn.functional.scaled_dot_product_attention(
                x[None], x[None], x[None], mask
            )

    result = found(Masked(), torch.ones(2, 4))
    assert result.first is None
    assert [each.nonfinite for each in result.ops if each.op == "masked_fill"] == [0, 1]


def test_numbers_written_into_a_slice_are_measured():
    class Writes(nn.Module):
        def forward(self, x):
            out = torch.zeros(2, dtype=(x @ x).dtype)
            out[:1] = x.flatten()[:1] * 1e6
            return out

    result = found(Writes(), [[1.0]])
    assert (result.first.op, result.first.absmax > 9e5) == ("setitem", True)


def test_views_and_float32_ops_are_left_out():
    class Looks(nn.Module):
        def forward(self, x):
            return (x @ x).transpose(0, 1)[:1].exp()

    assert [each.op for each in found(Looks(), [[1.0, 2.0], [3.0, 4.0]]).ops] == ["matmul"]


def test_sparse_tensors_are_passed_over():
    class Sparse(nn.Module):
        def forward(self, x):
            return (x @ x).to_sparse().to_dense()

    assert [each.op for each in found(Sparse(), [[1.0, 2.0], [3.0, 4.0]]).ops] == ["matmul", "to_dense"]


def test_shares_are_counted_by_exponent():
    exponents = np.zeros(module.BINS, dtype=np.int64)
    exponents[[-30 - module.LOWEST, -25 - module.LOWEST, -20 - module.LOWEST, 0 - module.LOWEST]] = 1
    assert share_lost(exponents) == 0.25
    assert share_lost(exponents, scale=2.0**5) == 0
    assert share_lost(exponents, scale=2.0**-6) == 0.75
    assert share_lost(exponents, power=NORMAL_POWER) == 0.75
    assert share_lost(np.zeros(module.BINS)) == 0


@pytest.mark.parametrize("power", range(-30, -20))
def test_what_is_counted_as_lost_is_what_float16_rounds_to_zero(power):
    values = torch.tensor([1.5, 1.9, 1.1]) * 2.0**power
    _, _, exponents = module._measured(values)
    assert share_lost(exponents) == float((values.half() == 0).float().mean())


def test_the_scale_leaves_the_largest_gradient_a_doubling():
    weighted = Weighted(1.0)
    result = found(weighted, [[2.0**-10]], loss=total)
    by_name = {each.where: each for each in result.gradients}
    assert by_name["weight"].absmax == 2.0**-10
    assert by_name["weight"].parameter
    assert by_name["model: linear"].absmax == 1.0
    assert result.loss_scale == 2.0**14  # 1 · 2**15 is more than half of 65504
    assert weighted.weight.grad is None


def test_a_parameter_that_stays_in_float32_needs_no_scale():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    result = found(model, torch.randn(3, 4), loss=total)
    assert {each.where for each in result.gradients if each.parameter} == {"1.weight", "1.bias"}


def test_a_backward_that_raises_is_told():
    class Mixes(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("dtypes clash")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return Mixes.apply(self.layer(x))

    result = found(Model(), torch.ones(1, 2), loss=total)
    assert result.loss_error == "dtypes clash"
    assert {each.where for each in result.gradients} == {"model: Mixes.apply"}  # as far as it came


def test_without_a_loss_there_are_no_gradients():
    result = found(Weighted(1.0), [[1.0]])
    assert (result.gradients, result.loss_scale, result.loss_error) == ((), None, "")


def test_a_model_that_float16_refuses_is_judged_by_bfloat16():
    class Filled(nn.Module):
        def forward(self, x):
            return (x @ x).masked_fill(x > 0, -1e9) + 65000.0

    result = found(Filled(), [[1.0]])
    assert result.first.op == "masked_fill"


def test_the_model_is_left_as_found():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    kept = {name: each.clone() for name, each in model.state_dict().items()}
    random_state = torch.get_rng_state()
    found(model, torch.randn(3, 4), loss=total, train=True)
    assert all(torch.equal(kept[name], each) for name, each in model.state_dict().items())
    assert all(not each._backward_hooks for each in model.parameters())
    assert model.training
    assert not torch.cuda.is_available()
    assert random_state.numel() == torch.get_rng_state().numel()


@pytest.mark.filterwarnings("ignore")
def test_scaled_models_are_foretold_as_a_real_run_in_float16_finds_them():
    from benchmarks import dtypes_forecast as study

    small = [name for name in study.NAMES if not name.startswith("hf-")]
    study_names, study.NAMES = study.NAMES, small
    try:
        cases = [case for seed in range(10) if (case := study.scaled(seed))]
        told = [study.foretold(forecast(case.model, case.batch)) for case in cases]
        so = [study.truth(case) for case in cases]
    finally:
        study.NAMES = study_names
    assert told == so
    assert 2 < sum(each is not None for each in so) < len(cases)


def test_a_scale_that_is_recommended_keeps_real_gradients_finite_and_eight_times_does_not():
    from benchmarks import dtypes_forecast as study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale = forecast(*study.built("gated"), loss=study.loss).loss_scale
        assert all(each.isfinite().all() for each in study.gradients_in_half("gated", scale).values())
        assert any(not each.isfinite().all() for each in study.gradients_in_half("gated", 8 * scale).values())


def test_it_runs_under_another_autocast_too():
    def under(dtype):
        return torch.autocast("cpu", dtype)

    assert found(Scores(), [[32.0]], under=under).first.op == "mul"
    with rehearse_cuda():
        pass  # the rehearsal is free again
