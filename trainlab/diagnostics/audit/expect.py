"""What the user expects to find: ``{epoch: 400, hidden_dim: 768, size: "1GB"}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainlab.errors import UsageError, did_you_mean

__all__ = ["DEPTH_KEYS", "EPOCH_KEYS", "ITER_KEYS", "WIDTH_KEYS", "Expected", "expected"]

# The names that configs and checkpoints give to one thing, the commonest first.
WIDTH_KEYS = (
    "hidden_dim", "hidden_size", "d_model", "n_embd", "embed_dim", "model_dim", "dim", "width", "emb_dim", "n_embed",
    "dim_model", "hidden", "model_channels",
)  # fmt: skip
DEPTH_KEYS = (
    "layers", "num_layers", "num_hidden_layers", "n_layer", "n_layers", "depth", "num_blocks", "n_blocks", "blocks",
)  # fmt: skip
EPOCH_KEYS = ("epoch", "epochs", "current_epoch", "num_epoch", "last_epoch")
ITER_KEYS = (
    "iter", "iteration", "global_step", "step", "steps", "iters", "iterations", "iter_num", "it", "num_updates",
)  # fmt: skip
_OTHERS = ("every_epochs", "every_iters", "size", "total", "count", "files")
_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


@dataclass(frozen=True)
class Expected:
    """Expectations, typed; None and () where nothing is expected.

    Attributes:
        epoch: The last epoch of every run.
        iter: The last iteration of every run.
        width: The model's width.
        width_key: What the user calls it.
        depth: How many layers the model has.
        depth_key: What the user calls that.
        every_epochs: A checkpoint every so many epochs.
        every_iters: The same in iterations.
        size: Bytes of the last checkpoint of every run.
        total: Bytes of all checkpoints.
        count: How many checkpoints there are.
        files: Names or globs of files that are there.
    """

    epoch: int | None = None
    iter: int | None = None
    width: int | None = None
    width_key: str = "hidden_dim"
    depth: int | None = None
    depth_key: str = "layers"
    every_epochs: int | None = None
    every_iters: int | None = None
    size: int | None = None
    total: int | None = None
    count: int | None = None
    files: tuple[str, ...] = ()


def expected(given: Mapping[str, object] | None) -> Expected:
    """Types what the user expects.

    Args:
        given: By name: ``epoch``, ``iter``, ``hidden_dim`` and ``layers`` under any of their usual names (`WIDTH_KEYS` …),
            ``every_epochs``, ``every_iters``, ``size``, ``total`` (bytes, or "1GB", "512 MiB"), ``count``, ``files``.

    Raises:
        UsageError: A name is not known, one thing is expected twice, or a value is not of its kind.
    """
    values: dict[str, object] = {}
    for name, value in (given or {}).items():
        field = _field(name)
        if field in values:
            raise UsageError(
                f"expect names the {field} twice", seen=", ".join(given or ()), fix=f"keep one, e.g. {name}"
            )
        values[field] = _value(name, field, value)
        if field in ("width", "depth"):
            values[f"{field}_key"] = name
    return Expected(**values)  # type: ignore[arg-type]


def _field(name: str) -> str:
    for field, names in (
        ("width", WIDTH_KEYS),
        ("depth", DEPTH_KEYS),
        ("epoch", EPOCH_KEYS),
        ("iter", ITER_KEYS),
    ):
        if name in names:
            return field
    if name not in _OTHERS:
        known = ("epoch", "iter", "hidden_dim", "layers", *_OTHERS)
        raise UsageError(f"expect does not know {name!r}", fix=did_you_mean(name, known))
    return name


def _value(name: str, field: str, value: object) -> object:
    if field == "files":
        names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else ()
        if names and all(isinstance(each, str) and each for each in names):
            return names
        raise UsageError(
            "expect's 'files' is a list of names", seen=repr(value), fix="files: [training.log, 'epoch_*.pt']"
        )
    if field in ("size", "total") and isinstance(value, str):
        return _bytes(name, value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        advice = f"{name}: 1GB" if field in ("size", "total") else f"{name}: 400"
        raise UsageError(f"expect's {name!r} is a number above 0", seen=repr(value), fix=advice)
    return value


def _bytes(name: str, text: str) -> int:
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?i?b)?\s*", text.lower())
    try:
        if found:
            return round(float(found[1]) * _UNITS[found[2] or "b"])
    except (ValueError, KeyError):
        pass
    raise UsageError(
        f"expect's {name!r} is a size", seen=repr(text), fix=f"{name}: 1GB, or 63.1 MB, or a number of bytes"
    )
