"""What a case of the study is: models, batches, and how one learns the truth about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainlab.visit import call

__all__ = ["Case", "Expects", "Subject", "Truth"]

Expects = Literal["exact", "exact or named", "exact or counted", "named", "nothing"]
Truth = Callable[["Subject", object], list[Tensor]]


@dataclass(frozen=True)
class Subject:
    """A model, batches for it, and the same weights in a form that shows its attention."""

    model: nn.Module
    batches: Sequence[object]
    eager: nn.Module | None = None
    run: Callable[[nn.Module, object], object] = call


@dataclass(frozen=True)
class Case:
    """One model of the study.

    Attributes:
        name: What `--only` looks for.
        kind: The line of the table that it counts in.
        make: Builds it; the random state is set before.
        truth: Every attention map of one batch, in order; None where there is none.
        expects: `exact`: each map, in order, and no other. `exact or named`: that, or coverage.missed says that
            something attends. `exact or counted`: for what may be taken for a gate, that, or that a softmax was counted.
            `named`: coverage.missed says that something attends, and there is no record. `nothing`: no record, and
            nothing called attention.
        train: Hear it in train mode.
        within: Largest difference from the truth.
    """

    name: str
    kind: str
    make: Callable[[], Subject]
    truth: Truth | None = None
    expects: Expects = "exact"
    train: bool = False
    within: float = 1e-5

    def built(self) -> Subject:
        """Build it, the same each time."""
        torch.manual_seed(0)
        subject = self.make()
        for model in (subject.model, subject.eager):
            with suppress(NotImplementedError):  # an exported program has no modes
                if model is not None:
                    model.train(self.train)
        return subject
