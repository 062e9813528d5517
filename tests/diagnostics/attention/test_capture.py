"""The capture does no harm, says what it missed, and finds the output projection."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import visit

from .test_capture_kernels import Functional, close, eager, record, weights_of


class Attention(nn.Module):
    """Self-attention with everything that draws random numbers; ``written`` out, or by the fused kernel."""

    def __init__(self, *, written, heads=4, width=16):
        super().__init__()
        self.written, self.num_heads = written, heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        drop = 0.3 if self.training else 0.0
        if self.written:
            raw = q @ k.mT / q.shape[-1] ** 0.5
            mixed = functional.dropout(raw.softmax(-1), drop, self.training) @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.out(functional.dropout(mixed.transpose(1, 2).flatten(2), 0.1, self.training))


class Model(nn.Module):
    def __init__(self, *, written, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.layers = nn.ModuleList(Attention(written=written) for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        for layer in self.layers:
            called = layer if self.reentrant is None else lambda x, layer=layer: self.again(layer, x)
            x = x + called(x)
        return self.head(x).softmax(-1)

    def again(self, layer, x):
        return checkpoint(layer, x, use_reentrant=self.reentrant)


def step(model, x, heard=None):
    """Output, loss gradients and the random stream after a training step."""
    torch.manual_seed(1)
    model.zero_grad()
    x = x.clone().requires_grad_()
    if heard is None:
        out = model(x)
        out.square().sum().backward()
    else:
        with capture(model, heard, lambda _n, _w: None):
            out = model(x)
            out.square().sum().backward()
    return [out.detach(), x.grad, *(each.grad for each in model.parameters()), torch.get_rng_state()]


# --- no harm


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_numbers_stay_to_the_last_bit(written, reentrant, autocast, training):
    torch.manual_seed(0)
    model, x, seen = Model(written=written, reentrant=reentrant).train(training), torch.randn(2, 6, 16), []

    def heard(call):
        seen.append(weights_of(call).sum())

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain = step(model, x)
        listened = step(model, x, heard)
    assert all(map(torch.equal, plain, listened))
    assert len(seen) == 2  # what a checkpoint computes again is no attention of its own


def test_an_error_of_the_listener_surfaces_and_all_is_put_back():
    model, x = Model(written=False).eval(), torch.randn(2, 6, 16)
    before = (threading.Thread.start, nn.Module.__call__)

    def heard(_call):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), visit(model), capture(model, heard):
        model(x)
    assert before == (threading.Thread.start, nn.Module.__call__)
    assert torch.is_grad_enabled()
    assert not torch.overrides._is_torch_function_mode_enabled()
    calls, _, _, _, _ = record(model, x)
    assert len(calls) == 2


@pytest.mark.parametrize("written", [False, True])
def test_no_tensor_is_kept(written):
    model, alive = Model(written=written), []
    real = functional.softmax

    def heard(call):
        alive.extend(weakref.ref(each) for each in (call.q, call.weights, call.out) if each is not None)

    with torch.no_grad(), capture(model, heard) as coverage:
        out = model(torch.randn(2, 6, 16))
        assert not any(each() is not None for each in alive)
        del out
    gc.collect()
    assert alive
    assert coverage.recorded == 2
    assert functional.softmax is real


def test_scores_are_not_kept_longer_than_the_model_does():
    alive = []

    def forward(q):
        raw = q @ q.mT
        alive.append(weakref.ref(raw))
        weights = raw.softmax(-1)
        alive.append(weakref.ref(weights))
        del raw
        assert alive[0]() is None
        out = weights @ q
        del weights
        assert alive[1]() is None
        return out

    calls, _, _, _, _ = record(Functional(forward), torch.randn(2, 4, 6, 8))
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_are_not_compiled_again():
    model = Model(written=False).eval()
    compiles = []
    compiled = torch.compile(model, backend=lambda graph, _: compiles.append(1) or graph.forward)
    x = torch.randn(2, 6, 16)
    with torch.no_grad():
        compiled(x)
        found = len(compiles)
        calls, _, _, _, _ = record(compiled, x)
        compiled(x)
    torch._dynamo.reset()
    assert len(calls) == 2
    assert len(compiles) == found


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_exported_programs(written, decomposed):
    model, x = Model(written=written).eval(), torch.randn(2, 6, 16)
    program = torch.export.export(model, (x,))
    program = program.run_decompositions() if decomposed else program
    _, expected, _, _, _ = record(model, x)
    _, maps, _, coverage, _ = record(program.module(), x)
    assert not any(missed.attends for missed in coverage.missed)
    for found, true in zip(maps, expected, strict=True):
        close(found, true)


def test_one_module_called_twice_is_recorded_twice():
    layer = Attention(written=False)
    calls, _, projections, _, _ = record(nn.Sequential(layer, layer), torch.randn(2, 6, 16))
    assert [call[0] for call in calls] == ["0", "0"]
    assert projections.keys() == {0, 1}


# --- the output projection


def heads_of(weight):
    return weight.detach().unflatten(1, (4, -1))


def wide(mixed):
    """(batch, head, token, depth) -> (batch, token, head × depth)."""
    return mixed.transpose(1, 2).flatten(2)


PROJECTIONS = {
    "linear": (lambda mixed, w, b: functional.linear(wide(mixed), w, b), True),
    "matmul": (lambda mixed, w, _: wide(mixed).contiguous() @ w.T, True),
    "addmm": (lambda mixed, w, b: torch.addmm(b, wide(mixed).reshape(-1, 32), w.t()), True),
    "einsum": (lambda mixed, w, _: torch.einsum("bhtd,ohd->bto", mixed, w.unflatten(1, (4, 8))), True),
    "permuted": (
        lambda mixed, w, b: functional.linear(mixed.permute(0, 2, 1, 3).reshape(2, -1, 32), w, b),
        True,
    ),
    "depth first": (lambda mixed, w, b: functional.linear(mixed.permute(0, 2, 3, 1).flatten(2), w, b), False),
    "convolution": (
        lambda mixed, w, b: functional.conv1d(mixed.transpose(2, 3).flatten(1, 2), w[..., None], b),
        True,
    ),
    "cast and dropped": (
        lambda mixed, w, b: functional.linear(
            functional.dropout(wide(mixed).double(), 0.0), w.double(), b.double()
        ),
        True,
    ),
    "gated": (lambda mixed, w, b: functional.linear(wide(mixed).sigmoid() * wide(mixed), w, b), None),
    "normalised": (
        lambda mixed, w, b: functional.linear(functional.layer_norm(wide(mixed), (32,)), w, b),
        None,
    ),
    "mixed up": (lambda mixed, w, b: functional.linear(mixed.reshape(2, -1, 32), w, b), None),
    "of one head": (lambda mixed, w, _: mixed[:, 0] @ w[:8], None),
}


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("written", [False, True])
def test_projection(name, written):
    project, straight = PROJECTIONS[name]
    torch.manual_seed(0)

    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(24, 32)), nn.Parameter(torch.randn(24))

        def forward(self, q):
            mixed = (
                (q @ q.mT).softmax(-1) @ q if written else functional.scaled_dot_product_attention(q, q, q)
            )
            return project(mixed, self.weight, self.bias)

    model = Projected()
    _, _, projections, _, _ = record(model, torch.randn(2, 4, 6, 8))
    if straight is None:
        assert projections == {}
    elif straight:
        close(projections[0].float(), heads_of(model.weight))
    else:
        close(projections[0], model.weight.detach().unflatten(1, (8, 4)).transpose(1, 2))


def test_heads_folded_into_the_batch_are_projected():
    model = Attention(written=True)
    model.forward = lambda x: model.out(attended(model.qkv(x)))

    def attended(x):
        q = x[..., :16].reshape(6, 2 * 4, 4).transpose(0, 1)
        return ((q @ q.mT).softmax(-1) @ q).transpose(0, 1).reshape(6, 2, 16)

    _, _, projections, _, _ = record(model, torch.randn(6, 2, 16))
    close(projections[0], heads_of(model.out.weight))


# --- what is said


def missed(model, *batch):
    calls, _, _, coverage, _ = record(model, *batch)
    assert calls == []
    return {(each.kernel, each.attends): each.count for each in coverage.missed}


class Layers(nn.Module):
    def __init__(self, attend):
        super().__init__()
        self.q, self.k, self.v, self.attend = *(nn.Linear(16, 16) for _ in range(3)), attend

    def forward(self, x):
        return self.attend(self.q(x), self.k(x), self.v(x))


@torch.library.custom_op("trainlab_tests::mix", mutates_args=())
def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.mT).softmax(-1) @ v


def in_a_thread(q, k, v):
    made = []
    thread = threading.Thread(target=lambda: made.append(functional.scaled_dot_product_attention(q, k, v)))
    thread.start()
    thread.join()
    return made[0]


def banded(q, k, v):
    """Weights of the token itself and its two neighbours, element by element."""
    raw = torch.stack([(q * k.roll(shift, 1)).sum(-1) for shift in (-1, 0, 1)], -1)
    weights = raw.softmax(-1)
    return sum(weights[..., i, None] * v.roll(shift, 1) for i, shift in enumerate((-1, 0, 1)))


class BandedAttention(Layers):
    pass


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Layers(lambda q, k, v: (q @ k.mT).sigmoid() @ v), {("matmul", True): 1}),
        (Layers(lambda q, k, v: q.relu() @ (k.relu().mT @ v)), {("matmul", True): 1}),
        (
            Layers(lambda q, k, v: q.softmax(-1) @ (k.softmax(-2).mT @ v)),
            {("matmul", True): 1, ("softmax", False): 2},
        ),
        (Layers(in_a_thread), {("thread", True): 1}),
        (Layers(mix), {("trainlab_tests.mix", True): 1}),
        (Layers(banded), {("softmax", False): 1}),
        (BandedAttention(banded), {("softmax", True): 1}),
    ],
    ids=["sigmoid", "linear", "efficient", "thread", "operator", "banded", "banded, by its name"],
)
def test_what_is_not_captured_is_named(model, expected):
    torch.manual_seed(0)
    assert missed(model, torch.randn(2, 6, 16)) == expected


@pytest.mark.filterwarnings("ignore")
def test_script_is_named():
    x = torch.randn(2, 4, 6, 8)
    attends = torch.jit.trace(lambda q: functional.scaled_dot_product_attention(q, q, q), x)
    assert missed(Functional(attends), x) == {("TorchScript", True): 1}
    free = torch.jit.trace(lambda q: q.relu(), x)
    assert missed(Functional(free), x) == {("TorchScript", False): 1}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_sequences_are_named():
    q = torch.nested.nested_tensor([torch.randn(n, 4, 8) for n in (3, 5)], layout=torch.jagged).transpose(
        1, 2
    )
    model = Functional(lambda q: functional.scaled_dot_product_attention(q, q, q).values())
    assert missed(model, q) == {("scaled_dot_product_attention", True): 1}


def test_decoding_with_a_cache():
    """One query against all keys so far: causal from the left would hide them."""
    x, cache = torch.randn(2, 4, 6, 8), []

    def forward(x):
        for token in range(6):
            cache.append(x[:, :, token : token + 1])
            keys = torch.cat(cache, 2)
            out = functional.scaled_dot_product_attention(cache[-1], keys, keys)
        return out

    _, maps, _, _, _ = record(Functional(forward), x)
    for token, found in enumerate(maps):
        close(found, eager(x[:, :, token : token + 1], x[:, :, : token + 1]))


def test_weights_that_are_swapped_in():
    torch.manual_seed(0)
    model, x = Attention(written=True).eval(), torch.randn(3, 6, 16)
    given = {name: value.detach() for name, value in model.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(model, weights, (x[None],)).square().sum()

    calls, maps = [], []
    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))
    with capture(
        model, lambda call: (calls.append(call.module), maps.append(weights_of(call).clone()))
    ) as coverage:
        each(given, x)
    _, expected, _, _, _ = record(model, x)
    assert calls == [""]
    close(maps[0], expected[0])
    assert not any(missed.attends for missed in coverage.missed)


def test_an_error_about_the_projection_surfaces():
    def projected(_number, _weight):
        raise ValueError("of the listener")

    model = Model(written=True)
    with pytest.raises(ValueError, match="of the listener"), capture(model, lambda _call: None, projected):
        model(torch.randn(2, 6, 16))
