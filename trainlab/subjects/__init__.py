"""Load what the user names: model, batch, checkpoint, loss; and the recipe that names them for a project.

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

__all__ = [
    "SUBJECT_NAMES",
    "Checkpoint",
    "Recipe",
    "Subjects",
    "checkpoints_in",
    "find_recipe",
    "load_batch",
    "load_model",
    "open_checkpoint",
    "resolve",
]

# name -> where it lives: nothing is imported before it is asked for, so that looking into a file stays quick
_PUBLIC = {
    "SUBJECT_NAMES": "resolving",
    "Checkpoint": "checkpoint",
    "checkpoints_in": "checkpoint",
    "Recipe": "recipe",
    "Subjects": "resolving",
    "find_recipe": "recipe",
    "load_batch": "batch",
    "load_model": "model",
    "open_checkpoint": "checkpoint",
    "resolve": "resolving",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trainlab.subjects' has no attribute {name!r}")
    return getattr(import_module(f"trainlab.subjects.{_PUBLIC[name]}"), name)
