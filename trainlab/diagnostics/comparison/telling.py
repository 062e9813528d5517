"""What a log tells of its run: the batch size, the steps that were planned, how it ended, and whether it was resumed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trainlab.subjects.runlog.log import RunLog

__all__ = ["Told", "told"]

_BATCH = (
    "global_batch_size", "total_batch_size", "effective_batch_size", "train_batch_size", "batch_size", "batch", "bs",
)  # fmt: skip
_TOTAL = (
    "total_steps", "max_steps", "max_iters", "num_iterations", "num_steps", "total_iters", "train_iters", "max_iter",
)  # fmt: skip
_COUNTERS = ("samples", "consumed_samples", "consumed samples", "examples_seen", "samples_seen")
_STATES = {
    "completed": "completed", "early_stop": "stopped early", "oom": "failed", "traceback": "failed", "killed": "failed",
}  # fmt: skip
_RESUME = re.compile(r"(?i)resum|restor|^back from")  # loading a pretrained checkpoint is none


class Told(NamedTuple):
    """The columns of a run that its log tells in so many words; told in `ComparisonResult`."""

    batch: float = np.nan
    batch_origin: str = ""
    total: float = np.nan
    state: str = ""
    state_line: int = 0
    resumed: int = 0
    resumed_line: int = 0


def told(log: RunLog, config: Mapping[str, str], unit: str) -> Told:
    """Reads a log's settings, claims and events.

    Args:
        log: The run.
        config: Its settings, flat.
        unit: What steps count.
    """
    return Told(*_batch(log, config), _total(log, config, unit), *_state(log), *_resumed(log))


def _batch(log: RunLog, config: Mapping[str, str]) -> tuple[float, str]:
    """Samples a step and where that is told: a series that counts samples, a setting, or a claim."""
    for name in _COUNTERS:
        if name in log.series and len(log.series[name]) > 1:
            series = log.series[name]
            way, samples = series.step[-1] - series.step[0], series.value[-1] - series.value[0]
            if way > 0 and samples > 0:
                return float(samples / way), name
    size, origin = _setting(config, _BATCH)
    if not origin and log.totals.get("batch_size", 0) > 0:
        return float(log.totals["batch_size"]), "batch_size"
    return size, origin


def _total(log: RunLog, config: Mapping[str, str], unit: str) -> float:
    total = float(log.totals.get(f"total_{unit}s", np.nan))
    if unit == "step" and not total > 0:
        total = _setting(config, _TOTAL)[0]
    return total if total > 0 else np.nan


def _setting(config: Mapping[str, str], names: Sequence[str]) -> tuple[float, str]:
    """The first of these settings, by the last part of its name, that is a number over 0; and its name."""
    for wanted in names:
        for name, text in config.items():
            if name.rsplit(".", 1)[-1].lower().replace("-", "_") == wanted and _positive(text):
                return float(text), name
    return np.nan, ""


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < np.inf
    except ValueError:
        return False


def _state(log: RunLog) -> tuple[str, int]:
    """How the run ended, and the line that says so; a failure before the last points was survived."""
    furthest = max((int(series.line[-1]) for series in log.series.values()), default=0)
    ends = [event for event in log.events if event.kind in _STATES]
    end = max(ends, key=lambda event: event.line, default=None)
    if end is None or (_STATES[end.kind] == "failed" and end.line < furthest):
        return "", 0
    return _STATES[end.kind], end.line


def _resumed(log: RunLog) -> tuple[int, int]:
    """How often the run was resumed, and the first line that says so."""
    resumes = [event for event in log.events if event.kind == "resume" and _RESUME.search(event.text)]
    # a line that says so and the step back after it are one resume
    back = sum(event.text.startswith("back from") for event in resumes)
    return max(back, len(resumes) - back), min((event.line for event in resumes), default=0)
