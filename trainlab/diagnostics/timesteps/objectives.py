"""What is the loss of this clip, at this level, under this noise? One class for each way of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.timesteps.baselines import answers
from trainlab.diagnostics.timesteps.reading import Reading, first_like
from trainlab.diagnostics.timesteps.schedules import CONVENTIONS, Schedule
from trainlab.visit import call, device_of

__all__ = ["KINDS", "Denoising", "Losses", "Task", "Told", "noise_of"]

KINDS = ("x0", "epsilon", "v", "flow", "edm", "edm_network")
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Told:
    """What the model is told instead of the truth, while its noisy input stays what it is.

    Attributes:
        name: e.g. ``swapped``.
        at: (level) what it is told at each level of the sweep.
        effect: How small its effect may be: 0 where losses grow several times, 2 where they move by 1 %.
        scale: (level) what its input is multiplied by, where another schedule means another size.
    """

    name: str
    at: np.ndarray
    effect: int
    scale: np.ndarray | None = None


class Task(Protocol):
    """What a sweep measures: losses by clip, frame and level."""

    at: np.ndarray
    """(level) what the model is told."""
    share: np.ndarray
    """(level) share of noise in the input's power, 0 clean to 1 noise."""
    weight: np.ndarray
    """(level) what training multiplies the loss by; of edm also how often it draws the level."""
    frames: int
    per_frame: bool
    """Whether each frame has a level of its own."""
    draws: bool
    """Whether another draw of noise gives another loss."""
    at_once: bool
    """Whether several levels may share a call."""
    valid: np.ndarray
    """(frame, clip) bool; where there is data."""
    size: int
    """Numbers that one clip takes, by which calls are filled."""

    def losses(self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None) -> Losses:
        """Losses (row, frame) float64 of clips ``rows`` at levels ``places`` (row, frame), by what they measure."""
        ...

    def baselines(self) -> dict[str, np.ndarray]:
        """What trivial answers would lose, (level, frame, clip), by name."""
        ...


def noise_of(shape: torch.Size, seed: int, clip: int, draw: int) -> Tensor:
    """Standard normal noise that belongs to one clip and draw, whatever batch and call they are in."""
    state = np.random.SeedSequence((seed, clip, draw)).generate_state(1, np.uint64)[0]
    rng = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return torch.randn(shape, generator=rng)


