"""Read what CUDA's autocast does with each op, from the header of the torch that is installed.

The header carries the lists that both the CUDA kernels and the other devices are built from, so what is read here
is what would run there: no list is kept by hand.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from trainlab.errors import UsageError

__all__ = ["RECURRENT", "Policy", "cuda_policy", "registrations", "unrehearsed"]

Policy = Literal[
    "lower_precision_fp", "fp32", "fp32_set_opt_dtype", "fp32_append_dtype", "promote", "banned", "recurrent"
]

_LISTS: dict[str, Policy] = {
    "LOWER_PRECISION_FP": "lower_precision_fp",
    "FP32": "fp32",
    "FP32_SET_OPT_DTYPE": "fp32_set_opt_dtype",
    "DIFFERENT_REDISPATCH_SIGNATURE": "fp32_append_dtype",
    "PROMOTE": "promote",
}

# On a GPU these become one call of cuDNN, whose own cast (aten/src/ATen/cudnn/AutocastRNN.cpp) no list shows.
RECURRENT = tuple(
    f"{net}.{form}" for net in ("lstm", "gru", "rnn_tanh", "rnn_relu") for form in ("input", "data")
)

# Also registered for CUDA, but never called on a CPU: what cuDNN does stands in for them.
_CUDNN_ONLY = {"cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn"}


@cache
def cuda_policy() -> dict[str, Policy]:
    """Tells what CUDA's autocast does with each op: ``{"linear": "lower_precision_fp", "norm.Scalar": …}``.

    Ops that are missing run in the dtypes that reach them. Names are those of ``torch.ops.aten`` with the overload.

    Raises:
        UsageError: The installed torch came without its header, or with one that reads differently.
    """
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    advice = (
        "install torch from a wheel, which brings its headers; or rehearse nothing: autocast='cpu' or 'off'"
    )
    if not header.is_file():
        raise UsageError(
            "CUDA's autocast cannot be rehearsed: torch came without the header that lists its ops",
            seen=f"torch {torch.__version__}, no include/ATen/autocast_mode.h",
            fix=advice,
        )
    policy = read_policy(header.read_text(encoding="utf-8"))
    missing = [name for name, kind in _LISTS.items() if kind not in policy.values()]
    if missing:
        raise UsageError(
            "CUDA's autocast cannot be rehearsed: torch's header does not read as expected",
            seen=f"torch {torch.__version__}, no list AT_FORALL_{missing[0]}",
            fix=advice,
        )
    # Code, not a list, in aten/src/ATen/autocast_mode.cpp
    return {**policy, "binary_cross_entropy": "banned", **dict.fromkeys(RECURRENT, "recurrent")}


def read_policy(text: str) -> dict[str, Policy]:
    """Reads the ``#define AT_FORALL_…(_)`` lists: each entry is ``_(op)``, ``_(op, overload)`` or quotes a name."""
    policy: dict[str, Policy] = {}
    for name, body in re.findall(r"#define AT_FORALL_(\w+)\(_\)((?:[^\n]*\\\n)*[^\n]*)", text):
        if name in _LISTS:
            quoted = re.findall(r'"([\w.]+)"', body)
            listed = [".".join(filter(None, pair)) for pair in re.findall(r"_\((\w+)(?:,\s*(\w+))?\)", body)]
            policy.update(dict.fromkeys(quoted or listed, _LISTS[name]))
    return policy


def unrehearsed() -> tuple[str, ...]:
    """Names the ops that have a rule for CUDA's autocast which is not rehearsed: those of other libraries.

    They ran in the dtypes that reached them, where a GPU would have cast.
    """
    ours = {f"aten::{name}" for name in {*cuda_policy(), *_CUDNN_ONLY}}
    cuda, cpu = registrations("AutocastCUDA"), registrations("AutocastCPU")
    return tuple(sorted(name for name in cuda - ours if name.startswith("aten::") or name not in cpu))


def registrations(key: str) -> set[str]:
    """Names the ops, ``aten::linear``, that have a kernel of their own for a dispatch key."""
    return set(torch._C._dispatch_get_registrations_for_dispatch_key(key))  # noqa: SLF001 - it has no public door
