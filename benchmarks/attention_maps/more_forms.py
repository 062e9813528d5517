"""Forms, and models without attention, that were left out while the capture was written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from benchmarks.attention_maps.case import Case, Expects, Subject, Truth
from benchmarks.attention_maps.forms import (
    LENGTH,
    WIDTH,
    Attend,
    Stack,
    band,
    causal,
    form_case,
    scores,
    stack_truth,
)
from benchmarks.attention_maps.free import TOKENS, Written, linear, tokens
from benchmarks.attention_maps.truth import by_patching

__all__ = ["more_forms"]

sdpa = functional.scaled_dot_product_attention


# --- forms


def in_halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two groups of heads, each with a softmax, put together before they meet the values."""
    raw = scores(q, k)
    return torch.cat([raw[:, :2].softmax(-1), raw[:, 2:].softmax(-1)], 1) @ v


def keys_in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One softmax, whose halves meet halves of the values."""
    weights = scores(q, k).softmax(-1)
    return weights[..., :5] @ v[..., :5, :] + weights[..., 5:] @ v[..., 5:, :]


def with_powers_of_two(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Powers of two instead of e."""
    weights = torch.exp2(scores(q, k) * math.log2(math.e))
    return (weights / weights.sum(-1, keepdim=True)) @ v


def masked_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exp times a mask over its sum."""
    weights = scores(q, k).exp() * (band(q, k) == 0)
    return weights.div(weights.sum(-1, keepdim=True).clamp(min=1e-12)).matmul(v)


def of_aten(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Operators called by their own names."""
    flat = [each.reshape(-1, *each.shape[-2:]) for each in (q, k, v)]
    raw = torch.ops.aten.bmm(flat[0], flat[1].mT) / math.sqrt(q.shape[-1])
    return torch.ops.aten.bmm(torch.ops.aten._softmax(raw, -1, False), flat[2]).view(q.shape)  # noqa: SLF001


def flash_operator(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The fused kernel of the processor itself."""
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]  # noqa: SLF001
    return out


def by_mathematics(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The fused function with its backend chosen."""
    with sdpa_kernel(SDPBackend.MATH):
        return sdpa(q, k, v)


def lower_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A bias that is an object."""
    return sdpa(q, k, v, attn_mask=causal_lower_right(q.shape[-2], k.shape[-2]))


def rows_of_linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head of one entry at a time, by functional.linear and two axes."""
    parts = zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), strict=True)
    return torch.stack([functional.linear(scores(a, b).softmax(-1), c.mT) for a, b, c in parts]).view(q.shape)


def unfolded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A window of five keys around each query."""
    keys, values = (functional.pad(e, (0, 0, 2, 2)).unfold(-2, 5, 1).mT for e in (k, v))
    raw = q.unsqueeze(-2) @ keys.mT / math.sqrt(q.shape[-1])
    return (raw.softmax(-1) @ values).squeeze(-2)


def two_axes_of_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Keys on a grid of rows and columns."""
    raw = torch.einsum("bhqd,bhxyd->bhqxy", q, k.unflatten(-2, (2, 5))) / math.sqrt(q.shape[-1])
    weights = raw.flatten(-2).softmax(-1).view(raw.shape)
    return torch.einsum("bhqxy,bhxyd->bhqd", weights, v.unflatten(-2, (2, 5)))


