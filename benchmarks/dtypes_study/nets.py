"""Small networks as people write them: every way of holding a weight, of calling it and of casting."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody writes it


class UNet(nn.Module):
    """Two levels down and up, group and batch norm, a skip by `cat`, another by `+`."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.group, self.batch = nn.GroupNorm(2, 8), nn.BatchNorm2d(16)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.outlet = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        wide = F.silu(self.group(self.inlet(image)))
        deep = F.relu(self.batch(self.down(wide)))
        deep = deep + F.relu(self.middle(deep))
        return self.outlet(torch.cat([wide, self.up(deep)], dim=1)) + image


class Tagger(nn.Module):
    """Embedding, two-way LSTM, a tag for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.norm(self.embed(tokens)))
        return self.head(states).log_softmax(-1)


class Forecaster(nn.Module):
    """A GRU reads a series, a GRU cell goes on step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Linear(3, 8)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.cell = nn.GRUCell(3, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, series: Tensor) -> Tensor:
        _, state = self.gru(self.inlet(series).tanh())
        state, last, steps = state[-1], series[:, -1], []
        for _ in range(3):
            state = self.cell(last, state)
            last = self.head(state)
            steps.append(last)
        return torch.stack(steps, dim=1)


class Encoder(nn.Module):
    """torch's own encoder, which takes its fused path in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.inlet, self.outlet = nn.Linear(5, 16), nn.Linear(16, 2)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.outlet(self.encoder(self.inlet(x)))


class Translator(nn.Module):
    """torch's own decoder with a causal mask and a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1, norm=nn.LayerNorm(16))
        self.head = nn.Linear(16, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        states = self.decoder(
            self.embed(target), self.embed(source), tgt_mask=causal, memory_key_padding_mask=source == 0
        )
        return self.head(states)


class Squash(torch.autograd.Function):
    """`x / (1 + |x|)` of a scaled input, with a backward of its own."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor) -> Tensor:
        scaled = x @ scale
        ctx.save_for_backward(scaled, scale)
        return scaled / (1 + scaled.abs())

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        scaled, scale = ctx.saved_tensors
        return (grad / (1 + scaled.abs()) ** 2) @ scale.t(), None


class Squashing(nn.Module):
    """A custom autograd function between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.outlet(Squash.apply(self.inlet(x), self.scale))


class RootNorm(nn.Module):
    """Normalises in float32 and casts back, on purpose."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


class Casting(nn.Module):
    """Explicit casts that are right: a norm in float32, a softmax in float32, a cast to the weight's dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.final = RootNorm(8), RootNorm(8)
        self.query, self.key, self.value = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.query.weight.dtype)
        normed = self.norm(x)
        scores = self.query(normed) @ self.key(normed).transpose(-2, -1)
        weights = scores.softmax(-1, dtype=torch.float32).type_as(x)
        return self.final(x + self.out(weights @ self.value(normed)))


class Buffered(nn.Module):
    """Buffers: statistics of the data, a positional table, a mask that is added, a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))
        self.register_buffer("places", torch.randn(5, 8), persistent=False)
        self.register_buffer("mask", torch.full((5, 5), -1e4).triu(1))
        self.register_buffer("seen", torch.zeros(8))
        self.inlet, self.outlet = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.inlet((x - self.mean) / self.std) + self.places
        mixed = F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=self.mask)
        self.seen.lerp_(mixed.mean((0, 1)), 0.1)
        return self.outlet(mixed)


class Bare(nn.Module):
    """Parameters used by hand: `@`, einsum, addmm, a gain, a low-rank update."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.bias = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.zeros(8))
        self.heads = nn.Parameter(torch.randn(2, 8, 4))
        self.down, self.up = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addmm(self.bias, x, self.mix)
        x = x + (x @ self.down) @ self.up
        return torch.einsum("bi,hij->bhj", x * self.gain, self.heads)


class Experts(nn.Module):
    """A mixture of experts: routing, writing into slices and index_add into an accumulator made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        share = self.router(x).softmax(-1)
        total, last = torch.zeros_like(x), torch.zeros_like(x)
        rows = torch.arange(len(x))
        for index, expert in enumerate(self.experts):
            chosen = rows[index::3]
            total.index_add_(0, chosen, expert(x[chosen]) * share[chosen, index, None])
            last[chosen] = expert(x[chosen])
        total += last
        return self.out(total)


class Audio(nn.Module):
    """A 1-D autoencoder: weight norm, depthwise convolution, interpolation, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 5, padding=2))
        self.depthwise = nn.Conv1d(4, 4, 3, stride=2, padding=1, groups=4)
        self.act = nn.PReLU(4)
        self.norm = nn.InstanceNorm1d(4, affine=True)
        self.outlet = nn.ConvTranspose1d(4, 1, 4, stride=2, padding=1)

    def forward(self, wave: Tensor) -> Tensor:
        code = self.norm(self.act(self.depthwise(self.inlet(wave))))
        rough = F.interpolate(code.mean(1, keepdim=True), size=wave.shape[-1], mode="linear")
        return self.outlet(code) + rough


class Spectral(nn.Module):
    """Operators that no half-precision kernel exists for on a CPU: a Fourier transform, distances, an inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Linear(8, 8), nn.Linear(5, 4)
        self.filter = nn.Parameter(torch.ones(5))
        self.centres = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        power = torch.fft.rfft(self.inlet(x)).abs() * self.filter
        code = self.outlet(power)
        whitened = code @ torch.linalg.inv(code.t() @ code + torch.eye(4))
        return torch.cdist(whitened, self.centres).softmax(-1)


class EarlyExit(nn.Module):
    """Looks at its values: stops at the first layer that is sure enough."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, head in zip(self.layers, self.heads, strict=True):
            x = layer(x).relu()
            answer = head(x).softmax(-1)
            if answer.max() > 2:  # never: every layer runs
                break
        return answer


class Checked(nn.Linear):
    """A layer that looks at its input's dtype itself."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != self.weight.dtype:
            message = f"input dtype {x.dtype}, weights {self.weight.dtype}"
            raise TypeError(message)
        return super().forward(x)


class Checking(nn.Module):
    """Refuses a dtype in Python; keeps a table in a plain attribute; runs a part under autocast always."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.middle, self.outlet = Checked(6, 8), nn.Linear(8, 8), Checked(8, 3)
        self.table = torch.linspace(0, 1, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x) + self.table
        with torch.autocast("cpu", torch.bfloat16):
            mixed = self.middle(x)
        return self.outlet(x + mixed.to(x.dtype))


class Ranker(nn.Module):
    """Bags of features, a bilinear score, batch norm, a cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 8, mode="mean")
        self.tower = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 8))
        self.score = nn.Bilinear(8, 8, 1)

    def forward(self, query: Tensor, item: Tensor) -> Tensor:
        left, right = self.bag(query), self.tower(item)
        return self.score(left, right).squeeze(-1) + F.cosine_similarity(left, right)
