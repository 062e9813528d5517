"""Take out of a damaged, cut or untrusted checkpoint every tensor that is whole, into a file that loads.

Nothing in the old file is run: a checkpoint that weights-only loading refuses comes out as plain tensors and values.
Costs one reading and one writing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.peek import content_of
from trainlab.subjects.checkfile.shown import bytes_text, lines_html
from trainlab.subjects.checkfile.tensors import ITEM_BITS, SAFETENSORS, TensorInfo
from trainlab.subjects.checkfile.values import Reader
from trainlab.subjects.checkfile.verify import PIECE, Check, State, crc_of, read_into
from trainlab.subjects.checkfile.writing import plan_safetensors, plan_torch
from trainlab.subjects.checkfile.wrong import to_one_file

__all__ = ["Salvage", "salvage"]

_WRONG = {State.DAMAGED: "its CRC is not the stored one"}


@dataclass(frozen=True, repr=False)
class Salvage:
    """What was saved of a checkpoint.

    Attributes:
        path: The old file.
        out: The new one.
        tensors: Every tensor of the old file: saved and good, saved and unverifiable, or damaged and left out.
        notes: What is odd about the old file.
    """

    path: Path
    out: Path
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
        title = f"{self.path}: {len(self.saved)} of {len(self.tensors)} tensors saved, {good} of them with a good CRC"
        lost = [each for each in self.tensors if each.state is State.DAMAGED]
        return "\n".join([
            title,
            *([f"  in {self.out} ({bytes_text(self.out.stat().st_size)})"] if self.out.exists() else []),
            *(f"  lost: {each.name}: {each.wrong}" for each in lost[:20]),
            *(f"  note: {note}" for note in self.notes[:10]),
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        return lines_html(repr(self))


def salvage(path: str | Path, out: str | Path) -> Salvage:
    """Writes every tensor of a checkpoint that is whole into a new file.

    Args:
        path: The old file: torch's archive or legacy format, or safetensors; cut, damaged or untrusted.
        out: The new one. ``.safetensors``: tensors under their dotted names. ``.pt``: the old nesting and the plain
            values beside the tensors too; classes become dicts, so that it loads weights-only.

    Returns:
        What was saved, each tensor with what is known of it.

    Raises:
        SubjectError: Nothing is left that could be saved, or it is no checkpoint.
        UsageError: ``out`` is the old file, or has another suffix.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if out.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"cannot salvage into {out.name!r}", fix="a name that ends in .safetensors or .pt")
    if path.is_dir():
        raise UsageError("cannot salvage a folder", seen=str(path), fix=_one_file(path))
    if out.exists() and path.exists() and out.samefile(path):
        raise UsageError("cannot salvage a checkpoint into itself", seen=str(path), fix="another name")
    if not out.parent.is_dir():
        seen = f"no folder {str(out.parent)!r}"
        raise UsageError(f"cannot write {str(out)!r}", seen=seen, fix="make the folder first")
    content = content_of(path)
    torch = out.suffix != ".safetensors"
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    with Reader() as reader:
        try:
            wanted, lost = _complete(content, reader, torch=torch)
            # written once more without those whose CRC is wrong: rare, and simpler than a file with holes
            while wanted:
                checks = _write(reader, content.tree, wanted, temporary, torch=torch)
                bad = [each for each in checks if each.state is State.DAMAGED]
                if not bad:
                    temporary.replace(out)
                    return Salvage(path, out, (*checks, *lost), tuple(content.notes))
                lost += bad
                for each in bad:
                    del wanted[each.name]
        finally:
            temporary.unlink(missing_ok=True)
    why = [f"{each.name}: {each.wrong}" for each in lost] + content.notes
    raise SubjectError(f"nothing of {path} can be saved", seen="; ".join(why[:3]) or "no tensors in it")


def _one_file(folder: Path) -> str:
    return to_one_file(folder) if (folder / ".metadata").is_file() else "name one file in it"


