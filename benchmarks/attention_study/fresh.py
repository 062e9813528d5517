"""Models of Hugging Face as they come out of their constructor, tiny and random: the rules may say no more than that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FAMILIES", "fresh"]

_TEXT: dict[str, Any] = {
    "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
_IMAGE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 16,
    "patch_size": 4, "num_channels": 3,
}  # fmt: skip
FAMILIES = (
    "Bert", "Roberta", "Electra", "GPT2", "GPTNeoX", "Llama", "Mistral", "Qwen2", "Gemma", "Phi", "OPT", "StableLm", "ViT",
    "DeiT", "Dinov2",
)  # fmt: skip


def fresh(family: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model of a family with random weights, as its own init draws them, and a batch."""
    import transformers

    image = family in ("ViT", "DeiT", "Dinov2")
    given = dict(_IMAGE if image else _TEXT)
    if family == "Gemma":
        given["head_dim"] = 8
    if family == "OPT":
        given |= {"ffn_dim": 64, "word_embed_proj_dim": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**given)
        model: nn.Module = getattr(transformers, f"{family}Model")(config).eval()
        batch = (
            {"pixel_values": torch.randn(2, 3, 16, 16)}
            if image
            else {"input_ids": torch.randint(3, 30, (2, 24))}
        )
    return model, batch
