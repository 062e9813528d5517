"""Load what the user names: model, batch, checkpoint, loss, log; and the recipe that names them for a project.

Opening a checkpoint runs no code that is pickled in it unless the caller says ``trust=True``. A ``model=``,
``batch=`` or ``loss=`` string and a recipe name code to import: the user's own, run with the user's rights.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainlab.subjects.batch import load_batch
    from trainlab.subjects.checkpoint import Checkpoint, checkpoints_in, open_checkpoint
    from trainlab.subjects.model import load_model
    from trainlab.subjects.recipe import Recipe, find_recipe
    from trainlab.subjects.resolving import SUBJECT_NAMES, Subjects, resolve
    from trainlab.subjects.runlog.following import follow
    from trainlab.subjects.runlog.log import RunLog, RunLogs
    from trainlab.subjects.runlog.opening import open_log, open_logs

__all__ = [
    "SUBJECT_NAMES",
    "Checkpoint",
    "Recipe",
    "RunLog",
    "RunLogs",
    "Subjects",
    "checkpoints_in",
    "find_recipe",
    "follow",
    "load_batch",
    "load_model",
    "open_checkpoint",
    "open_log",
    "open_logs",
    "resolve",
]

# name -> where it lives: nothing is imported before it is asked for, so that looking into a file stays quick
_PUBLIC = {
    "SUBJECT_NAMES": "resolving",
    "Checkpoint": "checkpoint",
    "checkpoints_in": "checkpoint",
    "Recipe": "recipe",
    "RunLog": "runlog.log",
    "RunLogs": "runlog.log",
    "Subjects": "resolving",
    "find_recipe": "recipe",
    "follow": "runlog.following",
    "load_batch": "batch",
    "load_model": "model",
    "open_checkpoint": "checkpoint",
    "open_log": "runlog.opening",
    "open_logs": "runlog.opening",
    "resolve": "resolving",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trainlab.subjects' has no attribute {name!r}")
    return getattr(import_module(f"trainlab.subjects.{_PUBLIC[name]}"), name)
