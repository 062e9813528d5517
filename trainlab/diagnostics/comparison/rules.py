"""What the rules of `comparison` say: may these runs be ranked, and is the ranking more than noise?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.comparison.limits import ComparisonLimits
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.diagnostics.comparison.rules_of_order import alike, beyond_noise, same_step
from trainlab.diagnostics.comparison.rules_of_settings import one_at_a_time
from trainlab.finding import Evidence, Outcome, rule
from trainlab.markup import number
from trainlab.student import student

__all__ = ["RULES"]

NAMED = 8  # offenders that are listed


@rule("CMP001", "Every run is finite")
def finite(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:  # noqa: ARG001
    """What: NaN and Inf among the values of the metric, and runs without any finite value.

    Why: a run that ends in NaN has no result, and sorting text puts NaN before every number, so it looks like the best.
    Fix: leave the run out or repeat it with a lower rate; take its value from before the first NaN.
    """
    bad = [i for i in range(len(r.run_name)) if r.run_bad[i]]
    if not bad:
        return Outcome.ok(
            f"all {int(r.run_points.sum()):,} values of {r.metric} in {_runs(len(r.run_name))} are finite"
        )
    evidence = [
        Evidence(
            f"{r.place(i, int(r.run_bad_line[i]))}, {r.unit} {r.run_bad_step[i]:g} and on",
            int(r.run_bad[i]),
            0,
            "not finite",
        )
        for i in bad[:NAMED]
    ]
    ended = [i for i in bad if not np.isfinite(r.run_last[i])]
    if ended:
        return Outcome.fail(
            f"{_listed(r, ended)} ended in NaN or Inf",
            *evidence,
            fix=f"leave {_listed(r, ended)} out of the ranking, or go back to before {r.unit} "
            f"{r.run_bad_step[ended[0]]:g} with a lower rate or clipped gradients",
        )
    return Outcome.warn(
        f"{_listed(r, bad)} had values that are not finite, and went on",
        *evidence,
        fix="see what was skipped at those lines; the values here leave them out",
    )


@rule("CMP005", "The best is near the last")
def best_near_last(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: how much better the best value of a run is than its tail, where it lies before that, beyond what single points are lucky.

    Why: whoever takes the last checkpoint of such a run gets a worse model than the run has had.
    Fix: use the checkpoint of the step that is named; stop there, or lower the rate towards the end.
    """
    able = [
        i for i in range(len(r.run_name)) if np.isfinite(r.run_best[i]) and np.isfinite(r.run_tail_mean[i])
    ]
    if not able:
        return Outcome.skip(f"no run has a finite value of {r.metric}")
    loss = r.sign * (r.run_tail_mean - r.run_best)
    share = loss / np.maximum(np.abs(r.run_best), 1e-12)
    luck = [limits.best_gap_luck * _luck(r, i) for i in range(len(r.run_name))]
    before = [i for i in able if r.run_best_step[i] < r.run_tail_from[i]]
    far = [i for i in before if share[i] > limits.best_gap_max and loss[i] > luck[i]]
    if not before:
        return Outcome.ok(f"every run has its best in its last {r.tail:.0%}")
    if not far:
        worst = max(before, key=lambda i: share[i])
        small = share[worst] <= limits.best_gap_max
        why = (
            f"within {limits.best_gap_max:.0%}"
            if small
            else f"the best of {r.run_points[worst]} noisy points is so lucky"
        )
        return Outcome.ok(
            f"{r.run_name[worst]} was at {number(float(r.run_best[worst]))} and ends at {number(float(r.run_tail_mean[worst]))}: {why}"
        )
    evidence = [
        Evidence(
            f"{r.run_name[i]}: {r.metric} {number(float(r.run_best[i]))} at {r.unit} {r.run_best_step[i]:g} "
            f"({r.place(i, int(r.run_best_line[i]))}), {number(float(r.run_tail_mean[i]))} at the end",
            float(share[i]),
            limits.best_gap_max,
            "of the best",
        )
        for i in far[:NAMED]
    ]
    steps = ", ".join(f"{r.unit} {r.run_best_step[i]:g} of {r.run_name[i]}" for i in far[:3])
    return Outcome.warn(
        f"{_listed(r, far)} had {'a' if len(far) == 1 else 'their'} best long before the end",
        *evidence,
        fix=f"use the checkpoint nearest to {steps}",
    )


