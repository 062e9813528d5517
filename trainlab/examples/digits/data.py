"""The data: clips of one handwritten digit that flies through the frame and bounces off its edges.

The digits are scikit-learn's copy of the UCI handwritten digits: 1797 of them, 8 x 8 pixels, 17 grey levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from trainlab.errors import MissingExtraError
from trainlab.examples.digits.config import Config

__all__ = ["digits", "draw", "levels", "moving", "noisy", "one_batch", "positions"]

HELD_OUT = 297  # the last digits, by writers that the first 1500 hardly show


@cache
def digits(*, held_out: bool) -> Tensor:
    """The handwritten digits, (digit, 8, 8) float32 from -1 (paper) to 1 (ink).

    Args:
        held_out: The 297 that training never sees, else the other 1500.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", extra="demo", purpose="The digits example") from error
    images = torch.from_numpy(load_digits().images).float() / 8 - 1
    return images[-HELD_OUT:] if held_out else images[:-HELD_OUT]


def positions(start: Tensor, velocity: Tensor, frames: int, room: int) -> Tensor:
    """Where something is that flies straight and bounces between 0 and ``room``.

    Args:
        start: Where it is in frame 0, (...) integer, pixels.
        velocity: Pixels a frame, (...) integer.
        frames: How many frames.
        room: The largest position.

    Returns:
        (..., frame) integer, pixels from 0 to ``room``.
    """
    straight = start[..., None] + velocity[..., None] * torch.arange(frames)
    # Unfolded, the walls are mirrors: there and back is 2 * room.
    there_and_back = straight % (2 * room)
    return torch.minimum(there_and_back, 2 * room - there_and_back)


def moving(glyphs: Tensor, count: int, config: Config, rng: torch.Generator) -> Tensor:
    """Makes clips of moving glyphs.

    Args:
        glyphs: What may move, (glyph, config.glyph, config.glyph), -1 to 1.
        count: How many clips.
        config: Of its settings frames, size and glyph.
        rng: Draws the glyph, the start and the velocity (1 or 2 pixels a frame, either way) of each clip.

    Returns:
        (clip, frame, channel = 1, height, width) float32, -1 to 1.
    """
    room = config.size - config.glyph
    chosen = glyphs[torch.randint(len(glyphs), (count,), generator=rng)]
    speed = torch.randint(1, 3, (count, 2), generator=rng)
    # A whole number of steps from the wall, so that a bounce never stands still for a frame.
    start = speed * (torch.rand((count, 2), generator=rng) * (room // speed + 1)).long()
    way = 2 * torch.randint(2, (count, 2), generator=rng) - 1
    corner = positions(start, speed * way, config.frames, room)  # (clip, axis, frame)
    spot = corner[..., None] + torch.arange(config.glyph)  # (clip, axis, frame, pixel)
    rows, columns = spot[:, 0, :, :, None], spot[:, 1, :, None, :]
    clip = torch.arange(count)[:, None, None, None]
    frame = torch.arange(config.frames)[None, :, None, None]
    clips = torch.full((count, config.frames, config.size, config.size), -1.0)
    clips[clip, frame, rows, columns] = chosen[:, None]
    return clips[:, :, None]


def noisy(clips: Tensor, tau: Tensor, rng: torch.Generator) -> Tensor:
    """Mixes each frame with noise: ``(1 - tau) * clean + tau * noise``, noise standard normal.

    Args:
        clips: Clean frames, (clip, frame, channel, height, width).
        tau: Noise levels, (clip, frame): 0 leaves a frame clean, 1 leaves nothing but noise.
        rng: Draws the noise.
    """
    level = tau[:, :, None, None, None]
    return (1 - level) * clips + level * torch.randn(clips.shape, generator=rng)


def levels(count: int, config: Config, rng: torch.Generator) -> Tensor:
    """Draws noise levels for training, one a frame: a sixth 0, a sixth 1, the rest uniform between.

    The ends get weight of their own, since prediction lives there: clean frames before one that is all noise.

    Returns:
        (clip, frame) float32.
    """
    return (1.5 * torch.rand((count, config.frames), generator=rng) - 0.25).clamp(0, 1)


def draw(glyphs: Tensor, count: int, config: Config, rng: torch.Generator) -> dict[str, Tensor]:
    """Draws a batch, see `one_batch`: clips of ``glyphs``, a noise level for each frame, the noisy frames."""
    clips = moving(glyphs, count, config, rng)
    tau = levels(count, config, rng)
    return {"x": noisy(clips, tau, rng), "tau": tau, "target": clips}


def one_batch(
    config: Mapping[str, object] | None = None, *, count: int = 16, seed: int = 1
) -> dict[str, Tensor]:
    """A batch of held-out clips, the same at every call.

    Args:
        config: Settings by name, see `Config`; what is left out has its default.
        count: How many clips.
        seed: Draws clips, noise levels and noise.

    Returns:
        ``x`` noisy frames, (clip, frame, channel = 1, height, width) float32; ``tau`` noise levels from 0
        (clean) to 1 (noise), (clip, frame), see `levels`; ``target`` the clean frames, shaped as ``x``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    rng = torch.Generator().manual_seed(seed)
    return draw(digits(held_out=True), count, Config.of(config), rng)
