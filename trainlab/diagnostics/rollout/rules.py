"""What the rules of `rollout` say: is every predicted frame right, sharp, and one movement with those before it?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.rollout.limits import RolloutLimits
from trainlab.diagnostics.rollout.result import RolloutResult
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES", "frozen"]

NAMED = 6  # frames that are listed
DIFFUSION = "diffusion"
NOTHING = "no predicted frame is finite: see ROL001"


@rule("ROL001", "Every frame is finite")
def finite(r: RolloutResult, limits: RolloutLimits) -> Outcome:  # noqa: ARG001
    """What: counts NaN and Inf in every predicted frame.

    Why: one NaN in a frame is in all that are predicted from it.
    Fix: look at what the model is given for the first broken frame: noise at level 1, a clip longer than in training.
    """
    bad = np.flatnonzero(r.frame_nonfinite)
    if not len(bad):
        return Outcome.ok(
            f"{r.horizon} frames of {r.clips} clips ({r.video}), by {r.method} ({r.method_reason})"
        )
    first = bad[0]
    return Outcome.fail(
        f"from frame {_ahead(r, first)} on, the prediction is not finite",
        *(Evidence(f"frame {_ahead(r, i)}", int(r.frame_nonfinite[i]), 0, "NaN or Inf") for i in bad[:NAMED]),
        fix=f"call {r.model_name} on the frames before {_ahead(r, first)} alone: "
        + (
            "the very first answer is broken, so see VAR001 and the weights (WGT001)"
            if first == 0
            else "its answers grow with each frame that is fed back, so clamp what is fed back, or train on its own frames"
        ),
    )


@rule("ROL002", "PSNR holds in every frame")
def faithful(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: the peak signal-to-noise ratio of every predicted frame, over all clips.

    Why: below 15 dB a frame has the layout of the truth at best.
    Fix: where the first frame is low already, the model or its sampling is wrong; where it sinks frame by frame, errors
    feed on themselves: train on predicted frames, or predict fewer.
    """
    known = _known(r.frame_psnr)
    if not len(known):
        return Outcome.skip(NOTHING)
    bad = [i for i in known if r.frame_psnr[i] < limits.psnr_min]
    if not bad:
        worst = known[np.argmin(r.frame_psnr[known])]
        return Outcome.ok(
            f"lowest {r.frame_psnr[worst]:.1f} dB, at frame {_ahead(r, worst)}",
            _evidence(r, "frame_psnr", worst, limits.psnr_min, "dB"),
        )
    start = (
        f"the first frame is there already: see that {r.method} is how {r.model_name} was trained to be used"
        if bad[0] == 0
        else f"frames up to {_ahead(r, bad[0] - 1)} hold: train on rollouts of {r.horizon} frames, or predict {bad[0]} in one go"
    )
    if r.method.startswith(DIFFUSION) and r.steps > 1:
        start += "; a frame that is drawn lies up to 3 dB below the mean of all that may come (steps=1), which is blurred"
    lowest = min(bad, key=lambda i: float(r.frame_psnr[i]))
    return Outcome.fail(
        f"{len(bad)} of {len(known)} frames lie below {limits.psnr_min:g} dB, from {_ahead(r, bad[0])} on; the lowest is "
        f"{r.frame_psnr[lowest]:.1f} dB",
        *_evidences(r, "frame_psnr", bad, limits.psnr_min, "dB"),
        fix=f"{start}; values are taken to go from {r.low:g} to {r.high:g} ({r.range_reason})",
    )


