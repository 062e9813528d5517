"""Settings that stand in a file beside the log: Lightning's hparams.yaml, Ultralytics' args.yaml, a model's config.json."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from trainlab.subjects.runlog.columns import settings

__all__ = ["json_object", "settings_beside", "yaml_object"]


def settings_beside(log: Path, *names: str) -> dict[str, object]:
    """The settings in the first of these files that stands beside the log and can be read; nothing in them is run."""
    for name in names:
        file = log.with_name(name)
        found = yaml_object(file) if file.suffix == ".yaml" else json_object(file)
        if found:
            return settings(found)
    return {}


def json_object(path: Path) -> dict[str, object]:
    """A JSON object, empty where the file is absent, cut off, or something else."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def yaml_object(path: Path) -> dict[str, object]:
    """A YAML mapping, empty where the file is absent, cut off, asks for Python objects, or is something else."""
    try:
        told = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return {}
    return {str(name): value for name, value in told.items()} if isinstance(told, dict) else {}
