from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects import find_recipe, load_model, open_checkpoint
from trainlab.subjects.importing import imported
from trainlab.subjects.model import open_model

from .conftest import CONFIG, Net


def fails(*args, **options):
    with pytest.raises(SubjectError) as caught:
        load_model(*args, **options)
    return str(caught.value)


# --- how the model is found


def test_a_builder_gets_the_stored_config(ckpt, net, same):
    assert same(load_model("shop:build", ckpt=ckpt, device="cpu"), net)


def test_the_origin_tells_builder_file_size_and_step(ckpt):
    made = open_model("shop:build", open_checkpoint(ckpt), None, device="cpu")
    size = "6 tensors, 162 parameters, iter 4000, under 'model'"
    assert made.origin == f"shop:build(config) with weights from {ckpt} ({size})"


def test_a_class_gets_the_keys_it_names(ckpt, net, same):
    made = open_model("shop:Net", open_checkpoint(ckpt), None, device="cpu")
    assert made.origin.startswith("shop:Net(hidden, depth) with weights")
    assert same(made.module, net)


def test_the_recipe_names_the_model(ckpt, net, same, write):
    write("runs/trainlab.toml", 'model = "models/own.py:make"')
    write("runs/models/own.py", "from shop import Net\ndef make(cfg): return Net(cfg.hidden)")
    assert same(load_model(ckpt=ckpt, device="cpu"), net)
    made = open_model(None, open_checkpoint(ckpt), find_recipe(ckpt), device="cpu")
    assert (
        f"models/own.py:make(config) as {ckpt.parents[1] / 'trainlab.toml'} says with weights" in made.origin
    )


def test_a_model_that_is_named_wins_over_the_recipe(ckpt, net, same, write):
    write("trainlab.toml", 'model = "nowhere:build"')
    assert same(load_model("shop:build", ckpt=ckpt, device="cpu"), net)


def test_without_a_model_the_error_says_three_ways_and_what_was_seen(ckpt):
    text = fails(ckpt=ckpt)
    assert text.startswith(f"{ckpt} does not say which model it belongs to")
    assert "blocks.0.weight  (8, 8)  float32" in text
    assert "config with hidden, depth, lr, data" in text
    assert "1. name what builds it: model='package.module:callable'" in text
    assert f"2. write it once for the project: {ckpt.parent / 'trainlab.toml'}" in text
    assert "3. give a checkpoint that describes itself" in text


def test_a_pickled_model_describes_itself_when_trusted(tmp_path):
    model = nn.Linear(2, 3)
    torch.save({"model": model, "iter": 3}, tmp_path / "a.pt")
    loaded = load_model(ckpt=tmp_path / "a.pt", trust=True, device="cpu")
    assert torch.equal(loaded.weight, model.weight)
    assert "trust=True" in fails(ckpt=tmp_path / "a.pt")


def test_a_module_that_is_false_is_still_a_model():
    empty = nn.Sequential()
    assert load_model(empty) is empty


def test_nothing_at_all():
    with pytest.raises(UsageError, match="neither a model nor a checkpoint"):
        load_model()


def test_a_model_alone_is_at_init_and_always_the_same(project, same):
    assert same(load_model("shop:Net", device="cpu"), load_model("shop:Net", device="cpu"))
    assert (
        open_model("shop:Net", None, None, device="cpu").origin
        == "shop:Net(), 162 parameters, at init (seed 0)"
    )


def test_a_path_given_as_the_model_is_pointed_to_ckpt(ckpt):
    assert f"try:  ckpt='{ckpt}'" in fails(str(ckpt))
    assert "seen: 'shop'" in fails("shop")


def test_what_is_no_builder(project):
    assert "shop:number is no callable that builds a model\n  seen: int" in fails("shop:number")
    assert "shop:one_batch(device) did not return a model\n  seen: dict" in fails("shop:one_batch")
    assert "seen: int" in fails(3)


# --- objects are never changed


def test_a_model_object_is_handed_back_as_it_is(net):
    assert load_model(net) is net


def test_weights_go_into_a_copy_of_a_model_object(ckpt, net, same):
    given = Net()
    before = {name: each.clone() for name, each in given.state_dict().items()}
    loaded = load_model(given, ckpt=ckpt)
    assert loaded is not given
    assert same(loaded, net)
    assert all(torch.equal(before[name], each) for name, each in given.state_dict().items())
    assert open_model(given, open_checkpoint(ckpt), None).origin.startswith("a copy of Net with weights from")


def test_a_model_object_in_a_module_is_not_changed_either(ckpt, net, same):
    with imported("shop:net") as given:
        before = given.head.weight.clone()
    assert same(load_model("shop:net", ckpt=ckpt), net)
    assert torch.equal(given.head.weight, before)


