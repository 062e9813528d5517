"""Planted faults: each changes a healthy draft, and names the rules that must speak and those that may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.curves_study import shapes
from benchmarks.curves_study.draft import Draft

Plant = Callable[[Draft], None]
TREND = frozenset({"CRV003", "CRV004", "CRV005", "CRV008", "CRV021"})  # what a loss that does not fall breaks


@dataclass(frozen=True)
class Fault:
    """One fault: how it is planted, in which shapes, and what should be said of it."""

    name: str
    plant: Plant
    must: str
    may: frozenset[str]
    where: tuple[Callable[..., Draft], ...]
    long: bool = False


def _main(draft: Draft) -> str:
    return next(name for name in ("loss", "train/loss", "total_loss") if name in draft.values)


def _after(draft: Draft, low: float, high: float) -> int:
    """A point somewhere in this part of the log."""
    return int(draft.rng.uniform(low, high) * draft.count)


def nan_to_the_end(draft: Draft) -> None:
    draft.values[_main(draft)][_after(draft, 0.2, 0.95) :] = np.nan


def nan_from_the_first(draft: Draft) -> None:
    draft.values[_main(draft)][:] = np.nan


def one_inf(draft: Draft) -> None:
    draft.values[_main(draft)][_after(draft, 0.2, 0.9)] = np.inf


def explosion(draft: Draft) -> None:
    begin = _after(draft, 0.4, 0.8)
    grow = np.linspace(0, np.log(draft.rng.uniform(8, 1000)), draft.count - begin)
    for name in draft.values:
        if "loss" in name:
            draft.values[name][begin:] *= np.exp(grow)


def late(draft: Draft) -> None:
    draft.values["loss"] = draft.values["loss"] + draft.rng.uniform(2, 8)


def plateau(draft: Draft) -> None:
    name = _main(draft)
    value = draft.values[name]
    onset = max(3, int(draft.rng.uniform(0.01, 0.3) * draft.count))
    start = float(value.max())
    level = start * draft.rng.uniform(0.6, 0.9)
    ramp = np.linspace(start, level, onset)
    draft.values[name] = np.concatenate([ramp, np.full(draft.count - onset, level)]) * draft.rng.lognormal(
        0, 0.02, draft.count
    )


def stall(draft: Draft) -> None:
    """Flat from step 4000 on, at a third of the start."""
    name = _main(draft)
    start = float(np.median(draft.values[name][:3]))
    level = start * draft.rng.uniform(0.25, 0.45)
    fall = np.interp(draft.step, [0, 4000], [np.log(start), np.log(level)])
    draft.values[name] = np.exp(fall) * draft.rng.lognormal(0, 0.02, draft.count)


def spike(draft: Draft) -> None:
    at = _after(draft, 0.3, 0.85)
    draft.values[_main(draft)][at : at + 2] *= draft.rng.uniform(3, 20)


def spike_for_good(draft: Draft) -> None:
    at = _after(draft, 0.3, 0.7)
    draft.values[_main(draft)][at:] *= draft.rng.uniform(3, 8)


def spread(draft: Draft) -> None:
    name = _main(draft)
    start = float(np.median(draft.values[name][:3]))
    floor = np.maximum(draft.values[name], 0.3 * start)
    draft.values[name][3:] = (floor * draft.rng.lognormal(0, draft.rng.uniform(0.75, 1.1), draft.count))[3:]


def half(draft: Draft) -> None:
    name = _main(draft)
    start = max(float(draft.values[name].max()), float(np.log(draft.config.get("num_classes", 1))))
    left = draft.rng.uniform(0.55, 0.75)
    curve = left + (1 - left) * np.exp(-4 * draft.share / draft.share[-1])
    draft.values[name] = start * curve * draft.rng.lognormal(0, 0.01, draft.count)


def overfit(draft: Draft) -> None:
    name = next(each for each in ("val_loss", "val/loss") if each in draft.values)
    value = draft.values[name]
    turn = _after(draft, 0.3, 0.6)
    rise = np.linspace(0, draft.rng.uniform(0.15, 1.0), draft.count - turn)
    value[turn:] = value[turn] * (1 + rise) * draft.rng.lognormal(0, 0.003, len(rise))


def gradients_grow(draft: Draft) -> None:
    draft.values["grad_norm"] = draft.values["grad_norm"] * np.exp(draft.share * draft.rng.uniform(4.5, 8))


def gradients_vanish(draft: Draft) -> None:
    draft.values["grad_norm"] = draft.values["grad_norm"] * np.exp(-draft.share * draft.rng.uniform(13, 20))


def gradients_nan(draft: Draft) -> None:
    draft.values["grad_norm"][draft.rng.random(draft.count) < 0.15] = np.nan


def rate_jumps(draft: Draft) -> None:
    """Begun anew in the middle, as by a resume that forgot the scheduler."""
    rate = shapes.rate(draft, "cosine")
    at = _after(draft, 0.4, 0.65)
    rate[at:] = rate[int(0.04 * draft.count) : int(0.04 * draft.count) + draft.count - at]
    draft.values["lr"] = rate


def rate_too_long(draft: Draft) -> None:
    done = np.clip(draft.share / draft.rng.uniform(1.5, 3), 0, 1)
    draft.values["lr"] = 3e-4 * (1 + np.cos(np.pi * done)) / 2


def rate_too_short(draft: Draft) -> None:
    done = np.clip(draft.share / draft.rng.uniform(0.3, 0.8), 0, 1)
    draft.values["lr"] = 3e-4 * (1 + np.cos(np.pi * done)) / 2


def long_warmup(draft: Draft) -> None:
    draft.values["lr"] = shapes.rate(draft, "linear", warmup=draft.rng.uniform(0.35, 0.8))


def vanishes(draft: Draft) -> None:
    draft.values["lm_loss"][_after(draft, 0.0, 0.6) + 1 :] = 0.0


def collapses(draft: Draft) -> None:
    draft.values["kd_loss"][_after(draft, 0.1, 0.6) + 1 :] *= 1e-6


def no_longer_logged(draft: Draft) -> None:
    gone = np.zeros(draft.count, bool)
    gone[_after(draft, 0.05, 0.4) + 6 :] = True
    draft.missing["lm_loss"] = gone


def out_of_scale(draft: Draft) -> None:
    draft.values["feature_loss"] = draft.values["feature_loss"] * draft.rng.uniform(80, 400)


def curriculum_lags(draft: Draft) -> None:
    draft.values["curriculum_weight"] = draft.share * draft.rng.uniform(0.05, 0.4)


def clamped(draft: Draft) -> None:
    draft.values["train/perplexity"] = np.full(draft.count, float(f"{np.exp(20):.4g}"))


def other_perplexity(draft: Draft) -> None:
    draft.values["train/perplexity"] = np.exp(draft.values["train/loss"] * draft.rng.uniform(1.4, 1.9))


def stopped_early(draft: Draft) -> None:
    at = _after(draft, 0.3, 0.5)
    draft.cut(at)
    draft.values.pop("train/perplexity", None)
    name = _main(draft)
    draft.values[name] *= np.exp(-1.5 * draft.step / draft.step[-1])
    for held in ("val_loss", "val/loss"):
        if held in draft.values:
            draft.values[held] = draft.values[held] * np.exp(-1.5 * draft.step / draft.step[-1])
    draft.events.append(("early_stop", "Early stopping triggered: no improvement for 3 evaluations", at - 1))


def unfinished(draft: Draft) -> None:
    draft.cut(_after(draft, 0.3, 0.9))


def crashed(draft: Draft) -> None:
    draft.cut(_after(draft, 0.3, 0.9))
    draft.events.append(("oom", "torch.OutOfMemoryError: CUDA out of memory.", draft.count - 1))


def slows(draft: Draft) -> None:
    assert draft.per_step is not None
    draft.per_step = draft.per_step * (
        1 + np.clip(draft.share - draft.rng.uniform(0.2, 0.5), 0, 1) * draft.rng.uniform(2, 6)
    )


def spam(draft: Draft) -> None:
    draft.idle = [
        f"[rank0] cache miss for shard {{i}} of {k}, loading" for k in range(int(draft.rng.integers(6, 17)))
    ]


def wrong_total(draft: Draft) -> None:
    draft.totals |= {"total_epochs": 10.0, "steps_per_epoch": draft.total / 10 * draft.rng.uniform(1.3, 1.9)}


def never(draft: Draft) -> None:
    name = _main(draft)
    start = float(np.median(draft.values[name][:3]))
    draft.values[name] = (
        start * (1 + 0.002 * np.exp(-draft.share)) * draft.rng.lognormal(0, 0.01, draft.count)
    )


_FALL = (shapes.regression, shapes.language, shapes.classified, shapes.detected)
_STEPS = (shapes.regression, shapes.language, shapes.detected)
_NORMS = (shapes.regression, shapes.language, shapes.diffusion)
_END = frozenset({"CRV017"})
_BROKEN = TREND | {"CRV002", "CRV006", "CRV007", "CRV009", "CRV016"}

FAULTS = (
    Fault("NaN to the end", nan_to_the_end, "CRV001", TREND, _FALL),
    Fault("NaN from the first", nan_from_the_first, "CRV001", frozenset(), _FALL),
    Fault("one Inf", one_inf, "CRV001", frozenset(), _FALL),
    Fault("explosion", explosion, "CRV002", _BROKEN | {"CRV015", "CRV013"}, (*_STEPS, shapes.diffusion)),
    Fault("above 1 after 1000 steps", late, "CRV003", TREND, (shapes.diffusion,), long=True),
    Fault("plateau", plateau, "CRV004", TREND | {"CRV009", "CRV015"}, _STEPS, long=True),
    Fault(
        "stalls after 5000",
        stall,
        "CRV005",
        TREND | {"CRV009", "CRV015"},
        (shapes.regression, shapes.language),
        long=True,
    ),
    Fault("spike that passes", spike, "CRV006", frozenset({"CRV015"}), _STEPS),
    Fault("spike for good", spike_for_good, "CRV006", _BROKEN | {"CRV015"}, _STEPS),
    Fault("spread", spread, "CRV007", TREND | {"CRV006", "CRV015"}, _STEPS, long=True),
    Fault(
        "half is left", half, "CRV008", TREND | {"CRV009"}, (shapes.regression, shapes.classified), long=True
    ),
    Fault(
        "overfitting", overfit, "CRV009", frozenset(), (shapes.regression, shapes.language, shapes.classified)
    ),
    Fault("gradients grow", gradients_grow, "CRV010", frozenset(), _NORMS),
    Fault("gradients vanish", gradients_vanish, "CRV010", frozenset(), _NORMS),
    Fault("gradients NaN", gradients_nan, "CRV010", frozenset(), _NORMS),
    Fault("rate begun anew", rate_jumps, "CRV011", frozenset(), _STEPS),
    Fault("rate laid out too long", rate_too_long, "CRV011", frozenset(), _STEPS),
    Fault("rate laid out too short", rate_too_short, "CRV011", frozenset(), _STEPS),
    Fault("long warm-up", long_warmup, "CRV011", frozenset(), _STEPS),
    Fault("a part is 0", vanishes, "CRV012", frozenset({"CRV013"}), (shapes.distilled,)),
    Fault("a part collapses", collapses, "CRV012", frozenset({"CRV013"}), (shapes.distilled,)),
    Fault("a part is not logged", no_longer_logged, "CRV012", frozenset({"CRV013"}), (shapes.distilled,)),
    Fault("a part out of scale", out_of_scale, "CRV013", frozenset(), (shapes.distilled,)),
    Fault("curriculum lags", curriculum_lags, "CRV014", frozenset(), (shapes.distilled,)),
    Fault("perplexity clamped", clamped, "CRV015", frozenset(), (shapes.language,)),
    Fault("another perplexity", other_perplexity, "CRV015", frozenset(), (shapes.language,)),
    Fault("stopped too early", stopped_early, "CRV016", _END, (shapes.regression, shapes.language)),
    Fault("unfinished", unfinished, "CRV017", frozenset(), (*_STEPS, shapes.diffusion)),
    Fault("crashed", crashed, "CRV017", frozenset(), (*_STEPS, shapes.diffusion)),
    Fault("slows down", slows, "CRV018", frozenset(), (*_STEPS, shapes.diffusion)),
    Fault("spam", spam, "CRV019", frozenset(), (shapes.regression, shapes.language)),
    Fault("wrong total", wrong_total, "CRV020", frozenset(), _STEPS),
    Fault("never learned", never, "CRV021", TREND | {"CRV009", "CRV015"}, _STEPS, long=True),
)
