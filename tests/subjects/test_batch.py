from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainlab.errors import SubjectError
from trainlab.subjects import load_batch
from trainlab.subjects.spec import batch_from_spec

from .test_checkpoint import Payload


def load(batch, **options):
    return load_batch(batch, device="cpu", **options)


def fails(batch, **options):
    with pytest.raises(SubjectError) as caught:
        load(batch, **options)
    return str(caught.value)


@dataclass
class Pair:
    x: torch.Tensor
    note: str


def test_objects_pass_through():
    x = torch.randn(2, 3)
    assert load(x) is x
    assert load((x, {"a": [x]}))[1]["a"][0] is x
    assert load({"x": x, "n": 3})["n"] == 3
    pair = load(Pair(x, "hello"))
    assert (type(pair), pair.note) == (Pair, "hello")
    assert torch.equal(load(np.ones((2, 3))), torch.ones(2, 3, dtype=torch.float64))


def test_tensors_go_to_the_device():
    assert load_batch({"x": [torch.ones(2)]}, device="meta")["x"][0].is_meta


def test_a_callable_is_called_with_config_and_device(project):
    assert load("shop:one_batch", config={"hidden": 5})["x"].shape == (4, 5)
    assert load("shop.py:one_batch")["x"].shape == (4, 8)
    assert load(lambda hidden: torch.ones(hidden, 2), config={"hidden": 3}).shape == (3, 2)
    assert torch.equal(load("shop:one_batch")["x"], load("shop:one_batch")["x"])


def test_a_callable_leaves_the_random_streams_alone(project):
    kept = random.getstate(), torch.get_rng_state()
    load("shop:one_batch")
    assert random.getstate() == kept[0]
    assert torch.equal(torch.get_rng_state(), kept[1])


def test_files(tmp_path):
    x = torch.randn(2, 3)
    torch.save({"x": x}, tmp_path / "a.pt")
    save_file({"x": x}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", x=x.numpy())
    np.save(tmp_path / "a.npy", x.numpy())
    for name in ("a.pt", "a.safetensors", "a.npz"):
        assert torch.equal(load(str(tmp_path / name))["x"], x)
    assert torch.equal(load(tmp_path / "a.npy"), x)


def test_code_in_files_does_not_run(tmp_path):
    torch.save(Payload(tmp_path / "ran"), tmp_path / "a.pt")
    assert "holds code, and was not loaded" in fails(str(tmp_path / "a.pt"))
    np.save(tmp_path / "a.npy", np.array([Payload(tmp_path / "ran")]), allow_pickle=True)
    assert "cannot be read as NumPy numbers" in fails(str(tmp_path / "a.npy"))
    np.savez(tmp_path / "a.npz", a=np.array([Payload(tmp_path / "ran")]))
    assert "save plain arrays, without objects" in fails(str(tmp_path / "a.npz"))
    assert not (tmp_path / "ran").exists()


def test_the_spec_of_the_guide():
    batch = load("{x: {shape: [2, 16, 4], dtype: float32}, tau: 0.5}")
    assert (batch["x"].shape, batch["x"].dtype, batch["tau"]) == ((2, 16, 4), torch.float32, 0.5)
    assert torch.equal(batch["x"], load('{"x": {"shape": [2, 16, 4]}, "tau": 0.5}')["x"])
    assert torch.equal(batch["x"], load({"x": {"shape": [2, 16, 4]}})["x"])


def test_fills():
    def made(**spec):
        return batch_from_spec({"shape": [2000], **spec})

    assert abs(made().mean()) < 0.1
    assert abs(made().std() - 1) < 0.1
    uniform = made(fill="uniform", low=-1, high=3, dtype="float64")
    assert -1 <= uniform.min() < -0.9
    assert 2.9 < uniform.max() < 3
    assert set(made(fill="randint", low=2, high=5, dtype="int64").tolist()) == {2, 3, 4}
    assert set(made(dtype="bool").tolist()) == {True, False}
    assert made(fill="ones").sum() == 2000
    assert made(fill="zeros", dtype="int8").dtype == torch.int8
    assert made(fill=0.5, dtype="bfloat16").unique().tolist() == [0.5]
    assert torch.equal(made(seed=3), made(seed=3))
    assert not torch.equal(made(seed=3), made(seed=4))


def test_two_tensors_of_one_shape_differ_and_lists_are_tuples_or_tensors():
    first, second = batch_from_spec([{"shape": [3]}, {"shape": [3]}])
    assert not torch.equal(first, second)
    assert batch_from_spec({"ids": [[1, 2], [3, 4]]})["ids"].dtype == torch.int64
    assert batch_from_spec([{"shape": [1]}, True, None, "text"])[1:] == (True, None, "text")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{x: {shape: [2], dtyp: int8}}", "batch.x has an unknown key 'dtyp'"),
        ("{x: {shape: [2], dtype: flaot32}}", "did you mean 'float32'?"),
        ("{x: {shape: [2], fill: nromal}}", "did you mean 'normal'?"),
        ("{x: {shape: 2}}", "shape of batch.x is a list of whole numbers"),
        ("{x: {shape: [2, -1]}}", "shape of batch.x is a list of whole numbers"),
        ("{x: {shape: [2, true]}}", "shape of batch.x is a list of whole numbers"),
        ("{x: {shape: [2], fill: normal, dtype: int64}}", "batch.x cannot be normal in int64"),
        ("{x: {shape: [2], low: 3}}", "go with uniform and randint"),
        ("{x: {shape: [2], fill: randint, low: 3, high: 1}}", "batch.x cannot be made"),
        ("{x: {shape: [2], fill: uniform, low: a}}", "batch.x cannot be made"),
        ("{x: [[1, 2], [3]]}", "make its rows equally long"),
        ("{x: {shape: [2]", "is not a spec"),
        ("{x: !!python/object/apply:os.getcwd []}", "is not a spec"),
        ("{tau: 0.5}", "the batch holds no tensor"),
    ],
)
def test_specs_that_say_what_is_wrong(spec, words):
    assert words in fails(spec)


def test_what_is_no_batch(project, tmp_path):
    text = fails("something else")
    assert "seen: 'something else'" in text
    assert "'package.module:callable', a file (.pt, .pth, .npz, .npy, .safetensors), or a spec" in text
    assert "holds no tensor" in fails(3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2)), batch_size=2)
    assert "try:  next(iter(loader))" in fails(loader)
    torch.save(torch.ones(1), tmp_path / "batch.pt")
    assert "did you mean 'batch.pt'?" in fails("bacth.pt")
    (tmp_path / "notes.txt").touch()
    assert "is not a file that batches are read from" in fails(tmp_path / "notes.txt")
