"""Rule packs: what is usual in one kind of training. A pack presets limits and says what to expect of series by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.errors import UsageError, did_you_mean

__all__ = ["PACKS", "Pack", "chosen", "expectations"]

Bands = Mapping[str, tuple[float, float]]
Schedules = Mapping[str, Mapping[float, float]]


@dataclass(frozen=True)
class Pack:
    """What is usual in one kind of training.

    A pack of your own extends one of `PACKS`: ``dataclasses.replace(PACKS["distillation"], name="ours", bands={...})``.

    Attributes:
        name: How it is asked for.
        about: What it is for.
        words: A pattern of names of series or settings from which the pack is guessed; empty where it is not.
        limits: Limits that it sets otherwise than `CurvesLimits`; only those that are ``None`` or a number there.
        bands: The least and largest value that a series should have over the last half of the run, by a pattern of its name.
        schedules: The value that a weight should have at shares of the run, by a pattern of its name; linear between.
        progress: Does the loss tell how far training is? Not where two networks play against each other.
        baseline: What a trivial prediction scores, where that is known for this kind; else 0.
    """

    name: str
    about: str
    words: str = ""
    limits: Mapping[str, float | None] = field(default_factory=dict)
    bands: Bands = field(default_factory=dict)
    schedules: Schedules = field(default_factory=dict)
    progress: bool = True
    baseline: float = 0.0

    def __post_init__(self) -> None:
        known = {each.name for each in dataclasses.fields(CurvesLimits)}
        for name in self.limits:
            if name not in known:
                raise UsageError(
                    f"pack {self.name!r} sets a limit {name!r}, which is not known",
                    fix=did_you_mean(name, known),
                )


_EVERY = (
    Pack("general", "any training whose loss should fall", limits={"final_ratio_max": 0.5}),
    Pack(
        "adversarial",
        "two networks against each other: their losses hover",
        words=r"\b(d|g)_(a|b)\b|\bloss_?[dg]\b|\b[dg]_?loss\b|discriminator|gan_loss|\bd_(real|fake)\b",
        progress=False,
    ),
    Pack(
        "reinforcement",
        "reinforcement learning: the loss is no measure of progress, the reward is",
        words=r"reward|policy_(gradient_)?loss|value_loss|ep_rew|\bpg_loss|advantage|approx_?kl|ep_len",
        progress=False,
    ),
    Pack(
        "distillation",
        "a student after a teacher: several losses that should be of one scale",
        words=r"distil|\bkd\b|kd_loss|loss_kd|teacher|student|hint_loss|feature_loss|attention_loss",
        limits={"component_ratio_max": 10.0, "final_ratio_max": 0.5},
        schedules={r"curriculum": {0.0: 0.0, 1.0: 1.0}},
    ),
    Pack(
        "diffusion_forcing",
        "denoising with noise levels drawn anew: a noisy loss of known scale, 1 for predicting no noise at all",
        words=r"_q[0-3]\b|_q[0-3]_mean|diffusion|denois|noise_level|noise_schedule|timestep_respacing|num_timesteps",
        limits={"late_loss_max": 1.0, "final_ratio_max": 0.5},
        baseline=1.0,
    ),
    Pack(
        "language_model",
        "next-token prediction: most of the initial loss is entropy of the language and stays",
        words=r"perplexity|\bppl\b|lm_loss|lm loss|vocab|\bbpc\b|\bbpb\b|tokens?_per_sec|n_?tokens|tok/s|block_size|seq_?len",
        limits={"final_ratio_max": 0.8},
    ),
)
PACKS: Mapping[str, Pack] = {pack.name: pack for pack in _EVERY}


def chosen(pack: str | Pack, names: Iterable[str]) -> tuple[Pack, str]:
    """The pack that is asked for, and why.

    Args:
        pack: Its name, a pack of your own, or ``auto`` to guess it.
        names: Names of series and settings to guess from.

    Raises:
        UsageError: There is no such pack.
    """
    if isinstance(pack, Pack):
        return pack, "given"
    if pack != "auto":
        if pack not in PACKS:
            raise UsageError(f"there is no rule pack {pack!r}", fix=did_you_mean(pack, ["auto", *PACKS]))
        return PACKS[pack], "given"
    every = list(names)
    for candidate in PACKS.values():
        if candidate.words:
            found = [name for name in every if re.search(candidate.words, name, re.IGNORECASE)]
            if found:
                return candidate, f"guessed from {', '.join(found[:3])}"
    return PACKS["general"], "no name tells another"


def expectations(
    pack: Pack, bands: Bands | None, schedules: Schedules | None
) -> list[tuple[str, float, float, float]]:
    """What is expected, as (pattern, progress or NaN, low, high); what the caller gives stands before the pack's.

    Raises:
        UsageError: A band or a schedule is malformed.
    """
    rows: list[tuple[str, float, float, float]] = []
    for pattern, band in {**pack.bands, **(bands or {})}.items():
        low, high = _pair(pattern, band)
        rows.append((_pattern(pattern), float("nan"), low, high))
    given = schedules or {}
    kept = {
        pattern: each for pattern, each in pack.schedules.items() if not any(pattern in own for own in given)
    }
    for pattern, points in {**kept, **given}.items():
        if not isinstance(points, Mapping) or not points:
            raise UsageError(
                f"the schedule of {pattern!r} is not a dict of values by progress",
                seen=repr(points),
                fix=f"e.g. {{{pattern!r}: {{0: 0, 1: 1}}}}",
            )
        rows += [
            (_pattern(pattern), float(at), float(value), float(value)) for at, value in sorted(points.items())
        ]
    return rows


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is no pattern of names", seen=error, fix="a name, or a regular expression"
        ) from None
    return pattern


def _pair(pattern: str, band: object) -> tuple[float, float]:
    if not isinstance(band, (tuple, list)) or len(band) != 2 or not band[0] <= band[1]:
        raise UsageError(
            f"the band of {pattern!r} is not a least and a largest value",
            seen=repr(band),
            fix="e.g. (0.5, 5.0)",
        )
    return float(band[0]), float(band[1])
