"""Did the run go as it was meant to: to its end, at its speed, and as it says? Rules CRV016 to CRV020."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.signals import level, smooth
from trainlab.diagnostics.curves.speed import speed
from trainlab.diagnostics.curves.telling import NAMED, at, listed, named, preset, share
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["adds_up", "finished", "quiet", "slowing", "steady", "stopped"]

ENDS = ("oom", "killed", "traceback", "error")
# how often a count may differ by a whole factor: devices and accumulated steps
_FACTORS = tuple(sorted(k * 2**n for k in (1, 3, 5) for n in range(9)))
_SAMPLES = re.compile(r"(?:^|[/_ ])(?:consumed[_ ])?(samples|clips|images|sequences)$", re.IGNORECASE)
_PER_SECOND = re.compile(r"(samples|clips|images|imgs?|sequences)[_ ]?(?:/|per)[_ ]?s", re.IGNORECASE)


@rule("CRV016", "An early stop came after the last improvement")
def stopped(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: early stops that came while the run still improved, or while a scheduled weight was on its way.

    Improvement is that of validation, else of the training loss, by `improving_min` in the last fifth.

    Why: a patience shorter than the noise, or than a schedule, ends a run that would have gone on to learn.
    Fix: a longer patience, a smaller least improvement, or no early stop before the schedules end.
    """
    limits = preset(r, limits)
    rows = r.events("early_stop")
    if not rows:
        return Outcome.skip("no early stop in the log")
    row = rows[-1]
    step = float(r.event_step[row])
    step = step if np.isfinite(step) else r.last_step
    total = r.claim("total_steps")
    when = f"at {share(step / total)} of {total:,.0f} steps" if total > 0 else f"at step {step:,.0f}"
    said = Evidence(f"{r.event_text[row]} ({r.place(int(r.event_line[row]))})", None)
    curve = r.curves.get(r.validation) or r.loss
    gained = _gained(curve) if curve is not None and len(curve.finite) >= 5 else 0.0
    moving = [
        c.name
        for c in r.having("weight")
        if _moves(c) and any(re.search(e, c.name, re.IGNORECASE) for e in r.expected_name)
    ]
    if gained > limits.improving_min and curve is not None:
        return Outcome.warn(
            f"stopped early {when}, while {curve.name} still improved by {share(gained)} in the last fifth",
            said,
            Evidence(f"{curve.name}: improvement", gained, limits.improving_min),
            fix="a longer patience or a smaller min_delta; go on from the last checkpoint",
        )
    if moving:
        return Outcome.warn(
            f"stopped early {when}, while {listed(moving)} was still on its way",
            said,
            fix="no early stop before the schedules end: count patience from there",
        )
    return Outcome.ok(f"stopped early {when}, no longer improving", said)


def _gained(curve: Curve) -> float:
    levels = smooth(curve.finite.value)
    cut = max(1, int(0.8 * len(levels)))
    before, after = float(levels[:cut].min()), float(levels[cut:].min()) if cut < len(levels) else np.nan
    return (before - after) / abs(before) if before else 0.0


