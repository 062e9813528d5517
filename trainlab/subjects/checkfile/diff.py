"""What differs between two checkpoints? By name, shape and CRC in milliseconds; by value when asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from trainlab.progress import track
from trainlab.subjects.checkfile.peek import Peek, peek
from trainlab.subjects.checkfile.shown import brief, lines_html, listed
from trainlab.subjects.checkfile.tensors import ITEM_BITS, TensorInfo
from trainlab.subjects.checkfile.values import NUMBERS, PIECE, Reader

__all__ = ["Change", "Diff", "diff"]

FLAT = 2000  # settings that are compared


@dataclass(frozen=True)
class Change:
    """How one tensor moved, in float64: the norms before and after, of the difference, and its largest entry.

    ``moved`` is the share of elements that differ in any bit. Norms are nan for dtypes that numpy cannot count with.
    """

    name: str
    before: float
    after: float
    distance: float
    largest: float
    moved: float

    @property
    def relative(self) -> float:
        """The distance as a share of the norm before; infinite from zero."""
        return self.distance / self.before if self.before else math.inf if self.distance else 0.0

    def __str__(self) -> str:
        if math.isnan(self.distance):
            return f"{self.name}: {self.moved:.3g} of its elements differ"
        if not self.before:
            return f"{self.name}: was zero, moved to a norm of {self.after:.4g}"
        return f"{self.name}: moved by {self.relative:.3g} of its norm ({self.before:.4g} → {self.after:.4g})"


@dataclass(frozen=True, repr=False)
class Diff:
    """The difference of two checkpoints.

    Attributes:
        a: The first.
        b: The second.
        only_a: Tensors that only the first has.
        only_b: Tensors that only the second has.
        reshaped: Name → what shape and dtype each has, where they differ.
        same: Tensors with the same bytes: the same CRC and length, or equal when read.
        changed: Tensors with other bytes.
        unknown: Tensors without a CRC that were not read.
        settings: Name → the values in a and b, of all counters, configs and optimizer settings that differ.
        values: How each changed tensor moved; empty unless asked for.
    """

    a: Path
    b: Path
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    reshaped: Mapping[str, tuple[str, str]]
    same: tuple[str, ...]
    changed: tuple[str, ...]
    unknown: tuple[str, ...]
    settings: Mapping[str, tuple[Any, Any]]
    values: tuple[Change, ...] = ()

    @property
    def equal(self) -> bool:
        """Do both say the same, and is that known?"""
        return not (
            self.only_a or self.only_b or self.reshaped or self.changed or self.unknown or self.settings
        )

    def __repr__(self) -> str:
        title = f"{self.a} → {self.b}: {len(self.same)} tensors the same, {len(self.changed)} changed"
        if self.unknown:
            title += f", {len(self.unknown)} not known without reading them (values=True)"
        still = self.same if self.changed else ()
        parts = (
            (f"only in {self.a}", self.only_a),
            (f"only in {self.b}", self.only_b),
            ("never moved", still),
        )
        shapes = islice(self.reshaped.items(), 20)
        settings = islice(self.settings.items(), 30)
        most = sorted(self.values, key=lambda each: -each.relative)[:10]
        return "\n".join([
            title,
            *(f"  {label}: {listed(names, 8)}" for label, names in parts if names),
            *(f"  {name}: {before} → {after}" for name, (before, after) in shapes),
            *(f"  {name}: {brief(before)} → {brief(after)}" for name, (before, after) in settings),
            *(f"  {each}" for each in most),
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        rows = [
            {
                "tensor": each.name,
                "norm before": each.before,
                "after": each.after,
                "moved by": each.relative,
                "elements moved": each.moved,
            }
            for each in self.values
        ]
        return lines_html(repr(self), rows)


def diff(a: str | Path | Peek, b: str | Path | Peek, *, values: bool = False) -> Diff:
    """Compares two checkpoints.

    Args:
        a: A checkpoint, or a `Peek` at one.
        b: Another.
        values: Read the tensors that are not known to be the same, piece by piece, and say how far each moved. Costs one
            reading of both; without it only the directories are read.

    Raises:
        SubjectError: One of them is missing or no checkpoint.
    """
    first, second = (each if isinstance(each, Peek) else peek(each) for each in (a, b))
    x, y = first.tensors, second.tensors
    both = [name for name in x if name in y]
    known = {
        name: _same(x[name], y[name])
        for name in both
        if (x[name].shape, x[name].dtype) == (y[name].shape, y[name].dtype)
    }
    moves: list[Change] = []
    if values:
        unread = [
            name for name, same in known.items() if not same and _readable(x[name]) and _readable(y[name])
        ]
        with Reader() as reader:
            for name in track(unread, label="diff"):
                move = _change(reader, x[name], y[name])
                known[name] = move.moved == 0
                moves += [move] if move.moved else []
    return Diff(
        first.path,
        second.path,
        tuple(name for name in x if name not in y),
        tuple(name for name in y if name not in x),
        {name: (_form(x[name]), _form(y[name])) for name in both if name not in known},
        tuple(name for name, same in known.items() if same),
        tuple(name for name, same in known.items() if same is False),
        tuple(name for name, same in known.items() if same is None),
        _settings(first, second),
        tuple(moves),
    )


def _form(info: TensorInfo) -> str:
    return f"{info.dtype} {list(info.shape)}"


def _readable(info: TensorInfo) -> bool:
    return info.storage is not None and info.dtype in ITEM_BITS


def _same(a: TensorInfo, b: TensorInfo) -> bool | None:
    """Have two tensors the same bytes? None where their files do not say."""
    if a.storage is None or b.storage is None:
        return None
    if a.storage == b.storage and (a.offset, a.stride) == (b.offset, b.stride):
        return True
    if a.storage.data is not None and b.storage.data is not None:
        return a.storage.data == b.storage.data
    if a.crc is None or b.crc is None or a.storage.big != b.storage.big:
        return None
    if (a.storage.nbytes, a.offset, a.stride) != (b.storage.nbytes, b.offset, b.stride):
        return False if a.whole and b.whole else None
    # where both see a part of the storage, another part may be what differs
    return True if a.crc == b.crc else False if a.whole else None


def _change(reader: Reader, a: TensorInfo, b: TensorInfo) -> Change:
    """How far one tensor lies from the other, read piece by piece."""
    import numpy as np

    before = after = distance = largest = 0.0 if a.dtype in NUMBERS else math.nan
    moved = 0
    wide = np.complex128 if a.dtype.startswith("complex") else np.float64
    for x, y in _pieces(reader, a, b):
        moved += int(np.count_nonzero(_bits(x) != _bits(y)))
        u, v = x.astype(wide), y.astype(wide)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(v - u)
            before += float(np.sum(np.abs(u) ** 2))
            after += float(np.sum(np.abs(v) ** 2))
            distance += float(np.sum(gap**2))
            largest = max(largest, float(np.max(gap, initial=0.0)))
    share = moved / max(a.numel, 1)
    return Change(a.name, math.sqrt(before), math.sqrt(after), math.sqrt(distance), largest, share)


def _pieces(reader: Reader, a: TensorInfo, b: TensorInfo) -> Iterator[tuple[Any, Any]]:
    """Both tensors in pieces of a few megabytes; one that is a view is read whole."""
    step = PIECE // 16
    if any(each.stride is not None or (each.storage and each.storage.text) for each in (a, b)):
        yield reader.array(a).ravel(), reader.array(b).ravel()
        return
    for start in range(0, a.numel, step):
        shape = (min(step, a.numel - start),)
        x, y = (reader.array(replace(each, shape=shape, offset=each.offset + start)) for each in (a, b))
        yield x, y


def _bits(array: Any) -> Any:
    import numpy as np

    form = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}.get(array.dtype.itemsize)
    return np.ascontiguousarray(array).view(form) if form else array


def _settings(a: Peek, b: Peek) -> dict[str, tuple[Any, Any]]:
    """The counters, configs and optimizer settings that differ."""
    x, y = (dict(islice(_flat_of(each), FLAT)) for each in (a, b))
    pairs = {name: (x.get(name, "(not there)"), y.get(name, "(not there)")) for name in x | y}
    return {name: pair for name, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _flat_of(peeked: Peek) -> Iterator[tuple[str, Any]]:
    yield from peeked.scalars.items()
    yield from _flat(peeked.config or {}, "config")
    for optimizer in peeked.optimizers:
        told = {"kind": optimizer.kind, "steps": optimizer.steps, "groups": list(optimizer.groups)}
        yield from _flat(told, optimizer.name or "optimizer")
    for scheduler in peeked.schedulers:
        yield f"{scheduler.name or 'scheduler'}.last_epoch", scheduler.last_epoch
        yield f"{scheduler.name or 'scheduler'}.last_lr", scheduler.last_lr


def _flat(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The settings inside a value under dotted names; what is nested too deep or too long is compared in short."""
    if isinstance(value, Mapping) and depth < 5:
        for key, each in list(value.items())[:500]:
            yield from _flat(each, f"{name}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)) and depth < 5 and len(value) <= 16:
        for number, each in enumerate(value):
            yield from _flat(each, f"{name}.{number}", depth + 1)
    elif isinstance(value, (Mapping, list, tuple)):
        yield name, f"{len(value)} entries: {brief(value, 200)}"
    elif not isinstance(value, TensorInfo):
        yield name, value
