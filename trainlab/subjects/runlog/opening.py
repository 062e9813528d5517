"""Open the log of a run, or the logs of many, whatever wrote them."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError, did_you_mean
from trainlab.subjects.runlog import event_files, json_lines, tables, text, trainer_state, wandb_files
from trainlab.subjects.runlog.log import RunLog, RunLogs
from trainlab.subjects.runlog.source import head_of
from trainlab.subjects.runlog.text_pattern import compiled, read_pattern

__all__ = ["logs_in", "open_log", "open_logs"]

Named = str | os.PathLike[str]
FORMATS: tuple[Any, ...] = (wandb_files, event_files, trainer_state, json_lines, tables)
# what a run's folder may hold, the best first; one of them tells what the others tell
_WHOLE = ("trainer_state.json", "metrics.csv", "progress.csv", "metrics.json", "log.txt")
_SUFFIXES = (".log", ".out", ".txt", ".json", ".jsonl", ".csv", ".tsv", ".wandb", ".err")
_OTHERS = {
    b"<!doctype html": ("an HTML page", "download it again: a login page or an error was saved in its place"),
    b"<html": ("an HTML page", "download it again: a login page or an error was saved in its place"),
    b"pk\x03\x04": (
        "a zip archive (torch.save writes those)",
        "give a checkpoint as ckpt=; unpack an archive first",
    ),
    b"\x89png": ("a PNG image", "give the log itself"),
    b"\x7felf": ("a program", "give the log itself"),
    b"%pdf": ("a PDF", "give the log itself"),
    b"\x80": ("a pickle", "give a checkpoint as ckpt="),
    b"sqlite format 3": ("an SQLite database", "export its runs as CSV"),
}


def open_log(path: Named, *, pattern: str | None = None, progress: bool = True) -> RunLog:
    r"""Opens the log of a run: text of any kind, JSON lines, CSV, trainer_state.json, TensorBoard, W&B, also packed.

    No options are needed; the format is told from the content. Nothing in the file is executed.

    Args:
        path: A file; or the folder of a run (TensorBoard, W&B, Lightning, Hugging Face, or one with a log in it).
        pattern: For lines that no grammar fits: a regular expression whose named groups are ``step``, ``epoch``,
            ``time``, ``split`` and the quantities, e.g. ``r"(?P<step>\d+): (?P<loss>[\d.]+)"``.
        progress: Show how far it is, where it takes over a second.

    Raises:
        SubjectError: There is no such file, it is something else, or it tells no quantity of training.
        UsageError: The pattern is no regular expression, or names no quantity.
    """
    regex = None if pattern is None else compiled(pattern)
    path = Path(path).expanduser()
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        return _open_file(path, regex, progress=progress)
    found = logs_in(path)
    if not found:
        names = sorted(each.name for each in path.iterdir())
        raise SubjectError(
            f"{path} holds no log", seen=", ".join(names[:10]) or "an empty folder", fix="give the log's file"
        )
    if len(found) > 1:
        shown = "\n".join(str(each.relative_to(path)) for each in found[:8])
        raise SubjectError(
            f"{path} holds {len(found)} logs", seen=shown, fix="open_logs(folder) opens them all; or give one"
        )
    return _open_entry(found[0], regex, progress=progress)


def open_logs(
    paths: Named | Iterable[Named], *, pattern: str | None = None, progress: bool = True
) -> RunLogs:
    """Opens the logs of many runs: one entry a run, named by the shortest paths that tell them apart.

    Args:
        paths: A folder, a glob, a file, or several of them.
        pattern: As in `open_log`, for all of them.
        progress: As in `open_log`.

    Raises:
        SubjectError: None of the files is a log, or one that is named is not there.
    """
    regex = None if pattern is None else compiled(pattern)
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    entries = list(dict.fromkeys(entry for each in given for entry in _entries(Path(each).expanduser())))
    opened: list[tuple[Path, RunLog]] = []
    errors: list[SubjectError] = []
    for entry in entries:
        try:
            opened.append((entry, _open_entry(entry, regex, progress=progress)))
        except SubjectError as error:
            errors.append(error)
    if not opened:
        shown = "\n".join(error.what for error in errors[:8])
        named = ", ".join(map(str, given[:4]))
        raise SubjectError(
            f"there is no log in {named}",
            seen=shown or "no file of a log's kind",
            fix="give a folder, a glob or files of logs",
        )
    logs: dict[str, RunLog] = {}
    for name, (_, log) in zip(_names([entry for entry, _ in opened]), opened, strict=True):
        runs = log.runs
        for number, run in enumerate(runs, start=1):
            logs[name if len(runs) == 1 else f"{name}#{number}"] = run
    return RunLogs(logs, tuple(error.what for error in errors))


def logs_in(folder: Path, *, below: bool = True) -> list[Path]:
    """The logs in a folder, and in those below it where asked: files, and folders that are one run."""
    if wandb_files.is_run_folder(folder):
        return [folder]
    inside = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    checkpoints = [
        each
        for each in inside
        if re.fullmatch(r"checkpoint-\d+", each.name) and (each / "trainer_state.json").is_file()
    ]
    if checkpoints:  # the last tells all that those before it tell
        return [max(checkpoints, key=lambda each: int(each.name[11:])) / "trainer_state.json"]
    files = [
        each for each in inside if each.is_file() and _is_log_name(each.name) and "tfevents" not in each.name
    ]
    folders = [each for each in inside if below and each.is_dir() and not each.is_symlink()]
    deeper = [log for each in folders for log in logs_in(each)]
    events = (
        [folder] if any("tfevents" in each.name for each in inside) else []
    )  # all its event files are one run
    return events + files + deeper


def _is_log_name(name: str) -> bool:
    plain = re.sub(r"\.(?:gz|bz2|xz)$|\.\d+$", "", name.lower())
    return plain.endswith(_SUFFIXES) and not re.match(
        r"(?:requirements|readme|config|license|hparams|args)\b", plain
    )


def _entries(path: Path) -> list[Path]:
    if path.is_dir():
        return logs_in(path)
    if path.exists():
        return [path]
    if not set("*?[") & set(str(path)):
        raise _missing(path)
    named = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [entry for each in named for entry in (logs_in(each) if each.is_dir() else [each])]


def _open_entry(path: Path, regex: re.Pattern[bytes] | None, *, progress: bool) -> RunLog:
    if not path.exists():
        raise _missing(path)
    if not path.is_dir():
        return _open_file(path, regex, progress=progress)
    if wandb_files.is_run_folder(path):
        return wandb_files.read_folder(path, progress=progress)
    return event_files.read_events(sorted(each for each in path.iterdir() if "tfevents" in each.name))


def _open_file(path: Path, regex: re.Pattern[bytes] | None, *, progress: bool) -> RunLog:
    if path.stat().st_size == 0:
        raise SubjectError(
            f"{path} is empty", seen="0 bytes", fix="the run has written nothing yet, or the disk was full"
        )
    head = head_of(path)
    _refuse_others(path, head)
    if regex is not None:
        return read_pattern(path, text.parts_of(path, head, progress=progress), regex)
    for format_ in FORMATS:
        if not format_.looks_like(path, head):
            continue
        try:
            read: RunLog = format_.read(path, head, progress=progress)
        except SubjectError as error:
            if format_ not in (json_lines, tables):
                raise
            return _as_text(path, head, error, progress=progress)
        return read
    return text.read(path, head, progress=progress)


def _as_text(path: Path, head: bytes, error: SubjectError, *, progress: bool) -> RunLog:
    """A text log may begin as a table or JSON does; what is told of it is why it is none of them."""
    try:
        log = text.read(path, head, progress=progress)
    except SubjectError:
        raise error from None
    return dataclasses.replace(log, notes=(*log.notes, f"read as text: {error.what}"))


def _refuse_others(path: Path, head: bytes) -> None:
    """Names a file that is no log."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    size = path.stat().st_size
    if head.startswith(b"version https://git-lfs"):
        stands_for = re.search(rb"\nsize (\d{1,18})", head)
        raise SubjectError(
            f"{path} is a git-LFS pointer, not the file it stands for",
            seen=f"{size} bytes" + (f" that stand for {int(stands_for[1]):,}" if stands_for else ""), fix="git lfs pull",
        )  # fmt: skip
    for magic, (what, fix) in _OTHERS.items():
        if start.startswith(magic):
            raise SubjectError(f"{path} is {what}, not a log", seen=repr(head[:40]), fix=fix)
    if not head.strip(b"\0") and size <= len(head):
        raise SubjectError(
            f"{path} holds zeros only", seen=f"{size} bytes", fix="its writing was cut off; take a copy"
        )
    plain = head.replace(b"\0", b"")
    strange = sum(byte < 8 or 13 < byte < 27 for byte in plain[:4096])
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    known = any(format_.looks_like(path, head) for format_ in FORMATS)
    if strange > 0.05 * len(plain[:4096]) and not utf16 and not known:
        raise SubjectError(
            f"{path} is binary, and no format of logs", seen=repr(head[:40]), fix="give the log itself"
        )


def _missing(path: Path) -> SubjectError:
    names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    return SubjectError(f"there is no {path}", fix=did_you_mean(path.name, names))


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest distinguishing paths: without the folders and the file's name that all share."""
    parts = [list(path.parts) for path in paths]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[0] for each in parts}) == 1:
        parts = [each[1:] for each in parts]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return ["/".join(each) if len(parts) > 1 else each[-1] for each in parts]
