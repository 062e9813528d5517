"""What stands in for the values of a pickle that are not plain: names, calls, references, long strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

__all__ = ["Blob", "Call", "Document", "Name", "Opaque", "Persistent", "brief", "safe_key"]

KEY_NODES = 64  # values inside one tuple that serves as a key
HASH_SPAN = 2**61 - 1  # integers beyond it can be chosen so that all of them collide in a dict


class Name:
    """A foreign name, ``os.system``; what it stands for is never looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __repr__(self) -> str:
        return f"{self.module}.{self.name}"


class Call:
    """What would have been made by calling something: the thing called, its arguments, what was put in later."""

    kwargs: object = None
    states: tuple[Any, ...] = ()  # BUILD
    items: list[Any] | None = None  # APPEND, ADDITEMS
    entries: list[tuple[Any, Any]] | None = None  # SETITEM

    def __init__(self, of: object, args: object) -> None:
        self.of = of
        self.args: tuple[Any, ...] = args if type(args) is tuple else (args,)

    def __repr__(self) -> str:
        return f"<{self.of!r} object>" if isinstance(self.of, Name) else "<object>"


class Persistent:
    """A reference to something outside the pickle: in torch's files, a storage."""

    __slots__ = ("id",)

    def __init__(self, pid: object) -> None:
        self.id = pid

    def __repr__(self) -> str:
        return "<persistent object>"


class Blob:
    """A long string or bytes that stays in the file: where it lies, counted from the pickle's first byte."""

    __slots__ = ("length", "offset", "text")

    def __init__(self, offset: int, length: int, *, text: bool) -> None:
        self.offset = offset
        self.length = length
        self.text = text

    def __repr__(self) -> str:
        return f"<{'text' if self.text else 'bytes'}, {self.length} bytes>"


class Opaque:
    """A value that is described instead of built: a huge integer, a key that cannot be hashed safely."""

    __slots__ = ("text", "value")

    def __init__(self, text: str, value: object = None) -> None:
        self.text = text
        self.value = value

    def __repr__(self) -> str:
        return f"<{self.text}>"


@dataclass
class Document:
    """What one pickle says.

    Attributes:
        root: The object: plain Python values, with the stubs of this module among them. Where the pickle
            broke off, a list of all that had been read by then.
        names: Every foreign name in it, in order, with the offset where it is first asked for.
        odd: What no honest writer does: calling the result of a call, building on a bare name, extension codes.
        lookups: The arguments of every ``getattr``.
        references: Every reference to something outside the pickle, in order.
        end: The offset after the last opcode.
        broken: Why reading stopped early, or "".
    """

    root: Any = None
    names: dict[tuple[str, str], int] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    lookups: list[tuple[Any, ...]] = field(default_factory=list)
    references: list[Persistent] = field(default_factory=list)
    end: int = 0
    broken: str = ""


def safe_key(value: object, budget: int = KEY_NODES) -> Any:
    """A key that is safe to hash: hashing a nested tuple can take for ever or end the process, integers can collide."""
    if value is None or type(value) in (str, bool, bytes, Name, Call, Persistent, Blob, Opaque):
        return value
    if type(value) is int:
        return value if -HASH_SPAN < value < HASH_SPAN else Opaque("integer as a key", value)
    if type(value) is float:
        return value if -(2.0**53) < value < 2.0**53 else Opaque("number as a key", value)
    if type(value) is tuple and len(value) < budget:
        return tuple(safe_key(each, budget // (len(value) + 1)) for each in value)
    return Opaque(f"{type(value).__name__} as a key", value)


def brief(value: object, limit: int = 60, depth: int = 2) -> str:
    """A value in few characters, whatever it holds: a small pickle can nest lists so that their repr never ends."""
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        named = isinstance(value, Mapping)
        each = islice(value.items() if isinstance(value, Mapping) else value, 5 if depth else 0)
        inner = [
            f"{one[0]}={brief(one[1], 24, depth - 1)}" if named else brief(one, 24, depth - 1) for one in each
        ]
        inner += ["…"] * (len(value) > len(inner))
        text = f"{{{', '.join(inner)}}}" if named else f"[{', '.join(inner)}]"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
