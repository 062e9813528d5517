"""Every function that a model calls is heard, where it is called, and nothing else is changed."""

from __future__ import annotations

import gc
import sys
import threading
import types
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from benchmarks.dtypes_study.invisible import ARCHITECTURES, PRECISIONS, differences
from trainlab.errors import SubjectError
from trainlab.visit import call
from trainlab.visit.ops import Site, ops


def heard(model, *batch, **kinds):
    """What is heard in one call of the model: (module, name) of each op, in order of their ends."""
    told = []

    def around(op, run):
        result = run()
        told.append((op.module, op.name))
        return result

    with torch.no_grad(), ops(model, around, **kinds):
        call(model, batch)
    return told


def line_of(text):
    """The line of this file on which the text stands, once."""
    lines = Path(__file__).read_text().splitlines()
    (found,) = [i for i, line in enumerate(lines, 1) if line.strip() == text]
    return found


class Functional(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def names(forward, *batch):
    return [name for _, name in heard(Functional(forward), *batch)]


# --- what is heard


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x + x", ["add"]),
        ("1 - x", ["rsub"]),
        ("x @ x.mT", ["mT", "matmul"]),
        ("x[0]", ["getitem"]),
        ("x.half()", ["half"]),
        ("x.relu_()", ["relu_"]),
        ("x.data", ["data"]),
        ("torch.add(x, x, out=torch.empty(2, 2))", ["empty", "add"]),
        ("torch.zeros(2)", ["zeros"]),
        ("torch.einsum('ij,jk', x, x)", ["einsum"]),
        ("F.gelu(x)", ["gelu"]),
        ("F.softmax(x, -1)", ["softmax"]),
        ("F.layer_norm(x, (2,))", ["layer_norm"]),
        ("F.max_pool1d(x, 2)", ["max_pool1d"]),
        ("torch.ops.aten.mul.Tensor(x, x)", ["mul"]),
        ("torch.ops.aten.mul(x, x)", ["mul"]),
        ("torch.ops.aten._softmax(x, -1, False)", ["softmax"]),
        ("torch.ops.aten._softmax.default(x, -1, False)", ["softmax"]),
        ("[row for row in x]", ["unbind"]),
        ("Doubling.apply(x)", ["mul", "Doubling.apply"]),
        ("nn.Linear(2, 2).requires_grad_(False)(x)", ["empty", "empty", "uniform_", "uniform_", "linear"]),
    ],
)
def test_a_call_is_heard_as_the_builtin_calls_that_it_comes_down_to(code, expected):
    assert names(lambda x: eval(code), torch.rand(2, 2)) == expected


@pytest.mark.parametrize(
    "code", ["x.shape", "x.size()", "x.dtype", "x.is_cuda", "len(x)", "x.dim()", "x.is_floating_point()"]
)
def test_questions_are_not_heard(code):
    assert names(lambda x: eval(code), torch.rand(2, 2)) == []


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2


def test_attention_in_training_mode_is_heard_op_by_op_and_its_fused_path_as_one():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2)
    assert heard(stack.eval(), torch.rand(1, 3, 4)) == [
        ("layers.0", "transformer_encoder_layer_fwd"),
        ("layers.1", "transformer_encoder_layer_fwd"),
    ]
    told = heard(stack.train(), torch.rand(1, 3, 4))
    assert told.count(("layers.1.self_attn", "scaled_dot_product_attention")) == 1
    assert told.count(("layers.0.linear1", "linear")) == 1


def test_torchscript_is_one_opaque_op_and_torch_compile_runs_eagerly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(2, 2))
    model = nn.Sequential(scripted, torch.compile(nn.Linear(2, 2), backend="eager"))
    told = []

    def around(op, run):
        told.append((op.module, op.name, op.opaque))
        return run()

    x = torch.rand(1, 2)
    with ops(model, around):
        model(x)
    assert told == [("0", "forward", True), ("1._orig_mod", "linear", False)]


def test_another_thread_is_not_heard():
    def forward(x):
        thread = threading.Thread(target=nn.Identity(), args=(x + 1,))
        thread.start()
        thread.join()
        return x

    assert names(forward, torch.rand(2)) == ["add"]


# --- where


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(2, 2)
        self.inner = nn.Sequential(nn.Linear(2, 2))

    def forward(self, x):
        y = self.inner(x)
        return torch.sigmoid(self.gate(x)) * y


def test_a_site_is_the_line_of_the_users_code_and_the_module_the_innermost():
    places = []

    def around(op, run):
        places.append((op.module, op.name, op.site))
        return run()

    model = Gated()
    x = torch.rand(1, 2)
    with ops(model, around):
        model(x)
    first = Site(__file__, line_of("y = self.inner(x)"), "Gated.forward")
    second = first._replace(line=line_of("return torch.sigmoid(self.gate(x)) * y"))
    assert places == [
        ("inner.0", "linear", first),
        ("gate", "linear", second),
        ("", "sigmoid", second),
        ("", "mul", second),
    ]
    assert str(first) == f"{__file__}:{first.line} in Gated.forward"


