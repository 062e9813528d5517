"""Sees, inside the kernel, the errors that a notebook survives: loaded there as an IPython extension.

papermill looks at a cell's outputs alone, so it takes these for success: an error in a widget's callback
(shown in the widget), a thread that died (its message belongs to a cell that is long done), an asyncio task that
nobody awaited, ``exit()``. Each is noted at once as one line of JSON in the file that the runner named, so the
note outlives the kernel, however that ends.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import logging
import os
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any

__all__ = ["NOTES", "load_ipython_extension"]

NOTES = "TRAINLAB_NOTES"  # the environment variable that says where to write


def load_ipython_extension(shell: Any) -> None:
    """Starts to watch; IPython calls this when the kernel starts with ``--ext trainlab.report.witness``."""
    _Witness(shell, Path(os.environ[NOTES])).note("ready", 0)


class _Witness:
    def __init__(self, shell: Any, notes: Path) -> None:
        self.notes = notes
        self.cell = 0  # the number of the running cell, as in In [3]
        self.files: dict[str, int] = {}  # the file name that a cell's code is compiled under -> its number
        self.born: weakref.WeakKeyDictionary[threading.Thread, int] = weakref.WeakKeyDictionary()
        self.shell = shell
        shell.events.register("pre_run_cell", self.cell_starts)
        self.watch_tracebacks()
        self.watch_exit()
        self.watch_threads()
        logging.getLogger("asyncio").addHandler(_Listener(self))
        atexit.register(self.look_for_lost_tasks)

    def note(self, kind: str, cell: int, error: BaseException | None = None) -> None:
        line = {"kind": kind, "cell": cell}
        if error is not None:
            line["error"] = f"{type(error).__name__}: {error}"
            line["traceback"] = "".join(traceback.format_exception(error))
        with self.notes.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cell_starts(self, info: Any) -> None:
        # counted here: what execution_count says at this point has changed between IPython's versions
        self.cell += info.store_history
        name = self.shell.compile.get_code_name(info.raw_cell, info.raw_cell, self.cell)
        self.files[name] = self.cell
        self.note("cell", self.cell)

    def watch_tracebacks(self) -> None:
        # ipywidgets and IPython's formatters hand every error that they survive to showtraceback
        show = self.shell.showtraceback

        def showtraceback(exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
            self.note("shown", self.cell, self.shell._get_exc_info(exc_tuple)[1])  # noqa: SLF001
            show(exc_tuple, *args, **kwargs)

        self.shell.showtraceback = showtraceback

    def watch_exit(self) -> None:
        leave = self.shell.ask_exit

        def ask_exit() -> None:
            self.note("exit", self.cell)
            leave()

        self.shell.ask_exit = ask_exit

    def watch_threads(self) -> None:
        start, hook = threading.Thread.start, threading.excepthook

        def remembering_start(thread: threading.Thread) -> None:
            self.born[thread] = self.cell
            start(thread)

        def excepthook(args: threading.ExceptHookArgs) -> None:
            if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
                born = self.born.get(args.thread, self.cell) if args.thread else self.cell
                self.note("thread", born, args.exc_value)
            hook(args)

        threading.Thread.start = remembering_start  # type: ignore[method-assign, assignment]
        threading.excepthook = excepthook

    def task_failed(self, error: BaseException) -> None:
        frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        cells = [self.files[name] for name in frames if name in self.files]
        self.note("task", cells[0] if cells else self.cell, error)

    def look_for_lost_tasks(self) -> None:
        # asyncio tells of a failed task only when it is collected, which a name in the notebook prevents
        for task in gc.get_objects():
            if isinstance(task, asyncio.Task) and task.done() and not task.cancelled():
                unseen = task._log_traceback  # noqa: SLF001 - reading the exception clears it
                error = task.exception()
                if unseen and error is not None:
                    self.task_failed(error)


class _Listener(logging.Handler):
    """Hears asyncio say that an exception was never retrieved."""

    def __init__(self, witness: _Witness) -> None:
        super().__init__(logging.ERROR)
        self.witness = witness

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.witness.task_failed(record.exc_info[1])
