"""Attention as people write it by hand: each form a model of two layers, its truth in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.truth import closed_form
from trainlab.visit import visit

__all__ = [
    "HEADS",
    "LENGTH",
    "WIDTH",
    "Layer",
    "Stack",
    "band",
    "causal",
    "form_case",
    "hand_written",
    "scores",
    "stack_truth",
]

HEADS, WIDTH, LENGTH = 4, 32, 10
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Rule = Callable[[Tensor, Tensor], Tensor]


class Layer(nn.Module):
    """Projections around an attention of (batch, head, token, depth); keys may come from a context."""

    def __init__(self, attend: Attend, key_heads: int = HEADS) -> None:
        super().__init__()
        self.attend, self.key_heads = attend, key_heads
        depth = WIDTH // HEADS
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.value = (nn.Linear(WIDTH, key_heads * depth) for _ in range(2))
        with torch.no_grad():
            self.query.weight.mul_(4)  # maps that differ from uniform ones

    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head."""
        source = x if context is None else context
        query, key, value = self.query(x), self.key(source), self.value(source)
        return (
            query.unflatten(-1, (HEADS, -1)).transpose(-3, -2),
            key.unflatten(-1, (self.key_heads, -1)).transpose(-3, -2),
            value.unflatten(-1, (self.key_heads, -1)).transpose(-3, -2),
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend and project."""
        out = self.attend(*self.project(x, context))
        return self.out(out.transpose(-3, -2).flatten(-2))


class Stack(nn.Module):
    """Layers one after the other, around residuals."""

    def __init__(self, attend: Attend, key_heads: int = HEADS, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(attend, key_heads) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Run through all layers."""
        for layer in self.layers:
            x = x + layer(x, context)
        return x


def stack_truth(bias: Rule | None = None, split: int = 0) -> Callable[[Subject, object], list[Tensor]]:
    """The closed form of a stack: a softmax of scaled products plus a bias; `split` cuts maps into query chunks."""

    def truth(subject: Subject, batch: object) -> list[Tensor]:
        model = subject.eager or subject.model
        assert isinstance(model, Stack)
        x, context = batch if isinstance(batch, tuple) else (batch, None)
        assert isinstance(x, Tensor)
        maps: list[Tensor] = []
        with visit(model):
            for layer in model.layers:
                assert isinstance(layer, Layer)
                q, k, v = layer.project(x, context)
                map_ = closed_form(q, k, mask=bias(q, k) if bias else None)
                by_map = map_ @ v.repeat_interleave(q.shape[-3] // v.shape[-3], -3).double()
                torch.testing.assert_close(layer.attend(q, k, v).double(), by_map, atol=1e-5, rtol=1e-4)
                maps += map_.split(split, -2) if split else [map_]
                x = x + layer(x, context)
        return maps

    return truth


@dataclass(frozen=True)
class Form:
    """A name, the code, and what it adds to the scores."""

    name: str
    attend: Attend
    bias: Rule | None = None


def form_case(
    name: str, attend: Attend, bias: Rule | None = None, *, kind: str = "hand-written", cross: bool = False,
    key_heads: int = HEADS, train: bool = False, split: int = 0, batch: int = 2,
) -> Case:  # fmt: skip
    """A stack with this attention on random tokens."""

    def make() -> Subject:
        model = Stack(attend, key_heads)
        shape = (batch, LENGTH, WIDTH) if batch else (LENGTH, WIDTH)
        x = torch.randn(shape)
        return Subject(model, [(x, torch.randn(batch, 7, WIDTH)) if cross else x])

    return Case(name, kind, make, stack_truth(bias, split), train=train)


# --- what may be added to the scores


def causal(q: Tensor, k: Tensor) -> Tensor:
    """Minus infinity above the diagonal."""
    return torch.full((q.shape[-2], k.shape[-2]), -math.inf).triu(1)


def band(q: Tensor, k: Tensor) -> Tensor:
    """Keys at most two places away."""
    places = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    return torch.where(places.abs() <= 2, 0.0, -math.inf)


def strided(q: Tensor, k: Tensor) -> Tensor:
    """Every third key, and oneself."""
    places = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    return torch.where(places % 3 == 0, 0.0, -math.inf)


def alibi(q: Tensor, k: Tensor) -> Tensor:
    """A slope for each head."""
    places = torch.arange(k.shape[-2]) - torch.arange(q.shape[-2])[:, None]
    return 2.0 ** -torch.arange(1, q.shape[-3] + 1).view(-1, 1, 1) * places


def blind(q: Tensor, k: Tensor) -> Tensor:
    """Two queries that see no key at all."""
    bias = torch.zeros(q.shape[-2], k.shape[-2])
    bias[3:5] = -math.inf
    return bias


def scores(q: Tensor, k: Tensor) -> Tensor:
    """The scaled products, as most write them."""
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


# --- the forms


def bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Batch and head in one axis, as fairseq does."""
    flat = [each.reshape(-1, *each.shape[-2:]) for each in (q, k, v)]
    weights = functional.softmax(torch.bmm(flat[0] * q.shape[-1] ** -0.5, flat[1].transpose(1, 2)), dim=-1)
    return torch.bmm(weights, flat[2]).view(q.shape)


def baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores upon a bias, as Bloom does."""
    flat = [each.reshape(-1, *each.shape[-2:]) for each in (q, k, v)]
    bias = causal(q, k).expand(len(flat[0]), -1, -1)
    raw = torch.baddbmm(bias, flat[0], flat[1].transpose(1, 2), beta=1.0, alpha=q.shape[-1] ** -0.5)
    weights = raw.view(*q.shape[:2], *raw.shape[-2:]).softmax(-1, dtype=torch.float32).to(q.dtype)
    return torch.bmm(weights.flatten(0, 1), flat[2]).view(q.shape)


def sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exp over its sum."""
    weights = torch.exp(scores(q, k))
    return (weights / weights.sum(dim=-1, keepdim=True)) @ v


def stable_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exp over its sum, below the largest, in place."""
    raw = scores(q, k)
    raw -= raw.max(dim=-1, keepdim=True).values
    weights = raw.exp_()
    weights /= weights.sum(-1, keepdim=True)
    return torch.matmul(weights, v)


def keys_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scores of (key, query), softmax along the keys' axis."""
    weights = torch.softmax(k @ q.mT / math.sqrt(q.shape[-1]), dim=-2)
    return weights.mT @ v


def values_left(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Values to the left, as convolutional code does: (depth, key) @ (key, query)."""
    weights = torch.softmax(scores(q, k), -1)
    return (v.mT @ weights.mT).mT


def convolutional(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Channels before places, as in diffusion U-Nets: bmm(v, wᵀ)."""
    flat = [each.mT.reshape(-1, each.shape[-1], each.shape[-2]) for each in (q, k, v)]
    weights = torch.bmm(flat[0].permute(0, 2, 1), flat[1]).mul(q.shape[-1] ** -0.5).softmax(dim=2)
    return torch.bmm(flat[2], weights.permute(0, 2, 1)).view(*q.shape[:2], q.shape[-1], -1).mT


def tokens_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Einsum on (batch, token, head, depth) and maps of (query, head, key)."""
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    weights = torch.einsum("bqhd,bkhd->bqhk", q, k).div(math.sqrt(q.shape[-1])).softmax(dim=3)
    return torch.einsum("bqhk,bkhd->bhqd", weights, v)


def keys_in_the_middle(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Einsum with the softmax along the second axis of a (batch, key, query, head) tensor."""
    weights = torch.einsum("bhqd,bhkd->bkqh", q, k).div(math.sqrt(q.shape[-1])).softmax(dim=1)
    return torch.einsum("bkqh,bhkd->bhqd", weights, v)


def doubled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The softmax in a wider dtype, cast back."""
    return scores(q, k).to(torch.float64).softmax(-1).to(q.dtype) @ v


def filled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A causal mask written in place."""
    raw = scores(q, k)
    raw.masked_fill_(causal(q, k).isinf(), -math.inf)
    return functional.dropout(functional.softmax(raw, dim=-1), 0.1, training=False) @ v


def banded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A band, by a large negative number."""
    return torch.where(band(q, k).isinf(), torch.finfo(q.dtype).min, scores(q, k)).softmax(-1) @ v


def sparse_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A strided pattern, its softmax renormalized instead of masked before."""
    weights = scores(q, k).softmax(-1) * ~strided(q, k).isinf()
    return (weights / weights.sum(-1, keepdim=True)) @ v


def blind_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows that see nothing, their NaN made zero."""
    return torch.nan_to_num((scores(q, k) + blind(q, k)).softmax(-1)) @ v


def by_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """No matrix product at all: multiply and sum."""
    raw = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) / math.sqrt(q.shape[-1])
    return (raw.softmax(-1).unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)


def by_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head after the other, as courses teach."""
    outs = [functional.softmax(scores(q[:, h], k[:, h]), dim=-1) @ v[:, h] for h in range(q.shape[1])]
    return torch.stack(outs, 1)


def by_entries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One batch entry after the other."""
    outs = [torch.softmax(scores(q[b], k[b]), -1) @ v[b] for b in range(len(q))]
    return torch.stack(outs)


def by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries in chunks of four, to save memory."""
    return torch.cat([torch.softmax(scores(part, k), -1) @ v for part in q.split(4, -2)], -2)


def of_heads(subject: Subject, batch: object) -> list[Tensor]:
    """A map for each head of each layer."""
    return [map_[:, h : h + 1] for map_ in stack_truth()(subject, batch) for h in range(HEADS)]


def of_entries(subject: Subject, batch: object) -> list[Tensor]:
    """A map for each entry of each layer."""
    return [map_[b : b + 1] for map_ in stack_truth()(subject, batch) for b in range(len(map_))]


class Additive(nn.Module):
    """Bahdanau's attention of a decoder's states over an encoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.score = nn.Linear(WIDTH, 16), nn.Linear(WIDTH, 16), nn.Linear(16, 1)

    def weights(self, x: Tensor, context: Tensor) -> Tensor:
        """(batch, query, key)."""
        return torch.softmax(
            self.score(torch.tanh(self.left(x)[:, :, None] + self.right(context)[:, None])).squeeze(-1), -1
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """The context, mixed for each query."""
        return torch.bmm(self.weights(x, context), context)


def _additive() -> Case:
    def truth(subject: Subject, batch: object) -> list[Tensor]:
        assert isinstance(subject.model, Additive)
        assert isinstance(batch, tuple)
        with torch.no_grad():
            return [subject.model.weights(*batch)]

    def make() -> Subject:
        return Subject(Additive(), [(torch.randn(2, 5, WIDTH), torch.randn(2, 8, WIDTH))])

    return Case("additive scores (Bahdanau)", "hand-written", make, truth)


def hand_written() -> tuple[Case, ...]:
    """Every form that is written with torch's own operations."""
    forms = (
        Form("matmul operator", lambda q, k, v: scores(q, k).softmax(-1) @ v),
        Form("torch.matmul", lambda q, k, v: torch.matmul(functional.softmax(torch.matmul(q, k.mT) * q.shape[-1] ** -0.5, -1), v)),
        Form("einsum", lambda q, k, v: torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).div(q.shape[-1] ** 0.5).softmax(-1), v)),
        Form("einsum, tokens first", tokens_first),
        Form("einsum, keys in the middle", keys_in_the_middle),
        Form("bmm", bmm),
        Form("baddbmm, causal", baddbmm, causal),
        Form("exp over sum", sums),
        Form("exp over sum, in place", stable_sums),
        Form("softmax of keys first", keys_first),
        Form("values to the left", values_left),
        Form("channels first (U-Net)", convolutional),
        Form("log_softmax, exp", lambda q, k, v: functional.log_softmax(scores(q, k), -1).exp() @ v),
        Form("exp of less logsumexp", lambda q, k, v: (scores(q, k) - scores(q, k).logsumexp(-1, keepdim=True)).exp() @ v),
        Form("softmax in float64, cast back", doubled),
        Form("softmax(dtype=)", lambda q, k, v: functional.softmax(scores(q, k), -1, dtype=torch.float64).to(q.dtype) @ v),
        Form("nn.Softmax", lambda q, k, v: nn.Softmax(dim=-1)(scores(q, k)) @ v),
        Form("torch.special.softmax", lambda q, k, v: torch.special.softmax(scores(q, k), -1) @ v),
        Form("masked_fill_, causal, dropout", filled, causal),
        Form("band mask", banded, band),
        Form("strided mask, renormalized", sparse_mask, strided),
        Form("rows that see nothing", blind_rows, blind),
        Form("bias of each head (ALiBi)", lambda q, k, v: (scores(q, k) + alibi(q, k)).softmax(-1) @ v, alibi),
        Form("multiply and sum", by_product),
    )  # fmt: skip
    return (
        *(form_case(form.name, form.attend, form.bias) for form in forms),
        form_case("cross-attention by hand", lambda q, k, v: scores(q, k).softmax(-1) @ v, cross=True),
        form_case("one key head for all (MQA)", lambda q, k, v: scores(q, k).softmax(-1) @ v, key_heads=1),
        form_case("dropout, train mode", lambda q, k, v: functional.dropout(scores(q, k).softmax(-1), 0.0) @ v, train=True),
        form_case("chunks of queries", by_rows, split=4),
        form_case("one sequence, no batch", lambda q, k, v: scores(q, k).softmax(-1) @ v, batch=0),
        Case("one head at a time", "hand-written", lambda: Subject(Stack(by_heads), [torch.randn(2, LENGTH, WIDTH)]), of_heads),
        Case("one entry at a time", "hand-written", lambda: Subject(Stack(by_entries), [torch.randn(2, LENGTH, WIDTH)]), of_entries),
        _additive(),
    )  # fmt: skip
