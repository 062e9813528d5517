"""Which kinds of model the study has, and the small structured task that each is trained on."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.variation_study import attention_nets as attend
from benchmarks.variation_study import hugging_face, nets
from benchmarks.variation_study.cases import Batch, Family

Generator = torch.Generator


@functools.cache
def fixed(rows: int, columns: int, seed: int = 5) -> Tensor:
    """The teacher's matrix: the same for every draw of a task."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) / math.sqrt(rows)


# --- losses


def regress(output: object, target: Tensor) -> Tensor:
    """Mean squared error on a tensor output."""
    assert isinstance(output, Tensor)
    return nn.functional.mse_loss(output, target)


def classify(output: object, target: Tensor) -> Tensor:
    """Cross-entropy on logits, of a tensor or of a Hugging Face output."""
    logits = output if isinstance(output, Tensor) else output.logits  # type: ignore[attr-defined]
    assert isinstance(logits, Tensor)
    return nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten())


def negative_elbo(output: object, target: Tensor) -> Tensor:
    """Reconstruction plus a lightly weighted Kullback–Leibler term."""
    assert isinstance(output, Mapping)
    mean, logvar = output["mean"], output["logvar"]
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1).mean()
    loss: Tensor = nn.functional.mse_loss(output["reconstruction"], target) + 0.003 * kl
    return loss


def sampled(output: object, target: Tensor) -> Tensor:
    """Reconstruction error of a VAE that shows only its samples."""
    return regress(output, target)


def match(output: object, target: Tensor) -> Tensor:
    """Do image and text belong together? Logistic loss on the logit."""
    assert isinstance(output, Tensor)
    return nn.functional.binary_cross_entropy_with_logits(output, target)


def agree(output: object, target: Tensor) -> Tensor:
    """The same question asked of two embeddings."""
    assert isinstance(output, Mapping)
    return match(4 * (output["image"] * output["text"]).sum(-1, keepdim=True), target)


# --- draws


