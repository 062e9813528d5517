"""The laws of the house: imports, weight, length, thin pages, nothing written twice."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainlab
from trainlab.catalogue import installed

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEAVY = {"torch._dynamo", "ipywidgets", "IPython", "papermill", "matplotlib.pyplot", "seaborn", "pandas"}


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install 'trainlab[test]'")
    return found


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("lint-imports", "--no-cache"), ("mypy",)],
    ids=" ".join,
)
def test_the_tools_find_nothing(command):
    done = subprocess.run(
        [tool(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_trainlab_is_light(fresh_modules):
    assert not {"torch", *HEAVY} & fresh_modules("import trainlab")


def test_opening_every_room_is_light(fresh_modules):
    loaded = fresh_modules("import trainlab; trainlab.installed()")
    assert not HEAVY & loaded
    assert "torch" in loaded


def test_help_and_argument_checks_need_no_torch(fresh_modules):
    loaded = fresh_modules(
        "from trainlab.cli import main\n"
        "for arguments in (['--help'], ['report', '--help'], ['report', 'variation', '-p', 'pears=3']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
    )
    assert not {"torch", *HEAVY} & loaded


def test_a_mistyped_name_gets_a_hint():
    with pytest.raises(AttributeError, match="did you mean 'variation'"):
        trainlab.variatoin  # noqa: B018


def test_every_public_name_is_there():
    for name in dir(trainlab):
        assert getattr(trainlab, name) is not None
    declared = ast.parse((ROOT / "trainlab/__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(declared)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trainlab.")
        for alias in node.names
    }
    assert imported == set(dir(trainlab)) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'attenton'"):
        trainlab.attenton  # noqa: B018 - the access is what is tested


def test_every_file_reads_in_one_sitting():
    files = [*ROOT.glob("trainlab/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    long = {
        str(file.relative_to(ROOT)): count
        for file in files
        if (count := len(file.read_text().splitlines())) > 400
    }
    assert not long


def test_the_project_speaks_of_itself_alone():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    # a machine's paths and registry hosts, spelt so that this file does not hold them
    foreign = re.compile(
        "|".join(["/wor" + "k/", "/ro" + "ot/", "/ho" + "me/", "pypi" + r"\.org", "download" + r"\.pytorch"])
    )
    text = {"py", "md", "toml", "txt", "yml", "ipynb", "cfg"}
    found = [
        name
        for name in listed.stdout.split()
        if name.rsplit(".", 1)[-1] in text and foreign.search((ROOT / name).read_text())
    ]
    assert not found


def test_the_readme_names_every_diagnostic_and_page():
    readme = (ROOT / "README.md").read_text()
    for name, room in installed().items():
        assert f"`{name}`" in readme
        assert room.question in readme
    assert {page.stem for page in PAGES} <= set(installed()) | {"tour"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
class TestPages:
    """A page is prose, parameters and calls."""

    def test_it_is_committed_without_outputs(self, page):
        for cell in json.loads(page.read_text())["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None

    def test_it_is_thin(self, page):
        banned = (
            ast.FunctionDef,
            ast.ClassDef,
            ast.For,
            ast.While,
            ast.Lambda,
            ast.ListComp,
            ast.DictComp,
            ast.GeneratorExp,
            ast.With,
        )
        for cell in json.loads(page.read_text())["cells"]:
            if cell["cell_type"] != "code":
                continue
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                assert not isinstance(node, banned), "".join(cell["source"])
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    modules = (
                        [alias.name for alias in node.names]
                        if isinstance(node, ast.Import)
                        else [node.module]
                    )
                    assert all((name or "").split(".")[0] == "trainlab" for name in modules)

    def test_its_language_is_stated(self, page):
        metadata = json.loads(page.read_text())["metadata"]
        assert metadata["kernelspec"]["language"] == "python", "papermill needs it"
