"""What in the batch is the clean data, what is the level, and along which axis do the frames lie?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainlab.errors import SubjectError, UsageError, did_you_mean
from trainlab.visit import tensors, without_target
from trainlab.visit.target import forward_names

__all__ = ["LEVELS", "STEPS", "Reading", "chosen", "first_like", "read"]

LEVELS = ("tau", "t", "timestep", "timesteps", "time", "sigma", "sigmas", "noise_level", "noise_levels", "noise_labels", "level", "levels")  # fmt: skip
STEPS = ("dt", "step_size", "d")  # of a model that takes how far it steps (Frans et al. 2024)
CLEAN = ("clean", "x0", "x_0", "x_start")
MASKS = ("mask", "frame_mask", "attention_mask", "padding_mask")


@dataclass(frozen=True)
class Reading:
    """A batch, taken apart.

    Attributes:
        clean: The clean data, (clip, …).
        clean_name: Which entry of the batch that is.
        entry: The argument of forward that takes the noisy data.
        level: The argument that takes the level; "" where there is none.
        given: What the batch holds as the level; None where it holds nothing.
        step: The argument that takes a step size; "" where there is none.
        others: All other arguments, by name.
        target: What the batch brings along as target; None where it brings nothing.
        mask: (clip, frame) bool, true where there is data; None where there is data everywhere.
        axis: Which axis of the data are the frames; None where it has none.
    """

    clean: Tensor
    clean_name: str
    entry: str
    level: str
    given: Tensor | None
    step: str
    others: Mapping[str, object]
    target: Tensor | None
    mask: Tensor | None
    axis: int | None

    @property
    def frames(self) -> int:
        """How many frames a clip has; 1 where it has no such axis."""
        return 1 if self.axis is None else self.clean.shape[self.axis]

    @property
    def per_frame(self) -> bool:
        """Whether the batch gives each frame a level of its own."""
        return self.given is not None and self.given.ndim >= 2 and self.given.shape[1] == self.frames > 1

    def rows(self, rows: Tensor) -> dict[str, object]:
        """The other arguments for these clips."""
        return {name: chosen(value, rows, len(self.clean)) for name, value in self.others.items()}

    def by_frame(self, error: Tensor) -> Tensor:
        """Averages (row, …) over all but the frames: (row, frame) float64."""
        moved = error.unsqueeze(1) if self.axis is None else error.movedim(self.axis, 1)
        exact = moved if moved.device.type == "mps" else moved.double()  # which knows no float64
        return exact.flatten(2).mean(2) if exact.ndim > 2 else exact

    def widen(self, factor: Tensor) -> Tensor:
        """Shapes factors (row,) or (row, frame) so that they multiply the data."""
        if factor.ndim == 1 or self.axis is None:
            return factor.reshape(-1, *[1] * (self.clean.ndim - 1))
        shape = [1] * self.clean.ndim
        shape[0], shape[self.axis] = factor.shape
        return factor.reshape(shape)


def read(model: nn.Module, batch: object, *, clean: str, level: str, frame_axis: int | None) -> Reading:
    """Takes a batch apart; see `Reading`.

    Raises:
        UsageError: A name is neither in the batch nor an argument of forward.
        SubjectError: The batch holds no tensor with a clip axis.
    """
    names = forward_names(model)
    inputs, _, target = without_target(model, batch)
    entries = _by_name(inputs, names)
    everything = {**_by_name(batch, names), **entries}
    if clean and clean not in everything:
        raise UsageError(f"the batch has no entry {clean!r}", fix=did_you_mean(clean, everything))
    if level and level not in names:
        raise UsageError(f"forward has no argument {level!r}", fix=did_you_mean(level, names))
    level = level or next((name for name in names if name in LEVELS), "")
    step = next((name for name in names if name in STEPS and name != level), "")
    kept = [name for name in (clean, *CLEAN) if isinstance(everything.get(name), Tensor)]
    entry = next((name for name in names if name != level), "")
    data: object
    noisy = entries.get(entry)
    if not kept and level in entries and isinstance(noisy, Tensor) and _alike(target, noisy):
        data, name = target, "target"  # the batch has been noised already
    else:
        name = kept[0] if kept else entry
        data = everything.get(name)
    if not isinstance(data, Tensor) or not data.ndim:
        raise SubjectError(
            "the batch holds no clean data to add noise to",
            seen=f"entries {', '.join(everything) or 'none'}",
            fix="clean='…' names the entry that holds it",
        )
    given = entries.get(level)
    given = given if isinstance(given, Tensor) and given.ndim and len(given) == len(data) else None
    axis = frame_axis if frame_axis is not None else _frame_axis(data, given)
    if axis is not None and not 0 < axis < data.ndim:
        raise UsageError(f"frame_axis={axis} is no axis of {name}", seen=f"shape {tuple(data.shape)}", fix="frame_axis=1")  # fmt: skip
    others = {
        key: value for key, value in entries.items() if key in names and key not in (entry, level, step)
    }
    return Reading(data, name, entry, level, given, step, others, target, _mask(everything, data, axis), axis)


def chosen(value: object, rows: Tensor, clips: int) -> object:
    """The rows of a tensor that has one for each clip; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim and len(value) == clips:
        return value[rows.to(value.device)]
    return value


def first_like(output: object, data: Tensor) -> Tensor:
    """The first floating output that is shaped as the data; of one with more channels (a variance too), the first.

    Raises:
        SubjectError: There is none.
    """
    found = {name: value for name, value in tensors(output).items() if value.is_floating_point()}
    for value in found.values():
        if value.shape == data.shape:
            return value
        same = value.ndim == data.ndim >= 3 and value.shape[:1] == data.shape[:1]
        if same and value.shape[2:] == data.shape[2:] and value.shape[1] == 2 * data.shape[1]:
            return value[:, : data.shape[1]]
    shapes = ", ".join(f"{name or 'output'} {tuple(value.shape)}" for name, value in found.items())
    raise SubjectError(
        "no output of the model is shaped as the data",
        seen=f"data {tuple(data.shape)}; {shapes or 'no floating output'}",
        fix="give a loss= of your own, which returns one number for each element",
    )


def _by_name(batch: object, names: list[str]) -> dict[str, object]:
    if isinstance(batch, Mapping):
        return {str(key): value for key, value in batch.items()}
    if hasattr(batch, "_asdict"):
        return dict(batch._asdict())
    if isinstance(batch, tuple | list):
        return dict(zip(names, batch, strict=False))
    return {names[0]: batch} if names else {}


def _alike(target: Tensor | None, data: Tensor) -> bool:
    return target is not None and target.shape == data.shape and target.is_floating_point()


def _frame_axis(data: Tensor, given: Tensor | None) -> int | None:
    if given is not None and given.ndim >= 2 and given.shape[1] > 1:
        return next((axis for axis in range(1, data.ndim) if data.shape[axis] == given.shape[1]), None)
    return 1 if data.ndim in (3, 5) and data.is_floating_point() else None


def _mask(entries: Mapping[str, object], data: Tensor, axis: int | None) -> Tensor | None:
    if axis is None and (data.is_floating_point() or data.ndim != 2):
        return None
    axis = axis or 1  # of tokens
    for name in MASKS:
        mask = entries.get(name)
        if isinstance(mask, Tensor) and mask.shape == (len(data), data.shape[axis]):
            return mask.bool().cpu()
    lengths = entries.get("lengths")
    if isinstance(lengths, Tensor) and lengths.shape == (len(data),):
        return torch.arange(data.shape[axis]) < lengths.cpu()[:, None]
    return None
