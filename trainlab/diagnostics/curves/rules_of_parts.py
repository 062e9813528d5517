"""Do the parts of the loss, the weights on them and the perplexity agree? Rules CRV012 to CRV015."""

from __future__ import annotations

import re

import numpy as np

from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.signals import level, start_level
from trainlab.diagnostics.curves.telling import NAMED, at, listed, named, preset, share
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["balanced", "components", "perplexed", "present", "shares", "vanishing", "weighted"]

_CODEBOOK = re.compile(
    r"prob|code|vq|quant|cluster|usage", re.IGNORECASE
)  # a perplexity of codes, not of a loss


def components(r: CurvesResult) -> list[Curve]:
    """The parts of the training loss that have 5 finite points or more."""
    return [each for each in r.having("loss", part="component") if len(each.finite) >= 5]


@rule("CRV012", "Every part of the loss stays alive")
def present(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: parts of the loss that become zero, collapse at once, or are no longer logged; and zeros now and then.

    At once is by `vanish_factor` between two points. A penalty that fades slowly may.

    Why: what has vanished trains nothing, and the total looks better for it.
    Fix: see the mask, the weight and the target of that part at the step named; a batch without targets gives
    zero.
    """
    limits = preset(r, limits)
    if not r.progress_told:
        return Outcome.skip(f"in {r.pack} training a part may be zero")
    parts = components(r) + [
        each for each in r.having("loss") if each.name == r.main and len(each.finite) >= 5
    ]
    if not parts:
        return Outcome.skip("the log has no training loss")
    gone = [(each, *found) for each in parts if (found := vanishing(r, each, limits)) is not None]
    if gone:
        curve, i, before, why = gone[0]
        others = [each.name for each, *_ in gone[1:]]
        also = f"; so do {listed(others)}" if others else ""
        return Outcome.fail(
            f"{curve.name} {why} after {named(curve, curve.x[i])}, from {before:.4g}{also}",
            *(
                Evidence(at(r, c, j), float(c.value[j]), None, f"{why}; {was:.4g} before")
                for c, j, was, why in gone[:NAMED]
            ),
            fix=f"look at what {curve.name} is computed from at {named(curve, curve.x[i])}: its mask, target and weight; "
            "log it before it is weighted",
        )
    rows = {each.name: r.series_name.index(each.name) for each in parts}
    zero = {name: float(r.series_zero[row] / r.series_count[row]) for name, row in rows.items()}
    often = [name for name in zero if zero[name] > limits.zero_share_max and r.series_count[rows[name]] >= 20]
    if often:
        worst = max(often, key=lambda name: zero[name])
        curve = r.curves[worst]
        first = int(np.argmax(curve.low == 0))
        return Outcome.warn(
            f"{worst} is exactly 0 in {int(r.series_zero[rows[worst]])} of {int(r.series_count[rows[worst]])} points",
            Evidence(at(r, curve, first), 0.0, None, "first"),
            *(
                Evidence(name, zero[name], limits.zero_share_max, "of its points are 0")
                for name in often[:NAMED]
            ),
            fix="look at the batches of such steps: no targets, all filtered out, or all masked",
        )
    return Outcome.ok(f"{len(parts)} losses, all above zero to the end")


def vanishing(r: CurvesResult, curve: Curve, limits: CurvesLimits) -> tuple[int, float, str] | None:
    """The last point at which a loss was alive, its level until then, and what became of it."""
    good = curve.finite
    size = np.abs(good.value)
    alive = np.flatnonzero(size > 0)
    if not len(alive):
        return None
    last = int(alive[-1])
    dead = len(good) - 1 - last
    if dead >= 5 and dead >= 0.1 * len(good):
        return last, level(good.value[max(0, last - 4) : last + 1]), "is 0"
    end = r.last_step if curve.unit == "step" else float(curve.x[-1])
    gap = float(np.median(np.diff(good.x))) if len(good) > 1 else 0.0
    if curve.part and end - good.x[-1] > max(0.5 * end, 20 * gap):
        return len(good) - 1, level(good.value[-5:]), "is no longer logged"
    for i in range(1, len(size) - 4):
        before = level(size[max(0, i - 3) : i])
        if (
            before > limits.vanish_factor * level(size[i : i + 5])
            and size[i:].max() * limits.vanish_factor < before
        ):
            return i - 1, before, f"falls to {level(good.value[i:]):.3g} at once"
    return None


def shares(r: CurvesResult) -> dict[str, tuple[float, float, float]]:
    """Of each component the median, the 5 % and the 95 % quantile over the last half of its points that are not zero."""
    found = {}
    for each in components(r):
        alive = each.finite.where(each.finite.value != 0)
        half = alive.where(np.arange(len(alive)) >= len(alive) // 2)
        if len(half):
            edges = float(np.quantile(half.low, 0.05)), float(np.quantile(half.high, 0.95))
            found[each.name] = (level(half.value), *edges)
    return found


@rule("CRV013", "The parts of the loss are of one scale")
def balanced(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the parts of the loss beside each other, and beside the bands that were given for them.

    Each counts with its median over the last half of its points that are not zero; the pack may limit the
    largest over the smallest.

    Why: where one part is 100 times another, the optimizer sees that part alone, whatever was meant.
    Fix: weight each part by the inverse of its typical value, or normalise it; then watch the shares.
    """
    limits = preset(r, limits)
    sizes = shares(r)
    outside = _outside(r)
    total = sum(abs(middle) for middle, _, _ in sizes.values())
    told = {
        name: f"{low:.4g}–{high:.4g}, {share(abs(middle) / total)} of their sum"
        if total
        else f"{low:.4g}–{high:.4g}"
        for name, (middle, low, high) in sizes.items()
    }
    if outside:
        curve, value, low, high = outside[0]
        also = f"; so are {listed([each.name for each, *_ in outside[1:]])}" if len(outside) > 1 else ""
        return Outcome.warn(
            f"{curve.name} is {value:.4g}, outside its band from {low:g} to {high:g}{also}",
            *(
                Evidence(at(r, c, len(c) - 1), v, f"{a:g} to {b:g}", told.get(c.name, ""))
                for c, v, a, b in outside[:NAMED]
            ),
            fix=f"multiply {curve.name} by about {(low + high) / 2 / value:.2g} if it is a matter of weight; else see its inputs",
        )
    if len(sizes) < 2:
        return Outcome.skip("the log has fewer than two parts of a loss, and no band was given")
    large = max(sizes, key=lambda name: abs(sizes[name][0]))
    small = min(_lasting(r, sizes) or sizes, key=lambda name: abs(sizes[name][0]))
    ratio = abs(sizes[large][0] / sizes[small][0])
    text = f"{large} is {ratio:.3g} times {small}"
    evidence = [
        Evidence(name, sizes[name][0], None, told[name])
        for name in sorted(sizes, key=lambda n: -abs(sizes[n][0]))
    ]
    bound = limits.component_ratio_max
    if bound is None or ratio <= bound:
        aside = "" if bound is not None else "; judge(r, component_ratio_max=10) sets a limit"
        return Outcome.ok(text + aside, *evidence[:NAMED])
    return Outcome.warn(
        f"{text} (limit {bound:g})",
        *evidence[:NAMED],
        fix=f"weight them by the inverse of their size: {large} by about {1 / ratio:.2g} of the weight of {small}",
    )


def _lasting(r: CurvesResult, sizes: dict[str, tuple[float, float, float]]) -> list[str]:
    """Parts that have not faded to a tenth of their start: one that is learned, or a penalty that is met, may be small."""
    start = {name: abs(start_level(r.curves[name].finite.value)) for name in sizes}
    return [name for name, (middle, _, _) in sizes.items() if abs(middle) > 0.1 * start[name]]


def _outside(r: CurvesResult) -> list[tuple[Curve, float, float, float]]:
    found = []
    for row in np.flatnonzero(np.isnan(r.expected_progress)):
        for curve in r.curves.values():
            good = curve.finite
            if len(good) and re.search(r.expected_name[row], curve.name, re.IGNORECASE):
                value = level(good.value[len(good) // 2 :])
                if not r.expected_low[row] <= value <= r.expected_high[row]:
                    found.append((curve, value, float(r.expected_low[row]), float(r.expected_high[row])))
    return found


@rule("CRV014", "Scheduled weights are where they should be")
def weighted(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: weights of a known schedule against the value that the progress of the run calls for.

    The schedule is the pack's, or given by `schedules`.

    Why: a curriculum that is counted in other units than it is stepped in lags behind without any error, and
    the run ends before its second half begins.
    Fix: compute the progress from the optimizer step and the true total; print the weight at 0, 50 and 100 %.
    """
    limits = preset(r, limits)
    looked = []
    for name in dict.fromkeys(r.expected_name):
        rows = [
            i
            for i, each in enumerate(r.expected_name)
            if each == name and np.isfinite(r.expected_progress[i])
        ]
        for curve in r.curves.values():
            good = curve.finite
            if (
                rows
                and len(good)
                and curve.role in ("weight", "metric", "scale")
                and re.search(name, curve.name, re.IGNORECASE)
            ):
                looked.append((good, r.expected_progress[rows], r.expected_low[rows]))
    if not looked:
        return Outcome.skip(
            "nothing is expected of a weight: schedules={'curriculum_weight': {0: 0, 1: 1}} says what should be"
        )
    said = []
    for curve, places, values in looked:
        progress = np.array([r.progress(float(x), curve.unit) for x in curve.x])
        meant = np.interp(progress, places, values)
        extent = float(values.max() - values.min()) or max(abs(float(values[0])), 1e-12)
        off = np.abs(curve.value - meant) / extent
        i = len(off) - 1 if off[-1] > limits.weight_error_max else int(np.argmax(off))
        if off[i] > limits.weight_error_max:
            first = int(np.argmax(off > limits.weight_error_max))
            return Outcome.fail(
                f"{curve.name} is {curve.value[i]:.4g} at {share(progress[i])} of the run where {meant[i]:.3g} is meant",
                Evidence(at(r, curve, i), float(curve.value[i]), float(meant[i])),
                Evidence(at(r, curve, first), float(curve.value[first]), float(meant[first])),
                fix="compute its progress from the optimizer step and the true total of steps; print it at 0, 50 and 100 %",
            )
        said.append(f"{curve.name} is {curve.value[-1]:.4g} at {share(progress[-1])}")
    return Outcome.ok("; ".join(said))


@rule("CRV015", "The perplexity is the exponential of the loss")
def perplexed(r: CurvesResult, limits: CurvesLimits) -> Outcome:
    """What: the logarithm of the perplexity against the losses at the same steps, to base e and 2; and clamps.

    A perplexity that is exactly the exponential of a whole number is clamped.

    Why: a clamped perplexity looks like a number and says nothing; one of another loss is mistaken for
    quality.
    Fix: compute it as exp of the mean cross-entropy in nats, of the language loss alone, without min().
    """
    limits = preset(r, limits)
    looked = [
        c.finite
        for c in r.having("perplexity")
        if len(c.finite) and not _CODEBOOK.search(c.name) and c.finite.value.max() > 0
    ]
    if not looked:
        return Outcome.skip("the log has no perplexity")
    said = []
    for curve in looked:
        log = np.log(np.maximum(curve.value, 1e-300))
        whole = np.round(log)
        # as many digits as a log prints: exp(20) is 485165195, or 4.852e+08
        clamped = (np.abs(curve.value / np.exp(whole) - 1) < 2e-4) & (whole >= 5)
        same = clamped & (curve.value == np.median(curve.value[clamped])) if clamped.any() else clamped
        if same.sum() >= max(2, 0.05 * len(curve)):
            i = int(np.argmax(same))
            return Outcome.fail(
                f"{curve.name} is {curve.value[i]:,.0f} in {share(same.mean())} of its points: exactly exp({whole[i]:.0f}), a clamp",
                Evidence(at(r, curve, i), float(curve.value[i]), None, f"= exp({whole[i]:.0f})"),
                fix=f"find min(loss, {whole[i]:.0f}) or clamp(max={whole[i]:.0f}) in front of exp(); the loss behind it is above {whole[i]:.0f}",
            )
        pairs = _paired(r, curve)
        if not pairs:
            continue
        off, name, i, expected, base = min(
            (_off(curve, log, other, base, limits) for other in pairs for base in (np.e, 2.0)),
            key=lambda each: each[0],
        )
        if off > limits.perplexity_error_max:
            return Outcome.warn(
                f"{curve.name} is {curve.value[i]:.4g} where exp({name}) is {expected:.4g}",
                Evidence(
                    at(r, curve, i),
                    float(np.log(max(curve.value[i], 1e-300))),
                    float(np.log(max(expected, 1e-300))),
                    "nats",
                ),
                fix=f"compute it from the mean cross-entropy of the same batches as {name}; smoothing, extra loss terms and other "
                "averaging make it another number",
            )
        said.append(f"{curve.name} is {'exp' if base == np.e else 'exp2'}({name})")
    return Outcome.ok("; ".join(said)) if said else Outcome.skip("no loss stands beside the perplexity")


def _paired(r: CurvesResult, curve: Curve) -> list[Curve]:
    """Losses of the same split that have points at the same steps, all of which may be the one it was computed from."""
    losses = [each.finite for each in r.having("loss") if each.part != "level"]
    near = [each for each in losses if each.split == curve.split] or [
        each for each in losses if not each.split or not curve.split
    ]
    return [each for each in near if len(np.intersect1d(each.x, curve.x)) >= max(2, len(curve) // 4)]


def _off(
    curve: Curve, log: np.ndarray, loss: Curve, base: float, limits: CurvesLimits
) -> tuple[float, str, int, float, float]:
    """The median distance in nats from what this loss would give; the loss, the point farthest off, what it should be, the base."""
    _, mine, theirs = np.intersect1d(curve.x, loss.x, return_indices=True)
    nats = loss.value[theirs] * np.log(base)
    gap = log[mine] - nats
    # the mean of exponentials is above the exponential of the mean
    away = np.where(gap > 0, np.maximum(gap - limits.perplexity_jensen_max, 0), -gap)
    if np.median(np.abs(gap)) <= limits.perplexity_error_max:
        away = np.abs(gap)
    worst = int(np.argmax(away))
    return float(np.median(away)), loss.name, int(mine[worst]), float(np.exp(min(nats[worst], 700.0))), base
