"""Healthy runs of many kinds, from 200 to 100 000 steps; each is a `Draft` that no rule should speak of."""

from __future__ import annotations

import numpy as np

from benchmarks.curves_study.draft import Draft


def base(shape: str, rng: np.random.Generator, *, long: bool = False) -> Draft:
    """Steps, time and a learning rate; the loss is the caller's."""
    total = float(
        rng.choice([10_000, 20_000, 52_000, 100_000] if long else [200, 1000, 3000, 10_000, 30_000, 100_000])
    )
    every = max(1.0, total / rng.choice([200, 400, 1000, 2000]))
    step = np.arange(0, total + 1, np.round(every))
    draft = Draft(shape, step, total, {}, rng)
    draft.per_step = rng.uniform(0.05, 2) * rng.lognormal(0, 0.05, len(step))
    draft.per_step[:: max(20, len(step) // 20)] *= 4  # evaluations
    return draft


def falling(draft: Draft, start: float, floor: float, noise: float, power: float | None = None) -> np.ndarray:
    """A power law from ``start`` to near ``floor``, with log-normal noise."""
    power = draft.rng.uniform(0.4, 0.8) if power is None else power
    scale = draft.total / draft.rng.uniform(100, 400)
    curve = floor + (start - floor) * (1 + draft.step / scale) ** -power
    return curve * draft.rng.lognormal(0, noise, draft.count)


def rate(draft: Draft, kind: str, peak: float = 3e-4, warmup: float = 0.03, floor: float = 0.0) -> np.ndarray:
    """A learning rate of a known shape."""
    done = np.clip((draft.share - warmup) / (1 - warmup), 0, 1)
    shape = {
        "constant": np.ones_like(done),
        "linear": 1 - (1 - floor) * done,
        "cosine": floor + (1 - floor) * (1 + np.cos(np.pi * done)) / 2,
        "trapezoid": np.interp(done, [0, 0.7, 1], [1, 1, max(floor, 0.01)]),
        "steps": np.where(done < 0.5, 1.0, np.where(done < 0.8, 0.1, 0.01)),
        "exponential": np.exp(-3 * done),
        "restarts": floor + (1 - floor) * (1 + np.cos(np.pi * ((4 * done) % 1))) / 2,
    }[kind]
    ramp = np.minimum(1, draft.share / warmup) if warmup else 1.0
    return peak * np.where(draft.share < warmup, ramp, shape)


def gradient(draft: Draft) -> np.ndarray:
    """A norm that falls a little, with spikes that pass."""
    norm = draft.rng.uniform(0.5, 5) * (1 + draft.share) ** -0.5 * draft.rng.lognormal(0, 0.25, draft.count)
    norm[draft.rng.choice(draft.count, max(1, draft.count // 100), replace=False)] *= draft.rng.uniform(5, 80)
    return norm


def at_every(draft: Draft, count: int) -> np.ndarray:
    """(point) bool: true where an evaluation is missing; ``count`` evaluations are there, the last point among them."""
    there = np.zeros(draft.count, bool)
    there[np.unique(np.linspace(0, draft.count - 1, count).astype(int))] = True
    return ~there


def regression(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("regression", rng, long=long)
    start = rng.uniform(0.5, 200)
    draft.values["loss"] = falling(draft, start, start * rng.uniform(0.001, 0.05), rng.uniform(0.01, 0.15))
    draft.values["lr"] = rate(
        draft, rng.choice(["constant", "linear", "cosine", "trapezoid", "steps", "exponential"])
    )
    draft.values["grad_norm"] = gradient(draft)
    draft.values["val_loss"] = falling(draft, start * 1.02, start * 0.06, 0.005)
    draft.missing["val_loss"] = at_every(draft, 20)
    return draft


def language(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("language", rng, long=long)
    vocab = int(rng.choice([256, 8192, 50257]))
    start = np.log(vocab) + rng.uniform(0.05, 0.3)
    floor = start * rng.uniform(0.2, 0.35)
    loss = falling(draft, start, floor, rng.uniform(0.005, 0.03))
    draft.values |= {
        "train/loss": loss,
        "lr": rate(draft, "cosine", 6e-4, 0.02, rng.choice([0.0, 0.1])),
        "grad_norm": gradient(draft),
    }
    draft.values["val/loss"] = falling(draft, start, floor * 1.03, 0.003)
    draft.missing["val/loss"] = at_every(draft, 20)
    if rng.random() < 0.5:
        draft.values["train/perplexity"] = np.exp(loss)
    draft.config = {"vocab_size": vocab, "learning_rate": 6e-4}
    return draft


def fine_tuned(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("fine-tuned", rng, long=long)
    start = rng.uniform(1.8, 2.8)
    draft.values = {
        "loss": falling(draft, start, start * rng.uniform(0.6, 0.75), 0.04),
        "learning_rate": rate(draft, "linear", 2e-5),
    }
    draft.config = {"vocab_size": 32000}
    return draft


def diffusion(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("diffusion", rng, long=long)
    start, floor = rng.uniform(0.9, 1.1), rng.uniform(0.02, 0.12)
    smooth = falling(draft, start, floor, 0.0)
    draft.values["loss"] = smooth * rng.lognormal(-0.3, rng.uniform(0.5, 0.9), draft.count)
    for level, share in enumerate((3.0, 0.6, 0.25, 0.1)):
        draft.values[f"loss_q{level}"] = smooth * share * rng.lognormal(0, 0.15, draft.count)
    draft.values["grad_norm"] = gradient(draft)
    return draft


def adversarial(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("adversarial", rng, long=long)
    for name, middle in (("D_A", 0.25), ("G_A", 0.4), ("D_B", 0.2), ("G_B", 0.6)):
        draft.values[name] = middle * (1 + 0.5 * draft.share) * rng.lognormal(0, 0.4, draft.count)
    draft.values["cycle_A"] = falling(draft, 6, 0.6, 0.2)
    return draft


def reinforced(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("reinforced", rng, long=long)
    draft.values = {
        "train/loss": rng.normal(-5, 30, draft.count),
        "train/value_loss": rng.lognormal(0, 0.8, draft.count) * (1 + 4 * draft.share),
        "train/entropy_loss": -1.4 + 0.6 * draft.share + rng.normal(0, 0.02, draft.count),
        "train/reward": -110 + 20 * draft.share + rng.normal(0, 2, draft.count),
    }
    return draft


def distilled(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("distilled", rng, long=long)
    parts = {
        name: falling(draft, rng.uniform(2, 6), rng.uniform(0.3, 0.8), 0.05)
        for name in ("kd_loss", "feature_loss", "lm_loss")
    }
    draft.values = {"loss": sum(parts.values()), **parts}
    draft.values["penalty_loss"] = 2.5 * np.exp(-4 * draft.share) * rng.lognormal(0, 0.05, draft.count)
    draft.values["curriculum_weight"] = draft.share.copy()
    draft.values["lr"] = rate(draft, "cosine", 1e-4)
    return draft


def classified(rng: np.random.Generator, *, long: bool = False) -> Draft:  # noqa: ARG001 - epochs are never many
    epochs = int(rng.choice([30, 100, 300]))
    draft = Draft("classified", np.arange(1.0, epochs + 1), float(epochs), {}, rng, epochs_only=True)
    classes = int(rng.choice([10, 100, 1000]))
    draft.values = {
        "loss": falling(draft, np.log(classes) * 0.95, 0.05 * np.log(classes), 0.02, power=0.8),
        "accuracy": np.clip(1 - 0.8 / np.sqrt(draft.step), 0, 1),
        "val_loss": falling(draft, np.log(classes) * 0.97, 0.25 * np.log(classes), 0.01, power=0.8),
        "lr": rate(draft, rng.choice(["cosine", "steps"]), 0.1, 0.05),
    }
    draft.config = {"num_classes": classes}
    return draft


def detected(rng: np.random.Generator, *, long: bool = False) -> Draft:
    draft = base("detected", rng, long=long)
    parts = {
        "loss_cls": falling(draft, 1.5, 0.2, 0.15),
        "loss_box_reg": falling(draft, 1.0, 0.15, 0.15),
        "loss_rpn_cls": falling(draft, 0.12, 0.004, 0.4),
    }
    draft.values = {"total_loss": sum(parts.values()), **parts, "lr": rate(draft, "steps", 0.02, 0.01)}
    draft.values["bbox/APs"] = np.full(draft.count, np.nan)
    draft.missing["bbox/APs"] = at_every(draft, 5)
    return draft


HEALTHY = (
    regression,
    language,
    fine_tuned,
    diffusion,
    adversarial,
    reinforced,
    distilled,
    classified,
    detected,
)
