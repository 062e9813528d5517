from __future__ import annotations

import argparse
import datetime as dt
import os
import pickle
import types
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.errors import SubjectError
from trainlab.subjects import checkpoints_in, open_checkpoint


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def fails(path, **options):
    with pytest.raises(SubjectError) as caught:
        open_checkpoint(path, **options)
    return str(caught.value)


def test_a_training_checkpoint_says_what_is_in_it(ckpt, net):
    opened = open_checkpoint(ckpt)
    assert (opened.format, opened.key, opened.path) == ("torch", "model", ckpt)
    assert opened.metadata == {"iter": 4000, "epoch": 3}
    assert opened.config == {"hidden": 8, "depth": 2, "lr": 1e-3, "data": {"size": 16}}
    assert opened.tensors["blocks.0.weight"] == ((8, 8), "float32")
    assert opened.others == {}  # neither the optimizer nor the random state is taken for a model
    assert opened.summary() == "6 tensors, 162 parameters, iter 4000, under 'model'"
    assert all(torch.equal(opened.state_dict()[name], each) for name, each in net.state_dict().items())
    assert repr(opened).splitlines()[0] == f"{ckpt} (torch): {opened.summary()}"
    assert not opened.describes_itself
    with pytest.raises(SubjectError, match="not the model they belong to"):
        opened.module()


def test_the_file_is_not_changed_through_the_mapped_weights(ckpt):
    before = ckpt.read_bytes()
    opened = open_checkpoint(str(ckpt))
    opened.state_dict()["head.bias"].fill_(9.0)
    assert ckpt.read_bytes() == before
    assert not torch.equal(open_checkpoint(ckpt).state_dict()["head.bias"], torch.full((2,), 9.0))


