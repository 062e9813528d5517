"""Reads W&B's run folders and their offline `.wandb` files: history, console, settings, how the run ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.beside import json_object, yaml_object
from trainlab.subjects.runlog.columns import add_records, cell_number, flat, settings
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.packed import read_whole
from trainlab.subjects.runlog.recording import Recording
from trainlab.subjects.runlog.source import head_of
from trainlab.subjects.runlog.text import TextReader
from trainlab.subjects.runlog.text import read as read_text
from trainlab.subjects.runlog.wandb_decoding import OfflineRun, decode_wandb, is_wandb

__all__ = ["is_run_folder", "looks_like", "read", "read_folder"]


def looks_like(path: Path, head: bytes) -> bool:  # noqa: ARG001 - told by content alone
    """Whether the file begins as a `.wandb` file does."""
    return is_wandb(head)


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:  # noqa: ARG001 - as all formats are read
    """Reads a `.wandb` file; a point's line is the number of its record.

    What the console shows is read as a text log; where there is a history too, it goes under ``console/``.

    Raises:
        SubjectError: If neither history nor console holds a quantity.
    """
    data, notes = read_whole(path)
    run = decode_wandb(data)
    recording = Recording(path, "W&B offline run")
    recording.notes += [*notes, *run.notes]
    _add_facts(recording, run)
    count = add_records(recording, ((record, _plain(values)) for record, values in run.history))
    recording.notes.append(f"{count} history rows, {run.pieces} console records")
    log = recording.finish()
    if run.console:
        log = _with_console(log, run)
    if not log.series:
        shown = b"\n".join(line for _, line in run.console[:3]).decode("utf-8", "replace")
        fix = "the run logged nothing: look at what its script passes to wandb.log"
        raise SubjectError(f"{path} holds {run.records} records and no quantity", seen=shown, fix=fix)
    return log


def _with_console(log: RunLog, run: OfflineRun) -> RunLog:
    """Adds what the console tells; the record that ended a line is its place."""
    reader = TextReader(log.path)
    reader.take(b"".join(line + b"\n" for _, line in run.console))
    told = reader.finish()
    record = np.array([0, *(number for number, _ in run.console)], np.int64)
    series = dict(log.series)
    for name, each in told.series.items():
        shown = f"console/{name}" if log.series else name
        series[shown] = dataclasses.replace(each, name=shown, line=record[each.line])
    events = [dataclasses.replace(event, line=int(record[event.line])) for event in told.events]
    return dataclasses.replace(
        log,
        series=series,
        config={**told.config, **log.config},
        events=tuple(sorted([*log.events, *events], key=lambda event: event.line)),
        notes=(*log.notes, *told.notes),
        totals={**told.totals, **log.totals},
    )


def read_folder(path: Path, *, progress: bool = True) -> RunLog:
    """Reads the folder of a run: its `.wandb` file, or else `files/output.log`; and what stands beside them.

    Raises:
        SubjectError: If there is neither, or none of them holds a quantity.
    """
    notes = []
    log = None
    for file in [*sorted(path.glob("run-*.wandb")), path / "files" / "output.log"]:
        if not file.exists():
            continue
        try:
            head = head_of(file)
            log = (
                read(file, head, progress=progress)
                if looks_like(file, head)
                else read_text(file, head, progress=progress)
            )
        except SubjectError as error:
            notes.append(f"{file.name}: {error.what}")
            continue
        break
    if log is None:
        fix = "a run that was synced without a console log keeps its history on the server: export it as CSV"
        raise SubjectError(
            f"{path} holds no history and no console output", seen="; ".join(notes) or None, fix=fix
        )
    summary = dict(flat(_plain(json_object(path / "files" / "wandb-summary.json"))))
    totals = {
        f"summary/{name}": float(cell) for name, cell in summary.items() if isinstance(cell, int | float)
    }
    facts = {
        f"wandb/{name}": cell for name, cell in json_object(path / "files" / "wandb-metadata.json").items()
    }
    return dataclasses.replace(
        log,
        path=path,
        config={**facts, **_config(yaml_object(path / "files" / "config.yaml")), **log.config},
        notes=(*notes, *log.notes),
        totals={**totals, **log.totals},
    )


def _config(told: dict[str, object]) -> dict[str, object]:
    """The settings of `config.yaml`, where each stands under its name's ``value``."""
    values = {
        name: each["value"] for name, each in told.items() if isinstance(each, dict) and "value" in each
    }
    values.pop("_wandb", None)
    return settings(values)


def _add_facts(recording: Recording, run: OfflineRun) -> None:
    recording.config.update(settings({name: value for name, value in run.config.items() if name != "_wandb"}))
    recording.config.update({f"wandb/{name}": value for name, value in run.facts.items()})
    for name, cell in flat(_plain(run.summary)):
        number = cell_number(cell)
        if number is not None and not name.startswith("_"):
            recording.totals[f"summary/{name}"] = number
    if run.runtime is not None:
        recording.totals["runtime"] = float(run.runtime)
    if run.exit_code is not None:
        recording.event("error" if run.exit_code else "completed", f"exit code {run.exit_code}", run.records)


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """The values that are no images, tables or histograms: W&B marks those by a ``_type``."""
    media = {name.removesuffix("_type") for name in values if name.endswith("/_type")}
    return {
        name: value
        for name, value in values.items()
        if not (isinstance(value, dict) and "_type" in value) and not any(map(name.startswith, media))
    }


def is_run_folder(path: Path) -> bool:
    """Whether it is the folder of one W&B run."""
    return path.is_dir() and (
        any(path.glob("run-*.wandb")) or (path / "files" / "wandb-metadata.json").exists()
    )
