"""Does `resume` name what a broken resume forgot? Every subset of seven parts, dropped from the save or from the load.

Run with ``python -m benchmarks.resume_ablations``; takes some minutes on one core. The run is small and has all that
real ones have: dropout, BatchNorm, a shuffled loader that is left in the middle of an epoch, momentum, a schedule, a
grad scaler and an average. A case counts as right when exactly the dropped parts are named, neither more nor less;
for the empty subset, when the resume passes bit by bit.
"""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

import trainlab as tl
from trainlab.subjects.importing import seeded

BAR = 0.95
STEPS = 6
# what a loop forgets, and what the room calls it
PARTS = {
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "rng": "RNG",
    "data": "data",
    "scaler": "grad scaler",
    "ema": "EMA",
    "buffers": "buffers",
}


@dataclass
class State:
    """Everything that the run is made of."""

    model: nn.Module
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    loader: DataLoader[Any]
    order: torch.Tensor
    batches: Iterator[Any]
    position: int = 0
    iter: int = 0


@dataclass(frozen=True)
class Training:
    """A loop whose save or load forgets parts."""

    optimizer: str = "adamw"
    schedule: str = "warmup-cosine"
    dropped: frozenset[str] = frozenset()
    side: str = "save"

    def start(self, path: str | None) -> State:
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
        )
        x = torch.randn(64, 6)
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(
            TensorDataset(x, x[:, :3].argmax(1)), batch_size=8, shuffle=True, generator=generator
        )
        optimizer = (
            torch.optim.AdamW(model.parameters(), lr=1e-2)
            if self.optimizer == "adamw"
            else torch.optim.SGD(model.parameters(), lr=5e-2, momentum=0.9)
        )
        scheduler = (
            LambdaLR(optimizer, _warmup_cosine)
            if self.schedule == "warmup-cosine"
            else StepLR(optimizer, 5, 0.5)
        )
        ema = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=4)
        order = generator.get_state()
        state = State(model, ema, optimizer, scheduler, scaler, generator, loader, order, iter(loader))
        if path is not None:
            self.load(state, torch.load(path, weights_only=True))
        return state

    def load(self, state: State, saved: dict[str, Any]) -> None:
        kept = {
            name: value for name, value in saved.items() if not (self.side == "load" and name in self.dropped)
        }
        weights = dict(saved["model"])
        if self.side == "load" and "buffers" in self.dropped:
            weights = _parameters(weights)
        state.model.load_state_dict(weights, strict=False)
        state.iter = saved["iter"]
        for name in ("ema", "optimizer", "scheduler", "scaler"):
            if name in kept:
                getattr(state, name).load_state_dict(kept[name])
        if "data" in kept:
            state.generator.set_state(kept["data"]["order"])
            state.order, state.batches, state.position = state.generator.get_state(), iter(state.loader), 0
            for _ in range(kept["data"]["position"]):
                next(state.batches)
                state.position += 1
        if "rng" in kept:
            torch.set_rng_state(kept["rng"])

    def save(self, state: State, path: str) -> None:
        saved = {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scheduler": state.scheduler.state_dict(),
            "scaler": state.scaler.state_dict(),
            "ema": state.ema.state_dict(),
            "data": {"order": state.order, "position": state.position},
            "rng": torch.get_rng_state(),
            "iter": state.iter,
        }
        if self.side == "save":
            saved = {name: value for name, value in saved.items() if name not in self.dropped}
            if "buffers" in self.dropped:
                saved["model"] = _parameters(state.model.state_dict())
        torch.save(saved, path)

    def step(self, state: State, n: int) -> list[float]:
        losses = []
        for _ in range(n):
            batch = next(state.batches, None)
            if batch is None:
                state.order, state.position = state.generator.get_state(), 0
                state.batches = iter(state.loader)
                batch = next(state.batches)
            state.position += 1
            loss = cross_entropy(state.model(batch[0]), batch[1])
            state.optimizer.zero_grad()
            state.scaler.scale(loss).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.scheduler.step()
            state.ema.update_parameters(state.model)
            state.iter += 1
            losses.append(loss.item())
        return losses


def subsets() -> list[frozenset[str]]:
    """Every subset of the parts, the empty one first."""
    return [frozenset(c) for size in range(len(PARTS) + 1) for c in itertools.combinations(PARTS, size)]


def named(training: Training, folder: Path) -> tuple[frozenset[str] | None, Any]:
    """What the room blames (None where it cannot say), by our names; and its examination."""
    whole = Training(training.optimizer, training.schedule)
    file = folder / f"{training.optimizer}.pt"
    if not file.exists():
        with seeded():
            state = whole.start(None)
            whole.step(state, STEPS)
            whole.save(state, str(file))
    examination = tl.resume.examine(
        ckpt=str(file), step=training.step, start=training.start, save=training.save, steps=STEPS
    )
    result = examination.result
    ours = {piece: name for name, piece in PARTS.items()}
    if not result.replay_repeatable or (not result.replay_equal and not result.replay_explained):
        return None, examination
    return frozenset(ours.get(piece, piece) for piece in result.culprits()), examination


def run(trainings: list[Training], heard: Callable[[Training, bool, int | None], None]) -> float:
    """The share of cases named right; each is told to ``heard`` with the first step that differs."""
    right = 0
    with tempfile.TemporaryDirectory() as folder:
        for training in trainings:
            found, examination = named(training, Path(folder))
            well = found == training.dropped and (examination.findings["RES006"].level == "ok") == (
                not training.dropped
            )
            right += well
            heard(training, well, examination.result.first_difference())
            if not well:
                print(f"  {training}: named {sorted(found) if found is not None else found}")
                print(examination.findings["RES006"])
    return right / len(trainings)


def main() -> int:
    """Prints the table; 1 where fewer than the bar are named right or a true resume does not pass."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    missed = False
    print(
        f"{'run':<22} {'dropped from':<13} {'subsets':>7} {'right':>7}   dropped alone: first loss that differs"
    )
    for (optimizer, schedule), side in itertools.product(
        (("adamw", "warmup-cosine"), ("sgd", "step")), ("save", "load")
    ):
        trainings = [Training(optimizer, schedule, dropped, side) for dropped in subsets()]
        alone: dict[str, str] = {}
        sizes: Counter[int] = Counter()

        def heard(
            training: Training, well: bool, step: int | None, alone: Any = alone, sizes: Any = sizes
        ) -> None:
            sizes[len(training.dropped)] += well
            if len(training.dropped) == 1:
                alone[min(training.dropped)] = str(step or "never")

        share = run(trainings, heard)
        missed |= share < BAR or sizes[0] == 0
        told = ", ".join(f"{name} {step}" for name, step in alone.items())
        print(f"{optimizer + ' ' + schedule:<22} {side:<13} {len(trainings):>7} {share:>7.1%}   {told}")
    print(f"bar {BAR:.0%}, and each true resume passes bit by bit; {time.perf_counter() - begun:.0f} s")
    return int(missed)


def _warmup_cosine(taken: int) -> float:
    return (taken + 1) / 8 if taken < 8 else 0.5 + 0.5 * math.cos(math.pi * min(taken - 8, 40) / 40)


def _parameters(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in weights.items()
        if not name.startswith("1.running") and "batches" not in name
    }


if __name__ == "__main__":
    sys.exit(main())
