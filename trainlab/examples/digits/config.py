"""What a run of the digits example is made of: one flat record, stored whole in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from trainlab.errors import UsageError, did_you_mean

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """One run: its clips, its model, its training. Plain values only."""

    # clips
    frames: int = 16  # frames in a clip
    size: int = 16  # height and width of a frame, pixels
    glyph: int = 8  # height and width of what moves in it, pixels

    # what is predicted from what
    convention: str = "tau 0 = clean, tau 1 = noise; noisy = (1 - tau) * clean + tau * noise"
    target: str = "clean"  # the model predicts the clean frame (not noise, not velocity)

    # model
    patch: int = 4  # height and width of a patch, pixels
    dim: int = 64  # width of the residual stream
    depth: int = 4  # blocks; every one attends over space
    time_every: int = 2  # every n-th block attends over time too, causally
    heads: int = 4

    # training
    steps: int = 1200
    batch: int = 8  # clips a step
    lr: float = 3e-3  # peak of the schedule
    lr_floor: float = 0.05  # share of the peak that the cosine ends on
    warmup: int = 40  # steps
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    autocast: bool = False  # bfloat16 forward; off, since CPUs run a model this small slower in it
    save_every: int = 400  # steps between checkpoints
    seed: int = 0
    twin: str | None = None  # a fault, a key of twins.TWINS or slips.SLIPS; None is healthy

    @classmethod
    def of(cls, given: Mapping[str, object] | None = None) -> Config:
        """Fills in what ``given`` leaves open.

        Raises:
            UsageError: ``given`` holds a name that is no setting.
        """
        known = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise UsageError(
                    "The digits example has no such setting", seen=name, fix=did_you_mean(name, known)
                )
        return cls(**(given or {}))  # type: ignore[arg-type]  # values are the caller's own