@rule("CMP006", "Every run finished")
def finished(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: runs that failed, stopped early, or ended before the steps that were planned.

    Why: a run that stops short under a falling learning rate is worse than it would have been, and a missing tail
    is easily taken for a result.
    Fix: resume it to its end, or compare all runs at a step that it has reached.
    """
    share = r.run_reached / r.run_total
    failed = [i for i, state in enumerate(r.run_state) if state == "failed"]
    early = [i for i, state in enumerate(r.run_state) if state == "stopped early"]
    short = [
        i
        for i, state in enumerate(r.run_state)
        if not state and _short(r, i, float(share[i]), limits.finished_min)
    ]
    known = [i for i, state in enumerate(r.run_state) if state or np.isfinite(share[i])]
    evidence = [
        Evidence(f"{r.place(i, int(r.run_state_line[i]))}: {r.run_state[i] or 'stops short'}", float(r.run_reached[i]),
                 None if np.isnan(r.run_total[i]) else float(r.run_total[i]), f"{r.unit}s")
        for i in (*failed, *short, *early)[:NAMED]
    ]  # fmt: skip
    if not evidence:
        if not known:
            return Outcome.skip("no log tells how many steps were planned, nor that the run completed")
        return Outcome.ok(
            f"{len(known)} of {_runs(len(r.run_name))} tell their end, and all of them reached it"
        )
    said = [
        f"{_listed(r, which)} {word}"
        for which, word in (
            (failed, "failed"),
            (short, "ended before the planned steps"),
            (early, "stopped early"),
        )
        if which
    ]
    make = Outcome.fail if failed else Outcome.warn
    first = (*failed, *short, *early)[0]
    return make(
        "; ".join(said),
        *evidence,
        fix=f"resume {r.run_name[first]} to its end, or compare at {r.unit} {np.nanmin(r.run_reached):g} (at=), "
        "if the schedules agree until there",
    )


@rule("CMP007", "Runs are equally fast")
def equally_fast(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: the speed of each run without pauses, over the median of the others; in samples where all tell a batch size.

    Why: one that is much slower shared its machine, waits for data, or trains something else than was meant.
    Fix: look at what else ran there, at the data loader and at the batch size of the run that is named.
    """
    samples = bool(np.isfinite(r.run_batch).all())
    speed = r.samples_per_s(training=True) if samples else r.run_speed_training
    unit = "samples/s" if samples else f"{r.unit}s/s"
    known = np.flatnonzero(np.isfinite(speed) & (speed > 0))
    if len(known) < 2:
        return Outcome.skip(f"{len(known) or 'none'} of {_runs(len(r.run_name))} tell the time")
    limit = limits.speed_ratio_max
    ratio = {int(i): float(speed[i] / np.median(speed[known[known != i]])) for i in known}
    out = [i for i, each in ratio.items() if not 1 / limit <= each <= limit]
    if len(known) == 2:  # each is far from the other: the slower is named
        out = [i for i in out if ratio[i] < 1]
    if not out:
        paused = np.nan_to_num(r.run_pause_seconds[known] / r.run_wall[known]).max()
        return Outcome.ok(
            f"{number(float(np.median(speed[known])))} {unit} in the median, the fastest "
            f"{speed[known].max() / speed[known].min():.2f} times the slowest; pauses take {paused:.0%} of a run at most"
        )
    evidence = [
        Evidence(
            r.run_name[i],
            max(ratio[i], 1 / ratio[i]),
            limit,
            f"times {'faster' if ratio[i] > 1 else 'slower'}",
        )
        for i in out[:NAMED]
    ]
    slow = min(out, key=lambda i: speed[i])
    rest = [i for i in known if i not in out] or known
    return Outcome.warn(
        f"{_listed(r, out)}: {', '.join(number(float(speed[i])) for i in out[:3])} {unit}, the others "
        f"{number(float(np.median(speed[rest])))}",
        *evidence,
        fix=f"see what else ran beside {r.run_name[slow]}, its data loader and its batch size; compare times only between equal ones",
    )


@rule("CMP009", "No run is there twice")
def once(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:  # noqa: ARG001
    """What: runs whose points are the same, to the digits that were written.

    Why: a run that is counted twice passes for a repeat without any spread, and makes noise look small.
    Fix: leave one of the two files out. Two runs with other settings and the same points: the setting had no effect.
    """
    twice = [i for i, other in enumerate(r.run_copy_of) if other]
    if not twice:
        return Outcome.ok(f"{_runs(len(r.run_name))}, each with points of its own")
    evidence = [Evidence(r.place(i), f"the points of {r.run_copy_of[i]}") for i in twice[:NAMED]]
    return Outcome.warn(
        f"{_listed(r, twice)} {'has' if len(twice) == 1 else 'have'} the points of another run",
        *evidence,
        fix=f"leave {r.run_name[twice[0]]} or {r.run_copy_of[twice[0]]} out; if their settings differ, see whether the "
        "setting that differs is read at all",
    )


@rule("CMP010", "No run was resumed")
def unresumed(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:
    """What: runs that were stopped and went on, as their logs tell, and logs that begin late where others begin at 0.

    Why: a resume may lose optimizer state, repeat data or restart the schedule; its curve is then not that of the settings.
    Fix: see that the loss goes on where it was; `trainlab report resume` looks into the checkpoint.
    """
    late = (r.run_first_step > limits.late_start_max * r.at) & (
        np.nanmin(r.run_first_step) <= limits.late_start_max * r.at
    )
    again = [int(i) for i in np.flatnonzero((r.run_resumed > 0) | late)]
    if not again:
        return Outcome.ok(f"no log of {_runs(len(r.run_name))} tells of a resume")
    evidence = [
        Evidence(r.place(i, int(r.run_resumed_line[i])), int(r.run_resumed[i]), 0, "resumes")
        if r.run_resumed[i]
        else Evidence(
            f"{r.place(i)}: begins", float(r.run_first_step[i]), limits.late_start_max * r.at, f"{r.unit}s"
        )
        for i in again[:NAMED]
    ]
    rest = len(r.run_name) - len(again)
    return Outcome.warn(
        f"{_listed(r, again)} {'was' if len(again) == 1 else 'were'} resumed"
        + (f", {_runs(rest)} not" if rest else ""),
        *evidence,
        fix=f"see at {evidence[0].where} that loss and rate go on where they were, or compare before that step",
    )


def _luck(r: ComparisonResult, run: int) -> float:
    """How much better than their mean the best of a run's points is expected to be by noise alone."""
    noise, freedom = np.nan_to_num(r.run_tail_noise[run]), float(max(r.run_tail_points[run] - 2, 1))
    return float(noise * student(freedom) / student(np.inf) * np.sqrt(2 * np.log(max(r.run_points[run], 2))))


def _short(r: ComparisonResult, run: int, share: float, least: float) -> bool:
    """Did a run that says nothing of its end miss the planned steps? Counting from 0, the last is one less."""
    return share < least and r.run_reached[run] + 1 < r.run_total[run]


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _listed(r: ComparisonResult, runs: list[int]) -> str:
    names = ", ".join(r.run_name[i] for i in runs[:3])
    return names + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")


RULES = (
    finite, same_step, alike, beyond_noise, best_near_last,
    finished, equally_fast, one_at_a_time, once, unresumed,
)  # fmt: skip
