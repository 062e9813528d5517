"""Attention in models, and under callers, that change how torch's functions are called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from benchmarks.attention_maps.case import Case, Expects, Subject
from benchmarks.attention_maps.forms import HEADS, LENGTH, WIDTH, Attend, Layer, Stack, scores, stack_truth
from benchmarks.attention_maps.kernels import Checkpointed
from benchmarks.attention_maps.truth import by_patching
from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import call

__all__ = ["surrounded"]

Run = Callable[[nn.Module, Any], object]


class Doubling(TorchFunctionMode):
    """A user's function mode, which doubles what softmax is given."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Double, or pass on."""
        named = getattr(func, "__name__", "") == "softmax"
        return func(*([args[0] * 2, *args[1:]] if named else args), **(kwargs or {}))


class Counting(TorchDispatchMode):
    """A user's dispatch mode, which counts (as those that count FLOPs do)."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and pass on."""
        self.count += 1
        return func(*args, **(kwargs or {}))


class Named(Tensor):
    """A tensor of a user's class."""


def under(context: Callable[[], Any]) -> Run:
    """Call within a context."""

    def run(model: nn.Module, batch: Any) -> object:
        with context():
            return call(model, batch)

    return run


def with_class(model: nn.Module, batch: Any) -> object:
    """The input is of a user's class."""
    return model(batch.as_subclass(Named))


def gradients_of_samples(model: nn.Module, batch: Any) -> object:
    """Per-sample gradients: vmap of grad of a functional call."""
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, weights, (x.unsqueeze(0),)).square().mean()

    return torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, batch)


def forward_mode(model: nn.Module, batch: Any) -> object:
    """A directional derivative."""
    return torch.func.jvp(model, (batch,), (torch.ones_like(batch),))


def heard_twice(model: nn.Module, batch: Any) -> object:
    """Another capture within."""
    numbers: list[int] = []
    with capture(model, lambda heard: numbers.append(heard.number)) as coverage:
        out = model(batch)
    assert numbers == list(range(coverage.recorded))
    assert numbers
    return out


class Normed(Layer):
    """Weight-normed projections."""

    def __init__(self, attend: Attend) -> None:
        super().__init__(attend)
        parametrizations.weight_norm(self.query)
        parametrizations.orthogonal(self.key)


class Branching(nn.Module):
    """The same layer thrice, by way of a list, a checkpoint and its forward."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.layer = Layer(attend)

    def forward(self, x: Tensor) -> Tensor:
        """Run it three times."""
        x = x + self.layer(x)
        x = x + checkpoint(self.layer, x, use_reentrant=False)
        return x + self.layer.forward(x)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by torch's function."""
    return functional.scaled_dot_product_attention(q, k, v)


def written(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by hand."""
    return scores(q, k).softmax(-1) @ v


def surrounded() -> tuple[Case, ...]:
    """Each surrounding, with fused attention and with attention by hand."""
    cases: list[Case] = []
    runs: dict[str, Run] = {
        "inference mode": under(torch.inference_mode),
        "a device as context": under(functools.partial(torch.device, "cpu")),
        "a user's dispatch mode": under(Counting),
        "a tensor class": with_class,
        "a capture within a capture": heard_twice,
        "anomaly detection": under(torch.autograd.detect_anomaly),
    }

    def x() -> Tensor:
        return torch.randn(2, LENGTH, WIDTH)

    def add(name: str, make: Callable[[], Subject], truth: Any = None, expects: Expects = "exact") -> None:
        kind = "transformed" if expects == "exact" else "hard"
        cases.append(Case(name, kind, make, truth or stack_truth(), expects))

    for name, attend in (("sdpa", fused), ("by hand", written)):
        for title, run in runs.items():
            add(f"{title}: {name}", lambda attend=attend, run=run: Subject(Stack(attend), [x()], run=run))
        add(f"thrice: {name}", lambda attend=attend: Subject(Branching(attend), [x()]), by_patching)
        reentrant = type("Reentrant", (Checkpointed,), {"reentrant": True})
        add(f"checkpoint, reentrant: {name}", lambda a=attend, kind=reentrant: Subject(kind(a), [x()]))

        def normed(attend: Attend = attend) -> Subject:
            stack = Stack(attend)
            stack.layers = nn.ModuleList(Normed(attend) for _ in range(2))
            return Subject(stack, [x()])

        add(f"parametrized weights: {name}", normed)
    for title, run in {
        "forward-mode derivative": forward_mode,
        "per-sample gradients": gradients_of_samples,
    }.items():
        add(title, lambda run=run: Subject(Stack(written), [x()], run=run), None, "exact or named")
    add("per-sample gradients: sdpa", lambda: Subject(Stack(fused), [x()], run=gradients_of_samples))
    doubled = under(Doubling)
    add("a user's function mode: by hand", lambda: Subject(Stack(written), [x()], run=doubled), by_patching)

    def whole() -> nn.Module:
        return nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)

    def frozen() -> Subject:
        heads = nn.MultiheadAttention(WIDTH, HEADS)
        return Subject(heads.requires_grad_(requires_grad=False), [(x(), x(), x())])

    for title in ("inference mode", "a device as context", "a user's dispatch mode"):
        add(f"{title}: encoder layer", lambda t=title: Subject(whole(), [x()], run=runs[t]), by_patching)
    # torch's own layer hands itself over to the class whole
    add(
        "a tensor class: encoder layer",
        lambda: Subject(whole(), [x()], run=with_class),
        by_patching,
        "exact or named",
    )
    add("frozen weights: mha", frozen, by_patching)
    return tuple(cases)
