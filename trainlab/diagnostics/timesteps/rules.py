"""What the rules of `timesteps` say: is the loss made where it should be, and for the right reason?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.timesteps.limits import TimestepsLimits
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.rules_of_frames import copies, frame_stands_out, later_frames
from trainlab.diagnostics.timesteps.rules_of_levels import index_right, listens, schedule_right, swapped
from trainlab.diagnostics.timesteps.wording import answers_zero, at_levels, failing, knows_nothing, level_name
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES"]

NAMED = 6  # offenders that are listed


@rule("TIM001", "Losses are finite")
def finite(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:  # noqa: ARG001
    """What: counts losses that are NaN or infinite, at every level and frame, in every checkpoint.

    Why: one such loss in a batch spoils the step; at one level only, it comes up once in a hundred steps and looks like chance.
    Fix: look at what is divided or rooted at the named level: a weight, a log, a variance.
    """
    bad = np.flatnonzero(r.level_nonfinite)
    if not len(bad):
        return Outcome.ok(f"all {int(r.level_count.sum()):,} losses are finite")
    evidence = [
        Evidence(f"{level_name(r)} {r.level_at[i]:.4g}", int(r.level_nonfinite[i]), 0, "losses")
        for i in bad[:NAMED]
    ]
    return Outcome.fail(
        f"{int(r.level_nonfinite.sum()):,} losses are not finite, {at_levels(r, bad)}",
        *evidence,
        fix=f"run the model at {level_name(r)} {r.level_at[bad[0]]:.4g} alone and look for the first NaN: in a division by "
        "the level, a log, or a square root",
    )


@rule("TIM002", "Both ends of the level range are well-behaved")
def ends(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the first and the last level beside their neighbours: loss, and what training weighs it by.

    Why: embeddings divide by the level, ramps by 1 minus it; continuous sampling hardly ever draws the very end, and
    sampling from the model always starts there.
    Fix: clamp the level, e.g. to [1e-4, 1 − 1e-4], or add an epsilon to the denominator.
    """
    if len(r.levels()) < 4:
        return Outcome.skip("there are too few levels to have ends")
    mean, bad, weighted = (
        r.grid("level_mean")[-1],
        r.grid("level_nonfinite")[-1],
        r.grid("level_weighted")[-1],
    )
    at, found = r.levels(), []
    for end, beside in ((0, 1), (-1, -2)):
        where = f"{level_name(r)} {at[end]:.4g}"
        ratio = mean[:, end] / np.maximum(mean[:, beside], 1e-300)
        if bad[:, end].any() and not bad[:, beside].any():
            found.append((Evidence(where, int(bad[:, end].sum()), 0, "losses not finite"), True))
        elif np.nanmax(ratio, initial=0.0) > limits.end_ratio_max:
            found.append(
                (
                    Evidence(
                        f"loss at {where} over that beside it", float(np.nanmax(ratio)), limits.end_ratio_max
                    ),
                    True,
                )
            )
        elif (
            not np.isfinite(weighted[:, end]).all()
            and np.isfinite(weighted[:, beside]).all()
            and not bad[:, end].any()
        ):
            found.append((Evidence(f"weight of the loss at {where}", float("inf")), False))
    if not found:
        return Outcome.ok(f"{level_name(r)} {at[0]:.4g} and {at[-1]:.4g} are like the levels beside them")
    outcome = Outcome.fail if any(hard for _, hard in found) else Outcome.warn
    evidence = [each for each, _ in found]
    return outcome(
        f"the end of the range breaks: {evidence[0].where}",
        *evidence,
        fix=f"look for a division by {level_name(r)} or by 1 − {level_name(r)}, in the embedding or in the loss weight: clamp it, "
        "or keep the very end out of training and sampling",
    )


