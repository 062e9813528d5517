"""Parameters are checked and typed before anything runs."""

from __future__ import annotations

import re

import pytest

from trainlab.errors import PageError, UsageError
from trainlab.report import Parameter, bind, parameters, template


def test_a_page_is_found_by_name_and_by_path(make_page):
    assert template("variation").name == "variation.ipynb"
    own = make_page()
    assert template(own) == own


@pytest.mark.parametrize(
    ("page", "advice"),
    [("variatoin", "did you mean 'variation'?"), ("zzz", "one of: "), ("no/such.ipynb", "or a path")],
)
def test_a_page_that_is_not_there_is_told(page, advice):
    with pytest.raises(UsageError, match=r"there is no page ") as error:
        template(page)
    assert advice in str(error.value)


def test_parameters_have_name_type_default_and_comment(make_page):
    found = parameters(make_page())
    assert found[0] == Parameter("ckpt", "str", "", "a file that holds the verdict")
    assert [(p.name, p.type, p.default) for p in found[1:3]] == [("pairs", "int", 32), ("rate", "float", 0.5)]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("pairs = 3", "not an annotated assignment"),
        ("pairs: tuple = ()", "type tuple"),
        ("pairs: int = f()", "malformed node"),
        ("import os", "import os"),
    ],
)
def test_a_parameters_cell_that_says_no_type_is_refused(make_page, line, seen):
    with pytest.raises(PageError, match="has a line that says no type") as error:
        parameters(make_page(parameters=line))
    assert seen in str(error.value)
    assert "name: type = default  # comment" in str(error.value)


def test_a_page_without_parameters_is_told(make_page, tmp_path):
    page = make_page()
    page.write_text(page.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(PageError, match="takes no parameters"):
        parameters(page)
    page.write_text("no json")
    with pytest.raises(PageError, match="is not a notebook"):
        parameters(page)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"names": "[007, 1e-4, no, true, 3]"}, ["007", 1e-4, "no", True, 3]),
        ({"limits": '{"low": 1e-4}'}, {"low": 1e-4}),
        ({"limits": "{low: 1e-4, high: .5, on: null}"}, {"low": 1e-4, "high": 0.5, "on": None}),
        ({"rate": "1e-4"}, 1e-4),
        ({"rate": 3}, 3.0),
        ({"pairs": "007"}, 7),
        ({"train": "true"}, True),
        ({"train": "No"}, False),
    ],
)
def test_values_are_typed_by_the_annotation(make_page, given, value):
    bound = bind(make_page(), given)[next(iter(given))]
    assert bound == value
    assert type(bound) is type(value)


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("null", None), ("", None), (None, None), (1, 1)])
def test_an_optional_value_may_be_null(make_page, text, value):
    page = make_page(parameters='axis: "Optional[int]" = None  # which axis')
    assert bind(page, {"axis": text}) == {"axis": value}
    with pytest.raises(UsageError, match="parameter 'axis' is a whole number, or null"):
        bind(page, {"axis": "x"})


@pytest.mark.parametrize("text", ["007", "true", "1e-4", "null", "[1, 2]", "a=b"])
def test_text_stays_text(make_page, tmp_path, text):
    (tmp_path / text).touch()
    assert bind(make_page(), {"ckpt": text}) == {"ckpt": text}


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("pairs", "4.5", "is a whole number"),
        ("pairs", 4.5, "is a whole number"),
        ("pairs", True, "is a whole number"),
        ("rate", "fast", "is a number"),
        ("train", "maybe", "is true or false"),
        ("train", 1, "is true or false"),
        ("limits", "[1]", "is a mapping, as JSON or {name: value}"),
        ("limits", "{a: ", "is a mapping"),
        ("limits", "!!python/object:os.system {}", "is a mapping"),
        ("names", "a", "is a list"),
        ("ckpt", 3, "is text"),
    ],
)
def test_a_value_of_another_type_is_refused(make_page, name, given, told):
    with pytest.raises(UsageError, match=re.escape(f"parameter {name!r} {told}")) as error:
        bind(make_page(), {name: given})
    assert f"seen: {given!r}" in str(error.value)
    assert f"try:  {name}=" in str(error.value)


def test_an_unknown_name_is_refused_with_advice(make_page):
    with pytest.raises(UsageError, match="page 'spread' has no parameter 'pair'") as error:
        bind(make_page(), {"pair": "3"})
    assert "did you mean 'pairs'?" in str(error.value)


def test_a_checkpoint_that_is_not_there_is_told_with_its_neighbour(make_page, checkpoint):
    page = make_page()
    checkpoint("ok", "runs/step_4000.pt")
    with pytest.raises(UsageError, match=r"there is no checkpoint runs/step_400.pt") as error:
        bind(page, {"ckpt": "runs/step_400.pt"})
    assert "did you mean 'step_4000.pt'?" in str(error.value)


def test_checks_load_neither_papermill_nor_torch(fresh_modules):
    loaded = fresh_modules(
        "from trainlab.report import bind, template\n"
        "from trainlab.errors import UsageError\n"
        "try:\n    bind('variation', {'pair': '3'})\nexcept UsageError as error:\n    assert 'pairs' in str(error)"
    )
    assert not loaded & {"papermill", "torch", "IPython", "nbconvert", "nbclient", "matplotlib", "pandas"}
