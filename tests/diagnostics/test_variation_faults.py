"""The rules and views of `variation`: planted faults found and named, each rule on hand-made results."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainlab as tl
from trainlab.diagnostics.variation import VariationLimits, VariationResult, probe
from trainlab.examples import tiny
from trainlab.finding import Findings, Level

from .variation_models import judge, looked_at, mlp, models, noise, seeded, tiny_case

# --- planted faults


def culprit_of(model: nn.Module, batch: object, **settings: Any) -> str:
    findings = looked_at(model, batch, **settings)[1]
    assert findings["VAR002"].level is Level.FAIL, str(findings)
    return findings["VAR003"].evidence[0].where


def test_the_sick_twins() -> None:
    expected = {
        "zero_head": ("VAR002", Level.FAIL, "head.out"),
        "constant_bias": ("VAR002", Level.FAIL, "head.out"),
        "dead_relu": ("VAR002", Level.FAIL, "head.relu"),
        "only_tau": ("VAR004", Level.FAIL, "ignores x and reads only tau: its movement dies in embed"),
        "nan_weight": ("VAR001", Level.FAIL, "blocks.1.mlp.0 is the first module to make one"),
        "uniform_attention": ("VAR005", Level.WARN, "blocks.0.space"),
        "uniform_time_attention": ("VAR003", Level.WARN, "blocks.1.time.query"),
    }
    assert set(expected) == set(tiny.KINDS)
    for kind, (code, level, text) in expected.items():
        finding = looked_at(**tiny_case(kind))[1][code]
        assert finding.level is level, (kind, finding)
        assert text in finding.text, (kind, finding)


@torch.no_grad()
def test_faults_in_the_layers_of_torch() -> None:
    made = {}
    for name in models():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made[name] = models()[name]
    encoder, tokens = made["encoder"]
    nn.init.zeros_(encoder.layers[0].norm2.weight)
    assert culprit_of(encoder, tokens) == "layers.0.norm2"
    conv, images = made["conv"]
    nn.init.constant_(conv[1].bias, -30.0)
    assert culprit_of(conv, images) == "2"  # the ReLU that works in place
    lstm, _ = made["lstm"]
    lstm.bias_ih_l0[:8] = -200.0  # the input gate is shut
    assert culprit_of(nn.Sequential(lstm), tokens) == "0"
    embedding, ids = made["embedding"]
    embedding[0].weight.copy_(embedding[0].weight[:1].clone().expand(9, 8))
    assert culprit_of(embedding, ids) == "0"


def test_a_layer_called_twice_has_a_row_a_call_and_is_dead_only_if_all_are() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.same(torch.relu(self.same(x))))

    result, findings = looked_at(seeded(Twice), noise(8, 6))
    assert [row["call"] for row in result.rows("layer") if row["name"] == "same"] == [0, 1]
    assert findings.verdict is Level.OK


def test_a_dead_branch_shows_behind_its_residual_stream() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.branch(x)

    model = nn.Sequential(seeded(Block), seeded(Block, 1), nn.Linear(6, 2))
    nn.init.zeros_(model[1].branch[1].weight)
    findings = looked_at(model, noise(8, 6))[1]
    assert findings["VAR002"].level is Level.OK
    assert findings["VAR003"].level is Level.WARN
    assert findings["VAR003"].evidence[0].where == "branch: 1.branch.1"


def test_what_forward_itself_kills_is_laid_at_its_own_door() -> None:
    class Muted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return 0 * self.inner(x) + 1

    assert culprit_of(nn.Sequential(Muted(), nn.Linear(6, 2)), noise(8, 6)) == "0"


def test_what_is_left_in_half_precision_is_rounding() -> None:
    model = seeded(mlp)
    with torch.no_grad():
        model[3].weight.mul_(1e-4)
        model[3].bias.copy_(torch.tensor([1.0, -0.7, 0.3]))
    model.to(torch.bfloat16)
    result, findings = looked_at(model, noise(32, 6).bfloat16())
    assert findings["VAR002"].level is Level.FAIL
    assert result.output_floor >= torch.finfo(torch.bfloat16).eps


# --- at init


def headed() -> nn.Sequential:
    model = mlp()
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[3].bias)
    return model


def test_a_zero_head_before_the_first_step_is_no_fault() -> None:
    findings = looked_at(seeded(headed), noise(8, 6), fresh=seeded(headed))[1]
    assert findings["VAR002"].level is Level.SKIP
    assert "zero-initialised 3" in findings["VAR002"].text
    assert findings.verdict is Level.OK


def test_a_zero_head_of_another_seed_may_or_may_not_be_trained() -> None:
    result, findings = looked_at(seeded(headed, 1), noise(8, 6), fresh=seeded(headed, 2))
    assert result.trained is None
    assert findings["VAR002"].level is Level.WARN
    assert "by design before the first step, a fault of 3 after" in findings["VAR002"].text


def test_a_zero_head_after_training_is_a_fault() -> None:
    model = seeded(headed)
    with torch.no_grad():
        model[3].bias.add_(0.1)
    result, findings = looked_at(model, noise(8, 6), fresh=seeded(headed))
    assert result.trained is True
    assert findings["VAR002"].level is Level.FAIL
    assert "as it was at init, although the model has been trained" in findings["VAR002"].text


@pytest.mark.parametrize(("step", "level"), [(0, Level.SKIP), (500, Level.FAIL)])
def test_the_step_of_the_checkpoint_decides(step: int, level: Level) -> None:
    @dataclasses.dataclass
    class Ckpt:
        metadata: dict[str, int]

    findings = looked_at(seeded(headed, 1), noise(8, 6), fresh=seeded(headed, 2), ckpt=Ckpt({"iter": step}))[
        1
    ]
    assert findings["VAR002"].level is level


# --- each rule on hand-made results


@pytest.fixture(scope="module")
def well() -> VariationResult:
    return probe(**tiny_case(None))


def changed(r: VariationResult, **fields: object) -> Findings:
    return judge(dataclasses.replace(r, **fields))


def test_each_rule_stays_quiet_and_fires(well: VariationResult) -> None:
    calls = len(well.layer_name)
    zeros = np.zeros(calls)
    still = {"output_variation": 0.0, "output_typical": 0.0, "layer_variation": zeros, "layer_typical": zeros}
    deaf = {"source_variation": np.array([0.0, 0.2]), "source_typical": np.array([0.0, 0.2])}
    fires: dict[str, dict[str, object]] = {
        "VAR001": {"output_nan": 3},
        "VAR002": still,
        "VAR003": still,
        "VAR004": deaf,
        "VAR005": {"axis_variation": np.zeros(len(well.axis))},
        "VAR006": {"output_at_edge": 0.97, "target_at_edge": 0.1},
    }
    assert {f.level for f in judge(well)} == {Level.OK}
    for code, fields in fires.items():
        finding = changed(well, **fields)[code]
        assert finding.level in (Level.WARN, Level.FAIL), code
        assert finding.fix, code


def test_limits_can_be_moved(well: VariationResult) -> None:
    assert judge(well, variation_min=0.5)["VAR002"].level is Level.OK  # its target varies by 0.36 itself
    strict = judge(well, variation_min=0.5, target_share=2.0)["VAR002"]
    assert strict.level is Level.FAIL
    assert strict.evidence[0].limit == 0.5
    assert VariationLimits().variation_min == 7e-4


def test_half_precision_near_its_end_is_a_warning(well: VariationResult) -> None:
    assert changed(well, output_dtype="float16", output_maximum=60000.0)["VAR006"].level is Level.WARN


# --- pictures


@pytest.mark.parametrize("view", ["profile", "sources", "distances", "predictions"])
def test_pictures_of_shapes(view: str) -> None:
    for model, batch in (
        (seeded(mlp), noise(4, 6)),
        (nn.Conv2d(3, 2, 3, padding=1), noise(4, 3, 16, 16)),
        (nn.Linear(5, 7), noise(4, 6, 5)),
        (nn.Sequential(nn.Linear(6, 1)), noise(4, 6)),
    ):
        picture = tl.variation.plot(probe(model, batch), view)
        assert len(picture.png()) > 3000


def test_a_deep_profile_keeps_its_names_apart_and_its_dead() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(80)), nn.Linear(6, 2))
    for index, layer in enumerate(m for m in model.modules() if isinstance(m, nn.Linear)):
        torch.nn.init.eye_(layer.weight)
        nn.init.constant_(layer.bias, 0.0 if index != 41 else 1.0)
    nn.init.zeros_(model[41][0].weight)
    result = probe(model, noise(4, 6))
    picture = tl.variation.plot(result, "profile")
    names = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert "41.0" in names
    assert len(names) <= 40
    inside = tl.variation.plot(result, "profile", inside="41")
    assert [label.get_text() for label in inside.axes[0].get_yticklabels()] == ["41.0", "41.1", "41"]


# --- other people's models


def test_hugging_face_models() -> None:
    transformers = pytest.importorskip("transformers")
    try:
        build_bert, build_gpt, build_vit = (
            transformers.BertForSequenceClassification,
            transformers.GPT2LMHeadModel,
            transformers.ViTForImageClassification,
        )
    except (ImportError, RuntimeError):
        pytest.skip("transformers cannot be imported whole here")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ids = torch.randint(1, 40, (6, 8), generator=torch.Generator().manual_seed(0))
    gpt_config = transformers.GPT2Config(
        vocab_size=40, n_embd=32, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    vit_config = transformers.ViTConfig(image_size=16, patch_size=4, **small)
    cases = {
        "bert.embeddings.LayerNorm": (
            seeded(lambda: build_bert(transformers.BertConfig(vocab_size=40, **small))),
            {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(6) % 2},
        ),
        "transformer.ln_f": (seeded(lambda: build_gpt(gpt_config)), {"input_ids": ids}),
        "vit.layernorm": (seeded(lambda: build_vit(vit_config)), {"pixel_values": noise(6, 3, 16, 16)}),
    }
    for name, (model, batch) in cases.items():
        result, findings = looked_at(model, batch)
        assert result.output_name == "logits"
        assert findings.verdict is Level.OK, str(findings)
        nn.init.zeros_(model.get_submodule(name).weight)
        assert culprit_of(model, batch) == name


def test_timm_models() -> None:
    try:
        import timm
    except (ImportError, RuntimeError):
        pytest.skip("timm cannot be imported here")
    model = seeded(lambda: timm.create_model("resnet10t", num_classes=5))
    images = noise(4, 3, 64, 64)
    assert looked_at(model, images)[1]["VAR002"].level is Level.OK
    nn.init.zeros_(model.fc.weight)
    assert culprit_of(model, images) == "fc"
