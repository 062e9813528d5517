"""Which model, batch and loss go with the checkpoints of a project: ``trainlab.toml``, written once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError, did_you_mean

__all__ = ["Recipe", "find_recipe"]

KEYS = ("batch", "limits", "loss", "model", "paths")


@dataclass(frozen=True)
class Recipe:
    """What a project says about its checkpoints.

    Attributes:
        path: The file; relative names in it start from its folder.
        model: ``package.module:callable`` or ``file.py:callable`` that builds the model; "" where not said.
        batch: The same for a batch, or a file, or a table such as ``{x = {shape = [2, 3]}}``; "" where not said.
        loss: The same for the loss; "" where not said.
        paths: Folders to import from, absolute.
        limits: Thresholds by diagnostic: ``{"variation": {"variation_min": 0.02}}``.
    """

    path: Path
    model: str = ""
    batch: str | Mapping[str, Any] = ""
    loss: str = ""
    paths: tuple[Path, ...] = ()
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that the file lies in."""
        return self.path.parent


def find_recipe(path: str | Path) -> Recipe | None:
    """Finds the recipe for a checkpoint: beside it or in the nearest folder above that has one.

    In one folder ``trainlab.toml`` comes before ``[tool.trainlab]`` in ``pyproject.toml``.

    Args:
        path: The checkpoint, file or folder; links are not followed. It need not exist.

    Returns:
        The recipe, or None.

    Raises:
        SubjectError: The file is not TOML, or a key in it is not known or not of its kind.
    """
    start = Path(path).expanduser().absolute()
    for folder in (start, *start.parents):
        own, project = folder / "trainlab.toml", folder / "pyproject.toml"
        if own.is_file():
            return _recipe(own, _read(own))
        if project.is_file() and "[tool.trainlab" in project.read_text(encoding="utf-8", errors="replace"):
            return _recipe(project, _read(project).get("tool", {}).get("trainlab", {}))
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SubjectError(
            f"{file} is not TOML: {error}", fix='strings stand in quotes: model = "shop.models:build"'
        ) from None


def _recipe(file: Path, table: Mapping[str, Any]) -> Recipe:
    for key in table:
        if key not in KEYS:
            raise SubjectError(f"{file} has an unknown key {key!r}", fix=did_you_mean(key, KEYS))
    limits = table.get("limits", {})
    paths = table.get("paths", [])
    kinds = {
        "model": ("a string", isinstance(table.get("model", ""), str)),
        "batch": ("a string or a table", isinstance(table.get("batch", ""), (str, dict))),
        "loss": ("a string", isinstance(table.get("loss", ""), str)),
        "paths": (
            "a list of strings",
            isinstance(paths, list) and all(isinstance(each, str) for each in paths),
        ),
        "limits": (
            "tables of limits, one per diagnostic, as in [limits.variation]",
            isinstance(limits, dict) and all(isinstance(each, dict) for each in limits.values()),
        ),
    }
    for key, (kind, holds) in kinds.items():
        if not holds:
            raise SubjectError(f"{key!r} in {file} is {kind}", seen=repr(table[key]), fix=f"make it {kind}")
    folders = tuple((file.parent / Path(each).expanduser()).resolve() for each in paths)
    return Recipe(
        file, table.get("model", ""), table.get("batch", ""), table.get("loss", ""), folders, limits
    )
