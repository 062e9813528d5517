"""What does one checkpoint say of itself? Its counters, width, depth, sizes; from its config, or from its shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainlab.diagnostics.audit.expect import DEPTH_KEYS, EPOCH_KEYS, ITER_KEYS, WIDTH_KEYS, Expected
from trainlab.errors import SubjectError
from trainlab.subjects.checkfile import Peek, TensorInfo, peek, verify

__all__ = ["File", "look", "numbers_in_name"]

BROKEN = re.compile(
    r"cannot be read|is missing|are missing|bytes where|overlap|leave a gap|is compressed|lacks \d"
)
STACKS = ("blocks", "layers", "layer", "h", "transformer_blocks", "resblocks", "block", "stages")
PLANNED = ("epochs", "num_epochs", "max_epochs", "n_epochs", "num_train_epochs", "total_epochs")
SHARE = 0.25  # of the votes: below it the commonest size is no width
_INDEX = re.compile(r"(?:^|\.)([A-Za-z_]\w*)\.(\d+)(?=\.)")
_NUMBER = r"[-_= ]?(\d+)(?![A-Za-z0-9])"  # a name such as e2e or lr=1e-4 holds no epoch
_EPOCH = re.compile(rf"(?:^|[^A-Za-z0-9])(?:epochs?|ep|e){_NUMBER}", re.IGNORECASE)
_ITER = re.compile(
    rf"(?:^|[^A-Za-z0-9])(?:global_?steps?|steps?|iters?|iterations?|it|checkpoint|ckpt){_NUMBER}",
    re.IGNORECASE,
)


@dataclass
class File:
    """One row of the result's table of files; see `AuditResult` for the fields' meaning. -1 is not known."""

    size: int = 0
    time: float = 0.0
    format: str = ""
    state: str = "whole"
    trouble: str = ""
    fix: str = ""
    epoch: int = -1
    iter: int = -1
    named_epoch: int = -1
    named_iter: int = -1
    planned: int = -1
    width: int = -1
    width_from: str = ""
    depth: int = -1
    depth_from: str = ""
    config: str = ""
    parameters: int = -1
    weights: int = -1
    implied: int = -1
    optimizer: str = ""
    optimizer_bytes: int = 0
    dtypes: str = ""
    crc: str = ""


def numbers_in_name(name: str) -> tuple[int, int]:
    """The epoch and the iteration in a file's name, ``epoch=12-step=900.ckpt``; -1 where there is none."""
    epoch, step = (list(each.finditer(name)) for each in (_EPOCH, _ITER))
    return (int(epoch[-1][1][:15]) if epoch else -1, int(step[-1][1][:15]) if step else -1)


def look(path: Path, expect: Expected, *, check: bool) -> tuple[File, bool]:
    """Says what is in a file or folder, and whether it holds tensors.

    Args:
        path: The file.
        expect: What the user expects: of several sizes that could be the width, the expected one is taken, and a config
            is asked first for the user's own word for it.
        check: Compare its bytes with the CRCs that it stores; reads all of it.
    """
    row = File()
    row.named_epoch, row.named_iter = numbers_in_name(path.name)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    stats = [each.stat() for each in files]
    row.size = sum(each.st_size for each in stats)
    row.time = max((each.st_mtime for each in stats), default=path.stat().st_mtime)
    try:
        seen = peek(path)
    except SubjectError as error:
        row.state = (
            "cut" if "cut short" in error.what else "damaged" if "damaged" in error.what else "no checkpoint"
        )
        row.trouble = _without_path(error.what, path) + (f" ({error.seen})" if error.seen else "")
        row.fix = _without_path(error.fix or "", path)
        return row, True
    row.format, row.size = seen.format, seen.size
    odd = [note for note in seen.notes if BROKEN.search(note)]
    if seen.cut or odd:
        row.state = "cut" if seen.cut else "damaged"
        row.trouble = "; ".join(dict.fromkeys(odd if not seen.cut else seen.notes))
    _counters(row, seen)
    _shapes(row, seen, expect)
    _sizes(row, seen)
    if check and row.state == "whole":
        found = verify(path)
        row.crc = str(found.state)
        if row.crc == "damaged":
            row.state = "damaged"
            names = [name for each in found.damaged for name in each.tensors or (each.name,)]
            what = f"{len(found.damaged)} of {len(found.checks)} records: {', '.join(names[:3])}"
            row.trouble = "its bytes are not what was written: " + "; ".join(
                [*(found.notes), *([what] if names else [])]
            )
    return row, bool(seen.tensors)


def _without_path(text: str, path: Path) -> str:
    return text.removeprefix(f"{path} is ").removeprefix(f"{path} ").replace(f" {path}", "")


def _counters(row: File, seen: Peek) -> None:
    metadata = seen.tree.get("__metadata__") if isinstance(seen.tree, Mapping) else None
    said = {**(metadata if isinstance(metadata, Mapping) else {}), **seen.scalars}
    row.epoch = _first(said, EPOCH_KEYS)
    row.iter = _first(said, ITER_KEYS)
    optimizer = seen.optimizer
    if row.iter < 0 and optimizer is not None and optimizer.steps is not None:
        row.iter = round(optimizer.steps[1])
    config = dict(_flat(seen.config)) if seen.config else {}
    row.planned = _first(
        {name.rpartition(".")[2]: value for name, value in reversed(config.items())}, PLANNED
    )


def _first(said: Mapping[str, Any], names: Sequence[str]) -> int:
    """The first of these that is a count; safetensors' metadata is text, a Trainer's epoch a float."""
    for name in names:
        value = said.get(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value):
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15:
            return int(value)
    return -1


