"""Healthy models that tempt a careless rule to cry wolf."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.variation_study import attention_nets as attend
from benchmarks.variation_study import nets
from benchmarks.variation_study.cases import (
    Batch,
    Family,
    Subjects,
    batch_for,
    built,
    generator,
    seed_for,
    trained,
)
from benchmarks.variation_study.families import FAMILIES, far_from_zero, padded, rare, regress, vectors, years

Bend = Callable[[nn.Module], nn.Module]


def plainly_trained(family: Family, size: int, seed: int, bend: Bend, n: int) -> Subjects:
    model = bend(trained(family, size, seed))
    return {"model": model, "batch": batch_for(family, seed, n)}


def at_init(family: Family, size: int, seed: int, bend: Bend, n: int) -> Subjects:
    return {"model": bend(built(family, size, seed)), "batch": batch_for(family, seed, n)}


def same(model: nn.Module) -> nn.Module:
    return model


# --- bends: what makes a healthy model awkward


def kill_half_the_units(model: nn.Module) -> nn.Module:
    """Half the units of the first hidden layer never fire."""
    first = model.get_submodule("fc0")
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.bias[: first.out_features // 2] = -100.0
    return model


def big_biases(model: nn.Module) -> nn.Module:
    """Biases of standard deviation 3 in every linear layer but the head."""
    stream = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "head":
                module.bias.add_(3 * torch.randn(module.bias.shape, generator=stream))
    return model


def small_weights(model: nn.Module) -> nn.Module:
    """Every matrix with standard deviation 0.02 and no bias, as language models start: tiny activations, full variation."""
    stream = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.copy_(0.02 * torch.randn(p.shape, generator=stream))
            elif name.endswith("bias"):
                p.zero_()
    return model


def half_precision(model: nn.Module) -> nn.Module:
    """bfloat16 weights."""
    return model.to(torch.bfloat16)


def training_mode(model: nn.Module) -> nn.Module:
    """Left in train mode, dropout and batch statistics on."""
    return model.train()


class Probabilities(nn.Module):
    """A classifier that answers with probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.model(x), -1)


class SpareParts(nn.Module):
    """A model with a layer that is never called and another that is called twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.unused = nn.Linear(8, 8)
        self.shared = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(self.shared(torch.relu(self.shared(x))))
        return out


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """Floating inputs in another dtype."""
    to: Callable[[Tensor], Tensor] = lambda t: t.to(dtype) if t.is_floating_point() else t  # noqa: E731
    if isinstance(batch, dict):
        return {k: to(v) for k, v in batch.items()}
    if isinstance(batch, tuple):
        return tuple(to(v) for v in batch)
    return to(batch)


class ConstantChannel(nn.Module):
    """One more output channel that is huge and always the same, as the massive activations of language models."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return torch.cat([y, torch.full_like(y[..., :1], 1e5)], -1)


class Mostly(nn.Module):
    """An event detector: a ReLU head that answers exactly zero most of the time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.model(x) - 0.2)


class WithLoss(nn.Module):
    """Answers with a tuple of its output and a scalar that no sample owns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.model(x)
        return y, y.new_tensor(0.01)


# --- the awkward ones


def _bf16(family: Family, size: int, seed: int) -> Subjects:
    return {
        "model": half_precision(trained(family, size, seed)),
        "batch": cast(batch_for(family, seed), torch.bfloat16),
    }


