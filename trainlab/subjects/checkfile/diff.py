"""What differs between two checkpoints? By name, shape and CRC in milliseconds; by value when asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainlab.progress import track
from trainlab.subjects.checkfile.peek import Peek, peek
from trainlab.subjects.checkfile.shown import brief
from trainlab.subjects.checkfile.tensors import TensorInfo
from trainlab.subjects.checkfile.values import PIECE, Reader

__all__ = ["Change", "Diff", "diff"]

FLAT = 2000  # settings that are compared


@dataclass(frozen=True)
class Change:
    """How one tensor moved, in float64: the norms before and after, of the difference, and its largest entry.

    ``moved`` is the share of elements that differ in any bit.
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
        lines = [f"{self.a} → {self.b}: {len(self.same)} tensors the same, {len(self.changed)} changed"]
        lines[0] += (
            f", {len(self.unknown)} not known without reading them (values=True)" if self.unknown else ""
        )
        for label, names in (
            (f"only in {self.a}", self.only_a),
            (f"only in {self.b}", self.only_b),
            ("never moved", self._still()),
        ):
            if names:
                lines.append(
                    f"  {label}: {', '.join(names[:8])}{f' … {len(names)} in all' if len(names) > 8 else ''}"
                )
        lines += [
            f"  {name}: {before} → {after}" for name, (before, after) in list(self.reshaped.items())[:20]
        ]
        lines += [
            f"  {name}: {brief(before)} → {brief(after)}"
            for name, (before, after) in list(self.settings.items())[:30]
        ]
        most = sorted(self.values, key=lambda each: -each.relative)[:10]
        lines += [
            f"  {each.name}: moved by {each.relative:.3g} of its norm ({each.before:.4g} → {each.after:.4g})"
            for each in most
        ]
        return "\n".join(lines)

    def _still(self) -> tuple[str, ...]:
        return self.same if self.changed else ()

    def _repr_html_(self) -> str:
        from trainlab.markup import block, paragraph, table

        title, *lines = repr(self).split("\n")
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
        return block(
            title,
            [*(paragraph(line.strip()) for line in lines[: 60 - len(rows[:10])]), table(rows, limit=40)],
        )


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
    both = [name for name in first.tensors if name in second.tensors]
    reshaped: dict[str, tuple[str, str]] = {}
    kept: list[str] = []
    for name in both:
        before, after = first.tensors[name], second.tensors[name]
        if (before.shape, before.dtype) == (after.shape, after.dtype):
            kept.append(name)
        else:
            reshaped[name] = (f"{before.dtype} {list(before.shape)}", f"{after.dtype} {list(after.shape)}")
    known = {name: _same(first.tensors[name], second.tensors[name]) for name in kept}
    moves: list[Change] = []
    if values:
        with Reader() as reader:
            for name in track([name for name in kept if not known[name]], label="diff"):
                if first.tensors[name].storage is None or second.tensors[name].storage is None:
                    continue
                move = _change(reader, first.tensors[name], second.tensors[name])
                known[name] = move.moved == 0
                moves += [move] if move.moved else []
    return Diff(
        first.path,
        second.path,
        tuple(name for name in first.tensors if name not in second.tensors),
        tuple(name for name in second.tensors if name not in first.tensors),
        reshaped,
        tuple(name for name in kept if known[name]),
        tuple(name for name in kept if known[name] is False),
        tuple(name for name in kept if known[name] is None),
        _settings(first, second),
        tuple(moves),
    )


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
    same_view = (a.storage.nbytes, a.offset, a.stride) == (b.storage.nbytes, b.offset, b.stride)
    if same_view:
        whole = a.crc == b.crc
        return whole or (False if a.whole else None)  # another part of the storage may be what differs
    return False if a.whole and b.whole else None


def _change(reader: Reader, a: TensorInfo, b: TensorInfo) -> Change:
    """How far one tensor lies from the other, read piece by piece."""
    import numpy as np

    before = after = distance = largest = 0.0
    moved = count = 0
    for x, y in _pieces(reader, a, b):
        moved += int(np.count_nonzero(_bits(x) != _bits(y)))
        count += x.size
        if x.dtype.kind not in "fciub":
            continue
        wide = np.complex128 if x.dtype.kind == "c" else np.float64
        u, v = x.astype(wide), y.astype(wide)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(v - u)
            before += float(np.sum(np.abs(u) ** 2))
            after += float(np.sum(np.abs(v) ** 2))
            distance += float(np.sum(gap**2))
            largest = max(largest, float(np.max(gap, initial=0.0)))
    return Change(
        a.name, math.sqrt(before), math.sqrt(after), math.sqrt(distance), largest, moved / max(count, 1)
    )


def _pieces(reader: Reader, a: TensorInfo, b: TensorInfo) -> Iterator[tuple[Any, Any]]:
    """Both tensors in pieces of a few megabytes; one that is a view is read whole."""
    from dataclasses import replace

    step = PIECE // 16
    if (
        a.stride is not None
        or b.stride is not None
        or a.storage is None
        or b.storage is None
        or a.storage.text
        or b.storage.text
    ):
        yield reader.array(a).ravel(), reader.array(b).ravel()
        return
    for start in range(0, a.numel, step):
        size = min(step, a.numel - start)
        yield (
            reader.array(replace(a, shape=(size,), offset=a.offset + start)),
            reader.array(replace(b, shape=(size,), offset=b.offset + start)),
        )


def _bits(array: Any) -> Any:
    import numpy as np

    form = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}.get(array.dtype.itemsize)
    return np.ascontiguousarray(array).view(form) if form else array


def _settings(a: Peek, b: Peek) -> dict[str, tuple[Any, Any]]:
    """The counters, configs and optimizer settings that differ."""
    x, y = (dict(islice(_flat_of(each), FLAT)) for each in (a, b))
    missing = "(not there)"
    names = dict.fromkeys([*x, *y])
    return {
        name: (x.get(name, missing), y.get(name, missing))
        for name in names
        if repr(x.get(name, missing)) != repr(y.get(name, missing))
    }


def _flat_of(peeked: Peek) -> Iterator[tuple[str, Any]]:
    yield from peeked.scalars.items()
    yield from _flat(peeked.config or {}, "config")
    for optimizer in peeked.optimizers:
        yield from _flat(
            {"kind": optimizer.kind, "steps": optimizer.steps, "groups": list(optimizer.groups)},
            optimizer.name or "optimizer",
        )
    for scheduler in peeked.schedulers:
        yield f"{scheduler.name}.last_epoch", scheduler.last_epoch
        yield f"{scheduler.name}.last_lr", scheduler.last_lr


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
