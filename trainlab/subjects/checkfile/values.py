"""The bytes of a tensor, read from where they lie; numpy is needed only for whole arrays."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trainlab.subjects.checkfile.arrays import unpack_values
from trainlab.subjects.checkfile.tensors import ITEM_BITS, Storage, TensorInfo
from trainlab.subjects.checkfile.wrong import damaged

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Reader"]

PIECE = 4 * 2**20  # bytes read at a time
LOCAL_SIZE = 30

# torch's dtypes as numpy has them; those that numpy lacks are read as bits
_NUMPY = {
    "float64": "f8", "float32": "f4", "float16": "f2", "complex128": "c16", "complex64": "c8", "int64": "i8", "int32": "i4",
    "int16": "i2", "int8": "i1", "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "?",
}  # fmt: skip


class Reader:
    """Reads tensors; keeps the files open until it is closed, or used in a ``with``."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._places: dict[tuple[Path, int], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def place(self, storage: Storage) -> tuple[int, int]:
        """The open file and the offset of a storage's first byte.

        Raises:
            SubjectError: Its bytes are in no file, or not where they should be.
        """
        file = self._files.get(storage.path)
        if file is None:
            file = self._files[storage.path] = os.open(storage.path, os.O_RDONLY)
        if storage.at < 0:
            raise damaged(storage.path, f"{storage.record or 'a tensor'} is compressed or was never written")
        if not storage.boxed:
            return file, storage.at
        known = self._places.get((storage.path, storage.at))
        if known is None:
            raw = os.pread(file, LOCAL_SIZE, storage.at)
            if raw[:4] != b"PK\x03\x04" or len(raw) < LOCAL_SIZE:
                raise damaged(storage.path, f"record {storage.record} does not lie where the directory says")
            name, extra = struct.unpack_from("<HH", raw, 26)
            known = self._places[storage.path, storage.at] = storage.at + LOCAL_SIZE + name + extra
        return file, known

    def pieces(
        self, storage: Storage, start: int = 0, stop: int | None = None, size: int = PIECE
    ) -> Iterator[bytes]:
        """The bytes of a storage, piece by piece.

        Raises:
            SubjectError: The file ends before the storage does.
        """
        stop = storage.nbytes if stop is None else stop
        if storage.data is not None:
            yield storage.data[start:stop]
            return
        file, base = self.place(storage)
        while start < stop:
            piece = os.pread(file, min(size, stop - start), base + start)
            if not piece:
                raise damaged(storage.path, f"{storage.record or 'a tensor'} is not whole", cut=True)
            start += len(piece)
            yield piece

    def raw(self, info: TensorInfo) -> bytes:
        """The bytes that a tensor reaches, from its first element to its last."""
        if info.storage is None:
            raise damaged(Path(info.name), "the tensor has no bytes in the file")
        if info.storage.text:
            return b"".join(self.pieces(info.storage)).decode("utf-8", "surrogatepass").encode("latin-1")
        item = ITEM_BITS.get(info.dtype, 8) // 8
        return b"".join(self.pieces(info.storage, info.offset * item, info.reach()))

    def array(self, info: TensorInfo) -> np.ndarray:
        """A tensor as a read-only array; bfloat16 as float32, other dtypes that numpy lacks as their bits."""
        import numpy as np

        order = ">" if info.storage and info.storage.big else "<"
        raw = self.raw(info)
        code = _NUMPY.get(info.dtype)
        if code is None:
            bits = ITEM_BITS.get(info.dtype, 8)
            flat = np.frombuffer(raw, f"{order}u{bits // 8}")
            flat = (flat.astype(np.uint32) << 16).view(np.float32) if info.dtype == "bfloat16" else flat
        else:
            flat = np.frombuffer(raw, f"{order}{code}")
        if info.stride is None:
            return flat[: info.numel].reshape(info.shape)
        steps = [step * flat.itemsize for step in info.stride]
        return np.lib.stride_tricks.as_strided(flat, info.shape, steps, writeable=False)

    def scalar(self, info: TensorInfo) -> Any:
        """The value of a tensor with one element, without numpy; None where it cannot be read."""
        if info.numel != 1 or info.storage is None:
            return None
        item = ITEM_BITS.get(info.dtype, 8) // 8
        try:
            if info.storage.text:
                raw = self.raw(info)[:item]
            else:
                raw = b"".join(self.pieces(info.storage, info.offset * item, (info.offset + 1) * item))
        except OSError:
            return None
        values = unpack_values(raw, info.dtype, big=info.storage.big)
        return values[0] if values else None
