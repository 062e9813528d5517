"""What a file holds and lacks of a run: the columns of a result that the checkpoint alone decides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from trainlab.diagnostics.resume.parts import STREAMS, Stored, flat, words
from trainlab.errors import UsageError, did_you_mean

__all__ = ["PARTS", "counters", "optimizers", "parts", "rates"]

PARTS = (
    "model", "optimizer", "scheduler", "grad scaler", "EMA", "RNG torch", "RNG CUDA", "RNG numpy", "RNG python",
    "data position",
)  # fmt: skip
ESSENTIAL = {"model", "optimizer", "scheduler", "grad scaler", "EMA"}
HALF = re.compile(r"(torch\.)?(fp16|float16|half|16|16-mixed)$")
MOMENTS = ("exp_avg", "momentum_buffer", "exp_avg_slow", "mu", "m", "square_avg")
NO_GRADIENT = ("running_mean", "running_var", "num_batches_tracked")
SHOWN = 8


class Part(NamedTuple):
    """One part of a run and its place in the file."""

    name: str
    status: str
    where: str
    detail: str


def parts(
    stored: Stored, weights: Mapping[str, Any], key: str, config: Mapping[str, Any], needs: str
) -> dict[str, Any]:
    """Says of every part whether it is there and whether the run needs it.

    Args:
        stored: What was recognised in the file.
        weights: Outline of the model's weights.
        key: Where they lie.
        config: The stored config.
        needs: Parts that the caller knows to be needed, names of `PARTS` with commas between.
    """
    asked = {name.strip().lower() for name in needs.split(",") if name.strip()}
    known = {name.lower(): name for name in PARTS}
    for name in asked - known.keys():
        raise UsageError(f"needs names no part {name!r}", fix=did_you_mean(name, known))
    where = {
        "model": key or "the file itself" if weights else "",
        "optimizer": _keys(stored.optimizers),
        "scheduler": _keys(stored.schedulers),
        "grad scaler": _keys(stored.scalers),
        "EMA": _keys(stored.averages),
        "data position": _keys(stored.positions or stored.steps or stored.epochs),
        **{f"RNG {stream}": stored.streams.get(stream, "") for stream in STREAMS},
    }
    why = _reasons(stored, config)
    essential = ESSENTIAL - ({"scheduler"} if stored.steps or stored.epochs else set())  # it can be rebuilt
    rows = []
    for name in PARTS:
        reason = "as needs= says" if name.lower() in asked else why[name]
        if where[name]:
            rows.append(Part(name, "present", where[name], _detail(name, stored, weights)))
        else:
            idle = (
                "needed only where the run has one"
                if name in ESSENTIAL
                else "needed only where the run draws from it"
            )
            rows.append(Part(name, "missing" if reason else "absent", "", reason or idle))
    return {
        "part_name": tuple(row.name for row in rows),
        "part_status": tuple(row.status for row in rows),
        "part_essential": np.array([row.name in essential for row in rows]),
        "part_where": tuple(row.where for row in rows),
        "part_detail": tuple(row.detail for row in rows),
    }


def counters(stored: Stored, config: Mapping[str, Any]) -> dict[str, Any]:
    """Every count in the file: the run's own, and those that optimizers and schedulers keep."""
    rows = [(name, "steps", value) for name, value in stored.steps.items()]
    rows += [(name, "epochs", value) for name, value in stored.epochs.items()]
    for name, optimizer in stored.optimizers.items():
        kept = [*optimizer["state"].values(), *optimizer["param_groups"]]  # some keep one count a group
        taken = [float(each["step"]) for each in kept if "step" in each]
        rows += [(f"{name}: step", "optimizer", max(taken))] if taken else []
    for name, scheduler in stored.schedulers.items():
        if "last_epoch" in scheduler:
            rows.append((f"{name}: last_epoch", "scheduler", float(scheduler["last_epoch"])))
    return {
        "counter_name": tuple(row[0] for row in rows),
        "counter_role": tuple(row[1] for row in rows),
        "counter_value": np.array([row[2] for row in rows], dtype=np.float64),
        "accumulation": _accumulation(config),
    }


def rates(stored: Stored, config: Mapping[str, Any]) -> dict[str, Any]:
    """The learning rate of every group, as the optimizer has it and as its scheduler does."""
    names: list[str] = []
    table: list[tuple[float, float, float]] = []
    for name, optimizer in stored.optimizers.items():
        last = _last_rates(
            optimizer["param_groups"], list(stored.schedulers.values()), len(stored.optimizers)
        )
        for index, group in enumerate(optimizer["param_groups"]):
            names.append(name if len(optimizer["param_groups"]) == 1 else f"{name} group {index}")
            last_lr = float(last[index]) if index < len(last) else np.nan
            base = group.get("max_lr", group.get("initial_lr", np.nan))  # one-cycle schedules start far below
            table.append((float(group["lr"]), last_lr, float(base)))
    columns = np.array(table, dtype=np.float64).reshape(-1, 3).T
    named = [
        value for name, value in flat(config) if name.rpartition(".")[2] in ("lr", "learning_rate", "max_lr")
    ]
    return {
        "rate_name": tuple(names),
        "rate_optimizer": columns[0],
        "rate_scheduler": columns[1],
        "rate_base": columns[2],
        "rate_config": _float(named[0]) if len(named) == 1 else float("nan"),
    }


