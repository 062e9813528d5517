"""Commands that execute pages: report and demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainlab.cli.verdicts import STRICT, exit_code
from trainlab.errors import UsageError

if TYPE_CHECKING:
    from trainlab.report import Row

__all__ = ["COMMANDS"]


@click.command(
    epilog="""
\b
Examples:
  trainlab report variation runs/a/step_4000.pt
  trainlab report variation -p ckpt=runs/a/step_4000.pt -o out.ipynb
  trainlab report variation runs/a/*.pt --html -o reports
  trainlab report curves runs/a/train.log
  trainlab report variation a.pt -p model=shop.models:build -p 'limits={variation_min: 1e-3}'
  trainlab report my/own/page.ipynb a.pt

\b
A page's parameters, with type and meaning: trainlab report PAGE --parameters
"""
)
@click.argument("page")
@click.argument("subject", nargs=-1)
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the page."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The report's .ipynb; a folder for several."
)
@click.option("--html", is_flag=True, help="Also write one self-contained HTML file, readable offline.")
@STRICT
@click.option("--parameters", "describe", is_flag=True, help="List the page's parameters, and run nothing.")
def report(  # noqa: PLR0917 - click hands each by keyword
    page: str,
    subject: Sequence[str],
    given: Sequence[str],
    out: Path | None,
    html: bool,
    strict: bool,
    describe: bool,
) -> None:
    """Execute PAGE on each SUBJECT (a checkpoint; a log for the page curves) and write a report.

    With no SUBJECT and none by -p it looks at the built-in example, and says so.
    """
    if describe:
        _describe(page)
        return
    from trainlab.report.page import subject_name

    values = _named(given)
    name = subject_name(page) if subject else ""
    if name in values:
        raise UsageError("the subject was named twice", seen=f"{subject[0]} and {name}={values[name]}")
    if len(subject) > 1 and name == "logs":
        raise UsageError(
            "this page takes all logs together",
            seen=f"{len(subject)} paths",
            fix="one folder, or a glob in quotes",
        )
    if len(subject) > 1:
        rows = _many(page, subject, values, out, html=html)
    else:
        rows = [_one(page, {**values, name: subject[0]} if subject else values, out, html=html)]
    click.get_current_context().exit(exit_code((row.verdict for row in rows), strict=strict))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
def demo(folder: Path) -> None:
    """Train a small model on digits into FOLDER, then report on it and its sick twins.

    A second run reuses what is there.
    """
    from trainlab.examples.digits import demo as train
    from trainlab.examples.digits.distillation import distil
    from trainlab.report.page import subject_name

    *checkpoints, averaging = [str(path) for path in train(folder)]
    reports = folder / "reports"
    rows = [*_many("variation", checkpoints, {}, reports, html=True)]
    for ckpt in (checkpoints[0], averaging):
        out = reports / f"attention-{Path(ckpt).parent.name}.ipynb"
        rows.append(_one("attention", {"ckpt": ckpt}, out, html=True))
    others = dict.fromkeys(("weights", "resume", "timesteps"), checkpoints[0]) | {"audit": str(folder)}
    others["dtypes"] = str(distil(folder / "distillation"))
    others |= {"curves": str(folder / "healthy" / "train.log"), "comparison": str(folder / "*" / "train.log")}
    for page, subject in others.items():
        rows.append(_one(page, {subject_name(page): subject}, reports, html=True))
    # a sick twin is meant to fail: only a page that could not run is an error here
    click.get_current_context().exit(2 if any(row.verdict == "error" for row in rows) else 0)


def _named(given: Sequence[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(
                "a parameter is given as NAME=VALUE", seen=f"-p {item}", fix=f"-p {name}=VALUE, as one word"
            )
        if name in values:
            raise UsageError(f"parameter {name!r} was given twice", seen=f"{values[name]} and {value}")
        values[name] = value
    return values


def _one(page: str, values: Mapping[str, object], out: Path | None, *, html: bool) -> Row:
    from trainlab.report import ReportError, row
    from trainlab.report import report as execute

    try:
        path = execute(page, values, out=out, html=html).path
    except ReportError as error:
        click.echo(error, err=True)
        path = error.path
    result = row(path)
    click.echo(result)
    return result


def _many(
    page: str, ckpts: Sequence[str], values: Mapping[str, object], out: Path | None, *, html: bool
) -> Sequence[Row]:
    from trainlab.report import sweep

    index = sweep(page, ckpts, values, out=out, html=html, heard=click.echo)
    click.echo(f"index  {index.path}")
    return index.rows


def _describe(page: str) -> None:
    from trainlab.report import parameters

    for parameter in parameters(page):
        click.echo(f"{parameter.name}: {parameter.type} = {parameter.default!r}\n    {parameter.comment}")


COMMANDS = (report, demo)
