"""Hugging Face's `trainer_state.json`: the log history of a Trainer, beside each of its checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.beside import settings_beside
from trainlab.subjects.runlog.columns import add_records, cell_number
from trainlab.subjects.runlog.json_lines import whole_records
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.packed import read_whole
from trainlab.subjects.runlog.recording import Recording

__all__ = ["looks_like", "read"]

_TOTALS = {"max_steps": "total_steps", "num_train_epochs": "total_epochs", "train_batch_size": "batch_size"}


def looks_like(path: Path, head: bytes) -> bool:
    """Whether it is the state of a Trainer."""
    return head.lstrip()[:1] == b"{" and (
        b'"log_history"' in head or (path.name.startswith("trainer_state.json") and b'"global_step"' in head)
    )


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:  # noqa: ARG001 - as all formats are read
    """Reads the history; a record's line is that on which it begins."""
    data, notes = read_whole(path)
    text = data.decode("utf-8-sig", "replace")
    rows = [(line, row) for line, _, row in whole_records(text, _history(text))]
    if not rows:
        fix = "open the last checkpoint's trainer_state.json"
        raise SubjectError(f"{path} holds no log history", seen=text[:200], fix=fix)
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        state = {}
        notes.append(f"the file is cut off or damaged: {len(rows)} records of its history are whole")
    recording = Recording(path, "Hugging Face trainer state")
    recording.notes += notes
    line, last = rows[-1]
    if "train_runtime" in last:  # the summary of the whole run
        rows = rows[:-1]
        recording.totals |= {
            name: number for name, cell in last.items() if (number := cell_number(cell)) is not None
        }
        recording.event("completed", f"train_runtime {last['train_runtime']}", line)
    add_records(recording, rows)
    recording.config |= settings_beside(path, "config.json", "adapter_config.json")
    for name, value in state.items():
        number = cell_number(value)
        if name in _TOTALS and number:
            recording.totals[_TOTALS[name]] = number
        elif value is not None and not isinstance(value, dict | list):
            recording.config[name] = value
    return recording.finish()


def _history(text: str) -> int:
    """Where the list of records begins."""
    found = re.search(r'"log_history"\s*:\s*\[', text)
    return found.end() if found else len(text)
