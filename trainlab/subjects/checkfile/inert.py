"""Read a pickle without running it: every foreign name becomes a stub, every call a record of that call.

A pickle is a little program for a stack machine. This is that machine with its only dangerous part left out:
nothing is imported and nothing is called, so the worst a pickle can do is to be long. Its length is bounded
(`STEPS` opcodes), names and keys are bounded before they are hashed, and big strings stay in the file.

The opcodes are those of the standard library's ``pickle`` (protocols 0 to 5), read in its documented order:
https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from mmap import mmap
from operator import itemgetter
from typing import Any

from trainlab.subjects.checkfile.rare import RARE
from trainlab.subjects.checkfile.stubs import Blob, Call, Document, Name, Opaque, Persistent, brief, safe_key

__all__ = ["BLOB", "STEPS", "read_pickle", "read_rest"]

STEPS = 3_000_000  # opcodes; the pickle of a 70 B model with its optimizer has under 200 000
BLOB = 16_384  # bytes; longer strings and bytes are left in the file and pointed at
PICKLES = 1000  # in a row
LINE = 65_536  # bytes; the longest line of a text opcode
BIG_INTEGER = 512  # bytes; a longer integer is shown, not built: printing it is quadratic

_U16 = struct.Struct("<H").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U32 = struct.Struct("<I").unpack_from
_F64 = struct.Struct(">d").unpack_from

# A tensor as torch.save writes it, but for the first, whose names are not in the memory yet: the arguments of
# ``_rebuild_tensor_v2``, from the first MARK to the REDUCE. Each byte here is an opcode or an opcode's argument.
_INTEGER = rb"(?:K.|M..|J....)"
_SIZES = rb"(I(?:\x85|I(?:\x86|I\x87))|\(I{4,16}t)"
_TENSOR = (
    rb"\(\((GET)(GET)X([\x01-\x09])\0\0\0([0-9]{1,9})PUT(GET)(I)tPUTQ(I)"  # the storage; the offset in it
    rb"(?:\)\)|SIZESPUTSIZESPUT)([\x88\x89])(GET)\)RPUTtPUTRPUT"  # shape, stride, requires_grad, hooks
).replace(b"SIZES", _SIZES).replace(b"I", _INTEGER).replace(b"GET", rb"h.|j....")  # fmt: skip
_TENSOR_SHORT = re.compile(_TENSOR.replace(b"PUT", b"q(.)"), re.DOTALL).match
_TENSOR_LONG = re.compile(_TENSOR.replace(b"PUT", b"r(....)"), re.DOTALL).match
_TENSOR_OPCODES = 24
_U32X5, _U32X7 = struct.Struct("<5I").unpack, struct.Struct("<7I").unpack
_WIDTHS = {0x4B: 1, 0x4D: 2, 0x4A: 4}  # bytes of the argument of BININT1, BININT2, BININT
_REBUILD, _HOOKS = ("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict")


class Broken(Exception):  # noqa: N818 - never leaves this module
    """The pickle cannot go on."""


def read_pickle(data: bytes | mmap, start: int = 0, stop: int | None = None) -> Document:
    """Reads one pickle, from its first opcode to its STOP.

    Args:
        data: The bytes that hold it.
        start: Where it begins.
        stop: Where it must end; None takes the end of ``data``.

    Returns:
        A `Document`; a damaged or hostile pickle gives one too, with ``broken`` telling what happened.
    """
    machine = Machine(data, start, len(data) if stop is None else stop)
    document = machine.document
    try:
        document.root = machine.run()
    except Broken as error:
        document.broken = str(error)
    except IndexError:
        document.broken = "it is cut short" if machine.pos >= machine.stop else "its stack is empty"
    except (KeyError, ValueError, TypeError, struct.error, OverflowError) as error:
        document.broken = f"{type(error).__name__} at byte {machine.pos - start}"
    if document.broken:
        document.root = machine.stack[:]  # the memo is among it: nothing leaves the stack but by POP
    document.end = machine.pos
    return document


def read_rest(data: bytes | mmap, start: int, stop: int | None = None) -> Iterator[tuple[int, Document]]:
    """Reads the pickles that follow a first one, up to bytes that are none; gives where each begins.

    Nobody but an attacker, or a writer of old, puts several into one record.
    """
    end = len(data) if stop is None else stop
    for _ in range(PICKLES):
        if start >= end:
            return
        document = read_pickle(data, start, end)
        if document.broken and not document.names:
            return
        yield start, document
        if document.broken:
            return
        start = document.end


class Machine:
    """The stack machine; `run` holds the opcodes that make up nearly all of a checkpoint, `_rare` the others."""

    def __init__(self, data: bytes | mmap, start: int, stop: int) -> None:
        self.data = data
        self.start = start
        self.stop = stop
        self.pos = start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self.known: dict[tuple[str, str], Name] = {}
        self.document = Document()
        self.rebuild = Name("", "")  # torch's, once the pickle has asked for it
        self.tensors = 0

    def run(self) -> Any:  # noqa: PLR0915 - one loop over the opcodes
        # local names and no method calls: this loop is what a peek costs
        data, stack, marks, memo = self.data, self.stack, self.marks, self.memo
        push, rare = stack.append, RARE
        pos = self.pos
        try:
            for _ in range(STEPS):
                op = data[pos]
                pos += 1
                if op == 0x71:  # BINPUT
                    memo[data[pos]] = stack[-1]
                    pos += 1
                elif op == 0x68:  # BINGET
                    push(memo[data[pos]])
                    pos += 1
                elif op == 0x4B:  # BININT1
                    push(data[pos])
                    pos += 1
                elif op == 0x94:  # MEMOIZE
                    memo[len(memo)] = stack[-1]
                elif op == 0x72:  # LONG_BINPUT
                    self.remember(_U32(data, pos)[0])
                    pos += 4
                elif op == 0x6A:  # LONG_BINGET
                    push(memo[_U32(data, pos)[0]])
                    pos += 4
                elif op == 0x28:  # MARK
                    end = self.tensor(pos - 1) if stack and stack[-1] is self.rebuild else 0
                    if end:
                        pos = end
                    else:
                        marks.append(len(stack))
                elif op == 0x74:  # TUPLE
                    mark = marks.pop()
                    stack[mark:] = [tuple(stack[mark:])]
                elif op == 0x85:  # TUPLE1
                    stack[-1] = (stack[-1],)
                elif op == 0x86:  # TUPLE2
                    stack[-2:] = [(stack[-2], stack[-1])]
                elif op == 0x58:  # BINUNICODE
                    size = _U32(data, pos)[0]
                    pos += 4
                    push(
                        str(data[pos : pos + size], "utf-8", "surrogatepass")
                        if size <= BLOB
                        else self.blob(pos, size, text=True)
                    )
                    pos += size
                elif op == 0x8C:  # SHORT_BINUNICODE
                    size = data[pos]
                    pos += 1
                    push(str(data[pos : pos + size], "utf-8", "surrogatepass"))
                    pos += size
                elif op == 0x4A:  # BININT
                    push(_I32(data, pos)[0])
                    pos += 4
                elif op == 0x4D:  # BININT2
                    push(_U16(data, pos)[0])
                    pos += 2
                elif op == 0x52:  # REDUCE
                    args = stack.pop()
                    stack[-1] = self.call(stack[-1], args)
                elif op == 0x51:  # BINPERSID
                    stack[-1] = self.refer(stack[-1])
                elif op == 0x29:  # EMPTY_TUPLE
                    push(())
                elif op == 0x89:  # NEWFALSE
                    push(False)
                elif op == 0x88:  # NEWTRUE
                    push(True)
                elif op == 0x47:  # BINFLOAT
                    push(_F64(data, pos)[0])
                    pos += 8
                elif op == 0x4E:  # NONE
                    push(None)
                elif op == 0x7D:  # EMPTY_DICT
                    push({})
                elif op == 0x5D:  # EMPTY_LIST
                    push([])
                elif op == 0x2E:  # STOP
                    return stack.pop()
                else:
                    self.pos = pos
                    handler = rare.get(op)
                    if handler is None:
                        raise Broken(f"byte {pos - 1 - self.start} is no pickle opcode ({op:#04x})")
                    handler(self)
                    pos = self.pos
                    if pos > self.stop:
                        raise Broken("it is cut short")
        finally:
            self.pos = pos  # where it broke off, if it did
        self.odd(f"whatever comes after {STEPS} steps")
        raise Broken(f"it is longer than {STEPS} steps")

    def tensor(self, pos: int) -> int:
        """Does at one go what the opcodes of a tensor do, if they are exactly torch's; gives where they end, else 0."""
        memo = self.memo
        short = len(memo) < 256
        match = (_TENSOR_SHORT if short else _TENSOR_LONG)(self.data, pos, self.stop)
        if match is None or self.tensors > STEPS // _TENSOR_OPCODES:
            return 0
        (storage, kind, length, key, put, device, numel, put_id, offset,
         shape, put_shape, stride, put_stride, grad, hooks, *puts) = match.groups(b"")  # fmt: skip
        raw = b"".join((put, put_id, put_shape, put_stride, *puts))
        places = raw if short else (_U32X7 if shape else _U32X5)(raw)
        try:
            word, of, where, ordered = _fetch(storage, kind, device, hooks)(memo)
        except KeyError:
            return 0
        if (
            type(of) is not Name
            or type(where) is not str
            or word != "storage"
            or ordered is not self.known.get(_HOOKS)
            or length[0] != len(key)
            or not memo.keys().isdisjoint(places)  # else what was looked up may be overwritten on the way
            or max(places) > self.stop - self.start
        ):
            return 0
        name = str(key, "ascii")
        pid = ("storage", of, name, where, _integers(numel)[0])
        sizes, steps = _integers(shape), _integers(stride)
        reference, made = Persistent(pid), Call(ordered, ())
        self.document.references.append(reference)
        args = (reference, _integers(offset)[0], sizes, steps, grad == b"\x88", made)
        self.stack[-1] = Call(self.rebuild, args)
        kept = (name, pid, sizes, steps, made, args, self.stack[-1])
        memo.update(zip(places, kept if shape else kept[:2] + kept[4:], strict=True))
        self.tensors += 1
        return match.end()

    # --- pieces

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.stop - self.pos:
            raise Broken("it is cut short")
        self.pos += size
        return self.data[self.pos - size : self.pos]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.pos, min(self.pos + LINE, self.stop))
        if end < 0:
            raise Broken("a line in it has no end")
        return self.take(end + 1 - self.pos)[:-1]

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def marked(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def blob(self, pos: int, size: int, *, text: bool) -> Blob:
        if size > self.stop - pos:
            raise Broken("it is cut short")
        return Blob(pos - self.start, size, text=text)

    def long(self, size: int, *, text: bool) -> None:
        if size <= BLOB:
            raw = self.take(size)
            self.stack.append(str(raw, "utf-8", "surrogatepass") if text else raw)
        else:
            self.stack.append(self.blob(self.pos, size, text=text))
            self.pos += size

    def integer(self, size: int) -> None:
        raw = self.take(size)
        if size > BIG_INTEGER:
            self.odd(f"an integer of {size} bytes")
            self.stack.append(Opaque(f"integer of {size} bytes"))
        else:
            self.stack.append(int.from_bytes(raw, "little", signed=True))

    def odd(self, text: str) -> None:
        if len(self.document.odd) < 100:
            self.document.odd.append(text)

    def name(self, module: object, name: object) -> Name:
        if type(module) is not str or type(name) is not str:
            self.odd("a name that is computed while loading")
            module, name = brief(module), brief(name)
        key = (module[:300], name[:300])
        if self.protocol < 3:
            from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

            key = NAME_MAPPING.get(key) or (IMPORT_MAPPING.get(key[0], key[0]), key[1])
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = Name(*key)
            self.document.names[key] = self.pos - self.start
            if key == _REBUILD:
                self.rebuild = found
        return found

    def call(self, of: object, args: object, kwargs: object = None) -> Call:
        if type(of) is not Name:
            self.odd(f"a call of {f'what {of!r:.80} gave' if type(of) is Call else type(of).__name__}")
        elif of.name == "getattr" and type(args) is tuple:
            self.document.lookups.append(args)
        call = Call(of, args)
        if kwargs is not None:
            call.kwargs = kwargs
        return call

    def remember(self, index: int) -> None:
        if index > self.stop - self.start:
            self.odd(f"a place in memory, {index}, that makes the loading program reserve gigabytes")
        self.memo[index] = self.stack[-1]

    def refer(self, pid: object) -> Persistent | Name:
        # torch's legacy format refers to a module's class this way, with its source beside it
        if type(pid) is tuple and len(pid) > 1 and pid[0] == "module" and type(pid[1]) is Name:
            return pid[1]
        reference = Persistent(pid)
        self.document.references.append(reference)
        return reference

    def put(self, target: object, pairs: Iterable[tuple[Any, Any]]) -> None:
        if type(target) is dict:
            for key, value in pairs:
                target[key if type(key) is str else safe_key(key)] = value
        elif isinstance(target, Call):
            target.entries = target.entries or []
            target.entries.extend(pairs)
        else:
            self.odd(f"entries put into {type(target).__name__}")

    def add(self, target: object, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(safe_key(item) for item in items)
        elif isinstance(target, Call):
            target.items = target.items or []
            target.items.extend(items)
        else:
            self.odd(f"items put into {type(target).__name__}")


@lru_cache(1024)
def _fetch(*gets: bytes) -> Callable[[dict[int, Any]], tuple[Any, ...]]:
    """Gets from the memory what some BINGET or LONG_BINGET push."""
    return itemgetter(*(int.from_bytes(each[1:], "little") for each in gets))


@lru_cache(1024)
def _integers(raw: bytes) -> tuple[int, ...]:
    """The integers that some opcodes push, whatever opcode makes a tuple of them."""
    found = []
    pos = 0
    while pos < len(raw):
        width = _WIDTHS.get(raw[pos], 0)
        if width:
            found.append(int.from_bytes(raw[pos + 1 : pos + 1 + width], "little", signed=width == 4))
        pos += 1 + width
    return tuple(found)
