"""The model: a diffusion-forcing transformer over patches of video, small enough for a CPU.

Every frame has a noise level of its own, so one model denoises, fills in and predicts the next frame:
a frame to be predicted is simply one at ``tau = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention

from trainlab.examples.digits.config import Config

__all__ = ["DigitDynamics", "build"]


def build(config: Mapping[str, object] | None = None) -> DigitDynamics:
    """Builds the model that a checkpoint's config describes, with fresh weights.

    A sick twin has the same code: its fault is in the weights that its checkpoint brings.

    Args:
        config: Settings by name, see `Config`; what is left out has its default.
    """
    return DigitDynamics(Config.of(config))


class DigitDynamics(nn.Module):
    """Predicts clean frames from noisy ones.

    ``tau`` is the noise level of each frame: 0 is clean, 1 is noise. Time attention is causal: a frame sees
    itself and the frames before it. The output is the clean frame itself.

    Args:
        config: Of its settings the model reads frames, size, patch, dim, depth, time_every, heads.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = config.patch
        across = config.size // config.patch
        pixels = config.patch**2
        self.embed = nn.Linear(pixels, config.dim)
        self.place = nn.Parameter(0.02 * torch.randn(across**2, config.dim))
        self.moment = nn.Parameter(0.02 * torch.randn(config.frames, 1, config.dim))
        self.noise_level = NoiseLevel(config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, over_time=(index + 1) % config.time_every == 0)
            for index in range(config.depth)
        )
        self.norm = AdaNorm(config.dim)
        self.head = Head(config.dim, pixels)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        """Predicts the clean frames.

        Args:
            x: Noisy frames, (batch, frame, channel = 1, height, width), float.
            tau: Noise level of each frame, (batch, frame), 0 clean to 1 noise.

        Returns:
            Clean frames, shaped as ``x``.
        """
        frames, height, width = x.shape[1], x.shape[3], x.shape[4]
        patches = pixel_unshuffle(x, self.patch).flatten(3).transpose(2, 3)  # (batch, frame, place, pixel)
        tokens = self.embed(patches) + self.place + self.moment[:frames]
        noise = self.noise_level(tau)[:, :, None]
        for block in self.blocks:
            tokens = block(tokens, noise)
        patches = self.head(self.norm(tokens, noise)).transpose(2, 3)
        return pixel_shuffle(patches.unflatten(3, (height // self.patch, width // self.patch)), self.patch)


class Head(nn.Module):
    """Turns tokens into pixels. It starts at zero weights: before the first step the model answers 0 to everything."""

    def __init__(self, dim: int, pixels: int) -> None:
        super().__init__()
        self.hidden, self.relu, self.out = nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, pixels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (..., dim) -> (..., pixel)."""
        pixels: Tensor = self.out(self.relu(self.hidden(tokens)))
        return pixels


class Block(nn.Module):
    """Attention over space, over time where asked, and an MLP, each added to the residual stream."""

    def __init__(self, dim: int, heads: int, *, over_time: bool) -> None:
        super().__init__()
        self.space_norm, self.space = AdaNorm(dim), Attention(dim, heads, causal=False)
        if over_time:
            self.time_norm, self.time = AdaNorm(dim), Attention(dim, heads, causal=True)
        self.over_time = over_time
        self.mlp_norm = AdaNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """``tokens`` (batch, frame, place, dim), ``noise`` (batch, frame, 1, dim) -> tokens."""
        tokens = tokens + self.space(self.space_norm(tokens, noise))
        if self.over_time:
            tokens = tokens + self.time(self.time_norm(tokens, noise).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = tokens + self.mlp(self.mlp_norm(tokens, noise))
        return mixed


class Attention(nn.Module):
    """Multi-head attention over the last axis but one; the axes before it are folded into the batch."""

    def __init__(self, dim: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` (batch, group, token, dim) -> the same shape."""
        folded = tokens.flatten(0, 1)
        q, k, v = (
            part(folded).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended.view(tokens.shape)


class AdaNorm(nn.Module):
    """LayerNorm whose shift and scale follow the noise level; starts as a plain LayerNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulate = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """``tokens`` (batch, frame, place, dim), ``noise`` (batch, frame, 1, dim) -> tokens."""
        shift, scale = self.modulate(noise).chunk(2, dim=-1)
        moved: Tensor = self.norm(tokens) * (1 + scale) + shift
        return moved


class NoiseLevel(nn.Module):
    """Turns noise levels into vectors: sines and cosines of half a turn to 16 turns, then an MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        turns = torch.logspace(-1, 4, dim // 2, base=2.0)
        self.register_buffer("angles", 2 * math.pi * turns, persistent=False)
        self.angles: Tensor
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())

    def forward(self, tau: Tensor) -> Tensor:
        """``tau`` (...) -> (..., dim)."""
        angle = tau[..., None] * self.angles
        level: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return level
