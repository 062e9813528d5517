"""The pickle opcodes that a checkpoint seldom has: what each does to the machine of `inert`."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainlab.subjects.checkfile.stubs import Call, Name, Opaque, safe_key

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.inert import Machine

__all__ = ["RARE"]


def _words(m: Machine) -> Name:
    return m.name(m.line().decode("utf-8", "replace"), m.line().decode("utf-8", "replace"))


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.name(module, name))


def _inst(m: Machine) -> None:
    name = _words(m)
    m.stack.append(m.call(name, tuple(m.marked())))


def _obj(m: Machine) -> None:
    of, *args = m.marked()
    m.stack.append(m.call(of, tuple(args)))


def _newobj(m: Machine) -> None:
    args, of = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(of, args))


def _newobj_ex(m: Machine) -> None:
    kwargs, args, of = m.stack.pop(), m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(of, args, kwargs))


def _build(m: Machine) -> None:
    state, target = m.stack.pop(), m.stack[-1]
    if isinstance(target, Call):
        target.states = (*target.states[-8:], state)
    else:
        what = f"{target!r:.80}" if isinstance(target, Name) else f"a {type(target).__name__}"
        m.odd(f"attributes set on {what}")


def _extension(size: int) -> Callable[[Machine], None]:
    def handler(m: Machine) -> None:
        code = m.number(size, signed=size == 4)
        m.odd(f"extension code {code}: what it names depends on the program that loads the file")
        m.stack.append(Name("copyreg extension", str(code)))

    return handler


def _setitems(m: Machine) -> None:
    items = m.marked()
    m.put(m.stack[-1], zip(items[::2], items[1::2], strict=False))


def _setitem(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.put(m.stack[-1], [(key, value)])


def _append(m: Machine) -> None:
    item = m.stack.pop()
    m.add(m.stack[-1], [item])


def _appends(m: Machine) -> None:
    items = m.marked()
    m.add(m.stack[-1], items)


def _dict(m: Machine) -> None:
    items = m.marked()
    m.stack.append({})
    m.put(m.stack[-1], zip(items[::2], items[1::2], strict=False))


def _pop(m: Machine) -> None:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.stack.pop()


def _put(m: Machine) -> None:
    m.memo[int(m.line()[:20])] = m.stack[-1]


def _int(m: Machine) -> None:
    line = m.line()
    m.stack.append(line == b"01" if line in (b"00", b"01") else _decimal(line))


def _decimal(line: bytes) -> object:
    digits = line.rstrip(b"L")
    return Opaque(f"integer of {len(digits)} digits") if len(digits) > 1000 else int(digits, 0)


def _string(m: Machine) -> None:
    line = m.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    m.stack.append(str(codecs.escape_decode(line[1:-1])[0], "latin-1"))


def _proto(m: Machine) -> None:
    m.protocol = m.take(1)[0]
    if m.protocol > 5:
        raise ValueError(f"protocol {m.protocol}")


def _tuple3(m: Machine) -> None:
    m.stack[-3:] = [(m.stack[-3], m.stack[-2], m.stack[-1])]


RARE: dict[int, Callable[[Machine], object]] = {
    0x80: _proto,
    0x95: lambda m: m.take(8),  # FRAME
    0x87: _tuple3,
    0x63: lambda m: m.stack.append(_words(m)),  # GLOBAL
    0x93: _stack_global,
    0x69: _inst,
    0x6F: _obj,
    0x81: _newobj,
    0x92: _newobj_ex,
    0x62: _build,
    0x82: _extension(1),
    0x83: _extension(2),
    0x84: _extension(4),
    0x75: _setitems,
    0x73: _setitem,
    0x61: _append,
    0x65: _appends,
    0x90: _appends,  # ADDITEMS
    0x64: _dict,
    0x6C: lambda m: m.stack.append(m.marked()),  # LIST
    0x8F: lambda m: m.stack.append(set()),  # EMPTY_SET
    0x91: lambda m: m.stack.append(frozenset(safe_key(each) for each in m.marked())),  # FROZENSET
    0x30: _pop,
    0x31: lambda m: m.marked(),  # POP_MARK
    0x32: lambda m: m.stack.append(m.stack[-1]),  # DUP
    0x50: lambda m: m.stack.append(m.refer(m.line().decode("ascii", "replace"))),  # PERSID
    0x70: _put,
    0x67: lambda m: m.stack.append(m.memo[int(m.line()[:20])]),  # GET
    0x49: _int,
    0x4C: lambda m: m.stack.append(_decimal(m.line())),  # LONG
    0x46: lambda m: m.stack.append(float(m.line())),  # FLOAT
    0x53: _string,
    0x56: lambda m: m.stack.append(str(m.line(), "raw-unicode-escape")),  # UNICODE
    0x8A: lambda m: m.integer(m.number(1)),  # LONG1
    0x8B: lambda m: m.integer(m.number(4, signed=True)),  # LONG4
    0x42: lambda m: m.long(m.number(4), text=False),  # BINBYTES
    0x43: lambda m: m.long(m.number(1), text=False),  # SHORT_BINBYTES
    0x8E: lambda m: m.long(m.number(8), text=False),  # BINBYTES8
    0x96: lambda m: m.long(m.number(8), text=False),  # BYTEARRAY8
    0x8D: lambda m: m.long(m.number(8), text=True),  # BINUNICODE8
    0x54: lambda m: m.stack.append(str(m.take(m.number(4, signed=True)), "latin-1")),  # BINSTRING
    0x55: lambda m: m.stack.append(str(m.take(m.number(1)), "latin-1")),  # SHORT_BINSTRING
    0x97: lambda m: m.stack.append(Opaque("buffer outside the pickle")),  # NEXT_BUFFER
    0x98: lambda _: None,  # READONLY_BUFFER
}
