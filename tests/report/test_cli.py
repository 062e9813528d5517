"""The commands: what they print, and the exit code that a verdict becomes."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("verdict", "options", "code"),
    [
        ("ok", [], 0),
        ("skip", [], 0),
        ("warn", [], 0),
        ("warn", ["--strict"], 1),
        ("ok", ["--strict"], 0),
        ("fail", [], 1),
        ("no verdict", [], 2),
    ],
)
def test_a_verdict_becomes_an_exit_code(  # noqa: PLR0917
    trainlab, spread_page, checkpoint, verdict, options, code
):
    done = trainlab("report", spread_page, checkpoint(verdict), *options)
    assert done.exit_code == code, done.output
    told = "error" if code == 2 else verdict
    assert f"{told:<5}  {verdict}.pt" in done.stdout
    assert f"spread-{verdict}.ipynb" in done.stdout


def test_many_checkpoints_give_a_line_each_and_the_worst_code(trainlab, spread_page, checkpoint, tmp_path):
    done = trainlab("report", spread_page, checkpoint("ok"), checkpoint("fail"), "-o", "all", "--html")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "ok     ok.pt  1 of 2 rules ok"
    assert lines[1].strip() == "all/spread-ok.html"
    assert lines[2] == "fail   fail.pt  SPR001 it is fail"
    assert lines[-1] == "index  all/index.html"
    assert (tmp_path / "all/index.html").is_file()
    assert trainlab("report", spread_page, checkpoint("fail"), checkpoint("huh")).exit_code == 2


def test_the_equals_form_and_a_name_for_the_report(trainlab, spread_page, checkpoint, tmp_path):
    done = trainlab(
        "report", spread_page, "-p", f"ckpt={checkpoint('ok')}", "-p", "pairs=8", "-o", "out.ipynb"
    )
    assert done.exit_code == 0, done.output
    assert "pairs = 8" in (tmp_path / "out.ipynb").read_text()


def test_with_nothing_given_it_is_the_example(trainlab, spread_page):
    done = trainlab("report", spread_page)
    assert done.exit_code == 0
    assert "built-in example" in done.stdout


@pytest.mark.parametrize(
    ("args", "told", "fix"),
    [
        (["-p", "pair=3"], "page 'spread' has no parameter 'pair'", "did you mean 'pairs'?"),
        (["-p", "pairs=x"], "parameter 'pairs' is a whole number", "pairs=32  # how many"),
        (["-p", "ckpt", "a.pt"], "a parameter is given as NAME=VALUE", "-p ckpt=VALUE, as one word"),
        (["-p", "pairs=1", "-p", "pairs=2"], "parameter 'pairs' was given twice", "1 and 2"),
        (["ok.pt", "-p", "ckpt=b.pt"], "the subject was named twice", "ok.pt and ckpt=b.pt"),
        (["okk.pt"], "there is no checkpoint okk.pt", "did you mean 'ok.pt'?"),
        (["ok.pt", "okk.pt"], "there is no checkpoint okk.pt", "did you mean 'ok.pt'?"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(  # noqa: PLR0917
    trainlab, spread_page, checkpoint, monkeypatch, args, told, fix
):
    checkpoint("ok")
    monkeypatch.setattr("trainlab.report.running._execute", None)
    done = trainlab("report", spread_page, *args)
    assert done.exit_code == 2
    assert told in done.stderr
    assert fix in done.stderr
    assert done.stdout == ""


def test_the_parameters_of_a_page_are_listed(trainlab, spread_page):
    done = trainlab("report", spread_page, "--parameters")
    assert done.exit_code == 0
    assert "pairs: int = 32\n    how many" in done.stdout


@pytest.mark.parametrize(
    ("args", "told", "fix"),
    [
        (["reprot"], "there is no command 'reprot'", "did you mean 'report'?"),
        (["report", "variaton"], "there is no page 'variaton'", "did you mean 'variation'?"),
        (["template", "variaton"], "there is no page 'variaton'", "did you mean 'variation'?"),
        (["explain", "VAR02"], "there is no rule 'VAR02'", "did you mean 'VAR002'?"),
    ],
)
def test_a_mistyped_word_gets_advice(trainlab, args, told, fix):
    done = trainlab(*args)
    assert done.exit_code == 2
    assert told in done.stderr
    assert fix in done.stderr


def test_list_explain_and_template_answer(trainlab):
    assert "variation" in trainlab("list").stdout
    assert "what:" in trainlab("explain", "var002").stdout
    assert trainlab("template", "variation").stdout.strip().endswith("variation.ipynb")


@pytest.mark.parametrize("command", [[], ["report"], ["demo"], ["explain"], ["list"], ["template"]])
def test_help_teaches_and_is_light(fresh_modules, command):
    loaded = fresh_modules(
        "from click.testing import CliRunner\nfrom trainlab.cli import main\n"
        f"done = CliRunner().invoke(main, [*{command}, '--help'])\n"
        "assert done.exit_code == 0 and 'Usage:' in done.output"
    )
    assert not loaded & {"torch", "papermill", "IPython", "nbformat", "numpy", "matplotlib", "pandas", "yaml"}


def test_help_has_examples(trainlab):
    assert "trainlab report variation runs/a/step_4000.pt" in trainlab("--help").stdout
    assert (
        "Exit code: 0 ok, skip or warn; 1 fail (or warn with --strict); 2 could not run."
        in trainlab("--help").stdout
    )
