"""Runs a model under autocast, without it, and once more for float16's sake, and writes down what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.dtypes.casts import dtype_name
from trainlab.diagnostics.dtypes.fixes import Mending, find_fix
from trainlab.diagnostics.dtypes.forecast import Forecast, forecast, share_lost
from trainlab.diagnostics.dtypes.rehearsal import DIFFERENCES, rehearse_cuda
from trainlab.diagnostics.dtypes.result import DtypesResult, located, shape_text
from trainlab.diagnostics.dtypes.sites import DtypeSites, find_sites
from trainlab.diagnostics.dtypes.sites_again import ERRORS
from trainlab.diagnostics.dtypes.sites_causes import Cause
from trainlab.diagnostics.dtypes.sites_tensors import TensorRow, tensor_rows
from trainlab.diagnostics.dtypes.trace import Row, Trace, trace
from trainlab.errors import UsageError, did_you_mean
from trainlab.visit import call, device_of, visit, without_target
from trainlab.visit.keep import require_module

__all__ = ["probe"]

LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
AUTOCASTS = ("cuda", "cpu", "off")


def probe(
    model: nn.Module,
    batch: object,
    *,
    loss: Callable[[nn.Module, object], Tensor] | None = None,
    autocast: str = "cuda",
    dtype: str = "bfloat16",
    train: bool = False,
    statistics: bool = True,
    headroom: bool = True,
    seed: int = 0,
) -> DtypesResult:
    """Finds every dtype of a run under autocast, every crash without it, and what float16 could not hold.

    Costs a forward under autocast, a tenth of one for the run without it (a native one for each fix that is tried),
    and for ``headroom`` another forward, with a backward where there is a loss, and one in float16 (slow on a CPU)
    where bfloat16's values do not settle it.

    Args:
        model: Left as found.
        batch: As for `trainlab.visit.call`.
        loss: ``loss(model, batch)``, a tensor; its mean is differentiated for the forecast of gradients.
        autocast: Whose rules to follow: ``cuda`` (rehearsed on the CPU where the model is there), ``cpu`` or ``off``.
        dtype: The lower dtype: ``bfloat16`` or ``float16``.
        train: Run in training mode.
        statistics: Read the least and greatest value of every output, and what is not finite.
        headroom: Forecast what float16 would not hold; needs autocast.
        seed: Where the random streams of every run start.

    Raises:
        UsageError: An unknown autocast or dtype.
        SubjectError: The model is no module.
        Exception: What the model raises by itself, dtypes aside.
    """
    require_module(model)
    if autocast not in AUTOCASTS:
        raise UsageError(
            "There is no such autocast", seen=autocast, fix=did_you_mean(str(autocast), AUTOCASTS)
        )
    if dtype not in LOW:
        near = did_you_mean(dtype_name(dtype), LOW)  # torch.float16 too is met here
        raise UsageError("Autocast has no such lower dtype", seen=dtype, fix=near)
    stage, whole = _Stage.of(autocast, device_of(model).type), batch
    on_meta = device_of(model).type == "meta"
    batch, _, _ = without_target(model, batch)
    traced, error = _under_autocast(
        model, batch, stage, LOW[dtype], train=train, statistics=statistics, seed=seed
    )
    with stage.remapping():
        with visit(model, train=train, seed=seed):
            sites = find_sites(model, batch)
            tensors = tensor_rows(model, batch)
        mending = find_fix(model, batch, sites, train=train) if sites.crashes else Mending("")
    ahead = None
    if headroom and stage.rules and not error:
        ahead = forecast(
            model,
            batch,
            loss=loss and (lambda model, _: loss(model, whole)),
            train=train,
            seed=seed,
            under=stage.rules,
        )
        if ahead.loss_error and loss is None:  # the model runs in float16 alone: half a forecast is none
            ahead = None
    return DtypesResult(
        autocast=autocast,
        dtype="" if stage.rules is None else dtype,
        evidence=stage.evidence,
        train=train,
        reference=dtype_name(sites.reference),
        without_evidence=sites.evidence,
        fallback=sites.fallback,
        error=error,
        **_raised(traced, error),
        **_ops(traced, stage.evidence),
        **_casts(traced),
        **_sites(sites, caught=not on_meta and not mending.native_error),
        **_fixes(mending),
        **_tensors(tensors),
        **_ahead(ahead),
        **_known(traced, sites),
    )


@dataclass(frozen=True)
class _Stage:
    """Where a run takes place: ``rules`` enters autocast with a lower dtype; None where it is off."""

    rules: Callable[[torch.dtype], AbstractContextManager[object]] | None
    evidence: str

    @classmethod
    def of(cls, autocast: str, device: str) -> _Stage:
        ran = "ran on GPU" if device == "cuda" else "ran on CPU"
        if autocast == "off":
            return cls(None, ran)
        if autocast == "cuda" and device != "cuda":
            return cls(rehearse_cuda, "rehearsed")
        return cls(partial(torch.autocast, autocast), ran)

    def remapping(self) -> AbstractContextManager[object]:
        """For a run without autocast: where CUDA is rehearsed, code that says ``cuda`` still runs, by CUDA's rules."""
        return rehearse_cuda() if self.rules is rehearse_cuda else nullcontext()


