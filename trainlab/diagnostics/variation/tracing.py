"""Where does the movement die? Reads it off the calls of a result, from the deepest module that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.variation.result import VariationResult

__all__ = ["Trace", "trace"]


@dataclass(frozen=True)
class Trace:
    """Which calls are dead, and which of them die by themselves.

    Attributes:
        known: (call) whether the movement of the output could be measured.
        dead: (call) whether the output stands still.
        dies: (call) whether it stands still although its input moves.
        inside: For each call the calls made inside it, in order; the last call is the model's.
    """

    known: np.ndarray
    dead: np.ndarray
    dies: np.ndarray
    inside: tuple[tuple[int, ...], ...]

    def culprit(self) -> int:
        """The deepest call after which all stays dead, for a model whose output is."""
        return self._blame(len(self.dead) - 1)

    def branches(self, names: Sequence[str], before: int) -> list[int]:
        """Calls that die while the model goes on around them: the deepest, and only what dies in all its calls.

        Args:
            names: The calls' modules.
            before: Where the model itself dies, if it does: beyond it nothing could live.
        """
        alive = {
            name for name, known, dead in zip(names, self.known, self.dead, strict=True) if known and not dead
        }
        found: dict[str, int] = {}
        for call in self._deepest([len(self.dead) - 1]):
            if call < before and names[call] not in alive:
                found.setdefault(names[call], call)
        return list(found.values())

    def _blame(self, call: int) -> int:
        """Follows the last stretch of dead calls down to the first in it that dies."""
        within = [i for i in self.inside[call] if self.known[i]]
        tail = next((place for place in range(len(within), 0, -1) if not self.dead[within[place - 1]]), 0)
        dying = [i for i in within[tail:] if self.dies[i]][:1] or self._deepest(within[:tail])[-1:]
        return self._blame(dying[0]) if dying else call

    def _deepest(self, calls: Sequence[int]) -> list[int]:
        """Every call that dies among these and inside them, where none inside it dies."""
        found: list[int] = []
        for call in calls:
            found += self._deepest(self.inside[call]) or [call] * bool(self.dies[call])
        return found


def trace(result: VariationResult, limit: float, *, source: int | None = None) -> Trace:
    """Tells which calls are dead.

    A call is dead where neither its variation nor its typical movement exceeds the limit or its own floor.

    Args:
        result: The record.
        limit: Movement below which a layer counts as dead, whatever its rounding.
        source: Judge the passes in which only this input was swapped.
    """
    r = result
    if source is None:
        variation, typical, entering = r.layer_variation, r.layer_typical, r.layer_input
    else:
        variation, typical, entering = (
            m[:, source] for m in (r.swap_variation, r.swap_typical, r.swap_input)
        )
    known = np.isfinite(variation)
    still = (variation <= np.maximum(limit, r.layer_floor)) & (
        typical <= np.maximum(limit, r.layer_typical_floor)
    )
    dead = known & still
    dies = dead & (entering > np.maximum(limit, r.layer_input_floor))
    return Trace(known, dead, dies, _inside(r.layer_name))


def _inside(names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Finds the calls made inside each call; children come before their parent, the model last."""
    inside: list[tuple[int, ...]] = []
    open_calls: list[int] = []
    for call, name in enumerate(names):
        whole = call == len(names) - 1
        first = next(
            (place for place, other in enumerate(open_calls) if whole or names[other].startswith(f"{name}.")),
            len(open_calls),
        )
        inside.append(tuple(open_calls[first:]))
        open_calls[first:] = [call]
    return tuple(inside)
