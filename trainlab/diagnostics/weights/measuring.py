"""Measure one tensor in blocks of 2 MB, so that a file of any size needs little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.weights.result import BINS, LEVELS
from trainlab.visit import resolution

__all__ = ["Change", "Measure", "as_matrix", "blocks", "change", "dead", "listed", "measure", "same_bits"]

CHUNK = 1 << 18  # elements of a block: 2 MB in float64, which fits a core's cache
KEYS = 1 << 16
FINITE = 0x7F80  # patterns of sign + 8 exponent + 7 mantissa bits: those below are finite
SHOWN = 5  # dead rows that are named


def as_matrix(tensor: Tensor) -> Tensor:
    """The tensor with its axes of length 1 dropped, (1, n) where fewer than two are left.

    Complex numbers are two real ones side by side. It is a view, save of complex ones that are not contiguous.
    """
    core = tensor.detach().squeeze()
    core = core if core.ndim >= 2 else core.reshape(1, -1)
    return torch.view_as_real(core.resolve_conj()).flatten(-2) if core.is_complex() else core


def blocks(tensor: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (first row, first column, values in the tensor's own dtype) until the matrix is covered."""
    core = as_matrix(tensor)
    rows, columns = len(core), core[:1].numel()
    step = max(1, CHUNK // max(columns, 1))
    for row in range(0, rows if columns else 0, step):
        part = core[row : row + step].flatten(1)
        for column in range(0, columns, CHUNK):
            yield row, column, part[:, column : column + CHUNK]


@dataclass
class Measure:
    """What one pass over a tensor finds; sums are in float64 over the finite numbers."""

    elements: int
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    subnormal: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = np.inf
    most: float = -np.inf
    row_squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    column_squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def is_matrix(self) -> bool:
        """Has it two rows and two columns at least? Others have no squares of theirs."""
        return len(self.row_squares) > 0

    @property
    def finite(self) -> int:
        """How many numbers are finite."""
        return self.elements - self.nan - self.inf

    @property
    def mean(self) -> float:
        """NaN where nothing is finite."""
        return self.total / self.finite if self.finite else np.nan

    @property
    def rms(self) -> float:
        """NaN where nothing is finite."""
        return float(np.sqrt(self.squares / self.finite)) if self.finite else np.nan

    @property
    def std(self) -> float:
        """NaN where nothing is finite; exactly 0 where all numbers are one."""
        if not self.finite or self.least == self.most:
            return 0.0 if self.finite else np.nan
        return float(np.sqrt(max(self.squares / self.finite - self.mean**2, 0.0)))

    def quantiles(self) -> np.ndarray:
        """(quantile) to 0.8 % of each value: the width of a bin. NaN where nothing is finite."""
        if not self.finite:
            return np.full(len(LEVELS), np.nan)
        filled = np.flatnonzero(self.counts)
        upto = np.cumsum(self.counts[filled])
        wanted = np.array(LEVELS) * upto[-1]
        place = np.minimum(np.searchsorted(upto, wanted), len(filled) - 1)
        count = self.counts[filled[place]]
        inside = (wanted - (upto[place] - count)) / count
        low, high = EDGES[filled[place]], EDGES[filled[place] + 1]
        found: np.ndarray = np.clip(low + (high - low) * inside, self.least, self.most)
        return found

    def histogram(self) -> np.ndarray:
        """(bin) share of the finite numbers between the outer quantiles."""
        if not self.finite:
            return np.full(BINS, np.nan)
        low, high = self.quantiles()[[0, -1]]
        if low == high:  # a constant stands in the middle
            return np.bincount([BINS // 2], minlength=BINS).astype(float)
        upto = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        return np.diff(np.interp(np.linspace(low, high, BINS + 1), EDGES, upto))


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread inside: on small blocks, threads cost up to 60 times more where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure(tensor: Tensor) -> Measure:
    """Measures every number of a tensor in one pass."""
    core = as_matrix(tensor)
    sides = len(core), core[:1].numel()
    found = Measure(core.numel())
    if min(sides) > 1:
        found.row_squares, found.column_squares = (np.zeros(side) for side in sides)
    counts = np.zeros(KEYS, dtype=np.int64)
    tiny = torch.finfo(tensor.dtype).tiny if resolution(tensor.dtype) else 0.0
    for row, column, block in blocks(tensor):
        values = block.to(torch.float64)
        finite = torch.isfinite(values)
        good = values.flatten()
        if not bool(finite.all()):
            found.nan += int(torch.isnan(values).sum())
            found.inf += int(torch.isinf(values).sum())
            good = values[finite]
            values = torch.where(finite, values, 0.0)
        if not good.numel():
            continue
        squares = values.square()
        found.squares += float(squares.sum())
        if found.is_matrix:
            found.row_squares[row : row + len(squares)] += squares.sum(dim=1).numpy()
            found.column_squares[column : column + squares.shape[1]] += squares.sum(dim=0).numpy()
        found.total += float(good.sum())
        least, most = torch.aminmax(good)
        found.least, found.most = min(found.least, float(least)), max(found.most, float(most))
        nonzero = int(torch.count_nonzero(good))
        found.zeros += good.numel() - nonzero
        found.subnormal += int((good.abs() < tiny).sum()) - (good.numel() - nonzero) if tiny else 0
        counts += np.bincount(_keys(good), minlength=KEYS)
    found.counts = np.concatenate([counts[KEYS // 2 :][:FINITE][::-1], counts[:FINITE]])
    return found


def _keys(values: Tensor) -> np.ndarray:
    """The upper half of each number's float32 pattern: sign, exponent and 7 bits, so a bin is 0.8 % wide."""
    largest = torch.finfo(torch.float32).max
    single = values.clamp(-largest, largest).to(torch.float32).numpy()
    keys: np.ndarray = single.view(np.uint32) >> 16
    return keys


def _edges() -> np.ndarray:
    """(bin + 1) float64, rising: where the bins of `Measure.counts` meet."""
    upward = (np.arange(FINITE, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    above = np.append(upward[1:], 2.0**128)
    return np.concatenate([-above[::-1], [0.0], above])


EDGES = _edges()


@dataclass(frozen=True)
class Change:
    """How far a tensor is from what it was; see the columns of that name in ``WeightsResult``."""

    change: float
    moved: float
    unmoved_rows: float
    turn: float


def change(now: Tensor, before: Tensor) -> Change:
    """Compares a tensor with an earlier one of its shape, in the coarser dtype of the two; NaN equals NaN."""
    coarse = max((now.dtype, before.dtype), key=resolution)
    moved, difference, was, norm, product = 0, 0.0, 0.0, 0.0, 0.0
    rows = np.zeros(len(as_matrix(now)), dtype=bool)
    for (row, _, one), (_, _, other) in zip(blocks(now), blocks(before), strict=True):
        a, b = (each.to(coarse).to(torch.float64) for each in (other, one))
        differs = (a != b) & ~(a.isnan() & b.isnan())
        moved += int(differs.sum())
        rows[row : row + len(a)] |= differs.any(dim=1).numpy()
        a, b = (torch.where(a.isfinite() & b.isfinite(), each, 0.0) for each in (a, b))
        difference += float((b - a).square().sum())
        was += float(a.square().sum())
        norm += float(b.square().sum())
        product += float((a * b).sum())
    elements = max(as_matrix(now).numel(), 1)
    turn = np.nan
    # norm - product²/was loses half of float64's digits, and rounding alone turns a tensor by its resolution
    if was > 0 and elements >= 8 and difference > (1e-6 + 100 * resolution(coarse)) ** 2 * was:
        turn = float(np.sqrt(min(max(norm - product**2 / was, 0.0) / difference, 1.0)))
    relative = np.sqrt(difference / was) if was > 0 else (np.inf if difference > 0 else 0.0)
    return Change(float(relative), moved / elements, float(1 - rows.mean()) if len(rows) else 0.0, turn)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Do two tensors of one shape and dtype hold the same bits?"""
    pairs = zip(blocks(one), blocks(other), strict=True)
    return all(
        torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
        for (_, _, a), (_, _, b) in pairs
    )


def dead(lengths: np.ndarray, tiny: float) -> np.ndarray:
    """Which rows, by their norms, are zero or below ``tiny`` of the root mean square of all, also if most are dead."""
    which: np.ndarray = lengths <= tiny * np.sqrt(np.square(lengths).sum() / max(len(lengths), 1))
    return which


def listed(kind: str, which: np.ndarray) -> str:
    """The first few places where it is so: ``rows 3, 7, 12 …``."""
    places = np.flatnonzero(which)
    more = " …" if len(places) > SHOWN else ""
    return f"{kind} {', '.join(map(str, places[:SHOWN]))}{more}" if len(places) else ""
