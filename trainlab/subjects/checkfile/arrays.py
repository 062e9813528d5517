"""numpy's pickles: dtypes, scalars and arrays, decoded without numpy."""

# ruff: noqa: ARG001 - every decoder is called alike

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.stubs import Blob, Call, Name
from trainlab.subjects.checkfile.tensors import TensorInfo

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.plain import Walk

__all__ = ["ARRAYS", "FORMS", "unpack_values"]

SHOWN = 16  # elements; a longer array is shown by its dtype and shape
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
_NAMES = {"?": "bool", "b1": "bool", "O": "object", "O8": "object"}

# struct's letters, for values that are read one by one
FORMS = {
    "float64": "d", "float32": "f", "float16": "e", "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q",
    "uint32": "I", "uint16": "H", "uint8": "B", "bool": "?",
}  # fmt: skip


def unpack_values(raw: bytes, dtype: str, *, big: bool = False) -> list[Any]:
    """Numbers from their bytes; bfloat16 by way of float32, an unknown dtype gives none."""
    order = ">" if big else "<"
    if dtype == "bfloat16":
        halves = struct.unpack(f"{order}{len(raw) // 2}H", raw)
        return list(
            struct.unpack(
                f"{order}{len(halves)}f",
                struct.pack(f"{order}{len(halves)}I", *(each << 16 for each in halves)),
            )
        )
    form = FORMS.get(dtype)
    if form is None:
        return []
    count = len(raw) // struct.calcsize(form)
    return list(struct.unpack_from(f"{order}{count}{form}", raw))


def _dtype_of(call: Any) -> tuple[str, bool]:
    """Torch's name of a numpy dtype, and whether it is big-endian; the code itself where torch has no such type."""
    if isinstance(call, Name):  # a scalar type instead of a dtype
        return call.name, False
    code = str(call.args[0])
    order = (
        call.states[-1][1]
        if call.states and isinstance(call.states[-1], tuple) and len(call.states[-1]) > 1
        else "<"
    )
    if code in _NAMES:
        return _NAMES[code], False
    if re.fullmatch(r"[fiuc]\d+", code):
        return f"{_KINDS[code[0]]}{int(code[1:]) * 8}", order == ">"
    return code, order == ">"


def _bytes(value: Any) -> Any:
    """The bytes of an array: written as they are, or as text by protocol 2; a list where they are Python objects."""
    if (
        isinstance(value, Call)
        and isinstance(value.of, Name)
        and value.of.name in ("encode", "bytearray", "bytes")
        and value.args
    ):
        value = value.args[0]
    return value.encode("latin-1") if isinstance(value, str) else value


def _array_of(walk: Walk, path: str, dtype: Any, shape: Any, data: Any, *, fortran: bool, depth: int) -> Any:
    name, big = _dtype_of(dtype)
    shape = tuple(int(each) for each in shape)
    raw = _bytes(data)
    if isinstance(raw, Blob) or (isinstance(raw, (bytes, bytearray)) and math.prod(shape) > SHOWN):
        stride = (
            tuple(math.prod(shape[:axis]) for axis in range(len(shape)))
            if fortran and len(shape) > 1
            else None
        )
        storage = walk.inline(raw if isinstance(raw, Blob) else bytes(raw), big)
        return walk.note(TensorInfo(path, name, shape, storage, 0, stride, "numpy"))
    if isinstance(raw, (bytes, bytearray)):
        values = unpack_values(bytes(raw), name, big=big)
        return (values[0] if not shape else values) if values else f"array {name} {shape}"
    return {"array": name, "shape": shape, "items": walk.plain(raw, path, depth + 1)}  # of Python objects


def _array(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """``_reconstruct(ndarray, (0,), b"b")`` and a state: (version, shape, dtype, fortran, data)."""
    if not call.states:
        return walk.instance("numpy.ndarray", (), call, path, depth)
    *_, shape, dtype, fortran, data = call.states[-1]
    return _array_of(walk, path, dtype, shape, data, fortran=bool(fortran), depth=depth)


def _from_buffer(walk: Walk, call: Call, path: str, depth: int) -> Any:
    data, dtype, shape, order = call.args[:4]
    return _array_of(walk, path, dtype, shape, data, fortran=order == "F", depth=depth)


def _scalar(walk: Walk, call: Call, path: str, depth: int) -> Any:
    dtype, data = call.args[:2]
    name, big = _dtype_of(dtype)
    raw = _bytes(data)
    values = unpack_values(bytes(raw), name, big=big) if isinstance(raw, (bytes, bytearray)) else []
    return values[0] if values else f"numpy {name}"


def _dtype(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return f"dtype({_dtype_of(call)[0]})"


_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")

ARRAYS: dict[tuple[str, str], Callable[[Walk, Call, str, int], Any]] = {
    **{(core, "_reconstruct"): _array for core in _CORES},
    **{(core, "scalar"): _scalar for core in _CORES},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "dtype"): _dtype,
}
