"""What a pickle's stubs mean: tensors, dicts, dates and configs in place of calls that were never made.

Knows the few dozen names that checkpoints are made of; everything else stays an `Object`: the name of its class
and its fields, which is enough to reach every tensor inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from trainlab.subjects.checkfile.known import DECODERS
from trainlab.subjects.checkfile.stubs import Blob, Call, Document, Name, Opaque, Persistent, brief, safe_key
from trainlab.subjects.checkfile.tensors import Storage, TensorInfo, layout

__all__ = ["Object", "Walk"]

DEPTH = 120  # levels of nesting that are followed; each takes a few frames of Python's own stack
VALUES = 1_500_000
# an nn.Module keeps its children there: no part of their names
MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_WRONG = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


class Object(dict[Any, Any]):
    """An object of a class that was not imported: its fields, and the name of its class."""

    def __init__(self, kind: str, fields: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__(fields)
        self.kind = kind

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={brief(value)}" for key, value in list(self.items())[:50])
        return f"{self.kind.rpartition('.')[2]}({fields})"


class Walk:
    """One walk over a document, from stubs to plain values.

    Args:
        document: What `read_pickle` gave.
        storage: The storage that a persistent id names, or None where it names none, and its dtype.
        inline: The storage of bytes that lie in the pickle itself.
        prefix: What the names of the tensors begin with.

    Attributes:
        tree: The object.
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
        self._held: list[Any] = []
        self._depth = 0
        self._left = VALUES
        self.tree = self.plain(document.root, prefix)

    def plain(self, value: Any, path: str) -> Any:
        """The plain form of a value; tensors inside are noted under their path."""
        kind = type(value)
        if kind in _SCALARS:
            return value
        made = self._made.get(id(value))
        if made is not None:
            return self.note(replace(made, name=path)) if isinstance(made, TensorInfo) else made
        if kind is Name:
            return repr(value).removeprefix("builtins.")
        if kind is Blob or (kind is Opaque and value.value is None):
            return repr(value)
        if kind is Opaque:
            return self.plain(value.value, path)
        if kind is Persistent:
            return self._bare_storage(value, path)
        self._left -= 1
        if self._depth > DEPTH or self._left < 0:
            self._once("nested deeper or longer than is followed: some of it is not shown")
            return "…"
        self._depth += 1
        self._hold(value, "…")  # what a tuple shows of itself, if it is inside itself
        made = self.call(value, path) if kind is Call else self._container(value, path)
        self._made[id(value)] = made
        self._depth -= 1
        return made

    def call(self, call: Call, path: str) -> Any:
        """The plain form of what a call would have made."""
        of = call.of
        if type(of) is not Name:
            return self.instance(f"what {brief(of, 80)} gives", call.args, call, path)
        decode = DECODERS.get((of.module, of.name))
        if decode is not None:
            depth = self._depth
            try:
                return decode(self, call, path)
            except _WRONG:
                self._depth = depth
                self._once(f"{of} with arguments that it does not take")
        return self.instance(repr(of), call.args, call, path)

    def instance(self, kind: str, args: tuple[Any, ...], call: Call, path: str) -> Any:
        """An object of an unknown class: everything that would have been put into it."""
        made = Object(kind)
        self._hold(call, made)
        if args:
            made["args"] = [
                self.plain(each, self.join(path, str(number))) for number, each in enumerate(args)
            ]
        if call.kwargs:
            made["kwargs"] = self.plain(call.kwargs, path)
        for state in call.states:
            self._fields(made, state, path)
        if call.items is not None:
            made["items"] = self.plain(call.items, path)
        self.fill(made, call.entries or (), path)
        if kind.startswith("omegaconf.") and ("_content" in made or "_val" in made):
            return made.get("_val", made.get("_content"))
        return made

    def mapping(self, call: Call, pairs: Iterable[tuple[Any, Any]], path: str) -> dict[Any, Any]:
        """A dict that a call would have made."""
        made: dict[Any, Any] = {}
        self._hold(call, made)
        return self.fill(made, pairs, path)

    def sequence(self, call: Call, items: Iterable[Any], path: str) -> list[Any]:
        """A list that a call would have made."""
        made: list[Any] = []
        self._hold(call, made)
        made.extend(self.plain(each, self.join(path, str(number))) for number, each in enumerate(items))
        return made

    def fill(self, made: dict[Any, Any], pairs: Iterable[tuple[Any, Any]], path: str) -> dict[Any, Any]:
        """Puts the plain form of entries into a dict."""
        for key, value in pairs:
            name = key if type(key) is str else self._key(key)
            made[name] = self.plain(value, self.join(path, name))
        return made

    def join(self, path: str, key: Any) -> str:
        """The dotted name of what lies under a key."""
        text = key if type(key) is str else brief(key, 200)
        return f"{path}.{text}" if path else text

    def _hold(self, value: Any, made: Any) -> None:
        """Notes what a stub stands for before it is filled, so that something inside may point back."""
        self._made[id(value)] = made
        self._held.append(value)  # so that its id stays its own

    def _fields(self, made: Object, state: Any, path: str) -> None:
        parts = state if type(state) is tuple and len(state) == 2 and type(state[1]) is dict else (state,)
        for part in parts:
            if type(part) is dict:
                for key, value in part.items():
                    if key in MODULE_PARTS:
                        made[key] = self.plain(value, path)
                    else:
                        self.fill(made, [(key, value)], path)
            elif part is not None:
                made["state"] = self.plain(part, path)

    def _container(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            made: dict[Any, Any] = {}
            self._made[id(value)] = made
            return self.fill(made, value.items(), path)
        if _SCALARS.issuperset(map(type, value)):
            return value
        if isinstance(value, tuple):
            return tuple(self.plain(each, self.join(path, str(number))) for number, each in enumerate(value))
        filled: list[Any] = []
        self._made[id(value)] = filled
        ordered = isinstance(value, list)  # the others are sets
        filled.extend(
            self.plain(each, self.join(path, str(number)) if ordered else path)
            for number, each in enumerate(value)
        )
        return filled

    def _key(self, key: Any) -> Any:
        """A key as it is shown."""
        key = safe_key(key)
        if type(key) is Opaque and type(key.value) is int:
            return hex(key.value)
        shown = self.plain(key, "")
        return shown if type(shown) in _SCALARS else brief(shown, 200)

    # --- tensors

    def tensor(  # noqa: PLR0917 - as torch's own rebuild functions take them
        self,
        name: str,
        dtype: str,
        shape: Any,
        persistent: Any,
        offset: Any = 0,
        stride: Any = None,
        kind: str = "tensor",
    ) -> TensorInfo:
        """Notes a tensor that looks at a storage; its dtype is the storage's where none is given."""
        storage, stored_as = self.storage(persistent.id) if type(persistent) is Persistent else (None, "")
        shape, stride, offset = layout(_sizes(shape), _sizes(stride), offset)
        return self.note(TensorInfo(name, dtype or stored_as, shape, storage, offset, stride, kind))

    def note(self, info: TensorInfo) -> TensorInfo:
        """Lists a tensor under its name, and says so where it cannot be as it claims."""
        if info.name in self.tensors or not info.name:
            name, number = info.name or "tensor", 2
            while name in self.tensors:
                name, number = f"{info.name or 'tensor'}#{number}", number + 1
            info = replace(info, name=name)
        if info.storage is not None and info.reach() > info.storage.nbytes:
            self._once(f"{info.name} reaches beyond its storage")
        self.tensors[info.name] = info
        return info

    def rename(self, value: Any, kind: str) -> Any:
        """The tensor just noted, as what it was wrapped into; what is no tensor stays as it is."""
        if isinstance(value, TensorInfo):
            value = self.tensors[value.name] = replace(value, kind=kind)
        return value

    def _bare_storage(self, value: Persistent, path: str) -> Any:
        """A reference to a storage with no tensor around it."""
        storage, dtype = self.storage(value.id)
        if storage is None or dtype != "uint8":
            return repr(value)
        return self.note(TensorInfo(path, dtype, (storage.nbytes,), storage, kind="storage"))

    def _once(self, note: str) -> None:
        if note not in self.notes and len(self.notes) < 50:
            self.notes.append(note)


def _sizes(value: Any) -> Any:
    return value.args[0] if type(value) is Call else value  # torch.Size((2, 3))