def optimizers(stored: Stored, weights: Mapping[str, Any]) -> dict[str, Any]:
    """How much history every optimizer holds. Reads one moment of each parameter until it is not zero."""
    rows = []
    for name, optimizer in stored.optimizers.items():
        groups, state = optimizer["param_groups"], optimizer["state"]
        indices = [index for group in groups for index in group["params"]]
        named = dict(zip(indices, _parameter_names(groups, indices, state, weights), strict=True))
        filled = [index for index in indices if state.get(index)]
        moments = [_moment(state[index]) for index in filled]
        moving = sum(moment is None or bool(moment.any()) for moment in moments)
        without = [named[index] for index in indices if index not in state or not state[index]]
        rows.append(
            (name, len(indices), len(filled), moving, _keeps_state(groups), ", ".join(without[:SHOWN]))
        )
    return {
        "optimizer_name": tuple(row[0] for row in rows),
        "optimizer_parameters": np.array([row[1] for row in rows], dtype=np.int64),
        "optimizer_filled": np.array([row[2] for row in rows], dtype=np.int64),
        "optimizer_moving": np.array([row[3] for row in rows], dtype=np.int64),
        "optimizer_keeps": np.array([row[4] for row in rows], dtype=bool),
        "optimizer_lacking": tuple(row[5] for row in rows),
    }


def _reasons(stored: Stored, config: Mapping[str, Any]) -> dict[str, str]:
    """Why each part is needed, as far as file and config tell; "" where nothing says so."""
    settings = [(words(name), name, value) for name, value in flat(config)]
    scheduled = any("initial_lr" in g for o in stored.optimizers.values() for g in o["param_groups"])
    half = next((name for parts, name, value in settings if _is_half(parts, value)), "")
    average = next((name for parts, name, value in settings if "ema" in parts and _is_on(value)), "")
    gpu = next(
        (name for parts, name, value in settings if "device" in parts and str(value).startswith("cuda")), ""
    )
    return {
        "model": "a run has weights",
        "optimizer": "moments and step counts would start from zero",
        "scheduler": "the optimizer holds initial_lr, so a scheduler drove it" if scheduled else "",
        "grad scaler": f"the stored config trains in fp16 ({half})" if half else "",
        "EMA": f"the stored config keeps an average ({average})" if average else "",
        "RNG torch": "dropout, noise and shuffling draw from it",
        "RNG CUDA": f"the stored config trains on a GPU ({gpu})" if gpu and "torch" in stored.streams else "",
        "RNG numpy": "",
        "RNG python": "",
        "data position": "the run would see the first batches again",
    }


def _detail(name: str, stored: Stored, weights: Mapping[str, Any]) -> str:
    if name == "model":
        return f"{len(weights)} tensors"
    if name == "optimizer":
        count = sum(len(optimizer["state"]) for optimizer in stored.optimizers.values())
        return f"state of {count} parameters"
    if name == "scheduler":
        return ", ".join(
            f"last_epoch {s['last_epoch']}" for s in stored.schedulers.values() if "last_epoch" in s
        )
    if name == "grad scaler":
        return ", ".join(f"scale {scaler['scale']:g}" for scaler in stored.scalers.values())
    if name == "data position" and not stored.positions:
        if stored.steps:
            return "to be worked out from the step count"
        return "right at an epoch's end only; inside one, batches repeat"
    return ""


def _parameter_names(
    groups: Sequence[Mapping[str, Any]],
    indices: Sequence[int],
    state: Mapping[int, Any],
    weights: Mapping[str, Any],
) -> Iterator[str]:
    """The parameters' own names where the file gives them away, else their numbers."""
    listed = [name for group in groups for name in group.get("param_names", ())]
    if len(listed) == len(indices):
        return iter(listed)
    names = [name for name in weights if not name.endswith(NO_GRADIENT)]
    shapes = [weights[name][0] for name in names]
    moments = [_moment(state.get(index) or {}) for index in indices]
    if len(names) == len(indices) and all(
        moment is None or tuple(moment.shape) == shape for moment, shape in zip(moments, shapes, strict=True)
    ):
        return iter(names)
    return (f"parameter {index}" for index in indices)


def _moment(state: Mapping[str, Any]) -> torch.Tensor | None:
    return next((state[name] for name in MOMENTS if isinstance(state.get(name), torch.Tensor)), None)


def _keeps_state(groups: Sequence[Mapping[str, Any]]) -> bool:
    return any("betas" in group or group.get("momentum", 1) != 0 for group in groups)


def _last_rates(
    groups: Sequence[Mapping[str, Any]], schedulers: Sequence[Mapping[str, Any]], optimizers: int
) -> Sequence[float]:
    """What the scheduler of these groups set last. A file does not say whose a scheduler is: the one that agrees is."""
    driven = all("initial_lr" in group for group in groups)
    fitting = [
        scheduler["_last_lr"]
        for scheduler in schedulers
        if len(scheduler.get("_last_lr") or ()) == len(groups) and (driven or "base_lrs" not in scheduler)
    ]
    agreeing = [
        rates for rates in fitting if np.allclose(rates, [group["lr"] for group in groups], rtol=1e-6, atol=0)
    ]
    if agreeing or not fitting:
        return agreeing[0] if agreeing else ()
    return fitting[0] if driven or optimizers == 1 else ()


def _accumulation(config: Mapping[str, Any]) -> int:
    for name, value in flat(config):
        if words(name.rpartition(".")[2]) & {"accum", "accumulation", "accumulate"} and isinstance(
            value, int
        ):
            return max(int(value), 1)
    return 0


def _is_half(parts: set[str], value: Any) -> bool:
    if "fp16" in parts:
        return _is_on(value)
    return bool(parts & {"precision", "amp", "dtype"}) and bool(HALF.match(str(value).lower()))


def _is_on(value: Any) -> bool:
    return value not in (None, False, 0, "", "none", "false", "off", "no")


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _keys(found: Any) -> str:
    return ", ".join(found)
