"""Is the loss finite, and does it stay down? Rules CRV001 to CRV003, and CRV006 and CRV007."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.signals import (
    GAUSS,
    after_median,
    end_level,
    level,
    noise,
    smooth,
    start_level,
    window,
)
from trainlab.diagnostics.curves.telling import NAMED, at, ending, learning, listed, named, preset
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["Spike", "explodes", "finite", "late", "spikes", "spreads", "still", "upward"]

SCALE_KNOWN = 20.0  # a loss that begins at more than this many trivial baselines is not of that scale


@rule("CRV001", "Every loss is finite")
def finite(r: CurvesResult, limits: CurvesLimits) -> Outcome:  # noqa: ARG001
    """What: NaN and Inf in the losses of training and validation. Metrics may be NaN, where a class is absent.

    Why: one step with a NaN loss turns every weight into NaN, and all that follows is lost.
    Fix: look at the batch and the step named; clip gradients, lower the rate, keep logarithms, divisions and
    softmaxes off zero, use bf16 in place of fp16. Go on from the last checkpoint before it.
    """
    rows = [i for i, role in enumerate(r.series_role) if role == "loss"]
    if not rows:
        return Outcome.skip("the log has no loss")
    bad = sorted(
        (i for i in rows if r.series_nan[i] + r.series_inf[i]),
        key=lambda i: (r.series_bad_line[i], -r.series_count[i]),
    )
    count = int(r.series_count[rows].sum())
    if not bad:
        return Outcome.ok(f"all {count:,} values of {len(rows)} losses are finite")
    first = bad[0]
    step = r.series_bad_step[first]
    where = f"step {step:,.0f}" if np.isfinite(step) else r.place(int(r.series_bad_line[first]))
    evidence = [
        Evidence(
            f"{r.series_name[i]} from step {r.series_bad_step[i]:,.0f} ({r.place(int(r.series_bad_line[i]))})",
            int(r.series_nan[i] + r.series_inf[i]),
            0,
            f"of {r.series_count[i]} not finite",
        )
        for i in bad[:NAMED]
    ]
    lasting = [i for i in bad if r.series_bad_tail[i] > 0]
    before = f"the last checkpoint before {where}"
    if not lasting:
        return Outcome.warn(
            f"{listed([r.series_name[i] for i in bad])} not finite, first at {where}, and finite again later",
            *evidence,
            fix=f"look at the batch of {where}: an empty target or a division by zero; skip such steps before optimizer.step()",
        )
    whole = r.series_bad_tail[first] == r.series_count[first]
    when = "from its first value on" if whole else f"from {where} to the end"
    cause = (
        "check the inputs and the init: the loss was never finite"
        if whole
        else f"go on from {before} with clipped gradients or a lower rate, and look at that step's batch"
    )
    return Outcome.fail(f"{r.series_name[first]} is not finite {when}", *evidence, fix=cause)


@rule("CRV002", "The loss does not explode")
def explodes(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the level at the end of the run over its lowest level; levels are running medians, spikes do not count.

    Why: a run that has lost what it learned goes on costing time and overwrites its checkpoints.
    Fix: go back to the best checkpoint; lower the rate, lengthen warm-up, clip gradients; look at the
    gradient norm before the step named.
    """
    limits = preset(r, limits)
    found = upward(r, limits)
    curve = learning(r)
    if found is None:
        levels = smooth(curve.value)
        i = int(np.argmin(levels))
        return Outcome.ok(
            f"ends at {end_level(curve.value):.4g}, its lowest level is {levels[i]:.4g}",
            Evidence(at(r, curve, i), float(levels[i])),
        )
    lowest, end, best = found
    start = named(curve, curve.x[lowest])
    return Outcome.fail(
        f"{curve.name} rose from {best:.4g} to {end:.4g} after {start}",
        Evidence(at(r, curve, lowest), best, None, "lowest level"),
        Evidence(ending(r, curve), end, limits.explosion_ratio_max * best if best > 0 else None),
        fix=f"go back to a checkpoint of about {start}; lower the learning rate or lengthen the warm-up, clip gradients, and "
        "look at the gradient norm where the rise begins",
    )


