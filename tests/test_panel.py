"""Panel without a browser: knobs, words, files and every display form."""

from __future__ import annotations

import base64
import gc
import io
import json
import os
import resource
import time
import weakref
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import trainlab as tl
from trainlab.errors import NotApplicable, SubjectError, UsageError
from trainlab.finding import Evidence, Finding, Findings, Level
from trainlab.panel import Panel, PanelView
from trainlab.progress import track


def heatmap(figure, *, shift=0, colours="viridis", note=""):
    if shift == 7:
        raise ZeroDivisionError("seven is <never> right")
    if shift == 8:
        raise NotApplicable("there is no eighth layer", seen="7 layers", fix="choose another")
    axes = figure.add_subplot()
    axes.imshow(np.roll(np.arange(64).reshape(8, 8), shift), cmap=colours)
    axes.set_title(note)


def line(figure):
    figure.add_subplot().plot([1, 2, 3])


def judged(outcome):
    level = Level.FAIL if outcome["pairs"] > 20 else Level.OK
    evidence = Evidence("blocks.<b>3</b>", 0.1, 0.2)
    return Findings(
        (Finding("PAN001", "Output varies", level, f"{outcome['pairs']} pairs", (evidence,), "look"),)
    )


def probe(pairs, train):
    if pairs == 30:
        raise SubjectError("the batch is too small", seen="16 samples", fix="pairs=16")
    if pairs == 31:
        raise MemoryError("out of <memory>")
    done = sum(1 for _ in track(range(pairs), label="forward"))
    return {"pairs": done, "train": train}


def views(outcome):
    knobs = {"shift": (0, 8), "colours": ["viridis", "magma"], "note": ""}
    return [
        PanelView("heatmap", "Heat map", heatmap, knobs, {"shift": 1}),
        PanelView("line", "Line", line, size=(5.0, 2.0)),
    ]


@pytest.fixture
def make():
    made = []

    def one(**changes):
        arguments = {
            "title": "spread",
            "question": "Do the outputs spread?",
            "run": probe,
            "rerun": {"pairs": (1, 40), "train": False},
            "start": {"pairs": 4, "unused": 1},
            "views": views,
            "findings": judged,
            "to_json": json.dumps,
        }
        made.append(Panel(**arguments | changes))
        return made[-1]

    yield one
    for panel in made:
        panel.close()


@pytest.fixture
def panel(make):
    return make()


def inside(widget, kind, described=None):
    """Every control of a kind in the panel, or the one with this description."""
    found = [widget] if isinstance(widget, kind) else []
    for child in getattr(widget, "children", ()):
        found += inside(child, kind)
    if described is None:
        return found
    (only,) = [control for control in found if control.description == described]
    return only


def image(panel):
    (only,) = inside(panel, ipywidgets.Image)
    return only


def text(panel):
    """All the HTML that the panel shows."""
    return "\n".join(widget.value for widget in inside(panel, ipywidgets.HTML))


def press(panel, label):
    inside(panel, ipywidgets.Button, label).click()


def choose(panel, view):
    (chooser,) = inside(panel, ipywidgets.ToggleButtons)
    chooser.value = view


def slider(panel, described):
    return inside(panel, ipywidgets.IntSlider, described)


# --- what it shows


def test_it_runs_once_and_shows_verdict_question_findings_and_picture(panel):
    assert panel.outcome == {"pairs": 4, "train": False}
    shown = text(panel)
    assert "spread" in shown
    assert "Do the outputs spread?" in shown
    assert ">OK</span>" in shown
    assert "4 pairs" in shown
    assert bytes(image(panel).value).startswith(b"\x89PNG")


def test_an_outcome_that_is_there_is_not_probed_again(make):
    panel = make(run=lambda **_: pytest.fail("probed"), outcome={"pairs": 21, "train": True})
    assert ">FAIL</span>" in text(panel)


def test_the_picture_is_twice_as_fine_as_it_is_wide_on_the_page(panel):
    fine = Pillow.open(io.BytesIO(image(panel).value)).width
    assert image(panel).layout.width == "720px"
    assert fine == 1440
    assert image(panel).layout.max_width == "calc(100% - 4px)", "it never reaches out of its column"


def test_every_control_has_a_whole_label(panel):
    for control in inside(panel, ipywidgets.ValueWidget):
        if hasattr(control, "description") and not isinstance(control, (ipywidgets.HTML, ipywidgets.Image)):
            assert control.style.description_width in {"initial", ""}
    assert slider(panel, "shift").style.description_width == "initial"
    assert image(panel).tooltip == "spread: Heat map"


