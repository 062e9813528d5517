"""What is known of a tensor without reading it: its name, dtype and shape, and where its bytes lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["ITEM_BITS", "SAFETENSORS", "STORAGES", "Storage", "TensorInfo", "contiguous", "layout"]

LARGEST = 2**63  # what torch counts elements and bytes with
DIMENSIONS = 64

# bits of one element, by torch's names
ITEM_BITS = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "complex128": 128, "complex64": 64, "complex32": 32,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8, "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8,
    "float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e5m2": 8, "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8,
    "float4_e2m1fn_x2": 8, "quint8": 8, "qint8": 8, "qint32": 32, "quint4x2": 8, "quint2x4": 8, "bits8": 8, "bits16": 16,
    "bits1x8": 8, "bits2x4": 8, "bits4x2": 8, "int4": 8, "uint4": 8, "int1": 8, "int2": 8, "int3": 8, "int5": 8, "int6": 8,
    "int7": 8, "uint1": 8, "uint2": 8, "uint3": 8, "uint5": 8, "uint6": 8, "uint7": 8,
}  # fmt: skip

# the classes that torch names in a storage's reference
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexDoubleStorage": "complex128", "ComplexFloatStorage": "complex64",
    "QUInt8Storage": "quint8", "QInt8Storage": "qint8", "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4", "UntypedStorage": "uint8",
}  # fmt: skip

# https://github.com/huggingface/safetensors: safetensors/src/tensor.rs, enum Dtype
SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that makes each of thousands twice as slow to make
class Storage:
    """A run of bytes in a file that one tensor or several look at.

    Attributes:
        path: The file.
        record: The archive's record, ``data/12``; "" where the file has none.
        at: The offset of its bytes in the file; of the record's local header where ``boxed``; -1 where the
            bytes are in no file (a meta tensor) or lie compressed.
        boxed: Is there a zip local header to skip?
        nbytes: How long it is.
        device: Where the tensor lived when it was saved.
        crc: CRC-32 of the bytes as the archive has it; None where it has none.
        text: Are the bytes written as text, byte n as code point n in UTF-8 (pickled numpy arrays are)?
        big: Is the most significant byte first?
        data: The bytes themselves, of a small array inside the pickle; None where they are in the file.
    """

    path: Path
    record: str
    at: int
    nbytes: int
    boxed: bool = False
    device: str = "cpu"
    crc: int | None = None
    text: bool = False
    big: bool = False
    data: bytes | None = None


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that makes each of thousands twice as slow to make
class TensorInfo:
    """One tensor of a checkpoint.

    Attributes:
        name: Its path in the file, dotted: ``model.head.weight``.
        dtype: torch's name for it, ``float32``.
        shape: Its shape.
        stride: Steps in elements along each axis; None where it is contiguous.
        offset: Where it begins in its storage, in elements.
        storage: Its bytes; None where the file holds none (meta, or a tensor made of others).
        kind: ``tensor``, ``parameter``, ``numpy``, ``quantized``, ``meta`` or the name of a subclass.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage: Storage | None
    offset: int = 0
    stride: tuple[int, ...] | None = None
    kind: str = "tensor"

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take; less than its storage's where it is a view."""
        return self.numel * ITEM_BITS.get(self.dtype, 0) // 8

    @property
    def crc(self) -> int | None:
        """CRC-32 of the storage that it lies in."""
        return self.storage.crc if self.storage else None

    @property
    def where(self) -> str:
        """The record or the offset at which its bytes lie."""
        if self.storage is None:
            return ""
        return self.storage.record or f"byte {self.storage.at}"

    @property
    def whole(self) -> bool:
        """Is it its whole storage, in order?"""
        return (
            self.storage is not None
            and self.stride is None
            and self.offset == 0
            and self.nbytes == self.storage.nbytes
        )

    def reach(self) -> int:
        """The bytes of its storage that it needs, from the storage's start."""
        count = math.prod(self.shape)
        if count and self.stride is not None:
            count = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (self.offset + count) * ITEM_BITS.get(self.dtype, 0) // 8 if count else 0

    def __str__(self) -> str:
        return f"tensor {self.dtype} {list(self.shape)}"


@lru_cache(4096)
def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor that lies in order, last axis fastest, in elements."""
    steps = [1]
    for size in reversed(shape[1:]):
        steps.append(steps[-1] * max(size, 1))
    return tuple(reversed(steps[: len(shape)]))


Layout = tuple[tuple[int, ...], tuple[int, ...] | None, int]


def layout(shape: Iterable[int], stride: Iterable[int] | None = None, offset: int = 0) -> Layout:
    """Shape, stride and offset as a `TensorInfo` has them: the stride is None where the tensor lies in order.

    Raises:
        ValueError: No tensor lies so. Negative steps would lead out of the memory, huge sizes take for ever to multiply,
            and a nested tuple to hash.
    """
    shape, stride = tuple(shape), None if stride is None else tuple(stride)
    numbers = (*shape, *(stride or ()), offset)
    if len(numbers) > 2 * DIMENSIONS or not {int}.issuperset(map(type, numbers)):
        raise ValueError("a size, stride or offset that is no number")
    return _layout(shape, stride, offset)


@lru_cache(4096)
def _layout(shape: tuple[int, ...], stride: tuple[int, ...] | None, offset: int) -> Layout:
    total = math.prod(each or 1 for each in shape)
    if min((*shape, *(stride or ()), offset)) < 0 or max(total, offset, *(stride or ())) >= LARGEST:
        raise ValueError("a size, stride or offset that no tensor has")
    if stride is not None and len(stride) != len(shape):
        raise ValueError("not a stride for each size")
    return shape, None if stride == contiguous(shape) else stride, offset
