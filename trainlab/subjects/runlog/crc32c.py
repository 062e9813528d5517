"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of many records at once, masked as TFRecord files store it."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["masked_crc32c"]

_POLYNOMIAL = 0x82F63B78  # reflected
_ROWS_AT_ONCE = 4096  # rows whose bytes stay in the processor's cache while their columns are walked


def masked_crc32c(rows: np.ndarray) -> np.ndarray:
    """The masked checksum of every row.

    A checksum is linear: it is the xor of what each byte contributes from its place. So one table per place is
    looked up for all rows together, about 1 ns a byte where a loop in Python takes 80.

    Args:
        rows: (record, byte) uint8.

    Returns:
        (record,) uint32.
    """
    count, length = rows.shape
    tables, empty = _tables(length)
    result = np.full(count, empty, np.uint32)
    if count < length:
        places = np.arange(length)
        for index, row in enumerate(rows):
            result[index] ^= np.bitwise_xor.reduce(tables[places, row])
    else:
        for start in range(0, count, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            for place in range(length):
                result[part] ^= tables[place].take(rows[part, place])
    return ((result >> np.uint32(15)) | (result << np.uint32(17))) + np.uint32(0xA282EAD8)


@cache
def _tables(length: int) -> tuple[np.ndarray, np.uint32]:
    """What a byte contributes, (place, byte) uint32, and the checksum of ``length`` zero bytes."""
    step = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        step = np.where(step & 1, (step >> 1) ^ np.uint32(_POLYNOMIAL), step >> 1)
    tables = np.empty((length, 256), np.uint32)
    state = np.uint32(0xFFFFFFFF)
    following = step
    for place in reversed(range(length)):
        tables[place] = following
        following = step[following & 0xFF] ^ (following >> 8)
        state = step[state & 0xFF] ^ (state >> np.uint32(8))
    return tables, state ^ np.uint32(0xFFFFFFFF)