@pytest.mark.parametrize(
    "key",
    ["model", "state_dict", "model_state_dict", "module", "net", "generator", "ema", "params", "my_thing"],
)
def test_weights_are_found_under_any_usual_key(tmp_path, net, key):
    torch.save(
        {key: net.state_dict(), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, tmp_path / "a.pt"
    )
    assert open_checkpoint(tmp_path / "a.pt").key == key


def test_a_bare_state_dict(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert (opened.key, opened.metadata, opened.config) == ("", {}, None)
    assert list(opened.tensors) == list(net.state_dict())


def test_a_bare_state_dict_with_a_counter_in_it(tmp_path, net):
    torch.save({**net.state_dict(), "step": 12}, tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.metadata == {"step": 12}
    assert "step" not in opened.tensors


def test_of_several_sets_the_trained_one_is_taken_and_the_others_are_named(tmp_path, net):
    averaged = {name: each * 2 for name, each in net.state_dict().items()}
    torch.save({"ema": {"shadow": averaged}, "model": net.state_dict(), "step": 5}, tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.key == "model"
    assert list(opened.others) == ["ema.shadow"]
    assert opened.summary().endswith("step 5, under 'model', not 'ema.shadow'")
    other = open_checkpoint(tmp_path / "a.pt", key="ema.shadow")
    assert torch.equal(other.state_dict()["head.bias"], averaged["head.bias"])
    assert "did you mean 'ema.shadow'?" in fails(tmp_path / "a.pt", key="ema.shado")


def test_sets_whose_names_say_nothing_are_for_the_caller_to_choose(tmp_path, net):
    torch.save({"left": net.state_dict(), "right": net.state_dict()}, tmp_path / "a.pt")
    text = fails(tmp_path / "a.pt")
    assert "holds several sets of weights" in text
    assert "'left': 6 tensors" in text
    assert "key='left'" in text


def test_lightning(tmp_path, net):
    content = {
        "state_dict": {f"model.{name}": each for name, each in net.state_dict().items()},
        "hyper_parameters": {"hidden": 8},
        "pytorch-lightning_version": "2.4.0",
        "global_step": 70,
        "epoch": 1,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
    }
    torch.save(content, tmp_path / "last.ckpt")
    opened = open_checkpoint(tmp_path / "last.ckpt")
    assert (opened.format, opened.key, opened.config) == ("lightning", "state_dict", {"hidden": 8})
    assert opened.metadata["global_step"] == 70
    assert opened.others == {}


def test_argparse_and_paths_are_plain_enough_to_be_read(tmp_path, net):
    args = argparse.Namespace(hidden=8, out=PosixPath("runs"), inner=types.SimpleNamespace(a=1))
    torch.save({"model": net.state_dict(), "args": args}, tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.config == {"hidden": 8, "out": Path("runs"), "inner": {"a": 1}}
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_what_the_user_has_allowed_stays_allowed(tmp_path, net):
    torch.save({"model": net.state_dict(), "args": argparse.Namespace(hidden=8)}, tmp_path / "a.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        open_checkpoint(tmp_path / "a.pt")
        assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_what_weights_only_refuses_is_named_and_read_when_trusted(tmp_path, net):
    torch.save({"model": net.state_dict(), "took": dt.timedelta(1), "loss": 0.5}, tmp_path / "a.pt")
    text = fails(tmp_path / "a.pt")
    assert text.startswith(f"{tmp_path / 'a.pt'} holds code, and was not loaded")
    assert "torch.serialization.add_safe_globals([datetime.timedelta])" in text
    assert "trust=True loads it and runs whatever code it holds" in text
    assert f"`trainlab salvage {tmp_path / 'a.pt'} -o weights.safetensors`" in text
    assert open_checkpoint(tmp_path / "a.pt", trust=True).metadata == {"loss": 0.5}


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_arrays_and_numbers_are_read(tmp_path, net, zipped):
    stored = {
        "model": net.state_dict(),
        "loss": np.float64(0.5),
        "seen": np.int32(7),
        "good": np.bool_(True),
        "rng": np.random.RandomState(3).get_state(),
        "mean": np.arange(6.0).reshape(2, 3).T,
        "big": np.arange(3, dtype=">i4"),
        "names": np.array(["a", "bc"]),
    }
    torch.save(stored, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.metadata == {"loss": 0.5, "seen": 7, "good": True}
    content = opened.content()
    for name in ("mean", "big", "names"):
        assert content[name].dtype == stored[name].dtype.newbyteorder("=")
        assert np.array_equal(content[name], stored[name])
    restored = np.random.RandomState()
    restored.set_state(content["rng"])
    assert restored.rand() == np.random.RandomState(3).rand()


class Forged:
    """Pickles as a call of the function with these arguments, then a state."""

    def __init__(self, *what):
        self.what = what

    def __reduce__(self):
        return self.what


def test_forged_arrays_reach_nothing(tmp_path, net):
    """Numpy itself believes the flags of a pickled dtype, and then takes these bytes for pointers to objects."""
    rebuild = np.zeros(1).__reduce__()[0]
    scalar = np.float64(1).__reduce__()[0]
    forged = Forged(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
    structure = Forged(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (forged, 0)}, 8, 1, 0))
    plain = np.dtype("f8")
    arrays = {
        "objects by their flags": (rebuild, (np.ndarray, (0,), b"b"), (1, (1,), forged, False, b"A" * 8)),
        "a structure of objects": (rebuild, (np.ndarray, (0,), b"b"), (1, (1,), structure, False, b"A" * 8)),
        "too few bytes": (rebuild, (np.ndarray, (0,), b"b"), (1, (999,), plain, False, b"A" * 8)),
        "a list": (rebuild, (np.ndarray, (0,), b"b"), (1, (1,), plain, False, [1])),
        "a scalar of objects": (scalar, (forged, b"A" * 8)),
        "a scalar without its bytes": (scalar, (plain, b"A")),
    }
    for name, what in arrays.items():
        torch.save({"model": net.state_dict(), "x": Forged(*what)}, tmp_path / "a.pt")
        assert "cannot be read weights-only" in fails(tmp_path / "a.pt"), name


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path, net, zipped):
    content = {"model": net.state_dict(), "extra": Payload(tmp_path / "ran")}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    text = fails(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    assert "posix.mkdir" in text
    open_checkpoint(tmp_path / "a.pt", trust=True)
    assert (tmp_path / "ran").exists()


def test_every_blocked_name_is_listed(tmp_path):
    content = [Payload(tmp_path / "ran"), dt.timedelta(1), nn.Linear(1, 1), argparse.Namespace(a=1)]
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        text = fails(tmp_path / "a.pt")
        seen = text.split("seen: ")[1].split("try:")[0].split()
        expected = [
            "datetime.timedelta",
            "posix.mkdir",
            "torch.nn.modules.linear.Linear",
        ]
        assert seen == expected
        assert "do not load it: it would run posix.mkdir" in text
        assert "trust=True" not in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_model_is_refused_and_opened_when_trusted(tmp_path, zipped):
    model = nn.Sequential(nn.Linear(2, 3))
    torch.save(model, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    text = fails(tmp_path / "a.pt")
    assert "it is a pickled model: save model.state_dict() instead" in text
    opened = open_checkpoint(tmp_path / "a.pt", trust=True)
    assert (opened.format, opened.describes_itself) == ("pickled module", True)
    assert opened.tensors["0.weight"] == ((3, 2), "float32")


def test_the_format_before_zip(tmp_path, net):
    torch.save(
        {"model": net.state_dict(), "iter": 1}, tmp_path / "a.pth", _use_new_zipfile_serialization=False
    )
    opened = open_checkpoint(tmp_path / "a.pth")
    assert (opened.format, opened.metadata) == ("torch-legacy", {"iter": 1})


@pytest.mark.parametrize(
    ("content", "words", "advice"),
    [
        (b"", "is empty", "take the one before"),
        (b"\0" * 5000, "holds only zeros", "take the one before"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
            "is a git-LFS pointer",
            "git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is an HTML page", "login page"),
        (b"\x89HDF\r\n\x1a\n" + b"\1" * 99, "is an HDF5 file", "torch.save"),
        (b"GGUF" + b"\1" * 99, "is a GGUF file", "made from"),
        (b"\x1f\x8b" + b"\1" * 99, "is a gzip archive", "unpack"),
        (b"loss 0.5\nloss 0.4\n", "is a text file, not a checkpoint", ".safetensors"),
        (pickle.dumps({"a": 1}), "is a plain pickle", "torch.save"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, content, words, advice):
    (tmp_path / "a.pt").write_bytes(content)
    text = fails(tmp_path / "a.pt")
    assert f"{tmp_path / 'a.pt'} {words}" in text
    assert advice in text


def test_other_archives_are_called_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    assert "a .npz goes to batch=" in fails(tmp_path / "a.npz")


def test_the_whole_content_is_there_when_it_is_asked_for(ckpt, net, tmp_path):
    from safetensors.torch import save_file

    content = open_checkpoint(ckpt).content()
    assert list(content) == ["model", "optimizer", "rng", "iter", "epoch", "config"]
    assert content["optimizer"]["param_groups"][0]["lr"] == 1e-3
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path / "model.safetensors").content()) == set(net.state_dict())
    torch.save(content["optimizer"], tmp_path / "optimizer.pt")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 5}')
    folder = open_checkpoint(tmp_path).content()
    assert folder["trainer_state"] == {"global_step": 5}
    assert folder["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]


def test_a_file_that_is_cut_short(ckpt):
    whole = ckpt.read_bytes()
    for share in (0.99, 0.5, 0.05):
        ckpt.write_bytes(whole[: int(len(whole) * share)])
        assert "is cut short: the archive has no end" in fails(ckpt)


def test_a_damaged_legacy_file(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[:-200])
    assert "take the one before or copy it again" in fails(tmp_path / "a.pt")


def test_a_missing_file_has_neighbours(ckpt):
    assert "did you mean 'step_4000.pt'?" in fails(ckpt.with_name("step_400.pt"))
    assert "there is no folder" in fails(ckpt.parent.parent / "b" / "x.pt")
    for number in range(20):
        ckpt.with_name(f"other_{number:02}.ckpt").touch()
    assert "one of the 21 files there" in fails(ckpt.with_name("zzz"))


def test_folders_without_weights(tmp_path, ckpt):
    text = fails(ckpt.parent)
    assert "is a folder of checkpoints; which one?" in text
    assert str(ckpt) in text
    (tmp_path / "empty").mkdir()
    assert "is a folder without weights" in fails(tmp_path / "empty")
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp" / ".metadata").touch()
    assert "dcp_to_torch" in fails(tmp_path / "dcp")


def test_no_weights_inside(tmp_path):
    torch.save({"iter": 3, "note": "x"}, tmp_path / "a.pt")
    text = fails(tmp_path / "a.pt")
    assert "holds no weights" in text
    assert "a dict with 'iter': int, 'note': str" in text


def test_hostile_names_never_become_markup(tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    torch.save(
        {hostile: {hostile: torch.ones(1)}, "note": hostile, "config": {hostile: 1}}, tmp_path / "a.pt"
    )
    html = open_checkpoint(tmp_path / "a.pt")._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html


def test_a_key_where_there_is_one_set(tmp_path, net):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "a.safetensors")
    assert "holds a single set of weights" in fails(tmp_path / "a.safetensors", key="ema")


def test_the_checkpoints_in_a_folder_or_a_glob(tmp_path):
    for name in ("b/two.pt", "a/one.pt", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for place in (tmp_path, tmp_path / "*" / "*"):
        assert {Path(file).name for file in checkpoints_in(place)} == {"one.pt", "two.pt"}
    (tmp_path / "a" / "config.json").write_text("{}")
    assert checkpoints_in(tmp_path / "a") == [], "a Hugging Face folder is one checkpoint"
    assert checkpoints_in(tmp_path / "a" / "one.pt") == []
    assert checkpoints_in(None) == []
