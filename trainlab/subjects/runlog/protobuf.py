"""Walk the fields of a protobuf message without its schema (protobuf.dev, "Encoding")."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["WrongMessageError", "fields", "signed", "varint"]

VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5  # how a field is stored


class WrongMessageError(ValueError):
    """The bytes are no protobuf message; readers of files catch it and note the record."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned integer at ``at``, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WrongMessageError(f"no integer ends before byte {end}")


def signed(value: int) -> int:
    """The int64 that a varint's unsigned value stands for."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """The fields of the message ``data[start:end]``, in order.

    Yields:
        The field's number, where its content starts and where it ends; an integer is still a varint there.

    Raises:
        WrongMessageError: If a field reaches past the end or is stored in no known way.
    """
    end = len(data) if end is None else end
    while start < end:
        key, start = varint(data, start, end)
        stored = key & 7
        if stored == COUNTED:
            size, start = varint(data, start, end)
            stop = start + size
        elif stored == VARINT:
            _, stop = varint(data, start, end)
        elif stored == EIGHT_BYTES:
            stop = start + 8
        elif stored == FOUR_BYTES:
            stop = start + 4
        else:
            raise WrongMessageError(f"field {key >> 3} at byte {start} is stored in the unknown way {stored}")
        if stop > end:
            raise WrongMessageError(f"field {key >> 3} ends at byte {stop} of {end}")
        yield key >> 3, start, stop
        start = stop
