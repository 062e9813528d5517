"""Load what the user names: model, batch, checkpoint, loss; and the recipe that names them for a project.

Opening a checkpoint runs no code that is pickled in it unless the caller says ``trust=True``. A ``model=``,
``batch=`` or ``loss=`` string and a recipe name code to import: the user's own, run with the user's rights.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from trainlab.subjects.checkpoint import Checkpoint, open_checkpoint
from trainlab.subjects.recipe import Recipe, find_recipe
from trainlab.subjects.resolve import SUBJECT_NAMES, Subjects, resolve

if TYPE_CHECKING:
    from trainlab.subjects.batch import load_batch
    from trainlab.subjects.model import load_model

__all__ = [
    "SUBJECT_NAMES",
    "Checkpoint",
    "Recipe",
    "Subjects",
    "find_recipe",
    "load_batch",
    "load_model",
    "open_checkpoint",
    "resolve",
]

_TORCH = {
    "load_batch": "batch",
    "load_model": "model",
}  # these import torch, so not before they are asked for


def __getattr__(name: str) -> object:
    if name not in _TORCH:
        raise AttributeError(f"module 'trainlab.subjects' has no attribute {name!r}")
    return getattr(import_module(f"trainlab.subjects.{_TORCH[name]}"), name)
