"""How much clean data and how much noise there is at each level, and what the model is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainlab.errors import UsageError, did_you_mean

__all__ = ["CONVENTIONS", "SCHEDULES", "Schedule"]

SCHEDULES = ("straight", "cosine", "linear", "scaled_linear", "karras")
CONVENTIONS = ("1 is noise", "1 is clean")
DENSE = 8193  # points on which a continuous schedule is inverted
LOW, HIGH = 0.002, 80.0  # noise levels of Karras et al. 2022, standard deviations


@dataclass(frozen=True)
class Schedule:
    """A family of noisy inputs ``a · clean + b · noise``, from clean to noise.

    Attributes:
        name: ``straight`` (a = 1 − t, b = t: flow matching, rectified flow), ``cosine`` (Nichol and Dhariwal 2021),
            ``linear`` (Ho et al. 2020), ``scaled_linear`` (of latent diffusion), ``karras`` (a = 1, b = sigma).
        steps: How many timesteps there are; 0 where levels run from 0 to 1 (sigma of karras from 0.002 to 80).
        convention: Whether the largest value that the model is told is noise or clean.
    """

    name: str
    steps: int = 0
    convention: str = CONVENTIONS[0]

    def __post_init__(self) -> None:
        for value, known in ((self.name, SCHEDULES), (self.convention, CONVENTIONS)):
            if value not in known:
                raise UsageError(f"there is no {value!r} here", fix=did_you_mean(value, known))
        if self.name == "karras" and self.steps:
            raise UsageError("sigma has no timesteps", seen=f"steps={self.steps}", fix="leave steps out")

    @property
    def preserving(self) -> bool:
        """Whether a² + b² is 1 at every level."""
        return self.name not in ("straight", "karras")

    def grid(self, levels: int) -> np.ndarray:
        """So many values that the model is told, evenly from the clean end to the noisy one, both ends included."""
        places = np.linspace(0, 1, levels)
        if self.steps:
            places = np.unique(np.rint(places * (self.steps - 1))) / (self.steps - 1)
        return self.at_place(places)

    def at_place(self, place: np.ndarray) -> np.ndarray:
        """What the model is told at a place from 0 (the clean end) to 1 (the noisy end)."""
        if self.name == "karras":
            told: np.ndarray = np.exp(np.log(LOW) + place * np.log(HIGH / LOW))
            return told
        place = 1 - place if self.convention == CONVENTIONS[1] else place
        return np.rint(place * (self.steps - 1)) if self.steps else place

    def place(self, told: np.ndarray) -> np.ndarray:
        """The place from 0 (clean) to 1 (noise) of what the model is told."""
        if self.name == "karras":
            place: np.ndarray = np.log(np.maximum(told, 1e-12) / LOW) / np.log(HIGH / LOW)
            return place
        place = told / (self.steps - 1) if self.steps else told
        return 1 - place if self.convention == CONVENTIONS[1] else place

    def mix(self, told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factors ``a`` of the clean data and ``b`` of the noise, at what the model is told."""
        if self.name == "karras":
            return np.ones_like(told), told
        place = np.clip(self.place(told), 0, 1)
        if self.name == "straight":
            return 1 - place, place
        if self.steps:
            kept = self._kept[np.rint(place * (self.steps - 1)).astype(int)]
        elif self.name == "cosine":
            kept = np.cos(place * np.pi / 2) ** 2
        else:
            first, last = (0.1, 20.0) if self.name == "linear" else (0.85, 12.0)  # betas times 1000
            root = np.sqrt(first) + place * (np.sqrt(last) - np.sqrt(first))
            total = (
                first * place + (last - first) * place**2 / 2
                if self.name == "linear"
                else (root**3 - first**1.5) / (3 * (np.sqrt(last) - np.sqrt(first)))
            )
            kept = np.exp(-total)
        return np.sqrt(kept), np.sqrt(1 - kept)

    def told_at(self, ratio: np.ndarray) -> np.ndarray:
        """What the model would be told where the noise is ``ratio`` = b / a times the data; the nearest there is."""
        places = np.linspace(0, 1, self.steps or DENSE)
        told = self.at_place(places)
        a, b = self.mix(told)
        angles = np.arctan2(b, a)  # of all ratios, the infinite one too
        found = np.interp(np.arctan(ratio), angles, places)
        return self.at_place(found)

    @cached_property
    def _kept(self) -> np.ndarray:
        """The cumulative product of 1 − beta at each timestep."""
        if self.name == "cosine":
            bar = np.cos((np.linspace(0, 1, self.steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
            beta = 1 - bar[1:] / bar[:-1]
        elif self.name == "linear":
            beta = np.linspace(1e-4, 0.02, self.steps) * 1000 / self.steps
        else:
            beta = np.linspace(0.00085**0.5, 0.012**0.5, self.steps) ** 2 * 1000 / self.steps
        kept: np.ndarray = np.cumprod(1 - np.minimum(beta, 0.999))
        return kept
