"""Commands that look into checkpoint files; none of them imports torch or runs what a file holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from trainlab.cli.verdicts import STRICT, exit_code
from trainlab.errors import SubjectError, UsageError

__all__ = ["COMMANDS"]

PATH = click.Path(path_type=Path)


@click.command(
    epilog="""
\b
Examples:
  trainlab peek runs/a/last.pt
  trainlab peek runs/*/last.pt --tensors 0
  trainlab peek model.safetensors --all
  trainlab peek runs/a/last.pt --json | jq .scalars.epoch

\b
Exit code: 0, or 2 where a file could not be read.
"""
)
@click.argument("file", nargs=-1, required=True, type=PATH)
@click.option(
    "--tensors", "rows", default=12, show_default=True, metavar="N", help="How many tensors to list."
)
@click.option("--all", "whole", is_flag=True, help="List every tensor.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a file, with everything in it.")
def peek(file: Sequence[Path], rows: int, whole: bool, as_json: bool) -> None:
    """Say what is in each FILE, in milliseconds: weights, counters, config, optimizer, and the code it asks for.

    A FILE may be .pt, .pth, .ckpt, .bin, .safetensors, .pt2, TorchScript, or the folder of a sharded checkpoint.
    """
    from trainlab.subjects.checkfile import peek as look
    from trainlab.subjects.checkfile.shown import peek_dict, peek_text

    failed = False
    for each in file:
        try:
            seen = look(each)
        except SubjectError as error:
            click.echo(error, err=True)
            failed = True
            continue
        if as_json:
            click.echo(json.dumps(peek_dict(seen), allow_nan=False))
        else:
            click.echo(peek_text(seen, len(seen.tensors) if whole else rows))
    _leave(2 if failed else 0)


@click.command(
    epilog="""
\b
Examples:
  trainlab verify runs/a/last.pt
  trainlab verify runs               every checkpoint in a folder
  trainlab verify runs --strict      what holds no checksum is a failure too

\b
safetensors, legacy files and files saved without CRCs hold no checksum: of those only structure and length are told.
A manifest that was written before (trainlab manifest) checks their content too.

\b
Exit code: 0 good or unverifiable; 1 damaged, empty, or no checkpoint at all; 2 there is no such file.
"""
)
@click.argument("path", nargs=-1, required=True, type=PATH)
@click.option("--strict", is_flag=True, help="Unverifiable is a failure too.")
def verify(path: Sequence[Path], strict: bool) -> None:
    """Compare every byte with the CRCs that torch stores and never reads."""
    from trainlab.subjects.checkfile import State
    from trainlab.subjects.checkfile import verify as check

    code = 0
    for each in path:
        try:
            found = check(each)
        except SubjectError as error:
            click.echo(error, err=True)
            code = max(code, 1 if each.exists() else 2)
            continue
        click.echo(repr(found))
        if found.state is State.DAMAGED and each.is_file():
            click.echo(f"  try:  `trainlab salvage {each} -o saved.pt` takes out what is left")
        bad = found.state is State.DAMAGED or (strict and found.state is State.UNVERIFIABLE)
        code = max(code, int(bad))
    _leave(code)


@click.command(
    epilog="""
\b
Examples:
  trainlab salvage torn.pt -o saved.pt                    the old nesting, plain values too
  trainlab salvage untrusted.pt -o weights.safetensors    tensors only; nothing in the file is run

\b
Exit code: 0 everything saved, 1 something lost, 2 nothing could be saved.
"""
)
@click.argument("file", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="The new file, .pt or .safetensors.")
def salvage(file: Path, out: Path) -> None:
    """Take every whole tensor out of a cut, damaged or untrusted FILE."""
    from trainlab.subjects.checkfile import salvage as save

    saved = save(file, out)
    click.echo(repr(saved))
    _leave(int(bool(saved.lost)))


@click.command(
    epilog="""
\b
Examples:
  trainlab diff runs/a/epoch_10.pt runs/a/epoch_20.pt
  trainlab diff runs/a/last.pt runs/b/last.pt --values

\b
Exit code, as of diff: 0 they say the same, 1 they differ or it is not known, 2 one could not be read.
"""
)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--values", is_flag=True, help="Read both, and say how far each tensor moved.")
def diff(a: Path, b: Path, values: bool) -> None:
    """Say what differs between the checkpoints A and B: tensors, shapes, counters, config, optimizer settings.

    By stored CRCs, in milliseconds; files that store none need --values.
    """
    from trainlab.subjects.checkfile import diff as compare

    found = compare(a, b, values=values)
    click.echo(repr(found))
    _leave(int(not found.equal))


@click.command(
    epilog="""
\b
Examples:
  trainlab manifest runs/a                                                 writes runs/a/trainlab-manifest.json
  trainlab manifest runs/a --against runs/a                                has anything changed since?
  trainlab manifest /backup/a --against runs/a/trainlab-manifest.json      is the copy the same?

\b
Exit code: 0 written, or all as it was; 1 changed or missing; 2 could not run.
"""
)
@click.argument("folder", type=PATH)
@click.option("-o", "--out", type=PATH, help="Where to write it; in FOLDER by default.")
@click.option("--against", type=PATH, help="Compare FOLDER with this manifest, and write nothing.")
def manifest(folder: Path, out: Path | None, against: Path | None) -> None:
    """Write the size and SHA-256 of every file in FOLDER, or compare FOLDER with what was written."""
    from trainlab.subjects.checkfile import check_manifest
    from trainlab.subjects.checkfile import manifest as write

    if against is None:
        click.echo(write(folder, out))
        return
    if out is not None:
        raise UsageError("--against writes nothing", seen=f"--out {out}", fix="leave one of them out")
    found = check_manifest(against, folder)
    click.echo(repr(found))
    _leave(int(not found.ok))


@click.command(
    epilog="""
\b
Examples:
  trainlab audit runs
  trainlab audit experiments/a --expect epoch=400 hidden_dim=768 size=1GB
  trainlab audit runs --expect iter=15000 --expect files=training.log,last.pt
  trainlab audit runs --verify --strict

\b
Expectations: epoch, iter, hidden_dim, layers, every_epochs, every_iters, size, total, count, files.

\b
Exit code: 0 ok, skip or warn; 1 fail (or warn with --strict); 2 could not run.
"""
)
@click.argument("path", nargs=-1, required=True)
@click.option("--expect", "wanted", multiple=True, metavar="NAME=VALUE …", help="What should be there.")
@click.option("--verify", "check", is_flag=True, help="Read every byte and compare the CRCs too.")
@STRICT
def audit(path: Sequence[str], wanted: Sequence[str], check: bool, strict: bool) -> None:
    """Tell whether the checkpoints in PATH are those that were meant, all of them, and whole."""
    from trainlab.diagnostics.audit import diagnostic as room

    # the shell hands `--expect epoch=400 hidden_dim=768` over as an option and one more path
    more = [each for each in path if wanted and "=" in each and not Path(each).exists()]
    paths = [each for each in path if each not in more]
    if not paths:
        raise UsageError(
            "audit needs a folder, a file or a glob", fix="trainlab audit runs --expect epoch=400"
        )
    result = room.probe(
        paths[0] if len(paths) == 1 else paths, expect=_expectations([*wanted, *more]), verify=check
    )
    findings = room.judge(result)
    click.echo(findings)
    for number, text in enumerate(result.hypothesis_text, 1):
        click.echo(f"\n{number}. {text}\n   {result.hypothesis_evidence[number - 1]}")
        click.echo(f"   next: {result.hypothesis_next[number - 1]}")
    _leave(exit_code([findings.verdict], strict=strict))


def _expectations(words: Sequence[str]) -> dict[str, object]:
    expect: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError("an expectation is given as NAME=VALUE", seen=word, fix=f"--expect {name}=400")
        expect[name] = value.split(",") if name == "files" else int(value) if value.isdecimal() else value
    return expect


def _leave(code: int) -> None:
    click.get_current_context().exit(code)


COMMANDS = (peek, verify, salvage, diff, audit, manifest)
