"""What the probe of `weights` finds: one row a tensor, and one a name that the earlier checkpoint lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainlab.result import Result, column

__all__ = ["BINS", "LEVELS", "RANKS", "WeightsResult"]

# Probabilities of the quantiles; the outer ones are those of a normal distribution at ± 3.3 and ± 2.3 σ.
LEVELS = (0.0005, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.9995)
BINS = 60  # of a histogram
RANKS = 40  # singular values that are kept of a matrix


class WeightsResult(Result, kind="weights", schema=1):
    """The numbers of every tensor of a checkpoint; those that are not finite are counted and left out of the rest.

    A tensor is looked at as a matrix: axes of length 1 dropped, the first that is left is the row, the others
    together are the column; a convolution is (out, in · height · width). Fewer axes make no matrix.
    """

    path: str
    """The checkpoint, as it was given."""
    earlier: str
    """What it was compared with; empty where there was nothing."""
    step: int
    """The step that the checkpoint says it is from; -1 where it does not say."""
    tiny: float
    """Rows and columns whose norm is below this share of the root mean square of all norms count as dead."""

    tensor_name: tuple[str, ...] = column("tensor")
    """As stored, in the order of the file."""
    tensor_role: tuple[str, ...] = column("tensor")
    """By its name and shape: ``weight``, ``embedding``, ``gain`` (of a norm), ``bias``, ``vector`` (a class token),
    ``buffer`` or ``integer``."""
    tensor_shape: tuple[str, ...] = column("tensor")
    """As text, e.g. ``64×3×7×7``; empty for a single number."""
    tensor_dtype: tuple[str, ...] = column("tensor")
    """e.g. ``bfloat16``."""
    tensor_elements: np.ndarray = column("tensor")
    """(tensor) int64; how many numbers it holds."""
    tensor_group: tuple[str, ...] = column("tensor")
    """Its name with a ``*`` for every number, and its count of axes: siblings have it in common."""
    tensor_nan: np.ndarray = column("tensor")
    """(tensor) int64; NaNs."""
    tensor_inf: np.ndarray = column("tensor")
    """(tensor) int64; infinities."""
    tensor_zeros: np.ndarray = column("tensor")
    """(tensor) float64; share of exact zeros."""
    tensor_subnormal: np.ndarray = column("tensor")
    """(tensor) float64; share of numbers above zero and below the least normal number of the dtype."""
    tensor_mean: np.ndarray = column("tensor")
    """(tensor) float64; NaN where there is no finite number, as in all that follow."""
    tensor_std: np.ndarray = column("tensor")
    """(tensor) float64; of the whole population (divided by the count)."""
    tensor_rms: np.ndarray = column("tensor")
    """(tensor) float64; root of the mean square."""
    tensor_norm: np.ndarray = column("tensor")
    """(tensor) float64; L2 (Frobenius) norm."""
    tensor_min: np.ndarray = column("tensor")
    """(tensor) float64; exact."""
    tensor_max: np.ndarray = column("tensor")
    """(tensor) float64; exact."""
    tensor_rows: np.ndarray = column("tensor")
    """(tensor) int64; rows of the matrix; 0 where it is none, as in the next."""
    tensor_columns: np.ndarray = column("tensor")
    """(tensor) int64."""
    tensor_dead_rows: np.ndarray = column("tensor")
    """(tensor) int64; rows that are zero or tiny; see ``tiny``."""
    tensor_dead_columns: np.ndarray = column("tensor")
    """(tensor) int64."""
    tensor_dead_at: tuple[str, ...] = column("tensor")
    """The first of them, e.g. ``rows 3, 7; columns 0``."""
    tensor_row_peak: np.ndarray = column("tensor")
    """(tensor) float64; the largest norm of a row over the median of those that are not zero."""
    tensor_row_peak_at: np.ndarray = column("tensor")
    """(tensor) int64; which row that is; -1 where there is none."""
    tensor_gain: np.ndarray = column("tensor")
    """(tensor) float64; rms · √columns: about 1 in a layer that keeps the variance of white input; the rms itself
    where it is no matrix or an embedding."""
    tensor_spectral: np.ndarray = column("tensor")
    """(tensor) float64; largest singular value."""
    tensor_spectral_error: np.ndarray = column("tensor")
    """(tensor) float64; a bound on its relative error; 0 where all singular values were computed."""
    tensor_stable_rank: np.ndarray = column("tensor")
    """(tensor) float64; squared norm over squared spectral norm: 1 for rank one, at most the lesser side."""
    tensor_effective_rank: np.ndarray = column("tensor")
    """(tensor) float64; exp of the entropy of the normalised singular values (Roy and Vetterli 2007); NaN where
    only the largest were computed."""
    tensor_tied_to: tuple[str, ...] = column("tensor")
    """The first tensor that lies in the same memory; empty where there is none."""
    tensor_copy_of: tuple[str, ...] = column("tensor")
    """The first tensor with the same bits in other memory, constants left out; empty where there is none."""
    tensor_change: np.ndarray = column("tensor")
    """(tensor) float64; norm of the change since the earlier checkpoint over the norm that it had, infinite where
    that was 0; NaN where there is nothing to compare, as in the next three."""
    tensor_moved: np.ndarray = column("tensor")
    """(tensor) float64; share of numbers that differ at all."""
    tensor_unmoved_rows: np.ndarray = column("tensor")
    """(tensor) float64; share of rows in which none differs."""
    tensor_turn: np.ndarray = column("tensor")
    """(tensor) float64; share of the change that is not a mere scaling of the tensor: 0 where only weight decay
    acted, near 1 where gradients did. NaN where the change is too small to tell."""

    quantile_level: np.ndarray
    """(quantile) float64; probabilities of the quantiles."""
    quantile: np.ndarray
    """(tensor, quantile) float32; to 0.8 % of each value."""
    histogram: np.ndarray
    """(tensor, bin) float32; share of the numbers in bins of equal width from the first to the last quantile."""
    spectrum: np.ndarray
    """(tensor, place) float32; singular values at ``spectrum_rank``, NaN where there are fewer."""
    spectrum_rank: np.ndarray
    """(tensor, place) int32; 1 for the largest, evenly spaced on a logarithmic scale; 0 where there are fewer."""

    absent: tuple[str, ...]
    """Tensors of the earlier checkpoint that this one lacks or holds in another shape."""
    unmeasured: tuple[str, ...]
    """Tensors that could not be read as numbers, with the reason."""

    def max_abs(self) -> np.ndarray:
        """(tensor) float64; the largest magnitude."""
        peak: np.ndarray = np.maximum(np.abs(self.tensor_min), np.abs(self.tensor_max))
        return peak

    def dead_share(self) -> np.ndarray:
        """(tensor) float64; the larger of the shares of dead rows and dead columns; 0 where it is no matrix."""
        share: np.ndarray = np.maximum(
            self.tensor_dead_rows / np.maximum(self.tensor_rows, 1),
            self.tensor_dead_columns / np.maximum(self.tensor_columns, 1),
        )
        return share

    def having(self, *roles: str) -> list[int]:
        """The places of the tensors that have one of these roles; tied ones count once."""
        return [i for i, role in enumerate(self.tensor_role) if role in roles and not self.tensor_tied_to[i]]

    def counted(self, places: Sequence[int]) -> str:
        """One tensor by its name, more by their number."""
        return self.tensor_name[places[0]] if len(places) == 1 else f"{len(places)} tensors"
