"""Nothing that went wrong in a page passes for success, and a report is written whatever happens."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import papermill
import pytest
from nbclient.exceptions import CellTimeoutError

from trainlab.errors import UsageError
from trainlab.report import ReportError, report

# what happens, the cells, the number of the cell to blame, what is told of it; papermill succeeds on each
SILENT = {
    "an observer that draws into an Output": (
        [
            "import ipywidgets\nslider = ipywidgets.IntSlider()\nplace = ipywidgets.Output()",
            "@place.capture()\ndef redraw(change):\n    1 / 0\nslider.observe(redraw, 'value')",
            "slider.value = 3",
        ],
        4,
        "an error in a widget's callback or display: ZeroDivisionError",
    ),
    "a button whose error is cleared away": (
        [
            "import ipywidgets\nbutton, place = ipywidgets.Button(), ipywidgets.Output()",
            "button.on_click(lambda _: {}['gone'])",
            "with place:\n    button.click()\nplace.clear_output()",
        ],
        4,
        "an error in a widget's callback or display: KeyError: 'gone'",
    ),
    "interact": (
        ["import ipywidgets\n_ = ipywidgets.interact(lambda x: 1 / 0, x=(0, 3))"],
        2,
        "an error in a widget's callback or display: ZeroDivisionError",
    ),
    "a thread": (
        [
            "import threading, time\ndef work():\n    time.sleep(0.2)\n    raise OSError('disk full')",
            "thread = threading.Thread(target=work)\nthread.start()",
            "thread.join()",
        ],
        3,
        "a thread died of OSError: disk full",
    ),
    "a thread after the last cell": (
        [
            "import threading, time\ndef work():\n    time.sleep(0.3)\n    raise OSError('disk full')",
            "threading.Thread(target=work).start()",
        ],
        3,
        "a thread died of OSError: disk full",
    ),
    "a task that nobody awaited": (
        [
            "import asyncio\nasync def work():\n    raise OSError('disk full')",
            "task = asyncio.create_task(work())",
            "await asyncio.sleep(0.1)",
        ],
        2,
        "an asyncio task that nobody awaited died of OSError: disk full",
    ),
    "sys.exit(0)": (["import sys\nsys.exit(0)", "1 / 0"], 2, "left by sys.exit(0)"),
    "sys.exit()": (["import sys\nsys.exit()", "1 / 0"], 2, "left by sys.exit()"),
    "exit()": (["exit()"], 2, "asked the kernel to exit"),
    "an examination that was not glued": (["1"], None, "came to its end without gluing an examination"),
    "a cell that was tagged away": ([], None, "came to its end without gluing an examination"),
}


def patiently(run):
    """Runs again where a cell did not end: now and then one hangs, for a reason that was not found."""
    for _ in range(2):
        try:
            return run()
        except (CellTimeoutError, ReportError) as error:
            if "CellTimeoutError" not in f"{type(error).__name__}: {error}":
                raise
    return run()


def test_a_cell_that_takes_too_long_is_told(make_page):
    page = make_page("import time\ntime.sleep(60)")
    with pytest.raises(ReportError, match=r"(?s)CellTimeoutError"):
        report(page, progress=False, timeout=2)


@pytest.mark.parametrize("name", SILENT)
def test_a_silent_success_is_found_and_its_cell_named(make_page, name):
    cells, number, told = SILENT[name]
    page = make_page(*cells, skipped=["glue(examination)"])
    patiently(
        lambda: papermill.execute_notebook(
            page, "papermill.ipynb", kernel_name="python3", progress_bar=False, execution_timeout=40
        )
    )

    with pytest.raises(ReportError, match="page 'spread' did not come to a good end") as error:
        patiently(lambda: report(page, progress=False, timeout=40))

    where = "" if number is None else f"cell [{number}] {cells[number - 2].splitlines()[0]!r}: "
    assert error.value.seen.startswith(f"{where}{'the page ' if number is None else ''}{told}")
    assert "\n" not in error.value.seen  # told once
    written = nbformat.read(error.value.path, as_version=4)
    assert "did not come to a good end" in written.cells[0].source
    assert written.metadata.title == "spread · could not run"


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1 / 0"], "cell [2] '1 / 0': ZeroDivisionError: division by zero"),
        (["x = 1", "def"], "cell [3] 'def': SyntaxError"),
        (["import sys\nsys.exit(3)"], "cell [2] 'import sys': left by sys.exit(3)"),
        (["x = 1", "import os\nos._exit(0)"], "cell [3] 'import os': DeadKernelError"),
        (
            ["class Bad:\n    def _repr_html_(self):\n        1 / 0\nBad()"],
            "cell [2] 'class Bad:': ZeroDivisionError",
        ),
    ],
)
def test_a_crash_is_told_and_the_page_written(make_page, cells, told):
    with pytest.raises(ReportError) as error:
        report(make_page(*cells, "after = 1"), progress=False)
    assert error.value.seen.startswith(told)
    assert error.value.fix == f"read the traceback in {error.value.path}"
    assert error.value.path.name == "spread-report.ipynb"
    nbformat.validate(nbformat.read(error.value.path, as_version=4))


def test_every_trouble_is_told(make_page):
    page = make_page(
        "import ipywidgets\nslider = ipywidgets.IntSlider()\nplace = ipywidgets.Output()",
        "with place:\n    1 / 0",
        "import os\nos._exit(0)",
    )
    with pytest.raises(ReportError) as error:
        report(page, progress=False)
    first, second = error.value.seen.splitlines()
    assert first.startswith(
        "cell [3] 'with place:': an error in a widget's callback or display: ZeroDivisionError"
    )
    assert second.startswith("cell [4] 'import os': DeadKernelError")


def test_a_kernel_that_does_not_start_is_told(make_page, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ReportError, match="FileNotFoundError") as error:
        report(make_page("1"), progress=False)
    assert error.value.path.is_file()


def test_it_works_where_a_loop_is_running(spread_page):
    async def inside():
        return report(spread_page, progress=False)

    # in a thread of its own: the browser tests leave a loop running in the main one
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, inside()).result().verdict == "ok"


def test_the_traceback_of_a_thread_is_in_the_page_escaped(make_page):
    work = "def work():\n    raise OSError('<script>disk</script>')"
    page = make_page(f"import threading\n{work}\nthreading.Thread(target=work).start()")
    with pytest.raises(ReportError) as error:
        report(page, progress=False)
    banner = nbformat.read(error.value.path, as_version=4).cells[0].source
    assert "in work" in banner
    assert "&lt;script&gt;disk" in banner
    assert "<script>" not in banner


def test_errors_that_a_page_deals_with_are_its_own_business(make_page, spread_page):
    quiet = [
        "import asyncio\nasync def work():\n    raise OSError\ntask = asyncio.create_task(work())",
        "try:\n    await task\nexcept OSError:\n    print('seen')",
        "import threading, sys\nthread = threading.Thread(target=sys.exit)\nthread.start()\nthread.join()",
    ]
    examine = nbformat.read(spread_page, as_version=4).cells[2].source
    assert report(make_page(*quiet, examine), progress=False).verdict == "ok"


@pytest.mark.parametrize("verdict", ["ok", "skip", "warn", "fail"])
def test_a_verdict_is_data(spread_page, checkpoint, verdict):
    done = report(spread_page, {"ckpt": checkpoint(verdict, f"runs/{verdict}.pt")}, progress=False)
    assert done.verdict == verdict
    assert done.path.name == f"spread-{verdict}.ipynb"
    assert done.html is None
    (examination,) = done.examinations
    assert examination.findings["SPR001"].text == f"it is {verdict}"
    assert not examination.example
    written = nbformat.read(done.path, as_version=4)
    assert written.metadata.title == f"spread · {verdict}.pt · {verdict.upper()}"
    assert written.cells[-1].outputs == []  # tagged skip-execution
    assert [path.name for path in done.path.parent.glob(".*")] == []


def test_state_of_widgets_that_nothing_shows_is_left_out(make_page, spread_page):
    examine = nbformat.read(spread_page, as_version=4).cells[2].source
    done = report(make_page("import ipywidgets\nslider = ipywidgets.IntSlider()", examine), progress=False)
    assert "widgets" not in nbformat.read(done.path, as_version=4).metadata
    done = report(make_page("import ipywidgets\nipywidgets.IntSlider()", examine), progress=False)
    assert "widgets" in nbformat.read(done.path, as_version=4).metadata


def test_a_page_run_bare_says_that_it_shows_the_example(spread_page):
    done = report(spread_page, progress=False)
    assert done.examinations[0].example
    assert nbformat.read(done.path, as_version=4).metadata.title == "spread · built-in example · OK"


def test_a_report_goes_into_a_folder_that_is_named(spread_page, checkpoint, tmp_path):
    (tmp_path / "all").mkdir()
    done = report(spread_page, {"ckpt": checkpoint("ok")}, out="all", progress=False)
    assert str(done.path) == "all/spread-ok.ipynb"


def test_the_kernel_is_the_running_interpreter(make_page):
    with pytest.raises(ReportError) as error:
        report(make_page("import sys\nprint(sys.executable)"), progress=False)
    written = nbformat.read(error.value.path, as_version=4)
    assert written.cells[-1].outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize(
    ("out", "told", "fix"),
    [
        ("out.html", "a report is a notebook", "-o out.ipynb"),
        ("spread.ipynb", "the report would replace the page", "-o report.ipynb"),
        ("no/such/out.ipynb", "there is no folder no/such", "mkdir -p no/such"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_anything_runs(spread_page, out, told, fix):
    with pytest.raises(UsageError, match=told) as error:
        report(spread_page, out=out)
    assert fix in str(error.value)


def test_a_report_that_is_broken_off_leaves_no_file(spread_page, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", interrupt)
    before = sorted(spread_page.parent.iterdir())
    with pytest.raises(KeyboardInterrupt):
        report(spread_page, progress=False)
    assert sorted(spread_page.parent.iterdir()) == before
