"""The architectures: what people take from libraries, and what they write themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.dtypes_study import nets
from benchmarks.variation_study import hugging_face

__all__ = ["ZOO", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """A clean float32 model and a batch for it, the same at every call."""

    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[], object]

    def build(self) -> tuple[nn.Module, object]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.model().eval(), self.batch()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(1, 20, shape)


ZOO = [
    Architecture("hf-bert", lambda: hugging_face.bert(0), lambda: {
        "input_ids": tokens(2, 7), "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}),
    Architecture("hf-gpt2", lambda: hugging_face.gpt2(0), lambda: {"input_ids": tokens(2, 7)}),
    Architecture("hf-llama", lambda: hugging_face.llama(0), lambda: {"input_ids": tokens(2, 7)}),
    Architecture("hf-t5", lambda: hugging_face.t5(0), lambda: {"input_ids": tokens(2, 7), "labels": tokens(2, 5)}),
    Architecture("hf-vit", lambda: hugging_face.vit(0), lambda: {"pixel_values": torch.randn(2, 1, 12, 12)}),
    Architecture("unet", nets.UNet, lambda: {"image": torch.randn(2, 1, 8, 8)}),
    Architecture("lstm", nets.Tagger, lambda: tokens(2, 5)),
    Architecture("gru", nets.Forecaster, lambda: torch.randn(2, 5, 3)),
    Architecture("encoder", nets.Encoder, lambda: torch.randn(2, 5, 5)),
    Architecture("translator", nets.Translator, lambda: (tokens(2, 5), tokens(2, 4))),
    Architecture("autograd-function", nets.Squashing, lambda: torch.randn(4, 6)),
    Architecture("casting", nets.Casting, lambda: torch.randn(2, 5, 8)),
    Architecture("buffers", nets.Buffered, lambda: torch.randn(2, 5, 6)),
    Architecture("bare-parameters", nets.Bare, lambda: torch.randn(4, 6)),
    Architecture("experts", nets.Experts, lambda: torch.randn(6, 6)),
    Architecture("audio", nets.Audio, lambda: torch.randn(2, 1, 16)),
    Architecture("spectral", nets.Spectral, lambda: torch.randn(6, 8)),
    Architecture("early-exit", nets.EarlyExit, lambda: torch.randn(4, 6)),
    Architecture("checking", nets.Checking, lambda: torch.randn(4, 6)),
    Architecture("ranker", nets.Ranker, lambda: {"query": tokens(4, 3), "item": torch.randn(4, 6)}),
]  # fmt: skip