def _under_autocast(
    model: nn.Module,
    batch: object,
    stage: _Stage,
    low: torch.dtype,
    *,
    train: bool,
    statistics: bool,
    seed: int,
) -> tuple[Trace, str]:
    """The trace of one run, and the error that ended it before its end."""
    error = ""
    with (
        visit(model, train=train, seed=seed),
        stage.rules(low) if stage.rules else nullcontext(),
        trace(model, statistics=statistics) as finish,
    ):
        try:
            call(model, batch)
        except ERRORS as failure:  # one that is not over dtypes rises from the run without autocast
            error = str(failure) or type(failure).__name__
    return finish(), error


# --- tables ----------------------------------------------------------------------------------------------


def _raised(traced: Trace, error: str) -> dict[str, Any]:
    row = traced.raised if error else None
    return {
        "error_at": located(row.module, row.op, _place(row)) if row else "",
        "error_dtypes": ", ".join(row.inputs) if row else "",
    }


def _ops(traced: Trace, evidence: str) -> dict[str, Any]:
    rows, born = traced.rows, set(traced.born)
    return {
        "op_module": tuple(row.module for row in rows),
        "op_name": tuple(row.op for row in rows),
        "op_site": tuple(_place(row) for row in rows),
        "op_inputs": tuple(", ".join(row.inputs) for row in rows),
        "op_output": tuple(_output(row)[0] for row in rows),
        "op_shape": tuple(shape_text(_output(row)[1]) for row in rows),
        "op_evidence": tuple("opaque" if row.opaque else evidence for row in rows),
        "op_min": np.array([np.nan if row.low is None else row.low for row in rows], np.float64),
        "op_max": np.array([np.nan if row.high is None else row.high for row in rows], np.float64),
        "op_nan": np.array([row.nan for row in rows], np.int64),
        "op_inf": np.array([row.inf for row in rows], np.int64),
        "op_born": np.array([i in born for i in range(len(rows))], bool),
    }


def _output(row: Row) -> tuple[str, tuple[int, ...]]:
    outputs = list(zip(row.outputs, row.output_shapes, strict=True))
    return next((each for each in outputs if "float" in each[0]), outputs[0])


def _place(row: Row) -> str:
    return f"{row.site.file}:{row.site.line}" if row.site.file else "unknown"


def _casts(traced: Trace) -> dict[str, Any]:
    casts = traced.casts
    return {
        "cast_op": np.array([cast.row for cast in casts], np.int64),
        "cast_tensor": tuple(cast.tensor for cast in casts),
        "cast_before": tuple(cast.before for cast in casts),
        "cast_after": tuple(cast.after for cast in casts),
        "cast_cause": tuple(cast.cause for cast in casts),
        "cast_by": tuple(cast.by for cast in casts),
        "cast_weight": np.array([cast.weight for cast in casts], bool),
        "cast_cached": np.array([cast.cached for cast in casts], bool),
    }


