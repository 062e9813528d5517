"""Runs the rules over healthy, faulty and harmless curves, and counts what they said against what they should have said."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.curves_study.draft import Draft
from benchmarks.curves_study.faults import FAULTS
from benchmarks.curves_study.harmless import HARMLESS
from benchmarks.curves_study.shapes import HEALTHY
from trainlab.diagnostics.curves import diagnostic
from trainlab.finding import Level
from trainlab.subjects.runlog.log import RunLog


@dataclass(frozen=True)
class Case:
    """A log, what must be said of it, and what may."""

    name: str
    kind: str  # healthy, fault, harmless, real
    log: RunLog
    must: frozenset[str]
    may: frozenset[str] = frozenset()


@dataclass
class Score:
    """Counts of one rule, or of all."""

    hit: int = 0
    missed: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.hit / (self.hit + self.wrong) if self.hit + self.wrong else 1.0

    @property
    def recall(self) -> float:
        return self.hit / (self.hit + self.missed) if self.hit + self.missed else 1.0


def synthetic(seeds: range, folder: Path) -> Iterator[Case]:
    """Every healthy shape, every fault in every shape it is for, and every harmless curve, once a seed."""
    for seed in seeds:
        for number, shape in enumerate(HEALTHY):
            draft = shape(np.random.default_rng([seed, 0, number]))
            yield Case(f"{draft.shape} #{seed}", "healthy", draft.log(), frozenset())
        for number, fault in enumerate(FAULTS):
            for place, shape in enumerate(fault.where):
                draft = shape(np.random.default_rng([seed, 1, number, place]), long=fault.long)
                fault.plant(draft)
                name = f"{fault.name} in {draft.shape} #{seed}"
                if draft.idle:
                    _write(draft, folder / f"{seed}-{number}-{place}.log")
                yield Case(name, "fault", draft.log(), frozenset({fault.must}), fault.may)
        for number, make in enumerate(HARMLESS):
            draft = make(np.random.default_rng([seed, 2, number]))
            yield Case(f"{make.__name__} #{seed}", "harmless", draft.log(), frozenset())


def _write(draft: Draft, path: Path) -> None:
    path.write_text(draft.text())
    draft.path, draft.format = path, "text"


def fired(log: RunLog, run: int = -1) -> frozenset[str]:
    """The codes of the findings that are not well."""
    findings = diagnostic.judge(diagnostic.probe(log, run=run))
    return frozenset(each.code for each in findings if each.level in (Level.WARN, Level.FAIL))


def scored(cases: Iterator[tuple[Case, int]]) -> tuple[dict[str, Score], list[str], int]:
    """The scores by rule, what fired on harmless curves, and how many cases there were."""
    scores: dict[str, Score] = defaultdict(Score)
    alarms: list[str] = []
    count = 0
    for case, run in cases:
        count += 1
        said = fired(case.log, run)
        for code in case.must & said:
            scores[code].hit += 1
        for code in case.must - said:
            scores[code].missed += 1
            scores[code].notes.append(f"missed {case.name}")
        for code in said - case.must - case.may:
            scores[code].wrong += 1
            scores[code].notes.append(f"wrong on {case.name}")
            if case.kind == "harmless":
                alarms.append(f"{code} on {case.name}")
    return scores, alarms, count


def total(scores: dict[str, Score]) -> Score:
    """All rules together."""
    return Score(
        sum(s.hit for s in scores.values()),
        sum(s.missed for s in scores.values()),
        sum(s.wrong for s in scores.values()),
    )


def over_synthetic(seeds: range) -> tuple[dict[str, Score], list[str], int]:
    """The synthetic cases of these seeds."""
    with tempfile.TemporaryDirectory() as folder:
        return scored((case, -1) for case in synthetic(seeds, Path(folder)))