def _shapes(row: File, seen: Peek, expect: Expected) -> None:
    tensors = _model(seen)
    config = dict(_flat(seen.config)) if seen.config else {}
    sizes = {size for each in tensors for size in each.shape}
    key, value = _setting(config, (expect.width_key, *WIDTH_KEYS))
    if value > 0 and tensors and value not in sizes:
        row.config = f"{key}={value}, no tensor has a side of {value}"
    if value > 0 and (value in sizes or not tensors):
        row.width, row.width_from = value, f"config {key}"
    else:
        row.width, row.width_from = _width(tensors, expect.width or -1)
    stacks = _stacks(tensors)
    key, value = _setting(config, (expect.depth_key, *DEPTH_KEYS))
    if value > 0 and stacks and value not in stacks.values():
        told = ", ".join(f"{count} {name}" for name, count in list(stacks.items())[:2])
        row.config = "; ".join(filter(None, [row.config, f"{key}={value}, the weights have {told}"]))
    if value > 0 and (value in stacks.values() or not stacks):
        row.depth, row.depth_from = value, f"config {key}"
    elif stacks:
        name = next((each for each, count in stacks.items() if count == expect.depth), next(iter(stacks)))
        row.depth, row.depth_from = stacks[name], f"{stacks[name]} {name}"


def _model(seen: Peek) -> list[TensorInfo]:
    """The tensors of the first set of weights; none where only an optimizer's state is there."""
    if any(each.name == "" for each in seen.optimizers):
        return []
    names = next(iter(seen.weights.values()), ())
    found = [seen.tensors[name] for name in names if name in seen.tensors]
    return (
        found
        if any(each.name.endswith(("weight", "kernel", "embedding", "gamma", "scale")) for each in found)
        else []
    )


def _width(tensors: Sequence[TensorInfo], wanted: int) -> tuple[int, str]:
    """The width by vote: each matrix votes for its last side, each convolution for its inputs, each gain for its size.

    In a block of a transformer, queries, keys, values, the output, the way up and both norms have the width there, the
    way down alone has not. No width is told where the votes spread, as in a U-Net.
    """
    votes: Counter[int] = Counter()
    for each in tensors:
        if each.name.endswith(("weight", "kernel", "embedding")) and each.shape:
            votes[each.shape[-1] if len(each.shape) <= 2 else each.shape[1]] += 1
    votes.pop(1, None)
    total = sum(votes.values())
    if not total:
        return -1, ""
    size, count = max(votes.items(), key=lambda each: (each[1], each[0]))
    if wanted in votes and votes[wanted] >= SHARE * total:
        size, count = wanted, votes[wanted]
    return (size, f"{count} of {total} weights") if count >= SHARE * total else (-1, "")


def _stacks(tensors: Sequence[TensorInfo]) -> dict[str, int]:
    """How many blocks each stack has: different numbers after one name; the stack that looks most like the model first.

    Several stacks of one name, as a U-Net's ``down.0.blocks`` and ``down.1.blocks``, count together too.
    """
    found: dict[str, set[str]] = {}
    for each in tensors:
        for match in _INDEX.finditer(each.name):
            found.setdefault(each.name[: match.end(1)], set()).add(match[2])
    counts = {
        name: len(indices)
        for name, indices in found.items()
        if len(indices) > 1 or name.rpartition(".")[2] in STACKS
    }
    for last in {name.rpartition(".")[2] for name in counts}:
        same = [count for name, count in counts.items() if name.rpartition(".")[2] == last]
        if len(same) > 1:
            counts[f"{last} in all"] = sum(same)
    known = {name: name.rpartition(".")[2] in STACKS and " " not in name for name in counts}
    return dict(sorted(counts.items(), key=lambda each: (not known[each[0]], each[0].count("."), -each[1])))


def _sizes(row: File, seen: Peek) -> None:
    distinct: dict[object, int] = {}
    for name, each in seen.tensors.items():
        place = each.storage
        if place is not None:
            distinct[
                (place.path, place.record, place.at, each.offset, each.shape) if place.at >= 0 else name
            ] = each.nbytes
    # a compressed record takes fewer bytes than its tensor: nothing is implied then
    packed = any(
        each.storage is not None and each.storage.at < 0 and not each.storage.data
        for each in seen.tensors.values()
    )
    row.implied = -1 if packed else sum(distinct.values())
    model = _model(seen)
    row.parameters = seen.parameters if model else -1
    row.weights = sum(each.nbytes for each in model) if model else -1
    row.optimizer = seen.optimizer.kind if seen.optimizer is not None and seen.optimizer.tensors else ""
    row.optimizer_bytes = sum(each.nbytes for each in seen.optimizers)
    total = sum(seen.dtypes.values())
    mix = sorted(seen.dtypes.items(), key=lambda each: -each[1])
    row.dtypes = ", ".join(
        name if count > 0.995 * total else f"{name} {count / total:.0%}"
        for name, count in mix
        if count > 0.005 * total
    )


def _setting(config: Mapping[str, Any], names: Sequence[str]) -> tuple[str, int]:
    """The first setting of these names that is a whole number, the outermost where several have the name."""
    for wanted in dict.fromkeys(names):
        for name, value in config.items():
            if name.rpartition(".")[2] == wanted and isinstance(value, int) and not isinstance(value, bool):
                return name, value
    return "", -1


def _flat(config: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name, the outer ones first."""
    for name, value in config.items():
        if not isinstance(value, Mapping):
            yield f"{prefix}{name}", value
    for name, value in config.items():
        if isinstance(value, Mapping) and depth < 6:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
