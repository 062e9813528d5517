from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import trainlab as tl
from trainlab.diagnostics.attention import AttentionResult, probe
from trainlab.errors import NotApplicable, SubjectError, UsageError
from trainlab.examples.tiny import healthy, sick
from trainlab.progress import heard_by
from trainlab.testing import fingerprint


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 90, shape, generator=torch.Generator().manual_seed(0))


def small(name: str, **more: object) -> nn.Module:
    """A Hugging Face model of two layers and four heads, with random weights, at its default attention."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.AutoConfig.for_model(name, **sizes, **more)
    return transformers.AutoModel.from_config(config).eval()


@pytest.fixture(scope="module")
def well() -> AttentionResult:
    return probe(**healthy())


# --- what it finds


def test_space_and_time_of_a_video_model_are_told_apart(well):
    assert well.call_name == ("blocks.0.space", "blocks.1.space", "blocks.1.time")
    assert well.call_layout == ("space", "space", "time")
    assert well.call_causal.tolist() == [False, False, True]
    assert (well.batch_size, well.call_batch.tolist()) == (16, [64, 64, 256])
    assert well.call_queries.tolist() == [16, 16, 4]
    assert (well.call_frames.tolist(), well.call_height.tolist()) == ([1, 1, 4], [4, 4, 1])
    assert (well.grid, bool(well.grid_why)) == ("4x4x4", True)
    assert (len(well.head_call), well.heads_of(2)) == (6, slice(4, 6))
    assert well.head_projected.all()
    assert well.coverage() == "3 attention kernels heard, 3 recorded"
    assert well.picture.shape == (4, 8, 8, 3)


def test_the_numbers_are_those_of_the_written_out_map(well):
    subject = healthy()
    model, block = subject["model"].eval(), subject["model"].blocks[1]
    held = []
    handle = block.time.register_forward_pre_hook(lambda module, args: held.append(args[0]))
    with torch.no_grad():
        model(subject["batch"]["x"], subject["batch"]["tau"])
    handle.remove()
    with torch.no_grad():
        folded = held[0].flatten(0, 1)
        q, k, v = (
            part(folded).unflatten(-1, (2, -1)).transpose(1, 2).double()
            for part in (block.time.query, block.time.key, block.time.value)
        )
        seen = torch.ones(4, 4, dtype=torch.bool).tril()
        weights = (q @ k.mT / 4).masked_fill(~seen, -torch.inf).softmax(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1)[..., 1:] / torch.arange(2, 5).log()
    here = well.heads_of(2)
    np.testing.assert_allclose(well.head_entropy[here], entropy.mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(well.thumbnails(2), weights.mean(0), atol=1e-6)
    np.testing.assert_allclose(well.received(2), weights.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(well.frames(2), weights.mean(0), atol=1e-6)
    np.testing.assert_allclose(well.head_largest[here], weights[:, :, 1:].amax((0, 2, 3)), atol=1e-6)
    cut = block.time.out.weight.double().unflatten(1, (2, -1))
    wrote = torch.einsum("bhqd,ohd->bhqo", weights @ v, cut)
    np.testing.assert_allclose(
        well.head_write[here], wrote.square().mean((0, 2, 3)).sqrt().detach(), rtol=1e-4
    )
    for entry in well.kept(2).tolist():
        np.testing.assert_allclose(tl.attention.weights(well, 2, 1, entry), weights[entry, 1], atol=1e-6)
    assert well.frames(0).size == 0
    assert well.alike(2).shape == (2, 2)


@pytest.mark.parametrize("kind", ["uniform_time_attention", "uniform_attention"])
def test_a_twin_that_averages_is_told_from_the_healthy_one(well, kind):
    r = probe(**sick(kind))
    over_time = np.array([name.endswith("time") for name in r.call_name])[r.head_call]
    flat = over_time if kind == "uniform_time_attention" else np.full(6, fill_value=True)
    assert (r.head_entropy[flat] > 1 - 1e-6).all()
    assert (r.head_entropy[~flat] < 0.999).all()
    assert (well.head_entropy < 0.999).all()


def test_queries_are_sampled_by_the_seed(well):
    first, again, other = (probe(**healthy(), rows=200, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert not np.array_equal(first.head_entropy, other.head_entropy)
    assert first.call_measured.max() <= 200 < well.call_measured.min()
    assert ((first.head_entropy_se > 0) & (well.head_entropy_se == 0)).all()
    assert (abs(first.head_entropy - well.head_entropy) < 6 * first.head_entropy_se).all()


# --- models of all kinds


@pytest.mark.parametrize(("name", "causal"), [("llama", True), ("bert", False)])
def test_language_models_at_their_default_attention(name, causal):
    r = probe(small(name, vocab_size=100), {"input_ids": ids(2, 12)})
    assert (len(r.call_name), len(r.head_call)) == (2, 8)
    assert r.call_layout == ("sequence",) * 2
    assert r.call_causal.tolist() == [causal] * 2
    assert r.grid == ""


def test_padding_is_left_out():
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    r = probe(small("bert", vocab_size=100), {"input_ids": ids(2, 12), "attention_mask": mask})
    assert r.call_padding.tolist() == [5, 5]
    assert r.call_measured.tolist() == [19, 19]


def test_a_vision_model_has_a_grid_behind_its_class_token():
    r = probe(small("vit", image_size=32, patch_size=8), {"pixel_values": torch.randn(2, 3, 32, 32)})
    assert r.grid == "4x4"
    assert r.call_layout == ("joint",) * 2
    assert (r.call_prefix.tolist(), r.call_height.tolist(), r.call_width.tolist()) == ([1, 1], [4, 4], [4, 4])
    assert np.isfinite(r.head_reach_space).all()


def test_an_encoder_and_decoder_of_torch():
    torch.manual_seed(0)
    model = nn.Transformer(32, 4, 2, 2, 64, batch_first=True).eval()
    r = probe(model, (torch.randn(2, 9, 32), torch.randn(2, 5, 32)))
    assert (len(r.call_name), r.coverage()) == (6, "6 attention kernels heard, 6 recorded")
    crossed = [name for name, layout in zip(r.call_name, r.call_layout, strict=True) if layout == "cross"]
    assert crossed == ["decoder.layers.0.multihead_attn", "decoder.layers.1.multihead_attn"]
    assert np.isnan(r.head_self[r.heads_of(r.call_name.index(crossed[0]))]).all()


def test_a_batch_of_a_tokenizer_and_a_target_in_it():
    from transformers import BatchEncoding

    model = small("bert", vocab_size=100)
    whole = BatchEncoding({"input_ids": ids(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.int64)})
    r = probe(model, whole)
    assert r == probe(model, {**whole, "label": torch.tensor([0, 1])})
    assert (r.model_name, r.batch_size) == ("BertModel", 2)


def test_every_step_of_a_generation_is_a_call_of_its_own():
    import transformers

    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            config = small("llama", vocab_size=100).config
            self.model = transformers.LlamaForCausalLM(config)

        def forward(self, x):
            return self.model.generate(x, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0)

    r = probe(Writes(), ids(2, 6))
    assert r.call_queries.tolist() == [6, 6, 1, 1, 1, 1]
    assert r.call_keys.tolist() == [6, 6, 7, 7, 8, 8]
    assert r.call_name[-1] == "model.model.layers.1.self_attn#3"
    assert np.isfinite(r.head_entropy).all()


def test_a_module_that_attends_twice_is_numbered():
    attention = nn.MultiheadAttention(16, 2, batch_first=True)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            x = self.attention(x, x, x)[0]
            return self.attention(x, x, x)[0]

    r = probe(Twice(), torch.randn(2, 5, 16))
    assert r.call_name == ("attention", "attention#2")


# --- what is asked of it


def test_only_some_are_measured_and_the_others_counted():
    r = probe(**healthy(), only="blocks.*.space")
    assert r.call_name == ("blocks.0.space", "blocks.1.space")
    assert r.left_out == 1
    assert (
        r.coverage() == "3 attention kernels heard, 3 recorded (1 of them left out by only='blocks.*.space')"
    )


def test_nothing_kept_is_nothing_kept(well):
    none = probe(**healthy(), keep_mb=0.0)
    assert not none.call_kept.any()
    assert well.call_kept.all()
    slim = well.slim()
    assert not slim.call_kept.any()
    assert len(json.dumps(slim.to_dict())) < len(json.dumps(well.to_dict()))
    assert AttentionResult.from_dict(slim.to_dict()) == slim


def test_labels_go_with_the_tokens():
    model, batch = small("llama", vocab_size=100), {"input_ids": ids(2, 3)}
    assert probe(model, batch, labels=["a", "Ġb", "c"]).token == ("a", "␣b", "c")
    with pytest.raises(UsageError, match="there are 2 labels, and no attention has as many tokens"):
        probe(model, batch, labels=["a", "b"])


def test_a_training_mode_is_asked_for():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.5, batch_first=True)
    x = torch.randn(4, 5, 16)
    assert probe(layer, x) == probe(layer, x)
    assert probe(layer, x, train=True) == probe(layer, x, train=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"only": "blocks.*.tmie"}, "did you mean 'blocks.1.time'"),
        ({"grid": "4 by 4"}, "4 by 4"),
        ({"sink": 0}, "out of its range"),
        ({"rows": -1}, "seen: rows=-1\n  try:  rows= a whole number from 0"),
        ({"rows": "64"}, "rows='64'"),
        ({"keep_mb": float("nan")}, "keep_mb= a number from 0"),
        ({"only": 3, "seed": 0.5, "train": "yes"}, "seed=0.5, only=3, train='yes'"),
        (
            {"grid": "9x9"},
            "no attention has the tokens of the grid 9x9\n  seen: attentions over 4, 16 tokens",
        ),
        ({"labels": ["x"]}, "1 labels"),
    ],
)
def test_a_mistyped_setting_is_told_in_words(settings, words):
    with pytest.raises(UsageError) as error:
        probe(**healthy(), **settings)
    assert words in str(error.value)


def test_more_rows_than_queries_are_all_of_them(well):
    assert probe(**healthy(), rows=10**6) == well


# --- where there is nothing to show


@pytest.mark.parametrize(
    ("batch", "seen"), [(torch.zeros(0, 5, 16), "0 entries"), (torch.zeros(2, 5, 16, device="meta"), "meta")]
)
def test_a_batch_without_values_is_refused(batch, seen):
    with pytest.raises(SubjectError, match="the batch holds no values") as error:
        probe(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), batch)
    assert seen in str(error.value)


def test_a_guessed_grid_that_no_attention_has_is_dropped():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.attn = (
                nn.Conv2d(3, 16, 8, stride=8),
                nn.MultiheadAttention(16, 2, batch_first=True),
            )

        def forward(self, x):
            x = self.patches(x).flatten(2).mT[:, ::2]
            return self.attn(x, x, x)[0]

    r = probe(Pooled(), torch.randn(2, 3, 32, 32))
    assert (r.grid, r.call_layout) == ("", ("sequence",))
    assert r.grid_why.endswith("4x4, and no attention has as many tokens")


def test_a_model_without_attention_is_skipped_with_what_was_heard():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Softmax(-1))
    with pytest.raises(NotApplicable, match="nothing in Sequential attends") as error:
        probe(model, torch.randn(4, 8))
    assert "1 softmax in 2: " in str(error.value)
    findings = tl.attention.examine(model=model, batch=torch.randn(4, 8)).findings
    assert findings.verdict == "skip"
    assert "1 softmax in 2: " in findings[0].text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_attention_that_cannot_be_recorded_is_an_error_that_names_it():
    scripted = torch.jit.script(Scripted())
    with pytest.raises(SubjectError, match="none of it could be recorded") as error:
        probe(nn.Sequential(scripted), torch.randn(2, 5, 8))
    assert "TorchScript" in str(error.value)


class Scripted(nn.Module):
    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


def test_the_coverage_line_says_what_is_missing(well):
    r = dataclasses.replace(
        well,
        softmaxes=9,
        missed_kernel=("TorchScript", "TorchScript", "matmul", *["softmax"] * 5),
        missed_module=("encoder.a", "encoder.b", "mixer", *(f"router.{i}" for i in range(5))),
        missed_count=np.array([2, 1, 4, 5, 1, 1, 1, 1]),
        missed_attends=np.array([True, True, *[False] * 6]),
        missed_why=("unheard", "unheard", "no softmax", *["no values"] * 5),
    )
    assert r.coverage() == (
        "6 attention kernels heard, 3 recorded, 3 not captured (3 TorchScript in encoder.a, encoder.b: unheard); "
        "perhaps attention: 4 matmul in mixer: no softmax; "
        "9 softmaxes never met values (router.0, router.1, router.2 and 2 more)"
    )


# --- the model is left alone


def test_the_model_is_left_as_it_was_also_by_an_error():
    subject = healthy()
    model = subject["model"]
    model.blocks[0].train()
    with torch.no_grad():
        before = model(subject["batch"]["x"], subject["batch"]["tau"])
    found = fingerprint(model)
    probe(**subject)
    assert fingerprint(model) == found
    model.norm.forward = None  # the second block has attended, then it breaks
    with pytest.raises(TypeError):
        probe(**subject)
    del model.norm.forward
    assert fingerprint(model) == found
    with torch.no_grad():
        assert torch.equal(model(subject["batch"]["x"], subject["batch"]["tau"]), before)


def test_it_says_how_far_it_is():
    said = []
    with heard_by(lambda done, total, label: said.append((done, label))):
        probe(**healthy())
    assert said[0] == (0, "attention: measuring")
    assert said[-1][0] >= 3
