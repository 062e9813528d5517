"""The mechanisms by which a model loses its variation; each edits the weights at one known place."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

Plant = Callable[[nn.Module], None]


def _parameter(model: nn.Module, path: str, name: str) -> Tensor:
    found = getattr(model.get_submodule(path), name)
    assert isinstance(found, Tensor), f"{path}.{name} is no tensor"
    return found


def zero(*paths: str) -> Plant:
    """Weights zero, biases kept: the layer answers its bias, whatever it is asked."""

    def plant(model: nn.Module) -> None:
        for path in paths:
            _parameter(model, path, "weight").zero_()

    return plant


def off(path: str) -> Plant:
    """Weights and biases zero, as a zero-initialised head that never left its init."""

    def plant(model: nn.Module) -> None:
        for parameter in model.get_submodule(path).parameters():
            parameter.zero_()

    return plant


def drown(path: str, factor: float) -> Plant:
    """Weights times `factor` under biases of standard deviation 3: the constant dominates."""

    def plant(model: nn.Module) -> None:
        _parameter(model, path, "weight").mul_(factor)
        bias = _parameter(model, path, "bias")
        bias.copy_(3 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(3)))

    return plant


def shift(path: str, value: float) -> Plant:
    """Biases all at `value`: what follows is saturated, or dead."""

    def plant(model: nn.Module) -> None:
        _parameter(model, path, "bias").fill_(value)

    return plant


def saturate(path: str, value: float) -> Plant:
    """Biases at plus or minus `value` in turn."""

    def plant(model: nn.Module) -> None:
        bias = _parameter(model, path, "bias")
        bias.fill_(value)
        bias[::2] = -value

    return plant


def one_row(path: str) -> Plant:
    """Every row of an embedding the same."""

    def plant(model: nn.Module) -> None:
        weight = _parameter(model, path, "weight")
        weight.copy_(weight[3].clone().expand_as(weight))

    return plant


def gate(path: str, index: int, value: float, layer: int = 0) -> Plant:
    """One gate of a recurrent layer stuck: LSTM orders its gates i, f, g, o; GRU r, z, n."""

    def plant(model: nn.Module) -> None:
        rnn = model.get_submodule(path)
        assert isinstance(rnn, nn.LSTM | nn.GRU)
        rows = slice(index * rnn.hidden_size, (index + 1) * rnn.hidden_size)
        _parameter(model, path, f"bias_ih_l{layer}")[rows] = value

    return plant


def blown_variance(path: str) -> Plant:
    """A batch norm whose running variance met one Inf-like batch."""

    def plant(model: nn.Module) -> None:
        _parameter(model, path, "running_var").fill_(1e16)
        bias = _parameter(model, path, "bias")
        bias.add_(0.5)

    return plant


def cold(path: str) -> Plant:
    """A temperature of exp(-200): every logit is zero."""

    def plant(model: nn.Module) -> None:
        model.get_parameter(path).fill_(-200.0)

    return plant


class Average(nn.Module):
    """The mean over some axes, repeated over them: all tokens equal."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes, keepdim=True).expand_as(x)


class Coarse(nn.Module):
    """Fake quantisation whose step is far above what arrives."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(x / self.step) * self.step


class Stale(nn.Module):
    """A cache that nobody invalidates: the first answer, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = x.detach().clone()
        return self.kept


class Times(nn.Module):
    """A constant factor, such as a normalisation by the wrong deviation."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def after(path: str, module: nn.Module) -> Plant:
    """Something put behind the layer at `path`: the layer becomes `path.0`, the newcomer `path.1`."""

    def plant(model: nn.Module) -> None:
        model.set_submodule(path, nn.Sequential(model.get_submodule(path), copy.deepcopy(module)))

    return plant


def before(path: str, module: nn.Module) -> Plant:
    """Something put before the layer at `path`: the newcomer is `path.0`, the layer becomes `path.1`."""

    def plant(model: nn.Module) -> None:
        model.set_submodule(path, nn.Sequential(copy.deepcopy(module), model.get_submodule(path)))

    return plant


def soften(path: str, lead: float) -> Plant:
    """A softmax behind the layer, and one class so far ahead that it has all the probability."""

    def plant(model: nn.Module) -> None:
        _parameter(model, path, "bias")[0] = lead
        after(path, nn.Softmax(-1))(model)

    return plant


def uniform(*paths: str) -> Plant:
    """Attention that looks everywhere alike: queries and keys zero."""
    return zero(*(f"{path}.{part}" for path in paths for part in ("q", "k")))


def not_a_number(path: str) -> Plant:
    """One weight NaN."""

    def plant(model: nn.Module) -> None:
        _parameter(model, path, "weight").flatten()[0] = float("nan")

    return plant


def half(inner: Plant) -> Plant:
    """The fault, then bfloat16 weights: what is left of the variation is rounding."""

    def plant(model: nn.Module) -> None:
        inner(model)
        model.to(torch.bfloat16)

    return plant
