"""What looks like a fault and is none: no rule named beside it may speak, and no other either."""

from __future__ import annotations

import numpy as np

from benchmarks.curves_study import shapes
from benchmarks.curves_study.draft import Draft

Rng = np.random.Generator


def gradient_spikes(rng: Rng) -> Draft:
    draft = shapes.regression(rng)
    draft.values["grad_norm"][rng.choice(draft.count, max(2, draft.count // 40), replace=False)] *= 1000
    return draft


def negative_loss(rng: Rng) -> Draft:
    draft = shapes.base("negative", rng)
    draft.values["loss"] = -3 + 5 * np.exp(-4 * draft.share) + rng.normal(0, 0.1, draft.count)
    return draft


def reinforcement(rng: Rng) -> Draft:
    return shapes.reinforced(rng)


def fading_penalty(rng: Rng) -> Draft:
    draft = shapes.distilled(rng)
    draft.values["loss_2"] = (
        2.54 * np.maximum(np.exp(-12 * draft.share), 0.004) * rng.lognormal(0, 0.05, draft.count)
    )
    del draft.values["penalty_loss"]
    draft.config["pack"] = "none"
    return draft


def nan_of_an_absent_class(rng: Rng) -> Draft:
    return shapes.detected(rng)


def nan_words(rng: Rng) -> Draft:
    draft = shapes.language(rng)
    draft.values["number of nan iterations"] = np.zeros(draft.count)
    draft.values["step_avg_ms"] = np.where(draft.step < draft.step[min(10, draft.count - 1)], np.nan, 100.0)
    return draft


def warm_restarts(rng: Rng) -> Draft:
    draft = shapes.regression(rng, long=True)
    draft.values["lr"] = shapes.rate(draft, "restarts", warmup=0.0)
    cycle = (4 * draft.share) % 1
    draft.values["loss"] *= np.where(draft.share > 0.2, 1 + 0.9 * np.exp(-12 * cycle), 1)
    return draft


def adversarial(rng: Rng) -> Draft:
    return shapes.adversarial(rng)


def resumed(rng: Rng) -> Draft:
    draft = shapes.language(rng, long=True)
    half = draft.count // 2
    draft.step = draft.step[half:]
    draft.values = {name: each[half:] for name, each in draft.values.items()}
    draft.missing = {name: each[half:] for name, each in draft.missing.items()}
    assert draft.per_step is not None
    draft.per_step = draft.per_step[half:]
    draft.values.pop("lr")
    return draft


def diffusion_noise(rng: Rng) -> Draft:
    draft = shapes.diffusion(rng)
    for level in range(rng.integers(0, 2) * 4):
        draft.values.pop(f"loss_q{level}")
    draft.config["diffusion_steps"] = 1000
    return draft


def early_stop_in_time(rng: Rng) -> Draft:
    draft = shapes.regression(rng)
    draft.cut(int(0.6 * draft.count))
    turn = draft.count // 2
    for name, noise in (("loss", 0.05), ("val_loss", 0.005)):
        level = float(np.median(draft.values[name][turn - 5 : turn]))
        draft.values[name][turn:] = level * rng.lognormal(0, noise, draft.count - turn)
    draft.events.append(
        ("early_stop", "Early stopping: val_loss did not improve for 10 epochs", draft.count - 1)
    )
    draft.values.pop("lr")
    return draft


def loss_scaling(rng: Rng) -> Draft:
    draft = shapes.language(rng)
    draft.values["grad_norm"][rng.choice(draft.count, 1)] = np.inf
    draft.values["loss_scale"] = 2.0 ** rng.integers(8, 16, draft.count)
    return draft


def memorised(rng: Rng) -> Draft:
    """Falls by three decades, and wobbles widely down there."""
    draft = shapes.base("memorised", rng, long=True)
    draft.values["loss"] = (
        4 * np.exp(-7.5 * draft.share) * rng.lognormal(0, 0.2 + 0.6 * draft.share, draft.count)
    )
    return draft


HARMLESS = (
    gradient_spikes, negative_loss, reinforcement, fading_penalty, nan_of_an_absent_class, nan_words, warm_restarts,
    adversarial, resumed, diffusion_noise, early_stop_in_time, loss_scaling, memorised,
)  # fmt: skip
