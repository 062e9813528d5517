"""The passes of one model over one batch: as it is, with samples swapped, and the runs that give the floors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainlab.diagnostics.variation.listening import KEPT, Listener, add, rounding
from trainlab.diagnostics.variation.movement import Movement, Sampler, compare
from trainlab.diagnostics.variation.outputs import Output
from trainlab.diagnostics.variation.sources import Reading, Source
from trainlab.errors import SubjectError
from trainlab.subjects.checkpoint import STEPS
from trainlab.visit import call, resolution, tensors, visit

if TYPE_CHECKING:
    from trainlab.subjects import Checkpoint

__all__ = ["Passes", "at_least", "has_left_init", "orders"]


class Passes:
    """One model on one batch, run again and again from the same seed.

    Args:
        model: Left as it was found by each pass.
        reading: The batch.
        train: Run in training mode.
        seed: Where the random numbers of each pass start.
        wanted: Name of the output to measure; empty for the default.
    """

    def __init__(self, model: nn.Module, reading: Reading, *, train: bool, seed: int, wanted: str) -> None:
        self.model, self.reading, self.train, self.seed = model, reading, train, seed
        self.listener = Listener(reading.samples, reading.axis)
        self.refused: dict[str, str] = {}
        self._sampler = Sampler()
        self._sums: dict[str, Tensor] = {}
        with visit(model, train=train, seed=seed), self.listener.hears(model, "first"):
            returned = call(model, reading.inputs)
        self.output = Output.of(returned, wanted, reading.samples)
        self._others = {
            path: self._sampler.pick(tensor, KEPT)
            for path, tensor in tensors(returned).items()
            if path != self.output.path and tensor.is_floating_point() and reading.samples in tensor.shape
        }

    def swap(self, label: str, sources: Iterable[Source], order: Tensor) -> None:
        """Puts the samples of these sources in another order.

        Raises:
            SubjectError: The model refuses its whole batch in another order.
        """
        try:
            self._run(label, self.reading.swapped(order, list(sources)))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            reason = f"{type(error).__name__}: {error}"
            if label == "all":
                raise SubjectError(
                    "the model runs on the batch, but not on the same samples in another order",
                    seen=reason,
                    fix="let lengths and masks belong to a sample, not to its place; e.g. enforce_sorted=False",
                ) from error
            self.refused[label] = f"the model refuses it: {reason}"

    def floors(self) -> None:
        """Runs the batch again with the same seed, with another seed, and with its roundings disturbed."""
        inputs = self.reading.inputs
        self._run("repeat", inputs)
        self._run("noise", inputs, seed=self.seed + 1)
        self._run("rounding", inputs, disturb=True)

    def movement(self, label: str) -> Movement:
        """How far the output moved in the passes of a label."""
        return Movement.of(self._sums.get(label))

    def floor(self) -> Movement:
        """How far the output moves for no reason."""
        step = resolution(self.output.values.dtype)
        return at_least(step, self.movement("repeat"), self.movement("rounding"))

    def label(self, source: Source) -> str:
        """Under which label the passes that swap only this source go."""
        alone = self.reading.swappable == (source,)
        return "all" if alone else f"only {source.path}"

    def elsewhere(self, label: str) -> float:
        """The larger movement of any output beside the one that is measured; 0 where there is none."""
        found = [Movement.of(self._sums.get(f"{label} in {path}")).larger for path in self._others]
        return max((each for each in found if not math.isnan(each)), default=0.0)

    def _run(self, label: str, inputs: object, *, disturb: bool = False, seed: int | None = None) -> None:
        model = self.model
        with (
            visit(model, train=self.train, seed=self.seed if seed is None else seed),
            self.listener.hears(model, label),
            rounding(model, self.seed) if disturb else nullcontext(),
        ):
            returned = call(model, inputs)
        values = self.output.same_in(returned)
        if values.shape != self.output.values.shape:
            shapes = f"{tuple(values.shape)} after {tuple(self.output.values.shape)}"
            raise ValueError(f"the output changed its shape: {shapes}")
        add(self._sums, label, self.output.moved(self._sampler, values))
        for path, tensor in tensors(returned).items():
            kept = self._others.get(path)
            if kept is not None and kept.shape == (now := self._sampler.pick(tensor, KEPT)).shape:
                add(self._sums, f"{label} in {path}", compare(kept, now))


def at_least(step: float, *movements: Movement) -> Movement:
    """The largest of some movements, unknown ones left out, and never below a dtype's step."""
    known = [each for each in movements if not math.isnan(each.variation)]
    return Movement(max([step, *(m.variation for m in known)]), max([step, *(m.typical for m in known)]))


def orders(samples: int, pairs: int, seed: int) -> list[Tensor]:
    """Orders of the samples in which none keeps its place: distinct rotations, enough for this many pairs."""
    stream = torch.Generator().manual_seed(seed)
    turns = torch.randperm(samples - 1, generator=stream)[: max(1, -(-pairs // samples))] + 1
    return [(torch.arange(samples) + turn) % samples for turn in turns]


def has_left_init(model: nn.Module, fresh: nn.Module | None, ckpt: Checkpoint | None) -> bool | None:
    """Whether a model has been trained; None where nothing tells.

    The checkpoint's step tells, and so does any parameter that starts constant, a zero or a one, and no longer is.
    Random weights tell only where they equal those of ``fresh``: two inits of different seeds differ too.
    """
    steps = [ckpt.metadata[name] for name in STEPS if ckpt is not None and name in ckpt.metadata]
    counted = [step for step in steps if isinstance(step, int | float) and not isinstance(step, bool)]
    if counted:
        return max(counted) > 0
    if fresh is None:
        return None
    weights = dict(model.named_parameters())
    both = [(value, weights[name]) for name, value in fresh.named_parameters() if name in weights]
    constant = [(a, b) for a, b in both if a.numel() > 1 and bool((a == a.flatten()[0]).all())]
    if any(_differ(a, b) for a, b in constant):
        return True
    return None if any(_differ(a, b) for a, b in both) else False


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or not torch.equal(a.to(b), b)
