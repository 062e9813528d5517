"""The user's own loss, called with the axes that its signature names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.timesteps.objectives import Losses, Told, noise_of
from trainlab.diagnostics.timesteps.reading import LEVELS, Reading
from trainlab.diagnostics.timesteps.schedules import Schedule
from trainlab.errors import SubjectError
from trainlab.visit import map_tensors

__all__ = ["Own", "axes_of"]

NOISES, RANDOM = ("noise", "eps", "epsilon"), ("generator", "rng")


def axes_of(loss: Callable[..., object]) -> dict[str, str]:
    """Which axes a loss takes, by what they are: ``level``, ``noise``, ``generator``."""
    names = list(inspect.signature(loss).parameters)[2:]
    kinds = {"level": LEVELS, "noise": NOISES, "generator": RANDOM}
    found = {kind: next((name for name in names if name in known), "") for kind, known in kinds.items()}
    return {kind: name for kind, name in found.items() if name}


@dataclass
class Own:
    """``loss(model, batch, **axes) -> per-element tensor``, (clip,), (clip, frame) or (clip, frame, …).

    It is handed the whole batch. A level is a tensor (clip,), or (clip, frame) where the batch holds one such; noise is
    shaped as the clean data; a generator starts at the seed of its draw. A loss that takes neither draws from torch's
    global stream, which starts there too.
    """

    reading: Reading
    loss: Callable[..., object]
    batch: object
    schedule: Schedule
    at: np.ndarray
    per_frame: bool
    seed: int = 0
    draws: bool = True
    heard: list[float] = field(default_factory=list)
    """Least and largest level that the model was told, as the loss tells it."""

    def __post_init__(self) -> None:
        self.axes = axes_of(self.loss)
        self.share = np.clip(self.schedule.place(self.at), 0, 1)
        if "level" not in self.axes:
            self.at, self.share = np.zeros(1), np.zeros(1)
        self.weight = np.ones(len(self.at))
        self.frames, self.size = 0, self.reading.clean[0].numel()  # frames are known after the first call
        self.at_once = "noise" in self.axes
        if not self.at_once:
            self.size = 1  # the whole batch in one call, as the loss knows it
        self.valid = np.ones((1, len(self.reading.clean)), bool)

    def losses(self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None) -> Losses:
        """``loss``, as the user's function gives it, averaged over all but clips and frames."""
        clips, clean = len(self.reading.clean), self.reading.clean

        def pick(_: str, tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)] if tensor.ndim and len(tensor) == clips else tensor

        axes: dict[str, object] = {}
        if "level" in self.axes:
            dtype = torch.int64 if self.schedule.steps else torch.float32
            level = torch.as_tensor(self.at, dtype=dtype)[places if self.per_frame else places[:, 0]]
            axes[self.axes["level"]] = level.to(clean.device)
        if "noise" in self.axes:
            noise = torch.stack([noise_of(clean.shape[1:], self.seed, int(clip), draw) for clip in rows])
            axes[self.axes["noise"]] = noise.to(clean)
        start = int(np.random.SeedSequence((self.seed, draw, int(rows[0]))).generate_state(1)[0])
        torch.manual_seed(start)
        if "generator" in self.axes:
            axes[self.axes["generator"]] = torch.Generator(clean.device).manual_seed(start)
        with _telling(model, self.reading.level, self.heard, told):
            found = self.loss(model, map_tensors(self.batch, pick), **axes)
        if not isinstance(found, Tensor) or not found.ndim or len(found) != len(rows):
            raise SubjectError(
                f"loss {getattr(self.loss, '__qualname__', self.loss)} gives no number for each clip",
                seen=f"{tuple(found.shape)} for {len(rows)} clips"
                if isinstance(found, Tensor)
                else type(found).__name__,
                fix="return the losses before they are averaged, e.g. reduction='none'",
            )
        by_frame = self._by_frame(found)
        if by_frame.shape[1] != self.frames:
            self.frames = by_frame.shape[1]
            self.valid = np.ones((self.frames, clips), bool)
            mask = self.reading.mask
            if mask is not None and mask.shape[1] == self.frames:
                self.valid = mask.numpy().T
        return {"loss": by_frame}

    def baselines(self) -> dict[str, np.ndarray]:
        """None are known: only the user knows what the loss compares."""
        return {}

    def _by_frame(self, found: Tensor) -> Tensor:
        reading = self.reading
        if (
            reading.axis is not None
            and found.ndim > reading.axis
            and found.shape[reading.axis] == reading.frames
        ):
            return reading.by_frame(found)
        return found.flatten(1).double().mean(1, keepdim=True) if found.ndim > 1 else found.double()[:, None]


@contextmanager
def _telling(model: nn.Module, level: str, heard: list[float], told: Told | None) -> Iterator[None]:
    """Listens to which levels the model is told, and changes them where ``told`` says how."""
    if not level:
        yield
        return
    place = list(inspect.signature(model.forward).parameters).index(level)

    def hook(
        _: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[Any, dict[str, Any]] | None:
        value = kwargs.get(level, args[place] if place < len(args) else None)
        if not isinstance(value, Tensor):
            return None
        if told is None:
            seen = [*heard, float(value.min()), float(value.max())]
            heard[:] = [min(seen), max(seen)]
            return None
        changed = _changed(value, told.name, *heard)
        if level in kwargs:
            return args, {**kwargs, level: changed}
        return (*args[:place], changed, *args[place + 1 :]), kwargs

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _changed(value: Tensor, name: str, low: float, high: float) -> Tensor:
    """The level that the model is told instead, within the range that it is told by its own loss."""
    if name == "swapped":
        return (low + high - value).to(value.dtype)
    if name in ("one more", "one less"):
        return (value + (1 if name == "one more" else -1)).clamp(low, high)
    span = high - low
    return (low + (value - low + span / 2) % span if span else value).to(value.dtype)
