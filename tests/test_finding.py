"""Findings: levels, verdicts, evidence, rules with docstrings."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from trainlab.errors import UsageError
from trainlab.finding import Evidence, Finding, Findings, Level, rule


def findings(*levels: str) -> Findings:
    return Findings(
        tuple(
            Finding(f"TST{n:03}", "It is well", Level(level), f"text {n}", fix="act")
            for n, level in enumerate(levels, 1)
        )
    )


@pytest.mark.parametrize("levels", list(itertools.product(["ok", "skip", "warn", "fail"], repeat=3)))
def test_verdict_by_brute_force(levels):
    expected = (
        "fail" if "fail" in levels else "warn" if "warn" in levels else "ok" if "ok" in levels else "skip"
    )
    assert findings(*levels).verdict == expected


def test_nothing_looked_at_is_not_ok():
    assert Findings(()).verdict is Level.SKIP
    assert findings("skip", "skip").verdict is Level.SKIP


def test_they_are_a_sequence_with_codes():
    found = findings("ok", "fail")
    assert len(found) == 2
    assert found["TST002"].level is Level.FAIL
    assert found[0].code == "TST001"
    assert found.headline == "TST002 text 2"
    with pytest.raises(UsageError, match="did you mean 'TST002'"):
        found["TST020"]


def test_strict_json_and_back():
    evidence = (Evidence("blocks.3", math.nan, 0.1, "nats"), Evidence("x", None))
    found = Findings((Finding("TST001", "It is well", Level.WARN, "text", evidence, "act"),))
    rows = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert rows[0]["evidence"][0]["value"] == "nan"
    assert Findings.from_dict(rows).to_dict() == found.to_dict()


def test_text_tells_evidence_and_fix():
    evidence = Evidence("blocks.3.attn", 1.23456e-9, 0.01, "V")
    text = str(
        Findings((Finding("VAR002", "Output varies", Level.FAIL, "constant", (evidence,), "look there"),))
    )
    assert text.splitlines() == [
        "verdict: FAIL",
        "fail  VAR002  Output varies: constant",
        "              blocks.3.attn = 1.235e-09 V (limit 0.01 V)",
        "        fix:  look there",
    ]


def test_html_is_escaped_and_script_free():
    found = Findings(
        (Finding("TST001", "<i>", Level.FAIL, "<script>", (Evidence("<img onerror=x>", 1.0),), "<b>"),)
    )
    html = found._repr_html_()
    for tag in ("<script>", "<i>", "<img", "<b>", "<style"):
        assert tag not in html
    assert "&lt;img onerror=x&gt;" in html


def test_colours_carry_white_text():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for level in Level:
        assert 1.05 / (luminance(level.colour) + 0.05) >= 4.5, "WCAG AA"


def test_a_rule_explains_itself():
    @rule("TST001", "It is well")
    def check(result, limits):
        """What: one thing,
        over two lines.

        Why: because.
        Fix: act.
        """

    assert check.what == "one thing, over two lines."
    assert (check.why, check.fix) == ("because.", "act.")


def test_a_rule_without_a_reason_is_refused():
    with pytest.raises(UsageError, match=r"docstring of rule TST001 lacks Why, Fix"):

        @rule("TST001", "It is well")
        def check(result, limits):
            """What: one thing."""

    with pytest.raises(UsageError, match="rule code 'T1' is malformed"):

        @rule("T1", "It is well")
        def other(result, limits):
            """What: a. Why: b. Fix: c."""


def test_frame():
    frame = findings("ok", "warn").frame()
    assert list(frame["level"]) == ["ok", "warn"]
