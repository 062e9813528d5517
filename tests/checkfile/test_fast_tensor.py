"""The step that reads a tensor at one go gives what the opcodes give one by one, whatever the bytes are."""

from __future__ import annotations

import random
import struct
import zipfile
from typing import Any

import pytest
import torch

from trainlab.subjects.checkfile import inert
from trainlab.subjects.checkfile.stubs import Blob, Call, Name, Opaque, Persistent


def dump(document: inert.Document) -> object:
    """Everything in a document, sharing included, as plain values."""
    seen: dict[int, int] = {}
    keep: list[object] = []

    def plain(value: Any, depth: int = 0) -> object:
        if value is None or type(value) in (str, int, float, bool, bytes):
            return repr(value)
        if value == () or depth > 100:
            return "()"
        if type(value) is tuple and all(type(each) is int for each in value):
            return value
        if id(value) in seen:
            return f"@{seen[id(value)]}"
        seen[id(value)] = len(seen)
        keep.append(value)
        if type(value) in (Name, Blob):
            return repr(value)
        if type(value) is Opaque:
            return repr(value), plain(value.value, depth + 1)
        if type(value) is Persistent:
            return "reference", plain(value.id, depth + 1)
        if type(value) is Call:
            parts = (value.of, list(value.args), value.kwargs, list(value.states), value.items, value.entries)
            return "call", [plain(each, depth + 1) for each in parts]
        if type(value) is dict:
            return [(plain(key, depth + 1), plain(each, depth + 1)) for key, each in value.items()]
        if isinstance(value, (set, frozenset)):
            return type(value).__name__, sorted(repr(type(each)) for each in value)  # in no order
        return type(value).__name__, [plain(each, depth + 1) for each in value]

    told = (
        document.names,
        document.odd,
        document.end,
        document.broken,
        [plain(each) for each in document.lookups],
    )
    return plain(document.root), told, [plain(each) for each in document.references]


def both(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[object, object]:
    fast = dump(inert.read_pickle(raw))
    with monkeypatch.context() as patch:
        patch.setattr(inert.Machine, "tensor", lambda self, pos: 0)
        return fast, dump(inert.read_pickle(raw))


@pytest.fixture(scope="module", params=[3, 60])
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fast") / "a.pt"
    shared = torch.ones(3, 4)
    tensors: dict[str, object] = {
        f"layer.{n}": torch.ones([2] * (n % 6), dtype=[torch.float32, torch.bfloat16][n % 2])
        for n in range(request.param)
    }
    tensors |= {
        "tied": shared,
        "tied too": shared,
        "view": shared[1:, 2:].t(),
        "grad": torch.ones(2, requires_grad=True),
    }
    torch.save({"model": tensors, "state": torch.nn.Linear(2, 2).state_dict(), "epoch": 3}, path)
    with zipfile.ZipFile(path) as file:
        return file.read("a/data.pkl")


def test_it_is_taken_and_gives_the_same(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = inert.Machine(raw, 0, len(raw))
    machine.run()
    assert machine.tensors >= 5
    fast, slow = both(raw, monkeypatch)
    assert fast == slow


def test_changed_bytes_give_the_same(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(len(raw))
    for _ in range(600):
        changed = bytearray(raw)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(len(raw))
            changed[place] = rng.choice(
                (rng.randrange(256), changed[rng.randrange(len(raw))], changed[place] ^ 1)
            )
        fast, slow = both(bytes(changed), monkeypatch)
        assert fast == slow


@pytest.mark.parametrize("form", ["hooks", "device", "far", "name", "same place twice"])
def test_tricks_give_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that overwrites what it then reads, or calls something else than its name says."""
    put = {"hooks": 12, "device": 8}.get(form, 20)
    begin = b"\x80\x02]cposix\nsystem\nq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x04X\x07\0\0\0storageq\x05ctorch\nFloatStorage\nq\x06"
    begin += b"X\x03\0\0\0cpuq\x08ccollections\nOrderedDict\nq\x0c" + b"0" * 6
    puts = [bytes([b"q"[0], put + n if form not in ("hooks", "device") else put]) for n in range(7)]
    if form == "same place twice":
        puts = [b"q\x30"] * 7
    if form == "far":
        begin += b"".join(b"K\1r" + struct.pack("<I", 1000 + n) + b"0" for n in range(300))
        puts = [b"r" + struct.pack("<I", 2**31 + n) for n in range(7)]
    hooks = b"h\x01" if form == "name" else b"h\x0c"
    body = (
        b"h\x04((h\x05h\x06X\x01\0\0\x001" + puts[0] + b"h\x08K\x06t" + puts[1] + b"QK\0K\2K\3\x86" + puts[2]
    )
    body += b"K\3K\1\x86" + puts[3] + b"\x89" + hooks + b")R" + puts[4] + b"t" + puts[5] + b"R" + puts[6]
    fast, slow = both(begin + body + b"a.", monkeypatch)
    assert fast == slow
    assert "posix" in repr(inert.read_pickle(begin + body + b"a.").names)
