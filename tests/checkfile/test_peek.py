"""peek: right about every container and value kind, beside torch.load."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import pathlib
import random
import re
import struct
import tarfile
import types
import uuid
import warnings
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch._weights_only_unpickler import _get_allowed_globals

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile import Grade, peek
from trainlab.subjects.checkfile.grading import grade
from trainlab.subjects.checkfile.values import Reader


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    sizes: tuple = (1, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    lr: float = 0.1


class Own:
    def __init__(self):
        self.x = torch.ones(2)
        self.me = self


def trained(tmp_path, **extra):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(3):
        model(torch.randn(6, 5)).sum().backward()
        optimizer.step()
        scheduler.step()
    whole = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 3,
        "config": {"hidden_dim": 4},
    } | extra
    return whole, tmp_path / "a.pt"


def flat(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from flat(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from flat(each, f"{name}.{number}")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_is_as_torch_loads_it(tmp_path, new, protocol):
    base = torch.arange(24.0).reshape(4, 6)
    whole, path = trained(
        tmp_path,
        views={
            "column": base[:, 2],
            "transposed": base.t(),
            "part": base[1:3],
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(7),
        },
        kinds=[
            torch.ones(3, dtype=kind)
            for kind in (torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.complex64)
        ],
        parameter=torch.nn.Parameter(torch.ones(3)),
    )
    torch.save(whole, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    seen = peek(path)
    wanted = dict(flat(torch.load(path, weights_only=False)))
    assert set(seen.tensors) == set(wanted)

    with Reader() as reader:
        for name, tensor in wanted.items():
            info = seen.tensors[name]
            assert (info.shape, info.dtype) == (
                tuple(tensor.shape),
                str(tensor.dtype).removeprefix("torch."),
            ), name
            assert np.array_equal(
                reader.array(info),
                tensor.detach().float().numpy()
                if tensor.dtype == torch.bfloat16
                else tensor.detach().numpy(),
            )
    assert seen.format == ("torch" if new else "torch-legacy")
    assert seen.scalars["epoch"] == 3
    assert seen.config == {"hidden_dim": 4}
    assert (seen.optimizer.kind, seen.optimizer.steps, seen.optimizer.tensors) == ("AdamW", (3, 3), 18)
    assert seen.optimizer.lr == pytest.approx(whole["scheduler"]["_last_lr"])
    assert (seen.scheduler.kind, seen.scheduler.last_epoch) == ("CosineAnnealingLR", 3)
    assert seen.grade is Grade.HARMLESS
    assert seen.refusal() == ""
    assert next(iter(seen.weights)) == "model"
    assert seen.parameters == sum(each.numel() for each in whole["model"].values())


KINDS = {
    "numpy scalar": (np.float64(1.5), 1.5),
    "numpy int": (np.int32(-3), -3),
    "small array": (np.arange(3.0), [0.0, 1.0, 2.0]),
    "big-endian array": (np.arange(3, dtype=">i4"), [0, 1, 2]),
    "array of objects": (
        np.array([None, "a"], dtype=object),
        {"array": "object", "shape": (2,), "items": [None, "a"]},
    ),
    "numpy dtype": (np.dtype("f4"), "dtype(float32)"),
    "namespace": (argparse.Namespace(lr=0.1), {"lr": 0.1}),
    "simple namespace": (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b"),
    "datetime": (
        dt.datetime(2024, 5, 6, 7, 8, 9),  # noqa: DTZ001 - as scripts store it
        "2024-05-06 07:08:09",
    ),
    "date": (dt.date(2024, 5, 6), "2024-05-06"),
    "timedelta": (dt.timedelta(seconds=90), "0:01:30"),
    "enum": (Colour.RED, None),
    "dataclass": (Settings(), {"lr": 0.1, "sizes": (1, 2)}),
    "slotted": (Slotted(), {"state": [0.1]}),
    "defaultdict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "ordered": (collections.OrderedDict(a=1), {"a": 1}),
    "counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "deque": (collections.deque([1, 2], maxlen=5), [1, 2]),
    "set": ({3}, None),
    "decimal": (decimal.Decimal("1.5"), "1.5"),
    "uuid": (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    "complex": (1 + 2j, "(1+2j)"),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "slice": (slice(1, 2), "slice(1, 2, None)"),
    "size": (torch.Size([2, 3]), (2, 3)),
    "torch dtype": (torch.bfloat16, "torch.bfloat16"),
    "device": (torch.device("cuda", 1), "device(cuda:1)"),
    "own class": (Own(), None),
    "function": (flat, None),
    "class": (Own, None),
    "module": (torch.nn.Linear(2, 3), None),
    "optimizer": (torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), None),
    "generator state": (torch.get_rng_state(), None),
    "numpy generator": (np.random.default_rng(0), None),
    "numpy random state": (np.random.RandomState(0).get_state(), None),
    "python random state": (random.getstate(), None),
    "sparse": (torch.eye(3).to_sparse(), None),
    "partial": (functools.partial(torch.nn.Linear, 3), None),
    "regex": (re.compile("a+"), "a+"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_benign_values_are_told_and_tensors_stay_in_reach(tmp_path, kind, protocol):
    value, shown = KINDS[kind]
    path = tmp_path / "a.pt"
    torch.save(
        {"before": torch.ones(2), "value": value, "after": torch.ones(3)}, path, pickle_protocol=protocol
    )
    seen = peek(path)
    assert {"before", "after"} <= set(seen.tensors)
    assert seen.grade is not Grade.DANGEROUS, seen.globals
    if shown is not None:
        assert seen.tree["value"] == shown
    assert not [note for note in seen.notes if "cannot" in note or "not take" in note], seen.notes
    assert repr(seen)
    assert "<script" not in seen._repr_html_()


def test_objects_keep_their_fields_and_their_class(tmp_path):
    torch.save(
        {"own": Own(), "enum": Colour.RED, "net": torch.nn.Sequential(torch.nn.Linear(2, 3))},
        tmp_path / "a.pt",
    )
    seen = peek(tmp_path / "a.pt")
    assert seen.tree["own"].kind.endswith("Own")
    assert seen.tree["own"]["me"] is seen.tree["own"]
    assert "own.x" in seen.tensors
    assert "Colour" in str(seen.tree["enum"])
    assert {"net.0.weight", "net.0.bias"} <= set(seen.tensors)
    assert "torch.nn.modules.linear.Linear" in seen.refusal()
    assert "safe_globals" in seen.refusal()


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module_in_the_old_format_is_no_danger(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    seen = peek(tmp_path / "a.pt")
    assert seen.grade is Grade.NEEDS_ALLOWING, seen.globals
    assert seen.tree.kind == "torch.nn.modules.linear.Linear"
    assert "it is a pickled model" in seen.refusal()


def test_arrays_in_the_pickle_can_be_read(tmp_path):

    random = np.random.default_rng(0)
    arrays = {
        "small": random.random((5, 7)),
        "large": random.random((90, 70)).astype("f4"),
        "fortran": np.asfortranarray(random.random((80, 60))),
    }
    for protocol in (2, 5):
        torch.save(arrays, tmp_path / "a.pt", pickle_protocol=protocol)
        seen = peek(tmp_path / "a.pt")
        with Reader() as reader:
            for name, array in arrays.items():
                assert np.array_equal(reader.array(seen.tensors[name]), array), (name, protocol)


def test_peek_imports_neither_torch_nor_numpy(tmp_path, fresh_modules):
    whole, path = trained(tmp_path)
    torch.save(whole, path)
    loaded = fresh_modules(f"from trainlab.subjects.checkfile import peek; repr(peek({str(path)!r}))")
    assert not loaded & {"torch", "numpy", "trainlab.subjects.checkpoint"}


def test_torchs_own_list_is_ours():

    refused = [name for name in _get_allowed_globals() if grade(*name.rsplit(".", 1)) is not Grade.HARMLESS]
    assert refused == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1100000000\n",
            "a git-LFS pointer",
        ),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"<?xml version='1.0'?><Error>", "an XML page"),
        (bytes(5000), "holds only zeros"),
        (bytes(9000) + b"x" * 90000, "begins with zeros"),
        (b"", "is empty"),
        (b'{"a": 1}', "is JSON"),
        (b"hello there, this is a log\n", "is a text file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\x93NUMPY\x01", "a NumPy array"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"GGUF", "a GGUF file"),
        (b"\xde\xad\xbe\xef" * 9, "is not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, told):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(SubjectError, match=told) as error:
        peek(path)
    assert error.value.fix


def test_missing_files_and_other_archives_are_named(tmp_path):

    torch.save({}, tmp_path / "step_100.pt")
    with pytest.raises(SubjectError, match="there is no file") as error:
        peek(tmp_path / "step_1000.pt")
    assert error.value.fix == "did you mean 'step_100.pt'?"
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(SubjectError, match="not one that torch wrote"):
        peek(tmp_path / "a.pt")
    with tarfile.open(tmp_path / "b.pt", "w") as tar:
        tar.add(tmp_path / "a.pt", "a")
    with pytest.raises(SubjectError, match="a tar archive"):
        peek(tmp_path / "b.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubjectError, match="a folder, but no checkpoint"):
        peek(tmp_path / "empty")


def test_safetensors_and_shards(tmp_path):

    save_file(
        {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)},
        tmp_path / "model-1.safetensors",
        metadata={"format": "pt"},
    )
    seen = peek(tmp_path / "model-1.safetensors")
    assert {name: (info.dtype, info.shape) for name, info in seen.tensors.items()} == {
        "a": ("float32", (2, 3)),
        "b": ("bfloat16", (4,)),
    }
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    seen = peek(tmp_path)
    assert (seen.format, seen.config, seen.cut) == ("huggingface", {"hidden_size": 3}, True)
    assert "shard model-2.safetensors is missing: 1 tensors" in seen.notes
    raw = (tmp_path / "model-1.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(raw[:-4])
    assert peek(tmp_path / "cut.safetensors").cut


def test_a_trainers_folder(tmp_path):

    whole, _ = trained(tmp_path)
    save_file(whole["model"], tmp_path / "model.safetensors")
    torch.save(whole["optimizer"], tmp_path / "optimizer.pt")
    torch.save(whole["scheduler"], tmp_path / "scheduler.pt")
    torch.save(argparse.Namespace(learning_rate=1e-4), tmp_path / "training_args.bin")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 500, "epoch": 1.5, "log_history": []}')
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    seen = peek(tmp_path)
    assert seen.format == "trainer"
    assert (seen.scalars["global_step"], seen.scalars["epoch"]) == (500, 1.5)
    assert (seen.optimizer.kind, seen.optimizer.steps) == ("AdamW", (3, 3))
    assert seen.scheduler.last_epoch == 3
    assert seen.config == {"hidden_size": 4}
    assert "0.weight" in seen.tensors


def test_deepspeed(tmp_path):
    folder = tmp_path / "global_step7"
    folder.mkdir()
    (tmp_path / "latest").write_text("global_step7")
    torch.save(
        {"module": {"w": torch.ones(3)}, "dp_world_size": 2, "global_steps": 7},
        folder / "mp_rank_00_model_states.pt",
    )
    state = {
        "optimizer_state_dict": {
            "base_optimizer_state": {
                "state": {0: {"step": 7, "exp_avg": torch.ones(3)}},
                "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "params": [0]}],
            }
        }
    }
    torch.save(state, folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    seen = peek(tmp_path)
    assert (seen.format, seen.scalars["global_steps"]) == ("deepspeed", 7)
    assert any("2 data-parallel ranks" in note for note in seen.notes)
    assert seen.optimizer.steps == (7, 7)


@pytest.mark.filterwarnings("ignore")
def test_distributed_torchscript_and_export(tmp_path):

    whole, _ = trained(tmp_path)
    dcp.save({"model": whole["model"], "epoch": 3}, checkpoint_id=tmp_path / "dcp")
    seen = peek(tmp_path / "dcp")
    assert seen.format == "torch.distributed"
    assert seen.tensors["model.0.weight"].shape == (4, 5)
    assert seen.scalars["epoch"] == 3
    net = torch.nn.Linear(4, 3).eval()
    torch.jit.script(net).save(tmp_path / "s.pt")
    assert peek(tmp_path / "s.pt").format == "torchscript"
    assert peek(tmp_path / "s.pt").tensors["weight"].shape == (3, 4)
    assert peek(tmp_path / "s.pt").grade is Grade.HARMLESS
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), tmp_path / "m.pt2")
    assert peek(tmp_path / "m.pt2").format == "torch.export"
    assert peek(tmp_path / "m.pt2").tensors["weight"].shape == (3, 4)


def test_lightning(tmp_path):
    whole, path = trained(tmp_path)
    torch.save(
        {
            "pytorch-lightning_version": "2.4",
            "epoch": 4,
            "global_step": 99,
            "state_dict": whole["model"],
            "optimizer_states": [whole["optimizer"]],
            "lr_schedulers": [whole["scheduler"]],
            "hyper_parameters": {"dim": 4},
        },
        path,
    )
    seen = peek(path)
    assert (seen.format, seen.config, seen.scalars["global_step"]) == ("lightning", {"dim": 4}, 99)
    assert (seen.optimizer.name, seen.optimizer.kind, seen.scheduler.name) == (
        "optimizer_states.0",
        "AdamW",
        "lr_schedulers.0",
    )


def test_odd_archives_are_told(tmp_path):
    whole, path = trained(tmp_path)
    torch.save(whole, path)

    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("a/data/99", b"1234")
        file.writestr("a/data/0", b"1234")
    notes = " ".join(peek(path).notes)
    assert "more than once" in notes
    assert "belong to no tensor" in notes


def test_a_legacy_file_that_is_cut(tmp_path):
    whole, path = trained(tmp_path)
    torch.save(whole, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) - 40])
    seen = peek(path)
    assert seen.cut
    assert struct.calcsize("<q") == 8
    assert any("storages are not whole" in note for note in seen.notes)
