"""safetensors: read its header, check its structure.

Eight bytes of length, a JSON header, the tensors one after the other without a gap. There is no checksum in it.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.tensors import ITEM_BITS, SAFETENSORS, Storage, TensorInfo, layout
from trainlab.subjects.checkfile.wrong import damaged

__all__ = ["read_header", "read_safetensors"]

HEADER_LIMIT = 100_000_000  # the format's own limit


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header and the offset at which the tensors begin.

    Raises:
        SubjectError: The header is cut short or no JSON.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_LIMIT:
            raise damaged(path, f"its header claims {length} bytes")
        raw = file.read(length)
    if len(raw) < length:
        raise damaged(path, f"its header has {len(raw)} of {length} bytes", cut=True, size=size)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a JSON object")
    return header, 8 + length


def read_safetensors(path: Path) -> Content:
    """Every tensor and the metadata of a safetensors file."""
    header, base = read_header(path)
    size = path.stat().st_size
    content = Content("safetensors", tree={})
    metadata = header.pop("__metadata__", None)
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        try:
            (begin, end), _, _ = layout(entry["data_offsets"])
            shape, _, _ = layout(entry["shape"])
            dtype = SAFETENSORS.get(entry["dtype"], str(entry["dtype"]))
        except (TypeError, KeyError, ValueError):
            content.notes.append(f"{name}: its entry in the header cannot be read")
            continue
        info = TensorInfo(name, dtype, shape, Storage(path, "", base + begin, end - begin))
        if dtype in ITEM_BITS and info.nbytes != end - begin:
            content.notes.append(f"{name} has {end - begin} bytes where its shape wants {info.nbytes}")
        content.tensors[name] = content.tree[name] = info
        spans.append((begin, end))
    if isinstance(metadata, dict):
        content.tree["__metadata__"] = metadata
    content.notes += _gaps(spans)
    end = base + max((each for _, each in spans), default=0)
    if end > size:
        content.cut = True
        missing = sum(base + each > size for _, each in spans)
        content.notes.append(f"cut short: {missing} of {len(spans)} tensors are not whole")
    elif end < size:
        content.notes.append(f"{size - end} bytes follow the last tensor")
    return content


def _gaps(spans: list[tuple[int, int]]) -> Iterator[str]:
    pos = 0
    for begin, end in sorted(spans):
        if begin != pos or end < begin:
            yield f"the tensors {'overlap' if begin < pos else 'leave a gap'} at byte {min(begin, pos)} of the data"
            return
        pos = end
