"""Which faults each kind of model gets, and where the movement dies then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from benchmarks.variation_study.plant import (
    Average,
    Coarse,
    Plant,
    Stale,
    Times,
    after,
    before,
    blown_variance,
    cold,
    drown,
    gate,
    half,
    not_a_number,
    off,
    one_row,
    saturate,
    shift,
    soften,
    uniform,
    zero,
)


@dataclass(frozen=True)
class Fault:
    """What is planted, and where the movement dies."""

    name: str
    plant: Plant
    injected: str
    also: tuple[str, ...] = ()
    codes: tuple[str, ...] = ("VAR002",)
    level: str = "fail"
    source: str = ""


def branch(path: str, also: tuple[str, ...] = (), name: str = "branch dead behind the stream") -> Fault:
    """A residual branch that adds a constant: the output still moves, so a warning is enough."""
    return Fault(name, zero(path), path, also, ("VAR003",), "warn")


def deaf(
    name: str, plant: Plant, injected: str, source: str, *, also: tuple[str, ...] = (), level: str = "fail"
) -> Fault:
    """The output moves with another input and ignores `source`."""
    return Fault(name, plant, injected, also, ("VAR004",), level, source)


def alike(path: str, *axes: int) -> Fault:
    """All tokens equal, though samples differ."""
    return Fault("tokens all equal", after(path, Average(*axes)), f"{path}.1", (path,), ("VAR005",), "warn")


def standard(first: str, head: str, *, deaf_to: str = "") -> Iterator[Fault]:
    """What can happen to any model with a first layer and a head."""
    heads = (head,)
    yield Fault("head off", off(head), head)
    yield Fault("head drowned 1e-4", drown(head, 1e-4), head)
    yield Fault("head drowned 1e-6", drown(head, 1e-6), head)
    yield Fault("head at rounding, bf16", half(drown(head, 1e-3)), head)
    for name, plant in (("first layer zero", zero(first)), ("first layer drowned 1e-8", drown(first, 1e-8))):
        yield deaf(name, plant, first, deaf_to) if deaf_to else Fault(name, plant, first)
    yield Fault("NaN weight", not_a_number(head), heads[0], codes=("VAR001",))


def faults_of(kind: str, size: int) -> Iterator[Fault]:  # noqa: PLR0915 - a table, one kind after the other
    """Every fault of one kind; `size` decides how deep the model is."""
    if kind == "mlp":
        yield from standard("fc0", "head")
        yield Fault("hidden layer zero", zero("fc1"), "fc1")
        yield Fault("softmax saturated", soften("head", 1e3), "head.1", ("head", "head.0"))
        yield Fault("inputs divided by 1e9", before("fc0", Times(1e-9)), "fc0.1", ("fc0", "fc0.0"))
        yield Fault("fake quantisation too coarse", after("fc1", Coarse(1e4)), "fc1.1", ("fc1",))
        yield Fault("hidden layer drowned 1e-6", drown("fc1", 1e-6), "fc1")
        yield Fault("dead ReLU", shift("fc1", -1e3), "act1", ("fc1",))
        yield Fault("first ReLU dead", shift("fc0", -1e3), "act0", ("fc0",))
    elif kind == "norm-mlp":
        yield from standard("fc0", "head")
        yield Fault("LayerNorm gain zero", zero("norm1"), "norm1")
        yield Fault("LayerNorm gain 1e-6", drown("norm0", 1e-6), "norm0")
        yield Fault("dead activation", shift("norm1", -1e3), "act1", ("norm1",))
    elif kind == "sigmoid-head":
        yield from standard("fc0", "head")
        yield Fault("sigmoid at 1", shift("head", 60.0), "last", ("head",))
        yield Fault("sigmoid at 0", shift("head", -200.0), "last", ("head",))
        yield Fault("tanh saturated", saturate("fc1", 40.0), "act1", ("fc1",))
    elif kind == "convnet":
        yield from standard("conv0", "head")
        yield Fault("strided convolution zero", zero("conv1"), "conv1")
        yield Fault("inputs divided by 1e9", before("conv0", Times(1e-9)), "conv0.1", ("conv0", "conv0.0"))
        yield Fault("stale cache", after("bn1", Stale()), "bn1.1", ("bn1",))
        yield Fault("BatchNorm gain zero", zero("bn1"), "bn1")
        yield Fault("BatchNorm variance blown", blown_variance("bn1"), "bn1")
        yield Fault("dead activation", shift("bn2", -1e3), "act2", ("bn2",))
        yield Fault("last convolution drowned 1e-6", drown(f"conv{2 + size}", 1e-6), f"conv{2 + size}")
    elif kind == "resnet":
        yield from standard("stem", "head")
        yield branch("blocks.0.bn2", name="branch norm gain zero")
        yield branch("blocks.1.conv2", ("blocks.1.bn2",))
        yield Fault(
            "stream under ReLU", shift("blocks.0.bn2", -1e4), "blocks.0.act2", ("blocks.0", "blocks.0.bn2")
        )
    elif kind == "mixer":
        yield from standard("patch", "head")
        yield Fault("final LayerNorm gain zero", zero("norm"), "norm")
        yield Fault("stale cache", after("patch", Stale()), "patch.1", ("patch",))
        yield branch("blocks.0.token_mix.2", ("blocks.0.token_mix",))
        yield branch(
            "blocks.1.channel_mix.2", ("blocks.1.channel_mix",), "second branch dead behind the stream"
        )
    elif kind in {"lstm", "gru"}:
        yield from (f for f in standard("embed", "head") if not f.name.startswith("first"))
        yield Fault("embedding one row", one_row("embed"), "embed")
        if kind == "lstm":
            yield Fault("input gate closed", gate("rnn", 0, -200.0), "rnn")
            yield Fault("output gate closed", gate("rnn", 3, -200.0, size), "rnn")
        else:
            yield Fault("update gate closed", gate("rnn", 1, 200.0), "rnn")
            yield Fault("last update gate closed", gate("rnn", 1, 200.0, size), "rnn")
    elif kind == "autoencoder":
        yield from standard("enc0", "out")
        yield Fault("code zero", zero("code"), "code")
        yield Fault("code quantised to one level", after("code", Coarse(1e4)), "code.1", ("code",))
        yield Fault("decoder zero", zero("dec0"), "dec0")
        yield Fault("code drowned 1e-6", drown("code", 1e-6), "code")
        yield Fault("decoder drowned 1e-5", drown("dec0", 1e-5), "dec0")
    elif kind in {"vae", "vae-sampler"}:
        at = "vae." if kind == "vae-sampler" else ""
        codes, level = (("VAR002",), "fail") if at else (("VAR002", "VAR003"), "warn")
        mean = Fault(
            "posterior is the prior", _both(zero(f"{at}mean", f"{at}logvar"), off(f"{at}logvar")), f"{at}mean"
        )
        yield Fault(mean.name, mean.plant, mean.injected, (f"{at}logvar",))
        for path, where in ((f"{at}decoder.0", "latent ignored"), (f"{at}decoder.2", "decoder head")):
            yield Fault(f"{where}, zero", zero(path), path, codes=codes, level=level)
            yield Fault(f"{where}, drowned 1e-6", drown(path, 1e-6), path, codes=codes, level=level)
        yield Fault("encoder zero", zero(f"{at}encoder.0"), f"{at}encoder.0")
        yield Fault("encoder drowned 1e-7", drown(f"{at}encoder.2", 1e-7), f"{at}encoder.2")
        yield Fault("NaN weight", not_a_number(f"{at}decoder.2"), f"{at}decoder.2", codes=("VAR001",))
    elif kind in {"encoder-pre", "encoder-post"}:
        yield from standard("inp", "head", deaf_to="x" if kind == "encoder-post" else "")
        layer = "encoder.layers.0"
        if kind == "encoder-pre":
            yield Fault("final LayerNorm gain zero", zero("encoder.norm"), "encoder.norm")
            yield branch(f"{layer}.linear2")
            yield branch(f"{layer}.norm1", name="branch norm gain zero")
            yield branch(
                "encoder.layers.1.self_attn.out_proj",
                ("encoder.layers.1.self_attn",),
                "attention dead behind the stream",
            )
            yield alike("encoder.norm", 1)
        else:
            yield Fault("post-LN gain zero", zero(f"{layer}.norm2"), f"{layer}.norm2", (layer,))
            yield Fault("post-LN gain 1e-6", drown("encoder.layers.1.norm1", 1e-6), "encoder.layers.1.norm1")
            yield branch(f"{layer}.linear2")
            yield Fault(
                "tokens all equal", before("head", Average(1)), "head.0", ("head",), ("VAR005",), "warn"
            )
    elif kind == "attention":
        yield from standard("inp", "head")
        yield Fault("values zero", zero("layers.0.v"), "layers.0.v")
        yield Fault("output projection zero", zero("layers.1.out"), "layers.1.out", ("layers.1",))
        yield Fault("values drowned 1e-5", drown("layers.1.v", 1e-5), "layers.1.v")
        names = tuple(f"layers.0.{part}" for part in ("k", "out"))
        yield Fault(
            "attention uniform", uniform("layers.0"), "layers.0.q", (*names, "layers.0"), ("VAR005",), "warn"
        )
    elif kind == "space-time":
        yield from standard("patch", "out", deaf_to="x")
        yield Fault("final LayerNorm gain zero", zero("norm"), "norm")
        yield branch("blocks.1.time.out", ("blocks.1.time",), "time attention dead behind the stream")
        yield branch("blocks.0.mlp.2", ("blocks.0.mlp",), "MLP dead behind the stream")
        yield deaf("ignores the noise level", off("level.2"), "level.2", "tau", also=("level",), level="warn")
        yield alike("norm", 1, 2)
    elif kind == "unet":
        yield from standard("inp", "out", deaf_to="x")
        yield Fault("final GroupNorm gain zero", zero("norm"), "norm")
        yield Fault("dead activation", shift("inp", -1e4), "down", ("inp",))
        yield branch("down", name="low path dead behind the skip")
        yield branch("mid.2", ("mid", "up"), "middle dead behind the skip")
        yield deaf("ignores the noise level", off("level.2"), "level.2", "tau", also=("level",), level="warn")
    elif kind == "conditioned":
        yield from standard("inp", "head", deaf_to="x")
        yield deaf(
            "context values zero",
            zero("cross.0.v", "cross.1.v"),
            "cross.0.v",
            "context",
            also=("cross.0",),
            level="warn",
        )
        yield deaf("context embedding zero", zero("context_in"), "context_in", "context", level="warn")
        yield branch("mlps.0.3", ("mlps.0",))
    elif kind == "towers":
        yield deaf("image tower zero", zero("image.4"), "image.4", "image", also=("image",))
        yield deaf("image tower dead ReLU", shift("image.0", -1e3), "image.1", "image", also=("image.0",))
        yield deaf("image tower drowned 1e-6", drown("image.2", 1e-6), "image.2", "image")
        yield deaf("text embedding one row", one_row("embed"), "embed", "text", level="warn")
        yield deaf("text tower zero", zero("text.2"), "text.2", "text", also=("text",), level="warn")
        yield Fault("temperature frozen out", cold("temperature"), "")
        yield Fault("NaN weight", not_a_number("text.2"), "text.2", codes=("VAR001",))
    elif kind == "tower-pair":
        any_code = ("VAR002", "VAR003", "VAR004")
        yield Fault("image tower zero", zero("image.4"), "image.4", ("image",), any_code, "warn", "image")
        yield Fault(
            "image tower drowned 1e-6", drown("image.2", 1e-6), "image.2", (), any_code, "warn", "image"
        )
        yield Fault("text tower zero", zero("text.2"), "text.2", ("text",), any_code, "warn", "text")
        yield Fault("text embedding one row", one_row("embed"), "embed", (), any_code, "warn", "text")
    elif kind == "graph":
        yield from standard("embed", "head", deaf_to="nodes")
        yield Fault("last LayerNorm gain zero", zero("norms.1"), "norms.1")
        yield deaf(
            "messages zero",
            zero("messages.0", "messages.1"),
            "messages.0",
            "adjacency",
            also=("messages.1",),
            level="warn",
        )
        yield alike("norms.1", 1)
    elif kind == "sequence-first":
        yield from standard("inp", "head")
        yield Fault("input gate closed", gate("rnn", 0, -200.0), "rnn")
        yield Fault("output gate closed", gate("rnn", 3, -200.0, 1), "rnn")
    elif kind == "queries":
        yield from standard("inp", "head")
        yield Fault("values zero", zero("read.v"), "read.v")
        yield Fault("final LayerNorm gain zero", zero("norm"), "norm")
        yield Fault("values drowned 1e-6", drown("read.v", 1e-6), "read.v")
        yield alike("norm", 1)
    elif kind == "hf-bert":
        yield from (f for f in standard("classifier", "classifier") if not f.name.startswith("first"))
        words, layer = "bert.embeddings.word_embeddings", "bert.encoder.layer.0"
        # the mask still moves the output, by less than a thousandth
        yield Fault("embedding one row", one_row(words), words, (), ("VAR002", "VAR004"), source="input_ids")
        yield Fault(
            "embedding LayerNorm gain zero",
            zero("bert.embeddings.LayerNorm"),
            "bert.embeddings.LayerNorm",
            ("bert.embeddings",),
        )
        yield Fault(
            "layer's LayerNorm gain zero",
            zero(f"{layer}.output.LayerNorm"),
            f"{layer}.output.LayerNorm",
            (f"{layer}.output", layer),
        )
        yield Fault(
            "pooler saturated",
            saturate("bert.pooler.dense", 60.0),
            "bert.pooler.activation",
            ("bert.pooler.dense", "bert.pooler"),
        )
        yield branch(f"{layer}.attention.output.dense")
    elif kind == "hf-gpt2":
        yield Fault("embedding one row", one_row("transformer.wte"), "transformer.wte")
        yield Fault(
            "final LayerNorm gain zero", zero("transformer.ln_f"), "transformer.ln_f", ("transformer",)
        )
        yield Fault(
            "final LayerNorm gain 1e-6", drown("transformer.ln_f", 1e-6), "transformer.ln_f", ("transformer",)
        )
        yield Fault(
            "final LayerNorm at rounding, bf16",
            half(drown("transformer.ln_f", 1e-3)),
            "transformer.ln_f",
            ("transformer",),
        )
        yield branch("transformer.h.0.mlp.c_proj", ("transformer.h.0.mlp",), "MLP dead behind the stream")
        yield branch(
            "transformer.h.1.attn.c_proj", ("transformer.h.1.attn",), "attention dead behind the stream"
        )
        yield branch("transformer.h.1.ln_2", name="branch norm gain zero")
        yield alike("transformer.ln_f", 1)
        yield Fault("NaN weight", not_a_number("transformer.ln_f"), "transformer.ln_f", codes=("VAR001",))
    elif kind == "hf-vit":
        yield from (f for f in standard("classifier", "classifier") if not f.name.startswith("first"))
        patch = "vit.embeddings.patch_embeddings.projection"
        yield Fault("patches zero", zero(patch), patch, ("vit.embeddings.patch_embeddings",))
        yield Fault("patches drowned 1e-7", drown(patch, 1e-7), patch, ("vit.embeddings.patch_embeddings",))
        yield Fault("final LayerNorm gain zero", zero("vit.layernorm"), "vit.layernorm", ("vit",))
    elif kind == "hf-t5":
        final = "encoder.final_layer_norm"
        yield Fault(
            "embedding one row", one_row("shared"), "shared", ("encoder.embed_tokens", "decoder.embed_tokens")
        )
        yield deaf(
            "encoder norm gain zero", zero(final), final, "input_ids", also=("encoder", "encoder.dropout")
        )
        yield Fault(
            "decoder norm gain zero",
            zero("decoder.final_layer_norm"),
            "decoder.final_layer_norm",
            ("decoder",),
        )
        values = [f"decoder.block.{i}.layer.1.EncDecAttention.v" for i in range(2 + size)]
        yield deaf(
            "cross-attention values zero",
            zero(*values),
            values[0],
            "input_ids",
            also=("decoder.block.0.layer.1.EncDecAttention.o",),
        )
        yield branch("encoder.block.0.layer.1.DenseReluDense.wo", ("encoder.block.0.layer.1.DenseReluDense",))
        yield Fault("NaN weight", not_a_number(final), final, codes=("VAR001",))
    elif kind == "hf-llama":
        yield Fault("embedding one row", one_row("model.embed_tokens"), "model.embed_tokens")
        yield Fault("final norm gain zero", zero("model.norm"), "model.norm", ("model",))
        yield Fault("head zero", zero("lm_head"), "lm_head")
        yield branch("model.layers.0.mlp.down_proj", ("model.layers.0.mlp",), "MLP dead behind the stream")
        yield branch(
            "model.layers.1.self_attn.o_proj",
            ("model.layers.1.self_attn",),
            "attention dead behind the stream",
        )
        yield alike("model.norm", 1)
        yield Fault("NaN weight", not_a_number("model.norm"), "model.norm", codes=("VAR001",))
    else:
        raise AssertionError(f"no faults are written for {kind}")


def _both(first: Plant, second: Plant) -> Plant:
    def plant(model: nn.Module) -> None:
        first(model)
        second(model)

    return plant
