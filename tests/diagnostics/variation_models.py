"""Models and batches for the tests of `variation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import trainlab as tl
from trainlab.diagnostics.variation import VariationResult, probe
from trainlab.examples import tiny
from trainlab.finding import Findings

torch.set_num_threads(1)  # on a busy machine two threads wait for each other in models as small as these

judge = tl.variation.judge


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


def looked_at(model: nn.Module, batch: object, **settings: Any) -> tuple[VariationResult, Findings]:
    result = probe(model, batch, **settings)
    return result, judge(result)


def tiny_case(kind: str | None) -> dict[str, Any]:
    return dict(tiny.healthy() if kind is None else tiny.sick(kind))


class Scaled(nn.Module):
    """f(x) = x · gain + offset, so that variation can be worked out on paper."""

    def __init__(self, gain: float, offset: float) -> None:
        super().__init__()
        self.gain, self.offset = gain, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class Conditioned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp, self.level, self.out = nn.Linear(6, 16), nn.Linear(1, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor, tau: Tensor | float, mask: Tensor | None = None) -> Tensor:
        level = self.level(torch.as_tensor(tau).reshape(-1, 1)) if isinstance(tau, Tensor) else tau
        return self.out(torch.tanh(self.inp(x) + level)) * (1 if mask is None else mask)


def models() -> dict[str, tuple[nn.Module, object]]:
    image, tokens = noise(4, 3, 16, 16), noise(4, 6, 16)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    conv = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
    )
    return {
        "encoder": (nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), tokens),
        "lstm": (nn.LSTM(16, 8, batch_first=True), tokens),
        "sequence-first lstm": (nn.LSTM(16, 8), noise(7, 4, 16)),
        "conv": (conv, image),
        "embedding": (nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2)), torch.arange(12).reshape(4, 3) % 9),
    }
