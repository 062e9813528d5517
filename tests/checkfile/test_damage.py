"""Files that claim what cannot be: told in our own words, and whatever else they hold is still found."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from trainlab.errors import SubjectError, TrainlabError, UsageError
from trainlab.subjects.checkfile import (
    State,
    TensorInfo,
    check_manifest,
    diff,
    manifest,
    peek,
    salvage,
    verify,
)
from trainlab.subjects.checkfile.shown import peek_dict
from trainlab.subjects.checkfile.tensors import Storage, layout
from trainlab.subjects.checkfile.values import Reader

from . import corpus
from .test_peek import KINDS, trained


@pytest.mark.parametrize(
    "claimed",
    [
        ((-1,), None, 0),
        ((2,), (-1,), 0),
        ((2,), (1,), -1),
        ((2**62, 4), None, 0),
        ((1,) * 200, None, 0),
        ((2,), (1, 1), 0),
    ],
)
def test_no_tensor_lies_where_none_can(claimed):
    with pytest.raises(ValueError, match=r"size|stride"):
        layout(*claimed)
    assert layout((2, 3), (3, 1)) == ((2, 3), None, 0)
    assert layout([2, 3], [1, 2], 4) == ((2, 3), (1, 2), 4)


@pytest.mark.parametrize("info", [
    TensorInfo("a", "float32", (1000, 1000), None, stride=(1, 1000)),
    TensorInfo("a", "float32", (1000,), None),
    TensorInfo("a", "M8", (2,), None),
])  # fmt: skip
def test_nothing_beyond_the_bytes_is_read(info, tmp_path):
    (tmp_path / "a").write_text("é" * 8)
    info.storage = Storage(tmp_path / "a", "", 0, 16, text=True)
    with Reader() as reader, pytest.raises(SubjectError):
        reader.array(info)


def test_a_tensor_of_huge_shape_can_be_shown(tmp_path):
    body = (
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n("
        + b"J\xff\xff\xff\x7f" * 40
        + b"t)\x89tR"
    )
    corpus.as_zip(corpus.whole(body), tmp_path / "a.pt")
    seen = peek(tmp_path / "a.pt")
    assert repr(seen)
    assert json.dumps(peek_dict(seen), allow_nan=False)
    assert any("does not take" in note for note in seen.notes)


def test_a_lost_header_costs_one_tensor(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(100), "b": torch.ones(100)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"PK\x03\x04", 0, raw.find(b"\0\0\x80?" * 50))] ^= 1
    path.write_bytes(raw)
    saved = salvage(path, tmp_path / "b.safetensors")
    assert (saved.saved, saved.lost) == (("a",), ("b",))
    assert "does not lie where the directory says" in repr(saved)
    assert set(load_file(tmp_path / "b.safetensors")) == {"a"}


def test_a_damaged_array_in_the_pickle_costs_itself_alone(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"array": np.full(20_000, 200, np.uint8), "b": torch.ones(3)}, path, pickle_protocol=2)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\xc3\x88", b"\xff\xff", 1))
    saved = salvage(path, tmp_path / "b.safetensors")
    assert (saved.saved, saved.lost) == (("b",), ("array",))
    assert "not the text" in repr(saved)


def test_salvage_of_a_missing_file_or_a_folder_says_so(tmp_path):
    (tmp_path / "out.pt").write_bytes(b"x")
    with pytest.raises(SubjectError, match="there is no file"):
        salvage(tmp_path / "missing.pt", tmp_path / "out.pt")
    with pytest.raises(UsageError, match="cannot salvage a folder"):
        salvage(tmp_path, tmp_path / "b.pt")


def test_salvage_keeps_long_integers_and_bytes(tmp_path):
    content = {"w": torch.ones(2), "big": -(3**1200), "huge": 3**1500, "raw": b"", "other": b"\0\xff"}
    torch.save(content, tmp_path / "a.pt")
    salvage(tmp_path / "a.pt", tmp_path / "b.pt")
    loaded = torch.load(tmp_path / "b.pt")
    assert loaded["big"] == content["big"]
    assert loaded["huge"] == str(content["huge"])
    assert (loaded["raw"], loaded["other"]) == (b"", b"\0\xff")


@pytest.fixture
def distributed(tmp_path):
    folder = tmp_path / "dcp"
    with pytest.warns(UserWarning, match="uninitialized"):
        dcp.save({"model": {"w": torch.ones(50)}, "epoch": 3}, checkpoint_id=folder)
    return folder


def test_a_distributed_checkpoint_is_verified_and_says_that_it_is_not_read(distributed):
    assert verify(distributed).state is State.GOOD
    with pytest.raises(SubjectError, match="verified, but not read") as error, Reader() as reader:
        reader.array(peek(distributed).tensors["model.w"])
    assert "dcp_to_torch" in error.value.fix
    with pytest.raises(UsageError, match="a folder") as told:
        salvage(distributed, distributed / "out.pt")
    assert "dcp_to_torch" in told.value.fix
    for file in distributed.glob("*.distcp"):
        file.unlink()
    assert peek(distributed).cut
    assert verify(distributed).state is State.DAMAGED
    (distributed / ".metadata").write_bytes(b"\x80\x04N.")
    assert "does not say where anything lies" in repr(verify(distributed))


@pytest.mark.filterwarnings("ignore")
def test_an_exported_model_with_a_damaged_description_is_told(tmp_path):
    net = torch.nn.Linear(4, 3).eval()
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), tmp_path / "a.pt2")
    for wrong in (b"{", b'{"config": []}'):
        with zipfile.ZipFile(tmp_path / "a.pt2") as old, zipfile.ZipFile(tmp_path / "b.pt2", "w") as new:
            for each in old.namelist():
                new.writestr(each, wrong if each.endswith("weights_config.json") else old.read(each))
        assert any("cannot be read" in note for note in peek(tmp_path / "b.pt2").notes)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [math.inf], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [-8, 4]},
    {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
    3,
])  # fmt: skip
def test_a_safetensors_entry_that_cannot_be_is_told(tmp_path, entry):
    header = json.dumps({"a": entry, "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    seen = peek(tmp_path / "a.safetensors")
    assert set(seen.tensors) == {"b"}
    assert "a: its entry in the header cannot be read" in seen.notes


@pytest.mark.parametrize(
    "storages", [b"K\x01.", b"\x80\x02K\x7f.\x80\x02X\x01\0\0\0ah\0.", b"X\xff\xff\xff\xff"]
)
def test_a_hostile_tar_with_broken_storages_is_still_flagged(tmp_path, monkeypatch, storages):
    body = corpus.whole(corpus.reduce("os", "system", "x"))
    monkeypatch.setattr(corpus, "whole", lambda _: storages)
    corpus.as_tar(body, tmp_path / "a.pt")
    seen = peek(tmp_path / "a.pt")
    assert "os.system" in seen.refusal()
    assert seen.cut


def test_a_tar_of_torch_0_1_is_read(tmp_path, monkeypatch):
    kind = b"ctorch\nFloatStorage\n"
    storages = (
        b"\x80\x02K\x01.\x80\x02K\x07" + corpus._text("cpu") + kind + b"\x87." + struct.pack("<q2f", 2, 1, 2)
    )
    tensor = struct.pack("<iiqqq", 1, 0, 2, 1, 0)
    tensors = b"\x80\x02K\x01.\x80\x02K\x09K\x07" + kind + b"\x87." + tensor
    given = iter([storages, tensors])
    monkeypatch.setattr(corpus, "whole", lambda _: next(given))
    corpus.as_tar(b"\x80\x02}.", tmp_path / "a.pt")
    seen = peek(tmp_path / "a.pt")
    assert not seen.cut
    with Reader() as reader:
        assert reader.array(seen.tensors["tensor 9"]).tolist() == [1, 2]


def test_diff_tells_what_was_zero_and_what_numpy_cannot_count(tmp_path):
    dates = np.arange(4000).astype("M8[s]")
    before = {"new": torch.zeros(3), "eight": torch.ones(4).to(torch.float8_e4m3fn), "dates": dates}
    after = {"new": torch.ones(3), "eight": torch.full((4,), 2.0).to(torch.float8_e4m3fn), "dates": dates}
    torch.save(before, tmp_path / "a.pt")
    torch.save(after, tmp_path / "b.pt")
    text = repr(diff(tmp_path / "a.pt", tmp_path / "b.pt", values=True))
    assert "new: was zero, moved to a norm of 1.732" in text
    assert "eight: 1 of its elements differ" in text
    assert "inf" not in text


def test_a_deepspeed_folder_that_claims_no_ranks(tmp_path):
    torch.save({"module": {"w": torch.ones(3)}, "dp_world_size": 0}, tmp_path / "mp_rank_00_model_states.pt")
    torch.save({}, tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert peek(tmp_path).format == "deepspeed"


def test_a_damaged_manifest_is_told(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"1234")
    path = manifest(tmp_path)
    for wrong in ('{"schema": 1, "files": {"a.pt": 3}}', '{"schema": 1, "files": []}', "[]"):
        path.write_text(wrong)
        with pytest.raises(SubjectError, match="is no manifest"):
            check_manifest(tmp_path)


def test_without_preadv_the_sums_are_the_same(tmp_path, monkeypatch):
    whole, path = trained(tmp_path)
    torch.save(whole, path)
    monkeypatch.delattr("os.preadv")
    assert verify(path).state is State.GOOD
    assert not salvage(path, tmp_path / "b.pt").lost


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps({}))

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(SubjectError, match="may not be read"):
        peek(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "torchscript"])
def test_whatever_byte_is_changed_every_error_is_ours(tmp_path, kind):
    path, changed = tmp_path / "a.pt", tmp_path / "changed.pt"
    if kind == "safetensors":
        save_file({"a": torch.ones(3, 4), "b": torch.ones(3, dtype=torch.bfloat16)}, path)
    elif kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(torch.nn.Linear(4, 3)).save(str(path))
    else:
        values = {
            name: KINDS[name][0]
            for name in ("namespace", "datetime", "sparse", "numpy random state", "deque")
        }
        torch.save({**values, "array": np.ones((50, 30))}, path, _use_new_zipfile_serialization=kind == "zip")
    raw, rng = path.read_bytes(), random.Random(0)
    for number in range(60):
        mutant = bytearray(raw)
        for _ in range(rng.choice((1, 1, 3, 9))):
            mutant[rng.randrange(len(raw))] = rng.choice((0, 255, rng.randrange(256), rng.choice(raw)))
        changed.write_bytes(mutant[: rng.randrange(len(raw)) if number % 6 == 0 else None])
        for act in (
            lambda: (repr(peek(changed)), json.dumps(peek_dict(peek(changed)), allow_nan=False)),
            lambda: repr(verify(changed)),
            lambda: repr(salvage(changed, tmp_path / "out.pt")),
            lambda: repr(diff(path, changed, values=True)),
        ):
            with contextlib.suppress(TrainlabError):
                act()
