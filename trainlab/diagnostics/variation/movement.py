"""How far one tensor is from another, in numbers that no scale or offset can fool."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["UNKNOWN", "Movement", "Sampler", "compare"]

# Makes the typical movement of independent Gaussians 1: the mean of |cos θ − sin θ| over all θ is 2√2/π.
GAUSSIAN = math.pi / (2 * math.sqrt(2))


class Movement(NamedTuple):
    """How far something moves, by its energy and by its typical element."""

    variation: float
    typical: float

    @property
    def larger(self) -> float:
        """The larger of the two: what hides from one shows in the other."""
        return max(self.variation, self.typical)

    @classmethod
    def of(cls, sums: Tensor | None) -> Movement:
        """The movement that these sums of `compare` amount to; unknown where nothing was compared."""
        if sums is None:
            return UNKNOWN
        squares, energy, ratios, count = sums.tolist()
        if count == 0:
            return UNKNOWN
        return cls(math.sqrt(squares / energy) if energy > 0 else 0.0, GAUSSIAN * ratios / count)


UNKNOWN = Movement(math.nan, math.nan)


def compare(a: Tensor, b: Tensor) -> Tensor:
    """Four sums over the elements that are finite in both: (a − b)², a² + b², |a − b| / √(a² + b²), and 1.

    Returns:
        (4,) float64 on the tensors' device, so that nothing waits for it (float32 where there is no float64).
    """
    a, b = _wide(a), _wide(b)
    finite = torch.isfinite(a) & torch.isfinite(b)
    a, b = a.where(finite, 0), b.where(finite, 0)
    apart, energy = (a - b).abs(), a * a + b * b
    ratios = torch.where(energy > 0, apart / energy.sqrt(), 0)
    return torch.stack([apart.square().sum(), energy.sum(), ratios.sum(), finite.sum().to(a.dtype)])


class Sampler:
    """Picks elements of tensors: all where there are few, otherwise a random choice fixed by the size.

    Of a movement confined to a share p of the elements, a choice of k misses all with probability (1 − p)^k.
    """

    def __init__(self) -> None:
        self._chosen: dict[tuple[int, int, torch.device], Tensor] = {}

    def places(self, tensor: Tensor, most: int) -> Tensor | None:
        """Flat indices of the choice; None for all."""
        if tensor.numel() <= most:
            return None
        key = (tensor.numel(), most, tensor.device)
        if key not in self._chosen:
            # a generator of its own: the model's random numbers stay as they are
            stream = torch.Generator().manual_seed(tensor.numel())
            chosen = torch.randint(tensor.numel(), (most,), generator=stream)
            self._chosen[key] = chosen.to(tensor.device)
        return self._chosen[key]

    def pick(self, tensor: Tensor, most: int) -> Tensor:
        """The chosen elements, flat and copied: the model may go on writing to the tensor."""
        flat = tensor.detach().reshape(-1)
        places = self.places(tensor, most)
        return flat.clone() if places is None else flat[places]


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.detach().to(torch.float32 if tensor.device.type == "mps" else torch.float64)
