"""What a pickle's stubs mean: tensors, dicts, dates and configs in place of calls that were never made.

Knows the few dozen names that checkpoints are made of; everything else stays an `Object`: the name of its class
and its fields, which is enough to reach every tensor inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trainlab.subjects.checkfile.known import DECODERS
from trainlab.subjects.checkfile.stubs import Blob, Call, Document, Name, Opaque, Persistent
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo, contiguous

__all__ = ["Object", "Walk"]

DEPTH = 120  # levels of nesting that are followed; each takes a few frames of Python's own stack
VALUES = 1_500_000
MODULE_PARTS = (
    "_parameters",
    "_buffers",
    "_modules",
)  # an nn.Module keeps its children there: no part of their names
_SCALARS = (str, int, float, bool, bytes, type(None))


class Object(dict[Any, Any]):
    """An object of a class that was not imported: its fields, and the name of its class."""

    def __init__(self, kind: str, fields: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__(fields)
        self.kind = kind

    def __repr__(self) -> str:
        from trainlab.subjects.checkfile.shown import brief

        return f"{self.kind.rpartition('.')[2]}({', '.join(f'{key}={brief(value)}' for key, value in list(self.items())[:50])})"


class Walk:
    """One walk over a document, from stubs to plain values.

    Args:
        document: What `read_pickle` gave.
        storage: The storage that a persistent id names, or None where it names none.
        inline: The storage of bytes that lie in the pickle itself.
        prefix: What the names of the tensors begin with.

    Attributes:
        tensors: Every tensor that was met, by name.
        notes: What is odd.
    """

    def __init__(
        self,
        document: Document,
        storage: Callable[[object], tuple[Storage | None, str]],
        inline: Callable[[Blob | bytes, bool], Storage],
        prefix: str = "",
    ) -> None:
        self.storage = storage
        self.inline = inline
        self.tensors: dict[str, TensorInfo] = {}
        self.notes: list[str] = []
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()
        self._held: list[Any] = []
        self._left = VALUES
        self.tree = self.plain(document.root, prefix)

    def plain(self, value: Any, path: str, depth: int = 0) -> Any:
        """The plain form of a value; tensors inside are noted under their path."""
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is Name:
            return f"{value.module}.{value.name}" if value.module != "builtins" else value.name
        if kind is Opaque:
            return repr(value) if value.value is None else self.plain(value.value, path, depth + 1)
        if kind is Blob:
            return repr(value)
        if kind is Persistent:
            return self._persistent(value, path)
        made = self._made.get(id(value))
        if made is not None:
            return self.named(made, path) if isinstance(made, TensorInfo) else made
        self._left -= 1
        if depth > DEPTH or self._left < 0 or id(value) in self._open:
            if depth > DEPTH or self._left < 0:
                self._once("nested deeper or longer than is followed: some of it is not shown")
            return "…"
        self._open.add(id(value))
        made = self._container(value, path, depth) if kind is not Call else self.call(value, path, depth)
        self._open.discard(id(value))
        self._made[id(value)] = made
        self._held.append(value)  # so that its id stays its own: keys are made on the way
        return made

    def call(self, call: Call, path: str, depth: int) -> Any:
        """The plain form of what a call would have made."""
        if isinstance(call.of, Name):
            decode = DECODERS.get((call.of.module, call.of.name))
            if decode is not None:
                try:
                    return decode(self, call, path, depth)
                except (
                    TypeError,
                    ValueError,
                    IndexError,
                    KeyError,
                    AttributeError,
                    OverflowError,
                    UnicodeError,
                ):
                    self._once(f"{call.of} with arguments that it does not take")
            return self.instance(repr(call.of), call.args, call, path, depth)
        return self.instance(f"what {call.of!r:.80} gives", call.args, call, path, depth)

    def instance(self, kind: str, args: tuple[Any, ...], call: Call, path: str, depth: int) -> Any:
        """An object of an unknown class: everything that would have been put into it."""
        made = Object(kind)
        self.hold(call, made)
        if args:
            shown = [
                self.plain(each, f"{path}.{number}" if path else str(number), depth + 1)
                for number, each in enumerate(args)
            ]
            made["args"] = shown
        if call.kwargs:
            made["kwargs"] = self.plain(call.kwargs, path, depth + 1)
        for state in call.states:
            self._fields(made, state, path, depth)
        if call.items is not None:
            made["items"] = self.plain(call.items, path, depth + 1)
        for key, value in call.entries or ():
            made[self.key(key)] = self.plain(value, self.join(path, key), depth + 1)
        if kind.startswith("omegaconf.") and ("_content" in made or "_val" in made):
            return made.get("_val", made.get("_content"))
        return made

    def hold(self, call: Call, made: Any) -> None:
        """Notes what a call will have made before it is filled, so that something inside may point back."""
        self._made[id(call)] = made
        self._held.append(call)  # so that its id stays its own

    def join(self, path: str, key: Any) -> str:
        """The dotted name of what lies under a key."""
        if type(key) is str:
            return f"{path}.{key}" if path else key
        return join(path, self.key(key))

    def _fields(self, made: Object, state: Any, path: str, depth: int) -> None:
        parts = state if type(state) is tuple and len(state) == 2 and type(state[1]) is dict else (state,)
        for part in parts:
            if type(part) is not dict:
                if part is not None:
                    made["state"] = self.plain(part, path, depth + 1)
                continue
            for key, value in part.items():
                made[self.key(key)] = self.plain(
                    value, path if key in MODULE_PARTS else self.join(path, key), depth + 1
                )

    def _container(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, dict):
            made: dict[Any, Any] = {}
            self._made[id(value)] = made
            for key, each in value.items():
                if type(key) is str:  # nearly always: no calls to spare
                    made[key] = self.plain(each, f"{path}.{key}" if path else key, depth + 1)
                else:
                    made[self.key(key)] = self.plain(each, self.join(path, key), depth + 1)
            return made
        if all(type(each) in _SCALARS for each in value):
            return value
        if isinstance(value, list):
            filled: list[Any] = []
            self._made[id(value)] = filled
            filled.extend(
                self.plain(each, join(path, str(number)), depth + 1) for number, each in enumerate(value)
            )
            return filled
        if isinstance(value, tuple):
            return tuple(
                self.plain(each, join(path, str(number)), depth + 1) for number, each in enumerate(value)
            )
        return [self.plain(each, path, depth + 1) for each in value]  # a set

    def key(self, key: Any) -> Any:
        """A key as it is shown."""
        if type(key) in _SCALARS:
            return key
        if type(key) is Opaque:
            return hex(key.value) if type(key.value) is int else repr(key)
        shown = self.plain(key, "", DEPTH - 3)
        return shown if isinstance(shown, (str, int, float)) else repr(shown)

    # --- tensors

    def tensor(  # noqa: PLR0917 - as torch's own rebuild functions take them
        self,
        name: str,
        dtype: str | None,
        shape: Any,
        persistent: Any,
        offset: Any = 0,
        stride: Any = None,
        kind: str = "tensor",
    ) -> TensorInfo:
        """Notes a tensor that looks at a storage."""
        storage, stored_as = self.storage(persistent.id) if isinstance(persistent, Persistent) else (None, "")
        shape, stride = _sizes(shape), None if stride is None else _sizes(stride)
        if stride is not None and (stride == contiguous(shape)):
            stride = None
        info = TensorInfo(name, dtype or stored_as, shape, storage, int(offset), stride, kind)
        return self.note(info)

    def note(self, info: TensorInfo) -> TensorInfo:
        """Lists a tensor under its name, and says so where it cannot be as it claims."""
        if info.name in self.tensors or not info.name:
            name, number = info.name or "tensor", 2
            while name in self.tensors:
                name, number = f"{info.name or 'tensor'}#{number}", number + 1
            info = TensorInfo(name, info.dtype, info.shape, info.storage, info.offset, info.stride, info.kind)
        if info.storage is not None and info.reach() > info.storage.nbytes:
            self._once(f"{info.name} reaches beyond its storage")
        self.tensors[info.name] = info
        return info

    def named(self, info: TensorInfo, path: str) -> TensorInfo:
        """The same tensor again, met under another name."""
        return self.note(
            TensorInfo(path, info.dtype, info.shape, info.storage, info.offset, info.stride, info.kind)
        )

    def rename(self, info: TensorInfo, *, kind: str, dtype: str | None = None) -> TensorInfo:
        """The tensor just noted, as what it was wrapped into."""
        info = TensorInfo(
            info.name, dtype or info.dtype, info.shape, info.storage, info.offset, info.stride, kind
        )
        self.tensors[info.name] = info
        return info

    def _persistent(self, value: Persistent, path: str) -> Any:
        storage, dtype = self.storage(value.id)
        if storage is None:
            # legacy files refer to a module's class that way, with its source
            inner = value.id[1] if isinstance(value.id, tuple) and len(value.id) > 1 else value.id
            return self.plain(inner, path, 1) if not isinstance(inner, Persistent) else repr(value)
        return (
            self.tensor(path, dtype, (storage.nbytes,) if dtype == "uint8" else (-1,), value, kind="storage")
            if dtype == "uint8"
            else repr(value)
        )

    def _once(self, note: str) -> None:
        if note not in self.notes and len(self.notes) < 50:
            self.notes.append(note)


def join(path: str, key: Any) -> str:
    """The dotted name of what lies under a key."""
    text = key if type(key) is str else repr(key)[:200]
    return f"{path}.{text}" if path else text


def _sizes(value: Any) -> tuple[int, ...]:
    sizes = (
        value if type(value) is tuple else tuple(value.args[0] if isinstance(value, Call) else value)
    )  # torch.Size((2, 3))
    for each in sizes:
        if type(each) is not int:
            raise TypeError("a size that is no integer")
    return sizes
