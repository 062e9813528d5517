"""The model is left as it was found, bit for bit, whatever it or the visitor does."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.errors import SubjectError
from trainlab.visit import call, keep, tensors, visit, watch

quiet = pytest.mark.filterwarnings(
    "ignore:.*(weight_norm|spectral_norm|torch.jit).*", "ignore:Converting a tensor"
)


@quiet
@pytest.mark.parametrize("train", [False, True])
def test_model_is_left_as_found_bit_for_bit(subject, train, unsettle, portrait):
    model, batch = subject
    unsettle(model)
    before = portrait(model)
    for _ in range(2):
        with visit(model, train=train, seed=5):
            call(model, batch)
    assert portrait(model) == before


@quiet
def test_numbers_are_those_of_eval_bit_for_bit(subject, unsettle, bits):
    model, batch = subject
    with visit(unsettle(model)):
        ours = tensors(call(model, batch))
    model.eval()
    with torch.no_grad():
        theirs = tensors(
            model(**batch)
            if isinstance(batch, dict)
            else model(*batch)
            if type(batch) is tuple
            else model(batch)
        )
    assert ours.keys() == theirs.keys()
    assert ours
    assert all(bits(ours[key]) == bits(theirs[key]) for key in ours if not ours[key].is_meta)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_hostile_forward_is_undone_and_its_error_rises_unchanged(train, grad, hostile, unsettle, portrait):
    model = unsettle(hostile())
    generator = model.generator.get_state()
    before = portrait(model)
    with (
        pytest.raises(ZeroDivisionError, match=r"^the model's own$") as caught,
        visit(model, train=train, grad=grad),
    ):
        model(torch.ones(4))
    assert portrait(model) == before
    assert torch.equal(model.generator.get_state(), generator)
    assert not getattr(caught.value, "__notes__", [])


def test_visits_nest(hostile, unsettle, portrait):
    model = unsettle(hostile(raises=False))
    before = portrait(model)
    with visit(model, grad=True):
        model(torch.ones(4))
        between = portrait(model)
        with visit(model, train=True, seed=1):
            model(torch.zeros(4))
        assert portrait(model) == between
    assert portrait(model) == before


def test_eval_without_grad_is_the_default_and_train_and_grad_are_asked_for():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with visit(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
    with torch.no_grad(), visit(model, train=True, grad=True):
        assert all(m.training for m in model.modules())
        assert torch.is_grad_enabled()


def test_a_models_own_train_method_is_heeded():
    class FrozenNorm(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    model = FrozenNorm(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with visit(model, train=True):
        assert model[0].training
        assert not model[1].training


def test_batch_norm_learns_inside_a_training_visit_and_forgets_on_leaving(portrait):
    model = nn.BatchNorm1d(3)
    before = portrait(model)
    with visit(model, train=True):
        model(torch.randn(5, 3) + 9)
        assert model.num_batches_tracked == 1
        assert model.running_mean.mean() > 0.5
    assert portrait(model) == before


def test_gradients_are_set_aside_so_that_a_probe_may_call_backward():
    model = nn.Linear(3, 1)
    model(torch.ones(3)).backward()
    found, values = model.weight.grad, model.weight.grad.clone()
    with visit(model, grad=True):
        assert model.weight.grad is None
        (2 * model(torch.ones(3))).backward()
        assert torch.equal(model.weight.grad, torch.full((1, 3), 2.0))
    assert model.weight.grad is found
    assert torch.equal(found, values)


def test_a_pending_backward_of_the_caller_still_runs():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    loss = model(torch.randn(4, 3)).sum()
    with visit(model):
        model(torch.randn(4, 3))
    loss.backward()
    assert model[0].weight.grad is not None


def test_autocast_of_the_caller_sees_its_own_weights_again():
    model, x = nn.Linear(3, 3), torch.randn(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = model(x)
        torch.clear_autocast_cache()
        with visit(model, grad=True):
            model.weight.data.zero_()
            model(x)
        assert torch.equal(model(x), before)


def test_a_seed_fixes_every_stream_and_leaves_all_of_them_alone(portrait):
    model = nn.Dropout()

    def draw():
        with visit(model, train=True, seed=-7):
            drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
            return model(torch.ones(50)).tolist(), drawn

    before, first = portrait(model), draw()
    assert portrait(model) == before
    torch.rand(1)
    assert draw() == first


def test_without_a_seed_the_streams_go_on_from_where_they_stand():
    model = nn.Dropout()
    torch.manual_seed(11)
    expected = model(torch.ones(50))
    torch.manual_seed(11)
    with visit(model, train=True):
        assert torch.equal(model(torch.ones(50)), expected)


def test_global_hooks_are_left_alone():
    heard = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: heard.append(1))
    try:
        with visit(nn.Linear(2, 2)) as nothing:
            nn.ReLU()(torch.ones(1))
        nn.ReLU()(torch.ones(1))
    finally:
        handle.remove()
    assert (nothing, len(heard)) == (None, 2)


def test_a_storage_that_the_model_frees_is_grown_back():
    model = nn.Linear(3, 3)
    before = model.weight.detach().clone()
    with visit(model):
        model.weight.untyped_storage().resize_(0)
    assert model.weight.untyped_storage().nbytes() == before.nbytes
    assert torch.equal(model.weight, before)


def test_a_buffer_that_joined_a_graph_is_a_leaf_again():
    model = nn.Linear(2, 2)
    model.register_buffer("mean", torch.zeros(2))
    with visit(model, grad=True):
        model.mean.mul_(0.9).add_(model.bias)
        assert not model.mean.is_leaf
    assert model.mean.is_leaf
    assert not model.mean.requires_grad
    assert not model.mean.any()


# --- the cost rule


@pytest.fixture
def nothing_fits(monkeypatch):
    monkeypatch.setattr(keep, "COPY_LIMIT", 0)


def test_large_parameters_are_not_copied(nothing_fits):
    model = nn.BatchNorm1d(3)
    held = list(keep._held(model))
    assert {found.name: found.copy is not None for found in keep._storages_found(held)} == {
        "weight": False,
        "bias": False,
        "running_mean": True,
        "running_var": True,
        "num_batches_tracked": True,
    }


@pytest.mark.parametrize("large", [False, True])
def test_a_large_parameter_that_changes_is_named(monkeypatch, large, bits):
    model = nn.Sequential(OrderedDict(head=nn.Linear(3, 3)))
    monkeypatch.setattr(keep, "COPY_LIMIT", 0 if large else 2**20)
    before = bits(model.head.bias)
    if not large:
        with visit(model):
            model.head.bias.data[1] += 1
        assert bits(model.head.bias) == before
        return
    with pytest.raises(SubjectError) as caught, visit(model):
        model.head.bias.data[1] += 1
    assert str(caught.value) == (
        "Sequential changed its own parameters during a visit, and they are too large to put back\n"
        "  seen: head.bias\n"
        "  try:  load the model again, and let its forward write to parameters in training mode only"
    )


def test_a_large_parameter_that_is_rewritten_with_the_same_values_is_no_error(nothing_fits, portrait):
    model = nn.Linear(3, 3)
    before = portrait(model)
    with visit(model):
        model.weight.data.clamp_(-9, 9)
    assert portrait(model) == before


def test_a_large_parameter_that_is_replaced_comes_back(nothing_fits, portrait):
    model = nn.Linear(3, 3)
    before = portrait(model)
    with visit(model):
        model.weight.data = torch.ones(3, 3)
        model.bias = nn.Parameter(torch.ones(3))
    assert portrait(model) == before


def test_memory_that_is_a_buffer_anywhere_is_copied(nothing_fits):
    model = nn.Sequential(nn.BatchNorm1d(3))
    model.also_known_as = model[0].running_mean
    model.late = nn.Module()
    model.late.alias = model[0].running_mean
    with visit(model):
        model.also_known_as.add_(1)
    assert not model[0].running_mean.any()


def test_an_error_on_its_way_gets_the_change_as_a_note(nothing_fits):
    model = nn.Linear(3, 3)
    with pytest.raises(ZeroDivisionError) as caught, visit(model):
        1 / model.weight.data.zero_().sum().item()
    assert "seen: weight" in caught.value.__notes__[0]


# --- compiled, scripted, exported, lazy


def test_importing_trainlab_visit_and_visiting_load_no_compiler():
    code = (
        "import sys, torch; from trainlab.visit import visit\n"
        "with visit(torch.nn.Linear(2, 2)): pass\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_compiled_module_is_neither_compiled_nor_retraced(portrait):
    import torch._dynamo.testing

    counter = torch._dynamo.testing.CompileCounter()
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model, x = torch.compile(inner, backend=counter), torch.randn(3, 4)
    with visit(model):
        fresh = call(model, x)
    assert counter.frame_count == 0
    model(x)
    before, compiled = portrait(model), counter.frame_count
    heard = []
    with visit(model, seed=1), watch(model, lambda name, *_: heard.append(name)):
        assert fresh.shape == call(model, x).shape
    with visit(model, train=True):
        call(model, torch.randn(5, 4))
    assert heard == ["_orig_mod.0", "_orig_mod.1", "_orig_mod", ""]
    assert portrait(model) == before
    model(x)
    assert counter.frame_count == compiled == 1
    with pytest.raises(SubjectError, match=r"the batch has 'z', which Sequential\.forward does not take"):
        call(model, {"z": x})


class Scriptable(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen = self.seen + 1
        return self.norm(self.lin(x))


@quiet
@pytest.mark.parametrize("kind", ["script", "trace", "freeze", "inside"])
@pytest.mark.parametrize("train", [False, True])
def test_torchscript_is_left_as_found(kind, train, unsettle, portrait):
    x = torch.randn(3, 4)
    if kind == "trace":
        model = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), x)
    else:
        model = torch.jit.script(Scriptable())
    if kind == "freeze":
        model = torch.jit.freeze(torch.jit.script(nn.Linear(4, 4).eval()))
    if kind == "inside":
        model = nn.Sequential(nn.ReLU(), model)
    if kind != "freeze":
        unsettle(model)
    before, heard = portrait(model), []
    with visit(model, train=train), watch(model, lambda name, *_: heard.append(name)):
        assert call(model, x).shape == (3, 4)
    assert portrait(model) == before
    assert heard == (["0", ""] if kind == "inside" else [])


def test_an_exported_program_keeps_its_mode(portrait):
    x = torch.randn(2, 3)
    model = torch.export.export(nn.Linear(3, 3).eval(), (x,)).module()
    before = portrait(model)
    with visit(model):
        assert call(model, x).shape == (2, 3)
    with (
        pytest.raises(SubjectError, match="an exported program cannot be put into training mode"),
        visit(model, train=True),
    ):
        pytest.fail("entered")
    assert portrait(model) == before


def test_a_lazy_module_asks_for_one_batch_first(lazy):
    model, x = lazy
    with pytest.raises(SubjectError) as caught, visit(model):
        pytest.fail("entered")
    assert str(caught.value) == (
        "the parameter '5.weight' has no shape yet\n"
        "  seen: LazyLinear, which takes its shape from the first batch\n"
        "  try:  run one batch through the model first, or load a checkpoint into it"
    )
    model(x)
    with visit(model):
        assert call(model, x).shape == (4, 2)


@pytest.mark.parametrize(
    "use", [lambda m: visit(m).__enter__(), lambda m: call(m, 1), lambda m: watch(m, print).__enter__()]
)
def test_what_is_no_module_is_refused(use):
    with pytest.raises(SubjectError, match=r"the model is not an nn\.Module\n  seen: builtins\.str"):
        use("runs/a.pt")
