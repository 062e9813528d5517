"""The built wheel works in an empty environment, far from the checkout: pages and commands travel with it."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from trainlab.report import read

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command in an environment that holds the wheel and, by a .pth file, the dependencies of this one."""
    room = tmp_path_factory.mktemp("elsewhere")
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "JUPYTER_PATH")}
    clean |= {"JUPYTER_DATA_DIR": str(room / "jupyter"), "IPYTHONDIR": str(room / "ipython")}

    def run(*command, cwd=room, check=True, **extra):
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=clean | extra,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", room / "dist", cwd=ROOT)
    run(sys.executable, "-m", "venv", "--without-pip", room / "venv")
    python = room / "venv" / "bin" / "python"
    (wheel,) = (room / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-q", wheel)
    (packages,) = (room / "venv" / "lib").glob("python*/site-packages")
    # a folder named in a .pth file is searched, but its own .pth files are not: no way back to the checkout
    here = dict.fromkeys(
        [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    )
    (packages / "dependencies.pth").write_text("\n".join(here) + "\n")
    run.python, run.trainlab, run.room = python, room / "venv" / "bin" / "trainlab", room
    return run


def test_it_is_the_wheel_that_is_imported(run):
    where = run(run.python, "-c", "import trainlab; print(trainlab.__file__)").stdout.strip()
    assert Path(where).is_relative_to(run.room)


def test_the_page_travels_with_it(run):
    path = Path(run(run.trainlab, "template", "variation").stdout.strip())
    assert path.is_relative_to(run.room)
    assert path.read_bytes() == (ROOT / "notebooks" / "variation.ipynb").read_bytes()


def test_a_report_is_made_there(run):
    # nbconvert's templates lie beside its own environment; the kernelspecs there lead back to it, and are not used
    share = Path(sys.prefix) / "share" / "jupyter"
    done = run(run.trainlab, "report", "variation", "--html", "-o", "own.ipynb", JUPYTER_PATH=str(share))
    assert done.stdout.startswith("ok     built-in example")
    assert (run.room / "own.html").is_file()
    (examination,) = read(run.room / "own.ipynb")
    assert examination.example


def test_papermill_runs_the_page_there(run):
    page = run(run.trainlab, "template", "variation").stdout.strip()
    run(run.python, "-m", "papermill", page, "plain.ipynb", "-p", "seed", "1", "--no-progress-bar")
    (examination,) = read(run.room / "plain.ipynb")
    assert examination.verdict == "ok"
    nbformat.validate(nbformat.read(run.room / "plain.ipynb", as_version=4))


def test_a_mistake_is_told_there_and_leaves_with_2(run):
    done = run(run.trainlab, "report", "variation", "-p", "pair=3", check=False)
    assert done.returncode == 2
    assert "did you mean 'pairs'?" in done.stderr
