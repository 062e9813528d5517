"""Rolls a model out: from some frames of a clip to those that follow, in the way that the model is made for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainlab.errors import NotApplicable, SubjectError, TrainlabError, UsageError, did_you_mean
from trainlab.progress import track
from trainlab.subjects.importing import imported
from trainlab.visit import call, tensors

__all__ = ["FORCING", "NEXT", "Continuing", "choose", "denoise"]

FORCING = "forcing"
NEXT = "next"
OWN = ("rollout", "generate", "sample", "predict")
"""Names that a model's own method goes by, and below what it calls the number of frames: a diffusion model's
``sample(count, device)`` is another thing."""
COUNTS = ("frames", "num_frames", "n_frames", "horizon", "length", "future", "n_future")
LEVELS = ("tau", "noise_level", "noise_levels")
"""Names of a noise level for each frame."""
ADVICE = (
    "sample='package.module:callable', which is called as sample(model, context, frames) and returns floating frames, in "
    "the batch's values and layout"
)

Frames = Callable[[Tensor, int], object]


class Continuing(NamedTuple):
    """A way to roll out: what it is, why it was chosen, and the act itself, ``run(context, count) -> frames``.

    Frames are (clip, frame, channel, height, width) on both sides.
    """

    method: str
    reason: str
    run: Callable[[Tensor, int], Tensor]


def choose(
    model: nn.Module,
    sample: str | Callable[..., Any] = "",
    *,
    steps: int,
    window: int,
    seed: int,
    channels_first: bool,
) -> Continuing:
    """Chooses how to roll a model out; the first that applies.

    1. ``sample``: a function ``sample(model, context, frames)`` by name, the name of a method of the model, or
       ``forcing`` or ``next`` for one of the ways below;
    2. the model's own ``rollout``, ``generate``, ``sample`` or ``predict``, where it takes a context and a number of
       frames;
    3. diffusion forcing, where forward takes a noise level for each frame by a name of `LEVELS`;
    4. the next frame, where forward needs nothing but frames.

    Raises:
        NotApplicable: None applies.
        SubjectError: ``sample`` cannot be imported or called.
        UsageError: The model has no method of that name.
    """
    inner = getattr(model, "_orig_mod", model)  # torch.compile's wrapper takes anything
    kind = type(inner).__name__
    needed, names = _parameters(inner.forward)
    level = next((name for name in names[1:] if name in LEVELS), names[1] if len(names) > 1 else "")
    swap = _swapped if channels_first else _as_is

    def forcing(reason: str) -> Continuing:
        named = (names[0], level)

        def run(context: Tensor, count: int) -> Tensor:
            stream = torch.Generator().manual_seed(seed)

            def clean(x: Tensor, tau: Tensor) -> Tensor:
                given = dict(zip(named, (swap(x), tau), strict=True))
                return _like(swap(_first(call(model, given), inner)), x, inner)

            return _grow(context, count, window, kind, lambda past: denoise(clean, past, steps, stream))

        words = f"diffusion forcing ({level} 1 is noise, forward answers with clean frames), {steps} denoising step"
        return Continuing(words + "s" * (steps != 1) + " a frame", reason, run)

    def following(reason: str) -> Continuing:
        def run(context: Tensor, count: int) -> Tensor:
            def answer(past: Tensor) -> Tensor:
                return _following(call(model, (swap(past),)), past, inner, swap)

            return _grow(context, count, window, kind, answer)

        return Continuing(f"next frames of {kind}.forward", reason, run)

    def own(name: str, function: Frames, reason: str) -> Continuing:
        def run(context: Tensor, count: int) -> Tensor:
            what = f"{name} on {tuple(context.shape)} and {count} frames"
            answer = swap(_first(_called(what, f"or {ADVICE}", function, swap(context), count), inner))
            return _future(answer, context, count, name)

        return Continuing(name, reason, run)

    if callable(sample):
        function = sample
        name = getattr(sample, "__qualname__", type(sample).__name__)
        return own(name, lambda context, count: function(model, context, count), "sample was given")
    if ":" in sample:
        with imported(sample) as found:
            function = found
        if not callable(function):
            raise SubjectError(f"sample {sample} cannot be called", seen=type(function).__name__, fix=ADVICE)
        return own(
            sample, lambda context, count: function(model, context, count), f"sample={sample!r} was given"
        )
    asked = f"sample={sample!r} was given"
    if sample == FORCING and len(names) > 1:
        return forcing(asked)
    if sample == NEXT:
        return following(asked)
    if sample:
        if sample == FORCING or not callable(getattr(inner, sample, None)):
            methods = [each for each in OWN if callable(getattr(inner, each, None))]
            raise UsageError(
                f"{kind} cannot be rolled out by {sample!r}",
                seen=f"forward takes: {', '.join(names) or 'nothing'}",
                fix=f"{did_you_mean(sample, [FORCING, NEXT, *methods])}, or {ADVICE}",
            )
        return own(f"{kind}.{sample}", getattr(inner, sample), asked)
    for each in OWN:
        method = getattr(inner, each, None)
        if callable(method) and _takes_count(method):
            return own(f"{kind}.{each}", method, f"the model has a method {each}(context, frames)")
    if level in LEVELS and set(needed) <= {names[0], level}:
        return forcing(f"forward takes a noise level for each frame, {level}")
    if names and set(needed) <= {names[0]}:
        return following("forward needs nothing but frames")
    raise NotApplicable(
        f"it is not known how {kind} is rolled out",
        seen=f"forward needs: {', '.join(needed) or 'nothing'}; no method {', '.join(OWN)} of (context, frames)",
        fix=ADVICE,
    )


def denoise(
    clean: Callable[[Tensor, Tensor], Tensor], past: Tensor, steps: int, stream: torch.Generator
) -> Tensor:
    """Draws the frame after ``past`` by diffusion forcing (Chen et al. 2024): deterministic steps from noise (DDIM).

    Frames mix as ``(1 − tau) · clean + tau · noise``; the past stays at tau 0, the new frame goes from 1 to 0.

    Args:
        clean: Predicts the clean frames from noisy ones and their tau, (clip, frame).
        past: (clip, frame, channel, height, width).
        steps: Forwards; 1 gives the mean of all that may come, more give one of it.
        stream: Draws the noise, on the CPU, so that every device sees the same.

    Returns:
        (clip, 1, channel, height, width).
    """
    noise = torch.randn(past[:, :1].shape, generator=stream)
    frame = noise.to(past)
    tau = torch.zeros(past.shape[0], past.shape[1] + 1, device=past.device, dtype=past.dtype)
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        tau[:, -1] = now
        answer = clean(torch.cat([past, frame], 1), tau)[:, -1:]
        frame = answer + (then / now) * (frame - answer)
    return frame


def _grow(
    context: Tensor, count: int, window: int, name: str, following: Callable[[Tensor], Tensor]
) -> Tensor:
    """Appends what follows to what was, until there are enough frames."""
    start = context.shape[1]
    clip = context
    for _ in track(range(count), label="rollout: frames"):
        if clip.shape[1] < start + count:
            past = clip[:, -window:]  # [-0:] is all
            advice = f"window={start} gives the model no more than the last {start} frames; or {ADVICE}"
            clip = torch.cat(
                [clip, _called(f"{name} after {past.shape[1]} frames", advice, following, past)], 1
            )
    return clip[:, start : start + count]


def _following(answer: object, past: Tensor, model: nn.Module, swap: Callable[[Tensor], Tensor]) -> Tensor:
    """The frames that an answer adds to the past."""
    frames = _first(answer, model)
    one = frames.dim() == 4
    frames = frames[:, None] if one else swap(frames)
    if frames.dim() != 5 or frames.shape[0] != past.shape[0] or frames.shape[2:] != past.shape[2:]:
        raise SubjectError(
            f"{type(model).__name__} does not answer with frames like those it was given",
            seen=f"given {tuple(past.shape)}, answered {tuple(frames.shape)}",
            fix=ADVICE,
        )
    # as many frames as went in: each is the one after its place, as in training
    return frames[:, -1:] if frames.shape[1] == past.shape[1] else frames


def _future(answer: Tensor, context: Tensor, count: int, name: str) -> Tensor:
    start = context.shape[1]
    fits = (
        answer.dim() == 5
        and answer.shape[0] == context.shape[0]
        and answer.shape[2:] == context.shape[2:]
        and answer.shape[1] in (count, start + count)
    )
    if not fits:
        raise SubjectError(
            f"{name} returned no {count} frames",
            seen=f"shape {tuple(answer.shape)} from a context {tuple(context.shape)}",
            fix=f"return (clip, frame, channel, height, width) with {count} frames, or with the context before them",
        )
    return answer[:, -count:].to(context)


def _called(what: str, advice: str, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except TrainlabError:
        raise
    except Exception as error:
        raise SubjectError(
            f"{what} failed: {type(error).__name__}: {error}",
            fix=f"the traceback above ends in the line that failed; {advice}",
        ) from error


def _first(answer: object, model: nn.Module) -> Tensor:
    found = next((t for t in tensors(answer).values() if t.is_floating_point() and t.dim() > 3), None)
    if found is None:
        raise SubjectError(
            f"{type(model).__name__} answers with no frames",
            seen=", ".join(f"{name or 'output'} {tuple(t.shape)}" for name, t in tensors(answer).items())
            or type(answer).__name__,
            fix=ADVICE,
        )
    return found.detach()


def _like(answer: Tensor, x: Tensor, model: nn.Module) -> Tensor:
    if answer.shape != x.shape:
        raise SubjectError(
            f"{type(model).__name__} does not answer with a clean frame for each noisy one",
            seen=f"given {tuple(x.shape)}, answered {tuple(answer.shape)}",
            fix=ADVICE,
        )
    return answer.to(x)


def _parameters(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Names of the parameters that are required, and of all."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a traced TorchScript module has none
        return ["input"], ["input"]
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in plain if p.default is p.empty], [p.name for p in plain]


def _takes_count(method: Callable[..., Any]) -> bool:
    needed, names = _parameters(method)
    return len(names) > 1 and names[1] in COUNTS and len(needed) <= 2


def _swapped(frames: Tensor) -> Tensor:
    return frames.transpose(1, 2) if frames.dim() == 5 else frames


def _as_is(frames: Tensor) -> Tensor:
    return frames
