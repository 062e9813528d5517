"""Are all frames as hard as they should be, and does each get its own answer?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.timesteps.limits import TimestepsLimits
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.wording import failing
from trainlab.finding import Evidence, Outcome, rule
from trainlab.student import student

__all__ = ["copies", "frame_stands_out", "later_frames"]

NAMED = 6  # offenders that are listed


@rule("TIM007", "Later frames are no harder than the first")
def later_frames(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the median of the last third of the frames or positions over the first, within clips of one length.

    Why: later frames have more of a past to look at; where they are harder, training did not reach them: a mask, padding,
    positions beyond those that were trained, errors that add up.
    Fix: see what the loss mask and the positions do to the named frames.
    """
    if r.frames < 3:
        return Outcome.skip("there are fewer than three frames")
    if found := failing(r, limits, (copies,)):
        return Outcome.skip(f"frames are answered with their neighbours: see {found}")
    worst, evidence = 0.0, None
    for place, length in enumerate(r.length):
        relative = r.grid("frame_relative")[-1, place]
        relative = relative[np.isfinite(relative)]
        if len(relative) < 3:
            continue
        ratio = float(np.median(relative[-max(len(relative) // 3, 1) :]) / relative[0])
        if ratio > worst:
            which = f" of clips of length {length}" if len(r.length) > 1 else ""
            worst, first = ratio, len(relative) - max(len(relative) // 3, 1)
            evidence = Evidence(
                f"frames {first} … {len(relative) - 1}{which}, over frame 0", ratio, limits.later_ratio_max
            )
    if evidence is None:
        return Outcome.skip("no loss of a frame is finite and above 0")
    if worst > limits.later_ratio_max:
        return Outcome.fail(
            f"later frames are {worst:.2g} times as hard as the first",
            evidence,
            fix=f"see that {evidence.where.split(',')[0]} count in the training loss, are not padding, and have positions that were trained",
        )
    return Outcome.ok(f"later frames lose {worst:.2g} of what the first does", evidence)


@rule("TIM008", "No frame stands out")
def frame_stands_out(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: each frame's loss over that of the median frame, level by level, within clips of one length.

    Why: one frame that is harder than its neighbours is an index, a mask or a file at fault, not the world.
    Fix: look at the target and the mask of the named frame.
    """
    if r.frames < 3:
        return Outcome.skip("there are fewer than three frames")
    relative = r.grid("frame_relative")[-1]
    if not np.isfinite(relative).any():
        return Outcome.skip("no loss of a frame is finite and above 0")
    which, worst = np.unravel_index(int(np.nanargmax(relative)), relative.shape)
    mean, margin = r.grid("frame_mean")[-1], r.grid("frame_se")[-1] * student(r.level_units.max() - 1)
    surely = relative * (
        1 - np.nan_to_num(margin / np.where(mean > 0, mean, np.nan))
    )  # of many positions, some are by chance
    bad = np.argwhere(surely > limits.frame_ratio_max)
    # half of the frames are no exception: that is for TIM007
    alone = [
        (i, f)
        for i, f in bad
        if (relative[i] > limits.frame_ratio_max).sum() <= np.isfinite(relative[i]).sum() / 3
    ]
    evidence = [
        Evidence(
            f"frame {f}{_length(r, i)}, over the median frame", float(relative[i, f]), limits.frame_ratio_max
        )
        for i, f in alone[:NAMED]
    ]
    if alone:
        names = ", ".join(str(f) for f in sorted({int(f) for _, f in alone})[:NAMED])
        return Outcome.fail(
            f"frame {names} stands out: {relative[which, worst]:.3g} times as hard as the median frame",
            *evidence,
            fix=f"look at what the loader puts into frame {names}, and at its target and mask",
        )
    near = Evidence(
        f"frame {worst}{_length(r, int(which))}, over the median frame",
        float(relative[which, worst]),
        limits.frame_ratio_max,
    )
    return Outcome.ok(
        f"frame {worst} is the hardest, {relative[which, worst]:.2g} times the median frame", near
    )


@rule("TIM009", "Answers its own frame, not its neighbour")
def copies(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: how far the predicted clean frame is from its own truth and from the frame before, at the cleanest third of levels.

    Why: a target that is shifted by one, or a past that is always clean, teaches a model to hand its neighbour on; the loss
    looks low, since neighbours are alike.
    Fix: compare the indices of input and target; see that training also has noisy neighbours.
    """
    own, previous, copy = (r.grid(name)[-1] for name in ("level_own", "level_previous", "level_copy"))
    if not (np.isfinite(own).any() and np.isfinite(previous).any()):
        return Outcome.skip("there are no frames whose predictions could be compared with their neighbours")
    clean = slice(0, max(own.shape[1] // 3, 1))
    near, far = float(np.nanmean(own[:, clean])), float(np.nanmean(previous[:, clean]))
    ratio = near / max(far, 1e-300)
    evidence = Evidence(
        "distance from its own frame over that from the one before", ratio, limits.neighbour_ratio_max
    )
    if ratio > limits.neighbour_ratio_max:
        return Outcome.fail(
            f"the model answers with its neighbour: predictions lie nearer to the frame before ({far:.3g}) than to their own ({near:.3g})",
            evidence,
            fix="see that target[:, i] belongs to input[:, i]: one of them is shifted; or that frames before are not always clean",
        )
    if r.objective == "next_frame" and near > np.nanmean(copy):
        return Outcome.warn(
            f"copying the frame before would lose less: {np.nanmean(copy):.3g}, the model {near:.3g}",
            Evidence("loss", near, float(np.nanmean(copy))),
            fix="train longer, or predict the difference from the frame before",
        )
    return Outcome.ok(
        f"predictions are {ratio:.2g} times as far from their own frame as from the one before",
        evidence,
    )


def _length(r: TimestepsResult, place: int) -> str:
    return f" of clips of length {r.length[place]}" if len(r.length) > 1 else ""
