"""Kernels that attend by themselves: the map that follows from what they are given is the eager one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import visit


class Functional(nn.Module):
    def __init__(self, function, **attributes):
        super().__init__()
        self.function = function
        vars(self).update(attributes)

    def forward(self, *batch):
        return self.function(*batch)


def weights_of(call):
    """The map that a call stands for, by what `Call` promises."""
    if call.weights is not None:
        return call.weights.float()
    q, k = call.q.float(), call.k.float()
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * call.scale
    if call.mask is not None:
        scores = (
            scores.masked_fill(~call.mask, -math.inf) if call.mask.dtype == torch.bool else scores + call.mask
        )
    if call.causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    if call.change is not None:
        scores = call.change(scores, torch.arange(len(scores)), torch.arange(scores.shape[2]))
    return scores.softmax(-1).nan_to_num(0)


def record(model, *batch, training=False, **named):
    """What a model's attentions are: (calls without tensors, maps, projections, coverage, output)."""
    calls, maps, projections = [], [], {}

    def heard(call):
        weights = weights_of(call)
        v = call.v.float().repeat_interleave(weights.shape[1] // call.v.shape[1], 1)
        assert call.out.dtype != torch.float32 or (weights @ v - call.out).abs().max() < 1e-5 or training
        assert not call.out.requires_grad
        assert not torch.is_grad_enabled()
        calls.append((call.module, call.kernel, call.site))
        maps.append(weights.clone())

    with (
        visit(model, train=training),
        capture(model, heard, lambda n, w: projections.update({n: w.clone()})) as coverage,
    ):
        out = model(*batch, **named)
    assert coverage.recorded == len(calls)
    return calls, maps, projections, coverage, out


def close(found, expected, within=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= within


def eager(q, k, mask=None, scale=None):
    """(…, query, depth), (…, key, depth) -> (…, query, key); a row that sees nothing is 0."""
    scores = q.float() @ k.float().mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).nan_to_num(0)


LOWER = torch.ones(6, 9, dtype=torch.bool).tril()
SOME = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0)) < 0.7
BLIND = SOME.clone()
BLIND[0, 0, 2] = False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("options", "mask", "scale"),
    [
        ({}, None, None),
        ({"is_causal": True}, LOWER, None),
        ({"scale": 0.7}, None, 0.7),
        ({"attn_mask": SOME}, SOME, None),
        ({"attn_mask": BLIND}, BLIND, None),
        ({"attn_mask": SOME[0, 0]}, SOME[0, 0], None),
        ({"attn_mask": SOME[:, :, :1]}, SOME[:, :, :1], None),
        ({"attn_mask": SOME[:, :, :, :1] | True}, None, None),
        ({"attn_mask": torch.linspace(-3, 2, 9)[None]}, torch.linspace(-3, 2, 9), None),
    ],
)
def test_scaled_dot_product(dtype, options, mask, scale):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 8, dtype=dtype) for n in (6, 9, 9))
    if "attn_mask" in options and options["attn_mask"].is_floating_point():
        options = {"attn_mask": options["attn_mask"].to(dtype)}
    _, (found,), _, _, _ = record(
        Functional(lambda *b: functional.scaled_dot_product_attention(*b, **options)), q, k, v
    )
    within = 1e-5 if dtype != torch.bfloat16 else 2e-2
    close(found, eager(q, k, mask, scale), within)


@pytest.mark.parametrize(
    "function",
    [
        functional.scaled_dot_product_attention,
        torch._C._nn.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
        torch.ops.aten._scaled_dot_product_attention_math.default,
    ],
)
def test_however_it_is_called(function):
    q, k, v = (torch.randn(2, 4, n, 8) for n in (6, 9, 9))
    _, (found,), _, _, _ = record(Functional(function), q, k, v)
    close(found, eager(q, k))


def test_groups_of_heads_share_keys():
    q, k, v = (torch.randn(2, heads, 6, 8) for heads in (6, 2, 2))
    model = Functional(lambda *b: functional.scaled_dot_product_attention(*b, enable_gqa=True))
    _, (found,), _, _, _ = record(model, q, k, v)
    close(found, eager(q, k.repeat_interleave(3, 1)))


