"""The names that checkpoints are made of, and what a call of each would have given.

A decoder takes the walk, the call and the path at which it lies; it shows what came from the file only by `brief` or
`Walk.plain`, which are bounded: a small pickle can nest lists so that their `str` never ends.
"""

# ruff: noqa: ARG001 - every decoder is called alike

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.arrays import ARRAYS, latin
from trainlab.subjects.checkfile.stubs import Call, Name, brief

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.plain import Walk

__all__ = ["DECODERS", "PATHS"]

Decoder = Callable[["Walk", Call, str], Any]
PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")


# --- tensors: the rebuild functions of torch/_utils.py, argument for argument


def _tensor(walk: Walk, call: Call, path: str) -> Any:
    storage, offset, size, stride, *_ = call.args
    return walk.tensor(path, "", size, storage, offset, stride)


def _tensor_v3(walk: Walk, call: Call, path: str) -> Any:
    storage, offset, size, stride, _, _, dtype, *_ = call.args
    return walk.tensor(path, dtype.name, size, storage, offset, stride)


def _quantized(walk: Walk, call: Call, path: str) -> Any:
    storage, offset, size, stride, params, *_ = call.args
    for number, each in enumerate(params):
        if isinstance(each, Call):
            walk.plain(each, f"{path}.quantizer.{number}")
    return walk.tensor(path, "", size, storage, offset, stride, "quantized")


def _parameter(walk: Walk, call: Call, path: str) -> Any:
    inner = walk.plain(call.args[0], path) if call.args else None
    for number, state in enumerate(call.args[3:] + call.states):
        walk.plain(state, f"{path}.state{number or ''}")
    return walk.rename(inner, "parameter")


def _meta(walk: Walk, call: Call, path: str) -> Any:
    dtype, size, stride, *_ = call.args
    return walk.tensor(path, dtype.name, size, None, 0, stride, "meta")


def _wrapper(walk: Walk, call: Call, path: str) -> Any:
    kind, dtype, size, stride, offset, *_ = call.args
    return walk.tensor(path, dtype.name, size, None, offset or 0, stride, brief(kind))


def _subclass(walk: Walk, call: Call, path: str) -> Any:
    """A tensor of a subclass, or one with attributes of its own: (function, class, its arguments, state)."""
    function, kind, args, state = call.args
    inner = walk.call(Call(function, args), path)
    if isinstance(state, (dict, tuple)) and state:
        walk.plain(state, f"{path}.state")
    return walk.rename(inner, repr(kind)) if isinstance(kind, Name) and kind.name != "Tensor" else inner


def _from_device(walk: Walk, call: Call, path: str) -> Any:
    return walk.rename(walk.plain(call.args[0], path), "tensor")


def _sparse(walk: Walk, call: Call, path: str) -> Any:
    """The tensors that a sparse one is made of: a COO tensor has a size third, a compressed one its values."""
    parts = call.args[1]
    compressed = (
        len(parts) == 4 and isinstance(parts[2], Call) and repr(parts[2].of).startswith("torch._utils.")
    )
    names = "compressed_indices plain_indices values size" if compressed else "indices values size coalesced"
    shown = {
        name: walk.plain(each, f"{path}.{name}") for name, each in zip(names.split(), parts, strict=False)
    }
    return {"kind": "sparse_tensor", **shown}


def _nested(walk: Walk, call: Call, path: str) -> Any:
    return {
        "kind": "nested_tensor",
        "parts": [walk.plain(each, f"{path}.{n}") for n, each in enumerate(call.args)],
    }


def _size(walk: Walk, call: Call, path: str) -> Any:
    return tuple(call.args[0]) if call.args else ()


def _device(walk: Walk, call: Call, path: str) -> Any:
    return f"device({':'.join(map(brief, call.args))})"


# --- Python's own


def _mapping(walk: Walk, call: Call, path: str) -> Any:
    """OrderedDict, defaultdict, Counter: entries, or in old pickles a list of pairs."""
    pairs: list[tuple[Any, Any]] = []
    for arg in call.args:
        if isinstance(arg, dict):
            pairs += arg.items()
        elif isinstance(arg, list):
            pairs += [(each[0], each[1]) for each in arg]
    made = walk.mapping(call, pairs + (call.entries or []), path)
    # a state dict carries its version numbers as an attribute; anything else there is shown
    for state in call.states:
        if isinstance(state, dict) and set(state) - {"_metadata"}:
            walk.plain(state, walk.join(path, "attributes"))
    return made


