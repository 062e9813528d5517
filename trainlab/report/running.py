"""Execute a page on a subject, strictly: nothing that went wrong in it passes for success.

papermill does the executing. Beyond what `papermill` itself does: names and values are checked before anything
runs; the running interpreter is the kernel, whatever kernelspec is registered; a report appears under its name
only when it is whole; and what papermill lets pass (see `trainlab.report.witness`) is found and named.
"""

from __future__ import annotations

import dataclasses
import html
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.errors import PageError, UsageError
from trainlab.report.gluing import glued, read
from trainlab.report.page import bind, open_page, subject_of, template
from trainlab.report.sheet import to_html
from trainlab.report.witness import NOTES
from trainlab.result import write_whole

if TYPE_CHECKING:
    from trainlab.diagnostic import Examination
    from trainlab.finding import Level

__all__ = ["Report", "ReportError", "badness", "report"]

SKIPPED = "skip-execution"  # nbclient's own tag


@dataclasses.dataclass(frozen=True)
class Report:
    """An executed page that came to its end.

    Attributes:
        path: The executed notebook.
        html: The same as one self-contained file, where it was asked for.
        examinations: What was glued into it, in order.
        verdict: The worst verdict among them.
    """

    path: Path
    html: Path | None
    examinations: tuple[Examination, ...]
    verdict: Level


class ReportError(PageError):
    """A page that ran and did not come to a good end; the report is written all the same.

    Attributes:
        path: The report: the page as far as it came, with the traceback.
    """

    def __init__(self, what: str, *, path: Path, seen: str, fix: str) -> None:
        super().__init__(what, seen=seen, fix=fix)
        self.path = path


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Something that went wrong in a page, and the cell it belongs to (None where it is the whole page)."""

    cell: int | None
    source: str
    text: str
    traceback: str = ""

    def __str__(self) -> str:
        return self.text if self.cell is None else f"cell [{self.cell}] {self.source!r}: {self.text}"


def report(
    page: str | os.PathLike[str],
    parameters: Mapping[str, object] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    html: bool = False,
    progress: bool = True,
    timeout: int | None = None,
) -> Report:
    """Executes a page and writes the report.

    Args:
        page: The name of an installed page, or the path of a notebook.
        parameters: Values by name; text is typed as the page's parameters cell says.
        out: Where the report goes, an ``.ipynb`` or a folder; ``PAGE-CHECKPOINT.ipynb`` by default.
        html: Also write one self-contained HTML file beside it, which needs no network.
        progress: Show a bar of the cells that are done.
        timeout: Seconds that one cell may take; without it a kernel that hangs is waited for.

    Returns:
        The report, whatever its verdict: a verdict is data.

    Raises:
        UsageError: A parameter that the page does not know or cannot read; nothing has run.
        ReportError: A cell, a widget's callback, a thread or a task failed, the kernel died, or nothing was
            glued. The report is written and holds the traceback.

    Cost: two seconds for the kernel and the imports, and what the page does.
    """
    import nbformat

    source = template(page)
    values = bind(page, parameters or {})
    target = _target(source, values, out)
    notebook, troubles = _execute(source, values, bar=target.stem if progress else None, timeout=timeout)
    if "application/vnd.jupyter.widget-view+json" not in nbformat.writes(notebook):
        notebook.metadata.pop("widgets", None)  # of widgets that nothing shows, such as a progress bar's
    notebook.metadata.papermill.update(input_path=source.name, output_path=target.name)
    notebook.metadata.title = _title(source.stem, values, notebook, troubles)
    notebook.metadata.trainlab = {"page": source.stem, "troubles": [str(trouble) for trouble in troubles]}
    if troubles:
        notebook.cells.insert(0, _banner(troubles))
    write_whole(target, f"{nbformat.writes(notebook)}\n".encode())
    sheet = target.with_suffix(".html") if html else None
    if sheet is not None:
        write_whole(sheet, to_html(notebook).encode())
    if troubles:
        raise ReportError(
            f"page {source.stem!r} did not come to a good end",
            path=target,
            seen="\n".join(map(str, troubles)),
            fix=f"read the traceback in {target}",
        )
    examinations = tuple(read(target))
    return Report(target, sheet, examinations, max((e.verdict for e in examinations), key=badness))


def badness(verdict: str) -> int:
    """Orders verdicts from skip to fail; a page with several examinations has its worst."""
    return ["skip", "ok", "warn", "fail"].index(verdict)


def _target(source: Path, values: Mapping[str, object], out: str | os.PathLike[str] | None) -> Path:
    subject = Path(subject_of(values) or "report")
    target = Path(out or ".")
    if target.is_dir():
        target /= f"{source.stem}-{subject.stem}.ipynb"
    if target.suffix != ".ipynb":
        raise UsageError(
            "a report is a notebook", seen=os.fspath(target), fix=f"-o {target.with_suffix('.ipynb')}"
        )
    if target.resolve() == source.resolve():
        raise UsageError(f"the report would replace the page {source}", fix="another name: -o report.ipynb")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", fix=f"mkdir -p {target.parent}")
    return target


def _execute(
    source: Path, values: Mapping[str, object], *, bar: str | None, timeout: int | None
) -> tuple[Any, list[Trouble]]:
    """Runs the page; gives the executed notebook, and what went wrong in it."""
    import papermill

    with tempfile.TemporaryDirectory(prefix="trainlab-") as scratch:
        working, notes = Path(scratch, "page.ipynb"), Path(scratch, "notes.jsonl")
        notes.touch()
        failure: Exception | None = None
        try:
            papermill.execute_notebook(
                open_page(source),
                working,
                parameters=dict(values),
                kernel_name="python3",
                kernel_manager_class=_this_interpreter(notes),
                progress_bar={"desc": bar, "leave": False} if bar else False,
                execution_timeout=timeout,
            )
        except Exception as error:  # noqa: BLE001 - whatever stops papermill is told in the report
            failure = error
        notebook = open_page(working if working.exists() else source)
        seen = [json.loads(line) for line in notes.read_text().splitlines()]
    return notebook, _troubles(notebook, seen, failure)


def _this_interpreter(notes: Path) -> type:
    """A kernel manager that starts this very interpreter, with the witness in it."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    command += ["--ext", "trainlab.report.witness", "--log-level", "ERROR"]
    # a report is read later: a progress bar in it says nothing any more
    spec = KernelSpec(
        argv=command, language="python", display_name="Python", env={NOTES: str(notes), "TQDM_DISABLE": "1"}
    )

    class ThisInterpreter(AsyncKernelManager):  # type: ignore[misc]
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return ThisInterpreter


