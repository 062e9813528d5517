"""Findings: what the rules say of a result, with evidence, and one verdict over all of them.

A rule is a function from a result and its limits to an `Outcome`; its docstring explains it::

    @rule("VAR002", "Output varies with the input")
    def output_varies(result: VariationResult, limits: VariationLimits) -> Outcome:
        \"\"\"What: …
        Why: …
        Fix: …\"\"\"
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.markup import Html, badge, block, number, table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evidence", "Finding", "Findings", "Level", "Outcome", "Rule", "limits_of", "rule"]

R_contra = TypeVar("R_contra", contravariant=True)
L_contra = TypeVar("L_contra", contravariant=True)
L = TypeVar("L")


class Level(StrEnum):
    """How a finding, or the verdict over all of them, came out."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"

    @property
    def colour(self) -> str:
        """A ground for white text (contrast ≥ 4.5), told apart by the colour-blind too."""
        return {"ok": "#00734d", "skip": "#5c6370", "warn": "#8f5a00", "fail": "#b02a00"}[self.value]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One offender, or the value nearest to offending.

    Attributes:
        where: The caller's own name for the place: a module, key, frame or line.
        value: What was measured there.
        limit: The limit that was used, where there is one.
        unit: The unit of both.
    """

    where: str
    value: float | str | None
    limit: float | str | None = None
    unit: str = ""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        limit = "" if self.limit is None else f" (limit {number(self.limit)}{unit})"
        value = "" if self.value is None else f" = {number(self.value)}{unit}"
        return f"{self.where}{value}{limit}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one rule says: a level, a sentence, the evidence and, where it is not well, an action."""

    level: Level
    text: str
    evidence: tuple[Evidence, ...] = ()
    fix: str = ""

    @classmethod
    def ok(cls, text: str, *evidence: Evidence) -> Outcome:
        """All is well; the text says what was looked at, e.g. ``lowest head entropy 1.88 nats``."""
        return cls(Level.OK, text, evidence)

    @classmethod
    def skip(cls, text: str) -> Outcome:
        """There was nothing to look at; the text says why. Skipped is not passed."""
        return cls(Level.SKIP, text)

    @classmethod
    def warn(cls, text: str, *evidence: Evidence, fix: str) -> Outcome:
        """Something a person should look at."""
        return cls(Level.WARN, text, evidence, fix)

    @classmethod
    def fail(cls, text: str, *evidence: Evidence, fix: str) -> Outcome:
        """Something that is broken."""
        return cls(Level.FAIL, text, evidence, fix)


