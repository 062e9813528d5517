from __future__ import annotations

import json
import sys
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from trainlab.errors import MissingExtraError, SubjectError
from trainlab.subjects import load_model, open_checkpoint
from trainlab.subjects.model import open_model

from .test_checkpoint import Payload


def test_safetensors(tmp_path, net, same):
    save_file(net.state_dict(), tmp_path / "a.safetensors", metadata={"step": "9"})
    (tmp_path / "config.json").write_text(json.dumps({"hidden": 8}))
    opened = open_checkpoint(tmp_path / "a.safetensors")
    assert (opened.format, opened.config, opened.metadata) == ("safetensors", {"hidden": 8}, {"step": "9"})
    assert opened.tensors["head.weight"] == ((2, 8), "float32")
    assert same(load_model(type(net), ckpt=opened, device="cpu"), net)


def test_safetensors_cut_short(tmp_path, net):
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-50])
    with pytest.raises(SubjectError, match="is damaged"):
        open_checkpoint(tmp_path / "a.safetensors")


def test_torch_export_is_read_without_running_it_and_run_when_trusted(tmp_path, net):
    x = torch.randn(1, 8)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "a.pt2")
    opened = open_checkpoint(tmp_path / "a.pt2")
    assert opened.format == "torch.export"
    assert {name: shape for name, (shape, _) in opened.tensors.items()} == {
        name: tuple(each.shape) for name, each in net.state_dict().items()
    }
    assert all(torch.equal(opened.state_dict()[name], each) for name, each in net.state_dict().items())
    with pytest.raises(SubjectError, match="opening one runs code that the file holds"):
        load_model(ckpt=tmp_path / "a.pt2")
    program = load_model(ckpt=tmp_path / "a.pt2", trust=True, device="cpu")
    torch.testing.assert_close(program(x), net(x))
    assert open_model(None, open_checkpoint(tmp_path / "a.pt2", trust=True), None, device="cpu").fresh is None


def test_code_in_an_exported_program_does_not_run(tmp_path, net):
    torch.export.save(torch.export.export(net, (torch.randn(1, 8),)), tmp_path / "a.pt2")
    torch.save(((Payload(tmp_path / "ran"),), {}), tmp_path / "payload")
    with zipfile.ZipFile(tmp_path / "a.pt2") as good, zipfile.ZipFile(tmp_path / "b.pt2", "w") as bad:
        for name in good.namelist():
            hostile = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, (tmp_path / "payload").read_bytes() if hostile else good.read(name))
    assert len(open_checkpoint(tmp_path / "b.pt2").tensors) == 6
    with pytest.raises(SubjectError, match="trust=True"):
        load_model(ckpt=tmp_path / "b.pt2")
    assert not (tmp_path / "ran").exists()


def test_torchscript(tmp_path, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, torch.randn(2, 8)), tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert (opened.format, opened.describes_itself) == ("torchscript", True)
    x = torch.randn(2, 8)
    torch.testing.assert_close(load_model(ckpt=opened, device="cpu")(x), net(x))


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, transformers):
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
    torch.manual_seed(3)
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(folder)
    return model, folder


def test_a_hugging_face_folder_describes_itself(gpt2):
    model, folder = gpt2
    opened = open_checkpoint(folder)
    assert opened.format == "huggingface"
    assert opened.config["n_embd"] == 8
    assert opened.metadata["model_type"] == "gpt2"
    assert opened.tensors["transformer.wte.weight"] == ((16, 8), "float32")
    loaded = open_model(None, opened, None, device="cpu")
    ids = torch.arange(4)[None]
    torch.testing.assert_close(loaded.module(ids).logits, model(ids).logits)
    assert loaded.origin.startswith(f"GPT2LMHeadModel from {folder} (")
    fresh = loaded.fresh()
    assert type(fresh) is type(model)
    assert not torch.equal(fresh.transformer.wte.weight, model.transformer.wte.weight)


def test_a_sharded_folder(gpt2, tmp_path):
    model, _ = gpt2
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    opened = open_checkpoint(tmp_path)
    torch.testing.assert_close(
        opened.state_dict()["transformer.ln_f.weight"], model.transformer.ln_f.weight.data
    )
    assert len(opened.tensors) == len(model.state_dict()) - 1  # the tied head is stored once
    next(tmp_path.glob("model-00001*")).unlink()
    with pytest.raises(SubjectError, match="lacks 1 of its"):
        open_checkpoint(tmp_path)


def test_tied_weights_that_were_stored_once_are_not_missing(gpt2):
    model, folder = gpt2
    loaded = load_model(lambda: type(model)(model.config), ckpt=folder, device="cpu")
    torch.testing.assert_close(loaded.lm_head.weight, model.transformer.wte.weight)


def test_a_hugging_face_folder_whose_head_was_not_saved(tmp_path, transformers):
    config = transformers.BertConfig(
        num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8, vocab_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert load_model(ckpt=tmp_path, device="cpu").config.hidden_size == 8
    (tmp_path / "config.json").write_text(
        json.dumps({**stored, "architectures": ["BertForSequenceClassification"]})
    )
    with pytest.raises(SubjectError, match="lacks 2 tensors of BertForSequenceClassification"):
        load_model(ckpt=tmp_path, device="cpu")


def test_without_transformers_the_extra_is_named(gpt2, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"trainlab\[huggingface\]"):
        load_model(ckpt=gpt2[1])


def test_a_folder_with_weights_only(tmp_path, net, same):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    assert same(load_model(type(net), ckpt=tmp_path, device="cpu"), net)
    with pytest.raises(SubjectError, match="does not say which model it belongs to"):
        load_model(ckpt=tmp_path)


def test_a_folder_with_pickled_weights_is_read_weights_only(tmp_path, net, same):
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    assert same(load_model(type(net), ckpt=tmp_path, device="cpu"), net)
    torch.save({**net.state_dict(), "extra": Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SubjectError, match="holds code"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_broken_config_json(tmp_path, net):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SubjectError, match=r"config\.json is not JSON"):
        open_checkpoint(tmp_path)


def test_a_model_with_its_own_code_needs_trust(tmp_path, net, transformers):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    own = {"model_type": "shop", "auto_map": {"AutoConfig": "shop.Config", "AutoModel": "shop.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "shop.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})")
    with pytest.raises(SubjectError, match="needs trust=True"):
        load_model(ckpt=tmp_path)
    assert not (tmp_path / "ran").exists()
