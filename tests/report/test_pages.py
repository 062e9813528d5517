"""The pages that trainlab brings, executed bare and on real checkpoints, by papermill and by our own runner."""

from __future__ import annotations

import inspect
import re

import nbformat
import papermill
import pytest
import torch
from papermill.inspection import inspect_notebook

import trainlab
from trainlab.catalogue import installed
from trainlab.report import parameters, read, report, sweep, template
from trainlab.subjects import SUBJECT_NAMES

NET = """\
import torch
from torch import nn

def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {"inlet": nn.Linear(8, 32), "act": nn.GELU(), "middle": nn.Linear(32, 32), "head": nn.Linear(32, 4)}
        model = nn.Sequential()
        for name, layer in layers.items():
            model.add_module(name, layer)
        return model

def one_batch():
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
"""
ROOMS = list(installed())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder such as a user's: code, a recipe, a checkpoint that is well and one whose middle layer is dead."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "net.py").write_text(NET)
    (folder / "trainlab.toml").write_text('model = "net.py:build"\nbatch = "net.py:one_batch"\n')
    names = {}
    exec(NET, names)
    state = names["build"]().state_dict()
    torch.save({"model": state, "iter": 4000}, folder / "well.pt")
    dead = {**state, "middle.weight": torch.zeros_like(state["middle.weight"])}
    torch.save({"model": dead, "iter": 4000}, folder / "dead.pt")
    return folder


@pytest.fixture(scope="module")
def reports(project):
    """Reports on both, by our runner."""
    return sweep(
        "variation",
        [project / "well.pt", project / "dead.pt"],
        out=project / "out",
        html=True,
        progress=False,
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_page_takes_the_subjects_and_settings_of_its_probe(room):
    diagnostic = getattr(trainlab, room)
    found = {parameter.name: parameter for parameter in parameters(room)}
    asked = {name for name in inspect.signature(diagnostic.probe).parameters if name in SUBJECT_NAMES}
    # a room that asks for one log finds it beside a checkpoint too
    files = {"log": ["log", "ckpt"], "logs": ["logs"]}
    subjects = next((files[name] for name in ("log", "logs") if name in asked), ["ckpt"])
    subjects = [*subjects, *(name for name in ("model", "batch", "loss") if name in asked)]
    subjects += ["trust"] * bool(asked & {"model", "ckpt"}) + ["device"] * ("model" in asked)
    assert sorted(found) == sorted([*subjects, *diagnostic.settings, "limits"])
    assert next(iter(found)) == subjects[0]
    for name, default in diagnostic.settings.items():
        assert (found[name].default or None) == (default or None), "a page writes {} and '' for None"
    assert all(parameter.comment for parameter in found.values())


@pytest.mark.parametrize("room", ROOMS)
def test_papermill_reads_every_parameter_with_type_and_meaning(room):
    seen = inspect_notebook(template(room))
    for parameter in parameters(room):
        assert seen[parameter.name]["inferred_type_name"] == parameter.type
        assert seen[parameter.name]["help"] == parameter.comment


@pytest.mark.parametrize("room", ROOMS)
def test_a_page_shows_every_view_and_leaves_the_panel_out(room):
    cells = nbformat.read(template(room), as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    for view in getattr(trainlab, room).views:
        assert f'examination.plot("{view.name}")' in sources
    assert ".panel(" in sources[-1]
    assert cells[-1].metadata.tags == ["skip-execution"]


def test_the_healthy_checkpoint_is_ok_and_the_dead_layer_is_named(reports):
    well, dead = reports.rows
    assert (well.verdict, dead.verdict) == ("ok", "fail"), reports
    (examination,) = read(dead.path)
    evidence = [item.where for finding in examination.findings for item in finding.evidence]
    assert any("middle" in where for where in evidence)
    assert not examination.example
    assert "net.py:build" in " ".join(examination.origin.values())


def test_no_cell_of_a_report_is_blank(reports):
    for row in reports.rows:
        cells = [cell for cell in nbformat.read(row.path, as_version=4).cells if cell.cell_type == "code"]
        assert [cell.outputs for cell in cells[:2]] == [[], []]  # the parameters, and those that were given
        assert cells[-1].outputs == []  # the panel
        for cell in cells[2:-1]:
            (output,) = cell.outputs
            assert {"text/html", "image/png"} & set(output.data), cell.source


def test_the_html_holds_verdict_pictures_and_tables(reports):
    for row in reports.rows:
        page = row.html.read_text()
        assert row.verdict.upper() in page
        assert page.count('src="data:image/png;base64,') == len(trainlab.variation.views)
        assert page.count("<table") >= 2
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_plain_papermill_finds_model_and_batch_by_the_recipe(project):
    out = project / "plain.ipynb"
    given = {"ckpt": str(project / "dead.pt")}
    papermill.execute_notebook(template("variation"), out, given, kernel_name="python3", progress_bar=False)
    (examination,) = read(out)
    assert examination.verdict == "fail"
    assert (
        "application/vnd.jupyter.widget-view+json" not in out.read_text()
    )  # it would be blank without a kernel


def test_run_bare_it_says_that_it_shows_the_example(tmp_path):
    done = report("variation", out=tmp_path / "bare.ipynb", progress=False)
    assert done.verdict == "ok"
    assert done.examinations[0].example
    written = nbformat.read(done.path, as_version=4)
    assert written.metadata.title == "variation · built-in example · OK"
    assert "on its built-in example" in str(done.examinations[0])


def test_a_model_without_a_batch_stops_with_advice(tmp_path, project):
    given = {"model": str(project / "net.py:build")}
    with pytest.raises(trainlab.TrainlabError, match="SubjectError") as error:
        report("variation", given, out=tmp_path / "out.ipynb", progress=False)
    assert "batch" in str(error.value)
