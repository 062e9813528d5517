"""What a GPU's kernels are known to do otherwise than a CPU's: no rehearsal shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One known difference; its class of evidence is "known rule".

    Attributes:
        ops: The ops that it is about, as ``torch.ops.aten`` names them; empty where it is about all.
        case: Which dtypes or settings.
        on_cpu: What happens in the rehearsal.
        on_cuda: What happens on a GPU.
        source: Where that is written.
        shows: Whether floating inputs of these dtypes, in order, are the case; None where dtypes do not show it.
        outside: It is no case under autocast, which gives these ops one dtype.
    """

    ops: tuple[str, ...]
    case: str
    on_cpu: str
    on_cuda: str
    source: str
    shows: Callable[[Sequence[str]], bool] | None = None
    outside: bool = False

    def concerns(self, op: str, dtypes: Sequence[str], *, autocast: bool) -> bool:
        """Whether a call of an op with inputs of these dtypes, under autocast or not, is the case."""
        shown = op in self.ops and self.shows is not None and self.shows(dtypes)
        return shown and not (autocast and self.outside)


def _half_among_float32(dtypes: Sequence[str]) -> bool:
    return dtypes[0] in ("float16", "bfloat16") and "float32" in dtypes[1:]


DIFFERENCES = (
    Difference(
        ops=("layer_norm", "native_layer_norm"),
        case="outside autocast: half input, float32 weight and bias",
        on_cpu="runs, half output",
        on_cuda="raises: expected scalar type Half but found Float",
        source="aten/src/ATen/native/cuda/layer_norm_kernel.cu; github.com/pytorch/pytorch/issues/135969",
        shows=_half_among_float32,
        outside=True,
    ),
    Difference(
        ops=("group_norm", "native_group_norm"),
        case="outside autocast: half input, float32 weight and bias",
        on_cpu="runs, half output",
        on_cuda="raises: expected scalar type Half but found Float",
        source="aten/src/ATen/native/cuda/group_norm_kernel.cu: gamma.const_data_ptr<T>()",
        shows=_half_among_float32,
        outside=True,
    ),
    Difference(
        ops=(
            "fft_fft",
            "fft_ifft",
            "fft_rfft",
            "fft_irfft",
            "fft_fft2",
            "fft_rfft2",
            "fft_fftn",
            "fft_rfftn",
        ),
        case="float16 input",
        on_cpu="raises: Unsupported dtype Half",
        on_cuda="runs where every transformed length is a power of two, otherwise raises: cuFFT only supports …",
        source="aten/src/ATen/native/SpectralOps.cpp; aten/src/ATen/native/cuda/CuFFTPlanCache.h",
        shows=lambda dtypes: "float16" in dtypes,
    ),
    Difference(
        ops=("mm", "addmm", "bmm", "baddbmm", "matmul", "linear"),
        case="float16, torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction left on",
        on_cpu="partial sums are float32",
        on_cuda="partial sums may be float16, and may overflow where the result would not",
        source="docs.pytorch.org/docs/stable/notes/cuda.html, Reduced Precision Reduction in FP16 GEMMs",
    ),
    Difference(
        ops=(),
        case="a tensor of one axis or more that was made without device=, beside one on the GPU",
        on_cpu="runs: both are on the CPU",
        on_cuda="raises: Expected all tensors to be on the same device",
        source="docs.pytorch.org/docs/stable/notes/cuda.html: cross-GPU operations are not allowed by default",
    ),
)
