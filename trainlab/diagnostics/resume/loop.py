"""The three functions that a training loop lends: start, step and save.

They live in one module, so that naming ``step`` names all three::

    def start(path):            # None: a new run; a path: the run that save wrote there, as your resume loads it
        ...
        return state            # a dict, dataclass or object that holds model, optimizer, scheduler, loader …

    def step(state, n):         # takes n steps, and returns their n losses
        ...

    def save(state, path):      # writes the checkpoint as your training does
        ...

Two things make the answer sharp. What the loop uses lies in ``state``, under names of its own, not in globals of
the module: a global survives in this process and would not in a new one. And ``step`` may be called twice: it goes
on where it stopped, in the middle of an epoch too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainlab.errors import SubjectError, TrainlabError
from trainlab.subjects.importing import imported

__all__ = ["Loop", "open_loop"]

Named = str | Callable[..., Any]


@dataclass(frozen=True)
class Loop:
    """A training loop as its three functions; errors inside them speak of the caller's code."""

    _start: Callable[[str | None], Any]
    _step: Callable[[Any, int], Any]
    _save: Callable[[Any, str], object]

    def start(self, path: Path | None) -> Any:
        """Makes the state of a new run, or of the run that was saved at the path."""
        where = None if path is None else str(path)
        return _called(f"start({where!r})", self._start, where)

    def step(self, state: Any, n: int) -> list[float]:
        """Takes n steps and returns their losses as exact Python floats."""
        losses = list(_called(f"step(state, {n})", self._step, state, n))
        if len(losses) != n:
            raise SubjectError(
                f"step(state, {n}) returned {len(losses)} losses", fix="return one loss for each step taken"
            )
        return [float(each.detach()) if isinstance(each, torch.Tensor) else float(each) for each in losses]

    def save(self, state: Any, path: Path) -> None:
        """Writes the checkpoint."""
        _called("save(state, path)", self._save, state, str(path))
        if not path.exists():
            raise SubjectError(
                "save(state, path) wrote nothing at the path",
                seen=", ".join(sorted(each.name for each in path.parent.iterdir())) or "an empty folder",
                fix="write to the very path that is handed in",
            )


def open_loop(step: Named, start: Named = "", save: Named = "") -> Loop:
    """Finds a loop: ``step`` is named or given, ``start`` and ``save`` are found beside it unless they are too.

    Args:
        step: ``package.module:step``, ``path/file.py:step`` or the function.
        start: The same, where it is not called ``start`` in the module of ``step``.
        save: The same, where it is not called ``save`` there.

    Raises:
        SubjectError: One of the three is not there or cannot be called.
    """
    stepping = _function(step, "step")
    module = sys.modules.get(getattr(stepping, "__module__", ""))
    found = {}
    for name, given in (("start", start), ("save", save)):
        beside = getattr(module, name, None)
        if not given and beside is None:
            raise SubjectError(
                f"{stepping.__module__} has no {name} beside its {stepping.__name__}",
                seen=f"functions: {', '.join(_functions(module)) or 'none'}",
                fix=f"define {name}({'path' if name == 'start' else 'state, path'}) there, or name it: {name}='package.module:callable'",
            )
        found[name] = _function(given or beside, name)
    return Loop(found["start"], stepping, found["save"])


def _function(named: Any, role: str) -> Callable[..., Any]:
    if isinstance(named, str):
        with imported(named) as found:
            named = found
    if not callable(named):
        raise SubjectError(
            f"{role} cannot be called", seen=type(named).__name__, fix=f"{role}='package.module:callable'"
        )
    function: Callable[..., Any] = named
    return function


def _functions(module: object) -> list[str]:
    return (
        [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        if module
        else []
    )


def _called(call: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except TrainlabError:
        raise
    except Exception as error:
        raise SubjectError(
            f"{call} failed: {type(error).__name__}: {error}",
            fix="the traceback above ends in the line that failed",
        ) from error
