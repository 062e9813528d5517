"""Files of torch.save before 1.6 (or ``_use_new_zipfile_serialization=False``), plain pickles, and the tar files before 0.2.

A legacy file is five pickles in a row - magic number, protocol, machine, the object, the keys of its storages - and
then each storage: an 8-byte count and its bytes (`torch.serialization._legacy_save`).
"""

from __future__ import annotations

import mmap
import os
import struct
import tarfile
from pathlib import Path

from trainlab.subjects.checkfile.content import Content, Storages, storage_dtype
from trainlab.subjects.checkfile.inert import read_pickle, read_rest
from trainlab.subjects.checkfile.stubs import Document, Name
from trainlab.subjects.checkfile.tensors import ITEM_BITS, STORAGES, Storage, TensorInfo, contiguous

__all__ = ["MAGIC", "read_pickles", "read_tar"]

MAGIC = 0x1950A86A20F9469CFC6C


def read_pickles(path: Path) -> Content:
    """Everything in a file of pickles: torch's legacy format, or any other.

    Every pickle is read, also those that torch would not come to: loading runs them from the first on.
    """
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = read_pickle(data)
        if first.root != MAGIC or first.broken:
            return _plain(path, data, first, size)
        content = Content("torch-legacy")
        documents = [first]
        while len(documents) < 5 and not documents[-1].broken and documents[-1].end < size:
            documents.append(read_pickle(data, documents[-1].end))
        storages = _LegacyStorages(path, documents[2].end if len(documents) > 2 else 0)
        if len(documents) == 5 and not documents[4].broken:
            storages.lay_out(documents[3], documents[4], size)
        else:
            content.cut = True
            content.notes.append("cut short: the file ends before its tensors begin")
        for number, document in enumerate(documents):
            if number == 3:
                content.tree = content.add(document, storages).tree
            else:
                content.add(document, Storages(path, 0), prefix=f"header.{number}")
        if storages.missing:
            content.cut = True
            content.notes.append(f"cut short: {storages.missing} of {storages.count} storages are not whole")
    return content


def _plain(path: Path, data: mmap.mmap, first: Document, size: int) -> Content:
    """A file of pickles that torch did not write; a `torch.save` inside a pickle stays the bytes it is."""
    content = Content("pickle")
    content.tree = content.add(first, Storages(path, 0)).tree
    end = first.end
    for start, document in read_rest(data, first.end) if not first.broken else ():
        content.add(document, Storages(path, start), prefix=f"pickle at {start}")
        end = document.end
    if end < size and not first.broken:
        content.notes.append(f"{size - end} bytes follow the pickle")
    return content


class _LegacyStorages(Storages):
    """The storages of a legacy file: one after the other behind the keys."""

    def __init__(self, path: Path, base: int) -> None:
        super().__init__(path, base)
        self.count = 0
        self.missing = 0
        self._places: dict[str, tuple[int, int]] = {}
        self._found: dict[str, Storage] = {}

    def lay_out(self, document: Document, keys: Document, size: int) -> None:
        """Finds where each storage begins: each is as long as its count and its dtype say."""
        dtypes: dict[str, str] = {}
        for reference in document.references:
            dtype = storage_dtype(reference.id)
            if dtype and type(reference.id) is tuple:
                dtypes.setdefault(str(reference.id[2]), dtype)
        order = keys.root if isinstance(keys.root, list) else []
        self.count = len(order)
        pos = keys.end
        file = os.open(self.path, os.O_RDONLY)
        try:
            for number, key in enumerate(order):
                raw = os.pread(file, 8, pos)
                numel = struct.unpack("<q", raw)[0] if len(raw) == 8 else -1
                nbytes = numel * ITEM_BITS.get(dtypes.get(str(key), ""), 0) // 8
                if numel < 0 or pos + 8 + nbytes > size:
                    self.missing = self.count - number
                    break
                self._places[str(key)] = (pos + 8, nbytes)
                pos += 8 + nbytes
            else:
                if pos != size:
                    self.note(f"{size - pos} bytes follow the last storage")
        finally:
            os.close(file)

    def of(self, pid: object) -> tuple[Storage | None, str]:
        """The storage of a persistent id ``("storage", type, key, location, numel, view)``."""
        dtype = storage_dtype(pid)
        if not dtype or type(pid) is not tuple:
            return None, ""
        key = str(pid[2])
        if key not in self._found:
            if key not in self._places:
                return None, dtype
            at, nbytes = self._places[key]
            self._found[key] = Storage(self.path, "", at, nbytes, device=str(pid[3]))
        return self._found[key], dtype