def vectors(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Eight numbers → three smooth functions of them."""
    x = torch.randn(n, 8, generator=g)
    return x, torch.sin(2 * x @ fixed(8, 3))


def far_from_zero(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """The same task in the units of a lab: mean 100, standard deviation 1."""
    x, y = vectors(g, n)
    return x, 100 + y * math.sqrt(2)


def years(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Predict a year of release: mean 1998, standard deviation 11."""
    x, y = vectors(g, n)
    return x, 1998 + 11 * math.sqrt(2) * y


def rates(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Eight numbers → three rates in (0, 1)."""
    x = torch.randn(n, 8, generator=g)
    return x, torch.sigmoid(2 * x @ fixed(8, 3))


def rare(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Two classes, one of them in about 4 samples of 100."""
    x = torch.randn(n, 8, generator=g)
    return x, (x @ fixed(8, 1) > 1.75).long()[:, 0]


def images(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """12×12 gratings with noise → one of four orientations."""
    label = torch.randint(0, 4, (n,), generator=g)
    grid = torch.linspace(-1, 1, 12)
    angle = (label * math.pi / 4)[:, None, None]
    phase = torch.rand(n, 1, 1, generator=g) * 6.28
    wave = torch.sin(8 * (grid[:, None] * torch.sin(angle) + grid * torch.cos(angle)) + phase)
    return (wave + 0.3 * torch.randn(n, 12, 12, generator=g))[:, None], label


def named_images(name: str, g: Generator, n: int) -> tuple[Batch, Tensor]:
    """The gratings under the keyword that a model takes."""
    x, label = images(g, n)
    assert isinstance(x, Tensor)
    return {name: x}, label


def tokens(name: str, length: int, g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Token strings → is the share of low tokens small, middle or large?"""
    share = torch.rand(n, 1, generator=g)
    low = torch.rand(n, length, generator=g) < share
    ids = torch.where(
        low, torch.randint(1, 8, (n, length), generator=g), torch.randint(8, 20, (n, length), generator=g)
    )
    return {name: ids}, (share[:, 0] * 3).long().clamp(max=2)


def bert_tokens(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Token strings of several lengths, padded, with their mask and constant token types, as a tokenizer gives."""
    batch, label = tokens("input_ids", 10, g, n)
    assert isinstance(batch, dict)
    length = torch.randint(6, 11, (n, 1), generator=g)
    mask = (torch.arange(10) < length).long()
    ids = batch["input_ids"] * mask
    return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask}, label


def strings(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Counting strings with a random start and step → the next token at every place."""
    start, step = torch.randint(0, 20, (n, 1), generator=g), torch.randint(1, 4, (n, 1), generator=g)
    ids = (start + step * torch.arange(11)) % 20 + 1
    return {"input_ids": ids[:, :-1], "attention_mask": torch.ones_like(ids[:, :-1])}, ids[:, 1:]


def echo(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Copy the source string, given the start token and the string so far."""
    ids = torch.randint(1, 20, (n, 7), generator=g)
    return {
        "input_ids": ids,
        "decoder_input_ids": torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], 1),
    }, ids


def sequences(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Eight vectors → for each, two functions of itself and of the mean of all."""
    x = torch.randn(n, 8, 6, generator=g)
    return {"x": x}, torch.sin(2 * x @ fixed(6, 2)) + (x.mean(1, keepdim=True) @ fixed(6, 2, 6))


def time_first(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Sequences as torch's recurrent layers take them by default, (time, batch, feature) → a function of their mean."""
    x = torch.randn(7, n, 6, generator=g) + torch.randn(1, n, 6, generator=g)
    return x, torch.sin(x.mean(0) @ fixed(6, 2))


def summaries(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Sets of eight vectors → four different summaries of each set."""
    x = torch.randn(n, 8, 6, generator=g) + torch.randn(n, 1, 6, generator=g)
    return x, torch.sin(x.mean(1) @ fixed(6, 8)).reshape(n, 4, 2)


def padded(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """The same with the tail of each sample padded."""
    batch, target = sequences(g, n)
    assert isinstance(batch, dict)
    padding = torch.arange(8) >= torch.randint(4, 9, (n, 1), generator=g)
    return {"x": batch["x"] * ~padding[..., None], "padding": padding}, target * ~padding[..., None]


def clips(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Clips of a moving blob, each frame at its own noise level, as in diffusion forcing → the clean clip."""
    start, speed = torch.rand(n, 1, 2, generator=g) * 2 - 1, torch.rand(n, 1, 2, generator=g) - 0.5
    centre = start + speed * torch.arange(4)[:, None]
    grid = torch.linspace(-1.5, 1.5, 8)
    clean = torch.exp(
        -3 * ((grid[:, None] - centre[..., :1, None]) ** 2 + (grid - centre[..., 1:, None]) ** 2)
    )[:, :, None]
    tau = torch.rand(n, 4, generator=g)
    level = tau[..., None, None, None]
    return {"x": (1 - level) * clean + level * torch.randn(clean.shape, generator=g), "tau": tau}, clean


def frames(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Noised gratings with one noise level each → the clean image."""
    clean, _ = images(g, n)
    assert isinstance(clean, Tensor)
    tau = torch.rand(n, generator=g)
    level = tau[:, None, None, None]
    return (clean * (1 - level) + level * torch.randn(clean.shape, generator=g), tau), clean


def curves(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Sixteen numbers on a three-dimensional sheet → themselves."""
    x = torch.tanh(torch.randn(n, 3, generator=g) @ fixed(3, 16) * 1.7)
    return x, x


def graphs(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Random graphs of seven nodes → two functions of each node and its neighbours."""
    x = torch.randn(n, 7, 6, generator=g)
    upper = (torch.rand(n, 7, 7, generator=g) < 0.4).float().triu(1)
    adjacency = upper + upper.transpose(1, 2)
    return {"nodes": x, "adjacency": adjacency}, torch.sin(2 * x @ fixed(6, 2)) + adjacency @ x @ fixed(
        6, 2, 6
    ) / 3


def pairs(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """A grating and a text of its orientation or of another; do they belong together?"""
    image, label = images(g, n)
    assert isinstance(image, Tensor)
    fits = torch.rand(n, generator=g) < 0.5
    said = torch.where(fits, label, (label + torch.randint(1, 4, (n,), generator=g)) % 4)
    text = 5 * said[:, None] + torch.randint(0, 5, (n, 6), generator=g)
    return {"image": image, "text": text}, fits.float()[:, None]


def conditions(g: Generator, n: int) -> tuple[Batch, Tensor]:
    """Queries and a context of another length → functions of both."""
    x, context = torch.randn(n, 5, 6, generator=g), torch.randn(n, 7, 4, generator=g)
    return {"x": x, "context": context}, torch.sin(2 * x @ fixed(6, 2)) + 2 * context.mean(
        1, keepdim=True
    ) @ fixed(4, 2)


# --- families

_image = functools.partial(named_images, "image")
_relu_or_gelu = (nn.ReLU, nn.GELU)


def _mlp(size: int) -> nn.Module:
    return nets.perceptron(((8, 32, 32, 3), (8, 48, 48, 48, 3))[size], _relu_or_gelu[size], dropout=0.1)


def _norm_mlp(size: int) -> nn.Module:
    return nets.perceptron(((8, 32, 32, 3), (8, 40, 40, 40, 3))[size], (nn.SiLU, nn.ReLU)[size], norm=True)


def _sigmoid(size: int) -> nn.Module:
    return nets.perceptron(((8, 32, 32, 3), (8, 24, 24, 24, 3))[size], nn.Tanh, last=nn.Sigmoid())


FAMILIES: dict[str, Family] = {
    f.kind: f
    for f in (
        Family("mlp", _mlp, vectors, regress),
        Family("norm-mlp", _norm_mlp, vectors, regress),
        Family("sigmoid-head", _sigmoid, rates, regress, steps=120),
        Family(
            "convnet",
            lambda s: nets.convnet(((1, 8, 16, 16), (1, 12, 12, 24, 24))[s], (nn.ReLU, nn.SiLU)[s]),
            images,
            classify,
        ),
        Family("resnet", lambda s: nets.ResNet(8 + 4 * s, 2 + s), _image, classify),
        Family("mixer", lambda s: nets.Mixer(24 + 8 * s, 2 + s), _image, classify),
        Family(
            "lstm",
            lambda s: nets.Recurrent(nn.LSTM, 24 + 8 * s, 1 + s),
            functools.partial(tokens, "tokens", 8),
            classify,
            lr=1e-2,
        ),
        Family(
            "gru",
            lambda s: nets.Recurrent(nn.GRU, 24 + 8 * s, 1 + s),
            functools.partial(tokens, "tokens", 8),
            classify,
            lr=1e-2,
        ),
        Family(
            "autoencoder",
            lambda s: nets.autoencoder(32 + 16 * s, 3 + s, (nn.Tanh, nn.SiLU)[s]),
            curves,
            regress,
            steps=150,
        ),
        Family("vae", lambda s: nets.VAE(32 + 16 * s, 4 + s), curves, negative_elbo, steps=200),
        Family("encoder-pre", lambda s: attend.Encoder(16 + 16 * s, 2 + s, pre=True), sequences, regress),
        Family("encoder-post", lambda s: attend.Encoder(16 + 16 * s, 2 + s, pre=False), padded, regress),
        Family(
            "attention", lambda s: attend.BareAttention(16 + 8 * s, 2), sequences, regress, steps=200, lr=1e-2
        ),
        Family("space-time", lambda s: attend.SpaceTime(24 + 8 * s, 2 + 2 * s), clips, regress, steps=60),
        Family("unet", lambda s: attend.UNet(8 + 8 * s), frames, regress, steps=60),
        Family("conditioned", lambda s: attend.Conditioned(16 + 16 * s, 2), conditions, regress),
        Family("towers", lambda s: nets.TwoTowers(8 + 8 * s), pairs, match, steps=150),
        Family("hf-bert", hugging_face.bert, bert_tokens, classify, steps=40),
        Family("hf-gpt2", hugging_face.gpt2, strings, classify, steps=40),
        Family(
            "hf-vit", hugging_face.vit, lambda g, n: named_images("pixel_values", g, n), classify, steps=40
        ),
        Family("graph", lambda s: nets.GraphNet(16 + 8 * s, 2), graphs, regress, held_out_only=True),
        Family(
            "sequence-first",
            lambda s: nets.SequenceFirst(16 + 8 * s),
            time_first,
            regress,
            lr=1e-2,
            held_out_only=True,
            axis=1,
        ),
        Family(
            "queries", lambda s: attend.Queries(16 + 8 * s), summaries, regress, steps=150, held_out_only=True
        ),
        Family(
            "vae-sampler",
            lambda s: nets.Sampler(16 + 16 * s, 4),
            curves,
            sampled,
            steps=150,
            held_out_only=True,
        ),
        Family(
            "tower-pair",
            lambda s: nets.TwoTowers(8 + 8 * s, embeddings=True),
            pairs,
            agree,
            steps=150,
            held_out_only=True,
        ),
        Family("hf-t5", hugging_face.t5, echo, classify, steps=40, held_out_only=True),
        Family("hf-llama", hugging_face.llama, strings, classify, steps=40, held_out_only=True),
    )
}
"""Every kind, by name."""


def sizes(family: Family) -> tuple[int, ...]:
    """Which sizes a family comes in: 0 is calibration, 1 is held-out."""
    return (1,) if family.held_out_only else (0, 1)
