"""Writing checkpoints without torch: where each tensor goes in a safetensors file, or in an archive that torch loads."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainlab.subjects.checkfile.tensors import SAFETENSORS, STORAGES, TensorInfo, contiguous
from trainlab.subjects.checkfile.zipped import CENTRAL, DESCRIPTOR, END, END64, LOCAL, LOCATOR

__all__ = ["Target", "plan_safetensors", "plan_torch"]

VALUES = 2_000_000  # plain values that are written beside the tensors; a tree with more is written flat
ALIGNMENT = 64  # bytes; torch maps a record only where it begins at a multiple of that
_CODES = {name: code for code, name in SAFETENSORS.items()}
_CLASSES = {name: kind for kind, name in STORAGES.items() if kind != "UntypedStorage"}


@dataclass(frozen=True)
class Target:
    """A file as it will be.

    Attributes:
        head: Its first bytes, up to the first tensor.
        places: The offset of each tensor.
        size: Its bytes.
        tail: What is written when the CRC of each tensor is known: offsets and bytes.
    """

    head: bytes
    places: Mapping[str, int]
    size: int
    tail: Callable[[Mapping[str, int]], Iterator[tuple[int, bytes]]]


def plan_safetensors(tensors: Mapping[str, TensorInfo]) -> Target:
    """A safetensors file: length, JSON, tensors without a gap."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pos = 0
    for name, info in tensors.items():
        span = [pos, pos + info.nbytes]
        header[name] = {"dtype": _CODES[info.dtype], "shape": list(info.shape), "data_offsets": span}
        pos += info.nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    base = 8 + len(raw)
    places = {name: base + each["data_offsets"][0] for name, each in header.items() if name != "__metadata__"}
    return Target(len(raw).to_bytes(8, "little") + raw, places, base + pos, lambda _: iter(()))


def plan_torch(tree: Any, tensors: Mapping[str, TensorInfo]) -> Target:
    """An archive as torch.save writes it: ``data.pkl``, ``byteorder``, a record per tensor, ``version``."""
    import zlib

    pickle = _Pickle(tensors)
    raw = pickle.of(tree)
    places: dict[str, int] = {}
    # record, header's offset, size, CRC or the tensor that has it
    entries: list[tuple[str, int, int, int | str]] = []
    pieces: list[tuple[int, bytes]] = []
    pos = 0

    def add(record: str, size: int, content: bytes | None, name: str = "") -> None:
        nonlocal pos
        header, at = _local(record, pos)
        pieces.append((pos, header))
        entries.append((record, pos, size, zlib.crc32(content) if content is not None else name))
        if content is not None:
            pieces.append((at, content))
        else:
            places[name] = at
        pos = at + size + (DESCRIPTOR if size > 0xFFFFFFFF else 16)

    add("archive/data.pkl", len(raw), raw)
    add("archive/byteorder", 6, b"little")
    for number, name in enumerate(pickle.order):
        add(f"archive/data/{number}", tensors[name].nbytes, None, name)
    add("archive/version", 2, b"3\n")
    directory = pos

    def tail(sums: Mapping[str, int]) -> Iterator[tuple[int, bytes]]:
        yield from pieces
        made = b""
        for record, header, size, crc in entries:
            value = sums[crc] if isinstance(crc, str) else crc
            at = header + len(_local(record, header)[0])
            form = "<4sIQQ" if size > 0xFFFFFFFF else "<4sIII"
            yield at + size, struct.pack(form, b"PK\x07\x08", value, size, size)
            made += _central(record, header, size, value)
        yield directory, made + _end(len(entries), directory, len(made))

    ends = sum(len(_central(record, header, size, 0)) for record, header, size, _ in entries)
    return Target(b"", places, directory + ends + END64.size + LOCATOR.size + END.size, tail)


def _local(record: str, header: int) -> tuple[bytes, int]:
    """A local header, padded so that the content is aligned, and the content's offset."""
    name = record.encode()
    pad = -(header + LOCAL.size + len(name) + 4) % ALIGNMENT
    fixed = LOCAL.pack(0x04034B50, 0, 0x0808, 0, 0, 0, 0, 0, 0, len(name), pad + 4)
    raw = fixed + name + struct.pack("<2sH", b"FB", pad) + b"Z" * pad
    return raw, header + len(raw)


