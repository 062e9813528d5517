"""numpy's pickles: dtypes, scalars and arrays, decoded without numpy."""

# ruff: noqa: ARG001 - every decoder is called alike

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.stubs import Blob, Call, Name, brief
from trainlab.subjects.checkfile.tensors import TensorInfo, contiguous, layout

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.plain import Walk

__all__ = ["ARRAYS", "latin", "unpack_values"]

SHOWN = 16  # elements; a longer array is shown by its dtype and shape
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
_NAMES = {"?": "bool", "b1": "bool", "O": "object", "O8": "object"}

# struct's letters, for values that are read one by one
_FORMS = {
    "float64": "d", "float32": "f", "float16": "e", "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q",
    "uint32": "I", "uint16": "H", "uint8": "B", "bool": "?",
}  # fmt: skip


def unpack_values(raw: bytes, dtype: str, *, big: bool = False) -> list[Any]:
    """Numbers from their bytes; an unknown dtype gives none."""
    order = ">" if big else "<"
    if dtype == "bfloat16":  # the upper half of a float32
        halves = [raw[at : at + 2] for at in range(0, len(raw) - 1, 2)]
        raw = b"".join(each + b"\0\0" if big else b"\0\0" + each for each in halves)
    form = _FORMS.get("float32" if dtype == "bfloat16" else dtype)
    return list(struct.unpack_from(f"{order}{len(raw) // struct.calcsize(form)}{form}", raw)) if form else []


def latin(value: Any) -> Any:
    """The bytes that a value stands for, where it does: protocol 2 writes them as calls with text."""
    while isinstance(value, Call) and getattr(value.of, "name", "") in ("encode", "bytearray", "bytes"):
        value = value.args[0] if value.args else b""
    return value.encode("latin-1") if isinstance(value, str) else value


def _dtype_of(call: Any) -> tuple[str, bool]:
    """Torch's name of a numpy dtype, and whether it is big-endian; the code itself where torch has no such type."""
    if isinstance(call, Name):  # a scalar type instead of a dtype
        return call.name, False
    code = brief(call.args[0])
    state = call.states[-1] if call.states else ()
    big = type(state) is tuple and state[1:2] == (">",)
    if re.fullmatch(r"[fiuc]\d{1,2}", code):
        return f"{_KINDS[code[0]]}{int(code[1:]) * 8}", big
    return _NAMES.get(code, code), big


def _array_of(walk: Walk, path: str, dtype: Any, shape: Any, data: Any, *, fortran: bool) -> Any:
    name, big = _dtype_of(dtype)
    sizes = layout(shape)[0]
    raw = latin(data)
    info = TensorInfo(path, name, sizes, None, kind="numpy")
    if isinstance(raw, Blob) or (isinstance(raw, bytes) and info.numel > SHOWN):
        info.stride = layout(sizes, reversed(contiguous(sizes[::-1])))[1] if fortran else None
        info.storage = walk.inline(raw, big)
        return walk.note(info)
    if isinstance(raw, bytes):
        values = unpack_values(raw, name, big=big)
        return (values if sizes else values[0]) if values else f"array {name} {sizes}"
    return {"array": name, "shape": sizes, "items": walk.plain(raw, path)}  # of Python objects


def _array(walk: Walk, call: Call, path: str) -> Any:
    """``_reconstruct(ndarray, (0,), b"b")`` and a state: (version, shape, dtype, fortran, data)."""
    if not call.states:
        return walk.instance("numpy.ndarray", (), call, path)
    *_, shape, dtype, fortran, data = call.states[-1]
    return _array_of(walk, path, dtype, shape, data, fortran=bool(fortran))


def _from_buffer(walk: Walk, call: Call, path: str) -> Any:
    data, dtype, shape, order = call.args[:4]
    return _array_of(walk, path, dtype, shape, data, fortran=order == "F")


def _scalar(walk: Walk, call: Call, path: str) -> Any:
    name, big = _dtype_of(call.args[0])
    raw = latin(call.args[1])
    values = unpack_values(raw, name, big=big) if isinstance(raw, bytes) else []
    return values[0] if values else f"numpy {name}"


def _dtype(walk: Walk, call: Call, path: str) -> Any:
    return f"dtype({_dtype_of(call)[0]})"


_CORES = ("numpy.core", "numpy._core")

ARRAYS: dict[tuple[str, str], Callable[[Walk, Call, str], Any]] = {
    **{(f"{core}.multiarray", "_reconstruct"): _array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
    ("numpy", "dtype"): _dtype,
}
