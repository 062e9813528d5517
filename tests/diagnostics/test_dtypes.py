"""The room `dtypes`: what its rules say of hand-made results, what the probe finds on small models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import trainlab as tl
from trainlab.diagnostics.dtypes import DtypesLimits, DtypesResult
from trainlab.diagnostics.dtypes.rules import RULES
from trainlab.errors import UsageError
from trainlab.finding import Level

CODES = {rule.code: rule for rule in RULES}


class Student(nn.Module):
    """The post-mortem: a projector in the dtype of its half-precision teacher."""

    def __init__(self, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.projector = nn.Linear(8, 4, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projector(torch.relu(self.body(x)))


def mean_square(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).float().square().mean()


@pytest.fixture(scope="module")
def healthy() -> DtypesResult:
    torch.manual_seed(0)
    return tl.dtypes.probe(Student(torch.float32), torch.randn(2, 8), loss=mean_square)


def level(result: DtypesResult, code: str, **limits: float) -> Level:
    return tl.dtypes.judge(result, **limits)[code].level


def test_every_rule_is_quiet_on_a_healthy_model(healthy):
    findings = tl.dtypes.judge(healthy)
    assert {finding.level for finding in findings} == {Level.OK}
    assert findings.verdict is Level.OK


def test_the_post_mortem_is_told_with_its_fix():
    model, x = Student(), torch.randn(2, 8)
    result = tl.dtypes.probe(model, x, dtype="float16")
    assert result.site_module == ("projector",)
    assert result.site_error == ("mat1 and mat2 must have the same dtype, but got Float and Half",)
    assert result.fix_code == ("model.get_submodule('projector').to(torch.float32)",)
    findings = tl.dtypes.judge(result)
    assert findings["DTY002"].level is Level.FAIL
    assert "model.get_submodule('projector').to(torch.float32)" in findings["DTY002"].fix
    assert findings["DTY003"].level is Level.WARN
    assert findings["DTY008"].level is Level.FAIL
    assert model.projector.weight.dtype is torch.float16
    model.projector.to(torch.float32)  # what the fix says
    model(x)


def test_a_run_under_autocast_that_ends_early_is_told(healthy):
    class Unsafe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.binary_cross_entropy(self.body(x).sigmoid(), torch.ones(2, 1))

    result = tl.dtypes.probe(Unsafe(), torch.randn(2, 8))
    finding = tl.dtypes.judge(result)["DTY001"]
    assert finding.level is Level.FAIL
    assert "unsafe to autocast" in finding.text
    assert level(healthy, "DTY001") is Level.OK
    assert level(result, "DTY002") is Level.OK  # without autocast it runs


def test_writing_into_a_narrower_dtype_is_told():
    class Accumulates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(2, 8, dtype=torch.float16)
            for _ in range(3):
                total += torch.softmax(self.body(x), -1)
            return total

    finding = tl.dtypes.judge(tl.dtypes.probe(Accumulates(), torch.randn(2, 8)))["DTY004"]
    assert finding.level is Level.WARN
    assert "add_" in finding.evidence[0].where or "iadd" in finding.evidence[0].where


def test_values_that_are_not_finite_are_traced_to_their_first_op():
    class Divides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.last((y - y) / (y - y))

    finding = tl.dtypes.judge(tl.dtypes.probe(Divides(), torch.randn(2, 8)))["DTY005"]
    assert finding.level is Level.FAIL
    assert finding.evidence[0].where.startswith("model: ")
    assert "div" in finding.evidence[0].where


def test_infinities_of_a_mask_are_meant():
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.body(x)
            return torch.softmax(scores.masked_fill(torch.arange(8) > 4, -torch.inf), -1)

    assert level(tl.dtypes.probe(Masks(), torch.randn(2, 8)), "DTY005") is Level.OK


def test_values_unread_are_not_called_finite(healthy):
    unread = np.full(len(healthy.op_name), np.nan)
    blind = replace(healthy, op_min=unread, op_max=unread, op_nan=np.zeros(len(unread), np.int64))
    assert level(blind, "DTY005") is Level.SKIP


def test_headroom(healthy):
    places = len(healthy.range_op)
    small = replace(healthy, dtype="float16", range_headroom=np.full(places, 0.5))
    over = replace(small, range_headroom=np.full(places, -1.0), range_overflows=np.ones(places, bool))
    assert level(small, "DTY006") is Level.WARN
    assert level(small, "DTY006", headroom_min=0.25) is Level.OK
    assert level(over, "DTY006") is Level.FAIL
    assert level(replace(over, dtype="bfloat16"), "DTY006") is Level.OK  # what was asked for holds it
    assert "in float16" in tl.dtypes.judge(replace(over, dtype="bfloat16"))["DTY006"].text


def test_gradients_lost_to_float16(healthy):
    lost = np.full(len(healthy.gradient_name), 0.5)
    assert level(replace(healthy, dtype="float16", gradient_lost_scaled=lost), "DTY007") is Level.WARN
    assert level(tl.dtypes.probe(Student(torch.float32), torch.randn(2, 8)), "DTY007") is Level.SKIP


def test_half_weights_that_are_trained(healthy):
    half = replace(healthy, tensor_dtype=("float16",) * len(healthy.tensor_name))
    assert level(half, "DTY008") is Level.WARN  # a model in half precision throughout: to run, not to train
    frozen = replace(half, tensor_trainable=np.zeros(len(half.tensor_name), bool))
    assert level(frozen, "DTY008") is Level.OK


def test_a_weight_that_is_cast_at_every_use():
    model = Student(torch.float32).requires_grad_(requires_grad=False)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + self.inner(2 * x)

    finding = tl.dtypes.judge(tl.dtypes.probe(Twice(), torch.randn(2, 8)))["DTY009"]
    assert finding.level is Level.WARN
    assert {each.where for each in finding.evidence} >= {"inner.body.weight", "inner.projector.weight"}
    assert finding.evidence[0].value == 2


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_known_rules_and_opaque_calls(healthy):
    known = replace(healthy, rule_op=("norm: layer_norm",), rule_text=("CUDA raises",))
    assert level(known, "DTY010") is Level.WARN
    norm = nn.Sequential(nn.LayerNorm(8))
    result = tl.dtypes.probe(norm, torch.randn(2, 8).half(), headroom=False)
    assert result.rule_op[0].startswith("0: layer_norm")
    assert "expected scalar type Half but found Float" in result.rule_text[0]
    scripted = torch.jit.script(nn.Linear(8, 4))
    assert (
        level(tl.dtypes.probe(nn.Sequential(nn.Linear(8, 8), scripted), torch.randn(2, 8)), "DTY011")
        is Level.WARN
    )


@pytest.mark.parametrize(("setting", "value"), [("autocast", "cude"), ("dtype", "float8")])
def test_a_mistyped_setting_names_what_there_is(setting, value):
    with pytest.raises(UsageError) as error:
        tl.dtypes.probe(Student(), torch.randn(2, 8), **{setting: value})
    assert value in str(error.value)
    assert ("cuda" if setting == "autocast" else "float16") in str(error.value)


@pytest.mark.parametrize("autocast", ["cuda", "cpu", "off"])
@pytest.mark.parametrize("train", [False, True])
def test_every_autocast_runs_and_says_how(autocast, train):
    result = tl.dtypes.probe(Student(torch.float32), torch.randn(2, 8), autocast=autocast, train=train)
    assert result.evidence == {"cuda": "rehearsed", "cpu": "ran on CPU", "off": "ran on CPU"}[autocast]
    assert set(result.op_evidence) == {result.evidence}
    assert set(result.op_output) == ({"float32"} if autocast == "off" else {"bfloat16"})


def test_limits_have_names():
    with pytest.raises(UsageError, match="headroom_min"):
        tl.dtypes.judge(tl.dtypes.probe(Student(), torch.randn(2, 8)), headroom_mim=2)
    assert DtypesLimits().weight_casts_max == 1