def upward(r: CurvesResult, limits: CurvesLimits) -> tuple[int, float, float] | None:
    """Where the loss was lowest for good, its level at the end, and its lowest; None where it stays down."""
    curve = learning(r)
    levels = smooth(curve.value)
    lowest = len(levels) - 1 - int(np.argmin(levels[::-1]))
    last = max(3, window(len(levels)) // 2)
    best, end = float(levels[lowest]), level(curve.value[-last:])
    errors = 1 + limits.explosion_z_max * 1.25 / np.sqrt(
        last
    )  # one for the lowest level, which is a lucky one
    gained = abs(start_level(curve.value) - best)
    if curve.low.min() > 0:
        far = np.log(end / best) > max(
            np.log(limits.explosion_ratio_max), errors * noise(np.log(curve.value))
        )
        high = far and end - best > 0.1 * gained  # a loss near zero may double and still be near zero
    else:
        high = lowest < len(levels) - 3 and end - best > max(gained, errors * noise(curve.value))
    return (lowest, end, best) if high else None


@rule("CRV003", "The loss is low after the first steps")
def late(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the level of the loss after `late_step` steps against `late_loss_max`.

    The pack sets that limit where the scale of the loss is known.

    Why: a loss that should be below 1 and is not after 1000 steps has a fault in target, scale or rate, and
    time will not mend it.
    Fix: overfit one batch; check target scale and learning rate. A loss of another scale: judge(r,
    late_loss_max=...).
    """
    limits = preset(r, limits)
    bound = limits.late_loss_max
    curve = learning(r)
    if bound is None:
        return Outcome.skip(
            f"the scale of a {r.pack} loss is not known: judge(r, late_loss_max=1.0) sets a limit for it"
        )
    if r.baseline and start_level(curve.value) > SCALE_KNOWN * r.baseline:
        return Outcome.skip(
            f"{curve.name} begins at {curve.value[0]:.4g}: it is not of the scale of {r.baseline_origin}"
        )
    after = np.flatnonzero(curve.x >= limits.late_step)
    if curve.unit != "step" or len(after) < 3:
        return Outcome.skip(f"the log has no three points after step {limits.late_step:,.0f}")
    end = end_level(curve.value[after])
    if end <= bound:
        return Outcome.ok(f"{end:.4g} at the end", Evidence(ending(r, curve), end, bound))
    first = int(after[np.argmax(curve.value[after] > bound)])
    return Outcome.fail(
        f"{curve.name} is {curve.value[first]:.4g} at {named(curve, curve.x[first])} and {end:.4g} at the end",
        Evidence(at(r, curve, first), float(curve.value[first]), bound),
        Evidence(ending(r, curve), end, bound),
        fix="overfit one batch: where that fails too, check the target's scale and sign and the learning rate; where it works, "
        "the rate or the data is at fault. judge(r, late_loss_max=...) sets another limit",
    )


class Spike(NamedTuple):
    """A rise of the loss: the point, the level before it, its height over that, and how long it took (NaN: never over)."""

    point: int
    before: float
    ratio: float
    lasts: float


@rule("CRV006", "The loss has no spikes")
def still(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: points far above those before them, and whether the loss came back from there.

    Far is over `spike_ratio_max` times the median before and outside the noise of this very curve; back is
    within `spike_recovery_max` steps. Rises where the learning rate was started again are not counted.

    Why: a spike that recovers costs some steps; one that does not has broken weights or optimizer state.
    Fix: look at the batch of the step named; clip gradients; lower beta2 or the rate. Where it did not
    recover, go back to the checkpoint before it and skip that batch.
    """
    limits = preset(r, limits)
    curve = learning(r, 20)
    found = spikes(r, curve, limits)
    if not found:
        return Outcome.ok(f"{len(curve):,} points of {curve.name}, none of them far above those before it")
    limit = limits.spike_recovery_max
    lasting = [s for s in found if not _over(s, curve, limit)]
    worst = sorted(lasting or found, key=lambda s: -s.ratio)[:NAMED]
    evidence = [
        Evidence(
            f"{at(r, curve, s.point)}, {_told(s, curve)}",
            float(curve.high[s.point]),
            s.before * limits.spike_ratio_max,
        )
        for s in worst
    ]
    first = (lasting or found)[0]
    where = named(curve, curve.x[first.point])
    if not lasting:
        return Outcome.warn(
            f"{_counted(found)}, the first at {where}; each recovered within {max(s.lasts for s in found):,.0f} {curve.unit}s",
            *evidence,
            fix=f"clip gradients, and look at the batch of {where}: one outlier in the data is the usual cause",
        )
    text = f"{curve.name} rose from {first.before:.4g} to {curve.high[first.point]:.4g} at {where} and did not recover"
    if first.point >= len(curve) - 3:
        return Outcome.warn(
            f"{text} yet: the log ends there", *evidence, fix=f"watch the steps after {where}"
        )
    return Outcome.fail(
        text,
        *evidence,
        fix=f"go back to the last checkpoint before {where}, skip the batches around it and clip gradients",
    )


def spikes(r: CurvesResult, curve: Curve, limits: CurvesLimits) -> list[Spike]:
    """The rises of a curve that stand out of its own noise."""
    width = int(np.clip(len(curve) // 20, 5, 51))
    positive = curve.low.min() > 0
    high = np.log(curve.high) if positive else curve.high
    usual = after_median(high, width)
    away = high[width:] - usual[width:]
    if not len(away):
        return []
    sigma = GAUSS * float(np.median(np.abs(away - np.median(away))))
    least = max(limits.spike_z_max * sigma, 4 * float(np.quantile(away, 0.95)))
    bound = max(np.log(limits.spike_ratio_max), least) if positive else max(least, 1e-12)
    restarted = np.array(r.rate.rises if r.rate is not None else ())
    found: list[Spike] = []
    last = -1
    for i in (np.flatnonzero(away > bound) + width).tolist():
        if i <= last:
            continue
        near = (restarted > curve.x[i - width]) & (restarted <= curve.x[i])
        base = float(usual[i])
        below = np.flatnonzero(high[i + 1 :] <= base + max(bound / 3, 2 * sigma))
        last = i + 1 + int(below[0]) if len(below) else len(curve)
        if near.any():
            continue
        peak = i + int(np.argmax(high[i:last]))
        lasts = float(curve.x[last] - curve.x[i]) if len(below) else float("nan")
        before = float(np.exp(base)) if positive else base
        found.append(
            Spike(peak, before, float(curve.high[peak] / before) if before > 0 else float("inf"), lasts)
        )
    return found


def _over(spike: Spike, curve: Curve, limit: float) -> bool:
    if np.isnan(spike.lasts):
        return False
    gap = float(np.median(np.diff(curve.x)))
    return spike.lasts <= (max(limit, 3 * gap) if curve.unit == "step" else 5 * gap)


def _told(spike: Spike, curve: Curve) -> str:
    back = "never back" if np.isnan(spike.lasts) else f"back after {spike.lasts:,.0f} {curve.unit}s"
    return f"{spike.ratio:.3g} times {spike.before:.4g}, {back}"


def _counted(found: list[Spike]) -> str:
    return "one spike" if len(found) == 1 else f"{len(found)} spikes"


@rule("CRV007", "The loss is steady at the end")
def spreads(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the spread of the last points over their median, within noise levels or lengths where they are logged.

    A loss that draws its level anew spreads in a healthy run too, so there the median of the levels is
    judged.

    Why: where the spread hides the trend, neither the best checkpoint nor a comparison can be told.
    Fix: a larger batch or a lower rate; log a mean over many steps, and the loss by noise level or length.
    """
    limits = preset(r, limits)
    curve = learning(r, 30)
    levels = [each.name for each in r.having("loss", part="level")]
    if not levels and r.pack == "diffusion_forcing":
        return Outcome.skip(
            "the loss draws its noise level anew each step: log it by level to judge its spread"
        )
    names = levels or [curve.name]
    spread = {name: float(r.series_spread[r.series_name.index(name)]) for name in names}
    spread = {name: value for name, value in spread.items() if np.isfinite(value)}
    if not spread:
        return Outcome.skip("the last points have no median above 0, or are fewer than 30")
    start, end = start_level(curve.value), end_level(curve.value)
    if not levels and curve.from_start and end < limits.converged_level * start:
        return Outcome.ok(
            f"{curve.name} is below {limits.converged_level:.0%} of its start, where a share of it says little"
        )
    typical = float(np.median(list(spread.values())))
    said = (
        f"{listed(list(spread))} spread by {typical:.0%} of their level"
        if levels
        else f"{curve.name} spreads by {typical:.0%} of its level"
    )
    said += " in the median" if len(spread) > 1 else ""
    widest = sorted(spread, key=lambda name: -spread[name])[:NAMED]
    evidence = [
        Evidence(
            at(r, r.curves[name], len(r.curves[name]) - 1), spread[name], limits.spread_max, "of its level"
        )
        for name in widest
    ]
    if typical <= limits.spread_max:
        return Outcome.ok(f"{said} at the end", *evidence)
    return Outcome.warn(
        f"{said} at the end",
        *evidence,
        fix="a larger batch, a lower rate at the end, or a mean over more steps in each line; "
        f"log {curve.name} by noise level or sequence length where these are drawn anew",
    )
