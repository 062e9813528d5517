"""Torch's own attention: fused, flex, multi-head modules, encoders; and attention inside what transforms a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as imported_under_another_name
from torch.utils.checkpoint import checkpoint

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.families import WORDS, hugging_face
from benchmarks.attention_maps.forms import LENGTH, WIDTH, Stack, causal, form_case, scores, stack_truth
from benchmarks.attention_maps.text_families import GPT, GROUPS
from benchmarks.attention_maps.truth import by_patching
from trainlab.visit import call

__all__ = ["fused", "modules", "transformed"]

sdpa = imported_under_another_name
Forward = Callable[[nn.Module, Any], object]


def seen(length: int = LENGTH) -> Tensor:
    """A random mask in which each query sees itself."""
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(length, length, generator=generator) < 0.5) | torch.eye(length, dtype=torch.bool)


def unseen(_: Tensor, __: Tensor) -> Tensor:
    """Minus infinity where the random mask is False."""
    return torch.where(seen(), 0.0, -math.inf)


def slope(q: Tensor, k: Tensor) -> Tensor:
    """A relative bias."""
    return 0.1 * (torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2]))


def capped(q: Tensor, k: Tensor) -> Tensor:
    """What a soft cap at 2 adds to the scores."""
    raw = q @ k.mT / math.sqrt(q.shape[-1])
    return 2 * torch.tanh(raw / 2) - raw


def blind(_: Tensor, __: Tensor) -> Tensor:
    """Two rows that see nothing."""
    bias = torch.zeros(LENGTH, LENGTH)
    bias[2:4] = -math.inf
    return bias


def folded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Batch and head in one axis."""
    return sdpa(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)).view(q.shape)


def blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flex attention with a causal block mask."""
    mask = create_block_mask(lambda _b, _h, i, j: i >= j, None, None, q.shape[-2], k.shape[-2], device="cpu")
    return flex_attention(q, k, v, block_mask=mask)


def both_mods(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flex attention with a soft cap and a causal block mask, key heads in groups."""
    mask = create_block_mask(lambda _b, _h, i, j: i >= j, None, None, q.shape[-2], k.shape[-2], device="cpu")
    cap = lambda score, *_: 2 * torch.tanh(score / 2)  # noqa: E731
    return flex_attention(q, k, v, score_mod=cap, block_mask=mask, enable_gqa=True)