# --- knobs


@pytest.mark.parametrize(
    ("kind", "described", "value"),
    [
        (ipywidgets.IntSlider, "shift", 3),
        (ipywidgets.Dropdown, "colours", "magma"),
        (ipywidgets.Text, "note", "a note"),
    ],
)
def test_a_moved_knob_changes_the_picture_and_asks_the_model_nothing(make, kind, described, value):
    panel = make(run=lambda **_: pytest.fail("probed"), outcome={"pairs": 4, "train": False})
    before = image(panel).value
    inside(panel, kind, described).value = value
    assert image(panel).value != before


def test_the_chooser_changes_the_picture_and_shows_the_knobs_of_that_view(panel):
    before = image(panel).value
    row = next(box for box in inside(panel, ipywidgets.HBox) if slider(panel, "shift") in box.children)
    assert row.layout.display == "flex"
    choose(panel, "line")
    assert image(panel).value != before
    assert image(panel).layout.width == "500px"
    assert row.layout.display == "none"


def test_run_probes_with_the_settings_and_keeps_view_and_knobs(panel):
    slider(panel, "shift").value = 3
    drawn = image(panel).value
    slider(panel, "pairs").value = 21
    inside(panel, ipywidgets.Checkbox, "train").value = True
    assert panel.outcome == {"pairs": 4, "train": False}, "a setting acts on Run alone"
    run = inside(panel, ipywidgets.Button, "Run")
    assert run.button_style == "primary", "the button says that the settings are not those of the picture"
    run.click()
    assert panel.outcome == {"pairs": 21, "train": True}
    assert run.button_style == ""
    assert ">FAIL</span>" in text(panel)
    assert slider(panel, "shift").value == 3
    assert image(panel).value == drawn


def test_a_knob_that_no_longer_fits_falls_back_to_its_start(make):
    def narrowing(outcome):
        return [PanelView("heatmap", "Heat map", heatmap, {"shift": (0, outcome["pairs"])}, {"shift": 1})]

    panel = make(views=narrowing, start={"pairs": 6})
    slider(panel, "shift").value = 6
    slider(panel, "pairs").value = 3
    press(panel, "Run")
    assert slider(panel, "shift").max == 3
    assert slider(panel, "shift").value == 1


def test_one_view_needs_no_chooser_and_no_view_no_picture(make):
    one = make(views=lambda outcome: views(outcome)[1:])
    (chooser,) = inside(one, ipywidgets.ToggleButtons)
    assert chooser.layout.display == "none"
    none = make(views=lambda outcome: [])
    assert image(none).layout.display == "none"
    assert "image/png" not in none._repr_mimebundle_()[0]
    assert none.error is None


def test_progress_shows_while_it_runs_and_goes_afterwards(make):
    seen = []

    def slow(pairs, train):
        seen.extend(text(panel) for _ in track(range(3), label="<forward>"))
        return {"pairs": pairs, "train": train}

    panel = make(run=slow, outcome={"pairs": 4, "train": False})
    press(panel, "Run")
    assert '<progress value="0" max="3"' in seen[0]
    assert "&lt;forward&gt; 0 / 3" in seen[0]
    assert inside(panel, ipywidgets.Button, "Run").disabled is False
    assert "<progress" not in text(panel)


# --- words


def test_an_error_of_ours_on_run_is_told_in_words_and_the_last_outcome_stays(panel):
    picture = image(panel).value
    slider(panel, "pairs").value = 30
    press(panel, "Run")
    shown = text(panel)
    assert "the batch is too small" in shown
    assert "seen: 16 samples" in shown
    assert "try:  pairs=16" in shown
    assert "Traceback" not in shown
    assert panel.outcome == {"pairs": 4, "train": False}
    assert image(panel).value == picture
    assert inside(panel, ipywidgets.Button, "Run").disabled is False
    slider(panel, "pairs").value = 5
    press(panel, "Run")
    assert panel.error is None
    assert "the batch is too small" not in text(panel)


def test_an_error_of_ours_in_the_first_run_leaves_a_panel_that_can_run_again(make):
    panel = make(start={"pairs": 30})
    assert isinstance(panel.error, SubjectError)
    assert "the batch is too small" in panel._repr_mimebundle_()[0]["text/html"]
    assert "the batch is too small" in repr(panel)
    press(panel, "JSON")
    assert "there is no result to save" in text(panel)
    slider(panel, "pairs").value = 5
    press(panel, "Run")
    assert panel.outcome == {"pairs": 5, "train": False}


