"""The record: verbs, errors, examinations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import trainlab as tl
from trainlab.diagnostic import Examination
from trainlab.errors import SubjectError, UsageError
from trainlab.figure import Picture
from trainlab.finding import Level
from trainlab.subjects import Recipe, Subjects


@pytest.fixture
def subjects(spread):
    return spread.example()


def test_the_session(spread, subjects):
    result = spread.probe(subjects["model"], subjects["batch"])
    assert spread.judge(result).verdict is Level.OK
    assert spread.judge(result, spread_min=99.0).verdict is Level.FAIL
    picture = spread.plot(result, "bars", logarithmic=True)
    assert isinstance(picture, Picture)
    mine = Figure()
    assert spread.plot(result, "bars", figure=mine) is mine
    assert len(mine.axes) == 1


def test_the_first_view_is_the_default(spread, subjects):
    result = spread.probe(**subjects)
    assert "spread of each output" in spread.plot(result).alt


def test_a_view_with_nothing_to_draw_says_why(spread, subjects):
    picture = spread.plot(spread.probe(**subjects), "nothing")
    assert picture.axes[0].texts[0].get_text() == "the outputs are no images"


def test_settings_and_limits_travel(spread, subjects):
    examination = spread.examine(**subjects, scale=2.0, limits={"spread_min": 99.0})
    plain = spread.examine(**subjects)
    assert examination.result.spread == pytest.approx(2 * plain.result.spread)
    assert examination.findings["SPR001"].evidence[0].limit == 99.0


def test_not_applicable_is_a_skip_for_every_rule(spread, subjects):
    examination = spread.examine(model=subjects["model"], batch=torch.ones(1, 3))
    assert examination.result is None
    assert [finding.level for finding in examination.findings] == [Level.SKIP, Level.SKIP]
    assert examination.verdict is Level.SKIP
    assert "one sample has no spread" in examination.findings[0].text
    assert "give two samples" in examination.plot("bars").axes[0].texts[0].get_text()
    assert examination.frame("output").empty
    assert Examination.from_dict(examination.to_dict(), spread).findings == examination.findings


def test_foreign_errors_rise(spread, subjects):
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        spread.examine(model=subjects["model"], batch=torch.ones(4, 5))


def test_run_bare_it_shows_its_example_and_says_so(spread):
    examination = spread.examine()
    assert examination.example
    assert "built-in example" in examination.title
    assert examination.to_dict()["example"] is True
    assert "built-in example" in examination._repr_html_()


def test_an_example_never_stands_in_for_a_forgotten_batch(spread, subjects):
    with pytest.raises(SubjectError, match="batch"):
        spread.examine(model=subjects["model"])


def test_an_examination_survives_json(spread):
    examination = spread.examine()
    again = Examination.from_dict(json.loads(json.dumps(examination.to_dict(), allow_nan=False)), spread)
    assert again.result == examination.result
    assert str(again) == str(examination)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (
            lambda d, r: d.judge(r, spread_mn=1.0),
            r"spread has no limit 'spread_mn'\n  try:  did you mean 'spread_min'\?",
        ),
        (lambda d, r: d.judge(r, spread_min="1"), r"limit 'spread_min' of spread is a number\n  seen: '1'"),
        (
            lambda d, r: d.judge(r, spread_min=float("nan")),
            r"limit 'spread_min' of spread is a number\n  seen: nan",
        ),
        (lambda d, r: d.judge("hello"), r"spread judges what its own probe returns\n  seen: str"),
        (lambda d, r: d.plot(r, "bar"), r"spread has no view 'bar'\n  try:  did you mean 'bars'\?"),
        (
            lambda d, r: d.plot(r, "bars", color="red"),
            r"view 'bars' has no knob 'color'\n  try:  did you mean 'colour'\?",
        ),
        (
            lambda d, r: d.examine(d.resolve(), scal=1),
            r"spread has no setting 'scal'\n  try:  did you mean 'scale'\?",
        ),
        (lambda d, r: d.examine(modl=1), r"'modl'.*\n(.*\n)?  try:  did you mean 'model'"),
    ],
)
def test_mistypes_are_told(spread, subjects, mistake, words):
    result = spread.probe(**subjects)
    with pytest.raises(UsageError, match=words):
        mistake(spread, result)


def test_a_mistyped_limit_is_told_before_the_probe_runs(spread):
    class Untouchable(torch.nn.Module):
        def forward(self, x):
            raise AssertionError("the probe ran")

    with pytest.raises(UsageError, match="no limit 'spread_mn'"):
        spread.examine(model=Untouchable(), batch=torch.ones(2, 3), limits={"spread_mn": 1.0})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "two words"}, "name is not an identifier"),
        ({"question": "Do they."}, "question does not end"),
        ({"name": "other"}, "result's kind is not 'other'"),
        ({"rules": ()}, "rules are missing"),
        ({"views": ()}, "views are missing"),
        ({"rerun": {"scael": 1}}, "rerun names 'scael', which is no setting of the probe"),
        ({"limits": dict}, "limits is not a dataclass"),
    ],
)
def test_an_incomplete_record_is_refused_where_it_is_made(spread, change, words):
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(spread, **change)


def test_repeated_codes_and_views_are_refused(spread):
    with pytest.raises(UsageError, match="rules share a code"):
        dataclasses.replace(spread, rules=spread.rules[:1] * 2)
    with pytest.raises(UsageError, match="views share a name"):
        dataclasses.replace(spread, views=spread.views[:1] * 2)


def test_it_shows_itself(spread):
    assert repr(spread).startswith("spread: Do the outputs spread?")
    assert "SPR002" in spread._repr_html_()
    assert "a constant output carries nothing" in spread._repr_html_()


def test_limits_under_a_misspelt_name_in_the_recipe_are_told(spread, subjects):
    opened = Subjects(
        subjects, {}, recipe=Recipe(Path("trainlab.toml"), limits={"spraed": {"spread_min": 1.0}})
    )
    with pytest.raises(
        UsageError, match=r"trainlab.toml has limits for 'spraed'\n  try:  did you mean 'spread'\?"
    ):
        spread.examine(opened)


def test_what_a_room_makes_public_is_reached_through_its_record():
    from trainlab.diagnostics.timesteps.recorder import Recorder

    assert tl.timesteps.Recorder is Recorder
    with pytest.raises(AttributeError, match="timesteps has no 'Recoder'"):
        tl.timesteps.Recoder  # noqa: B018
