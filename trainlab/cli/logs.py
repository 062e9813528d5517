"""Commands that read training logs; none of them imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from trainlab.cli.verdicts import STRICT, exit_code

__all__ = ["COMMANDS"]


@click.command(
    epilog="""
\b
Examples:
  trainlab curves runs/a/train.log
  trainlab curves wandb/offline-run-…/ --pack diffusion_forcing
  trainlab curves metrics.csv --run 0          the first of several runs in one file

\b
Exit code: 0 ok, skip or warn; 1 fail (or warn with --strict); 2 it is no log, or cannot be read.
"""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", default=-1, show_default=True, help="Which run of the file, from 0; -1 is the last.")
@click.option("--pack", default="auto", show_default=True, help="The kind of training, e.g. language_model.")
@click.option("--pattern", help="A regular expression with named groups, for lines that no grammar fits.")
@STRICT
def curves(file: Path, run: int, pack: str, pattern: str | None, strict: bool) -> None:
    """Say what is in the log FILE, of whatever format, and which red flags it raises."""
    from trainlab.diagnostics.curves import diagnostic as room
    from trainlab.subjects.runlog.opening import open_log

    log = open_log(file, pattern=pattern)
    click.echo(log)
    findings = room.judge(room.probe(log, run=run, pack=pack))
    click.echo(f"\n{findings}")
    click.get_current_context().exit(exit_code([findings.verdict], strict=strict))


@click.command(
    epilog="""
\b
Examples:
  trainlab compare runs --at 15000
  trainlab compare 'runs/*/train.log' --steps 500 5000 --out results

\b
Exit code: 0 ok, skip or warn; 1 fail (or warn with --strict); 2 there is no log.
"""
)
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--at", type=float, default=0.0, help="Rank at this step; by default the last that all reached."
)
@click.option("--metric", default="", help="The series to compare by; by default the loss.")
@click.option("--steps", type=float, nargs=2, default=None, help="Tell speed between these two steps.")
@click.option("--baseline", default="", help="The run that others are set against.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write results.csv and results.md into this folder."
)
@STRICT
def compare(  # noqa: PLR0917 - click hands each by keyword
    runs: Sequence[str],
    at: float,
    metric: str,
    steps: Sequence[float] | None,
    baseline: str,
    out: Path | None,
    strict: bool,
) -> None:
    """Rank RUNS (logs, folders, globs) at one step, with speeds, settings and what to beware of."""
    from trainlab.diagnostics.comparison import diagnostic as room
    from trainlab.diagnostics.comparison.writing import markdown
    from trainlab.subjects.runlog.opening import open_logs

    result = room.probe(open_logs(runs), at=at, metric=metric, steps=steps or (), baseline=baseline)
    findings = room.judge(result)
    click.echo(markdown(result))
    click.echo(findings)
    if out is not None:
        click.echo("\n".join(map(str, result.write(out))))
    click.get_current_context().exit(exit_code([findings.verdict], strict=strict))


COMMANDS = (curves, compare)