def test_a_foreign_error_in_the_first_run_rises(make):
    with pytest.raises(MemoryError, match="out of <memory>"):
        make(start={"pairs": 31})


def test_a_foreign_error_on_run_is_shown_with_its_traceback_and_logged(panel, caplog):
    slider(panel, "pairs").value = 31
    press(panel, "Run")
    shown = text(panel)
    assert "MemoryError: out of &lt;memory&gt;" in shown
    assert "<details><summary>Traceback</summary>" in shown
    assert isinstance(panel.error, MemoryError)
    assert inside(panel, ipywidgets.Button, "Run").disabled is False


def test_a_foreign_error_in_a_view_rises_and_no_stale_picture_stays(panel):
    with pytest.raises(ZeroDivisionError):
        slider(panel, "shift").value = 7
    assert "ZeroDivisionError: seven is &lt;never&gt; right" in text(panel)
    assert image(panel).layout.display == "none"
    press(panel, "PNG")
    assert "there is no picture to save" in text(panel)
    slider(panel, "shift").value = 2
    assert panel.error is None
    assert image(panel).layout.display == ""


def test_a_view_with_nothing_to_draw_says_why(panel):
    slider(panel, "shift").value = 8
    assert "there is no eighth layer" in text(panel)
    assert image(panel).layout.display == "none"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rerun": {"pairs": object()}}, "no control can be made for 'pairs'"),
        ({"rerun": {"pairs": (4, 1)}}, "no control can be made for 'pairs'"),
        ({"start": {"pairs": 99}}, "'pairs' cannot start at 99"),
        ({"start": {"pairs": "many"}}, "'pairs' cannot start at 'many'"),
    ],
)
def test_a_knob_that_cannot_be_made_is_an_error_that_names_it(make, changes, words):
    with pytest.raises(UsageError, match=words):
        make(**changes)


# --- files


