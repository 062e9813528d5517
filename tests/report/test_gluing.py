"""An examination that goes into a notebook comes out whole, without a kernel."""

from __future__ import annotations

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from trainlab.errors import PageError, UsageError
from trainlab.report import glue, read
from trainlab.report.gluing import MIME


@pytest.fixture
def shown(monkeypatch):
    """What glue hands to Jupyter, as mimebundles."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda thing: bundles.append(thing._repr_mimebundle_()))
    return bundles


def test_what_is_glued_is_read_back(spread, shown, tmp_path, monkeypatch):
    monkeypatch.setattr("trainlab.catalogue.installed", lambda: {"spread": spread})
    examination = spread.examine()
    glue(examination)
    outputs = [new_output("display_data", data=bundle) for bundle in shown]
    nbformat.write(new_notebook(cells=[new_code_cell("", outputs=outputs)]), tmp_path / "out.ipynb")

    (back,) = read(tmp_path / "out.ipynb")

    assert back.result == examination.result
    assert back.findings == examination.findings
    assert back.example
    assert back.origin == examination.origin


def test_it_reads_without_a_kernel(spread, shown):
    examination = spread.examine()
    glue(examination)
    (bundle,) = shown
    assert list(bundle) == [MIME, "text/html", "text/plain"]
    assert bundle["text/plain"] == str(examination)
    assert "SPR001" in bundle["text/html"]
    assert bundle[MIME] == json.loads(json.dumps(examination.to_dict(), allow_nan=False))


def test_outside_a_notebook_it_is_printed(spread, capsys):
    glue(spread.examine())
    assert "SPR001" in capsys.readouterr().out


def test_only_an_examination_is_glued():
    with pytest.raises(UsageError, match="glue keeps an examination") as error:
        glue(3)
    assert "seen: int" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "there is no notebook"), ("{}", "is not a notebook"), ("no", "is not a notebook")],
)
def test_what_is_no_notebook_is_told(tmp_path, text, told):
    path = tmp_path / "out.ipynb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PageError, match=told):
        read(path)


def test_a_page_without_an_examination_is_told(make_page):
    with pytest.raises(PageError, match=r"spread.ipynb holds no examination") as error:
        read(make_page("1"))
    assert "execute the page first" in str(error.value)
