"""What do gradient norm and learning rate do? Rules CRV010 and CRV011."""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.schedule import Schedule
from trainlab.diagnostics.curves.signals import end_level, level, noise
from trainlab.diagnostics.curves.telling import at, ending, named, preset, share
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["gradient", "grown", "scheduled"]


@rule("CRV010", "The gradient norm is sound")
def gradient(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: gradient norms that are not finite, and their level at the end over that early in the run.

    Spikes that pass are left alone: clipping takes them.

    Why: a norm that grows without bound ends in NaN; one that goes to zero has stopped training.
    Fix: clip gradients, lower the rate, lengthen warm-up; where it vanishes, see activations, normalisation
    and frozen parts.
    """
    limits = preset(r, limits)
    norms = [each for each in r.having("gradient_norm") if len(each) >= 10]
    if not norms:
        return Outcome.skip("the log has no gradient norm")
    said = []
    for curve in norms:
        row = r.series_name.index(curve.name)
        bad = int(r.series_nan[row] + r.series_inf[row])
        if bad > limits.gradient_bad_max * r.series_count[row] and bad > 1:
            step, line = float(r.series_bad_step[row]), int(r.series_bad_line[row])
            return Outcome.fail(
                f"{curve.name} is not finite in {bad} of {r.series_count[row]} points, first at step {step:,.0f}",
                Evidence(
                    f"{curve.name} at step {step:,.0f} ({r.place(line)})",
                    bad / int(r.series_count[row]),
                    limits.gradient_bad_max,
                ),
                fix="lower the loss scale's start or use bf16; where the loss is NaN too, see CRV001",
            )
        change = grown(curve)
        if change is None:
            continue
        early, end = change
        place = ending(r, curve)
        if end > limits.gradient_ratio_max * early:
            begin = curve.finite
            first = int(np.argmax(begin.value > limits.gradient_ratio_max * early))
            return Outcome.warn(
                f"{curve.name} grew from {early:.4g} to {end:.4g}",
                Evidence(
                    at(r, begin, first),
                    float(begin.value[first]),
                    limits.gradient_ratio_max * early,
                ),
                Evidence(place, end, limits.gradient_ratio_max * early),
                fix=f"clip gradients and lower the rate before {named(begin, begin.x[first])}; a loss that keeps falling may need neither",
            )
        if end < limits.gradient_vanish_min * early:
            return Outcome.warn(
                f"{curve.name} fell from {early:.4g} to {end:.4g}",
                Evidence(place, end, limits.gradient_vanish_min * early),
                fix="see whether activations are saturated, parts are frozen or the loss is constant; a loss near zero explains it",
            )
        said.append(f"{curve.name} from {early:.4g} to {end:.4g}")
    return Outcome.ok("; ".join(said)) if said else Outcome.skip("fewer than 10 finite gradient norms")


def grown(curve: Curve) -> tuple[float, float] | None:
    """The level of a norm in the second tenth of the run and at its end."""
    good = curve.finite
    if len(good) < 10:
        return None
    tenth = max(1, len(good) // 10)
    early = level(good.value[tenth : 2 * tenth + 2])
    end = end_level(good.value)
    # a curve that swings by decades says nothing by its ends
    if early > 0 and end > 0 and good.value.min() > 0 and noise(np.log(good.value)) > 1.5:
        return None
    return (early, end) if early > 0 else None


@rule("CRV011", "The learning rate follows its schedule")
def scheduled(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the shape of the learning rate, and its faults.

    Shapes are constant, linear, cosine, trapezoid, exponential, inverse square root, steps and restarts.
    Faults are a rate that is always zero, a long warm-up, steps at a rate of zero, a shape laid out for another number of steps, a jump
    up from the middle, and another peak than the config says.

    Why: a schedule laid out for another length, or begun anew after a resume, costs quality without any
    error.
    Fix: give the scheduler the true number of steps, call it once a step, and load its state when resuming.
    """
    limits = preset(r, limits)
    rate = r.rate
    dead = [
        each for each in r.having("learning_rate") if len(each.finite) >= 5 and not each.finite.value.any()
    ]
    if rate is None and dead:
        return Outcome.fail(
            f"{dead[0].name} is 0 from the first point to the last",
            Evidence(at(r, dead[0], 0), 0.0, None, "learning rate"),
            fix="the scheduler multiplies by 0 (an integer division, a warm-up of 0 steps), or the log reads another group",
        )
    if rate is None:
        return Outcome.skip("the log has no learning rate that is above zero in 5 points")
    curve = r.curves[rate.name].finite
    text = _described(rate)
    faults = [
        each
        for each in (
            _warmup(r, rate, limits),
            _dead(rate, limits),
            _horizon(r, rate, curve, limits),
            _jump(r, rate, curve),
            _peak(r, rate, limits),
        )
        if each
    ]
    if not faults:
        return Outcome.ok(text, Evidence(rate.name, rate.peak, None, "peak"))
    first, evidence, fix = faults[0]
    more = f"; {'; '.join(fault for fault, _, _ in faults[1:])}" if len(faults) > 1 else ""
    return Outcome.warn(f"{text}: {first}{more}", evidence, *(each for _, each, _ in faults[1:]), fix=fix)


Fault = tuple[str, Evidence, str] | None


def _described(rate: Schedule) -> str:
    kind = (
        f"{rate.kind} to {share(rate.floor)} of its peak {rate.peak:.3g}"
        if rate.floor < 0.995
        else f"{rate.kind} at {rate.peak:.3g}"
    )
    return f"{kind}, warm-up {share(rate.warmup)} of the run" if rate.warmup > 0.001 else kind


def _warmup(r: CurvesResult, rate: Schedule, limits: CurvesLimits) -> Fault:
    if rate.warmup <= limits.warmup_max or rate.kind == "irregular":
        return None
    total = r.claim("total_steps")
    of = f" of the {total:,.0f} steps" if total > 0 else " of the run"
    return (
        f"warm-up takes {share(rate.warmup)}{of}",
        Evidence(f"{rate.name}: share in warm-up", rate.warmup, limits.warmup_max),
        "give the scheduler the warm-up in steps, not in epochs or samples; 1 to 10 % of the run is usual",
    )


def _dead(rate: Schedule, limits: CurvesLimits) -> Fault:
    if rate.dead <= limits.rate_dead_max:
        return None
    return (
        f"{share(rate.dead)} of the run is trained at less than 0.1 % of the peak",
        Evidence(f"{rate.name}: share near zero", rate.dead, limits.rate_dead_max),
        "lay the schedule out over the whole run, or end it with a floor of 1 to 10 % of the peak",
    )


def _horizon(r: CurvesResult, rate: Schedule, curve: Curve, limits: CurvesLimits) -> Fault:
    """A shape that ends elsewhere than the run; a run that is not over is measured by what it claims."""
    if rate.kind not in ("linear", "cosine") or rate.dead > limits.rate_dead_max:
        return None
    done = r.progress(float(curve.x[-1]), curve.unit)
    off = rate.horizon - 1
    if not np.isfinite(off) or abs(off) <= limits.rate_horizon_error_max or rate.error > 0.01:
        return None
    if (rate.floor > 0.9 and off > 0) or (off < 0 and rate.floor > 0.05):
        return None  # too little of it to see, or a floor kept on purpose
    if done < 0.5 and off > 0 and rate.floor > 0.5:
        return None
    what = "is laid out for" if off > 0 else "ends at"
    return (
        f"the {rate.kind} {what} {share(rate.horizon)} of the run",
        Evidence(
            f"{rate.name}: end of the schedule over the run",
            rate.horizon,
            1 + limits.rate_horizon_error_max * np.sign(off),
        ),
        "give the scheduler the number of optimizer steps of this run: epochs × batches ÷ accumulation",
    )


def _jump(r: CurvesResult, rate: Schedule, curve: Curve) -> Fault:
    if not rate.jumps:
        return None
    i = rate.jumps[0]
    return (
        f"it jumps from {curve.value[i - 1]:.3g} to {curve.value[i]:.3g} at {named(curve, curve.x[i])}",
        Evidence(at(r, curve, i), float(curve.value[i]), float(curve.value[i - 1])),
        "load the scheduler's state when resuming (scheduler.load_state_dict), and do not warm up again",
    )


def _peak(r: CurvesResult, rate: Schedule, limits: CurvesLimits) -> Fault:
    said = r.claim("learning_rate")
    if not said > 0 or rate.kind in ("warm-up", "irregular"):
        return None
    ratio = rate.peak / said
    if abs(ratio - 1) <= limits.rate_peak_error_max:
        return None
    if len(r.having("learning_rate")) > 1:
        return None  # groups of parameters with rates of their own
    return (
        f"its peak is {rate.peak:.3g} where the config says {said:.3g}",
        Evidence(f"{rate.name}: peak over the config", ratio, 1.0),
        "see what scales the rate: world size, batch size, layer decay, or a scheduler that is called twice a step",
    )