def _central(record: str, header: int, size: int, crc: int) -> bytes:
    name = record.encode()
    wide = [value for value in (size, size, header) if value >= 0xFFFFFFFF]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    short, place = min(size, 0xFFFFFFFF), min(header, 0xFFFFFFFF)
    fields = (0x02014B50, 0, 0, 0x0808, 0, 0, 0, crc, short, short, len(name), len(extra), 0, 0, 0, 0, place)
    return CENTRAL.pack(*fields) + name + extra


def _end(count: int, offset: int, size: int) -> bytes:
    wide = END64.pack(0x06064B50, END64.size - 12, 0x031E, 45, 0, 0, count, count, size, offset)
    locator = LOCATOR.pack(0x07064B50, 0, offset + size, 1)
    few, short, place = min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(offset, 0xFFFFFFFF)
    return wide + locator + END.pack(0x06054B50, 0, 0, few, few, short, place, 0)


class _Pickle:
    """Pickles plain values and tensors, protocol 2, with torch's own names for the tensors."""

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        self.tensors = tensors
        self._number: dict[str, int] = {}
        self._left = VALUES

    @property
    def order(self) -> list[str]:
        """The tensors that were written, in the order of their records."""
        return list(self._number)

    def of(self, tree: Any) -> bytes:
        """The pickle of a tree; tensors that are not saved are left out of it, classes become dicts."""
        raw = self._value(tree, 0)
        if self._left < 0 or raw is None or len(self._number) < len(self.tensors):
            self._number, self._left = {}, VALUES
            raw = self._value(dict(self.tensors), 0)  # not all can be reached as plain values: flat, by name
        return b"\x80\x02" + (raw or b"}") + b"."

    def _value(self, value: Any, depth: int) -> bytes | None:
        if isinstance(value, TensorInfo):
            return self._tensor(value) if value.name in self.tensors else None
        self._left -= 1
        if depth > 100 or self._left < 0:
            return b"N"
        if isinstance(value, Mapping):
            inner = b"".join(
                key + item for name, each in value.items()
                if (key := self._value(name, depth + 1)) is not None and (item := self._value(each, depth + 1)) is not None
            )  # fmt: skip
            return b"}(" + inner + b"u"
        if isinstance(value, (list, tuple)):
            items = b"".join(
                self._value(each, depth + 1) or b"N" for each in value
            )  # a lost tensor keeps its place
            return b"](" + items + b"e" if isinstance(value, list) else b"(" + items + b"t"
        return _scalar(value)

    def _tensor(self, info: TensorInfo) -> bytes:
        number = self._number.setdefault(info.name, len(self._number))
        kind = _CLASSES.get(info.dtype)
        version, dtype, count = b"2", b"", info.numel
        name = f"torch\n{kind}"
        if kind is None:  # of no class of its own: bytes, and the dtype beside them
            version, dtype, count = b"3", f"ctorch\n{info.dtype}\n".encode(), info.nbytes
            name = "torch.storage\nUntypedStorage"
        sizes, steps = (
            b"(" + b"".join(map(_integer, each)) + b"t" for each in (info.shape, contiguous(info.shape))
        )
        storage = (
            _text("storage") + f"c{name}\n".encode() + _text(str(number)) + _text("cpu") + _integer(count)
        )
        parts = b"((" + storage + b"tQK\x00" + sizes + steps + b"\x89ccollections\nOrderedDict\n)R" + dtype
        return b"ctorch._utils\n_rebuild_tensor_v" + version + b"\n" + parts + b"tR"


def _scalar(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return b"c_codecs\nencode\n(" + _text(value.decode("latin-1")) + _text("latin1") + b"tR"
    return _text(value if isinstance(value, str) else repr(value))


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    # weights-only loading reads no LONG4
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else _text(str(value))


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw
