"""The first batch entry as a small picture or video, to lay attention back over."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from trainlab.visit import tensors

__all__ = ["EMPTY", "picture_of"]

SIDE = 96
PIXELS = 2**17  # of all frames together: 390 kB
CHANNELS = (1, 3, 4)

EMPTY = np.zeros((0, 0, 0, 3), np.uint8)


def picture_of(batch: object) -> np.ndarray:
    """Finds images or video in a batch and shrinks those of its first entry.

    Whatever range the values have ([0, 1], [−1, 1], normalised), the darkest becomes 0 and the brightest 255. Other than
    three channels are averaged. At most 96 pixels a side, and fewer where there are many frames.

    Returns:
        (frame, height, width, 3) uint8; `EMPTY` where the batch holds none.
    """
    for path, tensor in tensors(batch).items():
        frames = _frames(tensor)
        if frames is not None and "mask" not in path:
            return _small(frames)
    return EMPTY


def _frames(tensor: Tensor) -> Tensor | None:
    """(frame, channel, height, width) float32 of the first entry; None where it is neither image nor video.

    Five axes are (batch, frame, channel, height, width), or channels before frames; four (batch, channel, height,
    width); of either, channels may come last.
    """
    if tensor.ndim not in (4, 5) or tensor.is_complex() or tensor.dtype == torch.bool or not tensor.numel():
        return None
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        return None
    first = tensor[0].detach().cpu().float()
    if first.ndim == 3:
        last = first.shape[-1] in CHANNELS and first.shape[0] not in CHANNELS
        return (first.permute(2, 0, 1) if last else first)[None]
    frames, channels, _, width = first.shape
    if width in CHANNELS and not {frames, channels} & set(CHANNELS):
        return first.permute(0, 3, 1, 2)
    return first.transpose(0, 1) if frames in CHANNELS and channels not in CHANNELS else first


def _small(frames: Tensor) -> np.ndarray:
    side = min(SIDE, max(8, int((PIXELS / len(frames)) ** 0.5)))
    scale = min(1.0, side / max(frames.shape[2:]))
    size = [max(1, round(length * scale)) for length in frames.shape[2:]]
    colour = frames if frames.shape[1] == 3 else frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    shown = torch.nan_to_num(interpolate(colour, size=size, mode="area"), 0.0, 0.0, 0.0)
    low, high = shown.min(), shown.max()
    level = 255 * (shown - low) / (high - low).clamp(min=1e-12)
    return level.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
