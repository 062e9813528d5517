"""torch.distributed.checkpoint: a pickled ``.metadata`` and files in which each tensor is an archive of its own.

Its tensors are listed by the metadata alone and verified, but not read: `torch.distributed.checkpoint.format_utils` makes
one file of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainlab.subjects.checkfile.content import Content, Storages
from trainlab.subjects.checkfile.inert import read_pickle
from trainlab.subjects.checkfile.plain import Object
from trainlab.subjects.checkfile.stubs import brief
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo, layout
from trainlab.subjects.checkfile.torchzip import read_zip
from trainlab.subjects.checkfile.wrong import damaged
from trainlab.subjects.checkfile.zipped import Archive

__all__ = ["Place", "find_places", "read_distributed"]

VALUE = 100_000  # bytes; what is longer and no tensor is not read


class Place(NamedTuple):
    """Where a value of the checkpoint lies: an archive inside a file. A tensor in chunks has several."""

    name: str
    file: Path
    offset: int
    length: int


def read_distributed(folder: Path) -> Content:
    """Every tensor of a folder, and the plain values beside them.

    The pickle is `torch.distributed.checkpoint.metadata.Metadata`: a dict of names to sizes and chunks, and one of
    (name, offset) to (file, offset, length).

    Raises:
        SubjectError: The metadata is damaged.
    """
    file = folder / ".metadata"
    document = read_pickle(file.read_bytes())
    content = Content("torch.distributed")
    metadata = content.add(document, Storages(file, 0)).tree
    entries = metadata.get("state_dict_metadata") if isinstance(metadata, Object) else None
    if not isinstance(entries, Mapping):
        raise damaged(file, "it does not say what is in the checkpoint")
    places: dict[str, list[Place]] = {}
    for place in _places(document.root, folder):
        places.setdefault(place.name, []).append(place)
    content.tensors = {}
    for name, entry in entries.items():
        if isinstance(entry, Object) and "size" in entry:
            try:
                content.tensors[str(name)] = _tensor(str(name), entry, places.get(str(name), ()))
            except (ValueError, TypeError):
                content.notes.append(f"the entry of {brief(name)} cannot be read")
    content.tree = _nested(content.tensors)
    content.notes += _missing([each for found in places.values() for each in found])
    content.cut = bool(content.notes)
    for name, found in () if content.cut else places.items():
        if (
            name not in content.tensors
            and found[0].length < VALUE
            and name.partition(".")[0] not in content.tensors
        ):
            with Archive(*found[0][1:]) as archive:  # epoch, or a group's settings
                content.tree[name] = read_zip(found[0].file, archive, depth=1).tree
    return content


def find_places(folder: Path) -> list[Place]:
    """The archives in the files of a checkpoint."""
    return _places(read_pickle((folder / ".metadata").read_bytes()).root, folder)


def _tensor(name: str, entry: Mapping[str, Any], places: Sequence[Place]) -> TensorInfo:
    properties, dtype = entry.get("properties"), "float32"
    if isinstance(properties, Object):  # a dataclass whose state is a tuple: dtype first
        state = properties.get("state", properties.get("dtype"))
        dtype = brief(state[0] if isinstance(state, (list, tuple)) and state else state)
    storage = None
    if len(places) == 1:
        _, file, offset, length = places[0]
        storage = Storage(file, f"{file.name} at {offset}", -1, length)
    kind = f"in {len(places)} chunks" if len(places) > 1 else "tensor"
    shape, _, _ = layout(entry["size"])
    return TensorInfo(name, dtype.removeprefix("torch."), shape, storage, kind=kind)


def _places(root: Any, folder: Path) -> list[Place]:
    """The keys of ``storage_data`` are records of (fqn, offset, index), so the stubs are read."""
    found: list[Place] = []
    data = _state(root).get("storage_data")
    for key, info in data.items() if isinstance(data, dict) else ():
        name, place = _state(key).get("fqn"), _state(info)
        path, offset, length = (place.get(each) for each in ("relative_path", "offset", "length"))
        if type(path) is str and "/" not in path and type(offset) is int and type(length) is int:
            found.append(Place(brief(name, 1000), folder / path, offset, length))
    return found


def _state(call: Any) -> dict[str, Any]:
    return next((each for each in getattr(call, "states", ()) if isinstance(each, dict)), {})


def _nested(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Tensors under the first part of their names: ``model.head.weight`` under ``model``."""
    made: dict[str, Any] = {}
    for name, info in tensors.items():
        head, _, rest = name.partition(".")
        if not rest:
            made[head] = info
        elif isinstance(inner := made.setdefault(head, {}), dict):
            inner[rest] = info
    return made


def _missing(places: Sequence[Place]) -> list[str]:
    """The files that are not there, or end before what lies in them."""
    ends: dict[Path, int] = {}
    for place in places:
        ends[place.file] = max(ends.get(place.file, 0), place.offset + place.length)
    sizes = {file: file.stat().st_size if file.is_file() else None for file in sorted(ends)}
    return [
        f"{file.name} is missing"
        if size is None
        else f"{file.name} is cut short: {size} of {ends[file]} bytes"
        for file, size in sizes.items()
        if size is None or size < ends[file]
    ]
