"""Singular values of a matrix that stays on the disk: all of them where it is small, the largest where it is not.

All: the eigenvalues of the Gram matrix of the lesser side, summed over blocks in float64; a singular value is then
right to about 1e-8 of the largest. The largest: block Krylov iteration (Musco and Musco 2015) from a fixed random
start, until the residual bounds the relative error of the first by 1 %, or 12 passes over the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.weights.measuring import CHUNK, as_matrix
from trainlab.diagnostics.weights.result import RANKS

__all__ = ["Spectrum", "spectrum"]

EXACT_WORK = 5e9  # multiplications: 1024 × 4096 takes one second of one core
WIDTH = 8  # vectors of a block
PASSES = 12
ERROR = 0.01


@dataclass(frozen=True)
class Spectrum:
    """Singular values, largest first, and a bound on the relative error of the first."""

    values: np.ndarray
    error: float
    whole: bool

    @property
    def effective_rank(self) -> float:
        """The exponential of the entropy of the normalised singular values; NaN where they are not all known."""
        total = self.values.sum()
        if not self.whole or not total > 0:
            return np.nan
        share = self.values[self.values > 0] / total
        return float(np.exp(-(share * np.log(share)).sum()))

    def picked(self) -> tuple[np.ndarray, np.ndarray]:
        """(place) ranks and (place) singular values, evenly spaced on a logarithmic scale; padded with 0 and NaN."""
        ranks = np.unique(np.geomspace(1, len(self.values), RANKS).round().astype(np.int32))
        pad = RANKS - len(ranks)
        return np.pad(ranks, (0, pad)), np.pad(self.values[ranks - 1], (0, pad), constant_values=np.nan)


def spectrum(tensor: Tensor) -> Spectrum:
    """The singular values of a tensor as a matrix; it has two rows and two columns at least, all finite."""
    core = as_matrix(tensor)
    rows, columns = len(core), core[:1].numel()
    if float(rows) * columns * min(rows, columns) <= EXACT_WORK:
        gram = sum(block.T @ block for block in _slices(core, torch.float64))
        assert isinstance(gram, Tensor)
        squares = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
        return Spectrum(squares.sqrt().numpy(), 0.0, whole=True)
    return _largest(core)


def _slices(core: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Parts of the longer side, each (some of the longer side, the whole lesser side)."""
    matrix = core.flatten(1)
    tall = matrix if len(matrix) >= matrix.shape[1] else matrix.T
    step = max(1, CHUNK // tall.shape[1])
    for first in range(0, len(tall), step):
        yield tall[first : first + step].to(dtype)


def _largest(core: Tensor) -> Spectrum:
    dtype = torch.float64 if core.dtype == torch.float64 else torch.float32
    side = min(len(core), core[:1].numel())
    start = torch.randn(side, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(start).Q
    image = torch.zeros(side, 0, dtype=torch.float64)
    for _ in range(PASSES):
        newest = basis[:, -WIDTH:]
        sums = torch.zeros(side, WIDTH, dtype=dtype)
        for block in _slices(core, dtype):
            sums += block.T @ (block @ newest.to(dtype))
        image = torch.cat([image, sums.double()], dim=1)
        ritz, vectors = torch.linalg.eigh(basis.T @ image)
        residual = torch.linalg.vector_norm(image @ vectors[:, -1] - ritz[-1] * (basis @ vectors[:, -1]))
        error = float(residual / (2 * ritz[-1].abs().clamp_min(torch.finfo(torch.float64).tiny)))
        if error <= ERROR:
            break
        fresh = sums.double()
        for _ in range(2):  # once leaves a trace of the old directions
            fresh = fresh - basis @ (basis.T @ fresh)
        basis = torch.cat([basis, torch.linalg.qr(fresh).Q], dim=1)
    values = ritz.flip(0)[:WIDTH].clamp_min(0).sqrt().numpy()
    return Spectrum(values, error, whole=False)
