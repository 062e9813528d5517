"""The names that checkpoints are made of, and what a call of each would have given."""

# ruff: noqa: ARG001 - every decoder is called alike

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.arrays import ARRAYS
from trainlab.subjects.checkfile.stubs import Blob, Call, Name, safe_key
from trainlab.subjects.checkfile.tensors import TensorInfo

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.plain import Walk

__all__ = ["DECODERS"]

Decoder = Callable[["Walk", Call, str, int], Any]


# --- tensors: the rebuild functions of torch/_utils.py, argument for argument


def _tensor(walk: Walk, call: Call, path: str, depth: int) -> Any:
    storage, offset, size, stride, *_ = call.args
    return walk.tensor(path, None, size, storage, offset, stride)


def _tensor_v3(walk: Walk, call: Call, path: str, depth: int) -> Any:
    storage, offset, size, stride, _, _, dtype, *_ = call.args
    return walk.tensor(path, dtype.name, size, storage, offset, stride)


def _quantized(walk: Walk, call: Call, path: str, depth: int) -> Any:
    storage, offset, size, stride, params, *_ = call.args
    for number, each in enumerate(params):
        if isinstance(each, Call):
            walk.plain(each, f"{path}.quantizer.{number}", depth + 1)
    return walk.tensor(path, None, size, storage, offset, stride, "quantized")


def _parameter(walk: Walk, call: Call, path: str, depth: int) -> Any:
    inner = walk.plain(call.args[0], path, depth + 1) if call.args else None
    for number, state in enumerate(call.args[3:] + call.states):
        walk.plain(state, f"{path}.state{number or ''}", depth + 1)
    return walk.rename(inner, kind="parameter") if isinstance(inner, TensorInfo) else inner


def _meta(walk: Walk, call: Call, path: str, depth: int) -> Any:
    dtype, size, stride, *_ = call.args
    return walk.tensor(path, dtype.name, size, None, 0, stride, "meta")


def _wrapper(walk: Walk, call: Call, path: str, depth: int) -> Any:
    kind, dtype, size, stride, offset, *_ = call.args
    return walk.tensor(path, dtype.name, size, None, offset or 0, stride, repr(kind))


