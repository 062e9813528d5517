"""What the probe of `resume` finds: the parts of a file, its counts, its rates, and two runs side by side."""

from __future__ import annotations

import numpy as np

from trainlab.result import Result, column

__all__ = ["ResumeResult"]


class ResumeResult(Result, kind="resume", schema=1):
    """What a checkpoint holds of the run that wrote it, and whether a run goes on from it as if never stopped."""

    path: str
    """The checkpoint's file or folder."""
    format: str
    """How it was written, as `open_checkpoint` says."""

    part_name: tuple[str, ...] = column("part")
    """Each part that a run is made of: model, optimizer, scheduler …"""
    part_status: tuple[str, ...] = column("part")
    """``present``, ``missing`` (the run needs it) or ``absent`` (nothing says that the run needs it)."""
    part_essential: np.ndarray = column("part")
    """(part) bool; without it the run goes on as another one; the rest only costs equality bit by bit."""
    part_where: tuple[str, ...] = column("part")
    """The key in the file; "" where it is not there."""
    part_detail: tuple[str, ...] = column("part")
    """What was found, or why it is needed."""

    counter_name: tuple[str, ...] = column("counter")
    """Each count in the file by its key: ``iter``, ``optimizer: step``, ``scheduler: last_epoch``."""
    counter_role: tuple[str, ...] = column("counter")
    """``steps`` and ``epochs`` are the run's own; ``optimizer`` and ``scheduler`` keep theirs."""
    counter_value: np.ndarray = column("counter")
    """(counter) float64; an epoch may be a fraction."""
    accumulation: int
    """Batches per optimizer step as the stored config says; 0 where it does not."""

    rate_name: tuple[str, ...] = column("rate")
    """Each group of each optimizer."""
    rate_optimizer: np.ndarray = column("rate")
    """(group) float64; ``lr`` in the optimizer."""
    rate_scheduler: np.ndarray = column("rate")
    """(group) float64; the scheduler's last; NaN where no scheduler goes with the group."""
    rate_base: np.ndarray = column("rate")
    """(group) float64; where the schedule starts or what it peaks at; NaN without a scheduler."""
    rate_config: float
    """``lr`` of the stored config; NaN where it names none."""

    optimizer_name: tuple[str, ...] = column("optimizer")
    """Each optimizer by its key."""
    optimizer_parameters: np.ndarray = column("optimizer")
    """(optimizer) int64; parameters that it trains."""
    optimizer_filled: np.ndarray = column("optimizer")
    """(optimizer) int64; parameters that it holds state for."""
    optimizer_moving: np.ndarray = column("optimizer")
    """(optimizer) int64; parameters whose first moment or momentum is not all zeros."""
    optimizer_keeps: np.ndarray = column("optimizer")
    """(optimizer) bool; its kind keeps state at all: plain SGD does not."""
    optimizer_lacking: tuple[str, ...] = column("optimizer")
    """Parameters without state, the first few."""

    config_given: bool
    """A config in use was given, and the file stores one to compare with."""
    config_reason: str
    """Why the two were not compared."""
    setting_same: int
    """How many settings are the same in both."""
    setting_name: tuple[str, ...] = column("setting")
    """Each setting that differs, dotted."""
    setting_stored: tuple[str, ...] = column("setting")
    """Its value in the checkpoint."""
    setting_now: tuple[str, ...] = column("setting")
    """Its value in use."""
    setting_effect: tuple[str, ...] = column("setting")
    """``breaks`` continuation, ``harmless``, or ``unknown``."""

    replay_reason: str
    """Why nothing was replayed; "" where it was."""
    replay_repeatable: bool
    """The uninterrupted run, run twice, gives the same losses and the same end."""
    replay_disturbed: bool
    """It does so only as long as nothing is saved on the way."""
    replay_equal: bool
    """The resumed run gives the same losses and ends in the same weights, buffers and optimizer."""
    replay_explained: bool
    """Carrying over the culprits makes it equal."""
    step_uninterrupted: np.ndarray = column("step")
    """(step) float64; loss of the run that went on, from the step after the save."""
    step_resumed: np.ndarray = column("step")
    """(step) float64; loss of the run that was loaded."""
    piece_name: tuple[str, ...] = column("piece")
    """Each kind of thing that the live run is made of."""
    piece_where: tuple[str, ...] = column("piece")
    """Where it lies in the state: ``model``, ``state.batches`` … or which of it differs."""
    piece_loaded: tuple[str, ...] = column("piece")
    """Just after loading: ``same`` as when saved, ``differs``, or ``hidden`` where it cannot be compared."""
    piece_ended: tuple[str, ...] = column("piece")
    """The same after the last step."""
    piece_used: np.ndarray = column("piece")
    """(piece) bool; it changed while the uninterrupted run went on, so it plays a part in it."""
    piece_culprit: np.ndarray = column("piece")
    """(piece) bool; it belongs to the smallest set that makes the resumed run equal when carried over."""

    def culprits(self) -> tuple[str, ...]:
        """The pieces to blame, by name; the rate follows from its optimizer or schedule where one is blamed."""
        blamed = [name for name, guilty in zip(self.piece_name, self.piece_culprit, strict=True) if guilty]
        if "optimizer" in blamed or "scheduler" in blamed:
            blamed = [name for name in blamed if name != "learning rate"]
        return tuple(blamed)

    def first_difference(self) -> int | None:
        """The first step, counted from 1, whose losses differ by a bit; None where none does."""
        one, other = self.step_uninterrupted, self.step_resumed
        parted = np.flatnonzero((one != other) & ~(np.isnan(one) & np.isnan(other)))
        return int(parted[0]) + 1 if len(parted) else None
