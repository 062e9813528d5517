"""verify, salvage, diff, manifest: known damage, known answers."""

from __future__ import annotations

import os
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects.checkfile import State, check_manifest, diff, manifest, peek, salvage, verify

from .test_peek import flat, trained


def same_bits(a, b):
    a, b = a.detach().contiguous(), b.detach().contiguous()
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.flatten().view(torch.uint8).equal(b.flatten().view(torch.uint8))
        if a.numel()
        else a.shape == b.shape
    )


def test_a_whole_file_is_good_and_any_flipped_byte_is_found(tmp_path):
    whole, path = trained(tmp_path)
    torch.save(whole, path)
    assert verify(path).state is State.GOOD
    raw = path.read_bytes()
    places = random.Random(0).sample(range(len(raw)), 200)
    missed = []
    for place in places:
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            if verify(path).state is not State.DAMAGED:
                missed.append(place)
        except SubjectError:
            pass
    assert missed == []


def test_a_damaged_tensor_is_named(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1000), "b": torch.ones(1000)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"\0\0\x80?" * 100) + 50] ^= 1
    path.write_bytes(raw)
    found = verify(path)
    assert [each.tensors for each in found.damaged] == [("b",)]
    assert "does not have the stored CRC" in repr(found)
    saved = salvage(path, tmp_path / "b.safetensors")
    assert (saved.saved, saved.lost) == (("a",), ("b",))
    assert set(load_file(tmp_path / "b.safetensors")) == {"a"}


@pytest.mark.parametrize("kind", ["no crc", "legacy", "safetensors"])
def test_what_has_no_checksum_is_never_called_bad(tmp_path, kind):
    whole, path = trained(tmp_path)
    if kind == "no crc":
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(whole, path)
        finally:
            torch.serialization.set_crc32_options(True)
    elif kind == "legacy":
        torch.save(whole, path, _use_new_zipfile_serialization=False)
    else:
        path = path.with_suffix(".safetensors")
        save_file(whole["model"], path)
    found = verify(path)
    assert found.state is State.UNVERIFIABLE
    assert "manifest" in repr(found)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_cut_files_give_back_every_complete_tensor(tmp_path, new):
    whole, path = trained(tmp_path, large=[torch.randn(500, 7) for _ in range(10)])
    torch.save(whole, path, _use_new_zipfile_serialization=new)
    wanted = dict(flat(whole))
    raw = path.read_bytes()
    infos = peek(path).tensors
    starts = {
        name: raw.find(bytes(wanted[name].contiguous().flatten().view(torch.uint8).numpy()))
        for name in wanted
        if wanted[name].nbytes > 60
    }
    rng = random.Random(1)
    for number in range(20):
        cut = rng.randrange(len(raw) // 4, len(raw))
        path.write_bytes(raw[:cut])
        complete = {name for name, start in starts.items() if start + infos[name].nbytes <= cut - 40}
        out = tmp_path / f"out{number}.{'pt' if number % 2 else 'safetensors'}"
        try:
            saved = salvage(path, out)
        except SubjectError:
            assert not complete
            continue
        found = dict(flat(torch.load(out))) if number % 2 else load_file(out)
        assert complete <= set(found)
        assert all(same_bits(found[name], wanted[name]) for name in found)
        assert set(saved.saved) == set(found)


def test_salvage_takes_tensors_out_of_what_must_not_be_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, ("touch hostile",))

    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(5.0), "epoch": 4, "evil": Evil()}, path)
    salvage(path, tmp_path / "b.pt")
    loaded = torch.load(tmp_path / "b.pt", weights_only=True)
    assert loaded["w"].tolist() == [0, 1, 2, 3, 4]
    assert loaded["epoch"] == 4
    assert verify(tmp_path / "b.pt").state is State.GOOD


def test_salvage_refuses_what_makes_no_sense(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(UsageError, match="into itself"):
        salvage(path, path)
    with pytest.raises(UsageError, match="cannot salvage into"):
        salvage(path, tmp_path / "a.txt")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SubjectError):
        salvage(path, tmp_path / "b.pt")
    assert not list(tmp_path.glob(".*part"))


def test_diff_by_name_and_by_value(tmp_path):
    whole, a = trained(tmp_path)
    b = tmp_path / "b.pt"
    torch.save(whole, a)
    assert not diff(a, a).changed
    assert diff(a, a).equal
    whole["model"]["0.weight"] = whole["model"]["0.weight"] * 2
    whole["model"]["new"] = torch.ones(1)
    whole["model"]["2.bias"] = torch.ones(9)
    whole["config"] = {"hidden_dim": 768}
    torch.save(whole, b)
    found = diff(a, b, values=True)
    assert found.changed == ("model.0.weight",)
    assert found.only_b == ("model.new",)
    assert found.reshaped == {"model.2.bias": ("float32 [2]", "float32 [9]")}
    assert found.settings["config.hidden_dim"] == (4, 768)
    (change,) = found.values
    assert change.relative == pytest.approx(1)
    assert change.moved == 1
    assert "768" in repr(found)
    assert "model.0.weight" in found._repr_html_()


def test_diff_across_formats_reads_values(tmp_path):
    tensors = {"a": torch.randn(50, 3), "b": torch.randn(7)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pt")
    assert set(diff(tmp_path / "a.safetensors", tmp_path / "a.pt").unknown) == {"a", "b"}
    assert set(diff(tmp_path / "a.safetensors", tmp_path / "a.pt", values=True).same) == {"a", "b"}


def test_a_manifest_finds_what_changed(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "a.pt").write_bytes(b"1234")
        (folder / "b.pt").write_bytes(b"5678")
    path = manifest(here)
    assert check_manifest(here).ok
    assert check_manifest(path, there).ok
    (there / "a.pt").write_bytes(b"1235")
    (there / "b.pt").unlink()
    (there / "c.pt").write_bytes(b"x")
    found = check_manifest(path, there)
    assert (found.changed, found.missing, found.extra, found.ok) == (("a.pt",), ("b.pt",), ("c.pt",), False)
    with pytest.raises(SubjectError, match="no manifest"):
        check_manifest(there)


def test_a_folder_is_verified_file_by_file(tmp_path):
    whole, path = trained(tmp_path)
    torch.save(whole, path)
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:2000])
    found = verify(tmp_path)
    assert {each.name: each.state for each in found.checks} == {"a.pt": State.GOOD, "cut.pt": State.DAMAGED}
