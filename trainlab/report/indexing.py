"""Many reports: make one for each checkpoint, and an index over them that opens no kernel."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trainlab.errors import UsageError
from trainlab.finding import Findings, Level
from trainlab.markup import Html, badge, block, table
from trainlab.progress import track
from trainlab.report.gluing import glued
from trainlab.report.page import bind, open_page, subject_name, subject_of, template
from trainlab.report.running import ReportError, badness, report
from trainlab.report.sheet import POLICY
from trainlab.result import write_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Index", "Row", "index", "row", "sweep"]

_ERROR_COLOUR = "#5b2c83"


@dataclasses.dataclass(frozen=True)
class Row:
    """One report in an index.

    Attributes:
        subject: What was looked at: the checkpoint, or that it was the example.
        verdict: ok, skip, warn, fail; or error where the page did not come to a good end.
        headline: What decided the verdict, in one line.
        findings: The level of each rule, by code.
        path: The report.
        html: The same as one HTML file, where there is one beside it.
    """

    subject: str
    verdict: str
    headline: str
    findings: Mapping[str, str]
    path: Path
    html: Path | None

    def __str__(self) -> str:
        return f"{self.verdict:<5}  {self.subject}  {self.headline}\n       {self.html or self.path}"


@dataclasses.dataclass(frozen=True, repr=False)
class Index:
    """The verdicts of many reports, with a link to each; it shows itself as a table."""

    rows: tuple[Row, ...]
    path: Path | None = None

    def frame(self) -> pd.DataFrame:
        """One row a report: subject, verdict, headline, a column for each rule, path."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"subject": row.subject, "verdict": row.verdict, "headline": row.headline}
                | dict(row.findings)
                | {"path": str(row.path)}
                for row in self.rows
            ]
        )

    def __repr__(self) -> str:
        return "\n".join(map(str, self.rows))

    def _repr_html_(self) -> str:
        return self.to_html(Path.cwd())

    def to_html(self, folder: Path) -> str:
        """The table as escaped HTML, with links that hold from that folder."""
        count = {verdict: sum(row.verdict == verdict for row in self.rows) for verdict in _COLOURS}
        title = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)
        return block(title, [table([_cells(row, folder) for row in self.rows])])


def sweep(
    page: str,
    ckpts: Iterable[str | os.PathLike[str]],
    parameters: Mapping[str, object] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    html: bool = False,
    progress: bool = True,
    heard: Callable[[Row], None] | None = None,
) -> Index:
    """Makes a report for each checkpoint (or log, where the page takes logs), and ``index.html`` over them.

    A page that does not come to a good end is a row of its own and stops nothing.

    Args:
        page: The name of an installed page, or the path of a notebook.
        ckpts: The checkpoints, one report each.
        parameters: What else the page takes; the same for every checkpoint.
        out: The folder for the reports and the index; ``PAGE-reports`` by default, made where missing.
        html: Also write each report as one self-contained HTML file, and link that.
        progress: Show a bar of the cells that are done in each.
        heard: Called with each row as its report is finished.

    Raises:
        UsageError: A checkpoint is not there, or a parameter does not fit; nothing has run.
    """
    paths = list(dict.fromkeys(Path(ckpt) for ckpt in ckpts))
    shared = dict(parameters or {})
    source, subject = template(page), subject_name(page)
    for path in paths:
        bind(page, {**shared, subject: path})
    folder = Path(out) if out is not None else Path(f"{source.stem}-reports")
    if folder.suffix == ".ipynb" or folder.is_file():
        raise UsageError(
            "several reports need a folder", seen=str(folder), fix=f"-o {folder.with_suffix('')}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for path, name in zip(paths, _distinct(paths), strict=True):
        target = folder / f"{source.stem}-{name}.ipynb"
        with contextlib.suppress(ReportError):  # it is written, and its row says what went wrong
            report(page, {**shared, subject: path}, out=target, html=html, progress=progress)
        rows.append(row(target))
        if heard is not None:
            heard(rows[-1])
    return _written(rows, folder / "index.html")


def index(reports: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Index:
    """Reads many reports into one table; opens no kernel and imports no torch.

    Args:
        reports: Executed pages, by any runner.
        out: Also write the table there, as an HTML file with links.

    Raises:
        PageError: One of them is not a notebook.
    """
    rows = [row(Path(path)) for path in track(list(reports), label="index")]
    return Index(tuple(rows)) if out is None else _written(rows, Path(out))


def row(report: Path) -> Row:
    """Reads one report into a row; opens no kernel.

    Raises:
        PageError: It is not a notebook.
    """
    notebook = open_page(report)
    payloads = glued(notebook)
    ran = notebook.metadata.get("papermill", {})
    subject = subject_of(ran.get("parameters", {}))
    if payloads and all(payload["example"] for payload in payloads):
        subject = "built-in example"
    troubles = list(notebook.metadata.get("trainlab", {}).get("troubles", ()))
    if not troubles and ran.get("exception"):
        troubles = ["a cell failed"]
    if not troubles and not payloads:
        troubles = ["holds no examination"]
    findings = [Findings.from_dict(payload["findings"]) for payload in payloads]
    worst = max(findings, key=lambda each: badness(each.verdict), default=None)
    sheet = report.with_suffix(".html")
    # one that is older than the report is of another run
    fresh = sheet.is_file() and sheet.stat().st_mtime_ns >= report.stat().st_mtime_ns
    return Row(
        subject=subject or report.stem,
        verdict="error" if worst is None or troubles else worst.verdict.value,
        headline=troubles[0] if worst is None or troubles else worst.headline,
        findings={finding.code: finding.level.value for each in findings for finding in each},
        path=report,
        html=sheet if fresh else None,
    )


_COLOURS = {"error": _ERROR_COLOUR} | {level.value: level.colour for level in reversed(Level)}


def _cells(row: Row, folder: Path) -> dict[str, object]:
    target = quote(Path(os.path.relpath(row.html or row.path, folder)).as_posix())
    return {
        "": badge(row.verdict.upper(), _COLOURS[row.verdict]),
        "subject": Html(f'<a href="{html.escape(target)}">{html.escape(row.subject)}</a>'),
        "found": row.headline,
    }


def _written(rows: Sequence[Row], path: Path) -> Index:
    result = Index(tuple(rows), path)
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += '<meta name="color-scheme" content="light dark"><title>reports</title>'
    body = f'<body style="font-family:system-ui,sans-serif;margin:2em">{result.to_html(path.parent)}</body>'
    write_whole(path, f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>\n'.encode())
    return result


def _distinct(paths: Sequence[Path]) -> list[str]:
    """A short name for each path: its stem, with as many folders before it as tell them apart."""
    whole = [[*path.absolute().parent.parts[1:], path.stem] for path in paths]
    for depth in range(1, max(map(len, whole), default=0) + 1):
        names = ["-".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{number:03}-{path.name}" for number, path in enumerate(paths, start=1)]
