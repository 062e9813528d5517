"""Hear a case through the capture, and compare with the truth."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.truth import alike, difference, map_of
from trainlab.diagnostics.attention.call import Call, Missed
from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import visit

__all__ = ["Heard", "Verdict", "hear", "judge"]

OUT_WITHIN = 1e-4


@dataclass
class Heard:
    """What the capture said of one run."""

    check_out: bool = True
    """Whether `out` is weights times values: not so where dropout falls between them."""
    maps: list[Tensor] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Kernel, module and site of each."""
    wrong_out: int = 0
    missed: tuple[Missed, ...] = ()
    output: object = None

    def __call__(self, call: Call) -> None:
        """Take one call in; the map is computed here and now, as the tensors are the model's own."""
        map_ = map_of(call)
        self.maps.append(map_)
        self.numbers.append(call.number)
        self.calls.append((call.kernel, call.module, call.site))
        if self.check_out and call.out is not None and call.v is not None:
            v = call.v.repeat_interleave(map_.shape[1] // call.v.shape[1], dim=1)
            whole = map_.reshape(*v.shape[:2], -1, v.shape[2]).double() @ v.double()
            self.wrong_out += difference(call.out, whole) > max(OUT_WITHIN, _rounding(call.out))


def _rounding(out: Tensor) -> float:
    return 0.05 * float(out.abs().max()) if out.dtype in {torch.bfloat16, torch.float16} else 0.0


def hear(subject: Subject, batch: object, *, train: bool = False) -> Heard:
    """Run one batch under the capture."""
    heard = Heard(check_out=not train)
    with visit(subject.model, train=train, seed=0), capture(subject.model, heard) as coverage:
        heard.output = subject.run(subject.model, batch)
    heard.missed = tuple(coverage.missed)
    assert heard.numbers == list(range(coverage.recorded)), "calls are not numbered as they are counted"
    unknown = {module for _, module, _ in heard.calls} - {name for name, _ in subject.model.named_modules()}
    assert not unknown, f"calls are said to come from {unknown}, which are no modules of the model"
    return heard


@dataclass(frozen=True)
class Verdict:
    """How one case went.

    Attributes:
        case: Which.
        maps: Attention maps there are.
        found: Of these, heard exactly and in order.
        extra: Records that are no map of the truth.
        named: Whether coverage.missed says that something attends.
        counted: Whether it says anything at all.
        wrong_out: Calls whose `out` is not weights times values.
        said: Kernels recorded, and what was missed and why.
        error: Where it did not run at all.
        skipped: Why it cannot run here, where it cannot.
    """

    case: Case
    maps: int = 0
    found: int = 0
    extra: int = 0
    named: bool = False
    counted: bool = False
    wrong_out: int = 0
    said: str = ""
    error: str = ""
    skipped: str = ""

    @property
    def exact(self) -> bool:
        """Every map, in order, and no other, and nothing said to be missing."""
        whole = self.found == self.maps > 0 and not self.extra and not self.wrong_out
        return whole and not self.named and not self.error

    @property
    def silent(self) -> bool:
        """A map is missing and coverage does not say so."""
        said = self.counted if self.case.expects == "exact or counted" else self.named
        return self.found < self.maps and not said

    @property
    def right(self) -> bool:
        """As the case expects."""
        if self.error:
            return False
        match self.case.expects:
            case "exact":
                return self.exact
            case "exact or named":
                return self.exact or (self.named and not self.extra)
            case "exact or counted":
                return self.exact or (self.counted and not self.extra)
            case "named":
                return self.named and not self.extra
            case "nothing":
                return not self.extra and not self.named


def judge(case: Case) -> Verdict:
    """Build a case, hear it, and compare; what raises is a verdict too."""
    try:
        subject = case.built()
    except (ImportError, OSError) as error:
        return Verdict(case, skipped=f"{type(error).__name__}: {error}"[:100])
    try:
        return _compare(case, subject)
    except Exception as error:  # noqa: BLE001 - whatever the capture raises is its fault, and counted
        at = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {str(error)[:150]} @ {Path(at.filename).name}:{at.lineno}"
        return Verdict(case, error=text.replace("\n", " "))


def _compare(case: Case, subject: Subject) -> Verdict:
    maps = found = extra = wrong = 0
    named = counted = False
    words: list[str] = []
    for batch in subject.batches:
        heard = hear(subject, batch, train=case.train)
        true = case.truth(subject, batch) if case.truth else []
        within, left = alike(heard.maps, true, within=case.within)
        maps, found, extra, wrong = maps + len(true), found + within, extra + left, wrong + heard.wrong_out
        named = named or any(missed.attends for missed in heard.missed)
        counted = counted or bool(heard.missed)
        words += [*{kernel for kernel, _, _ in heard.calls}, *map(_in_words, heard.missed)]
        if within < len(true) and len(heard.maps) == len(true):
            gap = max(difference(*both) for both in zip(heard.maps, true, strict=True))
            words.append(_shapes(heard.maps, true) if math.isinf(gap) else f"off by {gap:.1g}")
        elif within < len(true) or left:
            words.append(_shapes(heard.maps, true))
    return Verdict(case, maps, found, extra, named, counted, wrong, "; ".join(dict.fromkeys(words)))


def _in_words(missed: Missed) -> str:
    return (
        f"{'MISSED' if missed.attends else 'no attention'}: {missed.count} × {missed.kernel} ({missed.why})"
    )


def _shapes(heard: Sequence[Tensor], true: Sequence[Tensor]) -> str:
    def listed(maps: Sequence[Tensor]) -> str:
        return " ".join("×".join(map(str, map_.shape)) for map_ in maps[:4]) or "none"

    return f"heard {listed(heard)}, true {listed(true)}"