def test_a_model_object_that_is_elsewhere_is_copied_there(net):
    moved = load_model(net, device="meta")
    assert moved.head.weight.is_meta
    assert not net.head.weight.is_meta


def test_a_model_that_cannot_be_copied(ckpt, net):
    net.note = torch.ones(2, requires_grad=True) * 2  # not a leaf: deepcopy refuses it
    assert "give what builds it instead" in fails(net, ckpt=ckpt)


# --- building disturbs nobody


def test_building_leaves_the_random_streams_alone(ckpt, write):
    write(
        "noisy.py",
        "import random, numpy, torch, shop\ntorch.manual_seed(1)\ndef build(config):\n    random.random(); numpy.random.rand(); torch.manual_seed(5)\n    return shop.build(config)",
    )
    kept = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    load_model("noisy:build", ckpt=ckpt)
    assert random.getstate() == kept[0]
    assert np.random.get_state()[1].tolist() == kept[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), kept[2])


def test_fresh_is_the_same_architecture_at_init(ckpt, net):
    made = open_model("shop:build", open_checkpoint(ckpt), None, device="cpu")
    one, two = made.fresh(), made.fresh()
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, net.head.weight)
    assert torch.equal(made.module.head.weight, net.head.weight)


def test_a_builder_may_spoil_its_config(ckpt, net, same):
    def build(config):
        return Net(config.pop("hidden"), config.pop("depth"))

    made = open_model(build, open_checkpoint(ckpt), None, device="cpu")
    assert same(made.module, net)
    assert made.fresh().head.weight.shape == net.head.weight.shape


# --- devices


def test_devices(net):
    with pytest.raises(UsageError, match="there is no device 'cdua'") as caught:
        load_model(net, device="cdua")
    assert caught.value.fix == "did you mean 'cuda'?"
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda' is not on this machine"):
            load_model(net, device="cuda")


# --- names that a wrapper changed


def wrapped(net, prefix):
    return {f"{prefix}{name}": each for name, each in net.state_dict().items()}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model.", "own.thing."],
)
def test_prefixes_are_dropped(tmp_path, net, same, prefix):
    torch.save(wrapped(net, prefix), tmp_path / "a.pt")
    assert same(load_model(Net, ckpt=tmp_path / "a.pt", device="cpu"), net)


def test_names_that_compile_and_fsdp_put_in_the_middle(tmp_path, net, same):
    names = {
        "blocks.0.": "blocks.0._orig_mod.",
        "head.": "_fsdp_wrapped_module.head._checkpoint_wrapped_module.",
    }
    stored = {}
    for name, each in net.state_dict().items():
        short = (
            next(short for short in names if name.startswith(short))
            if not name.startswith("blocks.1.")
            else ""
        )
        stored[names.get(short, "") + name.removeprefix(short)] = each
    torch.save(stored, tmp_path / "a.pt")
    assert same(load_model(Net, ckpt=tmp_path / "a.pt", device="cpu"), net)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own imports
def test_real_wrappers_on_either_side(tmp_path, net, same):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    torch.save({"ema": averaged.state_dict()}, tmp_path / "a.pt")
    assert same(load_model(Net, ckpt=tmp_path / "a.pt", device="cpu"), net)
    torch.save(net.state_dict(), tmp_path / "b.pt")
    parallel = load_model(nn.DataParallel(Net()), ckpt=tmp_path / "b.pt")
    assert same(parallel.module, net)
    compiled = load_model(torch.compile(Net()), ckpt=tmp_path / "b.pt", device="cpu")
    assert torch.equal(compiled.state_dict()["_orig_mod.head.weight"], net.head.weight)


def test_what_lies_outside_a_dropped_prefix_is_left_aside_and_told(tmp_path, net):
    torch.save({"state_dict": {**wrapped(net, "model."), "loss.scale": torch.ones(1)}}, tmp_path / "a.ckpt")
    origin = open_model(Net, open_checkpoint(tmp_path / "a.ckpt"), None, device="cpu").origin
    assert origin.endswith("prefix 'model.' dropped, tensors left aside: 1)")


def test_lightning_beside_its_average_takes_the_model(tmp_path, net, same):
    zeros = {name: torch.zeros_like(each) for name, each in net.state_dict().items()}
    stored = {**{f"model_ema.{name}": each for name, each in zeros.items()}, **wrapped(net, "model.")}
    torch.save({"state_dict": stored}, tmp_path / "a.ckpt")
    assert same(load_model(Net, ckpt=tmp_path / "a.ckpt", device="cpu"), net)