@dataclasses.dataclass(frozen=True)
class Finding:
    """An outcome under the code and the title of its rule; the title is the healthy statement."""

    code: str
    title: str
    level: Level
    text: str
    evidence: tuple[Evidence, ...] = ()
    fix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.level.value:<4}  {self.code}  {self.title}: {self.text}"]
        if self.level in (Level.WARN, Level.FAIL):
            lines += [f"              {item}" for item in self.evidence]
            lines.append(f"        fix:  {self.fix}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, repr=False)
class Findings(Sequence[Finding]):
    """Every rule's finding, in order; one each, so that a report always has the same shape."""

    items: tuple[Finding, ...]

    @property
    def verdict(self) -> Level:
        """Fail if any failed, else warn, else ok; all skipped is skip, never ok."""
        levels = {finding.level for finding in self.items}
        return next((level for level in (Level.FAIL, Level.WARN, Level.OK) if level in levels), Level.SKIP)

    @property
    def headline(self) -> str:
        """The verdict in one line: the text of the first finding that decides it."""
        deciding = [finding for finding in self.items if finding.level is self.verdict]
        if self.verdict in (Level.WARN, Level.FAIL):
            return f"{deciding[0].code} {deciding[0].text}"
        return f"{len(deciding)} of {len(self.items)} rules {self.verdict.value}"

    @overload
    def __getitem__(self, key: int | str) -> Finding: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Finding | tuple[Finding, ...]:
        """The finding at a place, or under a code such as ``"VAR002"``."""
        if not isinstance(key, str):
            return self.items[key]
        codes = {finding.code: finding for finding in self.items}
        if key not in codes:
            raise UsageError(f"there is no finding {key!r}", fix=did_you_mean(key, codes))
        return codes[key]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def to_dict(self) -> list[dict[str, Any]]:
        """Strict JSON values; non-finite evidence is written as a word."""
        rows = [dataclasses.asdict(finding) for finding in self.items]
        for row in rows:
            for item in row["evidence"]:
                item.update({key: _strict(item[key]) for key in ("value", "limit")})
        return rows

    @classmethod
    def from_dict(cls, rows: Sequence[Mapping[str, Any]]) -> Findings:
        """Rebuilds what `to_dict` returned."""
        return cls(
            tuple(
                Finding(
                    **{
                        **row,
                        "level": Level(row["level"]),
                        "evidence": tuple(Evidence(**item) for item in row["evidence"]),
                    }
                )
                for row in rows
            )
        )

    def frame(self) -> pd.DataFrame:
        """One row a finding: code, title, level, text, fix, and its evidence as text."""
        import pandas as pd

        rows = [
            {**dataclasses.asdict(f), "level": f.level.value, "evidence": "; ".join(map(str, f.evidence))}
            for f in self.items
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        return "\n".join([f"verdict: {self.verdict.value.upper()}", *map(str, self.items)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows: list[dict[str, object]] = []
        for finding in self.items:
            parts = [finding.text]
            if finding.level in (Level.WARN, Level.FAIL):
                parts += [f"\N{BULLET}\N{NO-BREAK SPACE}{item}" for item in finding.evidence]
                parts.append(f"Fix: {finding.fix}")
            mark = badge(finding.level.value, finding.level.colour)
            rows.append(
                {"": mark, "code": finding.code, "looked at": finding.title, "found": "\n".join(parts)}
            )
        verdict = badge(self.verdict.value.upper(), self.verdict.colour)
        return block("", [Html(f'<div style="margin:0 0 6px 0">Verdict {verdict}</div>'), table(rows)])


@dataclasses.dataclass(frozen=True)
class Rule(Generic[R_contra, L_contra]):
    """A check with its code, its healthy title and its explanation; made by `rule`."""

    code: str
    title: str
    check: Callable[[R_contra, L_contra], Outcome]
    what: str
    why: str
    fix: str

    def __call__(self, result: R_contra, limits: L_contra) -> Finding:
        """Judges a result: exactly one finding, a skip where there is nothing to judge."""
        try:
            outcome = self.check(result, limits)
        except NotApplicable as reason:
            outcome = Outcome.skip(reason.what)
        return Finding(self.code, self.title, outcome.level, outcome.text, outcome.evidence, outcome.fix)


def rule(
    code: str, title: str
) -> Callable[[Callable[[R_contra, L_contra], Outcome]], Rule[R_contra, L_contra]]:
    """Makes a rule of a function ``(result, limits) -> Outcome``.

    Args:
        code: Three letters of the room and three digits, never used again for anything else.
        title: The healthy statement, e.g. ``"Output varies with the input"``.

    Raises:
        UsageError: The code is malformed, or the docstring lacks What, Why or Fix.
    """

    def make(check: Callable[[R_contra, L_contra], Outcome]) -> Rule[R_contra, L_contra]:
        if not re.fullmatch(r"[A-Z]{3}\d{3}", code):
            raise UsageError(
                f"rule code {code!r} is malformed",
                fix="three capital letters and three digits, e.g. 'VAR001'",
            )
        heads = _heads(inspect.getdoc(check) or "")
        missing = [head for head in ("What", "Why", "Fix") if not heads.get(head)]
        if missing:
            raise UsageError(
                f"the docstring of rule {code} lacks {', '.join(missing)}",
                seen=inspect.getdoc(check),
                fix="write three paragraphs that start with What:, Why: and Fix:",
            )
        return Rule(code, title, check, heads["What"], heads["Why"], heads["Fix"])

    return make


def _heads(doc: str) -> dict[str, str]:
    pieces = re.split(r"^(What|Why|Fix):", doc, flags=re.MULTILINE)
    return {head: " ".join(body.split()) for head, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def _strict(value: float | str | None) -> float | str | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def limits_of(kind: type[L], room: str, given: Mapping[str, object]) -> L:
    """A room's limits with some of them changed by name.

    Raises:
        UsageError: There is no such limit, or its value is no number where one is due.
    """
    known = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"{room} has no limit {name!r}", fix=did_you_mean(name, known))
        if isinstance(known[name], (int, float)) and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value)
        ):
            text = f"limit {name!r} of {room} is a number"
            raise UsageError(text, seen=repr(value), fix=f"e.g. {name}={known[name]}")
    return kind(**given)
