"""Training runs that collapse by themselves: set up badly, nothing edited afterwards."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.variation_study.awkward import relu_mlp
from benchmarks.variation_study.cases import Family, Subjects, batch_for, built, call, generator, seed_for
from benchmarks.variation_study.families import FAMILIES


def _descend(family: Family, size: int, seed: int, *, lr: float, decay: float, steps: int) -> Subjects:
    """Plain SGD without clipping on targets that are not centred."""
    model, stream = built(family, size, seed).train(), generator(seed + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=decay)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(steps):
            inputs, target = family.draw(stream, 32)
            output = call(model, inputs)
            assert isinstance(output, Tensor)
            if bool((output == output[:1]).all()):
                break
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.smooth_l1_loss(output, target - 3))
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return {"model": model.eval(), "batch": batch_for(family, seed)}


def runaway(half: int) -> Iterator[tuple[str, str, functools.partial[Subjects]]]:
    """(kind, name, make) of runs that were set up badly; which layer goes first is nobody's choice."""
    for repeat in range(3):
        relu = dataclasses.replace(FAMILIES["mlp"], build=relu_mlp)
        seed = seed_for("mlp", half, 5 + repeat)
        yield (
            "mlp",
            f"learning rate 300 times too high {repeat}",
            functools.partial(_descend, relu, 0, seed, lr=30.0, decay=0.0, steps=200),
        )
    for kind in ("norm-mlp", "autoencoder", "attention"):
        family, seed = FAMILIES[kind], seed_for(kind, half, 5)
        yield (
            kind,
            "weight decay won",
            functools.partial(_descend, family, half, seed, lr=0.1, decay=1.0, steps=250),
        )
