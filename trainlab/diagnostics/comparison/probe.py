"""The probe of `comparison`: each run measured alike, then set beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainlab.diagnostics.comparison.choosing import better_of, choose, positions, unit_of
from trainlab.diagnostics.comparison.copies import copies
from trainlab.diagnostics.comparison.groups import groups
from trainlab.diagnostics.comparison.measuring import Envelope, Measured, envelope, measure
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.diagnostics.comparison.settings import flat, kind_of, varied
from trainlab.diagnostics.comparison.speed import Speed, speed
from trainlab.diagnostics.comparison.telling import Told, told
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.subjects.runlog.log import RunLog, Series

__all__ = ["probe"]


def probe(
    logs: Mapping[str, RunLog],
    *,
    metric: str = "",
    better: str = "",
    at: float = 0.0,
    steps: Sequence[float] = (),
    baseline: str = "",
    tail: float = 0.1,
    kept: int = 400,
) -> ComparisonResult:
    """Measures every run: best, last, tail, value at a step, speed, settings, and how noisy all that is.

    Costs some passes over the series of each log; opening the logs takes longer.

    Args:
        logs: The runs by name, as ``open_logs`` gives them.
        metric: The series to compare by; by default the validation loss, or the training loss if more runs have it.
        better: ``lower`` or ``higher``; by default told from the metric's name.
        at: The step at which runs are ranked: the value there or last before it. 0 is the last step that all reached;
            a run that stopped before half of the median step does not hold the others back.
        steps: Between which two speed is told; by default from the first time in the log to the last.
        baseline: The run that gaps and settings are told against; by default the best.
        tail: Share of the run that makes its tail, over 0 and up to 1.
        kept: Most points of a curve that are kept for drawing.

    Raises:
        NotApplicable: There are fewer than two runs, or fewer than two tell a loss.
        UsageError: A name or a setting is not known or makes no sense.
    """
    _check(logs, steps, baseline, tail, kept)
    title, chosen = choose(logs, metric)
    direction = better_of(title, better)
    unit = unit_of(chosen)
    names = list(logs)
    step = float(at) or _common_step(chosen, unit)
    measured = [
        measure(chosen.get(name), log, unit, step, tail, lower=direction == "lower")
        for name, log in logs.items()
    ]
    configs = [flat(log.config) for log in logs.values()]
    speeds = [speed(log, unit, *map(float, steps)) for log in logs.values()]
    envelopes = [envelope(chosen.get(name), unit, kept, lower=direction == "lower") for name in names]
    differing = varied(configs)
    twice = copies(chosen, names, unit)
    return ComparisonResult(
        metric=title,
        better=direction,
        unit=unit,
        at=step,
        tail=float(tail),
        baseline=baseline,
        run_name=tuple(names),
        run_path=tuple(str(log.path) for log in logs.values()),
        run_format=tuple(log.format for log in logs.values()),
        run_metric=tuple(chosen[name].name if name in chosen else "" for name in names),
        run_copy_of=twice,
        **_columns(measured),
        **_columns(speeds),
        **_columns([told(log, config, unit) for log, config in zip(logs.values(), configs, strict=True)]),
        **groups(names, configs, measured, twice, lower=direction == "lower"),
        varied_name=tuple(name for name in differing for _ in names),
        varied_kind=tuple(kind_of(name) for name in differing for _ in names),
        varied_run=np.array([row for _ in differing for row in range(len(names))], np.int32),
        varied_value=tuple(value for values in differing.values() for value in values),
        **_points(envelopes),
        skipped=tuple(getattr(logs, "skipped", ())),
    )


def _check(logs: Mapping[str, RunLog], steps: Sequence[float], baseline: str, tail: float, kept: int) -> None:
    if not isinstance(logs, Mapping):
        raise UsageError(
            "logs= is a mapping of runs by name",
            seen=type(logs).__name__,
            fix="trainlab.open_logs('runs/*.log') makes one",
        )
    if len(logs) < 2:
        left = "".join(f"; {each}" for each in getattr(logs, "skipped", ()))
        raise NotApplicable(f"a comparison needs two runs, and here is {len(logs) or 'none'}{left}")
    if baseline and baseline not in logs:
        raise UsageError(f"there is no run {baseline!r}", fix=did_you_mean(baseline, logs))
    if not 0 < tail <= 1:
        raise UsageError(
            "tail is a share of the run", seen=tail, fix="a number over 0 and up to 1, such as 0.1"
        )
    if kept < 4:
        raise UsageError("a curve needs some points", seen=f"kept={kept}", fix="kept=400")
    if len(steps) not in (0, 2) or (steps and not 0 <= steps[0] < steps[1]):
        raise UsageError("speed is told between two steps", seen=steps, fix="steps=(500, 5000)")


def _common_step(chosen: Mapping[str, Series], unit: str) -> float:
    """The last step of the metric that all runs reached, but those that stopped before half of the median."""
    last = [float(np.nanmax(positions(each, unit))) for each in chosen.values()]
    return min(each for each in last if each >= np.median(last) / 2)


def _columns(rows: Sequence[Measured] | Sequence[Speed] | Sequence[Told]) -> dict[str, Any]:
    """Rows, one a run, as columns: texts as they are, whole numbers as int64, others as float64."""
    columns: dict[str, Any] = {}
    for field, default in rows[0]._field_defaults.items():
        values = tuple(getattr(row, field) for row in rows)
        kind = np.int64 if isinstance(default, int) else np.float64
        columns[f"run_{field}"] = values if isinstance(default, str) else np.array(values, kind)
    return columns


def _points(envelopes: Sequence[Envelope]) -> dict[str, Any]:
    sizes = [len(each.step) for each in envelopes]
    joined = {
        f"point_{field}": np.concatenate([getattr(each, field) for each in envelopes])
        for field in Envelope._fields
    }
    return {"point_run": np.repeat(np.arange(len(envelopes), dtype=np.int32), sizes), **joined}