@rule("TIM010", "Beats the trivial answer at each level")
def beats_trivial(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the loss at every level beside that of answering 0 or the mean, and beside what a Gaussian denoiser gains.

    Why: a low number can be no more than the mean; at high noise little can be gained, so each level has its own bar.
    Fix: where all levels fail, look at the output projection and at what the model is fed; where some do, at those.
    """
    if r.source == "log":
        return Outcome.skip("a log holds no baselines")
    last = slice(-len(r.length) * len(r.levels()), None)  # the last checkpoint's
    mean, trivial, ideal, at = r.level_mean[last], r.trivial()[last], r.level_ideal[last], r.level_at[last]
    low = mean - r.margin("level_mean")[last]
    if not np.isfinite(mean / trivial).any():
        return Outcome.skip("no trivial answer is known for this loss, or no loss is finite: see TIM001")
    possible = np.where(np.isfinite(ideal), trivial - ideal, 0.0)
    asked = possible > limits.possible_min * trivial
    bar = np.where(asked, trivial - limits.skill_min * possible, limits.excess_max * trivial)
    bar = np.where(np.isfinite(ideal), bar, trivial)
    bad = np.flatnonzero(low > bar) if np.isfinite(ideal).any() else np.flatnonzero(mean >= bar)
    evidence = [
        Evidence(f"loss at {level_name(r)} {at[i]:.4g}", float(mean[i]), float(bar[i])) for i in bad[:NAMED]
    ]
    if answers_zero(r):
        return Outcome.fail(
            "the loss is that of answering 0, at every level: the output is dead",
            *evidence,
            fix="print the last projection's weight: 0 is by design at init; later the optimizer does not hold it, or no "
            "gradient reaches it",
        )
    if not len(bad):
        near = int(np.nanargmax(mean / trivial))
        return Outcome.ok(
            f"the loss is at most {mean[near] / trivial[near]:.2g} of a trivial answer's, at {level_name(r)} {at[near]:.4g}",
            Evidence(f"loss at {level_name(r)} {at[near]:.4g}", float(mean[near]), float(bar[near])),
        )
    if knows_nothing(r):
        return Outcome.fail(
            "the loss is that of answering the mean: the model ignores its content",
            *evidence,
            fix="see that the noisy input reaches the model: follow it with trainlab's `variation`",
        )
    if len(bad) == len(mean):
        return Outcome.fail(
            "no level beats the trivial answer",
            *evidence,
            fix=f"see that the objective here, {r.objective} ({r.why}), is that of training; then that the input can tell the target",
        )
    causes = (swapped, index_right, schedule_right, listens, later_frames, frame_stands_out, copies)
    return Outcome.fail(
        f"{len(bad)} of {len(mean)} levels do not beat the trivial answer, {at_levels(r, bad)}",
        *evidence,
        fix=f"mend what {found} names: this follows from it"
        if (found := failing(r, limits, causes))
        else f"see whether training draws {level_name(r)} there at all, and with what weight",
    )


@rule("TIM011", "No noise band dominates")
def bands_share(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the share of the weighted loss that each band of levels makes, all levels drawn alike.

    Why: where one band makes nearly all of the loss, gradients of the others drown, and the scalar in the log is about it alone.
    Fix: weigh the loss by level (min-SNR, or as EDM does), or draw levels where the loss is.
    """
    if len(r.levels()) < 2 * r.bands or r.bands < 2:
        return Outcome.skip("there are too few levels for bands")
    share, bands, at = r.band_share()[-1], r.band_of(), r.levels()
    length, band = np.unravel_index(int(np.argmax(share)), share.shape)
    inside = at[bands == band]
    where = f"{level_name(r)} {inside[0]:.3g} … {inside[-1]:.3g}"
    evidence = Evidence(f"share of the loss at {where}", float(share[length, band]), limits.band_share_max)
    if share[length, band] > limits.band_share_max:
        return Outcome.warn(
            f"{share[length, band]:.0%} of the loss is made at {where}",
            evidence,
            fix="weigh the loss by level, e.g. weighting='min_snr', or draw the other levels more often",
        )
    return Outcome.ok(
        f"at most {share[length, band]:.0%} of the loss in one of {r.bands} bands, {where}", evidence
    )


@rule("TIM012", "Clips of one level lose alike")
def spread_within(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the standard deviation of clips' losses over their mean, level by level.

    Why: over all levels it is 0.9 in a healthy run, by the sampling of levels alone, so the log cannot tell. Within a
    level a large one means that few clips make the loss: outliers, broken files, a class that is not learnt.
    Fix: list the clips with the largest loss at the named level and look at them.
    """
    ratio = r.level_spread / np.where(r.level_mean > 0, r.level_mean, np.nan)
    if not np.isfinite(ratio).any():
        return Outcome.skip("no loss is finite, or there is one a level: that has no spread")
    worst = int(np.nanargmax(ratio))
    where = f"{level_name(r)} {r.level_at[worst]:.4g}"
    mean = r.grid("level_mean")[-1]
    whole = np.nanmean(mean**2 + r.grid("level_spread")[-1] ** 2) - np.nanmean(mean) ** 2
    pooled = float(np.sqrt(max(whole, 0.0)) / max(np.nanmean(mean), 1e-300))
    evidence = Evidence(f"std / mean of clips at {where}", float(ratio[worst]), limits.spread_max)
    if ratio[worst] > limits.spread_max:
        return Outcome.warn(
            f"at {where} clips differ by {ratio[worst]:.2g} of their mean loss",
            evidence,
            fix=f"look at the clips that lose the most at {where}: few of them make the loss",
        )
    return Outcome.ok(
        f"std / mean is at most {ratio[worst]:.2g} within a level ({pooled:.2g} over all of them)", evidence
    )


@rule("TIM013", "No level got worse between checkpoints")
def improves(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the loss at each level of the last checkpoint beside the one before, clip by clip under the same noise.

    Why: the scalar falls while one band gets worse: it trades one for the other.
    Fix: look at the view `change`; lower the rate, or weigh the band that got worse.
    """
    if len(r.checkpoint_name) < 2:
        return Outcome.skip("there is one checkpoint only: ckpts= names several")
    change, margin = r.change(-2, -1)
    before = r.grid("level_mean")[-2, 0]
    relative, at = change / np.where(before > 0, before, np.nan), r.levels()
    sure = np.abs(change) > margin
    bad = np.flatnonzero(sure & (relative > limits.worse_max))
    better = int((sure & (change < 0)).sum())
    if len(bad):
        worst = bad[np.argmax(relative[bad])]
        return Outcome.warn(
            f"{len(bad)} of {len(at)} levels got worse since {r.checkpoint_name[-2]}, {better} better, {at_levels(r, bad)}",
            *(
                Evidence(
                    f"{level_name(r)} {at[i]:.4g}", float(relative[i]), limits.worse_max, "of the loss before"
                )
                for i in bad[:NAMED]
            ),
            fix=f"see what changed at {level_name(r)} {at[worst]:.4g} between the two: the rate, the data, the sampling of levels",
        )
    return Outcome.ok(
        f"{better} of {len(at)} levels still improve since {r.checkpoint_name[-2]}, none got worse"
    )


@rule("TIM014", "The means are known well enough")
def precise(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the largest standard error of a level's mean, over the mean.

    Why: what differs by less than twice the error does not differ.
    Fix: more clips in the batch; more draws help only where the noise, not the clip, makes the difference.
    """
    relative = r.level_se / np.where(r.level_mean > 0, r.level_mean, np.nan)
    if not np.isfinite(relative).any():
        return Outcome.skip("no loss is finite, or there is one unit: that has no spread")
    worst = int(np.nanargmax(relative))
    limit = r.se or limits.se_max
    evidence = Evidence(
        f"standard error at {level_name(r)} {r.level_at[worst]:.4g}",
        float(relative[worst]),
        limit,
        "of the mean",
    )
    if relative[worst] > limit:
        return Outcome.warn(
            f"standard errors reach {relative[worst]:.0%} of the mean: {r.stopped}",
            evidence,
            fix=f"give more than {r.clips} clips" if r.unit == "clip" else "give more than one clip",
        )
    return Outcome.ok(f"standard errors are at most {relative[worst]:.1%} of the mean", evidence)


RULES = (
    finite, ends, swapped, index_right, schedule_right, listens, later_frames, frame_stands_out, copies, beats_trivial,
    bands_share, spread_within, improves, precise,
)  # fmt: skip