def capped_causal(q: Tensor, k: Tensor) -> Tensor:
    """The cap and the causal mask together."""
    return capped(q, k.repeat_interleave(q.shape[1] // k.shape[1], 1)) + causal(q, k)


def fused() -> tuple[Case, ...]:
    """The fused function and flex attention, each in a stack, its truth in closed form."""
    kind = "fused"
    return (
        form_case("sdpa", functional.scaled_dot_product_attention, kind=kind),
        form_case("sdpa, imported under another name", sdpa, kind=kind),
        form_case("sdpa of torch._C._nn", torch._C._nn.scaled_dot_product_attention, kind=kind),  # noqa: SLF001
        form_case("sdpa of torch.ops.aten", torch.ops.aten.scaled_dot_product_attention, kind=kind),
        form_case("sdpa, is_causal", lambda q, k, v: sdpa(q, k, v, is_causal=True), causal, kind=kind),
        form_case("sdpa, bool mask", lambda q, k, v: sdpa(q, k, v, attn_mask=seen()), unseen, kind=kind),
        form_case("sdpa, float mask", lambda q, k, v: sdpa(q, k, v, slope(q, k)), slope, kind=kind),
        form_case("sdpa, scale", lambda q, k, v: sdpa(q, k, v, scale=q.shape[-1] ** -0.5), kind=kind),
        form_case("sdpa, rows that see nothing", lambda q, k, v: sdpa(q, k, v, attn_mask=blind(q, k)), blind, kind=kind),
        form_case("sdpa, enable_gqa", lambda q, k, v: sdpa(q, k, v, enable_gqa=True), key_heads=2, kind=kind),
        form_case("sdpa, key heads repeated", lambda q, k, v: sdpa(q, *(e.repeat_interleave(2, 1) for e in (k, v))), key_heads=2, kind=kind),
        form_case("sdpa, cross", sdpa, cross=True, kind=kind),
        form_case("sdpa, three axes", folded, kind=kind),
        form_case("sdpa, no batch", sdpa, batch=0, kind=kind),
        form_case("sdpa, train mode", lambda q, k, v: sdpa(q, k, v, dropout_p=0.0), train=True, kind=kind),
        form_case("flex", flex_attention, kind=kind),
        form_case("flex, score_mod", lambda q, k, v: flex_attention(q, k, v, lambda s, _b, _h, i, j: s + 0.1 * (i - j)), slope, kind=kind),
        form_case("flex, block_mask", blocks, causal, kind=kind),
        form_case("flex, soft cap, block mask, groups", both_mods, capped_causal, key_heads=2, kind=kind),
    )  # fmt: skip


# --- torch's modules


def _module(
    name: str, build: Callable[[], nn.Module], batch: Callable[[], object], *, train: bool = False, truth: Any = by_patching
) -> Case:  # fmt: skip
    return Case(name, "torch.nn", lambda: Subject(build(), [batch()]), truth, train=train)


def _heads(batch: int = 2, length: int = LENGTH, keys: int = LENGTH, **more: object) -> Callable[[], object]:
    def make() -> object:
        source = torch.randn(batch, keys, WIDTH)
        x = torch.randn(batch, length, WIDTH) if keys != length else source
        return {"query": x, "key": source, "value": source, **more}

    return make


def _padding() -> Tensor:
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[1, -3:] = True
    return padding


def _valid_rows(subject: Subject, batch: object) -> list[Tensor]:
    """Truth of a nested encoder: what padded queries look at is not known, as they are not there."""
    maps = by_patching(subject, batch)
    for map_ in maps:
        map_[1, :, -3:] = math.nan
    return maps


def tokens() -> Tensor:
    """(batch, token, width)."""
    return torch.randn(2, LENGTH, WIDTH)


def heads(**more: object) -> nn.Module:
    """Multi-head attention."""
    settings: dict[str, Any] = {"batch_first": True, **more}
    return nn.MultiheadAttention(WIDTH, 4, **settings)


def layer(**more: object) -> nn.TransformerEncoderLayer:
    """An encoder layer."""
    settings: dict[str, Any] = {"batch_first": True, "dropout": 0.0, **more}
    return nn.TransformerEncoderLayer(WIDTH, 4, 64, **settings)


def encoder(*, nested: bool = True) -> nn.Module:
    """Two layers."""
    return nn.TransformerEncoder(layer(), 2, enable_nested_tensor=nested)


def decoder() -> nn.TransformerDecoderLayer:
    """A decoder layer."""
    return nn.TransformerDecoderLayer(WIDTH, 4, 64, batch_first=True)


def modules() -> tuple[Case, ...]:
    """Multi-head attention and the transformers of torch.nn."""
    x = tokens
    upper = causal(x(), x()).isinf()
    whole = nn.Transformer
    return (
        _module("mha", heads, _heads(need_weights=False)),
        _module("mha, weights wanted", heads, _heads()),
        _module("mha, each head's weights wanted", heads, _heads(average_attn_weights=False)),
        _module("mha, train mode", lambda: heads(dropout=0.1), _heads(need_weights=False), train=True),
        _module("mha, length first", lambda: heads(batch_first=False), _heads(need_weights=False)),
        _module("mha, cross", heads, _heads(keys=7, need_weights=False)),
        _module("mha, padding", heads, _heads(key_padding_mask=_padding(), need_weights=False)),
        _module("mha, causal mask", heads, _heads(attn_mask=upper, is_causal=True, need_weights=False)),
        _module("mha, mask and padding", heads, _heads(attn_mask=upper, key_padding_mask=_padding())),
        _module("mha, other widths", lambda: heads(kdim=8, vdim=6), lambda: (x(), torch.randn(2, 7, 8), torch.randn(2, 7, 6))),
        _module("mha, bias_kv and zero", lambda: heads(add_bias_kv=True, add_zero_attn=True), _heads(need_weights=False)),
        _module("mha, no batch", heads, lambda: {n: torch.ones(5, WIDTH).cumsum(0) for n in ("query", "key", "value")}),
        _module("encoder layer", layer, x),
        _module("encoder layer, norm first", lambda: layer(norm_first=True), x),
        _module("encoder layer, length first", lambda: layer(batch_first=False), x),
        _module("encoder layer, train mode", layer, x, train=True),
        _module("encoder layer, causal mask", layer, lambda: {"src": x(), "src_mask": upper, "is_causal": True}),
        _module("encoder", lambda: encoder(nested=False), x),
        _module("encoder, padding", lambda: encoder(nested=False), lambda: {"src": x(), "src_key_padding_mask": _padding()}),
        _module("encoder, nested tensors", encoder, lambda: {"src": x(), "src_key_padding_mask": _padding()}, truth=_valid_rows),
        _module("encoder, train mode", encoder, x, train=True),
        _module("decoder layer", decoder, lambda: (x(), torch.randn(2, 6, WIDTH))),
        _module("decoder", lambda: nn.TransformerDecoder(decoder(), 2), lambda: {"tgt": x(), "memory": torch.randn(2, 6, WIDTH), "tgt_mask": upper}),
        _module("transformer", lambda: whole(WIDTH, 4, 1, 1, 64, batch_first=True), lambda: (x(), torch.randn(2, 6, WIDTH))),
        _module("transformer, train mode", lambda: whole(WIDTH, 4, 1, 1, 64, 0.0, batch_first=True), lambda: (x(), torch.randn(2, 6, WIDTH)), train=True),
    )  # fmt: skip


# --- transformed models


class Checkpointed(Stack):
    """Layers that forget their activations."""

    reentrant = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Run each layer in a checkpoint."""
        for layer in self.layers:
            x = x + checkpoint(layer, x, context, use_reentrant=self.reentrant)
        return x


def half(model: nn.Module, batch: Any) -> object:
    """Run under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        return call(model, batch)


def mapped(model: nn.Module, batch: Any) -> object:
    """Run on each entry, vectorised."""
    return torch.vmap(model)(batch)


def generated(model: nn.Module, batch: Any) -> object:
    """Write four tokens with a cache of keys and values."""
    return model.generate(**batch, max_new_tokens=4, do_sample=False, pad_token_id=0)


def _hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores(q, k).softmax(-1) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


def _compiled(stack: nn.Module) -> nn.Module:
    return torch.compile(stack, backend="eager")


def _in_place(stack: nn.Module) -> nn.Module:
    stack.compile(backend="eager")
    return stack


def _exported(stack: nn.Module) -> nn.Module:
    return torch.export.export(stack.eval(), (torch.randn(2, LENGTH, WIDTH),)).module()


def _traced_fx(stack: nn.Module) -> nn.Module:
    return torch.fx.symbolic_trace(stack, concrete_args={"context": None})


def _written(name: str, model: str, config: str, settings: Any, padded: bool = False) -> Case:
    def make() -> Subject:
        ids = torch.randint(5, WORDS, (2, 6))
        mask = torch.ones_like(ids)
        mask[1, :2] = 0
        batch = {"input_ids": ids, "attention_mask": mask} if padded else {"input_ids": ids}
        made = hugging_face(model, config, settings, lambda: [batch])
        return Subject(made.model, made.batches, None if padded else made.eager, generated)

    return Case(name, "transformed", make, by_patching)


def transformed() -> tuple[Case, ...]:
    """Attention under autocast, compilation, checkpoints, export, vmap; and with a cache."""
    x = tokens
    cases = []
    for name, attend in (("sdpa", _fused), ("by hand", _hand)):

        def stack(attend: Any = attend) -> Stack:
            return Stack(attend)

        def compiled_inside(attend: Any = attend) -> Stack:
            return Stack(torch.compile(attend, backend="eager"))

        def forgetting(attend: Any = attend) -> Stack:
            return Checkpointed(attend)

        def add(
            title: str,
            make: Callable[[], Subject],
            truth: Any = by_patching,
            name: str = name,
            train: bool = False,
        ) -> None:
            cases.append(Case(f"{title}: {name}", "transformed", make, truth, train=train))

        def turned(turn: Callable[[nn.Module], nn.Module], stack: Any = stack) -> Callable[[], Subject]:
            def make() -> Subject:
                plain = stack()
                twin = stack()
                twin.load_state_dict(plain.state_dict())
                return Subject(turn(plain), [x()], twin)

            return make

        add("autocast bfloat16", lambda stack=stack: Subject(stack(), [x()], run=half))
        add("model in bfloat16", lambda stack=stack: Subject(stack().bfloat16(), [x().bfloat16()]))
        add("torch.compile", turned(_compiled), stack_truth())
        add("module.compile()", turned(_in_place), stack_truth())
        add("compiled function inside", lambda make=compiled_inside: Subject(make(), [x()]), stack_truth())
        add("checkpoint", lambda make=forgetting: Subject(make(), [x()]), stack_truth(), train=True)
        add("torch.export", turned(_exported), stack_truth())
        add("torch.fx", turned(_traced_fx), stack_truth())
        add("vmap", lambda stack=stack: Subject(stack(), [x()], run=mapped), stack_truth())
    encoder = nn.TransformerEncoderLayer
    return (
        *cases,
        Case("autocast bfloat16: encoder layer", "transformed", lambda: Subject(encoder(WIDTH, 4, 64, batch_first=True), [x()], run=half), by_patching, within=5e-3),  # what the fused layer rounds inside is not seen
        _written("cache: gpt2", "GPT2LMHeadModel", "GPT2Config", GPT),
        _written("cache: llama", "LlamaForCausalLM", "LlamaConfig", GROUPS),
        _written("cache, padded left: llama", "LlamaForCausalLM", "LlamaConfig", GROUPS, padded=True),
        _written("cache, padded left: mistral", "MistralForCausalLM", "MistralConfig", {**GROUPS, "sliding_window": 4}, padded=True),
    )  # fmt: skip
