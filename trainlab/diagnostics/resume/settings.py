"""The config in use beside the stored one: which settings differ, and which of those break continuation."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainlab.diagnostics.resume.parts import flat, words
from trainlab.errors import SubjectError, UsageError
from trainlab.subjects.contents import plain

__all__ = ["Difference", "compare", "read_config"]

# Where outputs go and how the run is watched: these words settle it, whatever else the name says.
WATCHING = {
    "path", "dir", "folder", "file", "root", "log", "logging", "logger", "save", "print", "eval", "val", "wandb", "tensorboard",
    "workers", "resume", "ckpt", "checkpoint", "output", "outputs", "tags", "notes", "port", "host", "progress", "verbose",
}  # fmt: skip
# What the next step computes with.
COMPUTING = {
    "lr", "rate", "batch", "bs", "seed", "wd", "decay", "beta", "beta1", "beta2", "betas", "eps", "momentum", "nesterov",
    "warmup", "step", "steps", "iter", "iters", "iterations", "epoch", "epochs", "schedule", "scheduler", "sched", "gamma",
    "milestones", "max", "min", "dim", "dims", "hidden", "width", "depth", "layers", "layer", "heads", "head", "embed", "embd",
    "patch", "vocab", "size", "channels", "frames", "blocks", "block", "kernel", "stride", "model", "arch", "dropout", "drop",
    "optim", "optimizer", "accum", "accumulation", "accumulate", "grad", "clip", "precision", "amp", "fp16", "bf16", "dtype",
    "loss", "target", "data", "dataset", "augment", "augmentation", "shuffle", "ema", "norm", "activation", "weight",
    "temperature", "noise", "ratio", "mask", "world", "gpus", "devices", "processes", "length", "context", "crop", "res",
    "resolution",
}  # fmt: skip
LABELS = {
    "name",
    "project",
    "run",
    "id",
    "user",
    "group",
    "version",
    "debug",
    "experiment",
    "exp",
    "device",
    "time",
    "date",
}
NONE = "–"


class Difference(NamedTuple):
    """One setting that is not the same in both."""

    name: str
    stored: str
    now: str
    effect: str


def read_config(config: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Reads the config in use.

    Args:
        config: A mapping, namespace or dataclass; a .json, .yaml or .toml file; or arguments as they are typed:
            ``--lr 3e-4 --batch-size 8`` or ``lr=3e-4 batch_size=8``.

    Raises:
        SubjectError: There is no such file, or it holds no settings.
        UsageError: The text is neither a file nor arguments.
    """
    if not isinstance(config, str | os.PathLike):
        mapping = plain(config)
        if not isinstance(mapping, dict):
            raise UsageError(
                "the config is no mapping", seen=type(config).__name__, fix="give a dict or a file's path"
            )
        return mapping
    text = os.fspath(config)
    if Path(text).suffix.lower() in (".json", ".yaml", ".yml", ".toml"):
        return _from_file(Path(text).expanduser())
    return _from_arguments(text)


def compare(stored: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[Difference], int]:
    """Lists the settings that differ, the weighty first, and counts those that are the same.

    Names match dotted as they are, or by their last part where that is unique on both sides, so that a nested
    file matches flat arguments. A setting that only the stored config has is no difference: arguments name
    what they change.
    """
    old, new = dict(flat(stored)), dict(flat(now))
    partner = {name: name if name in old else _by_last_part(name, old, new) for name in new}
    differences, same = [], 0
    for name, value in new.items():
        other = partner[name]
        if other is None:
            effect = (
                "harmless" if _effect(name) == "harmless" else "unknown"
            )  # its default may be what was there
            differences.append(Difference(name, NONE, _short(value), effect))
        elif _alike(old[other], value):
            same += 1
        else:
            differences.append(Difference(name, _short(old[other]), _short(value), _effect(name)))
    order = ("breaks", "unknown", "harmless")
    return sorted(differences, key=lambda each: (order.index(each.effect), each.name)), same


def _effect(name: str) -> str:
    last = words(name.rpartition(".")[2])
    if last & WATCHING:
        return "harmless"
    if last & COMPUTING:
        return "breaks"
    return "harmless" if last & LABELS else "unknown"


def _by_last_part(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    last = name.rpartition(".")[2]
    there = [each for each in old if each.rpartition(".")[2] == last]
    here = [each for each in new if each.rpartition(".")[2] == last]
    return there[0] if len(there) == 1 and len(here) == 1 else None


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_alike(a, b) for a, b in zip(one, other, strict=True))
    return bool(_value(one) == _value(other))


def _value(value: Any) -> Any:
    """Numbers as numbers, also where YAML read ``1e-3`` as text; the rest as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        text = str(value).removeprefix("torch.")
        return text.lower() if text.lower() in ("true", "false", "none", "null") else text


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _from_file(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        suffix = file.suffix.lower()
        made = (
            json.loads(text)
            if suffix == ".json"
            else tomllib.loads(text)
            if suffix == ".toml"
            else yaml.safe_load(text)
        )
    except FileNotFoundError:
        raise SubjectError(f"there is no config {file}", fix="give the path of the config in use") from None
    except (ValueError, yaml.YAMLError) as error:
        raise SubjectError(
            f"{file} cannot be read: {' '.join(str(error).split())}", fix="correct the file"
        ) from None
    if not isinstance(made, dict):
        raise SubjectError(
            f"{file} holds no settings", seen=type(made).__name__, fix="names and values, e.g. lr: 0.001"
        )
    return made


def _from_arguments(text: str) -> dict[str, Any]:
    import yaml

    settings: dict[str, str] = {}
    name = ""
    for token in shlex.split(text):
        assigned = re.fullmatch(r"-{0,2}([A-Za-z][\w.\-]*)=(.*)", token, re.DOTALL)
        if assigned:
            name = ""
            settings[assigned[1].replace("-", "_")] = assigned[2]
        elif re.fullmatch(r"--[A-Za-z][\w.\-]*", token):
            name = token.lstrip("-").replace("-", "_")
            settings[name] = "true"  # a flag, unless a value follows
        elif name:
            settings[name] = token if settings[name] == "true" else f"{settings[name]} {token}"
        elif settings or not token.endswith(".py"):
            raise UsageError(
                "the config is neither a file nor arguments",
                seen=token,
                fix="a .json, .yaml or .toml file, or '--lr 3e-4 --batch-size 8', or 'lr=3e-4 batch_size=8'",
            )
    return {each: yaml.safe_load(value) for each, value in settings.items()}
