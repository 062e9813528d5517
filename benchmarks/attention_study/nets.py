"""Small transformers as people write them; what they are trained on is in `tasks`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody writes it

__all__ = ["LM", "Classifier", "JointVideo", "Masked", "Seq2Seq", "SmallViT"]


class Attention(nn.Module):
    """Self-attention; key heads may be fewer (GQA), positions rotary, q and k normed, the softmax written by hand."""

    def __init__(
        self, width: int, heads: int, *, keys: int = 0, causal: bool = False, rope: bool = False,
        norm: bool = False, by_hand: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        depth, keys = width // heads, keys or heads
        self.heads, self.keys, self.causal, self.rope, self.by_hand = heads, keys, causal, rope, by_hand
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, keys * depth), nn.Linear(width, keys * depth)
        self.out = nn.Linear(width, width)
        self.q_norm, self.k_norm = (nn.LayerNorm(depth) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """``x`` (batch, token, width), ``seen`` (batch, token) bool -> as ``x``."""
        q, k, v = (
            part(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, heads in ((self.query, self.heads), (self.key, self.keys), (self.value, self.keys))
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rope:
            q, k = rotated(q), rotated(k)
        mask = None if seen is None else seen[:, None, None]
        if self.by_hand:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, -1e9)
            mixed = scores.softmax(-1) @ v
        else:
            grouped = self.keys < self.heads
            mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal, enable_gqa=grouped)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


def rotated(x: Tensor) -> Tensor:
    """Rotary positions, halves paired; the lowest frequency hardly turns."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * 1e4 ** (-torch.arange(half) / half)
    low, high = x.chunk(2, -1)
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, **kind: bool | int) -> None:
        super().__init__()
        self.attend, self.attend_norm, self.mlp_norm = Attention(width, heads, **kind), nn.LayerNorm(width), nn.LayerNorm(width)  # type: ignore[arg-type]  # fmt: skip
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = x + self.attend(self.attend_norm(x), seen)
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


class LM(nn.Module):
    """A causal language model: learned positions, or rotary ones."""

    def __init__(self, width: int, depth: int, heads: int, *, words: int, length: int, **kind: bool | int) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = None if kind.get("rope") else nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True, **kind) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x if self.place is None else x + self.place[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Masked(nn.Module):
    """An encoder that fills in masked tokens; token 0 is padding."""

    def __init__(self, width: int, depth: int, heads: int, *, words: int, length: int, **kind: bool | int) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, **kind) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        x, seen = self.embed(ids) + self.place[: ids.shape[1]], ids != 0
        for block in self.blocks:
            x = block(x, seen)
        logits: Tensor = self.head(self.norm(x))
        return logits


class SmallViT(nn.Module):
    """Patches and a CLS token, which answers."""

    def __init__(self, width: int, depth: int, heads: int, *, size: int = 16, patch: int = 4, classes: int = 10, **kind: bool | int) -> None:  # fmt: skip
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn((size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, **kind) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).mT
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.place
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


class JointVideo(nn.Module):
    """All patches of all frames attend to each other; it paints the last frame, which it is not shown."""

    def __init__(
        self, width: int, depth: int, heads: int, *, frames: int, size: int = 8, patch: int = 2
    ) -> None:
        super().__init__()
        self.patch, across = patch, size // patch
        self.embed, self.head = nn.Linear(patch**2, width), nn.Linear(width, patch**2)
        self.place = nn.Parameter(0.2 * torch.randn(across**2, width))
        self.moment = nn.Parameter(0.2 * torch.randn(frames, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, video: Tensor) -> Tensor:
        """``video`` (batch, frame, 1, height, width) -> the last frame (batch, 1, height, width)."""
        shown = torch.cat([video[:, :-1], torch.zeros_like(video[:, -1:])], 1)
        patches = F.pixel_unshuffle(shown, self.patch).flatten(3).transpose(2, 3)
        x = (self.embed(patches) + self.place + self.moment).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        places = len(self.place)
        last = self.head(self.norm(x[:, -places:])).mT
        across = video.shape[-1] // self.patch
        return F.pixel_shuffle(last.unflatten(-1, (across, across)), self.patch)


class Classifier(nn.Module):
    """torch's own TransformerEncoder, with its fast path in evaluation; the mean of its tokens answers."""

    def __init__(self, width: int, depth: int, heads: int, *, words: int, length: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.encoder(self.embed(ids) + self.place[: ids.shape[1]])
        logits: Tensor = self.head(x.mean(1))
        return logits


class Seq2Seq(nn.Module):
    """torch's own nn.Transformer: an encoder, a causal decoder, and cross-attention between them."""

    def __init__(self, width: int, depth: int, heads: int, *, words: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.body = nn.Transformer(
            width, heads, depth, depth, 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(width, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        x, y = (self.embed(ids) + self.place[: ids.shape[1]] for ids in (source, target))
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        logits: Tensor = self.head(self.body(x, y, tgt_mask=mask, tgt_is_causal=True))
        return logits