@rule("ROL003", "Beats copying the last frame")
def beats_copy(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: PSNR beside that of repeating the last frame of the context, over the rollout and in every frame.

    Why: a model that is no better than no model has learned nothing of what moves.
    Fix: see that the target is the next frame and not the input, and that the model sees two frames or more.
    """
    gain = r.gain()
    known = _known(r.frame_psnr)
    if not len(known):
        return Outcome.skip(NOTHING)
    if np.isnan(gain):
        return Outcome.skip("nothing moves in these clips: the last frame is the whole future")
    evidence = Evidence("all predicted frames", gain, limits.copy_gain_min, "dB above copying")
    if gain < limits.copy_gain_min:
        return Outcome.fail(
            f"the prediction is {_by(gain)} copying the last frame",
            evidence,
            fix="see that the loss compares with the frame after, not with the input, that the context holds two frames or "
            f"more (context={r.context}), and give the model the difference to the last frame to predict",
        )
    behind = [i for i in known if r.frame_psnr[i] < r.frame_copy_psnr[i]]
    if behind:
        return Outcome.warn(
            f"{gain:.1f} dB above copying over all, but behind it in {len(behind)} of {len(known)} frames",
            *(
                Evidence(f"frame {_ahead(r, i)}", float(r.frame_psnr[i]), float(r.frame_copy_psnr[i]), "dB")
                for i in behind[:NAMED]
            ),
            fix=f"at frame {_ahead(r, behind[0])} the last frame is the better guess: predict the difference to it",
        )
    return Outcome.ok(f"{gain:.1f} dB above copying the last frame", evidence)


@rule("ROL004", "Frames stay sharp")
def sharp(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: the energy of fine detail over the truth's, beyond frame 4; in shorter rollouts, at the last frame.

    Why: a model that does not know what comes answers with the mean of it, which is a blur; it grows with every frame
    that is fed back. Noise counts as detail, so a grainy frame passes here: PSNR tells it. Where the truth itself is
    grainy, no model can predict its grain, and the limit is too strict.
    Fix: sample instead of predicting the mean (more denoising steps), or train on rollouts or with another loss than MSE.
    """
    beyond = [i for i in _known(r.frame_sharpness) if i >= min(limits.sharp_after, r.horizon - 1)]
    if not beyond:
        return Outcome.skip("the truth has no detail, or the prediction is not finite")
    bad = [i for i in beyond if r.frame_sharpness[i] < limits.sharpness_min]
    worst = min(beyond, key=lambda i: float(r.frame_sharpness[i]))
    if not bad:
        return Outcome.ok(
            f"at least {r.frame_sharpness[worst]:.2f} of the truth's detail, at frame {_ahead(r, worst)}",
            _evidence(r, "frame_sharpness", worst, limits.sharpness_min, "of the truth's detail"),
        )
    start = next(i for i in _known(r.frame_sharpness) if r.frame_sharpness[i] < limits.sharpness_min)
    return Outcome.fail(
        f"blurred from frame {_ahead(r, start)} on: {r.frame_sharpness[worst]:.0%} of the truth's detail is left at frame "
        f"{_ahead(r, worst)}",
        *_evidences(r, "frame_sharpness", bad, limits.sharpness_min, "of the truth's detail"),
        fix=(
            f"take more denoising steps (steps={r.steps} now): one step answers with the mean of all that may come"
            if r.method.startswith(DIFFUSION) and r.steps < 4
            else "the model answers with the mean of what may come: train it on its own frames, let it see more context "
            f"(context={r.context}), or let it sample (diffusion, an adversarial or a perceptual loss)"
        ),
    )


@rule("ROL005", "Motion is as strong as the truth's")
def moving(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: the energy of the difference between neighbouring frames over the truth's.

    Why: too little is slow, fading or frozen; too much is flicker or too fast. Single frames do not show it.
    Fix: too little, see ROL004 and ROL008; too much, look at the noise that sampling leaves and at how frames are spaced
    in time.
    """
    known = _known(r.frame_motion)
    if not len(known):
        return Outcome.skip("the truth stands still, or the prediction is not finite")
    slow = [i for i in known if r.frame_motion[i] < limits.motion_min]
    fast = [i for i in known if r.frame_motion[i] > limits.motion_max]
    if not slow and not fast:
        far = known[np.argmax(np.abs(np.log(r.frame_motion[known])))]
        limit = limits.motion_min if r.frame_motion[far] < 1 else limits.motion_max
        return Outcome.ok(
            f"farthest off at frame {_ahead(r, far)}: {r.frame_motion[far]:.2f} × the truth's",
            _evidence(r, "frame_motion", far, limit, "× the truth's"),
        )
    said = [f"too little motion in {len(slow)} of {len(known)} frames"] if slow else []
    said += [
        f"too much in {len(fast)}" if slow else f"too much motion in {len(fast)} of {len(known)} frames"
    ] * bool(fast)
    advice = []
    if slow:
        advice.append("for too little, see first whether it is blurred (ROL004) or stands still (ROL008)")
    if fast:
        advice.append(
            "for too much, watch the view 'frame': flicker is noise that each frame draws anew, so share it between frames "
            "or take more denoising steps; speed is a wrong spacing of frames in training"
        )
    return Outcome.fail(
        f"{', '.join(said)}, from {_ahead(r, min(slow + fast))} on",
        *_evidences(r, "frame_motion", slow, limits.motion_min, "× the truth's"),
        *_evidences(r, "frame_motion", fast, limits.motion_max, "× the truth's"),
        fix="; ".join(advice),
    )


@rule("ROL006", "Motion is smooth")
def smooth(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: the third difference of coarse frames over what the truth's motion would have were it random, beside the truth's.

    Why: frames that are good one by one jump about when each has an error of its own.
    Fix: let a frame see those before it (time attention, more context), and do not draw its noise independently of theirs.
    """
    known = _known(r.frame_jerk)
    if not len(known):
        return Outcome.skip("there are no four frames in a row, the truth stands still, or nothing is finite")
    excess = r.frame_jerk - r.frame_truth_jerk
    bad = [i for i in known if excess[i] > limits.jerk_max]
    worst = known[np.argmax(excess[known])]
    if not bad:
        return Outcome.ok(
            f"jerk {r.frame_jerk[worst]:.2f} at frame {_ahead(r, worst)}, beside {r.frame_truth_jerk[worst]:.2f} of the truth",
            Evidence(
                f"frame {_ahead(r, worst)}", float(excess[worst]), limits.jerk_max, "jerk above the truth's"
            ),
        )
    seam = f" Frame {_ahead(r, bad[0])} is where the prediction meets the context." if max(bad) < 3 else ""
    return Outcome.fail(
        f"jerky in {len(bad)} of {len(known)} frames, from {_ahead(r, bad[0])} on.{seam}",
        *(
            Evidence(f"frame {_ahead(r, i)}", float(excess[i]), limits.jerk_max, "jerk above the truth's")
            for i in bad[:NAMED]
        ),
        fix=f"see that {r.model_name} gets the frames before (context={r.context}) in their order and at their noise level, "
        "and that its time attention hears them (variation: VAR004); where each frame is right for itself, predict several "
        "together",
    )


@rule("ROL007", "Brightness and contrast hold")
def steady(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: the mean of every frame beside the truth's, and its standard deviation over the truth's.

    Why: a small bias in each frame adds up as frames are fed back: clips grow pale, dark or garish.
    Fix: look for a bias in the output layer, for values that are not clamped, and for another normalisation of what is fed
    back than of the data.
    """
    known = [i for i in _known(r.frame_brightness) if np.isfinite(r.frame_contrast[i])]
    if not known:
        return Outcome.skip("the truth is flat, or the prediction is not finite")
    off = [i for i in known if abs(r.frame_brightness[i]) > limits.brightness_max]
    faded = [i for i in known if r.frame_contrast[i] < limits.contrast_min]
    garish = [i for i in known if r.frame_contrast[i] > limits.contrast_max]
    if not off and not faded and not garish:
        worst = max(known, key=lambda i: abs(float(r.frame_brightness[i])))
        return Outcome.ok(
            f"brightness is off by {abs(r.frame_brightness[worst]):.1%} of the range at most, contrast is "
            f"{min(r.frame_contrast[known]):.2f} to {max(r.frame_contrast[known]):.2f} of the truth's",
            _evidence(r, "frame_brightness", worst, limits.brightness_max, "of the value range"),
        )
    said = []
    if off:
        end = r.frame_brightness[off[-1]]
        how = "bright" if end > 0 else "dark"
        said.append(
            f"{abs(end):.0%} of the value range too {how} at frame {_ahead(r, off[-1])}, off since {_ahead(r, off[0])}"
        )
    said += [
        f"contrast is {r.frame_contrast[bad[-1]]:.2f} of the truth's at frame {_ahead(r, bad[-1])}, off since {_ahead(r, bad[0])}"
        for bad in (faded, garish)
        if bad
    ]
    return Outcome.fail(
        "; ".join(said),
        *_evidences(r, "frame_brightness", off, limits.brightness_max, "of the value range"),
        *_evidences(r, "frame_contrast", faded, limits.contrast_min, "× the truth's contrast"),
        *_evidences(r, "frame_contrast", garish, limits.contrast_max, "× the truth's contrast"),
        fix="feed a true clip through once: where even frame +1 is off, look at the last layer's bias and at how outputs are "
        "mapped back to pixels; where it grows, each round adds a little: clamp or renormalise what is fed back"
        + ("; contrast goes with detail, so mend ROL004 first" if faded and not off else ""),
    )


@rule("ROL008", "No clip freezes")
def unfrozen(r: RolloutResult, limits: RolloutLimits) -> Outcome:
    """What: clips whose prediction stands still from some frame to the end while the truth moves on.

    Why: standing still is what a model falls into that has learned to copy, or whose moving thing has faded away.
    Fix: see that it is not the input that it is trained to repeat; a longer context, and noise on it, break the habit.
    """
    if not np.isfinite(r.clip_truth_motion).any():
        return Outcome.skip("the truth stands still")
    if not len(_known(r.frame_psnr)):
        return Outcome.skip(NOTHING)
    found = frozen(r, limits)
    share = len(found) / r.clips
    if not found:
        return Outcome.ok(f"all {r.clips} clips move to the end")
    say = Outcome.fail if share > limits.frozen_share_max else Outcome.warn
    first = min(found.values())
    return say(
        f"{len(found)} of {r.clips} clips stand still, the first from frame {_ahead(r, first)} on",
        *(
            Evidence(
                f"clip {clip}, frame {_ahead(r, start)} to the end",
                float(r.clip_motion[clip, start:].max()),
                limits.frozen_max,
                "× the truth's motion",
            )
            for clip, start in list(found.items())[:NAMED]
        ),
        fix="see that the loss compares with the frame after and not with the input, and put a little noise on the context in "
        "training, so that repeating it does not pay",
    )


RULES = (finite, faithful, beats_copy, sharp, moving, smooth, steady, unfrozen)


def frozen(r: RolloutResult, limits: RolloutLimits) -> dict[int, int]:
    """The clips that freeze while the truth moves on, each with the place of the first frame of its standstill.

    A standstill lasts to the end and two frames at least, or the whole rollout where that is one frame.
    """
    found = {}
    shortest = min(2, r.horizon)
    for clip, (motion, truth) in enumerate(zip(r.clip_motion, r.clip_truth_motion, strict=True)):
        start = len(motion)
        while start and motion[start - 1] < limits.frozen_max:
            start -= 1
        if len(motion) - start >= shortest and truth[start:].mean() > limits.motion_min:
            found[clip] = start
    return found


def _known(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~np.isnan(values))


def _ahead(r: RolloutResult, place: int) -> str:
    """A frame by its distance from the context."""
    return f"+{r.frame_ahead[place]}"


def _evidence(r: RolloutResult, column: str, place: int, limit: float, unit: str) -> Evidence:
    return Evidence(f"frame {_ahead(r, place)}", float(getattr(r, column)[place]), limit, unit)


def _evidences(r: RolloutResult, column: str, places: list[int], limit: float, unit: str) -> list[Evidence]:
    return [_evidence(r, column, i, limit, unit) for i in places[:NAMED]]


def _by(gain: float) -> str:
    if abs(gain) < 0.05:
        return "as good as"
    return f"{abs(gain):.1f} dB {'above' if gain > 0 else 'below'}"