def slots(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax over the queries, then normalized over the keys (slot attention)."""
    weights = scores(q, k).softmax(-2) + 1e-8
    return (weights / weights.sum(-1, keepdim=True)) @ v


def slots_truth(subject: Subject, batch: object) -> list[Tensor]:
    """What meets the values."""
    return [w / w.sum(-1, keepdim=True) for w in (m.mT + 1e-8 for m in by_patching(subject, batch))]


def scattered(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Edges of a band, by index, as graph libraries do."""
    row, column = (band(q, k) == 0).nonzero().unbind(1)
    weights = ((q[..., row, :] * k[..., column, :]).sum(-1) / math.sqrt(q.shape[-1])).exp()
    index = row.expand_as(weights)
    total = torch.zeros(q.shape[:-1]).scatter_add(-1, index, weights)
    weights = weights / total.gather(-1, index)
    return torch.zeros_like(q).index_add(-2, row, weights.unsqueeze(-1) * v[..., column, :])


class Graph(nn.Module):
    """Graph attention on a dense adjacency: scores are sums of a term for each end."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix neighbours."""
        h = self.value(x)
        raw = functional.leaky_relu(self.left(h) + self.right(h).mT, 0.2)
        near = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs() <= 2
        return raw.masked_fill(~near, -9e15).softmax(-1) @ h


class NonLocal(nn.Module):
    """A non-local block in a convolutional net (SAGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Each place looks at all."""
        weights = torch.softmax(torch.bmm(self.query(x).flatten(2).mT, self.key(x).flatten(2)), dim=-1)
        return x + torch.bmm(self.value(x).flatten(2), weights.permute(0, 2, 1)).view_as(x)


class Direct(nn.Module):
    """The function behind multi-head attention, called by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to oneself."""
        own = self.heads
        assert own.in_proj_weight is not None
        out: Tensor = functional.multi_head_attention_forward(
            x, x, x, WIDTH, 4, own.in_proj_weight, own.in_proj_bias, None, None, False, 0.0, own.out_proj.weight,
            own.out_proj.bias, self.training, need_weights=False,
        )[0]  # fmt: skip
        return out


def functionally(model: nn.Module, batch: Any) -> object:
    """Call with other parameters."""
    return torch.func.functional_call(model, {n: p * 1.5 for n, p in model.named_parameters()}, (batch,))


# --- no attention


def mean_of_valid(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Means over the valid tokens by a matrix of mask over count."""
    mask = (x[..., :1] > -0.5).float().mT
    return m["head"]((mask / mask.sum(-1, keepdim=True)) @ x)


def neighbours(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A graph convolution whose adjacency comes with the data."""
    near = ((x[..., :1] - x[..., :1].mT).abs() < 1).float()
    return m["head"]((near / near.sum(-1, keepdim=True)) @ m["in"](x))


def adapted(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """An adjacency learnt as softmax of two embeddings (Graph WaveNet): the same for all data."""
    adjacency = functional.relu(m["a"].weight @ m["b"].weight.mT).softmax(-1)
    return m["head"](adjacency @ x)


def low_rank(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """LoRA by raw products of parameters."""
    return m["in"](x) + x @ m["a"].weight.mT @ m["b"].weight.mT


def hyper(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Weights that another layer makes of the data, two layers of them."""
    first = m["a"](x.mean(1)).unflatten(-1, (WIDTH, 4))
    second = m["b"](x.mean(1)).unflatten(-1, (4, WIDTH))
    return functional.relu(x @ first) @ second


def gram(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Style: products of features with themselves, that are only read."""
    f = m["in"](x)
    return (f.mT @ f / TOKENS).flatten(1)


def dynamic_kernels(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A softmax that mixes kernels, which are parameters."""
    mix = m["gate"](x.mean(1)).softmax(-1)
    kernels = (mix @ m["kernels"].weight).unflatten(-1, (WIDTH, WIDTH))
    return x @ kernels


def pointer(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A softmax over tokens that is the output."""
    return (m["a"](x) @ m["b"](x).mT).softmax(-1)


def kalman(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A gain from covariances times an innovation."""
    spread = x.mT @ x / TOKENS
    gain = spread @ torch.linalg.inv(spread + torch.eye(WIDTH))
    return x + (m["in"](x) - x) @ gain.mT


def whitened(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Tokens times the inverse root of their covariance."""
    spread = x.mT @ x / TOKENS + 0.1 * torch.eye(WIDTH)
    values, vectors = torch.linalg.eigh(spread)
    return m["in"](x @ (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT)


def messages(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Messages along edges, summed by index, gated by an exponential of each sender."""
    row, column = torch.arange(TOKENS), torch.arange(TOKENS).roll(1)
    sent = m["in"](x)[:, column] * torch.exp(-m["gate"](x)[:, column].square())
    return torch.zeros_like(x).index_add(1, row, sent)


def more_forms() -> tuple[Case, ...]:
    """Every held-out form and attention-free model."""

    def stack(
        name: str,
        attend: Attend,
        truth: Truth = by_patching,
        expects: Expects = "exact",
        *,
        train: bool = False,
        **more: Any,
    ) -> Case:
        def make() -> Subject:
            return Subject(Stack(attend), [torch.randn(2, LENGTH, WIDTH)], **more)

        return Case(name, "hand-written" if expects == "exact" else "hard", make, truth, expects, train)

    def model(name: str, build: Callable[[], nn.Module], *shape: int) -> Case:
        return Case(name, "hand-written", lambda: Subject(build(), [torch.randn(*shape)]), by_patching)

    def none(
        name: str, forward: Callable[[nn.ModuleDict, Tensor], Tensor], **layers: Callable[[], nn.Module]
    ) -> Case:
        def make() -> Subject:
            return Subject(Written(forward, **{key: layer() for key, layer in layers.items()}), [tokens()])

        return Case(name, "attention-free", make, None, "nothing")

    def of_parts(subject: Subject, batch: object) -> list[Tensor]:
        whole = stack_truth()(subject, batch)
        return [part for map_ in whole for part in map_.flatten(0, 1)]

    def halves(subject: Subject, batch: object) -> list[Tensor]:
        maps = by_patching(subject, batch)
        return [torch.cat(maps[i : i + 2], 1) for i in range(0, len(maps), 2)]

    to = lambda out, width=WIDTH: lambda: nn.Linear(width, out)  # noqa: E731
    table = lambda rows, width=WIDTH: lambda: nn.Embedding(rows, width)  # noqa: E731
    return (
        form_case("softmin", lambda q, k, v: functional.softmin(-scores(q, k), -1) @ v),
        form_case("powers of two", with_powers_of_two),
        form_case("mask times exp over sum", masked_sums, band),
        form_case("operators of aten", of_aten),
        form_case("flash operator", flash_operator, kind="fused"),
        form_case("sdpa, backend chosen", by_mathematics, kind="fused"),
        form_case("sdpa, bias object", lower_right, causal, kind="fused"),
        stack("halves of heads", in_halves, halves),
        stack("halves of keys", keys_in_parts, stack_truth(), "exact or named"),
        stack("functional.linear of each head", rows_of_linear, of_parts),
        stack("windows by unfold", unfolded),
        stack("two axes of keys", two_axes_of_keys, by_patching, "exact or named"),
        stack("slot attention", slots, slots_truth),
        stack("edges by index", scattered, stack_truth(band), "exact or counted"),
        stack("dropout of half, train mode", lambda q, k, v: functional.dropout(scores(q, k).softmax(-1), 0.5) @ v, train=True),
        stack("functional_call", lambda q, k, v: scores(q, k).softmax(-1) @ v, run=functionally),
        stack("weights shared by a clone", lambda q, k, v: scores(q, k).softmax(-1).clone().contiguous().detach() @ v),
        stack("one key", lambda q, k, v: scores(q, k[..., :1, :]).softmax(-1) @ v[..., :1, :]),
        model("graph attention", Graph, 2, LENGTH, WIDTH),
        model("non-local block", NonLocal, 2, 8, 4, 4),
        model("multi_head_attention_forward", Direct, LENGTH, 2, WIDTH),
        none("mean over valid tokens", mean_of_valid, head=linear),
        none("neighbours from data", neighbours, head=linear, **{"in": linear}),
        none("learnt adjacency", adapted, head=linear, a=table(TOKENS, 4), b=table(TOKENS, 4)),
        none("low rank", low_rank, a=to(4), b=to(WIDTH, 4), **{"in": linear}),
        none("hypernetwork", hyper, a=to(WIDTH * 4), b=to(WIDTH * 4)),
        none("Gram matrix", gram, **{"in": linear}),
        none("dynamic kernels", dynamic_kernels, gate=to(4), kernels=table(4, WIDTH * WIDTH)),
        none("pointer", pointer, a=linear, b=linear),
        none("messages by index", messages, gate=to(1), **{"in": linear}),
        none("Kalman gain", kalman, **{"in": linear}),
        none("whitening", whitened, **{"in": linear}),
    )  # fmt: skip
