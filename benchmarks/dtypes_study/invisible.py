"""Does a model compute the same, to the last bit, while somebody listens?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.dtypes_study.zoo import ZOO, Architecture
from trainlab.examples import digits
from trainlab.visit import call, tensors

__all__ = ["ARCHITECTURES", "PRECISIONS", "differences"]

PRECISIONS = ("float32", "bfloat16", "float16")
"""float32 as it is; the others are autocast's."""


class Checkpointed(nn.Module):
    """Recomputes its blocks in backward, in both of torch's ways."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2), nn.GELU()) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for reentrant, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=bool(reentrant)) if torch.is_grad_enabled() else block(x)
        return x


class InPlace(nn.Module):
    """Writes into tensors it has, in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.lin(x).relu_()
        z = torch.zeros_like(y)
        z[:, 0] = y[:, 0]
        z += y.flip(-1)
        with torch.no_grad():
            scale = torch.empty(6)
            torch.mean(y.float(), dim=(0, 1), out=scale)
        return 1 - z.mul_(scale) @ z.mT


class Scripted(nn.Module):
    """Holds a part that TorchScript runs."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there is no other way to make one
            self.first = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.ReLU()))
        self.last = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


class Attending(nn.MultiheadAttention):
    """Attends to its input, by torch's fused path in eval mode."""

    def __init__(self) -> None:
        super().__init__(6, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x)[0]


class Padded(nn.Module):
    """Masks what is padded, so that torch's fused path packs the rest into nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=torch.arange(5) >= torch.tensor([[5], [3]]))


def _sequences() -> Tensor:
    return torch.randn(2, 5, 6)


def _clip() -> dict[str, Tensor]:
    batch = digits.one_batch({"frames": 4})
    return {name: batch[name][:2] for name in ("x", "tau")}


ARCHITECTURES = [
    *ZOO,
    Architecture("attention", Attending, _sequences),
    Architecture("padded", Padded, _sequences),
    Architecture("checkpointed", Checkpointed, _sequences),
    Architecture("in-place", InPlace, _sequences),
    Architecture("scripted", Scripted, _sequences),
    Architecture("digits", lambda: digits.build({"depth": 2}), _clip),
]

Listening = Callable[[nn.Module], AbstractContextManager[object]]


def differences(
    architecture: Architecture, precision: str, listening: Listening, *, train: bool
) -> list[str]:
    """Names what differs bitwise between a run that is listened to and one that is not.

    Compared: outputs, gradients and buffers, the text of an error, what the random stream gives next.
    """
    alone = dict(_outcome(architecture, precision, lambda _: nullcontext(), train=train))
    heard = dict(_outcome(architecture, precision, listening, train=train))
    names = alone.keys() | heard.keys()
    return sorted(name for name in names if not _same(alone.get(name), heard.get(name)))


def _outcome(
    architecture: Architecture, precision: str, listening: Listening, *, train: bool
) -> Iterator[tuple[str, object]]:
    model, batch = architecture.build()
    model.train(train)
    torch.manual_seed(1)
    autocast = torch.autocast("cpu", getattr(torch, precision), enabled=precision != "float32")
    try:
        with torch.set_grad_enabled(train), autocast, listening(model):
            outputs = tensors(call(model, batch))
            if train:
                sum(each.float().sum() for each in outputs.values() if each.requires_grad).backward()
    except RuntimeError as error:
        yield "error", str(error)
        return
    yield from ((f"output {name}", tensor.detach()) for name, tensor in outputs.items())
    yield from ((f"gradient of {name}", each.grad) for name, each in model.named_parameters())
    yield from model.named_buffers()
    yield "random", torch.rand(1)


def _same(one: object, other: object) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and one == other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = (each.detach().contiguous().flatten().view(torch.uint8) for each in (one, other))
    return torch.equal(*bits) if one.numel() else True