def _troubles(notebook: Any, seen: list[dict[str, Any]], failure: Exception | None) -> list[Trouble]:
    """Everything that went wrong: in the cells' outputs, in the witness's notes, and what is missing."""
    sources = _first_lines(notebook)
    found: dict[tuple[int, str], Trouble] = {}
    for cell, error, text, trace in [*_cell_errors(notebook), *_notes(seen)]:
        # a cell's own error is in its output and in the notes: told once
        found.setdefault((cell, error), Trouble(cell, sources.get(cell, ""), text, trace))
    troubles = list(found.values())
    # a failed cell is told already; a kernel that died or never started is not
    if failure is not None and not (troubles and type(failure).__name__ == "PapermillExecutionError"):
        last = max((line["cell"] for line in seen), default=0)
        text = f"{type(failure).__name__}: {failure}"
        troubles.append(Trouble(last or None, sources.get(last, ""), text))
    if not troubles and not seen:
        troubles.append(Trouble(None, "", "the kernel was not watched, so an error may have gone unseen"))
    if not troubles and not glued(notebook):
        troubles.append(Trouble(None, "", "the page came to its end without gluing an examination"))
    return troubles


def _first_lines(notebook: Any) -> dict[int, str]:
    """The first line of each cell that runs, under its number in the kernel."""
    run = [
        cell.source.strip()
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and SKIPPED not in cell.metadata.get("tags", ())
    ]
    return {number: source.splitlines()[0] for number, source in enumerate(run, start=1)}


def _cell_errors(notebook: Any) -> Iterator[tuple[int, str, str, str]]:
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                error = f"{output.ename}: {output.evalue}"
                text = f"left by sys.exit({output.evalue})" if output.ename == "SystemExit" else error
                yield cell.execution_count, error, text, ""  # its traceback stands under the cell


def _notes(seen: list[dict[str, Any]]) -> Iterator[tuple[int, str, str, str]]:
    for line in seen:
        if line["kind"] in _KINDS:
            error = line.get("error", "")
            yield line["cell"], error, f"{_KINDS[line['kind']]}{error}", line.get("traceback", "")


_KINDS = {
    "shown": "an error in a widget's callback or display: ",
    "thread": "a thread died of ",
    "task": "an asyncio task that nobody awaited died of ",
    "exit": "asked the kernel to exit",
}


def _title(page: str, values: Mapping[str, object], notebook: Any, troubles: list[Trouble]) -> str:
    examinations = glued(notebook)
    if examinations and all(item["example"] for item in examinations):
        subject = "built-in example"
    else:
        subject = Path(subject_of(values) or str(values.get("model") or "")).name
    verdicts = {item["verdict"] for item in examinations}
    verdict = "could not run" if troubles else max(verdicts, key=badness).upper()
    return " · ".join(filter(None, [page, subject, verdict]))


def _banner(troubles: list[Trouble]) -> Any:
    """The cell that opens a report which did not come to a good end."""
    import nbformat

    told = [
        html.escape("\n".join(filter(None, [str(trouble), trouble.traceback.rstrip()])))
        for trouble in troubles
    ]
    style = "white-space:pre-wrap;color:inherit;background:none"
    text = "**This page did not come to a good end; do not trust what it shows.**\n\n"
    text += "\n".join(f'<pre style="{style}">{item}</pre>' for item in told)
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["trainlab-trouble"]})