@pytest.mark.parametrize(("kind", "start"), [("json", b"{"), ("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_saving_makes_a_new_file_and_says_where(panel, tmp_path, monkeypatch, kind, start):
    monkeypatch.chdir(tmp_path)
    press(panel, kind.upper())
    assert (tmp_path / f"spread.{kind}").read_bytes().startswith(start)
    assert f"Saved {tmp_path / 'spread'}.{kind}" in text(panel)


def test_saving_leaves_a_file_that_is_there_alone(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spread.json").write_text("mine")
    press(panel, "JSON")
    assert (tmp_path / "spread.json").read_text() == "mine"
    assert "spread.json is there already and was left as it is" in text(panel)
    inside(panel, ipywidgets.Text, "file name").value = "second"
    press(panel, "JSON")
    assert json.loads((tmp_path / "second.json").read_text()) == panel.outcome
    assert "left as it is" not in text(panel)


@pytest.mark.parametrize("name", ["", "  ", "../above", "folder/name"])
def test_saving_refuses_a_name_that_is_no_file_of_this_folder(panel, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    inside(panel, ipywidgets.Text, "file name").value = name
    press(panel, "JSON")
    assert "a file name is one word or more, without folders" in text(panel)
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob("above*")) == []


def test_saving_where_nothing_can_be_written_is_told_in_words(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside(panel, ipywidgets.Text, "file name").value = "x" * 300
    press(panel, "JSON")
    assert "could not be written" in text(panel)
    assert panel.error.fix == "type another file name"


# --- every display form


def test_the_mimebundle_reads_without_a_kernel(panel):
    bundle, sizes = panel._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/html", "text/plain"}
    assert base64.b64decode(bundle["image/png"]) == image(panel).value
    assert sizes == {"image/png": {"width": 720, "height": 400}}
    page = bundle["text/html"]
    assert bundle["image/png"] in page
    for word in (
        "spread",
        "Do the outputs spread?",
        ">OK</span>",
        "4 pairs",
        "shift = 1",
        'alt="spread: Heat map"',
    ):
        assert word in page
    for active in ("<script", "<style", "onload", "http:", "https:"):
        assert active not in page
    assert bundle["text/plain"].startswith("spread: Do the outputs spread?\nverdict: OK\n")


def test_hostile_words_never_become_markup(make):
    panel = make(title="<script>t</script>", question="<img src=x onerror=q>")
    for page in (panel._repr_mimebundle_()[0]["text/html"], text(panel)):
        assert "<script>t" not in page
        assert "<img src=x" not in page
    slider(panel, "pairs").value = 21
    press(panel, "Run")
    assert "blocks.&lt;b&gt;3&lt;/b&gt;" in text(panel)


# --- memory


def test_two_hundred_moves_reuse_one_figure_and_grow_nothing(panel):
    figures = set()
    shift = slider(panel, "shift")
    original = panel._shown["heatmap"].draw

    def draw(figure, **knobs):
        figures.add(id(figure))
        original(figure, **knobs)

    panel._shown["heatmap"] = PanelView("heatmap", "Heat map", draw, size=(1.5, 1.0))
    for step in range(20):
        shift.value = step % 5
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(200):
        shift.value = step % 5
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(figures) == 1
    assert grown < 20_000, f"{grown} KiB"


def test_runs_leave_no_widgets_behind_and_close_frees_the_model(make):
    class Model:
        pass

    model = Model()
    watched = weakref.ref(model)
    panel = Panel(
        title="spread", question="?", run=lambda model=model, **settings: probe(**settings), rerun={"pairs": (1, 40), "train": False},
        views=views, findings=judged, to_json=json.dumps,
    )  # fmt: skip
    count = len(ipywidgets.widgets.widget._instances)
    press(panel, "Run")
    assert len(ipywidgets.widgets.widget._instances) == count
    panel.close()
    del panel, model
    gc.collect()
    assert watched() is None


def test_a_folder_as_ckpt_gives_a_chooser_among_its_files(tmp_path):
    for number, name in enumerate(["early.pt", "late.pt", "torn.pt"]):
        torch.save({"model": {"layer.weight": torch.randn(8, 8)}, "iter": number}, tmp_path / name)
        os.utime(tmp_path / name, (number, number))
    whole = (tmp_path / "torn.pt").read_bytes()
    (tmp_path / "torn.pt").write_bytes(whole[: len(whole) // 2])
    panel = tl.weights.panel(ckpt=tmp_path, spectra=False)
    assert "is cut short" in str(panel.error), "the newest is shown first, and told in words"
    chooser = panel._settings._controls["ckpt"]
    assert [Path(file).name for file in chooser.options] == ["early.pt", "late.pt", "torn.pt"]
    chooser.value = chooser.options[0]
    panel._run_button.click()
    assert panel.error is None
    assert "iter 0" in panel.outcome.origin["ckpt"]
    panel.close()


# --- live


def test_live_runs_again_by_itself_until_it_is_off(make):
    runs = []
    panel = make(
        run=lambda: runs.append(1) or {"pairs": len(runs), "train": False}, rerun={}, start={}, every=0.05
    )
    assert panel._live.layout.display == "flex"
    panel._live.value = True
    waited = time.monotonic() + 20
    while len(runs) < 4 and time.monotonic() < waited:
        time.sleep(0.02)
    panel._live.value = False
    with panel._turn:  # one that had begun ends first
        seen = len(runs)
    assert seen >= 4
    assert panel.outcome["pairs"] == seen
    time.sleep(0.3)
    assert len(runs) == seen


def test_live_stops_at_an_error_and_shows_it(make):
    def run():
        if runs:
            raise SubjectError("the log is gone", seen="nothing", fix="start the run again")
        runs.append(1)
        return {"pairs": 1, "train": False}

    runs = []
    panel = make(run=run, rerun={}, start={}, every=0.05)
    panel._live.value = True
    assert panel._live.value is False
    assert "the log is gone" in panel._message.value


def test_a_panel_on_a_followed_log_reads_what_was_appended(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {i} loss {5 / (i + 1):.4f}\n" for i in range(50)))
    panel = tl.curves.panel(log=tl.follow(path, every=60))
    assert panel.outcome.result.frame("series")["count"].max() == 50
    with path.open("a") as file:
        file.writelines(f"step {i} loss {5 / (i + 1):.4f}\n" for i in range(50, 90))
    panel._run_button.click()
    assert panel.outcome.result.frame("series")["count"].max() == 90
    assert panel._live.layout.display == "flex"
    panel.close()
    plain = tl.curves.panel(log=str(path))
    assert plain._live.layout.display == "none"
    plain.close()


@pytest.mark.parametrize("room", list(tl.installed()))
def test_the_panel_of_every_room_shows_every_view(room):
    panel = tl.installed()[room].panel()
    assert panel.error is None
    for _, view in panel._chooser.options:
        panel._chooser.value = view
        assert panel.error is None, view
        assert panel._png, view
    assert len(panel._chooser.options) == len(tl.installed()[room].views)
    panel.close()
