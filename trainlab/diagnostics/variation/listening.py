"""Hears every module call of a model, pass after pass, and measures how far each moves from the first pass."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from trainlab.diagnostics.variation.movement import Movement, Sampler, compare
from trainlab.visit import map_tensors, resolution, tensors, watch

__all__ = ["KEPT", "Call", "Key", "Listener", "add", "rounding"]

KEPT = 2**16  # elements of an output that are compared; all of it where it is no larger
KEPT_INPUT = 2**14  # of an input that no module gave, e.g. a sum made by the forward itself

Key = tuple[str, int]
K = TypeVar("K")


@dataclass
class Call:
    """One call of a module in the first pass: what is needed to compare later passes with it."""

    kind: str
    shape: torch.Size
    dtype: torch.dtype
    kept: Tensor
    inputs: list[Key | Tensor]
    unit_moved: Tensor | None
    unit_axis: int
    nan: Tensor
    inf: Tensor
    tokens: Tensor | None
    tokens_input: list[Tensor]
    sums: dict[str, Tensor] = field(default_factory=dict)
    input_sums: dict[tuple[str, int], Tensor] = field(default_factory=dict)


class Listener:
    """Hears one pass as the reference and measures the others against it.

    Memory: at most 65 536 elements of each call's output. Values stay on the model's device until the end.

    Args:
        samples: Size of the batch.
        axis: Which axis of the inputs is the batch.
    """

    def __init__(self, samples: int, axis: int) -> None:
        self.samples, self.axis = samples, axis
        self.calls: dict[Key, Call] = {}
        self._sampler = Sampler()
        self._unit_axes: dict[torch.Size, int] = {}
        self._label = ""
        self._count: Counter[str] = Counter()
        self._given: dict[int, tuple[weakref.ref[Tensor], Key, int]] = {}

    @contextmanager
    def hears(self, model: nn.Module, label: str) -> Iterator[None]:
        """Listens to one pass; the first is the reference, later ones of one label add up."""
        self._label, self._count, self._given = label, Counter(), {}
        with watch(model, self._heard):
            yield

    def movement(self, key: Key, label: str) -> Movement:
        """How far the output of a call moved in the passes of a label; unknown where it cannot be compared."""
        call = self.calls[key]
        return Movement.of(call.sums.get(label))

    def input_movement(self, key: Key, label: str) -> float:
        """The larger movement of what went into a call; 0 where nothing that went in can move."""
        call = self.calls[key]
        moved = [
            self.movement(source, label)
            if isinstance(source, tuple)
            else Movement.of(call.input_sums.get((label, i)))
            for i, source in enumerate(call.inputs)
        ]
        return max((each.larger for each in moved if not math.isnan(each.larger)), default=0.0)

    def _heard(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        key = (name, self._count[name])
        self._count[name] += 1
        first = next((t for t in tensors(output).values() if t.is_floating_point() or t.is_complex()), None)
        if first is None:
            return
        if self._label == "first":
            self.calls[key] = self._reference(module, inputs, first)
        elif key in self.calls:
            self._compare(self.calls[key], inputs, first)
        self._given[id(first)] = (weakref.ref(first), key, first._version)  # noqa: SLF001 - tells writes in place

    def _reference(self, module: nn.Module, inputs: object, output: Tensor) -> Call:
        given = _telling(inputs)
        axis = self._unit_axis(module, output)
        units = output.shape[axis] if output.dim() > 1 else 0
        comparable = self._has_batch(output)
        return Call(
            kind=type(module).__name__,
            shape=output.shape,
            dtype=output.dtype,
            kept=self._sampler.pick(output, KEPT) if comparable else output.new_empty(0),
            inputs=[self._giver(t, module) or self._sampler.pick(t, KEPT_INPUT) for t in given],
            unit_moved=torch.zeros(units, device=output.device) if units and comparable else None,
            unit_axis=axis,
            nan=output.detach().isnan().sum(),
            inf=output.detach().isinf().sum(),
            tokens=self._tokens(output, axis),
            tokens_input=[sums for t in given if (sums := self._tokens(t, axis)) is not None],
        )

    def _giver(self, tensor: Tensor, module: nn.Module) -> Key | None:
        """The call that gave this very tensor, unless it was written to since."""
        reference, key, version = self._given.get(id(tensor), (None, ("", 0), 0))
        if reference is None or reference() is not tensor:
            return None
        # a module that works in place has just overwritten what it was given
        untouched = tensor._version == version or getattr(module, "inplace", False)  # noqa: SLF001
        return key if untouched else None

    def _compare(self, call: Call, inputs: object, output: Tensor) -> None:
        if output.shape != call.shape or call.kept.numel() == 0:
            return
        now = self._sampler.pick(output, KEPT)
        add(call.sums, self._label, compare(call.kept, now))
        if self._label == "all" and call.unit_moved is not None:
            places = self._sampler.places(output, KEPT)
            flat = torch.arange(output.numel(), device=output.device) if places is None else places
            unit = flat // math.prod(call.shape[call.unit_axis + 1 :]) % call.shape[call.unit_axis]
            call.unit_moved.index_add_(0, unit, (now != call.kept).to(call.unit_moved.dtype))
        for place, (source, tensor) in enumerate(zip(call.inputs, _telling(inputs), strict=False)):
            if isinstance(source, Tensor):
                picked = self._sampler.pick(tensor, KEPT_INPUT)
                if picked.shape == source.shape:
                    add(call.input_sums, (self._label, place), compare(source, picked))

    def _has_batch(self, tensor: Tensor) -> bool:
        """Whether swapped samples stay apart in it: an axis is the batch, or the first has it folded in."""
        if tensor.dim() == 0:
            return False
        return self.samples in tensor.shape or (tensor.dim() > 1 and tensor.shape[0] % self.samples == 0)

    def _unit_axis(self, module: nn.Module, output: Tensor) -> int:
        """Channels are axis 1 of convolutions and norms and what keeps their shape, otherwise the last axis."""
        if isinstance(module, _ConvNd | _NormBase | nn.GroupNorm) and output.dim() > 2:
            self._unit_axes[output.shape] = 1
        elif isinstance(module, nn.Linear | nn.LayerNorm):
            self._unit_axes[output.shape] = output.dim() - 1
        return self._unit_axes.get(output.shape, max(output.dim() - 1, 0))

    def _tokens(self, tensor: Tensor, unit_axis: int) -> Tensor | None:
        """Compares each token with the one half-way round; pixels of a convolution are taken as one axis.

        Tokens lie on the last axis before the channels, or on the first where the batch is the second.
        """
        if tensor.dim() < 3:
            return None
        pixels = unit_axis == 1
        axis = 2 if pixels else 0 if self.axis == 1 and tensor.dim() == 3 else tensor.dim() - 2
        tokens, behind = (
            (math.prod(tensor.shape[2:]), 1)
            if pixels
            else (tensor.shape[axis], math.prod(tensor.shape[axis + 1 :]))
        )
        if tokens < 2 or tensor.numel() == 0:
            return None
        flat = tensor.detach().reshape(-1)
        places = self._sampler.places(tensor, KEPT_INPUT)
        here = torch.arange(flat.numel(), device=flat.device) if places is None else places
        token = here // behind % tokens
        there = here + ((token + tokens // 2) % tokens - token) * behind
        return compare(flat[here], flat[there])


def _telling(inputs: object) -> list[Tensor]:
    """The tensors that a module computes with: the floating ones, since masks and indices go along with them."""
    given = list(tensors(inputs).values())
    return [t for t in given if t.is_floating_point() or t.is_complex()] or given


@contextmanager
def rounding(model: nn.Module, seed: int) -> Iterator[None]:
    """Moves every leaf module's output by one unit in the last place, up or down at random.

    What this does to an output is what rounding may do to it: Monte Carlo arithmetic (Parker 1997).
    """
    streams: dict[torch.device, torch.Generator] = {}

    def nudge(_: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        stream = streams.setdefault(tensor.device, torch.Generator(tensor.device).manual_seed(seed))
        sign = 2 * torch.randint(2, tensor.shape, generator=stream, device=tensor.device) - 1
        return (tensor * (1 + resolution(tensor.dtype) * sign.to(tensor.dtype))).to(tensor.dtype)

    leaves = [
        m for m in model.modules() if not any(m.children()) and not isinstance(m, torch.jit.ScriptModule)
    ]
    handles = [
        m.register_forward_hook(lambda _module, _args, output: map_tensors(output, nudge)) for m in leaves
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def add(sums: dict[K, Tensor], label: K, new: Tensor) -> None:
    """Adds to the sums of a label."""
    sums[label] = sums[label] + new if label in sums else new