def test_two_parts_that_fit_equally_well_are_not_guessed(tmp_path, net):
    torch.save({**wrapped(net, "student_a."), **wrapped(net, "student_b.")}, tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert "holds several parts that fit the model equally well" in text
    assert "student_a., student_b." in text


# --- what does not fit


def test_sizes_that_differ_name_both_shapes_and_the_config(tmp_path):
    torch.save({"model": Net(4).state_dict(), "config": {"hidden": 8, "depth": 2}}, tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert text.startswith(
        f"the weights in {tmp_path / 'a.pt'} do not fit Net(hidden, depth): 5 shapes differ"
    )
    assert "blocks.0.weight: the model has (8, 8), the checkpoint (4, 4)" in text
    assert "the checkpoint's config says hidden=8, its weights hold 4: build the model with hidden=4" in text


def test_a_builder_that_does_not_read_the_config(tmp_path):
    torch.save({"model": Net(4).state_dict(), "config": {"model": {"hidden": 4}}}, tmp_path / "a.pt")
    text = fails(lambda: Net(8), ckpt=tmp_path / "a.pt")
    assert (
        "the checkpoint's config says model.hidden=4, the model was built with 8: hand the builder its config"
        in text
    )


def test_without_a_config_the_sizes_are_said(tmp_path):
    torch.save(Net(4).state_dict(), tmp_path / "a.pt")
    assert "the model was built with 8 where the checkpoint holds 4: build it with 4" in fails(
        Net, ckpt=tmp_path / "a.pt"
    )


def test_a_stack_of_another_length(tmp_path):
    torch.save(Net(8, 5).state_dict(), tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert "6 unexpected" in text
    assert "the model has 2 blocks, the checkpoint 5: build it with 5" in text


def test_missing_and_unexpected_parts(tmp_path, net):
    stored = net.state_dict()
    del stored["head.weight"], stored["head.bias"]
    torch.save(stored, tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert "2 missing" in text
    assert "missing: head.weight" in text
    assert "'head' is not in the checkpoint" in text
    torch.save({**net.state_dict(), "extra.weight": torch.ones(1)}, tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert "unexpected: extra.weight" in text
    assert "'extra' is not in the model" in text


def test_another_set_of_weights_that_fits_is_named(tmp_path, net):
    torch.save({"model": {"other.weight": torch.ones(3)}, "ema": net.state_dict()}, tmp_path / "a.pt")
    assert "the weights under 'ema' fit: key='ema'" in fails(Net, ckpt=tmp_path / "a.pt")
    assert load_model(Net, ckpt=open_checkpoint(tmp_path / "a.pt", key="ema"), device="cpu")


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"conv.weight": torch.ones(3, 3)}, tmp_path / "a.pt")
    text = fails(Net, ckpt=tmp_path / "a.pt")
    assert "no name fits: the model's are like 'blocks.0.weight', the checkpoint's like 'conv.weight'" in text


def test_long_lists_are_cut(tmp_path):
    torch.save(Net(4, 20).state_dict(), tmp_path / "a.pt")
    text = fails(lambda: Net(8, 20), ckpt=tmp_path / "a.pt")
    assert "41 shapes differ" in text
    assert "… and 33 more" in text


def test_not_strict_loads_what_fits_and_says_what_not(tmp_path, net):
    torch.save({**net.state_dict(), "head.weight": torch.ones(5, 8)}, tmp_path / "a.pt")
    with pytest.warns(UserWarning, match="head.weight: the model has") as caught:
        loaded = load_model(Net, ckpt=tmp_path / "a.pt", strict=False, device="cpu")
    assert "loaded what fits of" in str(caught[0].message)
    assert torch.equal(loaded.blocks[0].weight, net.blocks[0].weight)


def test_hooks_of_the_model_may_rename_old_keys(tmp_path, net):
    class Renamed(Net):
        def __init__(self):
            super().__init__()
            self.register_load_state_dict_pre_hook(rename)

    def rename(module, state, prefix, *_):
        state[f"{prefix}head.bias"] = state.pop(f"{prefix}head.old_bias", state.get(f"{prefix}head.bias"))

    stored = net.state_dict()
    stored["head.old_bias"] = stored.pop("head.bias")
    torch.save(stored, tmp_path / "a.pt")
    assert torch.equal(load_model(Renamed, ckpt=tmp_path / "a.pt", device="cpu").head.bias, net.head.bias)


def test_lazy_layers_take_the_stored_shape(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 4)).state_dict(), tmp_path / "a.pt")
    loaded = load_model(lambda: nn.Sequential(nn.LazyLinear(4)), ckpt=tmp_path / "a.pt", device="cpu")
    assert loaded[0].weight.shape == (4, 3)


def test_config_reaches_nested_attributes(ckpt):
    seen = []

    def build(cfg):
        seen.append((cfg.data.size, cfg["data"]["size"], dict(cfg) == CONFIG))
        return Net(cfg.hidden)

    load_model(build, ckpt=ckpt)
    assert seen == [(16, 16, True)]