def _masked(family: Family, size: int, seed: int) -> Subjects:
    subjects = plainly_trained(family, size, seed, same, 16)
    batch = subjects["batch"]
    assert isinstance(batch, dict)
    name = next(iter(batch))
    hidden = torch.rand(batch[name].shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.6
    ids = batch[name].clone()
    ids[hidden] = 0
    return {**subjects, "batch": {**batch, name: ids}}


def _told_target(family: Family, size: int, seed: int) -> Subjects:
    """A task that hardly varies, 5000 ± 1, with its target in the batch to say so."""
    inputs, target = family.draw(generator(seed + 7), 32)
    return {
        "model": plainly_trained(family, size, seed, same, 16)["model"],
        "batch": {"input": inputs, "target": target},
    }


def _shared_prompt(family: Family, size: int, seed: int) -> Subjects:
    subjects = plainly_trained(family, size, seed, same, 16)
    batch = subjects["batch"]
    ids = batch["input_ids"].clone()
    ids[:, :7] = ids[:1, :7]
    return {**subjects, "batch": {**batch, "input_ids": ids}}


def _mostly_alike(family: Family, size: int, seed: int) -> Subjects:
    subjects = plainly_trained(family, size, seed, same, 16)
    batch = subjects["batch"].clone()
    batch[:12] = batch[:1]
    return {**subjects, "batch": batch}


def _raw_units(family: Family, size: int, seed: int) -> Subjects:
    """Inputs as a sensor gives them, 300 ± 5, undone by the first layer."""
    subjects = plainly_trained(family, size, seed, same, 16)
    first = subjects["model"].get_submodule("fc0")
    with torch.no_grad():
        first.weight.div_(5)
        first.bias.sub_(first.weight.sum(1) * 300)
    return {**subjects, "batch": 300 + 5 * subjects["batch"]}


def _one_noise_level(family: Family, size: int, seed: int) -> Subjects:
    subjects = plainly_trained(family, size, seed, same, 16)
    batch = subjects["batch"]
    if isinstance(batch, dict):
        return {**subjects, "batch": {**batch, "tau": torch.full_like(batch["tau"], 0.5)}}
    assert isinstance(batch, tuple)
    return {**subjects, "batch": (batch[0], torch.full_like(batch[1], 0.5))}


def _zero_at_init(family: Family, build: Callable[[], nn.Module], seed: int) -> Subjects:
    """A model whose last layer or branches start at zero by design, and the same architecture at init beside it."""
    zeroed = dataclasses.replace(family, build=lambda _: build())
    return {
        "model": built(zeroed, 0, seed),
        "batch": batch_for(family, seed),
        "fresh": built(zeroed, 0, seed),
    }


def _zero_then_trained(family: Family, build: Callable[[], nn.Module], seed: int) -> Subjects:
    zeroed = dataclasses.replace(family, build=lambda _: build(), steps=60)
    return {
        "model": trained(zeroed, 0, seed),
        "batch": batch_for(family, seed),
        "fresh": built(zeroed, 0, seed),
    }


def awkward() -> Iterator[tuple[str, str, int, Callable[[], Subjects], bool]]:
    """(kind, name, size, make, may_warn) of the healthy models that tempt a rule to cry wolf."""
    p, f = functools.partial, FAMILIES
    for size in (0, 1):
        s = seed_for("awkward", size)
        mlp, relu = f["mlp"], dataclasses.replace(f["mlp"], kind="relu-mlp", build=relu_mlp)
        yield (
            "mlp",
            "trained on mean 100, std 1",
            size,
            p(plainly_trained, _far(mlp, far_from_zero), size, s, same, 16),
            False,
        )
        yield (
            "mlp",
            "trained on years, 1998 ± 11",
            size,
            p(plainly_trained, _far(mlp, years), size, s, same, 16),
            False,
        )
        yield (
            "mlp",
            "half its units dead",
            size,
            p(plainly_trained, relu, size, s, kill_half_the_units, 16),
            False,
        )
        yield "mlp", "big biases", size, p(plainly_trained, mlp, size, s, big_biases, 16), False
        yield "mlp", "small init without biases", size, p(at_init, mlp, size, s, small_weights, 16), False
        yield "mlp", "left in train mode", size, p(plainly_trained, mlp, size, s, training_mode, 16), False
        yield "mlp", "bfloat16", size, p(_bf16, mlp, size, s), False
        yield (
            "mlp",
            "rare class, probabilities",
            size,
            p(plainly_trained, _rare(mlp), size, s, Probabilities, 64),
            False,
        )
        yield "mlp", "a spare layer and a shared one", size, p(at_init, mlp, size, s, SpareParts, 16), False
        yield "mlp", "a batch of two", size, p(plainly_trained, mlp, size, s, same, 2), False
        yield "mlp", "a batch of 128", size, p(plainly_trained, mlp, size, s, same, 128), False
        yield (
            "convnet",
            "left in train mode",
            size,
            p(plainly_trained, f["convnet"], size, s, training_mode, 16),
            False,
        )
        yield (
            "encoder-pre",
            "padded",
            size,
            p(plainly_trained, dataclasses.replace(f["encoder-pre"], draw=padded), size, s, same, 16),
            False,
        )
        yield "encoder-pre", "bfloat16", size, p(_bf16, f["encoder-pre"], size, s), False
        yield (
            "encoder-post",
            "left in train mode",
            size,
            p(plainly_trained, f["encoder-post"], size, s, training_mode, 16),
            False,
        )
        yield "lstm", "six tokens of ten masked", size, p(_masked, f["lstm"], size, s), False
        yield "hf-bert", "six tokens of ten masked", size, p(_masked, f["hf-bert"], size, s), False
        yield (
            "hf-bert",
            "left in train mode",
            size,
            p(plainly_trained, f["hf-bert"], size, s, training_mode, 16),
            False,
        )
        yield (
            "space-time",
            "one noise level for all",
            size,
            p(_one_noise_level, f["space-time"], size, s),
            False,
        )
        yield "unet", "one noise level for all", size, p(_one_noise_level, f["unet"], size, s), False
        nearly = dataclasses.replace(_far(mlp, near_constant), build=_linear_to(5000.0))
        yield "mlp", "near-constant task, target given", size, p(_told_target, nearly, size, s), False
        yield (
            "mlp",
            "a huge constant channel",
            size,
            p(plainly_trained, mlp, size, s, ConstantChannel, 16),
            False,
        )
        yield "mlp", "mostly exact zeros", size, p(plainly_trained, mlp, size, s, Mostly, 16), False
        yield "mlp", "a scalar beside the output", size, p(plainly_trained, mlp, size, s, WithLoss, 16), False
        yield "mlp", "12 samples of 16 alike", size, p(_mostly_alike, mlp, size, s), False
        yield "mlp", "inputs 300 ± 5", size, p(_raw_units, mlp, size, s), False
        yield "hf-gpt2", "one prompt for all", size, p(_shared_prompt, f["hf-gpt2"], size, s), False
        for kind, build in (
            ("space-time", p(attend.SpaceTime, 24, 2 + size, zero=True)),
            ("unet", p(attend.UNet, 8 + 8 * size, zero=True)),
            ("resnet", p(nets.ResNet, 8, 2 + size, True)),
        ):
            yield (
                kind,
                "zero by design at step 0, fresh given",
                size,
                p(_zero_at_init, f[kind], build, s),
                True,
            )
            yield kind, "zero by design, then trained", size, p(_zero_then_trained, f[kind], build, s), False


def near_constant(g: torch.Generator, n: int) -> tuple[Batch, Tensor]:
    """The vector task at 5000 ± 1."""
    x, y = vectors(g, n)
    assert isinstance(y, Tensor)
    return x, 5000 + y * 2**0.5


def _linear_to(mean: float) -> Callable[[int], nn.Module]:
    """A perceptron in one layer of names, whose head starts at the mean of its task."""

    def build(size: int) -> nn.Module:
        model = relu_mlp(size)
        nn.init.constant_(model.get_parameter("head.bias"), mean)
        return model

    return build


def relu_mlp(size: int) -> nn.Module:
    """A perceptron whose units can die."""
    return nets.perceptron((8, 32 + 16 * size, 32, 3), nn.ReLU)


def _far(family: Family, draw: Callable[[torch.Generator, int], tuple[Batch, Tensor]]) -> Family:
    """The family on targets far from zero: the head starts at their mean, as a careful person would set it."""
    mean = float(draw(torch.Generator().manual_seed(0), 512)[1].mean())

    def build(size: int) -> nn.Module:
        model = family.build(size)
        nn.init.constant_(model.get_parameter("head.bias"), mean)
        return model

    return dataclasses.replace(family, build=build, draw=draw, loss=regress, steps=150)


def _rare(family: Family) -> Family:
    def build(size: int) -> nn.Module:
        return nets.perceptron((8, 32, 32 + 16 * size, 2), nn.ReLU)

    return dataclasses.replace(family, build=build, draw=rare, loss=FAMILIES["convnet"].loss, steps=150)
