"""A tiny language model, really trained for some steps, as an open checkpoint."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from trainlab.subjects import Checkpoint
from trainlab.subjects.checkpoint import outline

__all__ = ["example"]

STEPS = 60
WIDTH = 32


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return y


class _Model(nn.Module):
    """Counts on: after two numbers a step apart comes the next."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(24, WIDTH)
        self.join = nn.Linear(2 * WIDTH, WIDTH)
        self.blocks = nn.ModuleList(_Block() for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 24)

    def forward(self, pair: Tensor) -> Tensor:
        x = self.join(self.embed(pair).flatten(1))
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(self.norm(x))
        return y


def example() -> dict[str, object]:
    """The checkpoint of the tiny model; it lies in memory and has no file."""
    weights = {name: tensor.clone() for name, tensor in _trained().items()}
    ckpt = Checkpoint(
        Path("example.pt"), "torch", "model", None, {"step": STEPS}, outline(weights), {}, lambda: weights
    )
    return {"ckpt": ckpt}


@cache
def _trained() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        model = _Model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(STEPS):
            start, step = torch.randint(0, 24, (2, 64))
            loss = nn.functional.cross_entropy(
                model(torch.stack([start, (start + step) % 24], dim=1)), (start + 2 * step) % 24
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.state_dict()
