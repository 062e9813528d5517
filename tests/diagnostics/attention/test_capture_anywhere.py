"""Attention is heard on any device, of nothing too, and its mask stays as small as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import visit

from .far import Far, FarDevice


class Folded(nn.Module):
    """Self-attention over as many tokens as asked for, of as many keys."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.num_heads = fused, 4
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor, keys: int = 9) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        k, v = k[:, :, :keys], v[:, :, :keys]
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.mT / 2).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("fused", [True, False])
def test_a_projection_is_found_on_any_device(fused):
    model, x, numbers = Folded(fused), torch.randn(2, 9, 16), []
    for layer in (model.qkv, model.out):
        for name, weight in list(layer.named_parameters()):
            delattr(layer, name)
            setattr(layer, name, Far(weight.detach()))
    with (
        FarDevice(),
        visit(model),
        capture(model, lambda _: None, lambda n, _: numbers.append(n)) as coverage,
    ):
        model(Far(x))
    assert (coverage.recorded, coverage.missed, numbers) == (1, (), [0])


@pytest.mark.parametrize("fused", [True, False])
def test_attention_of_nothing_is_not_recorded(fused):
    model, x, calls = Folded(fused), torch.randn(2, 9, 16), []
    with visit(model), capture(model, calls.append) as coverage:
        for entries, queries, keys in ((0, 9, 9), (2, 0, 9), (2, 9, 0), (2, 9, 9)):
            model(x[:entries, :queries], keys)
    assert coverage.recorded == len(calls) == 1
    assert not any(each.attends for each in coverage.missed)
    assert coverage.softmaxes == 0


class Pieces(nn.Module):
    """Heads that are cast one after the other, each perhaps into the memory of the last; and weights that meet values twice."""

    def forward(self, x: torch.Tensor) -> float:
        q = x.unflatten(-1, (4, 4)).transpose(1, 2)
        weights = (q @ q.mT).softmax(-1)
        twice = weights @ q + weights.transpose(0, 1).transpose(0, 1) @ (2 * q)
        return float(twice.sum()) + sum(
            float((weights[:, h].double() @ q[:, h].double()).sum()) for h in range(4)
        )


def test_weights_in_memory_that_others_had_are_no_repetition():
    calls, model = [], Pieces()
    with visit(model), capture(model, lambda call: calls.append(call.weights.shape[1])) as coverage:
        model(torch.randn(2, 9, 16))
    assert (coverage.recorded, coverage.missed) == (5, ())


def test_an_expanded_mask_is_handed_on_as_it_was():
    shapes = []
    model, x = nn.Identity(), torch.randn(2, 4, 9, 8)
    model.forward = lambda mask: functional.scaled_dot_product_attention(x, x, x, mask)
    with visit(model), capture(model, lambda call: shapes.append(tuple(call.mask.shape))):
        for shape in ((2, 1, 1, 9), (1, 1, 9, 9), (2, 4, 9, 9), (2, 1, 9, 1)):
            model(torch.ones(shape, dtype=torch.bool).expand(2, 4, 9, 9))
    assert shapes == [(2, 1, 1, 9), (1, 1, 9, 9), (2, 4, 9, 9), (2, 1, 9, 9)]