def read_tar(path: Path) -> Content:
    """A file of torch 0.1: a tar of ``sys_info``, ``pickle``, ``storages`` and ``tensors``."""
    content = Content("torch-tar")
    with (
        tarfile.open(path, "r:") as tar,
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        places = {each.name: (each.offset_data, each.offset_data + each.size) for each in tar.getmembers()}
        storages = _TarStorages(path)
        storages.lay_out(data, *places["storages"], content)
        storages.tensors_of(data, *places["tensors"], content)
        document = read_pickle(data, *places["pickle"])
        content.tree = content.add(document, storages, "pickle").tree
        for start, extra in read_rest(data, document.end, places["pickle"][1]):
            content.add(extra, Storages(path, start), "pickle", f"pickle at {start}")
        content.tensors.update(storages.tensors)
    return content


class _TarStorages(Storages):
    """The storages of a tar file; its pickle refers to whole tensors by number."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 0)
        self.tensors: dict[str, TensorInfo] = {}
        self._storages: dict[str, tuple[Storage, str]] = {}

    def lay_out(self, data: mmap.mmap, start: int, stop: int, content: Content) -> None:
        """Reads the places of the storages: a pickle (key, location, type), a count, the bytes."""
        document = read_pickle(data, start, stop)
        pos = document.end
        for _ in range(document.root if type(document.root) is int else 0):
            each = read_pickle(data, pos, stop)
            content.add(each, Storages(self.path, 0), "storages")
            if each.broken or type(each.root) is not tuple or not isinstance(each.root[2], Name):
                return
            key, device, kind = each.root
            dtype = STORAGES.get(kind.name, "uint8")
            nbytes = struct.unpack("<q", data[each.end : each.end + 8])[0] * ITEM_BITS[dtype] // 8
            self._storages[str(key)] = (
                Storage(self.path, "", each.end + 8, nbytes, device=str(device)),
                dtype,
            )
            pos = each.end + 8 + nbytes

    def tensors_of(self, data: mmap.mmap, start: int, stop: int, content: Content) -> None:
        """Reads the tensors: a pickle (key, storage, type), then dimensions, sizes, strides and offset."""
        document = read_pickle(data, start, stop)
        pos = document.end
        for _ in range(document.root if type(document.root) is int else 0):
            each = read_pickle(data, pos, stop)
            content.add(each, Storages(self.path, 0), "tensors")
            if each.broken or type(each.root) is not tuple:
                return
            (ndim,) = struct.unpack_from("<i", data, each.end)
            if not 0 <= ndim < 64:
                return
            numbers = struct.unpack_from(f"<{2 * ndim + 1}q", data, each.end + 8)
            shape, stride = numbers[:ndim], numbers[ndim : 2 * ndim]
            storage, dtype = self._storages[str(each.root[1])]
            name = f"tensor {each.root[0]}"
            self.tensors[name] = TensorInfo(
                name, dtype, shape, storage, numbers[-1], None if stride == contiguous(shape) else stride
            )
            pos = each.end + 8 + 8 * (2 * ndim + 1)

    def of(self, pid: object) -> tuple[Storage | None, str]:  # noqa: ARG002 - as its base
        """A reference to a tensor by its number."""
        return None, ""
