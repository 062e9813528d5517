"""Attention that hides: each must be exact, or named as missed; never silently absent, never shown wrong."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.attention_maps.case import Case, Expects, Subject, Truth
from benchmarks.attention_maps.families import CODER, SMALL, WORDS, case, text, words
from benchmarks.attention_maps.forms import (
    HEADS,
    LENGTH,
    WIDTH,
    Attend,
    Layer,
    Stack,
    band,
    scores,
    stack_truth,
)
from benchmarks.attention_maps.text_families import by_asking
from benchmarks.attention_maps.truth import by_patching, closed_form
from trainlab.visit import call, visit

__all__ = ["hard"]


# --- ways to attend that are no softmax left of the values


def late_division(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exp meets the values first and its sum afterwards."""
    weights = torch.exp(scores(q, k))
    return (weights @ v) / weights.sum(-1, keepdim=True)


def online(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Keys in chunks, with a running largest score and sum, as flash attention goes."""
    high = torch.full((*q.shape[:-1], 1), -math.inf)
    total, out = torch.zeros_like(high), torch.zeros_like(q)
    for keys, values in zip(k.split(4, -2), v.split(4, -2), strict=True):
        raw = scores(q, keys)
        higher = torch.maximum(high, raw.amax(-1, keepdim=True))
        part, rescale = torch.exp(raw - higher), torch.exp(high - higher)
        out, total, high = out * rescale + part @ values, total * rescale + part.sum(-1, keepdim=True), higher
    return out / total


def sparse_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Sparse matrices of a band, one head and entry at a time."""
    near = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs() <= 2
    raw = scores(q, k).masked_fill(~near, -math.inf).flatten(0, 1)
    pairs = zip(raw, v.flatten(0, 1), strict=True)
    return torch.stack([torch.sparse.mm(row.softmax(-1).to_sparse(), value) for row, value in pairs]).view(
        q.shape
    )


def in_thread(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Fused attention in another thread."""
    outs: list[Tensor] = []
    with torch.no_grad():
        worker = threading.Thread(
            target=lambda: outs.append(
                functional.scaled_dot_product_attention(q.detach(), k.detach(), v.detach())
            )
        )
        worker.start()
        worker.join()
    return outs[0]


def by_hand_in_thread(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by hand in another thread."""
    outs: list[Tensor] = []
    worker = threading.Thread(target=lambda: outs.append(scores(q, k).softmax(-1).detach() @ v.detach()))
    worker.start()
    worker.join()
    return outs[0]


@functools.cache
def _operator() -> Attend:
    @torch.library.custom_op("attention_maps::attend", mutates_args=())
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v

    return attend


def by_operator(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A user's operator, opaque to Python."""
    return _operator()(q, k, v)


class Function(torch.autograd.Function):
    """Attention with a hand-written backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend."""
        weights = scores(q, k).softmax(-1)
        ctx.save_for_backward(weights, v)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of the values alone."""
        weights, _ = ctx.saved_tensors
        return None, None, weights.mT @ grads[0]


# --- maps that are not a softmax of their own scores


def one_by_one(subject: Subject, batch: object) -> list[Tensor]:
    """A map for each entry and head of each layer."""
    return [row for map_ in stack_truth(band)(subject, batch) for row in map_.flatten(0, 1)]


class Mixed(Layer):
    """Heads mixed after the softmax (talking heads), or anything else that is done to the weights."""

    def __init__(self, mix: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(lambda q, k, v: self.weights(q, k) @ v)
        self.mix, self.heads = mix, nn.Parameter(torch.randn(HEADS, HEADS) / 2)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """What meets the values."""
        return self.mix(scores(q, k), self.heads)


def talking(raw: Tensor, heads: Tensor) -> Tensor:
    """Heads mixed after the softmax."""
    return torch.einsum("hg,bgqk->bhqk", heads, raw.softmax(-1))


def talking_before(raw: Tensor, heads: Tensor) -> Tensor:
    """Heads mixed before the softmax."""
    return torch.einsum("hg,bgqk->bhqk", heads, raw).softmax(-1)


def differential(raw: Tensor, heads: Tensor) -> Tensor:
    """The difference of two softmaxes."""
    return raw.softmax(-1) - 0.3 * (raw.flip(1) + heads[0, 0]).softmax(-1)


def quiet(raw: Tensor, _: Tensor) -> Tensor:
    """Softmax with one more in its denominator."""
    weights = raw.exp()
    return weights / (1 + weights.sum(-1, keepdim=True))


def sparsemax(raw: Tensor, _: Tensor) -> Tensor:
    """The projection on the simplex."""
    ordered = raw.sort(-1, descending=True).values
    sums = ordered.cumsum(-1) - 1
    count = (ordered * torch.arange(1, raw.shape[-1] + 1) > sums).sum(-1, keepdim=True)
    return (raw - sums.gather(-1, count - 1) / count).clamp(min=0)


def sinkhorn(raw: Tensor, _: Tensor) -> Tensor:
    """Rows and columns normalized in turn."""
    weights = raw.exp()
    for axis in (-2, -1, -2, -1):
        weights = weights / weights.sum(axis, keepdim=True)
    return weights


def mixed_truth(subject: Subject, batch: object) -> list[Tensor]:
    """What meets the values in each layer."""
    assert isinstance(subject.model, Stack)
    assert isinstance(batch, Tensor)
    maps, x = [], batch
    with visit(subject.model):
        for layer in subject.model.layers:
            assert isinstance(layer, Mixed)
            maps.append(layer.weights(*layer.project(x)[:2]))
            x = x + layer(x)
    return maps


class Pooling(nn.Module):
    """One learnt query over all tokens, weights on another axis, multiplied and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(WIDTH, 1)

    def weights(self, x: Tensor) -> Tensor:
        """(batch, token, 1)."""
        return torch.softmax(self.score(x), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean of the tokens."""
        return (self.weights(x) * x).sum(1)


class Jagged(nn.Module):
    """Fused attention of sequences of several lengths in one nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer(functional.scaled_dot_product_attention)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each sequence."""
        parts = [each.transpose(0, 1) for each in self.layer.project(x)]
        q, k, v = (
            torch.nested.nested_tensor([p[: LENGTH - 3], p[LENGTH - 3 :]], layout=torch.jagged).transpose(
                1, 2
            )
            for p in parts
        )
        out = functional.scaled_dot_product_attention(q, k, v)
        return torch.cat(list(out.transpose(1, 2).unbind()))


def jagged_truth(subject: Subject, batch: object) -> list[Tensor]:
    """A map for each sequence."""
    assert isinstance(subject.model, Jagged)
    assert isinstance(batch, Tensor)
    with torch.no_grad():
        q, k, _ = subject.model.layer.project(batch)
    cut = LENGTH - 3
    return [closed_form(q[:, rows], k[:, rows]) for rows in (slice(0, cut), slice(cut, None))]


# --- models of Hugging Face that band, hash or approximate


def banded(subject: Subject, batch: object) -> list[Tensor]:
    """Longformer's maps, from the diagonals that it returns."""
    assert subject.eager is not None
    assert isinstance(batch, dict)
    with visit(subject.eager):
        asked = call(subject.eager, {**batch, "output_attentions": True})
    maps = []
    for diagonals in asked.attentions:
        entries, heads, tokens, width = diagonals.shape
        full = torch.zeros(entries, heads, tokens, tokens + width)
        places = torch.arange(tokens)[:, None] + torch.arange(width)
        full.scatter_(-1, places.expand_as(diagonals), diagonals)
        maps.append(full[..., width // 2 : width // 2 + tokens])
    return maps


def chunks(subject: Subject, batch: object) -> list[Tensor]:
    """Reformer's maps within chunks: (batch, chunk, head, query, key)."""
    return [map_.transpose(1, 2) for map_ in by_asking(subject, batch)]


def _families() -> tuple[Case, ...]:
    named: Expects = "exact or named"
    long: Mapping[str, Any] = {**SMALL, "attention_window": 4}
    led = {
        **CODER,
        "attention_window": 4,
        "max_encoder_position_embeddings": 64,
        "max_decoder_position_embeddings": 64,
    }
    blocks = {
        **SMALL,
        "attention_type": "block_sparse",
        "block_size": 4,
        "num_random_blocks": 1,
        "max_position_embeddings": 128,
    }
    hashed = {
        **SMALL, "attention_head_size": 8, "feed_forward_size": 64, "axial_pos_embds": False, "is_decoder": False, "hidden_act": "gelu",
        "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "num_buckets": 4, "attn_layers": ["local", "lsh"],
    }  # fmt: skip
    return (
        case("longformer", "LongformerModel", long, lambda: text(16), truth=banded, expects=named),
        case("led", "LEDModel", led, lambda: [{"input_ids": words(16), "decoder_input_ids": words(7)}], expects=named),
        case("bigbird, sparse", "BigBirdModel", blocks, lambda: [{"input_ids": words(64)}], expects=named),
        case("reformer, chunks", "ReformerModel", hashed, lambda: [{"input_ids": words(16)}], truth=chunks, expects=named),
        case("nystromformer", "NystromformerModel", {**SMALL, "num_landmarks": 4, "segment_means_seq_len": 12}, lambda: [{"input_ids": words()}], expects=named),
        case("fnet", "FNetModel", {**SMALL, "use_tpu_fourier_optimizations": False}, lambda: [{"input_ids": words()}], truth=lambda *_: [], expects="nothing"),
        case("mamba", "MambaModel", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, lambda: [{"input_ids": words()}], truth=lambda *_: [], expects="nothing"),
        case("poolformer", "PoolFormerModel", config="PoolFormerConfig", settings={"hidden_sizes": [8, 16], "depths": [1, 1], "num_encoder_blocks": 2, "patch_sizes": [4, 2], "strides": [4, 2], "padding": [0, 0]}, batches=lambda: [{"pixel_values": torch.randn(2, 3, 32, 32)}], truth=lambda *_: [], expects="nothing"),
    )  # fmt: skip


def hard() -> tuple[Case, ...]:
    """Every case whose attention hides."""

    def plain(
        name: str,
        attend: Attend,
        turn: Callable[[nn.Module], nn.Module] = lambda m: m,
        truth: Truth | None = None,
        expects: Expects = "exact or named",
    ) -> Case:
        def make() -> Subject:
            model, twin = Stack(attend), Stack(attend)
            twin.load_state_dict(model.state_dict())
            return Subject(turn(model), [torch.randn(2, LENGTH, WIDTH)], twin)

        return Case(name, "hard", make, truth or stack_truth(), expects)

    def scripted(*, trace: bool) -> Subject:
        plain = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
        model = Wrapped(plain).eval()
        x = torch.randn(2, LENGTH, WIDTH)
        return Subject(
            torch.jit.trace(model, x, check_trace=False) if trace else torch.jit.script(model), [x], model
        )

    def mixed(name: str, mix: Callable[[Tensor, Tensor], Tensor]) -> Case:
        def make() -> Subject:
            stack = Stack(scores)
            stack.layers = nn.ModuleList(Mixed(mix) for _ in range(2))
            return Subject(stack, [torch.randn(2, LENGTH, WIDTH)])

        return Case(name, "hard", make, mixed_truth, "exact or named")

    def pooled(subject: Subject, batch: object) -> list[Tensor]:
        assert isinstance(subject.model, Pooling)
        with torch.no_grad():
            return [subject.model.weights(batch).mT.unsqueeze(1)]

    return (
        plain("exp, divided after the values", late_division),
        plain("keys in chunks (flash, by hand)", online),
        plain("sparse matrix product", sparse_product, truth=one_by_one),
        plain("in a thread: fused", in_thread),
        plain("in a thread: by hand", by_hand_in_thread),
        plain("user's operator", by_operator),
        plain("autograd function", Function.apply),
        plain("DataParallel", functional.scaled_dot_product_attention, nn.DataParallel),
        Case("TorchScript", "hard", lambda: scripted(trace=False), by_patching, "exact or named"),
        Case("TorchScript, traced", "hard", lambda: scripted(trace=True), by_patching, "exact or named"),
        mixed("talking heads", talking),
        mixed("talking heads, before the softmax", talking_before),
        mixed("difference of two softmaxes", differential),
        mixed("softmax with one more", quiet),
        mixed("sparsemax", sparsemax),
        mixed("Sinkhorn", sinkhorn),
        Case("attention pooling", "hard", lambda: Subject(Pooling(), [torch.randn(2, LENGTH, WIDTH)]), pooled, "exact or counted"),
        Case("jagged tensors", "hard", lambda: Subject(Jagged(), [torch.randn(LENGTH, WIDTH)]), jagged_truth, "exact or named"),
        *_families(),
    )  # fmt: skip


class Wrapped(nn.Module):
    """Attention without the weights."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Attend to oneself."""
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out
