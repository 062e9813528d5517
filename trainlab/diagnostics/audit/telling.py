"""How the rules of `audit` put things."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainlab.diagnostics.audit.facts import Fact, saved_elsewhere
from trainlab.diagnostics.audit.limits import AuditLimits
from trainlab.diagnostics.audit.result import AuditResult
from trainlab.finding import Evidence, Outcome

__all__ = ["age_text", "counted", "look_elsewhere", "place_text", "run_text", "told"]


def told(
    level: Callable[..., Outcome], limits: AuditLimits, facts: Sequence[Fact], text: str, fix: str
) -> Outcome:
    """An outcome with a fact for each place; says how many there are beyond those that are listed."""
    evidence = [Evidence(fact.where, fact.seen, fact.meant) for fact in facts[: limits.evidence_max]]
    more = len(facts) - len(evidence)
    return level(text + (f" ({more} more places not listed)" if more else ""), *evidence, fix=fix)


def look_elsewhere(r: AuditResult, then: str = "") -> str:
    """What to do when the files that were meant are not here."""
    gone = saved_elsewhere(r)
    place = f" ({gone[0].meant}, says {gone[0].where})" if gone else ""
    inner = f", and in both places of {r.nested_twice[0]}" if r.nested_twice and len(r.runs()) == 1 else ""
    return (
        f"look on the machine that trained, in the working folder of its command, for the files of this run{place}{inner}"
        + (f"; {then}" if then else "")
    )


def run_text(run: str) -> str:
    """The name of a run; one in the audited folder itself has none."""
    return "this run" if run == "." else run


def place_text(r: AuditResult, i: int) -> str:
    """How far a file is, in brackets."""
    for what in ("epoch", "iter"):
        if r.counts(what)[i] >= 0:
            return f"({what} {r.counts(what)[i]}) "
    return ""


def age_text(r: AuditResult, time: float) -> str:
    """How long ago a time was."""
    hours = max(r.now - time, 0) / 3600
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def counted(count: int, what: str) -> str:
    """So many of something: ``1 file``, ``2 files``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
