"""Which part of a run is what, in a checkpoint's content: told by its form first, by its name second."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["STREAMS", "Stored", "flat", "recognise", "words"]

STREAMS = ("torch", "CUDA", "numpy", "python")
STEPS = {
    "iter", "iteration", "iter_num", "it", "step", "steps", "global_step", "global_iter", "current_step", "train_step",
    "num_updates", "n_iter",
}  # fmt: skip
EPOCHS = {"epoch", "current_epoch", "epochs_done"}
POSITION = re.compile(
    r"loader|sampler|position|batch_idx|batch_index|batch_progress|consumed|samples_seen|cursor|offset|data_state|iterator"
)
SHUFFLING = {
    "data",
    "dataloader",
    "loader",
    "sampler",
    "order",
    "shuffle",
}  # whose generator is no stream of the model
AVERAGES = {"ema", "averaged", "swa", "shadow"}
NOT_SEARCHED = {
    "config",
    "cfg",
    "args",
    "hparams",
    "hyper_parameters",
    "model_config",
    "model_args",
    "log_history",
}
DEEP = 5
MERSENNE_BYTES = 5056  # torch's CPU generator
PHILOX_BYTES = 16  # torch's CUDA generator
PYTHON_WORDS = 625  # random.getstate()


@dataclass
class Stored:
    """The parts that were recognised, each by its dotted key in the file."""

    optimizers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    schedulers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    scalers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    averages: list[str] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)


def recognise(content: Mapping[str, Any]) -> Stored:
    """Sorts what a file holds into the parts of a run; reads no tensor's values but those of single numbers."""
    stored = Stored()
    _sort(content, "", stored, 0)
    return stored


def words(name: str) -> set[str]:
    """The words of a name in lower case: ``model.embedDim`` and ``embed-dim`` both hold embed and dim."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word}


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a nested config, names dotted."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def _sort(value: Any, path: str, stored: Stored, depth: int) -> None:
    name = path.rpartition(".")[2]
    if _is_optimizer(value):
        stored.optimizers[path] = value
    elif _is_scaler(value):
        stored.scalers[path] = value
    elif _is_scheduler(value, path):
        stored.schedulers[path] = value
    elif (stream := _stream(value, path)) is not None and not words(path) & SHUFFLING:
        stored.streams.setdefault(stream, path)
    elif words(path) & AVERAGES and _has_tensors(value):
        stored.averages.append(path)
    elif stream is not None or (path and POSITION.search(name.lower()) and value is not None):
        stored.positions.append(path)
    elif (number := _number(value)) is not None:
        if depth > 2:  # a callback's own count is not the run's
            return
        if name.lower() in STEPS:
            stored.steps[path] = number
        elif name.lower() in EPOCHS:
            stored.epochs[path] = number
    elif depth < DEEP and name not in NOT_SEARCHED and not _is_weights(value):
        inner: Any = ()
        if isinstance(value, Mapping):
            inner = value.items()
        elif isinstance(value, list | tuple) and len(value) <= 64:
            inner = enumerate(value)
        for key, each in inner:
            _sort(each, f"{path}.{key}" if path else str(key), stored, depth + 1)


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, Mapping) and {"state", "param_groups"} <= value.keys()


def _is_scaler(value: Any) -> bool:
    return isinstance(value, Mapping) and {"scale", "growth_factor"} <= value.keys()


def _is_scheduler(value: Any, path: str) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    key = next((each for each in reversed(path.split(".")) if not each.isdigit()), "")
    named = "sched" in key.lower() and not any(isinstance(v, Mapping) for v in value.values())
    return bool({"last_epoch", "_last_lr"} & value.keys()) or named


def _stream(value: Any, path: str) -> str | None:
    """Which random stream's state this is, or None."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.ndim == 1:
        if value.numel() == MERSENNE_BYTES:
            return "torch"
        return "CUDA" if value.numel() == PHILOX_BYTES else None
    if isinstance(value, Mapping):
        return "numpy" if "bit_generator" in value else None
    if isinstance(value, list | tuple) and value:
        if value[0] == "MT19937" and len(value) == 5:
            return "numpy"
        if value[0] == 3 and len(value) == 3 and isinstance(value[1], list | tuple):
            return "python" if len(value[1]) == PYTHON_WORDS else None
    if isinstance(value, np.ndarray) and value.dtype == np.uint32 and value.size in (624, PYTHON_WORDS):
        return "numpy" if "py" not in words(path) else "python"
    return None


def _is_weights(value: Any) -> bool:
    tensors = isinstance(value, Mapping) and bool(value)
    return tensors and all(isinstance(each, torch.Tensor) for each in value.values())


def _has_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_tensors(each) for each in value.values())
    if isinstance(value, list | tuple):
        return any(_has_tensors(each) for each in value)
    return isinstance(value, torch.Tensor) and value.ndim > 0


def _number(value: Any) -> float | None:
    single = value.item() if isinstance(value, torch.Tensor | np.generic) and value.ndim == 0 else value
    return float(single) if isinstance(single, int | float) and not isinstance(single, bool) else None