@dataclass
class Denoising:
    """A model that is given noisy data and told how noisy, in any of the usual parametrisations.

    Attributes:
        reading: The batch.
        kind: What the model answers: the clean data ``x0``, the noise ``epsilon``, ``v`` = a·noise − b·clean (Salimans
            and Ho 2022), the velocity ``flow``, or ``edm``: a denoiser (Karras et al. 2022); ``edm_network`` is the
            network inside one, which is given its input scaled and told log(sigma) / 4.
        schedule: How the noise is mixed in.
        at: (level) what the model is told.
        per_frame: Each frame has a level of its own (diffusion forcing, Chen et al. 2024).
        weighting: ``""`` as the kind is trained, ``snr`` or ``min_snr`` (Hang et al. 2023, gamma 5).
        sigma_data: Standard deviation of the data that edm is scaled for.
        seed: Of the noise.
    """

    reading: Reading
    kind: str
    schedule: Schedule
    at: np.ndarray
    per_frame: bool = False
    weighting: str = ""
    sigma_data: float = 0.5
    seed: int = 0
    draws: bool = True
    at_once: bool = True
    _noise: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.a, self.b = self.schedule.mix(self.at)
        self.frames = self.reading.frames
        self.share = self.b**2 / (self.a**2 + self.b**2)
        mask = self.reading.mask
        clips = len(self.reading.clean)
        self.size = self.reading.clean[0].numel()
        self.valid = np.ones((self.frames, clips), bool) if mask is None else mask.numpy().T
        self.weight = self._weight()

    def losses(self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None) -> Losses:
        """``loss``; with several frames also ``own`` and ``previous``.

        Those are how far the clean data that the answer stands for is from this frame and from the one before.
        """
        answer, noisy, clean, noise = self.answer(model, rows, places, draw, told)
        a, b = (self._factor(each, places, clean) for each in (self.a, self.b))
        by_frame = self.reading.by_frame
        found = {"loss": by_frame((answer - self.target(clean, noise, a, b)).square())}
        if self.reading.axis is not None and told is None:
            guess = self._clean_from(answer, noisy, a, b)
            before = clean.roll(1, self.reading.axis)
            found["own"] = by_frame((guess - clean).square())
            found["previous"] = by_frame((guess - before).square())
            found["previous"][:, 0] = torch.nan
        return found

    def answer(
        self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The model's answer, the noisy data that it was given, the clean data and the noise."""
        reading, device = self.reading, device_of(model)
        clean = reading.clean[rows.to(reading.clean.device)].to(device)
        noise = torch.stack([self._draw(int(clip), draw) for clip in rows]).to(device, clean.dtype)
        a, b = (self._factor(each, places, clean) for each in (self.a, self.b))
        noisy = a * clean + b * noise
        at = self.at if told is None else told.at
        scale = None if told is None or told.scale is None else self._factor(told.scale, places, clean)
        given = noisy if scale is None else noisy * scale
        if self.kind == "edm_network":
            variance = self.sigma_data**2
            given = given / (b.square() + variance).sqrt()
            at = np.log(at) / 4
        inputs = reading.rows(rows) | {reading.entry: given, reading.level: self._level(at, places, clean)}
        if reading.step:
            inputs[reading.step] = torch.zeros(len(rows), dtype=clean.dtype)
        output = first_like(call(model, inputs), clean)
        if self.kind == "edm_network":
            total = b.square() + variance
            output = variance / total * noisy + b * self.sigma_data / total.sqrt() * output
        return output, noisy, clean, noise

    def baselines(self) -> dict[str, np.ndarray]:
        """See `trainlab.diagnostics.timesteps.baselines`."""
        return answers(self.reading, self.kind, self.a, self.b)

    def _draw(self, clip: int, draw: int) -> Tensor:
        if (clip, draw) not in self._noise:
            if any(kept != draw for _, kept in self._noise):
                self._noise.clear()  # draws come one after another; only the latest is kept
            self._noise[clip, draw] = noise_of(self.reading.clean.shape[1:], self.seed, clip, draw)
        return self._noise[clip, draw]

    def _factor(self, by_level: np.ndarray, places: Tensor, like: Tensor) -> Tensor:
        """The factor of each row, or of each frame of it, in the shape of the data."""
        chosen = torch.as_tensor(by_level, dtype=like.dtype)[places if self.per_frame else places[:, 0]]
        return self.reading.widen(chosen).to(like.device)

    def _level(self, at: np.ndarray, places: Tensor, like: Tensor) -> Tensor:
        dtype = torch.int64 if self.schedule.steps else like.dtype
        level = torch.as_tensor(at, dtype=dtype)[places if self.per_frame else places[:, 0]]
        given = self.reading.given
        if given is not None and given.ndim > level.ndim:  # the model wants (clip, 1, 1, 1)
            level = level.reshape(*level.shape, *[1] * (given.ndim - level.ndim))
        return level.to(like.device)

    def target(self, clean: Tensor, noise: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """What the model should answer."""
        if self.kind == "epsilon":
            return noise
        if self.kind == "v":
            return a * noise - b * clean
        if self.kind == "flow":
            return noise - clean if self.schedule.convention == CONVENTIONS[0] else clean - noise
        return clean

    def _clean_from(self, answer: Tensor, noisy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The clean data that an answer stands for; not finite where the input holds none of it."""
        if self.kind == "epsilon":
            return (noisy - b * answer) / a
        if self.kind == "v":
            return (a * noisy - b * answer) / (a.square() + b.square())
        if self.kind == "flow":
            velocity = answer if self.schedule.convention == CONVENTIONS[0] else -answer
            return (noisy - b * velocity) / (a + b)
        return answer

    def _weight(self) -> np.ndarray:
        if self.kind.startswith("edm") and not self.weighting:
            # its levels are drawn log-normally, with mean −1.2 and deviation 1.2 of log(sigma)
            often = np.exp(-(((np.log(self.b) + 1.2) / 1.2) ** 2) / 2)
            weight: np.ndarray = often * (self.b**2 + self.sigma_data**2) / (self.b * self.sigma_data) ** 2
            return weight
        if not self.weighting:
            return np.ones_like(self.at, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = self.a**2 / self.b**2
            most: Any = np.inf if self.weighting == "snr" else 5.0
            per_kind = {"epsilon": snr, "v": snr + 1, "flow": (self.a + self.b) ** 2 / self.b**2}
            weight = np.minimum(snr, most) / per_kind.get(self.kind, 1.0)
        return np.where(np.isnan(weight), 1.0, weight)  # 0 / 0 or inf / inf at an end: its limit
