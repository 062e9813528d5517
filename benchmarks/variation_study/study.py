"""Put every case before the room and before the naive rule, and count."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.variation_study import naive
from benchmarks.variation_study.cases import Case, Subjects
from benchmarks.variation_study.faults import collapsed_models
from benchmarks.variation_study.zoo import healthy_models
from trainlab.diagnostics.variation import diagnostic
from trainlab.finding import Findings, Level

SEVERITY = [Level.SKIP, Level.OK, Level.WARN, Level.FAIL]
NAN = "VAR001"


@dataclass(frozen=True)
class Row:
    """What was said of one case."""

    case: Case
    levels: Mapping[str, Level]
    verdict: Level
    named: str
    movement: float
    """How far the output moves, as VAR002 says; 0 where it says nothing."""
    naive_moves: bool
    naive_moves_in_train: bool

    @property
    def healthy(self) -> bool:
        return not self.case.expected_codes

    @property
    def nan(self) -> bool:
        return self.case.expected_codes == (NAN,)

    @property
    def alarmed(self) -> bool:
        """A healthy model was spoken against: failed, or warned of where nothing is to be warned of."""
        return self.verdict is Level.FAIL or (self.verdict is Level.WARN and not self.case.may_warn)

    @property
    def found(self) -> bool:
        """One of the expected findings reached the level that the fault deserves; NaN must not pass for a collapse."""
        least = SEVERITY.index(Level(self.case.level))
        seen = any(
            SEVERITY.index(self.levels.get(code, Level.SKIP)) >= least for code in self.case.expected_codes
        )
        return seen and not (self.nan and self.levels.get("VAR002") is Level.FAIL)

    @property
    def layer_right(self) -> bool:
        return self.named in {self.case.injected, *self.case.also}


def findings_of(subjects: Subjects, *, axis: int = 0, train: bool = False) -> Findings:
    """What the room says of a model and a batch; a batch on another axis than the first is told to it."""
    result = diagnostic.probe(**subjects, train=train, batch_axis=axis or None)
    return diagnostic.judge(result)


def named_layer(findings: Findings, case: Case, modules: Collection[str], inputs: Collection[str]) -> str:
    """The module that the findings point at first: in the expected findings' evidence or words, else in VAR003's."""
    for code in (*case.expected_codes, "VAR003"):
        finding = findings[code]
        if finding.level not in {Level.WARN, Level.FAIL}:
            continue
        places = [evidence.where.removeprefix("branch: ") for evidence in finding.evidence]
        named = [place for place in places if place in modules and place not in inputs]
        if named:
            return named[0]
        if said := re.search(r"(?:dies in|from) ([\w.]+)", finding.text):
            return said[1]
    return ""


def movement_of(findings: Findings) -> float:
    """The output's movement that VAR002 judged; 0 where it judged none."""
    evidence = findings["VAR002"].evidence
    return float(evidence[0].value or 0) if evidence else 0.0


def look(case: Case) -> Row:
    """Build one case and hear the room and the naive rule about it."""
    subjects = case.make()
    findings = findings_of(subjects, axis=case.axis)
    model, batch = subjects["model"], subjects["batch"]
    inputs = (
        {name: value for name, value in batch.items() if name != "target"}
        if isinstance(batch, dict)
        else batch
    )
    return Row(
        case,
        {finding.code: finding.level for finding in findings},
        findings.verdict,
        named_layer(findings, case, dict(model.named_modules()), batch if isinstance(batch, dict) else ()),
        movement_of(findings),
        naive.moves(model, inputs, train=False, axis=case.axis),
        naive.moves(model, inputs, train=True, axis=case.axis),
    )


def cases_of(half: str) -> tuple[Case, ...]:
    """Healthy and collapsed cases of one half."""
    return healthy_models(half) + collapsed_models(half)


# --- invariances


def scaled(scale: float) -> Callable[[Subjects, int], Subjects]:
    """Multiply every output of the model, and of its fresh twin, by a constant."""

    def times(_: nn.Module, __: object, output: object) -> object:
        if isinstance(output, Tensor):
            return output * scale
        if isinstance(output, tuple):
            return tuple(value * scale for value in output)
        assert isinstance(output, Mapping)
        return type(output)(**{k: v * scale if isinstance(v, Tensor) else v for k, v in output.items()})

    def change(subjects: Subjects, _: int) -> Subjects:
        for value in subjects.values():
            if isinstance(value, nn.Module):
                value.register_forward_hook(times)
        return subjects

    return change


def shuffled(subjects: Subjects, axis: int) -> Subjects:
    """The same samples in another order."""
    batch = subjects["batch"]

    def order(tensor: Tensor) -> Tensor:
        places = torch.randperm(tensor.shape[axis], generator=torch.Generator().manual_seed(11))
        return tensor.index_select(axis, places)

    return {**subjects, "batch": naive.swapped(batch, order)}


def has_dropout(model: nn.Module) -> bool:
    """Does train mode switch some dropout on, and no batch statistics?"""
    drops = [
        getattr(m, "dropout" if isinstance(m, nn.MultiheadAttention) else "p", 0.0) for m in model.modules()
    ]
    return any(isinstance(p, float) and p > 0 for p in drops) and not any(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )


CHANGES: dict[str, Callable[[Subjects, int], Subjects]] = {
    "output × 1e-6": scaled(1e-6),
    "output × 1e6": scaled(1e6),
    "batch shuffled": shuffled,
}
DROPOUT = "dropout on"


def changed(rows: Iterable[Row]) -> Iterator[tuple[str, Row, Level]]:
    """Verdicts after each change that must not matter: (change, row before, verdict after)."""
    for row in rows:
        for name, change in CHANGES.items():
            yield name, row, findings_of(change(row.case.make(), row.case.axis), axis=row.case.axis).verdict
        subjects = row.case.make()
        if has_dropout(subjects["model"]):
            yield DROPOUT, row, findings_of(subjects, axis=row.case.axis, train=True).verdict
