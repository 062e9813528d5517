"""The weights of a ``.pt2`` file: raw records, described by a JSON file in the same folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile.tensors import Storage, TensorInfo, contiguous
from trainlab.subjects.checkfile.zipped import Archive

__all__ = ["exported_tensors"]

# torch/_export/serde/schema.py, ScalarType
SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip


def exported_tensors(config: Any, folder: str, path: Path, archive: Archive) -> dict[str, TensorInfo]:
    """The tensors that a ``*_config.json`` of torch.export describes.

    Args:
        config: The JSON.
        folder: The archive's folder that it lies in, ``data/weights``.
        path: The file.
        archive: The archive.
    """
    found: dict[str, TensorInfo] = {}
    records = {each.short: each for each in archive.records}
    entries = config.get("config") if isinstance(config, Mapping) else None
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        meta, record = entry.get("tensor_meta"), records.get(f"{folder}/{entry.get('path_name')}")
        if not meta or record is None or entry.get("use_pickle"):
            continue
        shape = tuple(int(each.get("as_int", -1)) for each in meta["sizes"])
        stride = tuple(int(each.get("as_int", -1)) for each in meta["strides"])
        crc = record.crc if record.crc or not record.size else None
        storage = Storage(
            path,
            record.short,
            record.header + archive.start,
            record.size,
            True,
            str(meta["device"].get("type")),
            crc,
        )
        found[name] = TensorInfo(
            name,
            SCALAR_TYPES.get(meta["dtype"], f"scalar type {meta['dtype']}"),
            shape,
            storage,
            int(meta["storage_offset"].get("as_int", 0)),
            None if stride == contiguous(shape) else stride,
            "parameter" if entry.get("is_param") else "tensor",
        )
    return found
