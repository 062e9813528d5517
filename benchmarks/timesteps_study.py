"""Does `timesteps` name each planted bug by the right rule, and leave healthy models alone? Prints the table.

``python -m benchmarks.timesteps_study``: every model is really trained, in about a second; exit code 1 where a bar fails.
Video models are the tiny digits example; denoisers of vectors come from `benchmarks.timesteps_denoisers`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.timesteps_denoisers import Recipe, data, trained
from trainlab.diagnostics.timesteps import diagnostic
from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import draw
from trainlab.examples.digits.run import Run
from trainlab.examples.tiny import CONFIG, blobs
from trainlab.finding import Findings, Level

__all__ = ["CLIPS", "EXPECTED", "Case", "cases", "look", "main"]

CLIPS = (
    replace(CONFIG, dim=16, seed=3),
    CONFIG,
    replace(CONFIG, dim=64, depth=3, lr=5e-3, seed=2),
)
VECTORS = (
    Recipe("epsilon", "linear", 50),
    Recipe("v", "cosine", 50),
    Recipe("x0", "cosine", 50),
    Recipe("epsilon", "linear", 1000),
    Recipe("flow", "straight", 0),
    Recipe("edm", "karras", 0),
)
SIZES = ((64, 0), (128, 1), (256, 2))  # hidden units and seed
# the rule that names each bug; any of several where they are one bug seen from two sides
EXPECTED = {
    "tau_flipped": "TIM003", "tau_ignored": "TIM006", "late_untrained": "TIM007", "frame_zeroed": "TIM008",
    "copy_neighbour": "TIM009", "zero_head": "TIM010", "only_tau": "TIM010", "cosine_mixed": "TIM005",
    "flipped": "TIM003", "ignored": "TIM006", "one more": "TIM004", "one less": "TIM004", "dead": "TIM010",
    "wrong schedule": "TIM005",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One model and what it is looked at with.

    Attributes:
        name: What it is.
        fault: What is wrong with it, a key of `EXPECTED`; "" for nothing.
        recipe: How it is trained.
        settings: Of the probe.
    """

    name: str
    fault: str
    recipe: Recipe | Config
    settings: dict[str, Any]


def cases() -> Iterator[Case]:
    """All of them, healthy ones first."""
    for config in CLIPS:
        for seed in (0, 1, 2):
            yield Case(
                f"clips, width {config.dim}, seed {seed}",
                "",
                replace(config, seed=seed),
                {"objective": "forcing"},
            )
    for recipe in VECTORS:
        for hidden, seed in SIZES:
            yield _vectors(replace(recipe, hidden=hidden, seed=seed), "")
    for twin in ("tau_flipped", "tau_ignored", "copy_neighbour", "late_untrained", "frame_zeroed", "cosine_mixed", "zero_head", "only_tau"):  # fmt: skip
        for seed in (0, 1, 2):
            yield Case(
                f"clips, seed {seed}", twin, replace(CONFIG, seed=seed, twin=twin), {"objective": "forcing"}
            )
    for recipe in (*VECTORS[:3], *VECTORS[4:]):
        slips = ["flipped", "dead"]
        slips += (
            [] if recipe.kind == "edm" else ["ignored"]
        )  # its input is scaled by the level that it is told
        slips += ["one more", "one less"] if recipe.kind in ("epsilon", "v") else []
        for slip in slips:
            for hidden, seed in SIZES[:2]:
                yield _vectors(replace(recipe, hidden=hidden, seed=seed, slip=slip), slip)
        if recipe.steps:
            other = "cosine" if recipe.schedule == "linear" else "linear"
            for hidden, seed in SIZES[:2]:
                case = _vectors(replace(recipe, hidden=hidden, seed=seed), "wrong schedule")
                yield replace(case, settings=case.settings | {"schedule": other})


def _vectors(recipe: Recipe, fault: str) -> Case:
    name = f"{recipe.kind}, {recipe.schedule}{f', {recipe.steps} steps' if recipe.steps else ''}, {recipe.hidden} units"
    schedule = "" if recipe.kind == "edm" else recipe.schedule
    return Case(name, fault, recipe, {"objective": recipe.kind, "schedule": schedule, "steps": recipe.steps})


def model_of(recipe: Recipe | Config) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The trained model, and a batch that it has not seen."""
    if isinstance(recipe, Config):
        run = Run.start(recipe)
        for _ in range(recipe.steps):
            run.step(blobs())
        return run.model, draw(blobs(), 16, recipe, torch.Generator().manual_seed(99))
    x = data(64, 7)
    return trained(recipe), {
        "x": x,
        "t": torch.zeros(len(x), dtype=torch.int64 if recipe.steps else torch.float32),
    }


def look(case: Case) -> Findings:
    """What the room says of a case."""
    model, batch = model_of(case.recipe)
    return diagnostic.examine(model=model, batch=batch, **case.settings).findings


def alarms(findings: Findings) -> list[str]:
    return [each.code for each in findings if each.level in (Level.WARN, Level.FAIL)]


def right(case: Case, findings: Findings) -> bool:
    """A healthy model has no alarm; of a sick one the right rule fails."""
    if not case.fault:
        return not alarms(findings)
    return findings[EXPECTED[case.fault]].level is Level.FAIL


def main(argv: list[str]) -> int:
    torch.set_num_threads(1)
    wrong = 0
    healthy = sick = 0
    for case in cases():
        if argv and argv[0] not in f"{case.name} {case.fault}":
            continue
        begun = time.perf_counter()
        findings = look(case)
        good = right(case, findings)
        wrong += not good
        healthy, sick = healthy + (not case.fault), sick + bool(case.fault)
        said = ", ".join(alarms(findings)) or "no alarm"
        wanted = EXPECTED.get(case.fault, "none")
        print(f"{'ok  ' if good else 'MISS'}  {case.fault or 'healthy':15} {case.name:38} wanted {wanted:7} said {said}  ({time.perf_counter() - begun:.1f} s)", flush=True)  # fmt: skip
    print(f"{healthy} healthy and {sick} sick models: {wrong} judged wrongly")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
