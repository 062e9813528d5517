"""What is installed, found by walking; clashes named; rules explained."""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint

import pytest

from trainlab import catalogue
from trainlab.errors import UsageError


@pytest.fixture
def plugged(monkeypatch):
    """Pretends that another package brings diagnostics."""

    def plug(**objects):
        class Point(EntryPoint):
            def load(self):
                value = objects[self.name]
                if isinstance(value, Exception):
                    raise value
                return value

        points = [Point(name, f"other.package:{name}", catalogue.GROUP) for name in objects]
        monkeypatch.setattr(catalogue, "entry_points", lambda group: points)

    return plug


def test_our_rooms_are_found():
    found = catalogue.installed()
    assert "variation" in found
    assert found["variation"].name == "variation"
    assert found["variation"].question in repr(found)
    assert found["variation"].question in found._repr_html_()
    with pytest.raises(UsageError, match=r"no diagnostic 'variatoin'\n  try:  did you mean 'variation'"):
        found["variatoin"]


def test_others_bring_theirs(plugged, spread):
    plugged(spread=spread)
    assert catalogue.installed()["spread"] is spread
    told = catalogue.explain("spr001")
    assert told.rule.title == "Outputs spread"
    assert "why:  a constant output carries nothing." in repr(told)
    assert "spread_min=0.01" in repr(told)
    assert "a constant output" in told._repr_html_()


def test_a_name_clash_names_both(plugged, spread):
    plugged(one=spread, two=spread)
    with pytest.raises(
        UsageError,
        match=r"two diagnostics have the name 'spread'\n  seen: other.package:one and other.package:two",
    ):
        catalogue.installed()


def test_a_code_clash_names_both(plugged, spread):
    clone = dataclasses.replace(catalogue.installed()["variation"])
    object.__setattr__(clone, "name", "copycat")
    plugged(copycat=clone)
    with pytest.raises(
        UsageError,
        match=r"two diagnostics have the code VAR001\n  seen: trainlab.diagnostics.variation and other",
    ):
        catalogue.installed()


@pytest.mark.parametrize(
    ("brought", "words"),
    [
        (ImportError("no module named x"), "cannot be imported\n  seen: .*ImportError: no module"),
        (3, "does not lead to a diagnostic\n  seen: .* is a int"),
    ],
)
def test_what_is_no_diagnostic_is_named(plugged, brought, words):
    plugged(thing=brought)
    with pytest.raises(UsageError, match=words):
        catalogue.installed()


def test_an_unknown_code():
    with pytest.raises(UsageError, match=r"there is no rule 'VAR0O1'\n  try:  did you mean 'VAR001'"):
        catalogue.explain("VAR0O1")
