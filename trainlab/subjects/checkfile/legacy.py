"""Files of torch.save before 1.6 (or ``_use_new_zipfile_serialization=False``), plain pickles, and the tar files before 0.2.

A legacy file is five pickles in a row - magic number, protocol, machine, the object, the keys of its storages - and
then each storage: an 8-byte count and its bytes (`torch.serialization._legacy_save`).
"""

from __future__ import annotations

import mmap
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

from trainlab.subjects.checkfile.content import Content, Storages, reference
from trainlab.subjects.checkfile.inert import read_pickle, read_rest
from trainlab.subjects.checkfile.stubs import Document, brief
from trainlab.subjects.checkfile.tensors import ITEM_BITS, STORAGES, Storage, TensorInfo, layout

__all__ = ["MAGIC", "read_pickles", "read_tar"]

MAGIC = 0x1950A86A20F9469CFC6C


def read_pickles(path: Path) -> Content:
    """Everything in a file of pickles: torch's legacy format, or any other.

    Every pickle is read, also those that torch would not come to: loading runs them from the first on.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = read_pickle(data)
        if type(first.root) is not int or first.root != MAGIC or first.broken:
            return _plain(path, data, first)
        content = Content("torch-legacy")
        documents = [first]
        while len(documents) < 5 and not documents[-1].broken and documents[-1].end < len(data):
            documents.append(read_pickle(data, documents[-1].end))
        storages = _LegacyStorages(path, documents[2].end if len(documents) > 2 else 0)
        if len(documents) == 5 and not documents[4].broken:
            storages.lay_out(documents[3], documents[4], data)
        else:
            content.notes.append("cut short: the file ends before its tensors begin")
        for number, document in enumerate(documents):
            if number == 3:
                content.tree = content.add(document, storages).tree
            else:
                content.add(document, Storages(path, 0), prefix=f"header.{number}")
        if storages.missing:
            content.notes.append(f"cut short: {storages.missing} of {storages.count} storages are not whole")
        content.cut = any(note.startswith("cut short") for note in content.notes)
    return content


def _plain(path: Path, data: mmap.mmap, first: Document) -> Content:
    """A file of pickles that torch did not write; a `torch.save` inside a pickle stays the bytes it is."""
    content = Content("pickle")
    content.tree = content.add(first, Storages(path, 0)).tree
    end = first.end
    for start, document in read_rest(data, first.end) if not first.broken else ():
        content.add(document, Storages(path, start), prefix=f"pickle at {start}")
        end = document.end
    if end < len(data) and not first.broken:
        content.notes.append(f"{len(data) - end} bytes follow the pickle")
    return content


class _LegacyStorages(Storages):
    """The storages of a legacy file: one after the other behind the keys."""

    def __init__(self, path: Path, base: int) -> None:
        super().__init__(path, base)
        self.count = 0
        self.missing = 0
        self._places: dict[str, tuple[int, int]] = {}

    def lay_out(self, document: Document, keys: Document, data: mmap.mmap) -> None:
        """Finds where each storage begins: each is as long as its count and its dtype say."""
        named = [each for each in map(reference, (each.id for each in document.references)) if each]
        dtypes = {key: dtype for key, _, dtype, _ in reversed(named)}
        order = [brief(key, 1000) for key in keys.root] if isinstance(keys.root, list) else []
        self.count = len(order)
        pos = keys.end
        for number, key in enumerate(order):
            numel = int.from_bytes(data[pos : pos + 8], "little", signed=True)
            nbytes = numel * ITEM_BITS.get(dtypes.get(key, ""), 0) // 8
            if numel < 0 or pos + 8 + nbytes > len(data):
                self.missing = self.count - number
                return
            self._places[key] = (pos + 8, nbytes)
            pos += 8 + nbytes
        if pos != len(data):
            self.note(f"{len(data) - pos} bytes follow the last storage")

    def find(self, key: str, device: str, nbytes: int) -> Storage | None:
        """The storage with this key, as long as its own count says."""
        at, nbytes = self._places.get(key, (-1, nbytes))
        return None if at < 0 else Storage(self.path, "", at, nbytes, device=device)


def read_tar(path: Path) -> Content:
    """A file of torch 0.1: a tar of ``sys_info``, ``pickle``, ``storages`` and ``tensors``."""
    content = Content("torch-tar")
    with (
        tarfile.open(path, "r:") as tar,
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        places = {each.name: (each.offset_data, each.offset_data + each.size) for each in tar.getmembers()}
        start, stop = places["pickle"]
        document = read_pickle(data, start, stop)
        content.tree = content.add(document, Storages(path, start), "pickle").tree
        for begin, extra in read_rest(data, document.end, stop):
            content.add(extra, Storages(path, begin), "pickle", f"pickle at {begin}")
        try:
            _add_tar_tensors(content, path, data, places)
        except (struct.error, ValueError, LookupError, TypeError, AttributeError):
            content.cut = True
            content.notes.append("cut short or damaged: not all of its tensors are described")
    return content


def _add_tar_tensors(
    content: Content, path: Path, data: mmap.mmap, places: Mapping[str, tuple[int, int]]
) -> None:
    """Reads storages - a pickle (key, location, type), a count, the bytes - and the tensors that lie in them.

    A tensor is a pickle (key, storage, type), then the number of its dimensions, sizes, strides and offset. The pickle
    of the object refers to whole tensors by their key.
    """

    def read(pos: int, stop: int, what: str) -> Document:
        document = read_pickle(data, pos, stop)
        content.add(document, Storages(path, 0), what)
        return document

    storages: dict[str, tuple[Storage, str]] = {}
    start, stop = places["storages"]
    count = read(start, stop, "storages")
    pos = count.end
    for _ in range(count.root):
        each = read(pos, stop, "storages")
        key, device, kind = each.root
        dtype = STORAGES[kind.name]
        nbytes = struct.unpack_from("<Q", data, each.end)[0] * ITEM_BITS[dtype] // 8
        storages[brief(key)] = (Storage(path, "", each.end + 8, nbytes, device=brief(device)), dtype)
        pos = each.end + 8 + nbytes
    start, stop = places["tensors"]
    count = read(start, stop, "tensors")
    pos = count.end
    for _ in range(count.root):
        each = read(pos, stop, "tensors")
        key, stored, _ = each.root
        (ndim,) = struct.unpack_from("<i", data, each.end)
        numbers = struct.unpack_from(f"<{2 * ndim + 1}q", data, each.end + 8)
        shape, stride, offset = layout(numbers[:ndim], numbers[ndim:-1], numbers[-1])
        storage, dtype = storages[brief(stored)]
        name = f"tensor {brief(key)}"
        content.tensors[name] = TensorInfo(name, dtype, shape, storage, offset, stride)
        pos = each.end + 16 + 16 * ndim
