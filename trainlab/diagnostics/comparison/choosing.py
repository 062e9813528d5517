"""By which series are the runs compared, is lower better, and what counts the steps?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.subjects.runlog.log import RunLog, Series
from trainlab.subjects.runlog.naming import known, role_of, words

__all__ = ["better_of", "choose", "positions", "unit_of"]

CURVE = 3  # points that validation must have to be compared by; a single final one is no curve
_ERRORS = re.compile(
    r"\b(err(or)?|fid|kid|wer|cer|per|eer|mae|mse|rmse|lpips|nll|bpc|bpb|loss)\b|loss$|err$|error$"
)


def choose(logs: Mapping[str, RunLog], metric: str) -> tuple[str, dict[str, Series]]:
    """The metric's name as most runs call it, and the series of each run that has it.

    Names match where their words do: ``val/loss`` is ``val_loss``. With no metric named, it is the main validation
    loss (of more than one final point) or the main training loss, whichever more runs have; then a run's own name
    for that loss will do.

    Raises:
        UsageError: No run has the metric.
        NotApplicable: No metric is named, and fewer than two runs have a loss.
    """
    if metric:
        found = {name: series for name, log in logs.items() if (series := _named(log, metric)) is not None}
        if not found:
            every = {name for log in logs.values() for name in log.series}
            raise UsageError(f"no run has a series {metric!r}", fix=did_you_mean(metric, every))
        return metric, found
    validation = {
        name: each for name, log in logs.items() if (each := log.val_loss) is not None and len(each) >= CURVE
    }
    training = {name: each for name, log in logs.items() if (each := log.loss) is not None and len(each)}
    main = validation if len(validation) >= max(len(training), 2) else training
    if len(main) < 2:
        raise NotApplicable(
            f"{len(main)} of {len(logs)} runs tell a loss: there is nothing to compare; metric= names another series"
        )
    counts = Counter(words(each.name) for each in main.values())
    common = counts.most_common(1)[0][0]
    chosen = {name: _named(logs[name], common) or each for name, each in main.items()}
    title = next(each.name for each in chosen.values() if words(each.name) == common)
    return title, chosen


def _named(log: RunLog, metric: str) -> Series | None:
    if metric in log.series:
        return log.series[metric]
    return next(
        (each for name, each in log.series.items() if words(name) == words(metric) and len(each)), None
    )


def better_of(metric: str, better: str) -> str:
    """``lower`` or ``higher``: as given, or by the metric's name."""
    if better not in ("", "lower", "higher"):
        raise UsageError(f"a metric is not {better!r}", fix="better='lower' or better='higher'")
    if better:
        return better
    good = role_of(metric) in ("metric", "throughput") and known(metric) and not _ERRORS.search(words(metric))
    return "higher" if good else "lower"


def unit_of(chosen: Mapping[str, Series]) -> str:
    """``step`` where all series tell it, else ``epoch``, else ``point``."""
    for unit in ("step", "epoch"):
        if all(np.isfinite(getattr(each, unit)).any() for each in chosen.values()):
            return unit
    return "point"


def positions(series: Series, unit: str) -> np.ndarray:
    """(point) float64; where each point of a series stands; NaN where it is not told."""
    return np.arange(1.0, len(series) + 1) if unit == "point" else np.asarray(getattr(series, unit))
