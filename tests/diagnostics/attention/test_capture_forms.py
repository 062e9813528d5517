"""Attention that is written out: every way to write it is heard, and nothing else is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from .test_capture_kernels import Functional, close, eager, record

DEPTH = 8
ROOT = math.sqrt(DEPTH)


def scores(q, k):
    return q @ k.mT / ROOT


def by_hand(q, k):
    raised = (scores(q, k) - scores(q, k).amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


def without_shift(q, k):
    raised = torch.exp(scores(q, k))
    return raised / raised.sum(dim=-1, keepdim=True)


def into(q, k):
    raw = scores(q, k)
    return torch.softmax(raw, -1, out=torch.empty_like(raw))


def masked_in_place(q, k):
    raw = scores(q, k)
    raw[..., 0] += 0
    raw.masked_fill_(torch.zeros(raw.shape, dtype=torch.bool), -math.inf)
    weights = raw.softmax(-1)
    weights.masked_fill_(weights.isnan(), 0)
    return weights


def baddbmm(q, k):
    flat = torch.baddbmm(q.new_zeros(1, 1, 1), q.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=1 / ROOT)
    return flat.softmax(-1).view(*q.shape[:3], -1)


def bmm_of_entries(q, k, v):
    return torch.bmm(torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT).div(ROOT).softmax(-1), v.flatten(0, 1))


def keys_first(q, k, v):
    return (v.mT @ (k @ q.mT / ROOT).softmax(-2)).mT


def einsum(q, k, v):
    raw = torch.einsum("bhid,bhjd->bhij", q, k) / ROOT
    return torch.einsum("b h i j, b h j d -> b h i d", raw.softmax(-1), v)


def einsum_tokens_first(q, k, v):
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    weights = torch.einsum("bihd,bjhd->bihj", q, k).div(ROOT).softmax(-1)
    return torch.einsum("bihj,bjhd->bihd", weights, v)


def einsum_with_dots(q, k, v):
    return torch.einsum("...ij,...jd->...id", scores(q, k).softmax(-1), v)


def multiplied_and_summed(q, k, v):
    return (scores(q, k).softmax(-1).unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)


WEIGHTS = {
    "functional.softmax": lambda q, k: functional.softmax(scores(q, k), dim=-1),
    "torch.softmax": lambda q, k: torch.softmax(scores(q, k), -1),
    "method": lambda q, k: scores(q, k).softmax(dim=3),
    "nn.Softmax": lambda q, k: nn.Softmax(-1)(scores(q, k)),
    "aten": lambda q, k: torch.ops.aten._softmax(scores(q, k), -1, False),
    "special": lambda q, k: torch.special.softmax(scores(q, k), -1),
    "out": into,
    "in place": masked_in_place,
    "by hand": by_hand,
    "by hand, unshifted": without_shift,
    "log": lambda q, k: functional.log_softmax(scores(q, k), -1).exp(),
    "baddbmm": baddbmm,
    "float32, then cast": lambda q, k: functional.softmax(scores(q, k), -1, dtype=torch.float32).to(q.dtype),
    "dropout in eval": lambda q, k: functional.dropout(scores(q, k).softmax(-1), 0.3, training=False),
    "multiplied by ones": lambda q, k: scores(q, k).softmax(-1) * q.new_ones(4, 1, 1),
    "views": lambda q, k: scores(q, k).softmax(-1).flatten(0, 1).contiguous().unflatten(0, (-1, 4)).clone(),
    "there and back": lambda q, k: scores(q, k).softmax(-1).transpose(1, 2).contiguous().transpose(1, 2),
    "sliced": lambda q, k: functional.pad(scores(q, k), (0, 1), value=-math.inf).softmax(-1)[..., :-1],
    "halves": lambda q, k: torch.cat([scores(q, k[:, :, :4]), scores(q, k[:, :, 4:])], -1).softmax(-1),
}
WHOLE = {
    "matmul": lambda q, k, v: torch.matmul(scores(q, k).softmax(-1), v),
    "bmm": bmm_of_entries,
    "keys first": keys_first,
    "einsum": einsum,
    "einsum, tokens first": einsum_tokens_first,
    "einsum with dots": einsum_with_dots,
    "mul and sum": multiplied_and_summed,
    **{name: lambda q, k, v, weights=weights: weights(q, k) @ v for name, weights in WEIGHTS.items()},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", WHOLE)
def test_every_form(name, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, DEPTH, dtype=dtype) for n in (6, 9, 9))
    calls, (found,), _, coverage, _ = record(Functional(WHOLE[name], num_heads=4), q, k, v)
    close(found, eager(q, k), 1e-5 if dtype != torch.bfloat16 else 2e-2)
    assert not coverage.missed
    assert calls[0][2].rpartition(" in ")[0].startswith(__file__)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("tokens", [(1, 5), (7, 7), (5, 2)])
def test_shapes(seed, heads, tokens):
    torch.manual_seed(seed)
    q, k = (torch.randn(2, heads, n, DEPTH) for n in tokens)
    _, (found,), _, _, _ = record(Functional(WHOLE["matmul"]), q, k, k)
    close(found, eager(q, k))


def test_heads_that_share_values():
    q, k = torch.randn(2, 6, 5, DEPTH), torch.randn(2, 2, 7, DEPTH)

    def attend(q, k):
        weights = torch.einsum("bkgtd,bksd->bkgts", q.unflatten(1, (2, 3)), k).div(ROOT).softmax(-1)
        return torch.einsum("bkgts,bksd->bkgtd", weights, k)

    _, (found,), _, _, _ = record(Functional(attend, num_heads=6), q, k)
    close(found, eager(q, k.repeat_interleave(3, 1)))


def test_weights_are_those_before_dropout():
    torch.manual_seed(0)
    q = torch.randn(2, 4, 6, DEPTH)

    def attend(q):
        dropped = functional.dropout(scores(q, q).softmax(-1), 0.5, training=True)
        return dropped.flatten(0, 1).to(torch.float64).to(torch.float32) @ q.flatten(0, 1)

    _, (found,), _, _, _ = record(Functional(attend, heads=4), q, training=True)
    close(found, eager(q, q))


def test_scores_while_they_are_there():
    q, heard = torch.randn(2, 4, 6, DEPTH), []

    def kept(q):
        raw = scores(q, q)
        return raw.softmax(-1) @ q

    def gone(q):
        return scores(q, q).softmax(-1) @ q

    def changed(q):
        raw = scores(q, q)
        weights = raw.softmax(-1)
        raw.zero_()
        return weights @ q

    from trainlab.diagnostics.attention.capture import capture

    for forward in (kept, gone, changed):
        model = Functional(forward)
        with (
            torch.no_grad(),
            capture(model, lambda call: heard.append(None if call.scores is None else call.scores.clone())),
        ):
            model(q)
    close(heard[0], scores(q, q))
    assert heard[1:] == [None, None]


# --- heads that are mixed


class Talking(nn.Module):
    """Class-attention in image transformers, https://arxiv.org/abs/2103.17239, section 2."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, q):
        weights = self.before(scores(q, q).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        self.met = self.after(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.met @ q


def test_mixed_heads_are_those_that_meet_values():
    torch.manual_seed(0)
    model, q = Talking(), torch.randn(2, 4, 6, DEPTH)
    _, (found,), _, coverage, _ = record(model, q)
    model(q)
    close(found, model.met.detach())
    assert not coverage.missed


def test_difference_of_two_softmaxes():
    q, k = torch.randn(2, 4, 6, DEPTH), torch.randn(2, 4, 6, DEPTH)
    model = Functional(lambda q, k: (scores(q, q).softmax(-1) - 0.5 * scores(q, k).softmax(-1)) @ q)
    _, (found,), _, coverage, _ = record(model, q, k)
    close(found, eager(q, q) - 0.5 * eager(q, k))
    assert coverage.softmaxes == 0


# --- what is none


class Free(nn.Module):
    """Has weights and tables, and does with them and its input what it is given."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.wide, self.narrow, self.one = nn.Linear(16, 16), nn.Linear(16, 6), nn.Linear(16, 1)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))
        self.table, self.mixture = nn.Parameter(torch.randn(6, 16)), nn.Parameter(torch.randn(6, 6))
        self.register_buffer("chain", torch.rand(6, 6).softmax(-1))
        self.grid = torch.arange(6.0)[:, None].expand(6, 2)

    def forward(self, x):
        return self.function(self, x)


def router(m, x):
    weights = m.narrow(x).softmax(-1)
    made = torch.stack([expert(x) for expert in m.experts], -2)
    return (weights.unsqueeze(-2) @ made).squeeze(-2)


def router_einsum(m, x):
    top, which = m.narrow(x).softmax(-1).topk(2)
    made = torch.stack([expert(x) for expert in m.experts], -2)
    chosen = made.gather(-2, which[..., None].expand(*which.shape, 16))
    return torch.einsum("bte,bted->btd", top / top.sum(-1, keepdim=True), chosen)


FREE = {
    "classifier": lambda m, x: m.narrow(x).softmax(-1),
    "classifier, weighted": lambda m, x: m.narrow(x).softmax(-1) @ m.table,
    "router": router,
    "router, best two": router_einsum,
    "soft arg max": lambda m, x: (m.wide(x) @ x.mT).softmax(-1) @ m.grid,
    "code book": lambda m, x: (-torch.cdist(x, m.table[None])).softmax(-1) @ m.table,
    "mixture of layers": lambda m, x: m.mixture.softmax(-1) @ m.wide(x),
    "Markov chain": lambda m, x: m.chain @ m.wide(x),
    "mean pooling": lambda m, x: torch.full((1, 6), 1 / 6) @ m.wide(x),
    "one hot": lambda m, x: functional.one_hot(m.narrow(x).argmax(-1), 6).float() @ m.table,
    "label smoothing": lambda m, x: m.narrow(x).log_softmax(-1) * (0.9 * torch.eye(6) + 0.1 / 6),
    "gate": lambda m, x: m.wide(x).softmax(-1) * x,
    "one key": lambda m, x: m.one(x[:, :1]).softmax(1) @ x[:, :1],
    "normalised graph": lambda m, x: (m.chain.expand(2, 6, 6) + 0 * x[:, :, :6]) @ m.wide(x),
    "similarities": lambda m, x: (m.wide(x) @ x.mT).softmax(-1).diagonal(dim1=-2, dim2=-1),
}


@pytest.mark.parametrize("name", FREE)
def test_no_false_records(name):
    torch.manual_seed(0)
    model = Free(FREE[name])
    calls, _, _, coverage, _ = record(model, torch.randn(2, 6, 16))
    assert calls == []
    assert coverage.softmaxes == sum(missed.count for missed in coverage.missed)
    assert not any(missed.attends for missed in coverage.missed)


def test_pooling_by_one_score_has_one_query():
    model, x = Free(lambda m, x: m.one(x).softmax(1).mT @ x), torch.randn(2, 6, 16)
    _, (found,), _, _, _ = record(model, x)
    close(found, model.one(x).softmax(1).mT[:, None].detach())


def slots(q, k, v):
    """Slot attention, https://arxiv.org/abs/2006.15055, algorithm 1: queries compete, then keys are averaged."""
    weights = scores(q, k).softmax(-2)
    return (weights / weights.sum(-1, keepdim=True)) @ v


def test_weights_that_are_normalised_again():
    q, k = torch.randn(2, 4, 6, DEPTH), torch.randn(2, 4, 9, DEPTH)
    _, (found,), _, coverage, _ = record(Functional(slots), q, k, k)
    competing = scores(q, k).softmax(-2)
    close(found, competing / competing.sum(-1, keepdim=True))
    assert not coverage.missed


def test_heads_in_halves_are_joined():
    q = torch.randn(2, 4, 6, DEPTH)
    model = Functional(
        lambda q: torch.cat([scores(q, q)[:, :2].softmax(-1), scores(q, q)[:, 2:].softmax(-1)], 1) @ q
    )
    _, (found,), _, coverage, _ = record(model, q)
    close(found, eager(q, q))
    assert not coverage.missed


def test_one_map_for_all_heads_and_entries():
    q, v = torch.randn(6, DEPTH), torch.randn(2, 4, 6, 5)
    _, (found,), _, _, _ = record(Functional(lambda q, v: scores(q, q).softmax(-1) @ v), q, v)
    close(found, eager(q, q).expand(2, 4, 6, 6))


def halves_of_keys(q, k, v):
    weights = scores(q, k).softmax(-1)
    return weights[..., :4] @ v[..., :4, :] + weights[..., 4:] @ v[..., 4:, :]


def two_axes_of_keys(q, k, v):
    weights = scores(q, k).softmax(-1).unflatten(-1, (3, 3))
    return torch.einsum("bhqxy,bhxyd->bhqd", weights, v.unflatten(-2, (3, 3)))


@pytest.mark.parametrize("attend", [halves_of_keys, two_axes_of_keys])
def test_weights_that_meet_values_in_pieces_are_named(attend):
    q, k, v = (torch.randn(2, 4, n, DEPTH) for n in (6, 9, 9))
    calls, _, _, coverage, _ = record(Functional(attend), q, k, v)
    assert calls == []
    assert [missed.attends for missed in coverage.missed] == [True]


def test_inference_mode():
    q = torch.randn(2, 4, 6, DEPTH)
    with torch.inference_mode():
        _, (found,), _, _, _ = record(Functional(lambda q: scores(q, q).softmax(-1) @ q), q.clone())
    close(found, eager(q, q))
