"""The archives that torch writes: torch.save since 1.6, TorchScript and torch.export.

One folder ``<name>/`` holds ``data.pkl`` and a record ``data/<key>`` per storage, uncompressed and aligned; the order
is that of `torch.serialization._save`. TorchScript adds ``code/`` and ``constants.pkl``, torch.export ``archive_format``.
"""

from __future__ import annotations

from pathlib import Path

from trainlab.subjects.checkfile.content import Content, Storages, storage_bytes, storage_dtype
from trainlab.subjects.checkfile.inert import read_pickle, read_rest
from trainlab.subjects.checkfile.tensors import Storage
from trainlab.subjects.checkfile.wrong import damaged
from trainlab.subjects.checkfile.zipped import Archive, Record

__all__ = ["ZipStorages", "read_zip", "zip_format"]

NESTED = (".pt", ".pth", ".bin", ".ckpt")
NESTED_SIZE = 2**30  # bytes; the directory of a nested archive is read, not its content
BYTEORDERS = {b"little": False, b"big": True}


def zip_format(archive: Archive) -> str:
    """Which of torch's archives this is; "" for any other zip.

    torch itself asks the same two questions: is there a ``constants.pkl``, is there an ``archive_format``?
    """
    names = {each.short for each in archive.records}
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if (
        "archive_format" in names
        or "serialized_exported_program.json" in names
        or any(name.startswith("models/") and name.endswith(".json") for name in names)
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
    doubled = archive.duplicates()
    content.notes += [
        f"{name!r} is in the archive more than once: readers differ in which one they take"
        for name in doubled[:10]
    ]
    folders = {each.name[: -len(each.short) - 1] for each in archive.records if each.name != each.short}
    if len(folders) > 1 and depth == 0:
        content.notes.append(f"the archive has several folders: {', '.join(sorted(folders)[:5])}")
    used: set[str] = set()
    for record in archive.records:
        if "." not in record.short:  # a storage, nearly always
            continue
        if record.short.endswith((".pkl", ".pickle")):
            _add_pickle(content, path, archive, record, used, prefix)
        elif (
            record.short.endswith(NESTED) and depth == 0 and record.method == 0 and record.size < NESTED_SIZE
        ):
            _add_nested(content, path, archive, record)
    if content.format == "torch.export":
        _add_exported(content, path, archive)
    elif depth == 0:
        stray = [
            each.short for each in archive.records if each.name not in used and each.short.startswith("data/")
        ]
        if stray:
            content.notes.append(f"{len(stray)} records belong to no tensor: {', '.join(stray[:5])}")
    return content


def _add_pickle(  # noqa: PLR0917
    content: Content, path: Path, archive: Archive, record: Record, used: set[str], prefix: str
) -> None:
    base = archive.offset(record) if record.method == 0 else -1
    storages = ZipStorages(path, base, archive, record)
    raw = archive.read(record)
    document = read_pickle(raw)
    if record.short == "data.pkl":
        walk = content.add(document, storages, record.name, prefix)
        content.tree = walk.tree
        if document.end < record.size and not document.broken:
            content.notes.append(f"{record.size - document.end} bytes follow the pickle {record.name}")
            for start, extra in read_rest(raw, document.end):
                content.add(extra, Storages(path, -1), record.name, f"pickle at {start}")
    else:
        walk = content.add(document, storages, record.name, f"{prefix}{Path(record.short).stem}")
        if content.tree is None:
            content.tree = walk.tree
    used |= storages.used


def _add_nested(content: Content, path: Path, archive: Archive, record: Record) -> None:
    offset = archive.offset(record)
    if archive.at(offset - archive.start, 4) != b"PK\x03\x04":
        return
    with Archive(path, offset, record.size) as inner:
        nested = read_zip(path, inner, depth=1, prefix=record.short)
    content.tensors.update(nested.tensors)
    content.globals += [each for each in nested.globals if each not in content.globals]
    content.notes += [f"{record.short}: {note}" for note in nested.notes]


def _add_exported(content: Content, path: Path, archive: Archive) -> None:
    """torch.export since 2.8 keeps each weight as raw bytes, described in a JSON file beside them."""
    import json

    from trainlab.subjects.checkfile.exported import exported_tensors

    for record in archive.records:
        if record.short.endswith("_config.json") and record.size < 2**26:
            config = json.loads(archive.read(record))
            content.tensors.update(exported_tensors(config, record.short.rpartition("/")[0], path, archive))


class ZipStorages(Storages):
    """The storages of a pickle in an archive: records in the folder named like the pickle."""

    def __init__(self, path: Path, base: int, archive: Archive, pickle: Record) -> None:
        super().__init__(path, base)
        self.used: set[str] = set()
        self.archive = archive
        self.folder = pickle.name.removesuffix(".pkl")
        self.records = {each.name: each for each in archive.records}
        self.big = any(
            BYTEORDERS.get(archive.read(each), False) for each in archive.named("byteorder") if each.size < 16
        )
        self._found: dict[str, Storage | None] = {}

    def of(self, pid: object) -> tuple[Storage | None, str]:
        """The storage of a persistent id ``("storage", type, key, location, numel)``."""
        dtype = storage_dtype(pid)
        if not dtype or type(pid) is not tuple:
            return None, ""
        _, _, key, device, numel, *_ = pid
        name = f"{self.folder}/{key}"
        if name not in self._found:
            self._found[name] = self._make(name, str(device), storage_bytes(dtype, numel))
        return self._found[name], dtype

    def _make(self, name: str, device: str, nbytes: int) -> Storage | None:
        record = self.records.get(name)
        self.used.add(name)
        if record is None:
            if device != "meta":
                self.note(f"record {name} is missing")
            return None
        if nbytes != record.size:
            self.note(f"record {name} has {record.size} bytes where the pickle wants {nbytes}")
        stored = record.method == 0
        if not stored:
            self.note(f"record {name} is compressed: torch cannot load it")
        at = record.header + self.archive.start if stored else -1
        crc = record.crc if record.crc or not record.size else None
        return Storage(self.path, record.short, at, record.size, stored, device, crc, big=self.big)


def open_archive(path: Path) -> Archive:
    """The archive that a file is.

    Raises:
        SubjectError: It is cut short or damaged, or some other zip.
    """
    archive = Archive(path)
    if not zip_format(archive):
        archive.__exit__()
        raise damaged(path, "a zip archive, but not one that torch wrote")
    return archive
