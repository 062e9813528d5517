"""The archives that torch writes: torch.save since 1.6, TorchScript and torch.export.

One folder ``<name>/`` holds ``data.pkl`` and a record ``data/<key>`` per storage, uncompressed and aligned; the order
is that of `torch.serialization._save`. TorchScript adds ``code/`` and ``constants.pkl``, torch.export ``archive_format``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.content import Content, Storages
from trainlab.subjects.checkfile.inert import read_pickle, read_rest
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo, layout
from trainlab.subjects.checkfile.zipped import Archive, Record

__all__ = ["read_zip", "zip_format"]

NESTED = (".pt", ".pth", ".bin", ".ckpt")
NESTED_SIZE = 2**30  # bytes; the directory of a nested archive is read, not its content
CONFIG_SIZE = 2**26  # bytes

# torch/_export/serde/schema.py, ScalarType
SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip


def zip_format(archive: Archive) -> str:
    """Which of torch's archives this is; "" for any other zip.

    torch itself asks the same two questions: is there a ``constants.pkl``, is there an ``archive_format``?
    """
    names = {each.short for each in archive.records}
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if names & {"archive_format", "serialized_exported_program.json"} or any(
        name.startswith("models/") and name.endswith(".json") for name in names
    ):
        return "torch.export"
    return "torch" if "data.pkl" in names else ""


def read_zip(path: Path, archive: Archive, *, depth: int = 0, prefix: str = "") -> Content:
    """Everything that an archive says; reads its directory and its pickles, no tensor.

    Args:
        path: The file.
        archive: The archive in it.
        depth: How many archives this one lies in.
        prefix: What the names of its tensors begin with.
    """
    content = Content(zip_format(archive) or "zip", notes=list(archive.notes))
    content.notes += [
        f"{name!r} is in the archive more than once: readers differ in which one they take"
        for name in archive.duplicates()[:10]
    ]
    folders = {each.name[: -len(each.short) - 1] for each in archive.records if each.name != each.short}
    if len(folders) > 1 and depth == 0:
        content.notes.append(f"the archive has several folders: {', '.join(sorted(folders)[:5])}")
    used: set[str] = set()
    for record in archive.records:
        if "." not in record.short:  # a storage, nearly always
            continue
        if record.short.endswith((".pkl", ".pickle")):
            used |= _add_pickle(content, path, archive, record, prefix)
        elif record.short.endswith(NESTED) and not depth and record.method == 0 and record.size < NESTED_SIZE:
            _add_nested(content, path, archive, record)
        elif (
            content.format == "torch.export"
            and record.short.endswith("_config.json")
            and record.size < CONFIG_SIZE
        ):
            _add_exported(content, path, archive, record)
    if content.format != "torch.export" and depth == 0:
        stray = [
            each.short for each in archive.records if each.short.startswith("data/") and each.name not in used
        ]
        if stray:
            content.notes.append(f"{len(stray)} records belong to no tensor: {', '.join(stray[:5])}")
    return content


def _add_pickle(content: Content, path: Path, archive: Archive, record: Record, prefix: str) -> set[str]:
    """Adds what a pickle says; gives the records that it refers to."""
    storages = ZipStorages(path, archive, record)
    raw = archive.read(record)
    document = read_pickle(raw)
    main = record.short == "data.pkl"
    walk = content.add(
        document, storages, record.name, prefix if main else f"{prefix}{Path(record.short).stem}"
    )
    if main or content.tree is None:
        content.tree = walk.tree
    if main and document.end < record.size and not document.broken:
        content.notes.append(f"{record.size - document.end} bytes follow the pickle {record.name}")
        for start, extra in read_rest(raw, document.end):
            content.add(extra, Storages(path, -1), record.name, f"pickle at {start}")
    return storages.used


def _add_nested(content: Content, path: Path, archive: Archive, record: Record) -> None:
    offset = archive.offset(record)
    if archive.at(offset - archive.start, 4) != b"PK\x03\x04":
        return
    try:
        with Archive(path, offset, record.size) as inner:
            nested = read_zip(path, inner, depth=1, prefix=record.short)
    except SubjectError as error:
        content.notes.append(f"{record.short}: {error.what}")
        return
    content.tensors.update(nested.tensors)
    content.ask(nested.globals)
    content.notes += [f"{record.short}: {note}" for note in nested.notes]


def _add_exported(content: Content, path: Path, archive: Archive, record: Record) -> None:
    """torch.export since 2.8 keeps each weight as raw bytes, described in a JSON file beside them."""
    import json

    folder = record.short.rpartition("/")[0]
    records = {each.short: each for each in archive.records}
    try:
        for name, entry in json.loads(archive.read(record))["config"].items():
            place = records.get(f"{folder}/{entry['path_name']}")
            if place is not None and entry.get("tensor_meta") and not entry.get("use_pickle"):
                storage = ZipStorages.storage(
                    path, archive, place, str(entry["tensor_meta"]["device"]["type"])
                )
                content.tensors[name] = _exported(name, entry, storage)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        content.notes.append(f"{record.name} cannot be read: what it describes is not listed")


def _exported(name: str, entry: Mapping[str, Any], storage: Storage) -> TensorInfo:
    meta = entry["tensor_meta"]
    shape, stride, offset = layout(
        [each["as_int"] for each in meta["sizes"]],
        [each["as_int"] for each in meta["strides"]],
        meta["storage_offset"]["as_int"],
    )
    dtype = SCALAR_TYPES.get(meta["dtype"], f"scalar type {meta['dtype']}")
    return TensorInfo(
        name, dtype, shape, storage, offset, stride, "parameter" if entry.get("is_param") else "tensor"
    )


class ZipStorages(Storages):
    """The storages of a pickle in an archive: records in the folder named like the pickle."""

    def __init__(self, path: Path, archive: Archive, pickle: Record) -> None:
        super().__init__(path, archive.offset(pickle) if pickle.method == 0 else -1)
        self.used: set[str] = set()
        self.archive = archive
        self.folder = pickle.name.removesuffix(".pkl")
        self.records = {each.name: each for each in archive.records}
        orders = [each for each in archive.records if each.short == "byteorder" and each.size < 16]
        self.big = any(archive.read(each) == b"big" for each in orders)

    def find(self, key: str, device: str, nbytes: int) -> Storage | None:
        """The record with this key."""
        name = f"{self.folder}/{key}"
        self.used.add(name)
        record = self.records.get(name)
        if record is None:
            if device != "meta":
                self.note(f"record {name} is missing")
            return None
        if nbytes != record.size:
            self.note(f"record {name} has {record.size} bytes where the pickle wants {nbytes}")
        if record.method:
            self.note(f"record {name} is compressed: torch cannot load it")
        return self.storage(self.path, self.archive, record, device, big=self.big)

    @staticmethod
    def storage(path: Path, archive: Archive, record: Record, device: str, *, big: bool = False) -> Storage:
        """The storage that a record is."""
        stored = record.method == 0
        at = record.header + archive.start if stored else -1
        crc = record.crc if record.crc or not record.size else None
        return Storage(path, record.short, at, record.size, stored, device, crc, big=big)
