"""Does the loss fall, far enough and in validation too? Rules CRV004, CRV005, CRV008, CRV009 and CRV021."""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.signals import (
    Flat,
    end_level,
    flattest,
    level,
    middle_mean,
    noise,
    start_level,
)
from trainlab.diagnostics.curves.telling import at, ending, learning, named, preset, share
from trainlab.errors import NotApplicable
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["fallen", "falling", "generalises", "learned", "moving", "overfits", "plateau", "untrained"]

LONG = 1000  # steps, or
EPOCHS = 20  # below which nothing is said of a trend


@rule("CRV004", "The loss has no plateau")
def moving(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the longest stretch in which the loss does not change, while most of the initial loss is left.

    No change is less than `plateau_change_max`; longest is over `plateau_share_max` of the run. A loss that
    is flat far below its start has converged.

    Why: steps on a plateau teach nothing. One that begins early and stays is a fault of rate, gradient flow
    or target, not of patience.
    Fix: look at what happens at the onset: end of warm-up, a component that vanished, a rate that is too high
    or near zero.
    """
    limits = preset(r, limits)
    curve = untrained(r)
    found = plateau(r, curve, limits)
    if found is None:
        flat = flattest(curve.x, curve.value, limits.plateau_change_max)
        if flat is None or flat.share < limits.plateau_share_max:
            return Outcome.ok(f"{curve.name} is never flat for {limits.plateau_share_max:.0%} of the run")
        begin = start_level(curve.value)
        left = f", {share(flat.level / begin)} of where it began" if begin > 0 else ""
        return Outcome.ok(
            f"flat at {flat.level:.4g} since {named(curve, curve.x[flat.first])}{left}: converged"
        )
    onset, until = named(curve, curve.x[found.first]), named(curve, curve.x[found.last])
    text = f"{curve.name} stays at {found.level:.4g} from {onset} to {until}, {share(found.share)} of the run"
    return Outcome.fail(
        text,
        Evidence(at(r, curve, found.first), float(curve.value[found.first]), None, "onset"),
        Evidence("share of the run", found.share, limits.plateau_share_max),
        fix=f"look at what changes at {onset}: the end of warm-up, a component that vanishes (CRV012), the gradient norm (CRV010); "
        "then overfit one batch, and try a rate 3 times lower and higher",
    )


def plateau(r: CurvesResult, curve: Curve, limits: CurvesLimits) -> Flat | None:
    """The stretch that is flat where it should not be."""
    flat = flattest(curve.x, curve.value, limits.plateau_change_max)
    if flat is None or flat.level <= 0:
        return None
    begin = _reference(r, curve)
    if begin <= 0:
        return None
    early = (curve.x[flat.first] - curve.x[0]) / (curve.x[-1] - curve.x[0]) <= limits.plateau_early
    stuck = flat.share >= limits.plateau_share_max and flat.level > limits.plateau_level_min * begin
    whole = (
        early
        and flat.share >= 1 - 2 * limits.plateau_early
        and flat.level > limits.plateau_early_level_min * begin
    )
    return flat if stuck or whole else None


@rule("CRV005", "The loss still falls after the first steps")
def falling(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the level of the loss after step `falling_after` against the end, in runs of twice as many steps.

    A loss that has converged by then is left alone.

    Why: most of a long run's budget is spent after that step; where it changes nothing, it could have been
    spared.
    Fix: lower the rate or let it decay; see whether the data repeats or a component has taken over the total.
    """
    limits = preset(r, limits)
    curve = untrained(r)
    begin = limits.falling_after
    after = curve.where(curve.x >= begin)
    if curve.unit != "step" or len(after) < 20 or curve.x[-1] < 2 * begin:
        return Outcome.skip(f"the run does not go on to step {2 * begin:,.0f} in 20 points")
    third = len(after) // 3
    early, end = middle_mean(after.value[:third]), middle_mean(after.value[-third:])
    reference = _reference(r, curve)
    if 0 < early < limits.converged_level * reference:
        return Outcome.ok(
            f"{early:.4g} at {named(curve, begin)}: {share(early / reference)} of where it began is left"
        )
    change = (end - early) / abs(early) if early else 0.0
    error = 1.1 * noise(after.value) * np.sqrt(2 / third) / abs(early) if early else 0.0
    if error > limits.falling_min:
        return Outcome.skip(
            f"changes by {share(change)} ± {share(error)}: too noisy to tell {share(limits.falling_min)}"
        )
    if change <= -limits.falling_min:
        return Outcome.ok(f"falls by {share(-change)} after {named(curve, begin)}")
    return Outcome.warn(
        f"{curve.name} is {early:.4g} after {named(curve, begin)} and {end:.4g} at the end",
        Evidence(at(r, after, 0), early, None, "level"),
        Evidence("change since", change, -limits.falling_min, "of it"),
        fix="let the learning rate decay, or stop here; where the loss is far from what it should be, see CRV004 and CRV021",
    )


@rule("CRV008", "The loss ends well below its start")
def fallen(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the level at the end over the level at the start.

    Only runs are judged that are recorded from an untrained start and have gone half their way.

    Why: a loss that keeps half of its initial value after a whole run has learned the easy part only.
    Fix: overfit one batch; see rate, target and capacity. A loss with a large floor: judge(r,
    final_ratio_max=0.9).
    """
    limits = preset(r, limits)
    bound = limits.final_ratio_max
    curve = untrained(r)
    if bound is None:
        return Outcome.skip(f"a {r.pack} loss has no such limit")
    start, end = start_level(curve.value), end_level(curve.value)
    done = r.progress(float(curve.x[-1]), curve.unit)
    if done < 0.5:
        return Outcome.skip(f"{share(done)} of the run is done: too early to tell")
    ratio = end / start
    if ratio < bound:
        return Outcome.ok(f"from {start:.4g} to {end:.4g}", Evidence("end over start", ratio, bound))
    return Outcome.warn(
        f"{curve.name} ends at {end:.4g}, {share(ratio)} of the {start:.4g} it began with",
        Evidence(ending(r, curve), end, bound * start),
        fix="overfit one batch: where that fails, target, rate or gradient flow is at fault; where it works, train longer or "
        "give the model more capacity. A fine-tuned model begins low: judge(r, final_ratio_max=0.9)",
    )


@rule("CRV009", "Validation follows training")
def generalises(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the validation loss at the end over its best, while the training loss has gone on falling.

    Why: from the best validation loss on, the model learns the training set by heart.
    Fix: take the checkpoint of the step named; stop there, add data, augmentation, dropout or weight decay.
    """
    limits = preset(r, limits)
    train = learning(r)
    held = r.curves.get(r.validation)
    if held is None or held is train or not r.main:
        return Outcome.skip(
            "the log has no validation loss: whether the model learns by heart cannot be told"
        )
    val = held.finite
    if len(val) < 4:
        return Outcome.skip(f"{val.name} has {len(val)} points; 4 are needed")
    best = int(np.argmin(val.value))
    rise = _rise(val, best)
    where = named(val, val.x[best])
    found = overfits(train, val, limits)
    if found is None:
        text = f"best {val.value[best]:.4g} at {where}"
        last = f"{val.value[-1]:.4g} at the end"
        text += ", the last of all" if best == len(val) - 1 else f", {last}"
        return Outcome.ok(text, Evidence(at(r, val, best), float(val.value[best])))
    return Outcome.warn(
        f"{val.name} is best at {where} with {val.value[best]:.4g} and {share(rise)} above that at the end, while {train.name} "
        f"fell by {share(found)}",
        Evidence(at(r, val, best), float(val.value[best]), None, "best"),
        Evidence(
            at(r, val, len(val) - 1),
            float(val.value[-1]),
            float(val.value[best] * (1 + limits.overfit_rise_max)),
        ),
        fix=f"use the checkpoint of {where}; stop there, or add data, augmentation, dropout or weight decay",
    )


def overfits(train: Curve, val: Curve, limits: CurvesLimits) -> float | None:
    """By what share the training loss has fallen since validation was best; None where that does not rise."""
    best = int(np.argmin(val.value))
    rise, lowest = _rise(val, best), float(val.value[best])
    luck = 1.5 + np.sqrt(2 * np.log(len(val)))  # the best of many noisy values is a lucky one
    if len(val) - best < 3 or rise <= limits.overfit_rise_max or rise * lowest <= luck * noise(val.value):
        return None
    column = "x" if train.unit == val.unit else "epoch"
    axis, point = getattr(train, column), getattr(val, column)[best]
    since = train.value[axis >= point]
    before = train.value[axis <= point][-max(3, min(len(since) // 2, 100)) :]
    if len(since) < 3 or not len(before):
        return None
    fall = (level(before) - end_level(since)) / level(before) if level(before) > 0 else 0.0
    return fall if fall > 0.01 else None


@rule("CRV021", "The loss beats a trivial prediction")
def learned(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the level at the end against what a model scores that ignores its input.

    That is ln(tokens), ln(classes), the variance of the target, 1 for unit noise; where none is known, the
    start of the run.

    Why: below that line learning begins; a run that stays on it has not learned from its input at all.
    Fix: see that gradients reach the weights, that targets belong to their inputs, that the rate is neither 0
    nor far too high.
    """
    limits = preset(r, limits)
    curve = _long(r)
    end = end_level(curve.value)
    if r.baseline:
        bound = limits.baseline_ratio_max * r.baseline
        begin = start_level(curve.value)
        if begin > 20 * r.baseline:
            return Outcome.skip(
                f"begins at {begin:.4g}: not of the scale of {r.baseline_origin}, {r.baseline:.4g}"
            )
        evidence = Evidence(ending(r, curve), end, bound, r.baseline_origin)
        if end < bound and (begin < 0.5 * r.baseline or end < limits.baseline_ratio_max * begin):
            return Outcome.ok(f"{end:.4g} at the end; a trivial prediction scores {r.baseline:.4g}", evidence)
        source = f"{r.baseline:.4g} ({r.baseline_origin}), and the run began at {begin:.4g}"
    else:
        begin = start_level(curve.value)
        bound = limits.baseline_ratio_max * begin
        evidence = Evidence(ending(r, curve), end, bound)
        if end < bound:
            return Outcome.ok(f"{end:.4g} at the end, {begin:.4g} at the start", evidence)
        source = f"{begin:.4g}, where it began"
    return Outcome.fail(
        f"{curve.name} ends at {end:.4g}; a prediction that knows nothing scores {source}",
        evidence,
        fix="overfit one batch: where that fails, see that gradients reach the weights (requires_grad, optimizer.step()), that "
        "targets belong to their inputs, and that the rate is neither 0 nor far too high",
    )


def _rise(val: Curve, best: int) -> float:
    """How far validation stands above its best at the end: of its last two points the lower."""
    return float(min(val.value[-2:]) / val.value[best] - 1) if val.value[best] > 0 else 0.0


def untrained(r: CurvesResult) -> Curve:
    """The loss of a run that begins untrained; of a fine-tuned one most was learned before.

    Raises:
        NotApplicable: It begins well below what a trivial prediction scores, or is too short.
    """
    curve = _long(r)
    begin = start_level(curve.value)
    if begin < 0.5 * r.baseline:
        raise NotApplicable(
            f"begins at {begin:.4g}, below the trivial {r.baseline:.4g}: it was trained before"
        )
    return curve


def _long(r: CurvesResult) -> Curve:
    """The loss of a run that is long enough to speak of a trend, from its start on, and above zero."""
    curve = learning(r, 20)
    extent = float(curve.x[-1] - curve.x[0])
    least = {"step": LONG, "epoch": EPOCHS, "point": 50}[curve.unit]
    if extent < 0.9 * least:
        raise NotApplicable(f"the log spans {extent:,.0f} {curve.unit}s: too few to tell a trend")
    if not curve.from_start:
        raise NotApplicable(
            f"the log begins at {named(curve, curve.x[0])}: where the loss came from is not known"
        )
    if curve.value.min() < 0 or start_level(curve.value) == 0:
        raise NotApplicable(f"{curve.name} begins at zero or goes below it: a share of that says nothing")
    return curve


def _reference(r: CurvesResult, curve: Curve) -> float:
    """What "far below" is measured from: the trivial baseline where it is known and of this scale, else the start."""
    begin = start_level(curve.value)
    return max(begin, r.baseline) if 0 < r.baseline <= 20 * begin else begin
