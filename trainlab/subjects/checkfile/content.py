"""What a checkpoint file holds, before anyone asks which part of it is the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile.grading import Global, global_names
from trainlab.subjects.checkfile.plain import Walk
from trainlab.subjects.checkfile.stubs import Blob, Document, Name
from trainlab.subjects.checkfile.tensors import ITEM_BITS, STORAGES, Storage, TensorInfo

__all__ = ["Content", "Storages", "storage_dtype"]


@dataclass
class Content:
    """Everything that one file says.

    Attributes:
        format: ``torch``, ``torch-legacy``, ``torchscript``, ``torch.export``, ``safetensors`` or ``pickle``.
        tree: The object, as plain nested values.
        tensors: Every tensor in it, by its dotted name.
        globals: Every name that unpickling would import, with its grade.
        notes: What is odd about the file.
        cut: Is its end missing?
    """

    format: str
    tree: Any = None
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    globals: list[Global] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cut: bool = False

    def add(self, document: Document, storages: Storages, record: str = "", prefix: str = "") -> Walk:
        """Adds a pickle: its names, its tensors and what is odd about it."""
        walk = Walk(document, storages.of, storages.inline, prefix)
        for name, info in walk.tensors.items():
            self.tensors.setdefault(name, info)
        known = {(each.name, each.record) for each in self.globals}
        self.globals += [
            each for each in global_names(document, record) if (each.name, each.record) not in known
        ]
        self.notes += [note for note in walk.notes + storages.notes if note not in self.notes]
        if document.broken:
            self.notes.append(
                f"the pickle{f' {record}' if record else ''} cannot be read to its end: {document.broken}"
            )
        return walk


class Storages:
    """Where the storages of one pickle lie; the base knows only those inside the pickle itself.

    Args:
        path: The file.
        base: The offset of the pickle in it; -1 where the pickle is compressed.
    """

    def __init__(self, path: Path, base: int) -> None:
        self.path = path
        self.base = base
        self.notes: list[str] = []

    def of(self, pid: object) -> tuple[Storage | None, str]:
        """The storage that a persistent id names, and the dtype that it was saved as."""
        return None, storage_dtype(pid)

    def inline(self, data: Blob | bytes, big: bool) -> Storage:
        """The storage of bytes in the pickle."""
        if isinstance(data, bytes):
            return Storage(self.path, "", -1, len(data), big=big, data=data)
        # text takes up to two bytes of file for one of content; the exact count is known when it is read
        at = self.base + data.offset if self.base >= 0 else -1
        return Storage(self.path, "", at, data.length, text=data.text, big=big)

    def note(self, text: str) -> None:
        """Says once that something is odd."""
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)


def storage_dtype(pid: object) -> str:
    """The dtype in a persistent id ``("storage", torch.FloatStorage, key, location, numel)``; "" in any other."""
    if type(pid) is tuple and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], Name):
        return STORAGES.get(pid[1].name, "")
    return ""


def storage_bytes(dtype: str, numel: object) -> int:
    """How many bytes a storage of so many elements takes; -1 where that cannot be said."""
    return numel * ITEM_BITS[dtype] // 8 if type(numel) is int and dtype in ITEM_BITS and numel >= 0 else -1