def test_a_site_is_not_known_once_the_call_is_over():
    kept = []

    def around(op, run):
        kept.append(op)
        return run()

    model = Gated()
    x = torch.rand(1, 2)
    with ops(model, around):
        model(x)
    assert {op.site for op in kept} == {Site("", 0, "")}
    assert str(kept[0].site) == "unknown"


# --- standing around


def test_other_arguments_another_run_and_another_result():
    def around(op, run):
        if op.name == "linear":
            with pytest.raises(RuntimeError, match="dtype"):
                run()
            return run([op.args[0].float(), *op.args[1:]], op.kwargs)
        return "nothing"

    model = Functional(lambda x, weight: (F.linear(x, weight), x.relu()))
    weight = torch.rand(2, 2)
    x = torch.ones(1, 2, dtype=torch.float16)
    with ops(model, around):
        product, nothing = model(x, weight)
    torch.testing.assert_close(product, weight.sum(1)[None])
    assert nothing == "nothing"


def test_modules_are_stood_around_too_and_what_they_call_is_heard():
    told = []

    def around(op, run):
        told.append(op.name)
        return run()

    def modules(op, run):
        told.append(f"{op.name} {op.module} begins")
        op.args[0].exp()  # our own, not heard
        result = run((op.args[0] * 0,), {})
        told.append(f"{op.name} ends")
        return result

    model = nn.Linear(2, 2, bias=False)
    x = torch.rand(1, 2)
    with ops(model, around, modules=modules):
        result = model(x)
    assert not result.any()
    assert told == ["Linear  begins", "linear", "Linear ends"]


def test_contexts_nest_the_inner_hears_first_and_the_outer_sees_through_it():
    told = []

    def outer(op, run):
        told.append(("outer", op.name, op.site.line))
        return run()

    def inner(op, run):
        told.append(("inner", op.name, op.site.line))
        return run() + 1  # ours: heard outside alone

    model = Functional(lambda x: x.relu())
    line = line_of("model = Functional(lambda x: x.relu())")
    x = torch.rand(2)
    with ops(model, outer):
        with ops(model, inner):
            model(x)
        model(x)
    assert told == [
        ("inner", "relu", line),
        ("outer", "relu", line),
        ("outer", "add", line_of("return run() + 1  # ours: heard outside alone")),
        ("outer", "relu", line),
    ]


def test_no_tensor_outlives_its_use_without_the_garbage_collector():
    def forward(x):
        y = x + 1
        kept = weakref.ref(y)
        y = y.relu() * 2
        alive.append(kept() is not None)
        return y

    alive = []
    gc.disable()
    try:
        heard(Functional(forward), torch.rand(2))
        names(forward, torch.rand(2))
    finally:
        gc.enable()
    assert alive == [False, False]


# --- undone


def patched_places():
    found = [vars(nn.Module)["__call__"], vars(torch.autograd.Function)["apply"]]
    found += [vars(each)["__call__"] for each in (torch._C.ScriptFunction, torch._C.ScriptMethod)]
    checks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    modules = (torch.overrides, torch.nn.functional, torch.functional, torch._tensor, torch.nn.init)
    found += [vars(module)[name] for module in modules for name in checks if name in vars(module)]
    return [*found, torch._C._len_torch_function_stack()]


def test_everything_is_undone_also_after_an_error():
    before = patched_places()

    def failing(op, run):
        raise KeyError(op.name)

    model, x = Gated(), torch.rand(1, 2)
    with pytest.raises(KeyError, match="linear"), ops(model, failing), ops(model, failing):
        model(x)
    after = patched_places()
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_a_module_that_is_first_imported_inside_keeps_no_blind_check():
    late = types.ModuleType("late_import")
    try:
        with ops(nn.Identity()):
            sys.modules["late_import"] = late
            late.has_torch_function = torch.overrides.has_torch_function
        assert late.has_torch_function is torch.overrides.has_torch_function
    finally:
        del sys.modules["late_import"]


def test_a_tensor_subclass_still_overrides_functions():
    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            calls.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs or {})

    calls = []
    loud = torch.rand(2, 2).as_subclass(Loud)
    F.gelu(loud)
    F.layer_norm(loud, (2,))
    alone, calls[:] = [*calls], []
    model = Functional(lambda x: (F.gelu(x), F.layer_norm(x, (2,))))
    with ops(model, lambda op, run: run()):
        model(loud)
    assert calls == alone == ["gelu", "layer_norm"]


def test_what_is_no_module_is_refused():
    with pytest.raises(SubjectError, match=r"not an nn\.Module"), ops("model"):
        pass


# --- invisible


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_outputs_and_gradients_are_those_of_an_unheard_run(architecture):
    def listening(model):
        return ops(model, lambda op, run: (op.site, run())[1], modules=lambda _, run: run())

    for precision in PRECISIONS:
        for train in (False, True):
            assert differences(architecture, precision, listening, train=train) == []
