"""A square that moves left or right, and a model of two frames that has really learned to continue it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

__all__ = ["NextFrame", "example", "squares"]

NOISE = 0.02  # on the clips that it learns from; pixels go from 0 to 1


class NextFrame(nn.Module):
    """Predicts the next frame from the last two, by one 3 × 3 convolution on a frame that closes round its edges.

    Whatever goes a pixel to the left or right obeys ``next = left neighbour + right neighbour − frame before``, the wave
    equation of d'Alembert (1747), so that the exact answer is within its reach.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 3, padding=1, padding_mode="circular")

    def forward(self, clip: Tensor) -> Tensor:
        """``clip`` (batch, frame, channel = 1, height, width) -> the next frame (batch, 1, channel, height, width)."""
        before = clip[:, -2:-1] if clip.shape[1] > 1 else clip
        frame: Tensor = self.mix(torch.cat([before, clip[:, -1:]], 2).squeeze(1))
        return frame[:, None]

    def fit(self, clips: Tensor) -> None:
        """Learns by least squares from every three frames in a row."""
        pairs = torch.stack([clips[:, :-2, 0], clips[:, 1:-1, 0]], 2).flatten(0, 1)
        given = unfold(pad(pairs, (1, 1, 1, 1), mode="circular"), 3).transpose(1, 2).flatten(0, 1)
        aim = clips[:, 2:, 0].flatten(0, 1).flatten(1).reshape(-1, 1)
        ones = torch.ones(len(given), 1)
        found = torch.linalg.lstsq(torch.cat([given, ones], 1).double(), aim.double()).solution.float()
        with torch.no_grad():
            self.mix.weight.copy_(found[:-1].view_as(self.mix.weight))
            self.mix.get_parameter("bias").copy_(found[-1])


def squares(clips: int, frames: int = 12, size: int = 16, *, speed: int = 1, seed: int = 0) -> Tensor:
    """Clips of a grey square of a quarter to a half of the frame that goes left or right, and round the edges.

    Returns:
        (clip, frame, channel = 1, height, width) float32, 0 to 1.
    """
    rng = torch.Generator().manual_seed(seed)
    side = torch.randint(size // 4, size // 2 + 1, (clips,), generator=rng)
    corner = torch.randint(size, (clips, 2), generator=rng)
    way = speed * (2 * torch.randint(2, (clips,), generator=rng) - 1)
    grey = 0.5 + 0.5 * torch.rand(clips, generator=rng)
    pixel = torch.arange(size)
    column = corner[:, :1] + way[:, None] * torch.arange(frames)  # (clip, frame)
    across = (pixel - column[..., None]) % size < side[:, None, None]  # (clip, frame, pixel)
    down = (pixel - corner[:, 1:]) % size < side[:, None]  # (clip, pixel)
    return (grey[:, None, None, None] * down[:, None, :, None] * across[:, :, None])[:, :, None]


def example() -> dict[str, object]:
    """The model, and 4 clips that it has not seen."""
    return {"model": _trained(), "batch": {"video": squares(4, seed=1)}}


def _trained() -> NextFrame:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NextFrame()
    model.load_state_dict(_learned())
    return model


@cache
def _learned() -> dict[str, Tensor]:
    clips = squares(64)
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        model = NextFrame()
    model.fit(clips + NOISE * noise)
    return model.state_dict()