@pytest.mark.parametrize(
    ("shape", "heads", "expected"),
    [
        ((6, 8), {}, (1, 1, 6, 6)),
        ((5, 6, 8), {}, (5, 1, 6, 6)),
        ((4, 6, 8), {"num_heads": 2}, (2, 2, 6, 6)),
        ((2, 5, 3, 6, 8), {}, (10, 3, 6, 6)),
        ((2, 3, 5, 6, 8), {"heads": 3}, (10, 3, 6, 6)),
    ],
)
@pytest.mark.parametrize("kernel", [True, False])
def test_what_stands_in_front_is_folded(shape, heads, expected, kernel):
    q = torch.randn(shape)
    function = (
        functional.scaled_dot_product_attention
        if kernel
        else lambda q, k, v: (q @ k.mT / 8**0.5).softmax(-1) @ v
    )
    _, (found,), _, _, _ = record(Functional(function, **heads), q, q, q)
    true = eager(q, q)
    if heads and len(shape) == 5:
        true = true.movedim(1, 2)
    close(found, true.reshape(expected))


def test_masks_of_folded_windows():
    q, mask = torch.randn(2, 5, 3, 6, 8), torch.rand(5, 1, 6, 6) < 0.8
    model = Functional(lambda q: functional.scaled_dot_product_attention(q, q, q, attn_mask=mask))
    _, (found,), _, _, _ = record(model, q)
    close(found, eager(q, q, mask).flatten(0, 1))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "function", [functional.scaled_dot_product_attention, lambda q, k, v: (q @ k.mT / 8**0.5).softmax(-1) @ v]
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap(function, nested):
    q, k, v = torch.randn(3, 2, 4, 6, 8), torch.randn(2, 4, 6, 8), torch.randn(3, 2, 4, 6, 8)
    if nested:  # the inner one over another axis than the first
        inner = torch.vmap(function, in_dims=(1, 0, 1))
        model = Functional(
            torch.vmap(lambda q, k, v: inner(q.transpose(0, 1), k, v.transpose(0, 1)), (0, None, 0))
        )
    else:
        model = Functional(torch.vmap(function, in_dims=(0, None, 0)))
    _, (found,), _, _, _ = record(model, q, k, v)
    close(found, eager(q, k).flatten(0, 1))


def test_gradients_of_functions():
    q = torch.randn(2, 4, 6, 8)
    model = Functional(torch.func.grad(lambda q: functional.scaled_dot_product_attention(q, q, q).sum()))
    _, (found,), _, _, _ = record(model, q)
    close(found, eager(q, q))


def test_autocast_queries_are_what_the_kernel_used():
    q, seen = torch.randn(2, 4, 6, 8), []
    model = Functional(lambda q: functional.scaled_dot_product_attention(q, q, q))
    with (
        torch.autocast("cpu", torch.bfloat16),
        capture(model, lambda c: seen.append((c.q.dtype, c.q == q.bfloat16()))),
    ):
        model(q)
    assert seen[0][0] == torch.bfloat16
    assert seen[0][1].all()


# --- flex attention


