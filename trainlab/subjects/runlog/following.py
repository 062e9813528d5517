"""Follow a log that grows while training runs: only what was appended is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainlab.errors import SubjectError
from trainlab.subjects.runlog import event_files, json_lines, tables, trainer_state, wandb_files
from trainlab.subjects.runlog.log import RunLog
from trainlab.subjects.runlog.opening import open_log
from trainlab.subjects.runlog.source import HEAD, head_of
from trainlab.subjects.runlog.text import TextReader

__all__ = ["Follower", "follow"]

_KNOWN_BY = 1024  # bytes at the start, and before what is new, by which a file is known again


class _Reader(Protocol):
    def take(self, data: bytes, /) -> None: ...

    def finish(self) -> RunLog: ...


def follow(path: str | Path, *, every: float = 10.0) -> Follower:
    """Follows a log: each ``read()`` of what is returned gives the log as it stands then.

    Args:
        path: A file that `open_log` reads, or a folder; it need not exist yet.
        every: Seconds between two looks of a panel.
    """
    return Follower(Path(path), every)


class Follower:
    """Reads a growing log again and again; `follow` makes it.

    What was appended to text, JSON lines, tables and event files is added to what was read before, up to the last
    whole line or record. A text, table or JSON file is read anew each time that it has doubled, so that what was
    learned from its first lines is learned again from more. A file that was rotated, cut or written anew is
    another log. Folders, archives and other formats are read anew when they change.

    Args:
        path: The file or folder.
        every: Seconds between two looks of a panel.
    """

    def __init__(self, path: Path, every: float = 10.0) -> None:
        self.path, self.every = path, every
        self._log: RunLog | None = None
        self._state: tuple[object, ...] = ()
        self._reader: _Reader | None = None
        self._head = self._tail = b""
        self._taken = self._begun = 0

    def read(self) -> RunLog:
        """The log as it stands; the very same object where nothing has changed.

        Raises:
            SubjectError: If the file is not there, holds no quantity yet, or is no log.
        """
        state = _state(self.path)
        if self._log is not None and state == self._state:
            return self._log
        log, self._log = self._log, None
        self._log = self._grown() if log is not None and self._goes_on() else self._anew()
        self._state = state
        return self._log

    def _goes_on(self) -> bool:
        """Whether the file still begins, and goes on, with what was read."""
        if self._reader is None:
            return False
        size = self.path.stat().st_size
        if size < self._taken or (
            size >= 2 * self._begun and not isinstance(self._reader, event_files.EventReader)
        ):
            return False
        with self.path.open("rb") as file:
            head = file.read(len(self._head))
            file.seek(self._taken - len(self._tail))
            return head == self._head and file.read(len(self._tail)) == self._tail

    def _anew(self) -> RunLog:
        self._reader, self._head, self._tail, self._taken = None, b"", b"", 0
        make = _reader_of(self.path)
        if make is not None:
            self._reader = make(self.path)
            try:
                log = self._grown()
            except SubjectError:
                log = None
            one = isinstance(self._reader, json_lines.JsonLinesReader) and self._reader.count <= 1
            if (
                log is not None and log.series and not one
            ):  # one record may be a document that is written anew
                self._begun = self._taken
                return log
            self._reader = None
        return open_log(self.path, progress=False)  # it says what the file is, where it is no log

    def _grown(self) -> RunLog:
        assert self._reader is not None
        with self.path.open("rb") as file:
            file.seek(self._taken)
            data = file.read()
        if isinstance(self._reader, TextReader):
            data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
        elif not isinstance(self._reader, event_files.EventReader):
            data = data[: data.rfind(b"\n") + 1]
        if data:
            self._reader.take(data)
            self._taken += len(data)
            self._tail = (self._tail + data)[-_KNOWN_BY:]
            self._head = self._head or data[:_KNOWN_BY]
        return self._reader.finish()


def _reader_of(path: Path) -> Callable[[Path], _Reader] | None:
    """What reads the file part by part; None where it must be read as a whole."""
    if path.is_dir():
        return None
    head = head_of(path)
    with path.open("rb") as file:
        packed = file.read(HEAD) != head
    if packed or wandb_files.looks_like(path, head) or trainer_state.looks_like(path, head):
        return None
    if event_files.looks_like(path, head):
        return event_files.EventReader
    if json_lines.looks_like(path, head):
        return json_lines.JsonLinesReader
    return tables.TableReader if tables.looks_like(path, head) else TextReader


def _state(path: Path) -> tuple[object, ...]:
    """What tells whether a file, or any file of a folder, has changed."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        stats = [(file, file.stat()) for file in files]
    except OSError as error:
        raise SubjectError(
            f"{path} cannot be followed", seen=error, fix="check the path; the run may not have begun"
        ) from None
    return tuple((file, stat.st_ino, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
