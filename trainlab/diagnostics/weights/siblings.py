"""Which tensors should be alike: the same one in every layer; and how far each stands from the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.weights.limits import WeightsLimits
from trainlab.diagnostics.weights.result import WeightsResult

__all__ = ["Sibling", "siblings"]

FEWEST = 4  # of a family: in three, one outlier is a third of the spread
SPREAD = 0.05  # least robust standard deviation of log10: equal siblings differ by 12 % for no reason


@dataclass(frozen=True)
class Sibling:
    """A tensor beside those it should be like.

    Attributes:
        place: Its row in the table.
        ratio: Its gain over the median of the family.
        z: How far log10 of its gain is from the median, in robust standard deviations (1.4826 · MAD).
        stranger: It has fewer than three siblings, and is compared with all matrices.
        among: The family, for a person.
    """

    place: int
    ratio: float
    z: float
    stranger: bool
    among: str

    def limit(self, limits: WeightsLimits) -> float:
        """What the ratio may be at most, or at least where it is below 1."""
        limit = limits.stranger_ratio_max if self.stranger else limits.sibling_ratio_max
        return limit if self.ratio >= 1 else 1 / limit

    def stands_out(self, limits: WeightsLimits) -> bool:
        """Is it beyond the ratio, and beyond the family's own spread?"""
        if self.stranger:  # a small one among other kinds is a head that started at zero
            return self.ratio > limits.stranger_ratio_max
        far = abs(np.log(self.ratio)) > np.log(limits.sibling_ratio_max)
        return bool(far and abs(self.z) > limits.sibling_z_max)


def siblings(r: WeightsResult) -> list[Sibling]:
    """Every weight and gain with its family; those without a finite gain above zero have none."""
    able = [
        i
        for i, role in enumerate(r.tensor_role)
        if role in ("weight", "embedding", "gain") and r.tensor_gain[i] > 0 and not r.tensor_tied_to[i]
    ]
    families: dict[str, list[int]] = {}
    for i in able:
        families.setdefault(r.tensor_group[i], []).append(i)
    matrices = [i for i in able if r.tensor_role[i] == "weight" and r.tensor_rows[i]]
    found = []
    for group, members in families.items():
        if len(members) >= FEWEST:
            found += _placed(r, members, members, f"{len(members)} {group.rsplit(' ', 1)[0]}", stranger=False)
        elif len(matrices) >= 3:
            alone = [i for i in members if i in matrices]
            found += _placed(r, alone, matrices, f"all {len(matrices)} matrices", stranger=True)
    return sorted(found, key=lambda s: s.place)


def _placed(
    r: WeightsResult, places: list[int], family: list[int], among: str, *, stranger: bool
) -> list[Sibling]:
    gains = np.log10(r.tensor_gain[family])
    median = float(np.median(gains))
    spread = max(1.4826 * float(np.median(np.abs(gains - median))), SPREAD)
    away = np.log10(r.tensor_gain[places]) - median
    return [
        Sibling(i, float(10**d), float(d / spread), stranger, among)
        for i, d in zip(places, away, strict=True)
    ]
