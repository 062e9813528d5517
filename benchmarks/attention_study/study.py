"""One model, healthy or with a fault planted in a copy: what the rules of `attention` say, and what a naive reading says."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from benchmarks.attention_study.plant import FAULTS, HIDDEN, Fault, Wired, hide, wired
from benchmarks.attention_study.zoo import Clips, Subject, Trained
from trainlab.diagnostics.attention import AttentionResult, diagnostic
from trainlab.finding import Finding, Findings, Level

__all__ = ["Tally", "alarms", "look", "named", "study"]

ALARM = (Level.WARN, Level.FAIL)
NAIVE = {"ATT002": "low", "ATT008": "low", "ATT003": "high", "ATT004": "high"}  # what entropy alone could say


@dataclass
class Tally:
    """Counts by half of the zoo; `wrong` has a line for each miss."""

    models: Counter[str] = field(default_factory=Counter)
    heads: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)  # rules on healthy models
    alarms: Counter[str] = field(default_factory=Counter)
    head_alarms: Counter[str] = field(default_factory=Counter)
    naive_alarms: Counter[str] = field(default_factory=Counter)  # heads
    naive_models: Counter[str] = field(default_factory=Counter)
    planted: Counter[tuple[str, str]] = field(default_factory=Counter)  # by half and fault
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    naive_found: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)


def study(subject: Subject | Clips, tally: Tally, *, times: int = 2) -> None:
    """Trains a model, looks at it, and at copies of it with each fault planted, ``times`` of each in other heads."""
    trained, half = subject.train(), subject.half
    if trained.score < trained.good:
        tally.untrained.append(f"{subject.name} learned too little: {trained.score:.2f} of {trained.good}")
        return
    result, findings = look(trained.model, trained.batch)
    false = alarms(findings)
    naive = naive_marks(result)
    tally.models[half] += 1
    tally.heads[half] += len(result.head_call)
    tally.judged[half] += sum(finding.level is not Level.SKIP for finding in findings)
    tally.alarms[half] += len(false)
    tally.head_alarms[half] += sum(len(finding.evidence) for finding in false)
    tally.naive_alarms[half] += len(naive)
    tally.naive_models[half] += bool(naive)
    tally.wrong += [f"{subject.name}: false alarm {finding.code} {finding.text}" for finding in false]
    for fault, model, attention, head in sick(trained, random.Random(subject.name), times):
        result, findings = look(model, trained.batch)
        right = named(findings[fault.code], fault, attention.name, head)
        tally.planted[half, fault.name] += 1
        tally.found[half, fault.name] += right
        tally.naive_found[half, fault.name] += _naive_right(result, fault, attention.name, head)
        if not right:
            said = "; ".join(f"{each.code} {each.text}" for each in alarms(findings)) or "no alarm"
            tally.wrong.append(
                f"{subject.name}: {fault.name} in {attention.name}, head {head} missed; said: {said}"
            )


def look(model: nn.Module, batch: dict[str, Tensor]) -> tuple[AttentionResult, Findings]:
    """What the room says."""
    seen = diagnostic.examine(model=model, batch=batch, keep_mb=1)
    assert isinstance(seen.result, AttentionResult)
    return seen.result, seen.findings


def sick(trained: Trained, rng: random.Random, times: int) -> Iterator[tuple[Fault, nn.Module, Wired, int]]:
    """Copies with a fault each: the fault, the model, where it is, and in which head."""
    for fault in FAULTS:
        for _ in range(times if fault.scope == "head" else 1):
            model = copy.deepcopy(trained.model)
            places = [attention for attention in wired(model) if fault.fits(model, attention)]
            if not places:
                continue
            attention = rng.choice(places)
            head = rng.randrange(attention.heads)
            if fault is HIDDEN:
                hide(model, attention, trained.batch)
            for place in places if fault.scope == "model" else [attention]:
                for each in [head] if fault.scope == "head" else range(place.heads):
                    fault.plant(place, each)
            yield fault, model, attention, head


def alarms(findings: Findings) -> list[Finding]:
    return [finding for finding in findings if finding.level in ALARM]


def named(finding: Finding, fault: Fault, layer: str, head: int) -> bool:
    """Whether the finding is an alarm that names the place: the layer, and the head where there is one."""
    where = {"head": rf"{re.escape(layer)}, head {head}\b", "layer": re.escape(layer), "model": ""}[
        fault.scope
    ]
    return finding.level in ALARM and any(re.match(where, each.where) for each in finding.evidence)


def naive_marks(result: AttentionResult) -> dict[str, str]:
    """What is often logged: a head's mean entropy over log of the number of keys; high above 0.95, low below 0.1."""
    share = result.head_nats / np.log(result.call_keys[result.head_call])
    marks = np.where(share > 0.95, "high", np.where(share < 0.1, "low", ""))
    return {
        f"{result.call_name[call]}, head {number}": str(mark)
        for call, number, mark in zip(result.head_call, result.head_number, marks, strict=True)
        if mark
    }


def _naive_right(result: AttentionResult, fault: Fault, layer: str, head: int) -> bool:
    marks = naive_marks(result)
    wanted = NAIVE.get(fault.code, "none")
    if fault.scope == "head":
        return marks.get(f"{layer}, head {head}") == wanted
    return any(mark == wanted and (fault.scope == "model" or where.startswith(layer)) for where, mark in marks.items())  # fmt: skip
