"""Diagnostics for people who train PyTorch models: one line, one widget or one command."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainlab.catalogue import explain, installed
    from trainlab.diagnostic import Diagnostic, Examination, View
    from trainlab.diagnostics.attention import diagnostic as attention
    from trainlab.diagnostics.audit import diagnostic as audit
    from trainlab.diagnostics.comparison import diagnostic as comparison
    from trainlab.diagnostics.curves import diagnostic as curves
    from trainlab.diagnostics.dtypes import diagnostic as dtypes
    from trainlab.diagnostics.resume import diagnostic as resume
    from trainlab.diagnostics.rollout import diagnostic as rollout
    from trainlab.diagnostics.timesteps import diagnostic as timesteps
    from trainlab.diagnostics.variation import diagnostic as variation
    from trainlab.diagnostics.weights import diagnostic as weights
    from trainlab.errors import NotApplicable, TrainlabError
    from trainlab.finding import Evidence, Findings, Level, Outcome, rule
    from trainlab.report import glue, read, sweep
    from trainlab.result import Result, column
    from trainlab.subjects import load_batch, load_model, open_checkpoint, resolve
    from trainlab.subjects.checkfile import check_manifest, diff, manifest, peek, salvage, verify
    from trainlab.subjects.runlog.following import follow
    from trainlab.subjects.runlog.opening import open_log, open_logs

__version__ = "0.1.0"

# name -> where it lives; nothing is imported before it is asked for
_PUBLIC = {
    "explain": "catalogue",
    "installed": "catalogue",
    "Diagnostic": "diagnostic",
    "Examination": "diagnostic",
    "View": "diagnostic",
    "NotApplicable": "errors",
    "TrainlabError": "errors",
    "Evidence": "finding",
    "Findings": "finding",
    "Level": "finding",
    "Outcome": "finding",
    "rule": "finding",
    "glue": "report",
    "read": "report",
    "sweep": "report",
    "Result": "result",
    "column": "result",
    "load_batch": "subjects",
    "load_model": "subjects",
    "open_checkpoint": "subjects",
    "resolve": "subjects",
    "check_manifest": "subjects.checkfile",
    "diff": "subjects.checkfile",
    "manifest": "subjects.checkfile",
    "peek": "subjects.checkfile",
    "salvage": "subjects.checkfile",
    "verify": "subjects.checkfile",
    "follow": "subjects.runlog.following",
    "open_log": "subjects.runlog.opening",
    "open_logs": "subjects.runlog.opening",
}


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value = getattr(import_module(f"trainlab.{_PUBLIC[name]}"), name)
    elif find_spec(f"trainlab.diagnostics.{name}") is not None:
        value = import_module(f"trainlab.diagnostics.{name}").diagnostic
    else:
        advice = import_module("trainlab.errors").did_you_mean(name, __dir__())
        raise AttributeError(f"module 'trainlab' has no attribute {name!r}: {advice}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    rooms = [room.name for room in iter_modules([str(Path(__file__).with_name("diagnostics"))])]
    return sorted([*_PUBLIC, *rooms, "__version__"])
