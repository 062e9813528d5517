"""Sick twins: the healthy run with one line of difference each, and honestly broken by it.

A twin is the healthy model with one fault planted before its training, which is then the healthy one's too. Each
fault is a weight held at a bad value: the code of the model has no trace of it, the checkpoint has.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import nn

from trainlab.errors import UsageError, did_you_mean
from trainlab.examples.digits.model import DigitDynamics
from trainlab.examples.digits.slips import SLIPS

__all__ = ["LATE", "TWINS", "plant"]


def uniform_attention(model: DigitDynamics) -> None:
    """Every query is stuck at 0, so every attention, over space and time, averages all that it sees.

    The output does not collapse: pixels still reach it through the residual stream. What is lost is who
    attends to whom; over space, every patch of a frame is told the same.
    """
    for name, module in model.named_modules():
        if name.endswith(".query"):
            freeze_at_zero(module)


def uniform_time_attention(model: DigitDynamics) -> None:
    """The queries of the time attention are stuck at 0: a frame gets the average of all before it."""
    for name, module in model.named_modules():
        if name.endswith(".time.query"):
            freeze_at_zero(module)


def zero_head(model: DigitDynamics) -> None:
    """The output projection is stuck at its zero init: the optimizer never got it, the answer is always 0."""
    freeze_at_zero(model.head.out)


def constant_bias(model: DigitDynamics) -> None:
    """The output weight is stuck at its zero init, only its bias learns: one mean patch for every input."""
    model.head.out.weight.requires_grad_(False)


def dead_relu(model: DigitDynamics) -> None:
    """The head's hidden units start far below 0: none ever fires, no gradient reaches the model behind them."""
    nn.init.constant_(model.head.hidden.bias, -100.0)


def only_tau(model: DigitDynamics) -> None:
    """The patch embedding is stuck at 0: the model knows place, moment and ``tau``, but no pixel."""
    freeze_at_zero(model.embed)


def nan_weight(model: DigitDynamics) -> None:
    """One weight of the second block's MLP is NaN, as a bad cast or a flipped bit leaves it."""
    with torch.no_grad():
        model.get_parameter("blocks.1.mlp.0.weight")[0, 0] = torch.nan


def check_twin(twin: str) -> None:
    """Refuses a twin that there is not, planted here or by a slip.

    Raises:
        UsageError: There is no such twin.
    """
    known = {*TWINS, *SLIPS}
    if twin not in known:
        raise UsageError("The digits example has no such twin", seen=twin, fix=did_you_mean(twin, known))


def freeze_at_zero(module: nn.Module) -> None:
    """Holds all weights of a module at 0."""
    for weight in module.parameters():
        nn.init.zeros_(weight.requires_grad_(False))


TWINS: MappingProxyType[str, Callable[[DigitDynamics], None]] = MappingProxyType(
    {
        twin.__name__: twin
        for twin in (
            uniform_attention,
            uniform_time_attention,
            zero_head,
            constant_bias,
            dead_relu,
            only_tau,
            nan_weight,
        )
    }
)
# Planted after the training: no step can be taken with these.
LATE = frozenset({"nan_weight"})


def plant(model: DigitDynamics, twin: str) -> None:
    """Plants a fault, in place.

    Args:
        model: A healthy model.
        twin: A key of `TWINS`.

    Raises:
        UsageError: There is no such twin.
    """
    check_twin(twin)
    TWINS[twin](model)
