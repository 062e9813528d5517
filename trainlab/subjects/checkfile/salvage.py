"""Take out of a damaged, cut or untrusted checkpoint every tensor that is whole, into a file that loads.

Nothing in the old file is run: a checkpoint that weights-only loading refuses comes out as plain tensors and values.
Costs one reading and one writing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.peek import content_of
from trainlab.subjects.checkfile.shown import bytes_text
from trainlab.subjects.checkfile.tensors import ITEM_BITS, SAFETENSORS, TensorInfo
from trainlab.subjects.checkfile.values import Reader
from trainlab.subjects.checkfile.verify import PIECE, Check, State
from trainlab.subjects.checkfile.writing import Target, plan_safetensors, plan_torch

__all__ = ["Salvage", "salvage"]


@dataclass(frozen=True, repr=False)
class Salvage:
    """What was saved of a checkpoint.

    Attributes:
        path: The old file.
        out: The new one; None where nothing was left.
        tensors: Every tensor of the old file: saved and good, saved and unverifiable, or damaged and left out.
        notes: What is odd about the old file.
    """

    path: Path
    out: Path | None
    tensors: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def saved(self) -> tuple[str, ...]:
        """The names of the tensors that are in the new file."""
        return tuple(each.name for each in self.tensors if each.state is not State.DAMAGED)

    @property
    def lost(self) -> tuple[str, ...]:
        """The names of those that are not."""
        return tuple(each.name for each in self.tensors if each.state is State.DAMAGED)

    def __repr__(self) -> str:
        good = sum(each.state is State.GOOD for each in self.tensors)
        lines = [
            f"{self.path}: {len(self.saved)} of {len(self.tensors)} tensors saved, {good} of them with a good CRC"
        ]
        lines += (
            [f"  in {self.out} ({bytes_text(self.out.stat().st_size)})"]
            if self.out and self.out.exists()
            else []
        )
        lines += [
            f"  lost: {each.name}: {each.wrong}" for each in self.tensors if each.state is State.DAMAGED
        ][:20]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes[:10]])

    def _repr_html_(self) -> str:
        from trainlab.markup import block, paragraph

        title, *lines = repr(self).split("\n")
        return block(title, [paragraph(line.strip()) for line in lines])


def salvage(path: str | Path, out: str | Path, *, workers: int | None = None) -> Salvage:
    """Writes every tensor of a checkpoint that is whole into a new file.

    Args:
        path: The old file: torch's archive or legacy format, or safetensors; cut, damaged or untrusted.
        out: The new one. ``.safetensors``: tensors under their dotted names. ``.pt``: the old nesting and the plain
            values beside the tensors too; classes become dicts, so that it loads weights-only.
        workers: Threads; None takes one per core.

    Returns:
        What was saved, each tensor with what is known of it.

    Raises:
        SubjectError: Nothing is left that could be saved, or it is no checkpoint.
        UsageError: ``out`` is the old file, or has another suffix.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if out.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"cannot salvage into {out.name!r}", fix="a name that ends in .safetensors or .pt")
    if out.exists() and out.samefile(path):
        raise UsageError("cannot salvage a checkpoint into itself", seen=str(path), fix="another name")
    if not out.parent.is_dir():
        raise UsageError(
            f"cannot write {str(out)!r}", seen=f"no folder {str(out.parent)!r}", fix="make the folder first"
        )
    content = content_of(path)
    wanted, lost = _complete(content, needs_code=out.suffix == ".safetensors")
    if not wanted:
        raise SubjectError(
            f"nothing of {path} can be saved", seen="; ".join(content.notes[:3]) or "no tensors in it"
        )
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        checks = _write(content, wanted, temporary, torch=out.suffix != ".safetensors", workers=workers)
        bad = [each.name for each in checks if each.state is State.DAMAGED]
        if bad:  # written once more without them: rare, and simpler than a file with holes
            lost |= {each.name: each.wrong for each in checks if each.state is State.DAMAGED}
            wanted = {name: info for name, info in wanted.items() if name not in bad}
            if not wanted:
                raise SubjectError(
                    f"nothing of {path} can be saved", seen=f"{len(lost)} tensors, all damaged"
                )
            checks = _write(content, wanted, temporary, torch=out.suffix != ".safetensors", workers=workers)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    left = [Check(name, State.DAMAGED, (name,), wrong) for name, wrong in lost.items()]
    return Salvage(path, out, tuple(checks + left), tuple(content.notes))


