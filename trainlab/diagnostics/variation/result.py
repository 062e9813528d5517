"""What the probe of `variation` finds: how far every layer and the output move when the inputs do."""

from __future__ import annotations

import numpy as np

from trainlab.result import Result, column

__all__ = ["VariationResult"]


class VariationResult(Result, kind="variation", schema=1):
    """How far the output and each layer move when samples are swapped under the same random numbers.

    Two numbers measure a movement from ``a`` to ``b``, both 0 for a constant, about 1 for unrelated values and
    free of scale. *Variation* is ``sqrt(Σ(a − b)² / Σ(a² + b²))``, which with ``b`` a permutation of ``a`` is
    ``sqrt(E‖f(x_i) − f(x_π(i))‖² / (2 E‖f‖²))``. *Typical* is ``π/(2√2)`` times the mean over the elements of
    ``|a − b| / √(a² + b²)``: every element counts alike, so one huge constant channel cannot hide the rest.

    A *floor* is the same number for a movement that means nothing: every leaf's output changed by one unit in
    the last place, or the same batch and seed run again, whichever moves more, and never less than the dtype's
    own resolution.
    """

    layer_name: tuple[str, ...] = column("layer")
    """Qualified name of the module, in the order in which calls end; the model itself is last, by its class."""
    layer_call: np.ndarray = column("layer")
    """(call) int64; 0 for a module's first call, 1 for its second."""
    layer_kind: tuple[str, ...] = column("layer")
    """Class of the module."""
    layer_variation: np.ndarray = column("layer")
    """(call) float64; variation of the output. NaN where it cannot be compared: no batch axis, a shape that
    depends on the content, no finite value."""
    layer_typical: np.ndarray = column("layer")
    """(call) float64; typical movement of the output."""
    layer_floor: np.ndarray = column("layer")
    """(call) float64; floor of the variation."""
    layer_typical_floor: np.ndarray = column("layer")
    """(call) float64; floor of the typical movement."""
    layer_input: np.ndarray = column("layer")
    """(call) float64; the larger of variation and typical of what went in; 0 where no input moves."""
    layer_input_floor: np.ndarray = column("layer")
    """(call) float64; its floor."""
    layer_fresh: np.ndarray = column("layer")
    """(call) float64; the larger of variation and typical in the same architecture at init; NaN if unknown."""
    layer_tokens: np.ndarray = column("layer")
    """(call) float64; variation of the output along its token or pixel axis; NaN where it has none."""
    layer_tokens_input: np.ndarray = column("layer")
    """(call) float64; the same of what went in."""
    layer_dead_units: np.ndarray = column("layer")
    """(call) float64; share of channels in which no element moved at all. A second opinion."""
    layer_nan: np.ndarray = column("layer")
    """(call) int64; NaNs in the output."""
    layer_inf: np.ndarray = column("layer")
    """(call) int64; infinities in the output."""
    layer_elements: np.ndarray = column("layer")
    """(call) int64; size of the output. Of more than 65 536 a fixed random choice of so many is compared."""
    layer_dtype: tuple[str, ...] = column("layer")
    """Dtype of the output, e.g. ``bfloat16``."""

    source_name: tuple[str, ...] = column("source")
    """The inputs by the names that forward gives them."""
    source_role: tuple[str, ...] = column("source")
    """``content``, ``input``, ``mask`` or ``target``."""
    source_shape: tuple[str, ...] = column("source")
    """Shape as text, e.g. ``8×16×64``."""
    source_own: np.ndarray = column("source")
    """(source) float64; variation of the input itself over the samples; NaN where it was not swapped."""
    source_variation: np.ndarray = column("source")
    """(source) float64; variation of the output when only this input is swapped; NaN where it was not."""
    source_typical: np.ndarray = column("source")
    """(source) float64; the same, typical movement."""
    source_nonfinite: np.ndarray = column("source")
    """(source) int64; NaNs and infinities in the input itself."""
    source_elsewhere: np.ndarray = column("source")
    """(source) float64; the larger movement of any other output of the model, when only this input is swapped."""
    source_reason: tuple[str, ...] = column("source")
    """Why it was not swapped; empty where it was."""

    swap_variation: np.ndarray
    """(call, source) float64; variation of each layer's output when only that input is swapped; NaN where it was
    not."""
    swap_typical: np.ndarray
    """(call, source) float64; the same, typical movement."""
    swap_input: np.ndarray
    """(call, source) float64; movement of what went into the layer, when only that input is swapped."""

    axis: np.ndarray = column("axis")
    """(axis) int64; axes of the output along which tokens, frames or pixels lie."""
    axis_size: np.ndarray = column("axis")
    """(axis) int64; how many there are."""
    axis_variation: np.ndarray = column("axis")
    """(axis) float64; variation of the output along the axis."""
    axis_content: np.ndarray = column("axis")
    """(axis) float64; variation of the content along the same axis; NaN where it has no such axis."""

    output_name: str
    """Which of the model's outputs was measured; ``output`` where there is one."""
    output_dtype: str
    output_shape: str
    output_variation: float
    """Variation of the output when all inputs are swapped together."""
    output_typical: float
    output_floor: float
    """Floor of the output's variation."""
    output_typical_floor: float
    output_repeat: float
    """Variation between two runs with one batch and one seed: above 0, the model ignores the seed."""
    output_noise: float
    """Variation between two runs with one batch and two seeds: dropout, sampling."""
    output_fresh: float
    """The larger of variation and typical of the output at init; NaN if unknown."""
    output_minimum: float
    output_maximum: float
    output_mean: float
    output_std: float
    """Of all finite elements; NaN where there are none."""
    output_at_edge: float
    """Share of elements that are exactly the minimum or the maximum, whichever has more."""
    output_nan: int
    output_inf: int
    output_elements: int
    output_rank: float
    """Effective rank of the centred outputs over samples, exp(entropy of the singular values) (Roy and Vetterli
    2007); at most samples − 1. A second opinion."""
    output_distance: np.ndarray
    """(sample, sample) float64; distance between two outputs over ``sqrt(2 E‖f‖²)``, so that it reads as variation."""
    output_cosine: np.ndarray
    """(sample, sample) float64; 1 − cosine of the angle between two outputs: 0 alike, 1 unrelated, 2 opposed."""
    output_samples: np.ndarray
    """(sample, …) float32; a few outputs, large axes thinned to every 2nd, 4th, … element."""
    content_samples: np.ndarray
    """(sample, …) float32; the content that belongs to them; empty where it cannot be shown."""

    target_name: str
    """The batch's target; empty where there is none."""
    target_variation: float
    """Variation of the target over the samples; of class numbers, that of their one-hot vectors; NaN without."""
    target_minimum: float
    target_maximum: float
    target_at_edge: float

    model_name: str
    """Class of the model."""
    samples: int
    """Samples in the batch."""
    pairs: int
    """Pairs of samples that were compared."""
    train: bool
    """The model was run in training mode."""
    trained: bool | None
    """Whether the weights have been trained, by the checkpoint's step or against the model at init; None if unknown."""

    def output_movement(self) -> float:
        """How far the output moves: the larger of its two numbers."""
        return max(self.output_variation, self.output_typical)
