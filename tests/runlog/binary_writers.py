"""Writes event files and `.wandb` files byte by byte, from their specifications and from nothing of the reader."""

from __future__ import annotations

import json
import struct
import zlib
from functools import cache


def remainder(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


REMAINDERS = [remainder(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """RFC 3720, byte by byte."""
    state = 0xFFFFFFFF
    for byte in data:
        state = (state >> 8) ^ REMAINDERS[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def header(size: int) -> bytes:
    length = struct.pack("<Q", size)
    return length + masked(length)


def tfrecord(message: bytes) -> bytes:
    return header(len(message)) + message + masked(message)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def nested(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def single(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def event(*values: bytes, step: int = 0, wall: float = 1.7e9) -> bytes:
    """A TFRecord with an Event; as protobuf does, a step of 0 is not written."""
    told = integer(2, step) if step else b""
    return tfrecord(double(1, wall) + told + nested(5, b"".join(nested(1, value) for value in values)))


def scalar(tag: str, value: float) -> bytes:
    return nested(1, tag) + single(2, value)


def tensor(
    tag: str, dtype: int, content: bytes, *, plugin: str = "scalars", sizes: tuple[int, ...] = ()
) -> bytes:
    """A Value with a tensor; ``content`` is the field that holds its elements."""
    shape = b"".join(nested(2, integer(1, size)) for size in sizes)
    return nested(1, tag) + nested(8, integer(1, dtype) + nested(2, shape) + content) + metadata(plugin)


def metadata(plugin: str, content: bytes = b"") -> bytes:
    return nested(9, nested(1, nested(1, plugin) + (nested(2, content) if content else b"")))


def version() -> bytes:
    return tfrecord(double(1, 1.7e9) + nested(3, "brain.Event:2"))


def wandb_file(*records: bytes) -> bytes:
    """A LevelDB log of records, in blocks of 32 KiB."""
    written = b":W&B\xe1\xbe\x00"
    for record in records:
        begun, rest = False, record
        while True:
            left = 32768 - len(written) % 32768
            if left < 7:
                written += bytes(left)
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (3 if rest else 4) if begun else (2 if rest else 1)
            body = bytes([kind]) + part
            written += struct.pack("<IH", zlib.crc32(body), len(part)) + body
            begun = True
            if not rest:
                break
    return written


def items(values: dict[str, object]) -> bytes:
    return b"".join(
        nested(1, nested(1, key) + nested(16, json.dumps(value))) for key, value in values.items()
    )


def history(values: dict[str, object]) -> bytes:
    return nested(2, items(values))


def console(text: str, *, stdout: bool = True) -> bytes:
    return nested(13, (integer(1, 1) if stdout else b"") + nested(3, text))


def run_record(config: dict[str, object]) -> bytes:
    return nested(17, nested(1, "abc123") + nested(3, "project") + nested(4, items(config)))


def ended(code: int) -> bytes:
    return nested(18, (integer(1, code) if code else b"") + integer(2, 60))
