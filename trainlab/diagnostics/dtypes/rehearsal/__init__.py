"""Rehearse CUDA's autocast on a machine without CUDA: its rules, real values, a working backward."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from trainlab.diagnostics.dtypes.rehearsal.differences import DIFFERENCES, Difference
from trainlab.diagnostics.dtypes.rehearsal.kernels import CastCache, registered
from trainlab.diagnostics.dtypes.rehearsal.policy import cuda_policy, unrehearsed
from trainlab.diagnostics.dtypes.rehearsal.remapping import remapped
from trainlab.errors import UsageError

__all__ = ["DIFFERENCES", "Difference", "cuda_policy", "rehearse_cuda", "unrehearsed"]

_STAGE = threading.Lock()


@contextmanager
def rehearse_cuda(dtype: torch.dtype | None = None, *, cache: bool = True) -> Iterator[None]:
    """Runs what is inside as ``torch.autocast("cuda", dtype)`` would, on the CPU.

    CPU tensors stand for CUDA ones: ops follow CUDA's lists, code that says ``cuda`` runs on the CPU, and both
    ``torch.autocast("cuda")`` and ``torch.autocast("cpu")`` (what ``x.device.type`` says here) switch the rehearsal.
    Everything is put back on leaving, also after an exception.

    What runs are the CPU's kernels: values differ from a GPU's in their last digits, and `DIFFERENCES` lists what
    one accepts and the other does not. The rules hold for the whole process while it lasts: other threads should
    not run under the CPU's autocast meanwhile.

    Args:
        dtype: The lower dtype, float16 or bfloat16, with autocast on throughout; None leaves it to the code inside
            to turn autocast on, as in a training script.
        cache: Whether casts of weights are kept, as ``cache_enabled`` of ``torch.autocast``.

    Raises:
        UsageError: Another rehearsal is going on, or this torch came without the header that lists the ops.
    """
    if dtype not in (None, torch.float16, torch.bfloat16):
        raise UsageError(
            "CUDA's autocast casts to float16 or bfloat16",
            seen=dtype,
            fix="dtype=torch.float16 or torch.bfloat16",
        )
    cuda_policy()  # refuses before anything is changed
    if not _STAGE.acquire(blocking=False):
        raise UsageError(
            "CUDA's autocast is being rehearsed already, and its rules hold for the whole process",
            seen="a second rehearse_cuda, inside the first or in another thread",
            fix="leave the first one before you enter the next; inside it, torch.autocast('cuda', …) nests",
        )
    try:
        with ExitStack() as stack:
            casts = CastCache()
            stack.enter_context(_autocast_kept())
            torch.set_autocast_enabled("cpu", False)
            torch.set_autocast_dtype("cpu", torch.get_autocast_dtype("cuda"))
            stack.enter_context(registered(casts))
            stack.enter_context(remapped(casts.clear))
            if dtype is not None:
                stack.enter_context(torch.autocast("cuda", dtype, cache_enabled=cache))
            else:
                torch.set_autocast_cache_enabled(cache)
            yield
    finally:
        _STAGE.release()


@contextmanager
def _autocast_kept() -> Iterator[None]:
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    cache = torch.is_autocast_cache_enabled()
    try:
        yield
    finally:
        torch.set_autocast_enabled("cpu", enabled)
        torch.set_autocast_dtype("cpu", dtype)
        torch.set_autocast_cache_enabled(cache)
