"""Rules on the ranking itself: the same step, the same measure, and a gap that is more than noise."""

from __future__ import annotations

import re
from typing import TypeVar

import numpy as np

from trainlab.diagnostics.comparison.limits import ComparisonLimits
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.finding import Evidence, Outcome, rule
from trainlab.markup import number
from trainlab.subjects.runlog.naming import words

__all__ = ["alike", "beyond_noise", "same_step"]

T = TypeVar("T", float, str)
NAMED = 8
# settings that say on what and how a run is measured
_MEASURE = re.compile(
    r"(^|[._/ -])(data(set|sets|_?set_?name|_?dir|_?path|_?root)?|(train|val|valid|eval|test)_?(data\w*|set|file\w*|split|path|dir)"
    r"|eval_?(iters|batches|steps|size|bsz|batch_size)|tokenizer\w*|vocab_?size|seq(uence)?_?len(gth)?|block_size|context_len\w*)$",
    re.IGNORECASE,
)


@rule("CMP002", "Every run reached the step")
def same_step(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:  # noqa: ARG001
    """What: runs without a value of the metric at the step of the ranking, because they stopped before or lack the metric.

    Why: a run at step 9000 set beside one at 15000 is compared by its length, not by its settings.
    Fix: resume the run, or rank at a step that all have reached.
    """
    reached = r.reaches()
    missing = [int(i) for i in np.flatnonzero(~reached)]
    if not reached.any():
        return Outcome.skip(f"no run has a value of {r.metric} at {r.unit} {r.at:g}")
    steps = r.run_value_step[reached]
    if not missing:
        span = (
            f"{r.unit} {r.at:g}"
            if steps.min() == steps.max()
            else f"{r.unit}s {steps.min():g} to {steps.max():g}, the last up to {r.at:g}"
        )
        return Outcome.ok(f"all {len(r.run_name)} runs have a value at {span}")
    evidence = [
        Evidence(f"{r.place(i, int(r.run_last_line[i]))}: {'no ' + r.metric if not r.run_points[i] else 'ends'}",
                 float(r.run_reached[i]), r.at, f"{r.unit}s")
        for i in missing[:NAMED]
    ]  # fmt: skip
    names = ", ".join(r.run_name[i] for i in missing[:3])
    short = [i for i in missing if r.run_points[i]]
    common = min((float(r.run_last_step[i]) for i in short), default=r.at)
    return Outcome.warn(
        f"{len(missing)} of {len(r.run_name)} runs are not in the ranking at {r.unit} {r.at:g}: {names}"
        + (" …" if len(missing) > 3 else ""),
        *evidence,
        fix=f"resume them, or rank all at {r.unit} {common:g} (at=)"
        if short
        else f"log {r.metric} in {names} too, or name another metric",
    )


@rule("CMP003", "Runs are measured alike")
def alike(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: whether runs log the same metric as often, begin at the same value, and agree in planned steps, batch size and data.

    Why: nats against bits, another evaluation set, another batch size or half of a schedule make a gap that no setting made.
    Fix: evaluate the checkpoints once more, all with the same code and data; or compare runs of one kind only.
    """
    able = [i for i in range(len(r.run_name)) if r.run_points[i]]
    if len(able) < 2:
        return Outcome.skip(f"{len(able) or 'none'} of {len(r.run_name)} runs have {r.metric}")
    evidence = [
        _apart(r, i, "metric", r.run_metric[i], r.metric)
        for i in able
        if words(r.run_metric[i]) != words(r.metric)
    ]
    evidence += _starts(r, able, limits.start_ratio_max)
    evidence += _cadences(r, able, limits.cadence_ratio_max)
    for title, column in (("planned steps", r.run_total), ("batch size", r.run_batch)):
        told = [i for i in able if np.isfinite(column[i])]
        common = _mode([float(column[i]) for i in told])
        evidence += [
            _apart(r, i, title, float(column[i]), common)
            for i in told
            if common is not None and not np.isclose(column[i], common, rtol=0.01)
        ]
    for name, values in r.matrix("setting").items():
        if _MEASURE.search(name):
            usual = _mode([values[i] for i in able if values[i]])
            evidence += [_apart(r, i, name, values[i], usual) for i in able if values[i] not in ("", usual)]
    if not evidence:
        return Outcome.ok(
            f"{len(able)} runs log {r.metric} as often, begin alike, and tell no other data, batch size or length"
        )
    kinds = dict.fromkeys(each.where.rsplit(": ", 1)[1] for each in evidence)
    return Outcome.warn(
        f"runs differ in {', '.join(kinds)}",
        *evidence[:NAMED],
        fix=f"read the gap of {evidence[0].where.rsplit(': ', 1)[0]} with care: evaluate its checkpoint as the others were, or compare at "
        "equal samples and equal parts of the schedule",
    )


def _apart(
    r: ComparisonResult, run: int, what: str, own: float | str, common: float | str | None
) -> Evidence:
    return Evidence(f"{r.run_name[run]}: {what}", f"{number(own)}, against {number(common)}")


def _starts(r: ComparisonResult, able: list[int], limit: float) -> list[Evidence]:
    """First values of runs that begin at the beginning, far from their median."""
    begun = [
        i for i in able if r.run_first_step[i] <= 1 and r.run_first[i] > 0 and np.isfinite(r.run_first[i])
    ]
    if len(begun) < 2 or r.unit != "step":
        return []
    common = float(np.median(r.run_first[begun]))
    return [
        _apart(r, i, "first value", float(r.run_first[i]), common)
        for i in begun
        if not 1 / limit <= r.run_first[i] / common <= limit
    ]


def _cadences(r: ComparisonResult, able: list[int], limit: float) -> list[Evidence]:
    """Runs that log the metric more or less often than most."""
    span = r.run_last_step - r.run_first_step
    told = [i for i in able if r.run_points[i] > 2 and span[i] > 0]
    if len(told) < 2:
        return []
    every = {i: float(span[i] / (r.run_points[i] - 1)) for i in told}
    common = float(np.median(list(every.values())))
    return [
        _apart(r, i, f"{r.unit}s between values", each, common)
        for i, each in every.items()
        if not 1 / limit <= each / common <= limit
    ]


@rule("CMP004", "The winner is beyond noise")
def beyond_noise(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: the gap between the best and the next, over its standard error: between repeats, or within the curves.

    Why: the best of ten equal runs looks like a winner; choosing it costs a wrong belief.
    Fix: repeat both with two more seeds each, or train on until the gap is larger than the noise.
    """
    own = {int(r.run_group[i]) for i, original in enumerate(r.run_copy_of) if not original}
    able = [g for g in range(len(r.group_name)) if np.isfinite(r.group_value[g]) and g in own]
    if len(able) < 2:
        return Outcome.skip(
            f"{len(able) or 'none'} of {len(r.group_name)}, copies left out, have a value at {r.unit} {r.at:g}"
        )
    first, second = able[:2]
    gap, z = r.gap(first, second)
    best, next_best = (f"{r.group_name[g]} {number(float(r.group_value[g]))}" for g in (first, second))
    if np.isnan(z):
        return Outcome.skip(
            f"too few points of {r.metric} near {r.unit} {r.at:g} to tell {best} from {next_best}"
        )
    evidence = Evidence(
        f"{r.group_name[first]} against {r.group_name[second]}", z, limits.noise_z, "standard errors"
    )
    if z > limits.noise_z:
        return Outcome.ok(f"{best} against {next_best}; {r.noise_text}", evidence)
    letters = r.ties(limits.noise_z)
    more = sum(letters[g] == letters[first] for g in able) - 2
    by_level = min(able, key=lambda g: r.sign * r.group_level[g])
    contrary = f"; without the noise of single points {r.group_name[by_level]} leads" if gap < 0 else ""
    return Outcome.warn(
        f"{best} and {next_best} cannot be told apart{f', nor can {more} more' if more else ''}{contrary}; {r.noise_text}",
        evidence,
        fix=f"repeat {r.group_name[first]} and {r.group_name[second]} with two more seeds each, or call it a tie",
    )


def _mode(values: list[T]) -> T | None:
    """The most frequent value, the first of equally frequent ones; None of none."""
    return max(values, key=values.count, default=None)