def _sequence(walk: Walk, call: Call, path: str) -> Any:
    given = call.args[0] if call.args else []
    items = list(given) if isinstance(given, (list, tuple, set, frozenset)) else []
    return walk.sequence(call, items + (call.items or []), path)


def _bytes(walk: Walk, call: Call, path: str) -> Any:
    """How protocol 2 writes bytes: text whose code points are the bytes."""
    raw = latin(call)
    return raw if isinstance(raw, bytes) else brief(raw)


def _complex(walk: Walk, call: Call, path: str) -> Any:
    real, imaginary = call.args
    return str(complex(real, imaginary))


def _shown(walk: Walk, call: Call, path: str) -> Any:
    shown = ", ".join(brief(walk.plain(each, path)) for each in call.args)
    return f"{call.of!r}({shown})".removeprefix("builtins.")


def _text(walk: Walk, call: Call, path: str) -> Any:
    return brief(call.args[0], 1000)


def _path(walk: Walk, call: Call, path: str) -> Any:
    parts = [brief(each, 1000) for each in call.args]
    return ("/" if parts[:1] == ["/"] else "") + "/".join(each for each in parts if each != "/")


def _instance(walk: Walk, call: Call, path: str) -> Any:
    """Copyreg's helpers: an instance of the class that is their first argument."""
    kind, *rest = call.args
    if isinstance(kind, Name) and rest[:1] and isinstance(rest[0], Name) and rest[0].name == "object":
        rest = []
    return walk.instance(brief(kind, 200), tuple(rest), call, path)


def _namespace(walk: Walk, call: Call, path: str) -> Any:
    return walk.instance(repr(call.of), (), call, path)


def _member(walk: Walk, call: Call, path: str) -> Any:
    """``getattr(Colour, "RED")``, as Python 3.11 writes an enum."""
    owner, name = call.args
    return f"{brief(owner if isinstance(owner, Name) else walk.plain(owner, path), 200)}.{brief(name)}"


def _moment(walk: Walk, call: Call, path: str) -> Any:
    """Dates and times: the packed bytes of their ``__reduce__``."""
    raw = latin(call.args[0])
    name = getattr(call.of, "name", "")
    if name == "time":
        return dt.time(raw[0] & 127, raw[1], raw[2], int.from_bytes(raw[3:6], "big")).isoformat()
    day = (raw[0] * 256 + raw[1], raw[2] & 127, raw[3])
    if name == "date":
        return dt.date(*day).isoformat()
    zone = f" {brief(walk.plain(call.args[1], path))}" if len(call.args) > 1 else ""
    moment = dt.datetime(*day, raw[4], raw[5], raw[6], int.from_bytes(raw[7:10], "big"))  # noqa: DTZ001 - beside it
    return moment.isoformat(" ") + zone


def _span(walk: Walk, call: Call, path: str) -> Any:
    return str(dt.timedelta(*call.args))


def _uuid(walk: Walk, call: Call, path: str) -> Any:
    return str(uuid.UUID(int=call.states[-1]["int"]))


_REBUILD: dict[str, Decoder] = {
    "tensor": _tensor, "tensor_v2": _tensor, "tensor_v3": _tensor_v3, "qtensor": _quantized, "parameter": _parameter,
    "parameter_with_state": _parameter, "meta_tensor_no_storage": _meta, "wrapper_subclass": _wrapper,
    "sparse_tensor": _sparse, "nested_tensor": _nested, "device_tensor_from_numpy": _from_device,
    "device_tensor_from_cpu_tensor": _from_device, "xla_tensor": _from_device,
}  # fmt: skip

DECODERS: dict[tuple[str, str], Decoder] = {
    **{("torch._utils", f"_rebuild_{name}"): decode for name, decode in _REBUILD.items()},
    **{(module, name): _path for module in ("pathlib", "pathlib._local") for name in PATHS},
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
    ("_codecs", "encode"): _bytes,
    ("argparse", "Namespace"): _namespace,
    ("types", "SimpleNamespace"): _namespace,
    ("builtins", "bytearray"): _bytes,
    ("builtins", "bytes"): _bytes,
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
