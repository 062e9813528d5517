"""The experiment: run, save, run on; load, run again; and carry pieces over until the two runs are equal.

Nothing is copied while it lives, since loaders and iterators cannot be: the uninterrupted run is made again, from
the same start and the same random streams, wherever it is needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from trainlab.diagnostics.resume.loop import Loop
from trainlab.diagnostics.resume.state import (
    GLOBAL,
    LEARNED,
    PIECES,
    Place,
    Snapshot,
    carry_over,
    places,
    snapshot,
    streams,
)
from trainlab.progress import track
from trainlab.subjects.importing import seeded

__all__ = ["nothing_replayed", "replay"]

# Pieces that many others follow from are tried without first, so that what is left is what had to be there.
WITHOUT_FIRST = (
    "data", "counters", "other values", "RNG", "learning rate", "grad scaler", "EMA", "buffers", "scheduler", "optimizer", "weights",
)  # fmt: skip


class Run(NamedTuple):
    """Losses after the save, and the state at the save (or just after loading) and at the end."""

    losses: list[float]
    before: Snapshot
    after: Snapshot


def nothing_replayed(reason: str) -> dict[str, Any]:
    """The columns of a result where no loop was given."""
    empty = np.zeros(0)
    return {
        "replay_reason": reason,
        "replay_repeatable": False,
        "replay_disturbed": False,
        "replay_equal": False,
        "replay_explained": False,
        "step_uninterrupted": empty,
        "step_resumed": empty,
        "piece_name": (),
        "piece_where": (),
        "piece_loaded": (),
        "piece_ended": (),
        "piece_used": np.zeros(0, dtype=bool),
        "piece_culprit": np.zeros(0, dtype=bool),
    }


def replay(loop: Loop, origin: Path | None, steps: int) -> dict[str, Any]:
    """Runs ``steps`` steps, saves, and runs as many again, once going on and once from the file.

    A true resume costs 5 × ``steps`` steps and 3 starts. A broken one costs another 3 × ``steps`` steps and 2
    starts for each piece that differs or cannot be compared, and once more. Two states are in memory at once.
    Random streams of the process are left as found.

    Args:
        loop: The training loop.
        origin: The checkpoint to begin from; None begins a new run.
        steps: Steps before the save and after it.
    """
    with seeded(), TemporaryDirectory(prefix="trainlab-resume-") as folder:
        bench = Bench(loop, origin, steps, Path(folder))
        whole, unsaved = bench.uninterrupted(), bench.uninterrupted(save=False)
        disturbed = False
        if not _equal(whole, unsaved):
            disturbed = _equal(unsaved, bench.uninterrupted(save=False))
        # what differs between two runs that nothing was done to, such as a clock, tells nothing
        noise = set() if disturbed else set(_differing(whole.after, unsaved.after))
        # nor does a global stream that nobody draws from: another process has it elsewhere
        noise |= {place for place in whole.before if _is_idle_stream(place, whole)}
        repeatable = disturbed or _equal(whole, unsaved)
        resumed = bench.resumed()
        equal = _equal(whole, resumed)
        culprits: Sequence[str] | None = ()
        if repeatable and not disturbed and not equal:
            loaded = _judged(whole.before, resumed.before, noise)
            culprits = bench.culprits(
                whole, [piece for piece in PIECES if loaded.get(piece, "same") != "same"]
            )
    return {
        **nothing_replayed(""),
        "replay_repeatable": repeatable,
        "replay_disturbed": disturbed,
        "replay_equal": equal,
        "replay_explained": culprits is not None,
        "step_uninterrupted": np.array(whole.losses, dtype=np.float64),
        "step_resumed": np.array(resumed.losses, dtype=np.float64),
        **_pieces(whole, resumed, noise, culprits or ()),
    }


class Bench:
    """Makes the run that goes on and the run that is loaded, as often as they are asked for."""

    def __init__(self, loop: Loop, origin: Path | None, steps: int, folder: Path) -> None:
        self.loop, self.origin, self.steps = loop, origin, steps
        self.file = folder / "resumed.pt"

    def uninterrupted(self, *, save: bool = True) -> Run:
        """The run that goes on, with a save on its way or without."""
        state = self._at_the_save(save=save)
        before = snapshot(places(state))
        losses = self.loop.step(state, self.steps)
        return Run(losses, before, snapshot(places(state)))

    def resumed(self, pieces: Iterable[str] = ()) -> Run:
        """The run that is loaded, with pieces carried over from the other."""
        source: list[Place] = []
        rng: dict[str, Any] = {}
        if pieces:
            source = places(self._at_the_save(save=True))
            rng = {name: get() for name, (get, _) in streams().items()}
        _new_process(1)
        state = self.loop.start(self.file)
        carry_over(pieces, source, places(state), rng)
        before = snapshot(places(state))
        losses = self.loop.step(state, self.steps)
        return Run(losses, before, snapshot(places(state)))

    def culprits(self, whole: Run, candidates: Sequence[str]) -> tuple[str, ...] | None:
        """The smallest set of pieces that makes the runs equal; None where all of them together do not."""
        if not _equal(whole, self.resumed(candidates)):
            return None
        needed = set(candidates)
        for piece in track(
            [p for p in WITHOUT_FIRST if p in needed], label="resume: which piece is to blame"
        ):
            if len(needed) > 1 and _equal(whole, self.resumed(needed - {piece})):
                needed.discard(piece)
        return tuple(piece for piece in PIECES if piece in needed)

    def _at_the_save(self, *, save: bool) -> Any:
        _new_process(0)
        state = self.loop.start(self.origin)
        self.loop.step(state, self.steps)
        if save:
            if self.file.is_file():
                self.file.unlink()  # a state that was loaded from it may still map it
            self.loop.save(state, self.file)
        return state


def _new_process(seed: int) -> None:
    """Puts the random streams where no other process had them, as a new process would."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the stream that loops draw from
    torch.manual_seed(seed)


