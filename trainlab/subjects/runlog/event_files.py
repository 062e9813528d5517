"""Reads TensorBoard event files: one, or the several of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.columns import settings
from trainlab.subjects.runlog.event_decoding import EventScalars, decode_events, is_header
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.packed import read_whole
from trainlab.subjects.runlog.recording import Recording

__all__ = ["EventReader", "event_log", "looks_like", "read", "read_events"]


def looks_like(path: Path, head: bytes) -> bool:  # noqa: ARG001 - told by content alone
    """Whether the first bytes of a file are the length of a TFRecord with its right checksum."""
    return is_header(head)


def read(path: Path, head: bytes, *, progress: bool = True) -> RunLog:  # noqa: ARG001 - as all formats are read
    """Reads one event file."""
    return read_events([path])


def read_events(paths: Sequence[Path]) -> RunLog:
    """Reads the event files of one run, spliced in the order in which they were begun.

    Every tag keeps its own steps. Texts and hyperparameters are the log's config. Records are numbered through.

    Raises:
        SubjectError: If none of them holds a scalar.
    """
    files = []
    for path in paths:
        data, notes = read_whole(path)
        found = decode_events(data)
        found.notes[:0] = notes
        if data.startswith(b"version https://git-lfs"):
            found.notes.append("a git-LFS pointer, not the file it stands for: git lfs pull")
        files.append((found.begun, path.name, found))
    files.sort(key=lambda file: file[:2])
    return event_log(paths[0] if len(paths) == 1 else paths[0].parent, [file[1:] for file in files])


class EventReader:
    """Reads an event file, part by part; `finish` makes the log.

    Args:
        path: The file; only its name is used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found = EventScalars()
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Takes the next part of the file, which may end anywhere."""
        data = self._rest + data
        more = decode_events(data)
        self._rest = data[more.end :]
        self._found.extend(more)

    def finish(self) -> RunLog:
        """The log; raises SubjectError if there is no scalar."""
        return event_log(self.path, [(self.path.name, self._found)])


def event_log(path: Path, files: Sequence[tuple[str, EventScalars]]) -> RunLog:
    """Makes one log of what the files of a run hold, in their order.

    Raises:
        SubjectError: If none of them holds a scalar.
    """
    recording = Recording(path, "TensorBoard events")
    count = 0
    for name, found in files:
        told = f"{name}: " if len(files) > 1 else ""
        recording.notes += [told + note for note in found.notes]
        if told:
            recording.notes.append(f"{told}records {count + 1} to {count + found.records}")
        if found.rest:
            recording.notes.append(
                f"{told}the last {found.rest} bytes are no whole record: cut off, or being written"
            )
        for key, value in found.config.items():
            recording.config.update(_settings(key, value))
        for tag, (number, step, wall, value) in found.points.items():
            steps = step.astype(np.float64)  # its own, whatever others count in: perhaps in epochs
            recording.add_rows(
                {tag: value}, line=number + count, step=steps, time=wall, clock=tag, exact=True
            )
        count += found.records
    if not any(found.points for _, found in files):
        seen = (
            f"{name}: {'; '.join([f'{found.records} records', *found.notes])}" for name, found in files[:8]
        )
        fix = "give the folder or file that the script writes its scalars to; histograms and images are not read"
        raise SubjectError(f"{path} holds no TensorBoard scalar", seen="\n".join(seen), fix=fix)
    return recording.finish()


def _settings(name: str, value: object) -> dict[str, object]:
    """A text that is a JSON object is settings by name, as Hugging Face's Trainer writes ``args``."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            told = json.loads(value)
        except (ValueError, RecursionError):
            return {name: value}
        return settings(told, f"{name}/")
    return {name: value}
