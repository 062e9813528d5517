"""Clean models, each with one to three dtypes put wrong by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.dtypes_study.zoo import ZOO, Architecture
from trainlab.visit import call, map_tensors, tensors, visit, watch

__all__ = ["Mutant", "mutants"]

DTYPES = (torch.float16, torch.bfloat16, torch.float64)
Subject = tuple[nn.Module, object]


@dataclass(frozen=True)
class Mutant:
    """An architecture with a fault; `build` makes a new one each time."""

    name: str
    kind: str
    architecture: Architecture
    plant: Callable[[nn.Module, object], Subject]

    def build(self) -> Subject:
        return self.plant(*self.architecture.build())


class HalfIn(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *more: object) -> object:
        return self.inner(x.half(), *more)


class BFloat16Out(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: object) -> object:
        out = self.inner(*inputs)
        return out.to(torch.bfloat16)


class DoubleIn(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *more: object) -> object:
        x = x.to(dtype=torch.float64)
        return self.inner(x, *more)


WRAPPERS = (HalfIn, BFloat16Out, DoubleIn)


def mutants() -> Iterator[Mutant]:
    """The same some 250 mutants every time."""
    for architecture in ZOO:
        draw = random.Random(architecture.name)
        model, batch = architecture.build()
        owners = [n for n, m in model.named_modules() if n and any(t.is_floating_point() for t in _own(m))]
        for index in range(6):
            chosen = draw.sample(owners, min(len(owners), 1 + index // 2))
            yield _mutant(architecture, "module", chosen, draw.choice(DTYPES), _module)
        names = [name for name, _ in model.named_parameters()]
        for name in draw.sample(names, min(len(names), 3)):
            yield _mutant(architecture, "parameter", [name], draw.choice(DTYPES), _parameter)
        names = [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]
        for name in draw.sample(names, min(len(names), 3)):
            yield _mutant(architecture, "buffer", [name], draw.choice(DTYPES), _buffer)
        given = [name for name, value in tensors(batch).items() if value.is_floating_point()]
        for name in given:
            for dtype in DTYPES:
                yield _mutant(architecture, "input", [name], dtype, _input)
        wrappable = list(_wrappable(architecture, owners))
        for name in draw.sample(wrappable, min(len(wrappable), 3)):
            wrapper = draw.choice(WRAPPERS)
            yield Mutant(f"{architecture.name}/cast/{name}/{wrapper.__name__}", "cast", architecture,
                         lambda model, batch, n=name, w=wrapper: _wrapped(model, batch, n, w))  # fmt: skip


def _mutant(architecture, kind, names, dtype, plant) -> Mutant:
    label = f"{architecture.name}/{kind}/{'+'.join(names)}/{str(dtype)[6:]}"
    return Mutant(label, kind, architecture, lambda model, batch: plant(model, batch, names, dtype))


def _own(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _module(model, batch, names, dtype) -> Subject:
    for name in names:
        module = model.get_submodule(name)
        for weight in module.parameters(recurse=False):
            weight.data = weight.data.to(dtype)
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, key, buffer.to(dtype))
    return model, batch


def _parameter(model, batch, names, dtype) -> Subject:
    for name in names:
        weight = model.get_parameter(name)
        weight.data = weight.data.to(dtype)
    return model, batch


def _buffer(model, batch, names, dtype) -> Subject:
    for name in names:
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, model.get_buffer(name).to(dtype))
    return model, batch


def _input(model, batch, names, dtype) -> Subject:
    return model, map_tensors(batch, lambda name, value: value.to(dtype) if name in names else value)


def _wrapped(model, batch, name, wrapper) -> Subject:
    model.set_submodule(name, wrapper(model.get_submodule(name)))
    return model.eval(), batch


def _wrappable(architecture: Architecture, owners: list[str]) -> Iterator[str]:
    """Modules that are called with a float tensor first and give one back, and whose parent asks no more of them."""
    model, batch = architecture.build()
    fit = set()

    def heard(name: str, _module: nn.Module, inputs: object, output: object) -> None:
        first = inputs[0] if isinstance(inputs, tuple) and inputs else None
        if isinstance(first, Tensor) and first.is_floating_point() and isinstance(output, Tensor):
            fit.add(name)

    with visit(model), watch(model, heard):
        call(model, batch)
    for name in owners:
        if name in fit:
            model, batch = _wrapped(*architecture.build(), name, nn.Sequential)
            try:
                with visit(model):
                    call(model, batch)
            except (AttributeError, TypeError):
                continue
            yield name
