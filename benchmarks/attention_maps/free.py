"""Models without softmax attention: nothing may be recorded of them; what attends otherwise must be named."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.attention_maps.case import Case, Expects, Subject

__all__ = ["attention_free"]

TOKENS, WIDTH, CLASSES = 10, 32, 5


def tokens() -> Tensor:
    """(batch, token, width)."""
    return torch.randn(2, TOKENS, WIDTH)


def pictures() -> Tensor:
    """(batch, colour, row, column)."""
    return torch.randn(2, 3, 16, 16)


class Written(nn.Module):
    """A model whose forward is one function of its layers and the input."""

    def __init__(self, forward: Callable[[nn.ModuleDict, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), forward

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(self.layers, x)


def linear(out: int = WIDTH, width: int = WIDTH) -> nn.Module:
    """A layer."""
    return nn.Linear(width, out)


def classifier(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Softmax at the head of a convolutional net."""
    return m["head"](functional.relu(m["conv"](x)).mean((2, 3))).softmax(-1)


def mean_of_classes(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """An expected value: class probabilities times a constant vector, as age regressors have."""
    return m["head"](x.mean(1)).softmax(-1) @ torch.arange(float(CLASSES))


def soft_embedding(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Probabilities of a dictionary's words times their embeddings, for each token."""
    return m["head"](x).softmax(-1) @ m["words"].weight


def mixer(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Tokens mixed by a learnt matrix, then channels."""
    x = x + m["tokens"](x.mT).mT
    return x + m["channels"](functional.gelu(x))


def gmlp(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Spatial gating."""
    u, v = m["in"](x).chunk(2, -1)
    return m["out"](u * m["space"](v.mT).mT)


def experts(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """All experts, weighted by a softmax router, combined by einsum."""
    weights = m["router"](x).softmax(-1)
    outs = torch.stack([m[f"expert{i}"](x) for i in range(4)], -2)
    return torch.einsum("bte,bted->btd", weights, outs)


def experts_by_product(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """The same by a matrix product."""
    outs = torch.stack([m[f"expert{i}"](x) for i in range(4)], -2)
    return (m["router"](x).softmax(-1).unsqueeze(-2) @ outs).squeeze(-2)


def best_experts(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """The two best experts of a softmax router."""
    weight, place = m["router"](x).softmax(-1).topk(2, -1)
    outs = torch.stack([m[f"expert{i}"](x) for i in range(4)], -2)
    return (outs.gather(-2, place.unsqueeze(-1).expand(*place.shape, WIDTH)) * weight.unsqueeze(-1)).sum(-2)


def soft_moe(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Softmax gate that multiplies channels."""
    return m["value"](x) * m["gate"](x).softmax(-1)


def codes(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Soft assignment to a codebook by distance, as VQ-VAEs with softmax codes have."""
    book = m["book"].weight
    return (-(torch.cdist(x, book.expand(len(x), -1, -1)) ** 2)).softmax(-1) @ book


def keypoints(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Soft argmax: a softmax over places times their coordinates."""
    heat = m["conv"](x).flatten(2).softmax(-1)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    return heat @ torch.stack([rows.flatten(), columns.flatten()], -1)


def mixture(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Mean of a mixture of Gaussians."""
    weights, means = m["weights"](x).softmax(-1), m["means"](x).unflatten(-1, (4, 8))
    return (weights.unsqueeze(-1) * means).sum(-2)


def squeeze_excite(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Channels gated by a sigmoid of their means."""
    x = m["conv"](x)
    return x * m["gate"](x.mean((2, 3))).sigmoid()[..., None, None]


def fnet(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Tokens mixed by a Fourier transform."""
    return m["out"](torch.fft.fft2(x).real)


def markov(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A constant stochastic matrix over tokens."""
    step = (torch.eye(TOKENS) + torch.eye(TOKENS).roll(1, 1)) / 2
    return step @ m["in"](x)


def pooling(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Averages by a matrix of 1/n."""
    return torch.full((2, TOKENS), 1 / TOKENS) @ m["in"](x)


def graph(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Neighbours averaged by a normalized adjacency, as graph convolutions do."""
    near = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)).abs() <= 1
    return m["out"]((near / near.sum(-1, keepdim=True)) @ m["in"](x))


def upsampling(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Interpolation by a matrix, its rows sum to one."""
    return m["out"](functional.interpolate(torch.eye(TOKENS)[None], size=2 * TOKENS, mode="linear")[0].mT @ x)


def state_space(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A selective scan, as Mamba has."""
    step, drive = functional.softplus(m["step"](x)), m["in"](x)
    state, outs = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        state = torch.exp(-step[:, t]) * state + step[:, t] * drive[:, t]
        outs.append(state * m["out"](x)[:, t])
    return torch.stack(outs, 1)


def _qkv(m: nn.ModuleDict, x: Tensor) -> list[Tensor]:
    return [m[name](x).unflatten(-1, (4, 8)).transpose(1, 2) for name in "qkv"]


def retention(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Products of queries and keys that decay with distance; no softmax."""
    q, k, v = _qkv(m, x)
    places = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)
    decay = torch.where(places >= 0, 0.9 ** places.clamp(min=0), 0.0)
    return ((q @ k.mT * decay) @ v).transpose(1, 2).flatten(2)


def linear_attention(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Keys meet values first."""
    q, k, v = _qkv(m, x)
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    return ((q @ (k.mT @ v)) / (q @ k.sum(-2, keepdim=True).mT)).transpose(1, 2).flatten(2)


def efficient_attention(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Keys are a softmax over tokens and meet values first; queries a softmax over channels."""
    q, k, v = _qkv(m, x)
    return (q.softmax(-1) @ (k.softmax(-2).mT @ v)).transpose(1, 2).flatten(2)


def sigmoid_attention(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Sigmoid instead of softmax."""
    q, k, v = _qkv(m, x)
    return (torch.sigmoid(q @ k.mT * 8**-0.5 - 2.3) @ v).transpose(1, 2).flatten(2)


def relu_attention(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """Squared rectified scores."""
    q, k, v = _qkv(m, x)
    return ((functional.relu(q @ k.mT).square() / TOKENS) @ v).transpose(1, 2).flatten(2)


class Recurrent(nn.Module):
    """An LSTM upon a GRU, with a softmax over words."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = nn.GRU(WIDTH, 16, batch_first=True), nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities of the next word."""
        return self.head(self.lstm(self.gru(x)[0])[0]).softmax(-1)


def contrast(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A contrastive head: a softmax of similarities between entries that is only read."""
    z = functional.normalize(m["in"](x).mean(1), dim=-1)
    return (z @ z.mT / 0.1).softmax(-1).diagonal().log()


def attention_free() -> tuple[Case, ...]:
    """Every model that must leave no record; of the last five something must be said."""

    def case(
        name: str, batch: Callable[[], Tensor], forward: Callable[[nn.ModuleDict, Tensor], Tensor],
        expects: Expects = "nothing", **layers: Callable[[], nn.Module],
    ) -> Case:  # fmt: skip
        def make() -> Subject:
            return Subject(Written(forward, **{key: layer() for key, layer in layers.items()}), [batch()])

        return Case(name, "attention-free" if expects == "nothing" else "no softmax", make, None, expects)

    conv = lambda out=8: lambda: nn.Conv2d(3, out, 3, padding=1)  # noqa: E731
    to = lambda out, width=WIDTH: lambda: nn.Linear(width, out)  # noqa: E731
    four: dict[str, Callable[[], nn.Module]] = {"router": to(4), **{f"expert{i}": linear for i in range(4)}}
    qkv: dict[str, Callable[[], nn.Module]] = dict.fromkeys("qkv", linear)
    return (
        case("classifier with softmax", pictures, classifier, conv=conv(), head=to(CLASSES, 8)),
        case("expected class", tokens, mean_of_classes, head=to(CLASSES)),
        case(
            "soft word embeddings", tokens, soft_embedding, head=to(20), words=lambda: nn.Embedding(20, WIDTH)
        ),
        case("MLP-Mixer", tokens, mixer, tokens=to(TOKENS, TOKENS), channels=linear),
        case("gMLP", tokens, gmlp, **{"in": to(64), "out": linear, "space": to(TOKENS, TOKENS)}),
        case("experts, einsum", tokens, experts, **four),
        case("experts, matrix product", tokens, experts_by_product, **four),
        case("experts, the best two", tokens, best_experts, **four),
        case("softmax gate", tokens, soft_moe, value=linear, gate=linear),
        case("soft codes", tokens, codes, book=lambda: nn.Embedding(20, WIDTH)),
        case("soft-argmax keypoints", pictures, keypoints, conv=conv(6)),
        case("mixture of Gaussians", tokens, mixture, weights=to(4), means=linear),
        case("squeeze and excite", pictures, squeeze_excite, conv=conv(), gate=to(8, 8)),
        case("FNet", tokens, fnet, out=linear),
        case("Markov chain", tokens, markov, **{"in": linear}),
        case("averages by a matrix", tokens, pooling, **{"in": linear}),
        case("graph convolution", tokens, graph, **{"in": linear, "out": linear}),
        case("interpolation by a matrix", tokens, upsampling, out=linear),
        case("selective state space", tokens, state_space, step=linear, out=linear, **{"in": linear}),
        case("contrastive head", tokens, contrast, **{"in": linear}),
        Case("LSTM and GRU", "attention-free", lambda: Subject(Recurrent(), [tokens()]), None, "nothing"),
        case("retention", tokens, retention, "named", **qkv),
        case("linear attention", tokens, linear_attention, "named", **qkv),
        case("efficient attention", tokens, efficient_attention, "named", **qkv),
        case("sigmoid attention", tokens, sigmoid_attention, "named", **qkv),
        case("rectified attention", tokens, relu_attention, "named", **qkv),
    )
