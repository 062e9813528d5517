"""What the probe of `dtypes` finds: ops, casts, crash sites, fixes, tensors, and what float16 would hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trainlab.result import Result, column

__all__ = ["DtypesResult", "located", "shape_text", "short_place"]


class DtypesResult(Result, kind="dtypes", schema=1):
    """One run under autocast, op by op; one without it, past every dtype error; one forecast for float16."""

    autocast: str
    """Whose rules the run followed: ``cuda``, ``cpu`` or ``off``."""
    dtype: str
    """The lower dtype of that autocast; empty where it is off."""
    evidence: str
    """How the run under autocast was had: ``ran on CPU``, ``ran on GPU`` or ``rehearsed`` (CUDA's rules on a CPU)."""
    train: bool
    """Whether the model ran in training mode."""
    reference: str
    """The dtype that most of the trainable weights have, counted as tensors; every other one is odd."""
    without_evidence: str
    """How the run without autocast was had: ``ran on CPU``, ``ran on GPU``, or ``known rule`` (shapes and dtypes were
    followed, and kernels asked on tiny tensors)."""
    fallback: str
    """Why shapes and dtypes could not be followed without computing, and it ran; empty where they could, or need not."""
    last_resort: bool
    """Whether no fix helped that is smaller than casting the whole model."""
    error: str
    """What ended the run under autocast before its end; empty where nothing did."""
    error_at: str
    """The op that raised it, ``module: op (file:line)``; empty where it was none, as for an ``assert``."""
    error_dtypes: str
    """The dtypes that went into that op: ``float64, float32``."""
    loss_error: str
    """What the loss or its backward raised under autocast, in bfloat16; empty where they ran, or there is no loss."""

    op_module: tuple[str, ...] = column("op")
    """Qualified name of the module that ran it; empty for the model itself."""
    op_name: tuple[str, ...] = column("op")
    """e.g. ``linear``, ``matmul``, ``add_``."""
    op_site: tuple[str, ...] = column("op")
    """``file:line`` of the user's code."""
    op_inputs: tuple[str, ...] = column("op")
    """dtypes of the tensors that went in, in the order of the arguments: ``float32, bfloat16``."""
    op_output: tuple[str, ...] = column("op")
    """dtype of the first floating tensor that came out, of the first tensor where none is floating."""
    op_shape: tuple[str, ...] = column("op")
    """Shape of the same, e.g. ``4×128×768``."""
    op_evidence: tuple[str, ...] = column("op")
    """``ran on CPU``, ``ran on GPU``, ``rehearsed``, or ``opaque``: TorchScript, whose inside was not seen."""
    op_min: np.ndarray = column("op")
    """(op) float64; least value of its floating outputs; NaN where none was read (views, no statistics asked)."""
    op_max: np.ndarray = column("op")
    """(op) float64; greatest value, likewise."""
    op_nan: np.ndarray = column("op")
    """(op) int64; NaNs in its outputs; on a GPU 1 where there are some."""
    op_inf: np.ndarray = column("op")
    """(op) int64; infinities, likewise."""
    op_born: np.ndarray = column("op")
    """(op) bool; its output is not finite while every input is."""

    cast_op: np.ndarray = column("cast")
    """(cast) int64; the op that it belongs to, as a place in the table of ops."""
    cast_tensor: tuple[str, ...] = column("cast")
    """Name of the parameter or buffer, otherwise the argument's position or keyword."""
    cast_before: tuple[str, ...] = column("cast")
    """dtype before."""
    cast_after: tuple[str, ...] = column("cast")
    """dtype after."""
    cast_cause: tuple[str, ...] = column("cast")
    """``autocast``, ``explicit`` (a call in the user's code), ``promotion``, ``parameter`` or ``in place``."""
    cast_by: tuple[str, ...] = column("cast")
    """The parameter or buffer whose dtype is the cause; otherwise empty."""
    cast_weight: np.ndarray = column("cast")
    """(cast) bool; the tensor is a parameter or buffer."""
    cast_cached: np.ndarray = column("cast")
    """(cast) bool; served from autocast's cache: nothing was computed."""

    site_kind: tuple[str, ...] = column("site")
    """``crash``; ``caught``: it raises, and the model's own code goes on; or it runs on, and ``promotes`` (its result has the widest dtype) or ``narrows``."""
    site_module: tuple[str, ...] = column("site")
    """Qualified name of the module; empty for the model itself."""
    site_op: tuple[str, ...] = column("site")
    """What is called there."""
    site_place: tuple[str, ...] = column("site")
    """``file:line`` of the user's code."""
    site_dtypes: tuple[str, ...] = column("site")
    """The floating dtypes that meet: ``float16, float32``."""
    site_error: tuple[str, ...] = column("site")
    """What torch raises there, to the letter; empty where it runs on."""
    site_causes: tuple[str, ...] = column("site")
    """What brings in the odd dtypes: names of modules, tensors or inputs, or ``file:line``, joined by ``, ``; empty
    where that could not be followed."""

    fix_code: tuple[str, ...] = column("fix")
    """One line to write before the run, or the line of the user's code and what it should say."""
    fix_cause: tuple[str, ...] = column("fix")
    """What it puts right."""
    fix_dtype: tuple[str, ...] = column("fix")
    """The odd dtype that this cause brings in."""

    tensor_name: tuple[str, ...] = column("tensor")
    """Qualified name of a floating parameter, buffer or plain tensor attribute."""
    tensor_kind: tuple[str, ...] = column("tensor")
    """``parameter``, ``buffer`` or ``attribute``."""
    tensor_dtype: tuple[str, ...] = column("tensor")
    """e.g. ``float16``."""
    tensor_note: tuple[str, ...] = column("tensor")
    """Why it is odd, or is not, or what its dtype does to training; empty where there is nothing to say."""
    tensor_elements: np.ndarray = column("tensor")
    """(tensor) int64; how many numbers it holds."""
    tensor_trainable: np.ndarray = column("tensor")
    """(tensor) bool; a parameter that takes gradients."""
    tensor_odd: np.ndarray = column("tensor")
    """(tensor) bool; not of the dtype that most of the model has, and not meant to be, see the note."""

    range_module: tuple[str, ...] = column("range")
    """Module of an op that gives, or is cast to, the lower dtype."""
    range_op: tuple[str, ...] = column("range")
    """Its name."""
    range_site: tuple[str, ...] = column("range")
    """``file:line`` of the user's code."""
    range_absmax: np.ndarray = column("range")
    """(range) float64; largest finite magnitude of its outputs or of what is cast down to enter it; 0 for none."""
    range_headroom: np.ndarray = column("range")
    """(range) float64; powers of two between that and float16's largest number, 65504; negative beyond; infinite
    where there are only zeros."""
    range_overflows: np.ndarray = column("range")
    """(range) bool; float16 cannot hold it."""
    range_lost: np.ndarray = column("range")
    """(range) float64; share of its non-zero outputs that float16 rounds to zero."""

    gradient_name: tuple[str, ...] = column("gradient")
    """A parameter, or ``module: op``, whose gradient float16 would hold; empty table where there is no loss."""
    gradient_absmax: np.ndarray = column("gradient")
    """(gradient) float64; its largest finite magnitude, without loss scale."""
    gradient_lost: np.ndarray = column("gradient")
    """(gradient) float64; share of its non-zero numbers that float16 rounds to zero without a loss scale."""
    gradient_lost_scaled: np.ndarray = column("gradient")
    """(gradient) float64; the same under the recommended loss scale."""
    loss_scale: float
    """The largest power of two that leaves every gradient a doubling below 65504; NaN where there is no loss."""

    rule_op: tuple[str, ...] = column("rule")
    """An op of this run that CUDA's kernels take otherwise than the CPU's: ``module: op``."""
    rule_text: tuple[str, ...] = column("rule")
    """How they differ, and the source of it."""

    def absmax(self) -> np.ndarray:
        """(op) float64; the greatest magnitude of the outputs; NaN where none was read."""
        peak: np.ndarray = np.maximum(np.abs(self.op_min), np.abs(self.op_max))
        return peak

    def crashes(self) -> list[int]:
        """The places of the sites at which a run without autocast ends."""
        return [i for i, kind in enumerate(self.site_kind) if kind == "crash"]

    def brought_in_by(self, place: int) -> str:
        """The causes of a site, lines of code without their long paths."""
        return ", ".join(map(short_place, self.site_causes[place].split(", ")))

    def where(self, place: int) -> str:
        """An op by its module, name and line."""
        return located(self.op_module[place], self.op_name[place], self.op_site[place])

    def casts_of(self, *causes: str) -> Iterator[int]:
        """The places of the casts with one of these causes."""
        return (i for i, cause in enumerate(self.cast_cause) if cause in causes)


def located(module: str, op: str, place: str) -> str:
    """``blocks.0.mlp: linear (digits/model.py:12)``."""
    return f"{module or 'model'}: {op} ({short_place(place)})"


def short_place(place: str) -> str:
    """A ``file:line`` with no more of its path than the last folder."""
    return "/".join(place.replace("\\", "/").split("/")[-2:])


def shape_text(shape: Sequence[int]) -> str:
    """``4×128×768``; empty for a single number."""
    return "×".join(map(str, shape))
