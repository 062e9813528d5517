"""Each cast is found with its cause, on examples that are worked out by hand and beside torch's dispatcher."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.dtypes_study.invisible import ARCHITECTURES, PRECISIONS, differences
from trainlab.diagnostics.dtypes.rehearsal import rehearse_cuda
from trainlab.diagnostics.dtypes.trace import trace
from trainlab.visit import call, visit
from trainlab.visit.ops import ops

NAMED = {each.name: each for each in ARCHITECTURES}
LOW = torch.bfloat16


class Model(nn.Module):
    """One linear map, a gain in float64, a table in float16, and whatever forward a test gives it."""

    def __init__(self, forward):
        super().__init__()
        self.lin = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.gain = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.register_buffer("table", torch.zeros(2, 2, dtype=torch.float16))
        self.body = forward

    def forward(self, x):
        return self.body(self, x)


def traced(forward, *, autocast=None, x=None, **settings):
    model = Model(forward)
    x = torch.ones(2, 2) if x is None else x
    context = torch.autocast("cpu", autocast) if autocast else nullcontext()
    with visit(model), context, trace(model, **settings) as finish:
        model(x)
    return finish()


def casts(forward, **settings):
    """(op, tensor, before, after, cause, by) of each cast that was computed."""
    told = traced(forward, **settings)
    return [
        (told.rows[each.row].op, each.tensor, each.before, each.after, each.cause, each.by)
        for each in told.casts
        if not each.cached
    ]


# --- causes


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda m, x: x + x, []),
        (lambda m, x: x.half(), [("half", "0", "float32", "float16", "explicit", "")]),
        (lambda m, x: (x > 0).float(), [("float", "0", "bool", "float32", "explicit", "")]),
        (lambda m, x: x.to(m.gain), [("to", "0", "float32", "float64", "explicit", "")]),
        (lambda m, x: x.to("cpu"), []),
        (lambda m, x: x.sum(dtype=torch.float64), [("sum", "0", "float32", "float64", "explicit", "")]),
        (lambda m, x: torch.zeros_like(x, dtype=torch.half) + 1, []),
        (lambda m, x: x * m.gain, [("mul", "0", "float32", "float64", "parameter", "gain")]),
        (lambda m, x: x + m.table, [("add", "table", "float16", "float32", "promotion", "")]),
        (lambda m, x: x * torch.ones((), dtype=torch.float64), []),
        (
            lambda m, x: torch.cat([x, x.half()]),
            [
                ("half", "0", "float32", "float16", "explicit", ""),
                ("cat", "0.1", "float16", "float32", "promotion", ""),
            ],
        ),
        (lambda m, x: m.table.add_(x), [("add_", "result", "float32", "float16", "in place", "table")]),
        (
            lambda m, x: m.table.__setitem__(0, x[0]),
            [("setitem", "result", "float32", "float16", "in place", "table")],
        ),
        (
            lambda m, x: torch.exp(x, out=torch.empty(2, 2, dtype=torch.float64)),
            [("exp", "result", "float32", "float64", "in place", "")],
        ),
    ],
)
def test_a_cast_without_autocast_has_its_cause(forward, expected):
    assert casts(forward) == expected


AUTOCAST = [
    ("linear", "0", "float32", "bfloat16", "autocast", ""),
    ("linear", "lin.weight", "float32", "bfloat16", "autocast", ""),
    ("linear", "lin.bias", "float32", "bfloat16", "autocast", ""),
]


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda m, x: m.lin(x), AUTOCAST),
        # the second time, the weights come from the cache and the input has been cast
        (lambda m, x: m.lin(m.lin(x)), AUTOCAST),
        # a kernel that takes bfloat16 with float32 weights as they are
        (lambda m, x: m.norm(m.lin(x)), AUTOCAST),
        (lambda m, x: m.lin(x) + x, [*AUTOCAST, ("add", "0", "bfloat16", "float32", "promotion", "")]),
        (
            lambda m, x: F.mse_loss(m.lin(x), x),
            [*AUTOCAST, ("mse_loss", "0", "bfloat16", "float32", "promotion", "")],
        ),
        (
            lambda m, x: F.mse_loss(y := m.lin(x), y),
            [
                *AUTOCAST,
                ("mse_loss", "0", "bfloat16", "float32", "autocast", ""),
                ("mse_loss", "1", "bfloat16", "float32", "autocast", ""),
            ],
        ),
        (
            lambda m, x: torch.einsum("ij,jk", m.lin(x), x),
            [*AUTOCAST, ("einsum", "result", "float32", "bfloat16", "autocast", "")],
        ),
        (
            lambda m, x: m.lin(x).softmax(-1, dtype=torch.float32),
            [*AUTOCAST, ("softmax", "0", "bfloat16", "float32", "explicit", "")],
        ),
    ],
)
def test_a_cast_under_autocast_has_its_cause(forward, expected):
    assert casts(forward, autocast=LOW) == expected


def test_under_a_rehearsal_the_causes_are_those_of_cuda():
    model, x = Model(lambda m, x: F.layer_norm(m.lin(x), (2,)).softmax(-1)), torch.ones(2, 2)
    with visit(model), rehearse_cuda(torch.float16), trace(model) as finish:
        model(x)
    told = finish()
    assert [row.outputs for row in told.rows] == [("float16",), ("float32",), ("float32",)]
    assert [(told.rows[each.row].op, each.tensor, each.cause) for each in told.casts] == [
        ("linear", "0", "autocast"),
        ("linear", "lin.weight", "autocast"),
        ("linear", "lin.bias", "autocast"),
        ("layer_norm", "0", "autocast"),
    ]


def test_a_weight_is_cast_again_where_the_cache_is_defeated():
    def tied(m, x):
        return x @ m.lin.weight.T @ m.lin.weight.T  # a view is never kept

    def left_each_time(m, x):
        for _ in range(2):
            with torch.autocast("cpu", LOW):
                x = m.lin(x.float())

    @torch.inference_mode()
    def in_inference_mode(m, x):
        return m.lin(m.lin(x))

    def count(forward, **settings):
        return Counter(name for _, name, *_ in casts(forward, **settings))["lin.weight"]

    assert count(tied, autocast=LOW) == 2
    assert count(left_each_time) == 2
    assert count(in_inference_mode, autocast=LOW) == 2
    assert count(left_each_time, autocast=LOW) == 1


@pytest.mark.parametrize(
    "name", ["hf-bert", "hf-llama", "hf-t5", "translator", "unet", "spectral", "lstm", "gru", "digits"]
)
def test_the_casts_are_those_that_reach_the_dispatcher(name):
    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and args[0].dtype != result.dtype:
                seen.append(
                    (running[-1], *(str(each.dtype).removeprefix("torch.") for each in (args[0], result)))
                )
            return result

    def around(op, run):
        running.append(op.name)
        try:
            return run()
        finally:
            running.pop()

    running, seen = ["call"], []
    model, batch = NAMED[name].build()
    with visit(model, train=True, seed=0), torch.autocast("cpu", LOW), Listener(), ops(model, around):
        call(model, batch)
    with visit(model, train=True, seed=0), torch.autocast("cpu", LOW), trace(model) as finish:
        call(model, batch)
    computed = [each for each in finish().casts if each.cause in ("autocast", "explicit") and not each.cached]
    told = Counter((finish().rows[each.row].op, each.before, each.after) for each in computed)
    seen = Counter(each for each in seen if any("float" in dtype for dtype in each[1:]))
    # not told: what goes on inside an op whose result is told, and promotion, which autocast does for cat
    assert {op for op, *_ in seen - told} <= {
        "scaled_dot_product_attention",
        "lstm",
        "gru",
        "gru_cell",
        "cat",
    }
    assert not told - seen
    assert told


# --- rows


def test_a_row_tells_the_module_the_line_the_dtypes_and_the_shapes():
    row = traced(lambda m, x: m.lin(x), autocast=LOW).rows[0]
    assert (row.module, row.op, row.autocast) == ("lin", "linear", "bfloat16")
    assert row.inputs == ("float32",) * 3
    assert row.input_shapes == ((2, 2), (2, 2), (2,))
    assert (row.outputs, row.output_shapes) == (("bfloat16",), ((2, 2),))
    assert row.site.file == __file__
    assert (row.low, row.high, row.absmax) == (None, None, None)


def test_statistics_are_those_of_the_values_and_views_are_passed_over():
    told = traced(lambda m, x: (x * torch.tensor([[-3.0, 2.0]])).T.half(), statistics=True)
    rows = {row.op: row for row in told.rows}
    assert (rows["mul"].low, rows["mul"].high, rows["mul"].absmax) == (-3, 2, 3)
    assert rows["T"].low is None
    assert rows["half"].absmax == 3
    assert told.born == ()


def test_the_first_op_whose_output_is_not_finite_is_where_it_is_born():
    def forward(m, x):
        big = (x * 300).half()
        return (big * big) - (big * big).relu()

    told = traced(forward, statistics=True)
    assert [told.rows[i].op for i in told.born] == ["mul", "mul"]
    square, difference = told.rows[told.born[0]], told.rows[-1]
    assert (square.nan, square.inf, square.high) == (0, 4, math.inf)
    assert (difference.nan, difference.inf) == (4, 0)
    assert math.isnan(difference.absmax)


def test_what_the_batch_brings_in_is_not_born_in_the_model():
    told = traced(lambda m, x: (x + 1).log(), x=torch.full((2, 2), math.nan), statistics=True)
    assert [row.nan for row in told.rows] == [4, 4]
    assert told.born == ()
    told = traced(lambda m, x: x.sub_(1).log(), statistics=True)
    assert [told.rows[i].op for i in told.born] == ["log"]


# --- beside a peer, and invisible


@pytest.mark.parametrize("name", ["hf-bert", "hf-llama", "unet", "translator"])
def test_matrix_products_are_counted_as_by_debug_mode(name):
    debug_mode = pytest.importorskip("torch.utils._debug_mode")
    model, batch = NAMED[name].build()
    with visit(model, train=True, seed=0), debug_mode.DebugMode(record_torchfunction=False) as peer:
        call(model, batch)
    products = ("aten::mm", "aten::addmm", "aten::bmm", "aten::convolution")
    expected = sum(peer.debug_string().count(f"{each}(") for each in products)
    with visit(model, train=True, seed=0), trace(model) as finish:
        call(model, batch)
    ours = Counter(row.op for row in finish().rows)
    counted = sum(ours[each] for each in ("linear", "matmul", "bmm", "conv2d", "conv_transpose2d"))
    assert expected - 2 * ours["scaled_dot_product_attention"] <= counted <= expected
    assert counted


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_outputs_and_gradients_are_those_of_an_untraced_run(architecture):
    for precision in PRECISIONS:
        for train in (False, True):
            found = differences(architecture, precision, lambda m: trace(m, statistics=True), train=train)
            assert found == []
