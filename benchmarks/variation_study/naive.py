"""The rule that everybody writes first, in the two ways it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.variation_study.cases import Batch, call

LIMIT = 0.1


def swapped(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed alike."""
    if isinstance(batch, Mapping):
        return {name: change(tensor) for name, tensor in batch.items()}
    if isinstance(batch, tuple):
        return tuple(change(tensor) for tensor in batch)
    return change(batch)


def moves(model: nn.Module, batch: Batch, *, train: bool, axis: int = 0) -> bool:
    """Is `(model(x1) - model(x2)).abs().mean()` above 0.1?

    x2 is x1 with its samples in another order, timestep and condition included; nobody fixes a seed. `train` leaves
    dropout on, as where the check stands in a training loop. NaN compares as not above.
    """
    was = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train(train)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        one, two = (_first(call(model, b)) for b in (batch, swapped(batch, lambda t: t.roll(1, axis))))
    for module, mode in zip(model.modules(), was, strict=True):
        module.training = mode
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return bool((one - two).abs().float().mean() > LIMIT)


def _first(output: object) -> Tensor:
    if isinstance(output, Mapping):
        output = next(value for value in output.values() if isinstance(value, Tensor))
    if isinstance(output, tuple):
        output = output[0]
    assert isinstance(output, Tensor)
    return output
