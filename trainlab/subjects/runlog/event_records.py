"""One record of a TensorBoard event file: its step, wall time, scalars, texts and hyperparameters.

The messages are those of tensorboard/compat/proto: event.proto, summary.proto, tensor.proto, and of the hparams
plugin, plugin_data.proto. Images, histograms, audio and graphs are stepped over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from trainlab.subjects.runlog.protobuf import fields, signed, varint

__all__ = ["EventRecord", "Scalar", "read_record"]

_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1",
    9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
_STRING, _HALF, _BFLOAT16 = 7, 19, 14


class Scalar(NamedTuple):
    """A number under a tag, and where its bytes lie in the record (``at`` is -1 where they have no fixed width)."""

    tag: str
    value: float
    at: int
    dtype: str

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.at + np.dtype(self.dtype).itemsize


@dataclass
class EventRecord:
    """What one record tells.

    Attributes:
        wall: Seconds since 1970; 0 where not told.
        step: The step; 0 where not told, which is how step 0 is stored.
        scalars: Its numbers.
        config: Texts by tag, and hyperparameters by name.
    """

    wall: float = 0.0
    step: int = 0
    scalars: list[Scalar] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)


def read_record(data: bytes) -> EventRecord:
    """Reads one Event message; raises WrongMessageError where it is none."""
    record = EventRecord()
    for number, start, end in fields(data):
        if number == 1 and end - start == 8:
            record.wall = float(np.frombuffer(data, "<f8", 1, start)[0])
        elif number == 2:
            record.step = signed(varint(data, start, end)[0])
        elif number == 5:
            for inner, value, stop in fields(data, start, end):
                if inner == 1:
                    _read_value(data, value, stop, record)
    return record


def _read_value(data: bytes, start: int, end: int, record: EventRecord) -> None:
    tag, plugin, content, tensor, simple = "", "", (0, 0), None, None
    for number, at, stop in fields(data, start, end):
        if number == 1:
            tag = _string(data, at, stop)
        elif number == 2 and stop - at == 4:
            simple = at
        elif number == 8:
            tensor = at, stop
        elif number == 9:
            plugin, content = _plugin(data, at, stop)
    if simple is not None:
        record.scalars.append(Scalar(tag, float(np.frombuffer(data, "<f4", 1, simple)[0]), simple, "<f4"))
    elif plugin == "hparams":
        record.config.update(_hyperparameters(data, *content))
    elif tensor is not None:
        found = _one_element(data, *tensor)
        if isinstance(found, str) and plugin == "text":
            record.config[tag.removesuffix("/text_summary")] = found
        elif isinstance(found, tuple) and plugin in {"", "scalars"}:
            record.scalars.append(Scalar(tag, *found))


def _plugin(data: bytes, start: int, end: int) -> tuple[str, tuple[int, int]]:
    """The name of the plugin that a value is written for, and where the plugin's own message lies."""
    name, content = "", (0, 0)
    for number, at, stop in fields(data, start, end):
        if number == 1:
            for inner, first, last in fields(data, at, stop):
                if inner == 1:
                    name = _string(data, first, last)
                elif inner == 2:
                    content = first, last
    return name, content


def _one_element(data: bytes, start: int, end: int) -> str | tuple[float, int, str] | None:
    """A tensor's only element: a text, or a number with its place and dtype; None where it has more or none."""
    kind, size, at, stop, text = 0, 1, -1, -1, None
    floats = False
    for number, first, last in fields(data, start, end):
        if number == 1:
            kind = varint(data, first, last)[0]
        elif number == 2:
            size *= math.prod(_dimension(data, *dim[1:]) for dim in fields(data, first, last) if dim[0] == 2)
        elif number == 8:
            text = _string(data, first, last)
        elif number in {4, 5, 6, 7, 10, 11, 13, 16, 17}:
            at, stop, floats = first, last, number in {4, 5, 6}
    if size != 1:
        return None
    if kind == _STRING:
        return text
    dtype = _DTYPES.get(kind)
    if dtype is not None and floats and stop - at == np.dtype(dtype).itemsize:
        return float(np.frombuffer(data, dtype, 1, at)[0]), at, dtype
    if at < 0 or stop <= at:
        return (0.0, -1, "") if dtype is not None or kind == _BFLOAT16 else None
    bits = int.from_bytes(data[at:stop], "little") if floats else varint(data, at, stop)[0]
    if kind in {_HALF, _BFLOAT16}:
        word = np.array([bits & 0xFFFF], np.uint16)
        return float(word.view(np.float16)[0] if kind == _HALF else _wide(word)), -1, ""
    return (float(signed(bits)), -1, "") if dtype is not None and np.dtype(dtype).kind in "iub" else None


def _wide(word: np.ndarray) -> float:
    """The value of a bfloat16, which is the upper half of a float32."""
    return float((word.astype(np.uint32) << 16).view(np.float32)[0])


def _dimension(data: bytes, start: int, end: int) -> int:
    return sum(
        signed(varint(data, at, stop)[0]) for number, at, stop in fields(data, start, end) if number == 1
    )


def _hyperparameters(data: bytes, start: int, end: int) -> dict[str, object]:
    """The values that a run starts with: HParamsPluginData.session_start_info.hparams."""
    found: dict[str, object] = {}
    for number, at, stop in fields(data, start, end):
        for entry, first, last in fields(data, at, stop) if number == 3 else ():
            if entry == 1:
                name, value = "", None
                for inner, begin, finish in fields(data, first, last):
                    if inner == 1:
                        name = _string(data, begin, finish)
                    elif inner == 2:
                        value = _json_value(data, begin, finish)
                found[name] = value
    return found


def _json_value(data: bytes, start: int, end: int) -> object:
    """A google.protobuf.Value that is a number, a text or a truth."""
    for number, at, stop in fields(data, start, end):
        if number == 2 and stop - at == 8:
            return float(np.frombuffer(data, "<f8", 1, at)[0])
        if number == 3:
            return _string(data, at, stop)
        if number == 4:
            return bool(varint(data, at, stop)[0])
    return None


def _string(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")
