"""Read a checkpoint tensor by tensor and measure each; see `trainlab.diagnostics.weights`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.weights.measuring import (
    Change,
    change,
    dead,
    listed,
    measure,
    one_thread,
    same_bits,
)
from trainlab.diagnostics.weights.names import bare, group_of, role_of
from trainlab.diagnostics.weights.result import LEVELS, WeightsResult
from trainlab.diagnostics.weights.singular import Spectrum, spectrum
from trainlab.errors import NotApplicable, UsageError
from trainlab.progress import track
from trainlab.subjects import Checkpoint, open_checkpoint

__all__ = ["probe"]

STEPS = ("global_step", "iteration", "iter", "iter_num", "step", "steps", "epoch")
NOTHING = Spectrum(np.full(1, np.nan), np.nan, whole=False)
UNKNOWN = Change(np.nan, np.nan, np.nan, np.nan)


def probe(
    ckpt: Checkpoint,
    *,
    earlier: str | Checkpoint | None = None,
    spectra: bool = True,
    tiny: float = 1e-3,
) -> WeightsResult:
    """Measures every tensor of a checkpoint, and how far each is from an earlier one.

    Costs one pass over the file (about 3 s a GB on one core), one more for ``earlier``, and for the spectra about a
    second a matrix of 1024 × 4096. Memory beyond the mapped file stays below 200 MB, where the file's format can
    be mapped at all (torch's zip format and safetensors can).

    Args:
        ckpt: The checkpoint; its weights are read, nothing is run.
        earlier: Another checkpoint of the same model, or its init, to find what has not moved: a path or an open
            one. "" and None mean none.
        spectra: Compute singular values; without them the pass is several times shorter.
        tiny: Rows and columns with a norm below this share of the root mean square of all count as dead. What
            weight decay alone acts on passes any such limit; healthy rows stay within a factor of some tens.

    Raises:
        NotApplicable: The checkpoint holds no tensor.
        UsageError: ``earlier`` has no tensor in common with it.
        SubjectError: ``earlier`` cannot be opened.
    """
    weights: dict[str, Tensor] = {}
    unmeasured: list[str] = []
    for name, each in ckpt.state_dict().items():
        reason = _unreadable(each)
        if reason:
            unmeasured.append(f"{name}: {reason}")
        else:
            weights[name] = each
    if not weights:
        raise NotApplicable("the checkpoint holds no tensor to look at", seen=", ".join(unmeasured) or None)
    past = _earlier(earlier, ckpt)
    before = {} if past is None else {bare(name): each for name, each in past.state_dict().items()}
    absent = _absent(before, weights, ckpt, past)
    with torch.no_grad():
        rows = [
            _row(name, tensor, before.get(bare(name)), spectra=spectra, tiny=tiny)
            for name, tensor in track(weights.items(), label="weights: tensors", total=len(weights))
        ]
        copies = tuple(_copies(weights, [row.pop("alike") for row in rows]))
    return WeightsResult(
        path=str(ckpt.path),
        earlier="" if past is None else str(past.path),
        step=next((int(ckpt.metadata[key]) for key in STEPS if _is_number(ckpt.metadata.get(key))), -1),
        tiny=float(tiny),
        absent=absent,
        unmeasured=tuple(unmeasured),
        tensor_tied_to=tuple(_tied(weights)),
        tensor_copy_of=copies,
        quantile_level=np.array(LEVELS),
        **_columns(rows),
    )


def _row(name: str, tensor: Tensor, before: object, *, spectra: bool, tiny: float) -> dict[str, Any]:
    """All that is kept of a tensor, by the name of its column; what it was measured with is let go."""
    comparable = isinstance(before, Tensor) and before.shape == tensor.shape and not _unreadable(before)
    with one_thread():
        m = measure(tensor)
        c = change(tensor, before) if comparable and isinstance(before, Tensor) else UNKNOWN
    role = role_of(name, tensor)
    norm = float(np.sqrt(m.squares)) if m.finite else np.nan
    wanted = spectra and m.is_matrix and role in ("weight", "embedding") and m.squares > 0
    possible = m.finite == m.elements and not tensor.is_complex()
    s = spectrum(tensor) if wanted and possible else NOTHING
    lengths, across = np.sqrt(m.row_squares), np.sqrt(m.column_squares)
    dead_rows, dead_columns = dead(lengths, tiny), dead(across, tiny)
    peak, place = _peak(lengths)
    ranks, values = s.picked()
    return {
        "tensor_name": name,
        "tensor_role": role,
        "tensor_shape": "×".join(map(str, tensor.shape)),
        "tensor_dtype": str(tensor.dtype).removeprefix("torch."),
        "tensor_elements": tensor.numel(),
        "tensor_group": group_of(name, tensor),
        "tensor_nan": m.nan,
        "tensor_inf": m.inf,
        "tensor_zeros": m.zeros / max(m.elements, 1),
        "tensor_subnormal": m.subnormal / max(m.elements, 1),
        "tensor_mean": m.mean,
        "tensor_std": m.std,
        "tensor_rms": m.rms,
        "tensor_norm": norm,
        "tensor_min": m.least if m.finite else np.nan,
        "tensor_max": m.most if m.finite else np.nan,
        "tensor_rows": len(lengths),
        "tensor_columns": len(across),
        "tensor_dead_rows": int(dead_rows.sum()),
        "tensor_dead_columns": int(dead_columns.sum()),
        "tensor_dead_at": "; ".join(
            filter(None, (listed("rows", dead_rows), listed("columns", dead_columns)))
        ),
        "tensor_row_peak": peak,
        "tensor_row_peak_at": place,
        "tensor_gain": m.rms * (len(across) ** 0.5 if m.is_matrix and role != "embedding" else 1.0),
        "tensor_spectral": float(s.values[0]),
        "tensor_spectral_error": s.error,
        "tensor_stable_rank": (norm / float(s.values[0])) ** 2 if s.values[0] > 0 else np.nan,
        "tensor_effective_rank": s.effective_rank,
        "tensor_change": c.change,
        "tensor_moved": c.moved,
        "tensor_unmoved_rows": c.unmoved_rows,
        "tensor_turn": c.turn,
        "quantile": m.quantiles(),
        "histogram": m.histogram(),
        "spectrum": values,
        "spectrum_rank": ranks,
        "alike": None if m.least >= m.most else (m.total, m.squares, m.least, m.most, m.nan, m.inf),
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One column a name: text as a tuple, numbers as an array."""
    columns: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, str):
            columns[name] = tuple(values)
        elif isinstance(first, np.ndarray):
            columns[name] = np.stack(values).astype(np.int32 if first.dtype.kind == "i" else np.float32)
        else:
            columns[name] = np.array(values, dtype=np.int64 if isinstance(first, int) else np.float64)
    return columns


