"""Every case of the study, and what is counted of their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.attention_maps.case import Case
from benchmarks.attention_maps.forms import hand_written
from benchmarks.attention_maps.free import attention_free
from benchmarks.attention_maps.hard import hard
from benchmarks.attention_maps.judge import Verdict
from benchmarks.attention_maps.kernels import fused, modules, transformed
from benchmarks.attention_maps.more_families import more_families
from benchmarks.attention_maps.more_forms import more_forms
from benchmarks.attention_maps.sense_families import sense_families
from benchmarks.attention_maps.surroundings import surrounded
from benchmarks.attention_maps.text_families import text_families
from benchmarks.attention_maps.vision_zoo import timm_cases

__all__ = ["KINDS", "all_cases", "bars", "by_kind", "wrong"]

KINDS = (
    "hand-written", "fused", "torch.nn", "transformed", "Hugging Face", "timm", "hard", "no softmax", "attention-free",
)  # fmt: skip
LEAST = {"Hugging Face": 45, "timm": 24, "attention-free": 12}
EXACT_SHARE = 0.97


def all_cases() -> tuple[Case, ...]:
    """The whole study."""
    return (
        *hand_written(), *fused(), *modules(), *transformed(), *text_families(), *sense_families(), *timm_cases(),
        *hard(), *attention_free(), *more_forms(), *more_families(), *surrounded(),
    )  # fmt: skip


def by_kind(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """A line for each kind: models, exact ones, maps found, and what went wrong."""
    lines = [("kind", "models", "as expected", "exact", "maps", "found", "false", "out wrong", "named", "silent", "raised", "skipped")]  # fmt: skip
    for kind in (*KINDS, "all"):
        part = [v for v in verdicts if kind in {v.case.kind, "all"}]
        ran = [v for v in part if not v.skipped]
        counts = (
            len(ran), sum(v.right for v in ran), sum(v.exact for v in ran), sum(v.maps for v in ran),
            sum(v.found for v in ran), sum(v.extra for v in ran), sum(v.wrong_out for v in ran),
            sum(v.named for v in ran), sum(v.silent for v in ran), sum(bool(v.error) for v in ran),
            len(part) - len(ran),
        )  # fmt: skip
        if part:
            lines.append((kind, *map(str, counts)))
    return lines


def wrong(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Each case that went otherwise than expected, and what was said of it."""
    ill = [v for v in verdicts if not v.skipped and not v.right]
    return [
        ("kind", "case", "maps", "found", "false", "said"),
        *(
            (v.case.kind, v.case.name, str(v.maps), str(v.found), str(v.extra), v.error or v.said)
            for v in ill
        ),
    ]


def bars(verdicts: Sequence[Verdict], *, partial: bool) -> list[str]:
    """Each bar that is missed, in words; sizes are asked only of the whole study."""
    ran = [v for v in verdicts if not v.skipped]
    asked = [v for v in ran if v.case.expects == "exact"]
    lines = []
    if not partial:
        counts = Counter(v.case.kind for v in ran)
        lines += [
            f"{counts[k]} {k} models ran, fewer than {least}"
            for k, least in LEAST.items()
            if counts[k] < least
        ]
    for kind in dict.fromkeys(v.case.kind for v in asked):
        part = [v for v in asked if v.case.kind == kind]
        if (share := sum(v.exact for v in part) / len(part)) < EXACT_SHARE:
            lines.append(f"{kind}: {share:.1%} of {len(part)} models exact, below {EXACT_SHARE:.0%}")
    lines += [
        f"silent miss: {v.case.name}" for v in ran if v.silent or (v.case.expects == "named" and not v.named)
    ]
    lines += [
        f"false record: {v.case.name}" for v in ran if v.extra and v.case.expects in {"nothing", "named"}
    ]
    lines += [
        f"called attention and is none: {v.case.name}" for v in ran if v.case.expects == "nothing" and v.named
    ]
    lines += [f"wrong map: {v.case.name}" for v in ran if v.extra and v.maps]
    lines += [f"raised: {v.case.name}: {v.error}" for v in ran if v.error]
    return lines
