"""Pages that start a kernel but no torch: the verdict is what the checkpoint file says."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = """\
ckpt: str = ""  # a file that holds the verdict
pairs: int = 32  # how many
rate: float = 0.5  # how fast
train: bool = False  # in training mode
limits: dict = {}  # thresholds by name
names: list = []  # some names"""

EXAMINE = """\
from pathlib import Path
from trainlab.finding import Finding, Findings, Level
from trainlab.report import glue

class Examination:
    level = Level(Path(ckpt).read_text()) if ckpt else Level.OK
    findings = Findings((Finding("SPR001", "Outputs spread", level, f"it is {level.value}", fix="mend it"),
                         Finding("SPR002", "There are two outputs", Level.SKIP, "there is one")))

    def to_dict(self):
        return {"diagnostic": "spread", "verdict": self.findings.verdict.value, "example": not ckpt,
                "origin": {"ckpt": ckpt}, "findings": self.findings.to_dict(), "result": None}

    def _repr_html_(self):
        return self.findings._repr_html_()

    def __str__(self):
        return str(self.findings)

glue(Examination())"""


@pytest.fixture
def make_page(tmp_path, monkeypatch):
    """Writes a page of these code cells after the parameters; its kernelspec is registered nowhere."""
    monkeypatch.chdir(tmp_path)

    def make(*cells, name="spread", parameters=PARAMETERS, skipped=()):
        nodes = [new_markdown_cell("# Spread"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        nodes += [new_code_cell(cell) for cell in cells]
        nodes += [new_code_cell(cell, metadata={"tags": ["skip-execution"]}) for cell in skipped]
        spec = {"name": "is-registered-nowhere", "language": "python", "display_name": "?"}
        notebook = new_notebook(
            cells=nodes, metadata={"kernelspec": spec, "language_info": {"name": "python"}}
        )
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    return make


@pytest.fixture
def spread_page(make_page, monkeypatch, spread):
    """A whole page, and the diagnostic that its examinations name."""
    monkeypatch.setattr("trainlab.catalogue.installed", lambda: {"spread": spread})
    return make_page(EXAMINE, skipped=["1 / 0"])


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a stand-in for a checkpoint: a file that holds the verdict."""

    def write(verdict, name=None):
        path = tmp_path / (name or f"{verdict}.pt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(verdict)
        return path.relative_to(tmp_path)

    return write
