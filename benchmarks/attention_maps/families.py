"""Tiny random configurations of Hugging Face models, offline, at their default attention."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attention_maps.case import Case, Expects, Subject, Truth
from benchmarks.attention_maps.truth import by_patching

__all__ = ["BATCH", "case", "hugging_face", "torchvision_on_cpu", "with_masks"]

BATCH, LENGTH, WORDS = 2, 12, 64
SMALL: Mapping[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
PLAIN = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
CODER = {
    "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
IMAGE = {**PLAIN, "image_size": 16, "patch_size": 4, "num_channels": 3}
WAVE = {
    **SMALL, "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "apply_spec_augment": False,
}  # fmt: skip


# --- batches


def words(length: int = LENGTH) -> Tensor:
    """Random tokens, none of them special."""
    return torch.randint(5, WORDS, (BATCH, length))


def with_masks(batch: Mapping[str, Any], name: str = "attention_mask") -> list[object]:
    """The batch without a mask, and with the end of its second entry padded."""
    ids = next(iter(batch.values()))
    mask = torch.ones(ids.shape[:2], dtype=torch.long)
    mask[1, -3:] = (
        0  # fewer than the smallest window: a row that sees nothing is even in eager, empty in the fused kernel
    )
    return [dict(batch), {**batch, name: mask}]


def text(length: int = LENGTH) -> list[object]:
    """Tokens, with and without padding."""
    return with_masks({"input_ids": words(length)})


def two_texts(length: int = LENGTH) -> list[object]:
    """Tokens for an encoder and fewer for its decoder."""
    return with_masks({"input_ids": words(length), "decoder_input_ids": words(7)})


def images(size: int = 16, name: str = "pixel_values") -> list[object]:
    """Colour images."""
    return [{name: torch.randn(BATCH, 3, size, size)}]


def pairs() -> list[object]:
    """Images with captions."""
    return [
        {**batch, "pixel_values": torch.randn(BATCH, 3, 16, 16)}
        for batch in text()
        if isinstance(batch, dict)
    ]


def waves(length: int = 400) -> list[object]:
    """Sound, with and without padding."""
    batch = {"input_values": torch.randn(BATCH, length)}
    mask = torch.ones(BATCH, length, dtype=torch.long)
    mask[1, 250:] = 0
    return [batch, {**batch, "attention_mask": mask}]


# --- making a case


@functools.cache
def torchvision_on_cpu() -> torch.library.Library | None:
    """Let timm and transformers import it: beside a CPU build of torch it asks for operators that no model here calls."""
    if not find_spec("torchvision") or hasattr(torch.ops.torchvision, "nms"):
        return None
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators  # which go when it goes


def hugging_face(
    model: str, config: str, settings: Mapping[str, Any], batches: Callable[[], list[object]]
) -> Subject:
    """A random model as a user loads it, and a copy of it whose attention is eager."""
    torchvision_on_cpu()
    import transformers

    made = getattr(transformers, config)(**copy.deepcopy(dict(settings)))
    kind = getattr(transformers, model)
    default: nn.Module = kind(copy.deepcopy(made))
    eager: nn.Module = kind._from_config(copy.deepcopy(made), attn_implementation="eager")  # noqa: SLF001
    eager.load_state_dict(default.state_dict())
    return Subject(default, batches(), eager)


def case(
    name: str,
    model: str,
    settings: Mapping[str, Any],
    batches: Callable[[], list[object]],
    *,
    config: str = "",
    truth: Truth = by_patching,
    expects: Expects = "exact",
    twin: bool = True,
) -> Case:
    """A family as a case; the name of its configuration follows from the model's unless it is given.

    Without an eager `twin` the truth is the closed form of what the model hands to the fused kernel.
    """
    of = config or model.split("For", maxsplit=1)[0].removesuffix("Model").removesuffix("LMHead") + "Config"
    kind = {"exact": "Hugging Face", "nothing": "attention-free"}.get(expects, "hard")

    def make() -> Subject:
        subject = hugging_face(model, of, settings, batches)
        return subject if twin else replace(subject, eager=None)

    return Case(name, kind, make, truth, expects)