def _equal(one: Run, other: Run) -> bool:
    """Are the losses and all that was learned the same bit by bit?"""
    if not np.array_equal(one.losses, other.losses, equal_nan=True):
        return False
    return not any(piece in LEARNED for piece, _ in _differing(one.after, other.after))


def _differing(one: Snapshot, other: Snapshot) -> list[tuple[str, str]]:
    return [place for place in dict.fromkeys([*one, *other]) if one.get(place, b"") != other.get(place, b"")]


def _is_idle_stream(place: tuple[str, str], run: Run) -> bool:
    return place[1].endswith(GLOBAL) and run.before[place] == run.after.get(place)


def _judged(one: Snapshot, other: Snapshot, noise: set[tuple[str, str]]) -> dict[str, str]:
    """Piece → ``same``, ``differs``, or ``hidden`` where the rest is the same and some cannot be compared."""
    judged: dict[str, str] = {}
    for piece, where in dict.fromkeys([*one, *other]):
        if (piece, where) in noise:
            continue
        mine, theirs = one.get((piece, where), b""), other.get((piece, where), b"")
        verdict = "differs" if mine != theirs else "hidden" if mine is None else "same"
        order = ("same", "hidden", "differs")
        judged[piece] = max(judged.get(piece, "same"), verdict, key=order.index)
    return judged


def _pieces(whole: Run, resumed: Run, noise: set[tuple[str, str]], culprits: Sequence[str]) -> dict[str, Any]:
    loaded, ended = _judged(whole.before, resumed.before, noise), _judged(whole.after, resumed.after, noise)
    moved = {piece for piece, _ in _differing(whole.before, whole.after)} | {
        p for p, v in loaded.items() if v == "hidden"
    }
    names = [piece for piece in PIECES if piece in loaded]
    differing = set(_differing(whole.before, resumed.before)) | set(_differing(whole.after, resumed.after))
    where = []
    for name in names:
        every = [path for piece, path in whole.before if piece == name and (name, path) not in noise]
        offending = [path for path in every if (name, path) in differing]
        where.append(_listed(offending or every))
    return {
        "piece_name": tuple(names),
        "piece_where": tuple(where),
        "piece_loaded": tuple(loaded[name] for name in names),
        "piece_ended": tuple(ended.get(name, "hidden") for name in names),
        "piece_used": np.array([name in moved for name in names], dtype=bool),
        "piece_culprit": np.array([name in culprits for name in names], dtype=bool),
    }


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return ", ".join(paths[:4]) + more