def _moves(curve: Curve) -> bool:
    value = curve.finite.value
    if len(value) < 5:
        return False
    tail = value[-max(3, len(value) // 5) :]
    return bool(abs(tail[-1] - tail[0]) > 0.02 * max(float(np.abs(value).max()), 1e-12))


@rule("CRV017", "The run went to its end")
def finished(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the last step against what the log claims there will be, lines of completion, and errors at the end.

    Why: a run that was killed looks like one that is done in every table of last values.
    Fix: see the last lines of the file; resume from the last checkpoint.
    """
    limits = preset(r, limits)
    last_line = int(r.point_line.max())
    bad = [row for row in r.events(*ENDS) if r.event_line[row] >= last_line]
    done, total, unit = _done(r)
    told = (
        f"{unit} {done:,.0f} of {total:,.0f} ({share(done / total)})" if total > 0 else f"{unit} {done:,.0f}"
    )
    ended = r.events("completed")
    if ended:
        return Outcome.ok(f"{told}; {r.event_text[ended[-1]]!r}")
    if bad:
        first = bad[0]
        return Outcome.fail(
            f"ended by an error at {told}",
            *(
                Evidence(f"{r.event_text[row]} ({r.place(int(r.event_line[row]))})", None)
                for row in bad[:NAMED]
            ),
            fix=f"see {r.place(int(r.event_line[first]))}, and resume from the last checkpoint",
        )
    if r.events("early_stop"):
        return Outcome.ok(f"stopped early at {told}: see CRV016")
    if not total > 0:
        return Outcome.skip(f"the log does not say how many {unit}s there were to be; it ends at {told}")
    if done >= limits.finished_min * total or done + 1 >= total:
        return Outcome.ok(told)
    return Outcome.warn(
        f"the log ends at {told}, without a line that says why",
        Evidence(r.place(last_line), done, total, f"{unit}s"),
        fix="it still runs, or was killed: see the scheduler's record and the last lines of its stderr, and resume from the "
        "last checkpoint",
    )


def _done(r: CurvesResult) -> tuple[float, float, str]:
    """The furthest step, how many there were to be, and in what they are counted; epochs where the log tells no steps."""
    for unit, column in (("step", r.point_step), ("epoch", r.point_epoch)):
        known = column[np.isfinite(column)]
        total = r.claim(f"total_{unit}s")
        if len(known) and (total > 0 or (unit == "step" and not r.claim("total_epochs") > 0)):
            return float(known.max()), total, unit
    return r.last_step, np.nan, "step" if np.isfinite(r.point_step).any() else "point"


@rule("CRV018", "The speed stays")
def steady(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the median speed of the last quarter of the run against the first.

    Single slow steps, as for an evaluation, do not count.

    Why: a run that slows by a third costs a third more; a leak, a full disk or a throttled device goes on
    getting worse.
    Fix: see memory, data loading and device clocks at the step named; lists of tensors that grow are the
    usual leak.
    """
    limits = preset(r, limits)
    curve = speed(r)
    if curve is None or len(curve) < 10:
        return Outcome.skip("the log tells no time for 20 points")
    begin, end = _ends(curve)
    drop = 1 - end / begin if begin > 0 else 0.0
    if drop <= limits.throughput_drop_max:
        word = "slower" if drop > 0 else "faster"
        return Outcome.ok(
            f"{curve.name}: {begin:.4g} at first, {end:.4g} at the end, {share(abs(drop))} {word}"
        )
    i = slowing(curve, limits)
    return Outcome.warn(
        f"{curve.name} fell by {share(drop)}, from {begin:.4g} to {end:.4g}, first at {named(curve, curve.x[i])}",
        Evidence(at(r, curve, i), float(curve.value[i]), begin * (1 - limits.throughput_drop_max)),
        Evidence("loss of speed", drop, limits.throughput_drop_max),
        fix=f"see memory, data loading and clocks of the device around {named(curve, curve.x[i])}; other jobs on the machine, a "
        "cache that filled up, and lists of tensors that grow are the usual causes",
    )


def _ends(curve: Curve) -> tuple[float, float]:
    """The median speed of the first quarter, without the first twentieth that warms up, and of the last."""
    count = len(curve)
    return level(curve.value[count // 20 : max(count // 4, count // 20 + 3)]), level(
        curve.value[-max(3, count // 4) :]
    )


def slowing(curve: Curve, limits: CurvesLimits) -> int:
    """Where the speed falls below its limit for good."""
    begin, _ = _ends(curve)
    fast = np.flatnonzero(smooth(curve.value, 9) >= begin * (1 - limits.throughput_drop_max))
    return min(int(fast[-1]) + 1, len(curve) - 1) if len(fast) else 0


@rule("CRV019", "The log says more than it repeats")
def quiet(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the share of lines that repeat, but for their numbers, and hold no point of any series.

    Lines that a carriage return overwrote count.

    Why: 900 000 lines hide the one that matters, fill the disk, and slow the run that prints them.
    Fix: print every hundredth; give tqdm mininterval=30 or disable it where there is no terminal; silence the
    warning named.
    """
    limits = preset(r, limits)
    if not r.lines:
        return Outcome.skip("not a text log, or its lines were not counted")
    idle = [i for i in range(len(r.template_text)) if not r.template_metric[i] and r.template_lines[i] >= 20]
    lines, size = int(r.template_lines[idle].sum()), int(r.template_bytes[idle].sum())
    part = lines / r.lines
    text = f"{lines:,} of {r.lines:,} lines ({share(part)}), {_bytes(size)} of {_bytes(r.bytes)}, repeat and hold no point"
    if part <= limits.spam_share_max or lines < limits.spam_lines_min:
        return Outcome.ok(text)
    return Outcome.warn(
        text,
        *(
            Evidence(
                f"{r.template_text[i]!r} (first {r.place(int(r.template_first[i]))})",
                float(r.template_lines[i] / r.lines),
                None,
                f"of the lines: {int(r.template_lines[i]):,}, {_bytes(int(r.template_bytes[i]))}",
            )
            for i in idle[:NAMED]
        ),
        fix=f"silence {r.template_text[idle[0]][:60]!r}: print every hundredth, tqdm(mininterval=30), or a warning filter",
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB" if size >= 1e5 else f"{size / 1e3:.3g} kB"


class Claim(NamedTuple):
    """Two ways to one number."""

    what: str
    said: float
    found: float
    unit: str
    factors: bool  # devices and accumulated steps may lie between
    cap: bool = False  # what is said may be less: the run ends at whichever comes first


@rule("CRV020", "What the log claims adds up")
def adds_up(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: two ways to one number: steps of an epoch, of the run, samples per second, time to the end.

    Epochs × steps per epoch against the total; data set ÷ batch against the steps of an epoch; samples per
    second against counted samples and the clock. Whole factors that devices or accumulated steps explain are
    let pass.

    Why: a total that does not fit its epochs stretches every schedule that is computed from it.
    Fix: recompute the total from the length of the loader, after sharding and accumulation.
    """
    limits = preset(r, limits)
    claims = _claims(r)
    if not claims:
        return Outcome.skip("the log makes no two claims about one number")
    off = [each for each in claims if _wrong(each, limits.claim_error_max)]
    if not off:
        return Outcome.ok(
            "; ".join(f"{each.what}: {each.said:,.6g} and {each.found:,.6g}" for each in claims)
        )
    first = off[0]
    return Outcome.warn(
        f"{first.what}: {first.said:,.6g} is said, {first.found:,.6g} found",
        *(Evidence(each.what, each.said, each.found, each.unit) for each in off),
        fix="recompute it from len(loader) after sharding and accumulation, and see which schedules were made from the wrong one",
    )


def _wrong(claim: Claim, error: float) -> bool:
    ratio = claim.said / claim.found
    if abs(ratio - 1) <= error or (claim.cap and ratio < 1):
        return False
    return not (
        claim.factors and any(abs(each / k - 1) <= 0.02 for each in (ratio, 1 / ratio) for k in _FACTORS)
    )


def _claims(r: CurvesResult) -> list[Claim]:
    epochs, total, each = r.claim("total_epochs"), r.claim("total_steps"), r.claim("steps_per_epoch")
    data, batch = r.claim("dataset_size"), r.claim("batch_size")
    found = [
        Claim("total steps, and epochs × steps per epoch", total, epochs * each, "steps", factors=True),
        Claim("steps per epoch, and data set ÷ batch", each, np.ceil(data / batch), "steps", factors=True),
    ]
    if not each > 0:
        found.append(
            Claim(
                "total steps, and epochs × data set ÷ batch",
                total,
                epochs * np.ceil(data / batch),
                "steps",
                factors=True,
                cap=True,
            )
        )
    slope = _steps_per_epoch(r)
    found.append(Claim("steps per epoch, and those counted", each, slope, "steps", factors=True))
    if not each > 0 and epochs > 0:
        found.append(
            Claim(
                "total steps ÷ epochs, and those counted in an epoch",
                total / epochs,
                slope,
                "steps",
                factors=True,
                cap=True,
            )
        )
    found += [*_samples(r), *_remaining(r)]
    return [
        claim
        for claim in found
        if claim.said > 0 and claim.found > 0 and np.isfinite([claim.said, claim.found]).all()
    ]


def _steps_per_epoch(r: CurvesResult) -> float:
    """Steps between two points over the epochs between them, where the log tells fractions or many epochs."""
    curve = r.loss or r.curves.get(r.validation)
    if curve is None or curve.unit != "step" or not np.isfinite(curve.epoch).all() or len(curve) < 3:
        return np.nan
    epochs = float(curve.epoch[-1] - curve.epoch[0])
    return float(curve.x[-1] - curve.x[0]) / epochs if epochs >= 10 else np.nan


def _samples(r: CurvesResult) -> list[Claim]:
    """Samples per second as the log says, and as its own counter and clock make it."""
    said = [
        each.finite
        for each in r.having("throughput")
        if _PER_SECOND.search(each.name) and len(each.finite) >= 5
    ]
    if not said:
        return []
    rate = level(said[0].value)
    for each in r.curves.values():
        good = each.finite
        if (
            _SAMPLES.search(each.name)
            and len(good) >= 5
            and np.isfinite(good.time).all()
            and good.time[-1] > good.time[0]
        ):
            counted = float((good.value[-1] - good.value[0]) / (good.time[-1] - good.time[0]))
            return [
                Claim(
                    f"{said[0].name}, and samples counted over time",
                    rate,
                    counted,
                    "per second",
                    factors=False,
                )
            ]
    clock = speed(r)
    if clock is not None and clock.name == "steps per second":
        made = level(clock.value) * r.claim("batch_size")
        return [
            Claim(f"{said[0].name}, and steps per second × batch", rate, made, "per second", factors=True)
        ]
    return []


def _remaining(r: CurvesResult) -> list[Claim]:
    """The time to the end as it was estimated in the middle of a run that went to its end, and as it was."""
    done, total, _ = _done(r)
    for each in r.having("time"):
        good = each.finite
        if (
            not re.search(r"\beta|eta_", each.name, re.IGNORECASE)
            or len(good) < 10
            or not np.isfinite(good.time).all()
        ):
            continue
        middle = len(good) // 2
        left = float(good.time[-1] - good.time[middle])
        estimate = float(good.value[middle] - good.value[-1])
        if (
            total > 0 and done + 1 >= 0.99 * total and abs(estimate / left - 1) > 0.5
        ):  # an estimate may be rough
            return [
                Claim(f"{each.name} in the middle, and the time it took", estimate, left, "s", factors=False)
            ]
    return []
