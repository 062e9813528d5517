"""What a checkpoint file holds, before anyone asks which part of it is the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile.grading import Global, global_names
from trainlab.subjects.checkfile.plain import Walk
from trainlab.subjects.checkfile.stubs import Blob, Document, Name
from trainlab.subjects.checkfile.tensors import ITEM_BITS, STORAGES, Storage, TensorInfo

__all__ = ["Content", "Storages", "reference"]


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
        self.ask(global_names(document, record))
        self.notes += [note for note in walk.notes + storages.notes if note not in self.notes]
        if document.broken:
            pickle = f"the pickle {record}".rstrip()
            self.notes.append(f"{pickle} cannot be read to its end: {document.broken}")
        return walk

    def ask(self, names: Iterable[Global]) -> None:
        """Adds names that unpickling would import."""
        known = set(self.globals)
        self.globals += [each for each in names if each not in known]


class Storages:
    """Where the storages of one pickle lie; this base knows only those inside the pickle itself.

    Args:
        path: The file.
        base: The offset of the pickle in it; -1 where the pickle is compressed.
    """

    def __init__(self, path: Path, base: int) -> None:
        self.path = path
        self.base = base
        self.notes: list[str] = []
        self._found: dict[str, Storage | None] = {}

    def of(self, pid: object) -> tuple[Storage | None, str]:
        """The storage that a persistent id names, None where it is not there; and the dtype that it was saved as."""
        named = reference(pid)
        if named is None:
            return None, ""
        key, device, dtype, nbytes = named
        if key not in self._found:
            self._found[key] = self.find(key, device, nbytes)
        return self._found[key], dtype

    def find(self, key: str, device: str, nbytes: int) -> Storage | None:  # noqa: ARG002 - others have some
        """The storage with a key, whose pickle says that it is so long."""
        return None

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


def reference(pid: object) -> tuple[str, str, str, int] | None:
    """Key, device, dtype and bytes in a persistent id ``("storage", torch.FloatStorage, key, location, numel)``.

    None in any other; -1 bytes where the dtype is not known.
    """
    if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
        return None
    _, kind, key, device, numel, *_ = pid
    if (
        type(kind) is not Name
        or type(key) not in (str, int)
        or type(device) is not str
        or type(numel) is not int
    ):
        return None
    dtype = STORAGES.get(kind.name, "")
    return str(key), device, dtype, numel * ITEM_BITS[dtype] // 8 if dtype and numel >= 0 else -1
