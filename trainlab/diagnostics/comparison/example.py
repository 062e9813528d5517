"""Eight small runs, really trained: four learning rates with two seeds each, logged as lines of text and read back."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from trainlab.subjects.runlog.log import RunLogs
from trainlab.subjects.runlog.opening import open_logs

__all__ = ["example"]

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (0, 1)
STEPS = 400
BATCH = 32
EVERY = 5
NOISE = 0.3


def example() -> dict[str, object]:
    """The logs of the eight runs."""
    return {"logs": _trained()}


@cache
def _trained() -> RunLogs:
    _train(RATES[0], SEEDS[0])  # the first run of a process is slower
    with tempfile.TemporaryDirectory() as folder:
        for rate in RATES:
            for seed in SEEDS:
                Path(folder, f"lr{rate:g}_seed{seed}.log").write_text(_train(rate, seed), encoding="utf-8")
        logs = open_logs(folder, progress=False)
        return RunLogs(
            {name: replace(log, path=Path("example", log.path.name)) for name, log in logs.items()}
        )


def _train(rate: float, seed: int) -> str:
    """Learns a wave from noisy points; what the run prints."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        held_out = torch.linspace(-1, 1, 256)[:, None]
        wanted = _wave(held_out) + NOISE * torch.randn(256, 1, generator=torch.Generator().manual_seed(9))
        lines = [
            f"Namespace(lr={rate:g}, seed={seed}, batch_size={BATCH}, max_steps={STEPS}, optimizer='adam', width=32)"
        ]
        begun = time.thread_time()  # other programs do not count
        for step in range(STEPS + 1):
            x = 2 * torch.rand(BATCH, 1) - 1
            loss = nn.functional.mse_loss(model(x), _wave(x) + NOISE * torch.randn(BATCH, 1))
            if step % EVERY == 0:
                with torch.no_grad():
                    error = nn.functional.mse_loss(model(held_out), wanted)
                seconds = time.thread_time() - begun
                lines.append(
                    f"step {step}/{STEPS} loss={loss.item():.5f} val_loss={error.item():.5f} elapsed={seconds:.4f}"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return "\n".join([*lines, "training completed", ""])


def _wave(x: Tensor) -> Tensor:
    return torch.sin(5 * x)
