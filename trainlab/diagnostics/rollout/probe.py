"""The probe: continues each clip from its first frames, and measures what comes beside what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from trainlab.diagnostics.rollout.clips import find
from trainlab.diagnostics.rollout.continuing import choose
from trainlab.diagnostics.rollout.measuring import (
    MEASURES,
    Against,
    cutoff,
    energies,
    measure,
    metrics,
    ssim_window,
)
from trainlab.diagnostics.rollout.result import RolloutResult
from trainlab.errors import NotApplicable, UsageError
from trainlab.visit import device_of, visit

__all__ = ["probe"]

KEPT_CLIPS = 8
KEPT = 2**20  # numbers of the truth that are kept for the pictures


def probe(
    model: nn.Module,
    batch: object,
    *,
    context: int = 4,
    horizon: int = 0,
    steps: int = 10,
    seed: int = 0,
    sample: str | Callable[..., Any] = "",
    window: int = 0,
    clips: int = 16,
    video: str = "",
    layout: str = "",
    low: float | None = None,
    high: float | None = None,
) -> RolloutResult:
    """Rolls the model out from the first frames of each clip and measures every frame against the truth.

    Cost: one forward a frame, ``steps`` of them in diffusion forcing; then two cosine transforms a frame on the CPU,
    of height × width × (height + width) multiplications each, and its SSIM.

    Args:
        model: Any module; left as it was found.
        batch: Holds the true clips: the target, or the first floating tensor of five axes. Nothing else in it is used.
        context: Frames of each clip that are given.
        horizon: Frames to predict; 0 predicts all that the clips have.
        steps: Denoising steps a frame of diffusion forcing: 1 gives the mean of what may come, which is blurred, more
            give one of it.
        seed: Where the random numbers start.
        sample: How to roll out, where the model does not tell: ``package.module:callable`` or a function, called as
            ``sample(model, context, frames)`` with frames in the batch's layout; a method of the model by name;
            ``forcing`` (forward(frames, tau) answers with clean frames; tau 1 is noise) or ``next``.
        window: Give the model no more than the last so many frames, for ``forcing`` and ``next``; 0 gives all.
        clips: Use at most so many.
        video: Name of the clips in the batch.
        layout: ``frames first`` or ``channels first``; by the shape where left out.
        low: Value of black; guessed from the truth where left out.
        high: Value of white; likewise.

    Returns:
        The result; of the frames, a few clips are kept.

    Raises:
        NotApplicable: The batch holds no video or too short a one, or it is not known how the model is rolled out.
        SubjectError: The model or ``sample`` does not answer with frames like the true ones.
        MissingExtraError: scikit-image is not installed.
        UsageError: A setting makes no sense.
    """
    metrics()
    for name, value, least in (
        ("context", context, 1),
        ("horizon", horizon, 0),
        ("steps", steps, 1),
        ("window", window, 0),
        ("clips", clips, 1),
    ):
        if value < least:
            raise UsageError(f"{name} is {least} or more", seen=value)
    given = find(batch, video=video, layout=layout, low=low, high=high, clips=clips)
    frames = given.frames
    left = frames.shape[1] - context
    if left < max(horizon, 1):
        raise NotApplicable(
            f"clips of {frames.shape[1]} frames leave {max(left, 0)} to predict after {context} of context",
            fix="a smaller context=, a smaller horizon=, or longer clips",
        )
    count = horizon or left
    way = choose(
        model,
        sample,
        steps=steps,
        window=window,
        seed=seed,
        channels_first=given.channels_first,
    )
    with visit(model, seed=seed):
        answer = way.run(frames[:, :context].to(device_of(model), copy=True), count)
    truth, predicted = _array(frames[:, : context + count]), _array(answer)
    broken = ~np.isfinite(predicted)
    predicted = np.where(broken, np.nan, predicted)
    span = given.high - given.low
    edge = cutoff(truth)
    of_truth = energies(truth, context, edge, label="rollout: the truth")
    copied = np.repeat(truth[:, context - 1 : context], count, axis=1)

    def against(future: np.ndarray) -> Against:
        clip = np.concatenate([truth[:, :context], future], axis=1)
        found = energies(clip, context, edge, label="rollout: measuring")
        return measure(truth[:, context:], future, of_truth, found, span)

    made, copy = against(predicted), against(copied)
    shown, thinned = _thin(truth)
    return RolloutResult(
        **{f"frame_{name}": getattr(made, name) for name in MEASURES},
        **{f"frame_copy_{name}": getattr(copy, name) for name in MEASURES},
        frame_ahead=np.arange(1, count + 1),
        frame_truth_jerk=made.truth_jerk,
        frame_nonfinite=broken.sum((0, 2, 3, 4)),
        clip_psnr=made.clip_psnr,
        clip_motion=made.clip_motion,
        clip_truth_motion=made.clip_truth_motion,
        truth=shown,
        predicted=_thin(predicted, len(shown), thinned)[0],
        method=way.method,
        method_reason=way.reason,
        video=given.name,
        low=given.low,
        high=given.high,
        range_reason=given.range_reason,
        context=context,
        horizon=count,
        steps=steps,
        seed=seed,
        clips=len(truth),
        shape="×".join(map(str, truth.shape[2:])),
        thinned=thinned,
        cutoff=edge,
        ssim_window=ssim_window(*truth.shape[-2:]),
        model_name=type(model).__name__,
    )


def _array(frames: Tensor) -> np.ndarray:
    return frames.detach().cpu().double().numpy()


def _thin(clips: np.ndarray, kept: int = 0, step: int = 0) -> tuple[np.ndarray, int]:
    """The first clips, and every so manieth pixel of them, so that there are no more than KEPT numbers."""
    kept = kept or int(np.clip(KEPT // clips[0].size, 2, KEPT_CLIPS))
    if not step:
        step = 1
        while clips[:kept, :, :, ::step, ::step].size > KEPT:
            step += 1
    most = np.finfo(np.float16).max
    return clips[:kept, :, :, ::step, ::step].clip(-most, most).astype(np.float16), step