def shifted(score, _b, head, query, key):
    return 5 * torch.tanh(score / 5) - 0.3 * head * (query - key).abs()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("lse", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_flex_attention(compiled, lse):
    q, k, v = (torch.randn(2, heads, 128, 16) for heads in (4, 2, 2))
    bias = torch.randn(128)
    mask = create_block_mask(lambda _b, _h, query, key: query >= key, 2, 4, 128, 128, device="cpu")
    function = torch.compile(flex_attention) if compiled else flex_attention

    def forward(q, k, v):
        def change(score, b, h, query, key):
            return shifted(score, b, h, query, key) + bias[key]

        out = function(q, k, v, score_mod=change, block_mask=mask, scale=0.2, enable_gqa=True, return_lse=lse)
        return out[0] if lse else out

    calls, (found,), _, _, _ = record(Functional(forward), q, k, v)
    scores = 0.2 * q @ k.repeat_interleave(2, 1).mT
    away = (torch.arange(128)[:, None] - torch.arange(128)).abs()
    scores = 5 * torch.tanh(scores / 5) - 0.3 * torch.arange(4)[:, None, None] * away + bias
    close(found, scores.masked_fill(~torch.ones(128, 128, dtype=torch.bool).tril(), -math.inf).softmax(-1))
    assert calls[0][1] == "FlexAttentionAutogradOp"


# --- torch.nn


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({}, {"need_weights": False}),
        ({"batch_first": True}, {"key_padding_mask": torch.arange(6) > torch.tensor([[9], [3]])}),
        ({"batch_first": True}, {"attn_mask": ~torch.ones(6, 6, dtype=torch.bool).tril()}),
        ({"batch_first": True}, {"attn_mask": torch.randn(8, 6, 6), "need_weights": False}),
        ({"kdim": 16, "vdim": 16}, {}),
        ({"add_bias_kv": True}, {}),
        ({"add_zero_attn": True, "bias": False}, {}),
    ],
)
@pytest.mark.parametrize("self_attention", [False, True])
def test_multi_head_attention(options, call, training, self_attention):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4, **options)
    x = torch.randn(2, 6, 16)
    y = x if self_attention else torch.randn(2, 6, 16)
    batch = (x, y, y) if options.get("batch_first") else (x.transpose(0, 1), *(2 * [y.transpose(0, 1)]))
    if self_attention and not options.get("batch_first"):
        batch = 3 * [batch[0]]
    _, (found,), projections, _, _ = record(model, *batch, training=training, **call)
    expected = model(*batch, **{**call, "need_weights": True}, average_attn_weights=False)[1]
    close(found, expected)
    close(projections[0], model.out_proj.weight.detach().unflatten(1, (4, 4)))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "named",
    [
        {},
        {"src_key_padding_mask": torch.arange(6) > torch.tensor([[9], [3], [4]])},
        {"mask": ~torch.ones(6, 6, dtype=torch.bool).tril()},
    ],
)
@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning", "ignore:enable_nested_tensor:UserWarning")
def test_encoder_keeps_its_fast_path(first, named):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=first)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 6, 16)
    with torch.no_grad():
        plain = model(x, **named)
    calls, maps, projections, _, out = record(model, x, **named)
    assert torch.equal(out, plain)
    assert [call[:2] for call in calls] == [
        (f"layers.{i}.self_attn", "transformer_encoder_layer_fwd") for i in range(2)
    ]
    slow, expected, _, _, _ = _slow(model, x, named)
    assert [call[1] for call in slow] == ["scaled_dot_product_attention"] * 2
    real = torch.ones(3, 6, dtype=torch.bool)
    if "src_key_padding_mask" in named:
        real = ~named["src_key_padding_mask"]
    for found, true in zip(maps, expected, strict=True):
        close(found.transpose(1, 2)[real], true.transpose(1, 2)[real])
    assert projections.keys() == {0, 1}


def _slow(model, x, named):
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return record(model, x, **named)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_decoder():
    layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
    model, x, memory = nn.TransformerDecoder(layer, 2).eval(), torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    calls, maps, projections, _, _ = record(
        model, x, memory, tgt_mask=~torch.ones(5, 5, dtype=torch.bool).tril()
    )
    assert [call[0].rpartition(".")[2] for call in calls] == ["self_attn", "multihead_attn"] * 2
    assert [tuple(each.shape) for each in maps] == [(2, 4, 5, 5), (2, 4, 5, 7)] * 2
    assert len(projections) == 4
    assert (maps[0] == maps[0].tril()).all()


def test_a_bias_that_is_an_object():
    q, k = torch.randn(2, 4, 4, 8), torch.randn(2, 4, 9, 8)
    model = Functional(
        lambda q, k: functional.scaled_dot_product_attention(q, k, k, attn_mask=causal_lower_right(4, 9))
    )
    _, (found,), _, _, _ = record(model, q, k)
    close(found, eager(q, k, torch.ones(4, 9, dtype=torch.bool).tril(5)))


@pytest.mark.filterwarnings("ignore")
def test_nested_sequences_off_the_fast_path():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    model.layers[0].linear1.register_forward_hook(lambda *_: None)
    padding = torch.arange(6) > torch.tensor([[9], [3], [4]])
    _, _, _, coverage, _ = record(model, torch.randn(3, 6, 16), src_key_padding_mask=padding)
    assert coverage.recorded + sum(missed.count for missed in coverage.missed if missed.attends) >= 2


def test_encoder_under_autocast_is_left_alone():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.randn(2, 6, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = layer(x)
        maps = []
        with capture(layer, lambda call: maps.append(weights_of(call))) as coverage:
            assert torch.equal(layer(x), plain)
    assert not coverage.missed
    close(maps[0], record(layer, x)[1][0], 2e-2)
