"""The bytes of a tensor, read from where they lie; numpy is needed only for whole arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.arrays import unpack_values
from trainlab.subjects.checkfile.tensors import ITEM_BITS, Storage, TensorInfo
from trainlab.subjects.checkfile.wrong import damaged, to_one_file
from trainlab.subjects.checkfile.zipped import LOCAL, local_size

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NUMBERS", "PIECE", "Reader"]

PIECE = 4 * 2**20  # bytes read at a time

# torch's dtypes as numpy has them; those that numpy lacks are read as bits
_NUMPY = {
    "float64": "f8", "float32": "f4", "float16": "f2", "complex128": "c16", "complex64": "c8", "int64": "i8", "int32": "i4",
    "int16": "i2", "int8": "i1", "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "?",
}  # fmt: skip
NUMBERS = frozenset({*_NUMPY, "bfloat16"})  # the dtypes that `Reader.array` gives as numbers


class Reader:
    """Reads tensors; keeps the files open until it is closed, or used in a ``with``."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._places: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def place(self, storage: Storage) -> tuple[int, int]:
        """The open file and the offset of a storage's first byte.

        Raises:
            SubjectError: Its bytes are in no file that is read here, or not where they should be.
        """
        what = storage.record or "a tensor"
        if storage.at < 0 and storage.path.suffix == ".distcp":
            raise SubjectError(
                f"{storage.path} is of torch.distributed.checkpoint, whose tensors are listed and verified, but not read",
                fix=to_one_file(storage.path.parent),
            )
        if storage.at < 0:
            raise damaged(storage.path, f"{what} is compressed, or its bytes were never written")
        file = self._files.get(storage.path)
        if file is None:
            file = self._files[storage.path] = os.open(storage.path, os.O_RDONLY)
        if not storage.boxed:
            return file, storage.at
        known = self._places.get((file, storage.at))
        if known is None:
            size = local_size(os.pread(file, LOCAL.size, storage.at))
            if not size:
                raise damaged(storage.path, f"record {what} does not lie where the directory says")
            known = self._places[file, storage.at] = storage.at + size
        return file, known

    def pieces(self, storage: Storage, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
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
            piece = os.pread(file, min(PIECE, stop - start), base + start)
            if not piece:
                raise damaged(storage.path, f"{storage.record or 'a tensor'} is not whole", cut=True)
            start += len(piece)
            yield piece

    def raw(self, info: TensorInfo) -> bytes:
        """The bytes that a tensor reaches, from its first element to its last.

        Raises:
            SubjectError: They are not all there.
        """
        storage = info.storage
        if storage is None or info.dtype not in ITEM_BITS:
            raise SubjectError(f"the {info} {info.name} has no bytes that can be read", fix="leave it out")
        start, stop = info.offset * ITEM_BITS[info.dtype] // 8, info.reach()
        if storage.text:
            try:
                text = b"".join(self.pieces(storage)).decode("utf-8", "surrogatepass")
                raw = text.encode("latin-1")[start:stop]
            except UnicodeError:
                raise damaged(
                    storage.path, f"the bytes of {info.name} are not the text they were written as"
                ) from None
        else:
            raw = b"".join(self.pieces(storage, start, stop))
        if len(raw) < stop - start:
            raise damaged(storage.path, f"the tensor {info.name} reaches beyond its storage")
        return raw

    def array(self, info: TensorInfo) -> np.ndarray:
        """A tensor as a read-only array; bfloat16 as float32, other dtypes that numpy lacks as their bits."""
        import numpy as np

        order = ">" if info.storage and info.storage.big else "<"
        raw = self.raw(info)
        flat = np.frombuffer(raw, order + _NUMPY.get(info.dtype, f"u{ITEM_BITS[info.dtype] // 8}"))
        if info.dtype == "bfloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        if info.stride is None:
            return flat[: info.numel].reshape(info.shape)
        steps = [step * flat.itemsize for step in info.stride]
        return np.lib.stride_tricks.as_strided(flat, info.shape, steps, writeable=False)

    def scalar(self, info: TensorInfo) -> Any:
        """The value of a tensor with one element, without numpy; None where it cannot be read."""
        if info.numel != 1 or info.storage is None:
            return None
        try:
            raw = self.raw(info)
        except (SubjectError, OSError):
            return None
        values = unpack_values(raw, info.dtype, big=info.storage.big)
        return values[0] if values else None
