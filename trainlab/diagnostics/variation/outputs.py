"""Finds the output to measure, and describes it: its range, its axes, its distances, a few samples to show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.variation.movement import Movement, Sampler, compare
from trainlab.diagnostics.variation.sources import Reading
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.visit import tensors

__all__ = ["Output", "Range", "along", "distances", "rank", "small", "token_axes", "variation_of_target"]

COMPARED = 2**22  # elements of the output that are compared; all of it where it is no larger
SHOWN = 32  # samples in the distance matrix
ROW = 2**14  # elements of a sample that distances and the pictures work on


@dataclass(frozen=True)
class Output:
    """The output that is measured: its path in what the model returns, its name and its values."""

    path: str
    name: str
    values: Tensor

    @classmethod
    def of(cls, returned: object, wanted: str, samples: int) -> Output:
        """Chooses the output: the one asked for, else ``logits``, else the first floating one with a batch axis.

        Raises:
            UsageError: There is no output of the name asked for.
            NotApplicable: No output is floating and has a batch axis.
        """
        found = tensors(returned)
        if wanted and wanted not in found:
            raise UsageError(f"the model returns no output {wanted!r}", fix=did_you_mean(wanted, found))
        fit = [path for path, t in found.items() if t.is_floating_point() and samples in t.shape]
        chosen = wanted or ("logits" if "logits" in fit else fit[0] if fit else None)
        if chosen is None or chosen not in fit:
            shapes = ", ".join(f"{path or 'output'} {tuple(t.shape)} {t.dtype}" for path, t in found.items())
            raise NotApplicable(
                f"no output of the model is floating and has an axis of {samples} samples",
                seen=shapes or type(returned).__name__,
                fix="measure the part of the model that answers for each sample, not its loss; where the batch is the second axis: batch_axis=1",
            )
        return cls(chosen, chosen or "output", found[chosen].detach())

    def same_in(self, returned: object) -> Tensor:
        """The same output of another pass."""
        return tensors(returned)[self.path].detach()

    def moved(self, sampler: Sampler, other: Tensor) -> Tensor:
        """Compares the output with that of another pass."""
        return compare(sampler.pick(self.values, COMPARED), sampler.pick(other, COMPARED))


@dataclass(frozen=True)
class Range:
    """The finite values of a tensor in a few numbers; NaN where there are none."""

    minimum: float
    maximum: float
    mean: float
    std: float
    at_edge: float
    nan: int
    inf: int

    @classmethod
    def of(cls, tensor: Tensor) -> Range:
        """Describes a tensor."""
        values = tensor.detach().to(torch.float32 if tensor.device.type == "mps" else torch.float64).flatten()
        nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
        values = values[values.isfinite()]
        if values.numel() == 0:
            return cls(math.nan, math.nan, math.nan, math.nan, math.nan, nan, inf)
        low, high = values.min(), values.max()
        edge = max(float((values == low).double().mean()), float((values == high).double().mean()))
        return cls(
            float(low), float(high), float(values.mean()), float(values.std(correction=0)), edge, nan, inf
        )


def rows(values: Tensor, reading: Reading) -> Tensor:
    """The output's samples in float64, (sample, element); long ones as a fixed choice of their elements."""
    flat = (
        values.movedim(batch_axis(values, reading), 0)[:SHOWN].flatten(1).cpu().double().nan_to_num(0, 0, 0)
    )
    places = Sampler().places(flat[0], ROW)
    return flat if places is None else flat[:, places]


def batch_axis(values: Tensor, reading: Reading) -> int:
    """Which axis of the output is the batch: that of the inputs where it fits, otherwise the first that does."""
    if values.dim() > reading.axis and values.shape[reading.axis] == reading.samples:
        return reading.axis
    return list(values.shape).index(reading.samples)


def distances(samples: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How far apart the samples are, as variation and as 1 − cosine."""
    power = float(samples.square().sum(1).mean())
    apart = torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist")
    scaled = apart / math.sqrt(2 * power) if power > 0 else apart
    directions = torch.nn.functional.normalize(samples, dim=1, eps=1e-300)
    return scaled.numpy(), (1 - directions @ directions.T).clamp(0, 2).numpy()


def rank(samples: Tensor) -> float:
    """Effective rank of the samples about their mean (Roy and Vetterli 2007); 0 where all are the same."""
    values = torch.linalg.svdvals(samples - samples.mean(0))
    if float(values.sum()) == 0:
        return 0.0
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.clamp_min(1e-300).log()).sum()))


def token_axes(values: Tensor, reading: Reading) -> list[int]:
    """The axes of an output along which its tokens, frames or pixels lie.

    (batch, token, channel): 1. (batch, channel, height, width): 2 and 3. (batch, frame, channel, height, width):
    1, 3 and 4. Where the batch is axis 1: 0.
    """
    if reading.axis == 1:
        chosen = [0] if values.dim() == 3 else []
    else:
        chosen = {3: [1], 4: [2, 3], 5: [1, 3, 4]}.get(values.dim(), [])
    return [axis for axis in chosen if values.shape[axis] > 1]


def along(tensor: Tensor, axis: int) -> float:
    """Variation of a tensor along one of its axes: each place is compared with the one half-way round."""
    if tensor.dim() <= axis or tensor.shape[axis] < 2 or tensor.numel() == 0:
        return math.nan
    return Movement.of(compare(tensor, tensor.roll(tensor.shape[axis] // 2, axis))).variation


def variation_of_target(target: Tensor, orders: list[Tensor], reading: Reading) -> float:
    """Variation of the target over the samples; of class numbers that of one-hot vectors: √P(classes differ)."""
    if target.dim() == 0 or reading.samples not in target.shape:
        return math.nan
    axis = batch_axis(target, reading)
    others = [target.index_select(axis, order.to(target.device)) for order in orders]
    if not target.is_floating_point():
        return math.sqrt(float(torch.stack([(target != other).double().mean() for other in others]).mean()))
    return Movement.of(torch.stack([compare(target, other) for other in others]).sum(0)).variation


def small(values: Tensor, reading: Reading, samples: int = 6) -> np.ndarray:
    """A few samples to show, (sample, …) float32; the largest axis is halved until a sample is small enough."""
    if values.dim() == 0 or reading.samples not in values.shape:
        return np.zeros(0, np.float32)
    kept = values.detach().movedim(batch_axis(values, reading), 0)[:samples]
    while kept[0].numel() > ROW:
        largest = 1 + int(np.argmax(kept.shape[1:]))
        kept = kept[(slice(None),) * largest + (slice(None, None, 2),)]
    return kept.cpu().float().numpy()