def _complete(content: Content, *, needs_code: bool) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors whose bytes are all there, and why the others are not."""
    wanted: dict[str, TensorInfo] = {}
    lost: dict[str, str] = {}
    sizes: dict[Path, int] = {}
    for name, info in content.tensors.items():
        storage = info.storage
        if storage is None:
            if info.kind != "meta":
                lost[name] = "its bytes are missing"
            continue
        size = sizes.setdefault(storage.path, storage.path.stat().st_size)
        end = (
            0
            if storage.boxed or storage.data is not None
            else storage.at + (storage.nbytes if storage.text else info.reach())
        )
        if end > size:
            lost[name] = "the file ends before it does"
        elif storage.at < 0 and storage.data is None:
            lost[name] = "it is compressed"
        elif not storage.text and info.reach() > storage.nbytes:
            lost[name] = "it reaches beyond its storage"
        elif info.dtype not in ITEM_BITS or (needs_code and info.dtype not in SAFETENSORS.values()):
            lost[name] = f"{info.dtype} has no place in such a file"
        else:
            wanted[name] = info
    return wanted, lost


def _write(
    content: Content, wanted: Mapping[str, TensorInfo], out: Path, *, torch: bool, workers: int | None
) -> list[Check]:
    """Lays out the new file, then copies the tensors into it on every core, summing them on the way."""
    target = plan_torch(content.tree, wanted) if torch else plan_safetensors(wanted)
    file = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.ftruncate(file, target.size)
        os.pwrite(file, target.head, 0)
        sums: dict[str, int] = {}
        with Reader() as reader:
            for info in wanted.values():  # opens files and finds places, before threads share the reader
                if info.storage is not None and info.storage.data is None:
                    reader.place(info.storage)
            work: list[Callable[[], Check]] = [
                partial(_copy, reader, file, info, target.places[name], sums)
                for name, info in sorted(wanted.items(), key=lambda each: -each[1].nbytes)
            ]
            checks = in_parallel(work, label="salvage", workers=workers)
        _finish(file, target, sums)
    finally:
        os.close(file)
    found = {each.name: each for each in checks}
    return [found[name] for name in wanted]


def _copy(reader: Reader, file: int, info: TensorInfo, at: int, sums: dict[str, int]) -> Check:
    """Copies one tensor; its stored CRC is compared where the tensor is its whole storage or shares it."""
    storage = info.storage
    if storage is None:
        raise SubjectError(f"{info.name} has no bytes")
    if not info.whole or storage.text or storage.big:
        raw = _dense(reader, info)
        os.pwrite(file, raw, at)
        sums[info.name] = zlib.crc32(raw)
        good = storage.crc is not None and _storage_crc(reader, info) == storage.crc
    elif storage.data is not None:
        os.pwrite(file, storage.data, at)
        sums[info.name] = zlib.crc32(storage.data)
        return Check(info.name, State.UNVERIFIABLE, (info.name,))
    else:
        sums[info.name] = _stream(*reader.place(storage), file, at, storage.nbytes)
        good = sums[info.name] == storage.crc
    if storage.crc is None:
        return Check(info.name, State.UNVERIFIABLE, (info.name,))
    return Check(
        info.name,
        State.GOOD if good else State.DAMAGED,
        (info.name,),
        "" if good else "its CRC is not the stored one",
    )


def _stream(source: int, start: int, file: int, at: int, size: int) -> int:
    buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
    crc = 0
    while size:
        count = os.preadv(source, [buffer[: min(size, PIECE)]], start)
        crc = zlib.crc32(buffer[:count], crc)
        os.pwritev(file, [buffer[:count]], at)
        start, at, size = start + count, at + count, size - count
        if not count:
            return -1
    return crc


def _dense(reader: Reader, info: TensorInfo) -> bytes:
    """The elements of a view in order; bits are moved, never numbers."""
    from dataclasses import replace

    import numpy as np

    item = ITEM_BITS[info.dtype] // 8
    bits = f"uint{item * 8}" if item <= 8 else "complex128"
    array = reader.array(replace(info, dtype=bits))
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes()


def _storage_crc(reader: Reader, info: TensorInfo) -> int:
    crc = 0
    if info.storage is not None:
        for piece in reader.pieces(info.storage):
            crc = zlib.crc32(piece, crc)
    return crc


def _finish(file: int, target: Target, sums: Mapping[str, int]) -> None:
    for at, raw in target.tail(sums):
        os.pwrite(file, raw, at)
