"""The command `trainlab`: reports and checkpoints from a terminal; a verdict becomes an exit code here (`verdicts`) and nowhere else.

0: ok, skip or warn. 1: fail, or warn under ``--strict``. 2: it could not run, or did not come to a good end.
"""

from __future__ import annotations

from typing import Any

import click

from trainlab.cli import checkpoints, logs, reports
from trainlab.errors import TrainlabError, UsageError, did_you_mean

__all__ = ["main"]

EXAMPLES = """
\b
Examples:
  trainlab demo                                        train a small model, then report on it
  trainlab report variation runs/a/step_4000.pt        one checkpoint
  trainlab report variation runs/a/*.pt --html         many, with an index over them
  trainlab report variation -p ckpt=a.pt -p pairs=64   parameters by name
  trainlab report variation                            the built-in example
  trainlab explain VAR002                              what a rule checks, why, and how to fix it

\b
Checkpoints, without loading them:
  trainlab peek runs/a/last.pt                         what is in it, in milliseconds
  trainlab audit runs --expect epoch=400               are these the files that were meant?
  trainlab verify runs                                 is every byte as it was written?
  trainlab diff runs/a/last.pt runs/b/last.pt          what changed
  trainlab salvage torn.pt -o saved.pt                 what is left of a file

\b
Training logs, whatever wrote them:
  trainlab curves runs/a/train.log                     red flags in one run
  trainlab compare runs --at 15000                     which run is best, and is that more than noise?

\b
Exit code: 0 ok, skip or warn; 1 fail (or warn with --strict); 2 could not run.
"""


class _Commands(click.Group):
    """Tells our errors in words and leaves with 2; knows what a mistyped command was meant to be."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrainlabError as error:
            click.echo(error, err=True)
            ctx.exit(2)
        except BrokenPipeError:
            raise  # the reader has gone: click ends quietly
        except OSError as error:
            place = f"cannot read or write {error.filename or 'a file'}"
            advice = "another place, or see its permissions and df"
            click.echo(TrainlabError(place, seen=error.strerror, fix=advice), err=True)
            ctx.exit(2)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UsageError(f"there is no command {args[0]!r}", fix=did_you_mean(args[0], self.commands))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="trainlab")
def main() -> None:
    """Diagnostics for people who train PyTorch models."""


@main.command("list")
def list_() -> None:
    """List every diagnostic and the question it answers."""
    from trainlab.catalogue import installed

    click.echo(repr(installed()))


@main.command()
@click.argument("code")
def explain(code: str) -> None:
    """Tell what a rule checks, why, and how to fix what it finds."""
    from trainlab.catalogue import explain as look_up

    click.echo(repr(look_up(code)))


@main.command()
@click.argument("page")
def template(page: str) -> None:
    """Print the path of a page.

    To copy it, or for papermill: papermill $(trainlab template variation) out.ipynb -p ckpt a.pt
    """
    from trainlab.report import template as find

    click.echo(find(page))


for command in (*reports.COMMANDS, *checkpoints.COMMANDS, *logs.COMMANDS):
    main.add_command(command)
