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
from trainlab.errors import SubjectError, UsageError
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


def test_the_op_that_raises_is_named_and_not_the_one_before():
    finding = tl.dtypes.judge(tl.dtypes.probe(Student(), torch.randn(2, 8), autocast="off"))["DTY001"]
    assert finding.evidence[0].where.startswith("projector: linear")
    assert finding.evidence[0].value == "float32, float16, float16"
    assert finding.fix == "model.get_submodule('projector').to(torch.float32)"


def test_an_error_that_only_autocast_brings_is_told_whatever_its_kind():
    class AsArray(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(super().forward(x).detach().numpy())

    result = tl.dtypes.probe(AsArray(8, 8), torch.randn(2, 8))
    finding = tl.dtypes.judge(result)["DTY001"]
    assert finding.level is Level.FAIL  # a TypeError: numpy has no bfloat16
    assert "numpy" in finding.evidence[0].where
    half = tl.dtypes.judge(tl.dtypes.probe(AsArray(8, 8), torch.randn(2, 8), dtype="float16"))
    assert half["DTY001"].level is Level.OK  # numpy has float16
    assert half["DTY006"].level is Level.SKIP  # the forecast would run in bfloat16


def test_an_error_of_the_model_itself_rises():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        tl.dtypes.probe(Student(torch.float32), torch.randn(2, 7))


def test_code_that_says_cuda_is_rehearsed_without_autocast_too():
    class OnCuda(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = nn.Linear(8, 8), nn.Linear(8, 8).half()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", torch.float16):  # on purpose: its own weights are half
                y = self.gate(x.cuda())
            return self.body(y.float() + torch.ones(8, device="cuda"))

    findings = tl.dtypes.judge(tl.dtypes.probe(OnCuda(), torch.randn(2, 8)))
    assert findings["DTY001"].level is Level.OK
    assert findings["DTY002"].level is Level.OK


@pytest.mark.parametrize("where", ["loss", "backward"])
def test_a_loss_that_raises_under_autocast_is_told(where):
    class Clash(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(_ctx: object, _gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("unsafe to autocast, backwards")

    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = model(x).sigmoid()
        return nn.functional.binary_cross_entropy(y, y.detach()) if where == "loss" else Clash.apply(y)

    finding = tl.dtypes.judge(tl.dtypes.probe(Student(torch.float32), torch.randn(2, 8), loss=loss))["DTY007"]
    assert finding.level is Level.FAIL
    assert "unsafe to autocast" in finding.text


@pytest.mark.parametrize("autocast", ["cuda", "cpu", "off"])
@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 8), nn.LayerNorm((8, 4, 4)), nn.BatchNorm2d(8)])
def test_norms_after_layers_in_lower_precision_are_healthy(norm, autocast):
    model, x = nn.Sequential(nn.Conv2d(8, 8, 1), norm, nn.Conv2d(8, 8, 1)), torch.randn(2, 8, 4, 4)
    assert tl.dtypes.judge(tl.dtypes.probe(model, x, autocast=autocast)).verdict is Level.OK


def test_norms_kept_in_float32_are_left_in_peace():
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)).half()
    model[1].float()  # as apex's O2 does; CUDA's kernel takes it too
    model.requires_grad_(requires_grad=False)
    findings = tl.dtypes.judge(tl.dtypes.probe(model, torch.randn(2, 8, 4, 4).half(), autocast="off"))
    assert findings.verdict is Level.OK


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


class Attends(nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.body = nn.Linear(8, 4)
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(x) + self.mask.log(), -1)


def test_infinities_that_go_nowhere_are_meant():
    finding = tl.dtypes.judge(tl.dtypes.probe(Attends(torch.eye(4)), torch.randn(4, 8)))["DTY005"]
    assert finding.level is Level.OK
    assert "infinities of model: log" in finding.text


def test_nan_of_a_mask_that_hides_a_whole_row_is_told():
    class Hides(Attends):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.body(x).masked_fill(self.mask == 0, -torch.inf), -1)

    finding = tl.dtypes.judge(tl.dtypes.probe(Hides(torch.zeros(4, 4)), torch.randn(4, 8)))["DTY005"]
    assert finding.level is Level.FAIL
    assert finding.evidence[0].where.startswith("model: softmax")
    assert "whole row" in finding.fix


def test_one_op_that_gives_nothing_but_infinities_is_told(healthy):
    places = len(healthy.op_name)
    lost = np.full(places, np.inf)
    count, born = np.ones(places, np.int64), np.arange(places) == 0
    assert (
        level(replace(healthy, op_min=lost, op_max=lost, op_inf=count, op_born=born), "DTY005") is Level.FAIL
    )


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


def test_a_dtype_of_torch_is_told_by_its_name():
    with pytest.raises(UsageError, match="did you mean 'float16'"):
        tl.dtypes.probe(Student(), torch.randn(2, 8), dtype=torch.float16)
    with pytest.raises(SubjectError, match=r"not an nn\.Module"):
        tl.dtypes.probe(torch.relu, torch.randn(2, 8))


def test_the_picture_of_many_sites_still_shows_the_fix():
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(60)])
    for i in range(1, 60, 4):
        model[i].half()
    result = tl.dtypes.probe(model, torch.randn(2, 8), headroom=False)
    assert len(result.fix_code) == 15
    picture = tl.dtypes.plot(result, "sites")
    axes = picture.axes[0]
    low = min(text.get_window_extent().y0 for text in axes.texts)
    assert low >= 0
    told = [text.get_text() for text in axes.texts]
    assert result.fix_code[0] in told
    assert "… 15 changes in all, in the table" in told


def test_a_batch_in_an_odd_dtype_is_named():
    result = tl.dtypes.probe(Student(torch.float32), torch.randn(2, 8).double(), autocast="off")
    assert set(result.site_causes) == {"the batch"}
    assert result.fix_cause == ("input the batch",)
    assert result.fix_code == ("batch = batch.to(torch.float32)",)


def test_nan_in_the_weights_is_told():
    model = Student(torch.float32)
    nn.init.constant_(model.body.weight, torch.nan)
    finding = tl.dtypes.judge(tl.dtypes.probe(model, torch.randn(2, 8)))["DTY005"]
    assert finding.level is Level.FAIL
    assert finding.fix.startswith("look at the batch and the weights")


def test_the_gradient_of_the_batch_is_left_as_found():
    x = torch.randn(2, 8, requires_grad=True)
    tl.dtypes.probe(Student(torch.float32), x, loss=mean_square)
    assert x.grad is None


def test_a_fix_that_makes_the_model_half_is_not_offered_for_training(healthy):
    half = replace(
        healthy,
        reference="float16",
        tensor_dtype=("float16", *healthy.tensor_dtype[1:]),
        fix_code=("model.get_submodule('body').to(torch.float16)",),
        fix_cause=("module body",),
        fix_dtype=("float32",),
    )
    assert tl.dtypes.judge(half)["DTY008"].fix == "cast body.weight to float32 before the optimizer is made"


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


def test_an_error_that_the_model_catches_by_itself_is_no_crash():
    class Careful(Student):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.body(x))
            try:
                return self.projector(y)
            except RuntimeError:
                return self.projector(y.half())

    result = tl.dtypes.probe(Careful(), torch.randn(2, 8))
    assert result.site_kind == ("caught",)
    assert level(result, "DTY002") is Level.OK