def _sites(found: DtypeSites, *, caught: bool) -> dict[str, Any]:
    sites = found.sites
    return {
        "site_kind": tuple("caught" if caught and site.error else site.kind for site in sites),
        "site_module": tuple(site.module for site in sites),
        "site_op": tuple(site.op for site in sites),
        "site_place": tuple(site.place for site in sites),
        "site_dtypes": tuple(", ".join(site.dtypes) for site in sites),
        "site_error": tuple(site.error for site in sites),
        "site_causes": tuple(", ".join(map(_named, site.causes)) for site in sites),
    }


def _named(cause: Cause) -> str:
    """A cause by its name; a batch that is one tensor, and the whole model, have none."""
    return cause.name or ("the batch" if cause.kind == "input" else "the model")


def _fixes(mending: Mending) -> dict[str, Any]:
    return {
        "fix_code": tuple(change.code for change in mending.changes),
        "fix_cause": tuple(f"{change.cause.kind} {_named(change.cause)}" for change in mending.changes),
        "fix_dtype": tuple(dtype_name(change.cause.dtype) for change in mending.changes),
        "last_resort": mending.last_resort,
    }


def _tensors(rows: Sequence[TensorRow]) -> dict[str, Any]:
    return {
        "tensor_name": tuple(row.name for row in rows),
        "tensor_kind": tuple(row.kind for row in rows),
        "tensor_dtype": tuple(row.dtype for row in rows),
        "tensor_elements": np.array([row.elements for row in rows], np.int64),
        "tensor_trainable": np.array([row.trainable for row in rows], bool),
        "tensor_odd": np.array([row.odd for row in rows], bool),
        "tensor_note": tuple(row.note for row in rows),
    }


def _ahead(ahead: Forecast | None) -> dict[str, Any]:
    ops = ahead.ops if ahead else ()
    gradients = ahead.gradients if ahead else ()
    scale = ahead.loss_scale if ahead else None
    return {
        "range_module": tuple(each.module for each in ops),
        "range_op": tuple(each.op for each in ops),
        "range_site": tuple(each.site.partition(" in ")[0] for each in ops),
        "range_absmax": np.array([max(each.absmax, each.cast_absmax) for each in ops], np.float64),
        "range_headroom": np.array([each.headroom for each in ops], np.float64),
        "range_overflows": np.array([each.overflows for each in ops], bool),
        "range_lost": np.array([share_lost(each.exponents) for each in ops], np.float64),
        "gradient_name": tuple(each.where for each in gradients),
        "gradient_absmax": np.array([each.absmax for each in gradients], np.float64),
        "gradient_lost": np.array([share_lost(each.exponents) for each in gradients], np.float64),
        "gradient_lost_scaled": np.array(
            [share_lost(each.exponents, scale=scale or 1.0) for each in gradients], np.float64
        ),
        "loss_scale": np.nan if scale is None else scale,
        "loss_error": ahead.loss_error if ahead else "",
    }


def _known(traced: Trace, found: DtypeSites) -> dict[str, Any]:
    """Known differences between a CPU's kernels and a GPU's that this model meets, with autocast or without."""
    rows = [*traced.rows, *([traced.raised] if traced.raised else [])]
    met = [
        (
            row.module,
            row.op,
            _place(row),
            [each for each in row.inputs if "float" in each],
            bool(row.autocast),
        )
        for row in rows
    ]
    met += [
        (site.module, site.op, site.place, list(site.dtypes), False) for site in found.sites if not site.error
    ]
    told = {
        located(module, op, place): f"{each.case}; a GPU: {each.on_cuda} ({each.source})"
        for module, op, place, dtypes, autocast in met
        for each in DIFFERENCES
        if dtypes and each.concerns(op, dtypes, autocast=autocast)
    }
    return {"rule_op": tuple(told), "rule_text": tuple(told.values())}
