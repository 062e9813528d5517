"""What `timesteps` costs on the demo model, as ratios in one run: `python -m benchmarks.timesteps_cost`.

Trains the demo for some steps only: speed does not depend on how good it is. Exit code 1 where a bar fails.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainlab.diagnostics.timesteps import Recorder, diagnostic
from trainlab.examples.digits import Config, build, one_batch
from trainlab.examples.digits.data import noisy

LEVELS, SAMPLES = 16, 64


def loop(model: nn.Module, batch: dict[str, torch.Tensor], cells: int) -> float:
    """Seconds a cell of frame × level × sample, one forward for each, as one writes it at first."""
    clips, rng = batch["target"], torch.Generator().manual_seed(0)
    begun = time.perf_counter()
    with torch.no_grad():
        for cell in range(cells):
            clip, frame = clips[cell % len(clips)][None], cell % clips.shape[1]
            tau = torch.rand((1, clips.shape[1]), generator=rng)
            tau[0, frame] = (cell % LEVELS) / (LEVELS - 1)
            (model(noisy(clip, tau, rng), tau) - clip)[:, frame].square().mean().item()
    return (time.perf_counter() - begun) / cells


def whole_clips(model: nn.Module, batch: dict[str, torch.Tensor], count: int) -> float:
    """Seconds a clip where the loop takes all frames of a forward: a better loop, still one clip a call."""
    clips, rng = batch["target"], torch.Generator().manual_seed(0)
    begun = time.perf_counter()
    with torch.no_grad():
        for place in range(count):
            clip = clips[place % len(clips)][None]
            tau = torch.rand((1, clips.shape[1]), generator=rng)
            (model(noisy(clip, tau, rng), tau) - clip).square().mean((2, 3, 4))
    return (time.perf_counter() - begun) / count


def sweep_seconds(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Seconds of a whole probe, and of its sweep alone."""
    from trainlab.diagnostics.timesteps.planning import plan
    from trainlab.diagnostics.timesteps.reading import read
    from trainlab.diagnostics.timesteps.sweep import sweep
    from trainlab.visit import visit

    begun = time.perf_counter()
    diagnostic.probe(model, batch, objective="forcing", levels=LEVELS, samples=SAMPLES)
    whole = time.perf_counter() - begun
    reading = read(model, batch, clean="", level="", frame_axis=None)
    with visit(model, seed=0):
        task, _ = plan(
            model, reading, batch, None, objective="forcing", schedule="", convention="1 is noise", steps=0,
            levels=LEVELS, weighting="", sigma_data=0.5, seed=0,
        )  # fmt: skip
        begun = time.perf_counter()
        sweep(
            model,
            task,
            clips=len(reading.clean),
            samples=SAMPLES,
            se=0,
            budget=0,
            seed=0,
            rows=0,
            label="bench",
        )
        return whole, time.perf_counter() - begun


def recorder_share(model: nn.Module, batch: dict[str, torch.Tensor], steps: int = 60) -> float:
    """The share of a training step that recording takes: its own time over the step's."""
    clips, tau, x = batch["target"][:8], batch["tau"][:8], batch["x"][:8]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    recording, steps_s = np.zeros(steps), np.zeros(steps)
    with (
        tempfile.TemporaryDirectory() as folder,
        Recorder(Path(folder) / "log.jsonl", frames=16, every=50) as recorder,
    ):
        for step in range(steps):
            started_step = time.perf_counter()
            loss = (model(x, tau) - clips).square()
            started = time.perf_counter()
            recorder.add(loss, tau)
            recording[step] = time.perf_counter() - started
            loss.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            steps_s[step] = time.perf_counter() - started_step
    return float(np.median(recording) / np.median(steps_s - recording))


def main() -> int:
    config = Config()
    model = build()
    with torch.no_grad():
        model.head.out.weight.normal_(0, 0.02)
    batch = one_batch(count=SAMPLES)
    # ratios on one core, in turn, the least of three: another process may come between
    torch.set_num_threads(1)
    turns = [
        (loop(model, batch, 100), whole_clips(model, batch, 100), sweep_seconds(model, batch)[1])
        for _ in range(3)
    ]
    cell, clip, alone = (min(each) for each in zip(*turns, strict=True))
    share = recorder_share(model, batch)
    torch.set_num_threads(2)
    whole = min(sweep_seconds(model, batch)[0] for _ in range(2))
    cells = LEVELS * config.frames * SAMPLES
    rows = [
        ("a sweep of 16 levels × 16 frames × 64 samples, all checks included", whole, 30.0, "s at most"),
        ("loop over cells / sweep", cell * cells / alone, 10.0, "times at least"),
        ("loop over clips / sweep (for comparison)", clip * LEVELS * SAMPLES / alone, 0.0, "times"),
        ("recorder's share of a step", 100 * share, 1.0, "% at most"),
    ]
    failed = 0
    for name, value, bar, unit in rows:
        good = value <= bar if "most" in unit else value >= bar
        failed += not good
        print(f"{'ok  ' if good else 'MISS'}  {name:68} {value:8.3g}  (bar {bar:g} {unit})")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