def _complete(content: Content, reader: Reader, *, torch: bool) -> tuple[dict[str, TensorInfo], list[Check]]:
    """The tensors whose bytes are all there, and why the others are not. Opens the files, before threads share the reader."""
    wanted: dict[str, TensorInfo] = {}
    lost: list[Check] = []
    for name, info in content.tensors.items():
        wrong = "" if info.kind == "meta" and info.storage is None else _lacks(info, reader, torch=torch)
        if wrong:
            lost.append(Check(name, State.DAMAGED, (name,), wrong))
        elif info.storage is not None:
            wanted[name] = info
    return wanted, lost


def _lacks(info: TensorInfo, reader: Reader, *, torch: bool) -> str:
    """Why a tensor cannot be copied; "" where it can."""
    storage = info.storage
    if storage is None:
        return "its bytes are missing"
    if info.dtype not in ITEM_BITS or not (torch or info.dtype in SAFETENSORS.values()):
        return f"{info.dtype} has no place in such a file"
    if storage.data is None:
        try:
            file, at = reader.place(storage)
            if storage.text:
                reader.raw(info)  # how much it holds is known only when it is read
        except SubjectError as error:
            return error.what
        if at + (storage.nbytes if storage.text else info.reach()) > os.fstat(file).st_size:
            return "the file ends before it does"
    if not storage.text and info.reach() > storage.nbytes:
        return "it reaches beyond its storage"
    return ""


def _write(
    reader: Reader, tree: Any, wanted: Mapping[str, TensorInfo], out: Path, *, torch: bool
) -> list[Check]:
    """Lays out the new file, then copies the tensors into it on every core, summing them on the way."""
    target = plan_torch(tree, wanted) if torch else plan_safetensors(wanted)
    file = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.ftruncate(file, target.size)
        os.pwrite(file, target.head, 0)
        largest = sorted(wanted.values(), key=lambda info: -info.nbytes)
        work = [partial(_copy, reader, file, info, target.places[info.name]) for info in largest]
        copied = zip(largest, in_parallel(work, label="salvage"), strict=True)
        done = {info.name: each for info, each in copied}
        for at, raw in target.tail({name: crc for name, (crc, _) in done.items()}):
            os.pwrite(file, raw, at)
    finally:
        os.close(file)
    return [Check(name, done[name][1], (name,), _WRONG.get(done[name][1], "")) for name in wanted]


def _copy(reader: Reader, file: int, info: TensorInfo, at: int) -> tuple[int, State]:
    """Copies one tensor; gives its CRC, and what the stored one says of the storage that it lies in."""
    storage = info.storage
    assert storage is not None
    if info.whole and not (storage.text or storage.big or storage.data):
        crc = stored = _stream(*reader.place(storage), file, at, storage.nbytes)
    else:
        raw = _dense(reader, info)
        os.pwrite(file, raw, at)
        crc = zlib.crc32(raw)
        stored = crc if storage.crc is None else crc_of(*reader.place(storage), storage.nbytes) or 0
    if storage.crc is None:
        return crc, State.UNVERIFIABLE
    return crc, State.GOOD if stored == storage.crc else State.DAMAGED


def _stream(source: int, start: int, file: int, at: int, size: int) -> int:
    buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
    crc = 0
    while size:
        count = read_into(source, buffer[: min(size, PIECE)], start)
        if not count:
            break  # the file was cut meanwhile: its CRC tells
        crc = zlib.crc32(buffer[:count], crc)
        os.pwrite(file, buffer[:count], at)
        start, at, size = start + count, at + count, size - count
    return crc


def _dense(reader: Reader, info: TensorInfo) -> bytes:
    """The elements of a view in order; bits are moved, never numbers."""
    import numpy as np

    item = ITEM_BITS[info.dtype] // 8
    array = reader.array(replace(info, dtype=f"uint{item * 8}" if item <= 8 else "complex128"))
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes()
