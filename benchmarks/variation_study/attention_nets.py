"""Attention and diffusion networks that people train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """torch's own TransformerEncoder over vectors, one prediction a token; pre- or post-LN, dropout, padding."""

    def __init__(self, width: int, depth: int, *, pre: bool, tokens: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.inp = nn.Linear(6, width)
        self.position = nn.Parameter(0.5 * torch.randn(tokens, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, norm_first=pre)
        final = nn.LayerNorm(width) if pre else None
        self.encoder = nn.TransformerEncoder(layer, depth, norm=final, enable_nested_tensor=False)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        hidden = self.encoder(self.inp(x) + self.position, src_key_padding_mask=padding)
        out: Tensor = self.head(hidden)
        return out


class Attend(nn.Module):
    """Multi-head attention by hand: queries from `x`, keys and values from `source`."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        source = x if source is None else source
        q, k, v = (
            f(t).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for f, t in ((self.q, x), (self.k, source), (self.v, source))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        out: Tensor = self.out((weights @ v).transpose(-2, -3).flatten(-2))
        return out


class BareAttention(nn.Module):
    """Attention layers with no residual: what uniform attention averages is lost for good."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.inp = nn.Linear(6, width)
        self.layers = nn.ModuleList(Attend(width) for _ in range(depth))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x)
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.head(h)
        return out


class Queries(nn.Module):
    """Learned queries that first talk among themselves, then read the input, as in DETR and the Perceiver."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inp = nn.Linear(6, width)
        self.queries = nn.Parameter(torch.randn(1, 4, width))
        self.talk, self.read = Attend(width), Attend(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        q = self.queries.expand(len(x), -1, -1)
        q = q + self.talk(q)
        q = q + self.read(q, self.inp(x))
        out: Tensor = self.head(self.norm(q + self.mlp(q)))
        return out


def wave(tau: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of a noise level in [0, 1]: (…) → (…, width)."""
    angles = tau[..., None] * torch.exp(torch.linspace(0, 4, width // 2, device=tau.device))
    return torch.cat([angles.sin(), angles.cos()], -1)


def silence(module: nn.Module) -> None:
    """Start a layer at zero, as diffusion models do with their heads and gates."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class SpaceTimeBlock(nn.Module):
    """Space attention, time attention, MLP; noise level by additive scale and shift before each."""

    def __init__(self, width: int, time: bool, zero: bool) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 2 * width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.space = Attend(width)
        self.time = Attend(width) if time else None
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        if zero:
            for part in (self.modulate, self.space.out, self.mlp[2]):
                silence(part)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulate(level)[:, :, None].chunk(2, -1)
        h = h + self.space(self.norm1(h) * (1 + scale) + shift)
        if self.time is not None:
            h = h + self.time(self.norm2(h).transpose(1, 2)).transpose(1, 2)
        out: Tensor = h + self.mlp(self.norm3(h))
        return out


class SpaceTime(nn.Module):
    """Diffusion-forcing transformer: x (batch, frame, 1, 8, 8), tau (batch, frame) → clean x; time attention in every 2nd block."""

    def __init__(self, width: int, depth: int, *, zero: bool = False) -> None:
        super().__init__()
        self.width = width
        self.patch = nn.Linear(16, width)
        self.place = nn.Parameter(0.1 * torch.randn(1, 1, 4, width))
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(SpaceTimeBlock(width, i % 2 == 1, zero) for i in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 16)
        if zero:
            silence(self.out)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        b, f = x.shape[:2]
        patches = x.reshape(b, f, 2, 4, 2, 4).transpose(3, 4).reshape(b, f, 4, 16)
        level = self.level(wave(tau, self.width).to(x.dtype))
        h = self.patch(patches) + self.place + level[:, :, None]
        for block in self.blocks:
            h = block(h, level)
        pixels = self.out(self.norm(h))
        out: Tensor = pixels.reshape(b, f, 2, 2, 4, 4).transpose(3, 4).reshape(x.shape)
        return out


class UNet(nn.Module):
    """Two scales with one skip; the noise level is added to the features of each."""

    def __init__(self, width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.width = width
        self.inp = nn.Conv2d(1, width, 3, padding=1)
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.mid = nn.Sequential(
            nn.GroupNorm(4, 2 * width), nn.SiLU(), nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.out = nn.Conv2d(width, 1, 3, padding=1)
        if zero:
            silence(self.out)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        level = self.level(wave(tau, self.width).to(x.dtype))[..., None, None]
        high = torch.nn.functional.silu(self.inp(x) + level)
        low = self.mid(self.down(high))
        out: Tensor = self.out(
            torch.nn.functional.silu(self.norm(self.join(torch.cat([high, self.up(low)], 1))))
        )
        return out


class Conditioned(nn.Module):
    """A pre-LN decoder that cross-attends to a context: model(x, context)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.inp, self.context_in = nn.Linear(6, width), nn.Linear(4, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.cross = nn.ModuleList(Attend(width) for _ in range(depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h, memory = self.inp(x), self.context_in(context)
        for norm, cross, mlp in zip(self.norms, self.cross, self.mlps, strict=True):
            h = h + cross(norm(h), memory)
            h = h + mlp(h)
        out: Tensor = self.head(h)
        return out
