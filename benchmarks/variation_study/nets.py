"""Plain networks that people train: perceptrons, convolutions, recurrences, bottlenecks, graphs.

Written with torch's own modules and named submodules, so that a planted fault has an address.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def perceptron(
    widths: tuple[int, ...],
    activation: Activation,
    *,
    norm: bool = False,
    dropout: float = 0.0,
    last: nn.Module | None = None,
) -> nn.Sequential:
    """`fc0 (norm0) act0 (drop0) fc1 … head (last)`; `widths` runs from input to output."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (a, b) in enumerate(itertools.pairwise(widths[:-1])):
        layers[f"fc{i}"] = nn.Linear(a, b)
        if norm:
            layers[f"norm{i}"] = nn.LayerNorm(b)
        layers[f"act{i}"] = activation()
        if dropout:
            layers[f"drop{i}"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(widths[-2], widths[-1])
    if last is not None:
        layers["last"] = last
    return nn.Sequential(layers)


def convnet(channels: tuple[int, ...], activation: Activation, classes: int = 4) -> nn.Sequential:
    """`conv0 bn0 act0 conv1 …`, stride 2 from the second convolution on, then pool and head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        layers[f"conv{i}"] = nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1)
        layers[f"bn{i}"] = nn.BatchNorm2d(b)
        layers[f"act{i}"] = activation()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flat"] = nn.Flatten()
    layers["head"] = nn.Linear(channels[-1], classes)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, as in He et al. 2015."""

    def __init__(self, width: int, zero_init: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        if zero_init:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        out: Tensor = self.act2(x + branch)
        return out


class ResNet(nn.Module):
    """Stem, residual blocks, pool, head."""

    def __init__(self, width: int, depth: int, zero_init: bool = False, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, zero_init) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(image)).mean((2, 3)))
        return out


class Recurrent(nn.Module):
    """Embedding, LSTM or GRU, head on the last step."""

    def __init__(self, cell: type[nn.LSTM | nn.GRU], width: int, layers: int, tokens: int = 20) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.rnn = cell(width, width, num_layers=layers, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.rnn(self.embed(tokens))
        out: Tensor = self.head(states[:, -1])
        return out


class SequenceFirst(nn.Module):
    """An LSTM with torch's default axes: (time, batch, feature)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inp = nn.Linear(6, width)
        self.rnn = nn.LSTM(width, width, num_layers=2)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(self.inp(x))
        out: Tensor = self.head(states[-1])
        return out


class VAE(nn.Module):
    """A variational autoencoder that samples its latent in eval mode too; returns reconstruction, mean, log-variance."""

    def __init__(self, width: int, latent: int, inputs: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.mean = nn.Linear(width, latent)
        self.logvar = nn.Linear(width, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, inputs))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(x)
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return {"reconstruction": self.decoder(latent), "mean": mean, "logvar": logvar}


class Sampler(nn.Module):
    """Only the reconstruction of a VAE, as it is served."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.vae = VAE(width, latent)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.vae(x)["reconstruction"]
        return out


def autoencoder(width: int, bottleneck: int, activation: Activation) -> nn.Sequential:
    """`enc0 act0 code dec0 act1 out`."""
    return nn.Sequential(
        OrderedDict(
            enc0=nn.Linear(16, width),
            act0=activation(),
            code=nn.Linear(width, bottleneck),
            dec0=nn.Linear(bottleneck, width),
            act1=activation(),
            out=nn.Linear(width, 16),
        )
    )


class GraphNet(nn.Module):
    """Dense message passing on (batch, node, feature) with an adjacency, one prediction a node."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.messages = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.head = nn.Linear(width, 2)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        flow = adjacency / adjacency.sum(-1, keepdim=True).clamp(min=1)
        h = torch.relu(self.embed(nodes))
        for own, message, norm in zip(self.own, self.messages, self.norms, strict=True):
            h = torch.relu(norm(own(h) + flow @ message(h)))
        out: Tensor = self.head(h)
        return out


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each beside an identity (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.token_mix = nn.Sequential(
            nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens)
        )
        self.channel_mix = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channel_mix(self.norm2(x))
        return out


class Mixer(nn.Module):
    """Patches of a 12×12 image, mixed; logits."""

    def __init__(self, width: int, depth: int, classes: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, stride=4)
        self.blocks = nn.Sequential(*(MixerBlock(9, width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch(image).flatten(2).transpose(1, 2)
        out: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return out


class TwoTowers(nn.Module):
    """Image and text encoders with a learned temperature, as in CLIP; logits or both embeddings."""

    def __init__(self, width: int, *, embeddings: bool = False) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.Flatten(),
            nn.Linear(9 * width, 8),
        )
        self.embed = nn.Embedding(20, width)
        self.text = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 8))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.embeddings = embeddings

    def forward(self, image: Tensor, text: Tensor) -> Tensor | dict[str, Tensor]:
        a = nn.functional.normalize(self.image(image), dim=-1)
        b = nn.functional.normalize(self.text(self.embed(text).mean(1)), dim=-1)
        if self.embeddings:
            return {"image": a, "text": b}
        return (a * b).sum(-1, keepdim=True) * self.temperature.exp()