def _subclass(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """A tensor of a subclass, or one with attributes of its own: (function, class, its arguments, state)."""
    function, kind, args, state = call.args
    inner = walk.call(Call(function, args), path, depth + 1)
    if isinstance(state, (dict, tuple)) and state:
        walk.plain(state, f"{path}.state", depth + 1)
    return (
        walk.rename(inner, kind=repr(kind))
        if isinstance(inner, TensorInfo) and isinstance(kind, Name) and kind.name != "Tensor"
        else inner
    )


def _from_device(walk: Walk, call: Call, path: str, depth: int) -> Any:
    inner = walk.plain(call.args[0], path, depth + 1)
    return walk.rename(inner, kind="tensor") if isinstance(inner, TensorInfo) else inner


def _composed(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """A sparse or nested tensor: the tensors that it is made of."""
    kind = call.of.name.removeprefix("_rebuild_") if isinstance(call.of, Name) else "composed"
    parts = call.args[1] if kind == "sparse_tensor" else call.args
    names = ("indices", "values", "size", "coalesced") if kind == "sparse_tensor" and len(parts) < 5 else None
    if (
        kind == "sparse_tensor"
        and len(parts) == 4
        and isinstance(parts[2], Call)
        and hasattr(parts[2].of, "name")
        and parts[2].of.name.startswith("_rebuild")
    ):
        names = ("compressed_indices", "plain_indices", "values", "size")
    shown = {
        (names[number] if names else number): walk.plain(
            each, f"{path}.{names[number] if names else number}", depth + 1
        )
        for number, each in enumerate(parts)
    }
    return {"kind": kind, **shown}


def _size(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return tuple(call.args[0]) if call.args else ()


def _device(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return f"device({':'.join(map(str, call.args))})"


# --- Python's own


def _mapping(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """OrderedDict, defaultdict, Counter: entries, or in old pickles a list of pairs."""
    pairs: list[tuple[Any, Any]] = []
    for arg in call.args:
        if isinstance(arg, dict):
            pairs += arg.items()
        elif isinstance(arg, list):
            pairs += [(safe_key(each[0]), each[1]) for each in arg]
    made: dict[Any, Any] = {}
    walk.hold(call, made)
    for key, value in pairs + (call.entries or []):
        made[walk.key(safe_key(key))] = walk.plain(value, walk.join(path, key), depth + 1)
    # a state dict carries its version numbers as an attribute; anything else there is shown
    for state in call.states:
        if isinstance(state, dict) and set(state) - {"_metadata"}:
            walk.plain(state, walk.join(path, "attributes"), depth + 1)
    return made


def _sequence(walk: Walk, call: Call, path: str, depth: int) -> Any:
    given = call.args[0] if call.args else []
    items = list(given) if isinstance(given, (list, tuple, set, frozenset)) else []
    made: list[Any] = []
    walk.hold(call, made)
    made.extend(
        walk.plain(each, walk.join(path, number), depth + 1)
        for number, each in enumerate(items + (call.items or []))
    )
    return made


def _encode(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """How protocol 2 writes bytes: text whose code points are the bytes."""
    text = call.args[0]
    return repr(text) if isinstance(text, Blob) else str(text).encode("latin-1")


def _bytearray(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return walk.plain(call.args[0], path, depth + 1) if call.args else b""


def _complex(walk: Walk, call: Call, path: str, depth: int) -> Any:
    real, imaginary = call.args
    return str(complex(float(real), float(imaginary)))


def _shown(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return f"{call.of!r}({', '.join(repr(walk.plain(each, path, depth + 1)) for each in call.args)})".removeprefix(
        "builtins."
    )


def _text(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return str(call.args[0])[:1000]


def _path(walk: Walk, call: Call, path: str, depth: int) -> Any:
    parts = [str(each) for each in call.args]
    return ("/" if parts[:1] == ["/"] else "") + "/".join(each for each in parts if each != "/")


def _instance(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """Copyreg's helpers: an instance of the class that is their first argument."""
    kind, *rest = call.args
    if isinstance(kind, Name) and rest[:1] and isinstance(rest[0], Name) and rest[0].name == "object":
        rest = []
    return walk.instance(repr(kind), tuple(rest), call, path, depth)


def _namespace(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return walk.instance(repr(call.of), (), call, path, depth)


def _member(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """``getattr(Colour, "RED")``, as Python 3.11 writes an enum."""
    owner, name = call.args
    owner = repr(owner) if isinstance(owner, Name) else repr(walk.plain(owner, path, depth + 1))[:200]
    return f"{owner}.{name}"


def _raw(value: Any) -> bytes:
    if isinstance(value, Call) and value.args and isinstance(value.args[0], str):
        return value.args[0].encode("latin-1")
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _moment(walk: Walk, call: Call, path: str, depth: int) -> Any:
    """Dates and times: the packed bytes of their ``__reduce__``."""
    name = call.of.name if isinstance(call.of, Name) else ""
    raw = _raw(call.args[0])
    if name == "date":
        return dt.date(raw[0] * 256 + raw[1], raw[2], raw[3]).isoformat()
    if name == "time":
        return dt.time(raw[0] & 127, raw[1], raw[2], int.from_bytes(raw[3:6], "big")).isoformat()
    day = (
        raw[0] * 256 + raw[1],
        raw[2] & 127,
        raw[3],
        raw[4],
        raw[5],
        raw[6],
        int.from_bytes(raw[7:10], "big"),
    )
    zone = f" {walk.plain(call.args[1], path, depth + 1)}" if len(call.args) > 1 else ""
    return dt.datetime(*day).isoformat(" ") + zone  # noqa: DTZ001 - the zone is written beside it


def _span(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return str(dt.timedelta(*call.args))


def _uuid(walk: Walk, call: Call, path: str, depth: int) -> Any:
    return (
        str(uuid.UUID(int=call.states[-1]["int"]))
        if call.states
        else walk.instance("uuid.UUID", call.args, call, path, depth)
    )


_REBUILD: dict[str, Decoder] = {
    "tensor": _tensor, "tensor_v2": _tensor, "tensor_v3": _tensor_v3, "qtensor": _quantized, "parameter": _parameter,
    "parameter_with_state": _parameter, "meta_tensor_no_storage": _meta, "wrapper_subclass": _wrapper,
    "sparse_tensor": _composed, "nested_tensor": _composed, "device_tensor_from_numpy": _from_device,
    "device_tensor_from_cpu_tensor": _from_device, "xla_tensor": _from_device,
}  # fmt: skip
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")

DECODERS: dict[tuple[str, str], Decoder] = {
    **{("torch._utils", f"_rebuild_{name}"): decode for name, decode in _REBUILD.items()},
    **{(module, name): _path for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{("datetime", name): _moment for name in ("datetime", "date", "time")},
    **{("collections", name): _mapping for name in ("OrderedDict", "defaultdict", "Counter")},
    **{("builtins", name): _sequence for name in ("set", "frozenset", "list", "tuple")},
    **{("builtins", name): _shown for name in ("slice", "range")},
    **ARRAYS,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch._tensor", "_rebuild_from_type"): _subclass,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _text,
    ("_codecs", "encode"): _encode,
    ("argparse", "Namespace"): _namespace,
    ("types", "SimpleNamespace"): _namespace,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "complex"): _complex,
    ("builtins", "dict"): _mapping,
    ("builtins", "getattr"): _member,
    ("collections", "deque"): _sequence,
    ("copyreg", "_reconstructor"): _instance,
    ("copyreg", "__newobj__"): _instance,
    ("datetime", "timedelta"): _span,
    ("datetime", "timezone"): _shown,
    ("decimal", "Decimal"): _text,
    ("re", "_compile"): _text,
    ("uuid", "UUID"): _uuid,
}
