"""torch.distributed.checkpoint: a pickled ``.metadata`` and files in which each tensor is an archive of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile.content import Content, Storages
from trainlab.subjects.checkfile.inert import read_pickle
from trainlab.subjects.checkfile.plain import Object
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo
from trainlab.subjects.checkfile.torchzip import read_zip
from trainlab.subjects.checkfile.wrong import damaged
from trainlab.subjects.checkfile.zipped import Archive

__all__ = ["read_distributed", "storage_files"]


VALUE = 100_000  # bytes; what is longer and no tensor is not read


def storage_files(folder: Path) -> list[Path]:
    """The files that hold its tensors."""
    return sorted(folder.glob("*.distcp")) or sorted(folder.glob("*.safetensors"))


def read_distributed(folder: Path) -> Content:
    """Every tensor of a folder, by its metadata alone.

    The pickle is `torch.distributed.checkpoint.metadata.Metadata`: a dict of names to sizes and chunks, and one of
    (name, offset) to (file, offset, length). ``tree["places"]`` has those as name → (file, offset, length).
    """
    raw = (folder / ".metadata").read_bytes()
    document = read_pickle(raw)
    content = Content("torch.distributed", tree={})
    metadata = content.add(document, Storages(folder / ".metadata", 0)).tree
    if not isinstance(metadata, Object) or not isinstance(metadata.get("state_dict_metadata"), Mapping):
        raise damaged(folder / ".metadata", "it does not say what is in the checkpoint")
    places = _places(document.root)
    content.tensors = {}
    for name, entry in metadata["state_dict_metadata"].items():
        if isinstance(entry, Object) and "size" in entry:
            _add_tensor(content, folder, str(name), entry, places)
    content.tree = _nested(content.tensors) | {"places": places}
    _say_missing(content, folder, places)
    if not content.cut:
        _add_values(content, folder, places)
    return content


def _add_tensor(
    content: Content,
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    places: Mapping[str, tuple[str, int, int]],
) -> None:
    properties = entry.get("properties")
    dtype = "float32"
    if isinstance(properties, Object):  # a dataclass whose state is a tuple: dtype first
        state = properties.get("state", properties.get("dtype"))
        dtype = str(state[0] if isinstance(state, (list, tuple)) and state else state)
    chunks = entry.get("chunks")
    keys = [each for each in places if each == name or each.startswith(f"{name}#")]
    storage = None
    if len(keys) == 1:
        file, offset, length = places[keys[0]]
        storage = Storage(folder / file, f"{file} at {offset}", -1, length)
    shape = tuple(each for each in entry["size"] if isinstance(each, int))
    kind = f"in {len(chunks)} chunks" if isinstance(chunks, (list, tuple)) and len(chunks) > 1 else "tensor"
    content.tensors[name] = TensorInfo(name, dtype.removeprefix("torch."), shape, storage, kind=kind)


def _places(root: Any) -> dict[str, tuple[str, int, int]]:
    """Where each tensor lies: the keys of ``storage_data`` are records of (fqn, offset, index), so the stubs are read."""
    found: dict[str, tuple[str, int, int]] = {}
    state = root.states[-1] if getattr(root, "states", ()) else {}
    data = state.get("storage_data") if isinstance(state, dict) else None
    for key, info in data.items() if isinstance(data, dict) else ():
        index, place = _fields(key), _fields(info)
        path, offset, length = place.get("relative_path"), place.get("offset"), place.get("length")
        if isinstance(path, str) and isinstance(offset, int) and isinstance(length, int) and "/" not in path:
            name = str(index.get("fqn"))
            found[name if name not in found else f"{name}#{len(found)}"] = (path, offset, length)
    return found


def _add_values(content: Content, folder: Path, places: Mapping[str, tuple[str, int, int]]) -> None:
    """Adds what is no tensor, epoch or a group's settings: small archives among the tensors' files."""
    for name, (file, offset, length) in places.items():
        if name not in content.tensors and length < VALUE and name.partition(".")[0] not in content.tensors:
            with Archive(folder / file, offset, length) as archive:
                content.tree[name] = read_zip(folder / file, archive, depth=1).tree


def _fields(call: Any) -> dict[str, Any]:
    states = getattr(call, "states", ())
    return next((each for each in states if isinstance(each, dict)), {})


def _nested(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Tensors under the first part of their names: ``model.head.weight`` under ``model``."""
    made: dict[str, Any] = {}
    for name, info in tensors.items():
        head, _, rest = name.partition(".")
        if rest:
            inner = made.setdefault(head, {})
            if isinstance(inner, dict):
                inner[rest] = info
        else:
            made[head] = info
    return made


def _say_missing(content: Content, folder: Path, places: Mapping[str, tuple[str, int, int]]) -> None:
    ends: dict[str, int] = {}
    for file, offset, length in places.values():
        ends[file] = max(ends.get(file, 0), offset + length)
    for file, end in sorted(ends.items()):
        path = folder / file
        if not path.is_file():
            content.notes.append(f"{file} is missing")
            content.cut = True
        elif path.stat().st_size < end:
            content.notes.append(f"{file} is cut short: {path.stat().st_size} of {end} bytes")
            content.cut = True
