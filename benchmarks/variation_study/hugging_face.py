"""Tiny random configurations of models that people take from Hugging Face."""

from __future__ import annotations

from torch import nn


def bert(size: int) -> nn.Module:
    """A tiny random BERT classifier with attention and hidden dropout."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=32 + 16 * size, num_hidden_layers=2 + size, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    model: nn.Module = BertForSequenceClassification(config)
    return model


def gpt2(size: int) -> nn.Module:
    """A tiny random GPT-2 language model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=30,
        n_embd=32 + 16 * size,
        n_layer=2 + size,
        n_head=4,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: nn.Module = GPT2LMHeadModel(config)
    return model


def t5(size: int) -> nn.Module:
    """A tiny random T5, encoder and decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=30,
        d_model=32 + 16 * size,
        d_kv=8,
        d_ff=64,
        num_layers=2 + size,
        num_heads=4,
        decoder_start_token_id=0,
    )
    model: nn.Module = T5ForConditionalGeneration(config)
    return model


def llama(size: int) -> nn.Module:
    """A tiny random Llama: RMSNorm, rotary positions, gated MLP, no biases."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=30, hidden_size=32 + 16 * size, intermediate_size=64, num_hidden_layers=2 + size,
        num_attention_heads=4, max_position_embeddings=16,
    )  # fmt: skip
    model: nn.Module = LlamaForCausalLM(config)
    return model


def vit(size: int) -> nn.Module:
    """A tiny random ViT classifier on 12×12 images."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32 + 16 * size, num_hidden_layers=2 + size, num_attention_heads=4, intermediate_size=64,
        image_size=12, patch_size=4, num_channels=1, num_labels=4,
    )  # fmt: skip
    model: nn.Module = ViTForImageClassification(config)
    return model