def _unreadable(each: object) -> str:
    """Why something in a state dict cannot be read as numbers; empty where it can."""
    if not isinstance(each, Tensor):
        return f"a {type(each).__name__}, no tensor"
    if each.is_meta:
        return "on the meta device, without values"
    if each.layout != torch.strided or each.is_quantized or each.is_nested:
        return f"{str(each.layout).removeprefix('torch.')} {str(each.dtype).removeprefix('torch.')}, not a plain array"
    try:
        torch.zeros(1, dtype=each.dtype).to(torch.complex128 if each.is_complex() else torch.float64)
    except (RuntimeError, TypeError):
        return f"its dtype {str(each.dtype).removeprefix('torch.')} has no arithmetic here"
    return ""


def _earlier(earlier: str | Checkpoint | None, ckpt: Checkpoint) -> Checkpoint | None:
    if isinstance(earlier, Checkpoint) or not earlier:
        return earlier if isinstance(earlier, Checkpoint) else None
    past = open_checkpoint(earlier)
    if past.path.resolve() == ckpt.path.resolve():
        raise UsageError(
            "a checkpoint cannot be compared with itself",
            seen=str(earlier),
            fix="give the file of an earlier step",
        )
    return past


def _absent(
    before: Mapping[str, object], weights: Mapping[str, Tensor], ckpt: Checkpoint, past: Checkpoint | None
) -> tuple[str, ...]:
    """What the earlier checkpoint held and this one does not, or in another shape."""
    shapes = {bare(name): tensor.shape for name, tensor in weights.items()}
    absent = [
        name for name, each in before.items() if isinstance(each, Tensor) and shapes.get(name) != each.shape
    ]
    if past is not None and len(absent) == sum(isinstance(each, Tensor) for each in before.values()):
        raise UsageError(
            f"{past.path} and {ckpt.path} have no tensor in common",
            seen=f"{', '.join(list(before)[:3])} there, {', '.join(list(weights)[:3])} here",
            fix="give earlier= a checkpoint of the same model",
        )
    return tuple(absent)


def _peak(lengths: np.ndarray) -> tuple[float, int]:
    """The largest norm over the median of those that are not zero, and where it is."""
    alive = lengths[lengths > 0]
    if not len(alive):
        return np.nan, -1
    return float(alive.max() / np.median(alive)), int(lengths.argmax())


def _tied(weights: Mapping[str, Tensor]) -> Iterator[str]:
    """For each tensor the first one that is the same view of the same memory, or ""."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in weights.items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        owner = first.setdefault(place, name) if tensor.numel() else name
        yield "" if owner == name else owner


def _copies(weights: Mapping[str, Tensor], alike: list[tuple[float, ...] | None]) -> Iterator[str]:
    """For each tensor the first one with the same bits elsewhere, or "". Constants are alike by design.

    Only tensors with the same sums, which ``alike`` holds, are read again and compared.
    """
    found: dict[tuple[object, ...], list[str]] = {}
    for (name, tensor), sums, owner in zip(weights.items(), alike, _tied(weights), strict=True):
        if owner or sums is None or tensor.numel() < 8:
            yield ""
            continue
        others = found.setdefault((tensor.shape, tensor.dtype, *sums), [])
        original = next((other for other in others if same_bits(tensor, weights[other])), "")
        if not original:
            others.append(name)
        yield original


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
