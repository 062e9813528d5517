"""Models of Hugging Face that were left out while the capture was written, to see how it does on unknown ones."""

from __future__ import annotations

import torch

from benchmarks.attention_maps.case import Case
from benchmarks.attention_maps.families import (
    BATCH,
    CODER,
    IMAGE,
    PLAIN,
    SMALL,
    T5,
    WAVE,
    WORDS,
    case,
    images,
    text,
    two_texts,
    waves,
    words,
)
from benchmarks.attention_maps.text_families import DENSE, EXPERTS, GPT, GROUPS, four_axes

__all__ = ["more_families"]

MOE = {**GROUPS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
NO_MAPS = lambda *_: []  # noqa: E731


def more_families() -> tuple[Case, ...]:
    """Every held-out family."""
    return (*_texts(), *_others(), *_free())


def _texts() -> tuple[Case, ...]:
    return (
        case("camembert", "CamembertModel", SMALL, text),
        case("data2vec-text", "Data2VecTextModel", SMALL, text),
        case("xmod", "XmodModel", {**SMALL, "languages": ["en"], "default_language": "en"}, text),
        case("flaubert", "FlaubertModel", {"vocab_size": WORDS, "n_words": WORDS, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}, text),
        case("roberta-prelayernorm", "RobertaPreLayerNormModel", SMALL, text),
        case("xlm-roberta-xl", "XLMRobertaXLModel", SMALL, text),
        case("bert-generation", "BertGenerationEncoder", SMALL, text, config="BertGenerationConfig"),
        case("layoutlm", "LayoutLMModel", SMALL, text),
        case("lilt", "LiltModel", {**SMALL, "hidden_size": 48, "channel_shrink_ratio": 2}, text),
        case("markuplm", "MarkupLMModel", SMALL, text),
        case("tapas", "TapasModel", SMALL, text),
        case("luke", "LukeModel", {**SMALL, "entity_vocab_size": 10, "entity_emb_size": 16}, text),
        case("mra", "MraModel", SMALL, text, expects="exact or counted"),
        case("yoso", "YosoModel", {**SMALL, "use_expectation": True}, text, expects="exact or named"),
        case("olmo", "OlmoForCausalLM", GROUPS, text),
        case("olmoe", "OlmoeForCausalLM", {**GROUPS, "num_experts": 4, "num_experts_per_tok": 2}, text),
        case("phimoe", "PhimoeForCausalLM", {**GROUPS, **EXPERTS}, text),
        case("granitemoe", "GraniteMoeForCausalLM", {**GROUPS, **EXPERTS}, text),
        case("deepseek-v2", "DeepseekV2ForCausalLM", {**SMALL, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 16}, text),
        case("qwen3-moe", "Qwen3MoeForCausalLM", {**MOE, "head_dim": 8}, text),
        case("nemotron", "NemotronForCausalLM", GROUPS, text),
        case("glm4", "Glm4ForCausalLM", DENSE, text),
        case("helium", "HeliumForCausalLM", DENSE, text),
        case("exaone4", "Exaone4ForCausalLM", {**GROUPS, "sliding_window": 4, "sliding_window_pattern": 2}, text),
        case("cohere2", "Cohere2ForCausalLM", {**GROUPS, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}, text),
        case("llama4", "Llama4ForCausalLM", {**DENSE, "attention_chunk_size": 4, "num_local_experts": 2, "intermediate_size_mlp": 64, "layer_types": ["chunked_attention", "full_attention"]}, lambda: text()[:1], config="Llama4TextConfig"),
        case("gpt-neox-japanese", "GPTNeoXJapaneseModel", {**SMALL, "intermediate_multiple_size": 2}, text),
        case("jamba", "JambaForCausalLM", {**GROUPS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 2, "use_mamba_kernels": False, "mamba_d_state": 4, "mamba_dt_rank": 4}, lambda: text()[:1]),
        case("recurrent-gemma", "RecurrentGemmaForCausalLM", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "lru_width": 32, "attention_window_size": 8, "pad_token_id": 0}, lambda: text()[:1]),
        case("minimax", "MiniMaxForCausalLM", {**DENSE, **EXPERTS, "layer_types": ["linear_attention", "full_attention"], "block_size": 4}, lambda: text()[:1], expects="exact or named"),
        case("bigbird-pegasus", "BigBirdPegasusModel", {**CODER, "attention_type": "original_full"}, two_texts),
        case("plbart", "PLBartModel", CODER, two_texts),
        case("blenderbot-small", "BlenderbotSmallModel", CODER, two_texts),
        case("mvp", "MvpModel", CODER, two_texts),
        case("nllb-moe", "NllbMoeModel", {**CODER, "num_experts": 2, "expert_capacity": 16}, two_texts, truth=four_axes),
        case("t5, tokens", "T5ForTokenClassification", T5, text, config="T5Config"),
        case("trocr", "TrOCRForCausalLM", {"vocab_size": WORDS, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "max_position_embeddings": 64, "is_decoder": True, "pad_token_id": 0}, text),
    )  # fmt: skip


def past() -> list[object]:
    """Two short series, their times, and what follows."""
    times, future = torch.randn(BATCH, 10, 1), torch.randn(BATCH, 4, 1)
    before = {"past_values": torch.randn(BATCH, 10), "past_observed_mask": torch.ones(BATCH, 10)}
    after = {"future_values": torch.randn(BATCH, 4), "future_time_features": future}
    return [{**before, "past_time_features": times, **after}]


def _others() -> tuple[Case, ...]:
    sizes = {
        f"{part}_{what}": n
        for part in ("encoder", "decoder")
        for what, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    lengths = {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2], "num_time_features": 1}
    series = {**lengths, **sizes, "d_model": 16}
    return (
        case("data2vec-audio", "Data2VecAudioModel", {**WAVE, "conv_pos_kernel_size": 4}, waves),
        case("unispeech-sat", "UniSpeechSatModel", WAVE, waves),
        case("sew-d", "SEWDModel", {**WAVE, "squeeze_factor": 2}, waves),
        case("wav2vec2-bert", "Wav2Vec2BertModel", {**SMALL, "feature_projection_input_dim": 8, "position_embeddings_type": "relative_key"}, lambda: [{"input_features": torch.randn(BATCH, 12, 8)}]),
        case("moonshine", "MoonshineModel", {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "encoder_num_key_value_heads": 4, "decoder_num_key_value_heads": 4}, lambda: [{"input_values": torch.randn(BATCH, 4000), "decoder_input_ids": words(5)}]),
        case("vits", "VitsModel", {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "flow_size": 16, "spectrogram_bins": 9, "upsample_initial_channel": 16, "window_size": 4}, lambda: [{"input_ids": words()}]),
        case("clap, audio", "ClapAudioModel", {"spec_size": 64, "num_mel_bins": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "window_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "enable_fusion": False, "patch_size": 4, "patch_stride": [4, 4], "num_classes": 3}, lambda: [{"input_features": torch.randn(BATCH, 1, 64, 16)}]),
        case("time-series", "TimeSeriesTransformerModel", series, past),
        case("informer", "InformerModel", {**series, "attention_type": "prob"}, past, expects="exact or named"),
        case("autoformer", "AutoformerModel", {**series, "label_length": 4, "moving_average": 3}, past, expects="exact or counted"),
        case("swin2sr", "Swin2SRModel", {"image_size": 16, "patch_size": 1, "embed_dim": 16, "depths": [1], "num_heads": [2], "window_size": 4}, images),
        case("donut-swin", "DonutSwinModel", {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4}, lambda: images(32)),
        case("dpt", "DPTModel", IMAGE, images),
        case("vitdet", "VitDetModel", {**PLAIN, "image_size": 16, "patch_size": 4, "pretrain_image_size": 16, "use_relative_position_embeddings": True, "window_block_indices": [0], "window_size": 2}, images),
        case("groupvit, vision", "GroupViTVisionModel", {**IMAGE, "depths": [1, 1, 0], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]}, images, expects="exact or counted"),
        case("altclip, vision", "AltCLIPVisionModel", IMAGE, images),
        case("visual-bert", "VisualBertModel", {**SMALL, "visual_embedding_dim": 8}, lambda: [{"input_ids": words(), "visual_embeds": torch.randn(BATCH, 3, 8)}]),
        case("lxmert", "LxmertModel", {**SMALL, "visual_feat_dim": 8, "visual_pos_dim": 4, "l_layers": 1, "x_layers": 1, "r_layers": 1}, lambda: [{"input_ids": words(), "visual_feats": torch.randn(BATCH, 3, 8), "visual_pos": torch.rand(BATCH, 3, 4)}]),
        case("q-former", "Blip2QFormerModel", {**SMALL, "encoder_hidden_size": 16, "cross_attention_frequency": 1}, lambda: [{"query_embeds": torch.randn(BATCH, 4, 32), "encoder_hidden_states": torch.randn(BATCH, 6, 16)}], config="Blip2QFormerConfig"),
        case("pix2struct, vision", "Pix2StructVisionModel", {**PLAIN, "d_ff": 64, "d_kv": 8, "patch_embed_hidden_size": 12, "seq_len": 64}, lambda: [{"flattened_patches": torch.rand(BATCH, 9, 14)}]),
        case("gpt2, upcast", "GPT2Model", {**GPT, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}, text, config="GPT2Config"),
        case("imagegpt", "ImageGPTModel", {**GPT, "vocab_size": WORDS + 1}, text),
    )  # fmt: skip


def _free() -> tuple[Case, ...]:
    waves_only = lambda: [{"input_values": torch.randn(BATCH, 1, 400)}]  # noqa: E731
    return (
        case("rwkv", "RwkvModel", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 32}, lambda: text()[:1], truth=NO_MAPS, expects="nothing"),
        case("mamba2", "Mamba2Model", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}, lambda: text()[:1], truth=NO_MAPS, expects="exact or counted"),
        case("falcon-mamba", "FalconMambaModel", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, lambda: text()[:1], truth=NO_MAPS, expects="nothing"),
        case("encodec", "EncodecModel", {"num_filters": 4, "upsampling_ratios": [4, 2], "codebook_size": 16, "hidden_size": 8, "codebook_dim": 8, "num_lstm_layers": 1}, waves_only, truth=NO_MAPS, expects="nothing"),
        case("dac", "DacModel", {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16, "upsampling_ratios": [4, 2], "n_codebooks": 2, "codebook_size": 16, "codebook_dim": 4}, waves_only, truth=NO_MAPS, expects="nothing"),
        case("mobilenet-v2", "MobileNetV2Model", {}, lambda: images(32), truth=NO_MAPS, expects="nothing"),
        case("efficientnet", "EfficientNetModel", {}, lambda: images(32), truth=NO_MAPS, expects="nothing"),
        case("regnet", "RegNetModel", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "groups_width": 8}, lambda: images(32), truth=NO_MAPS, expects="nothing"),
        case("convnext-v2", "ConvNextV2Model", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, lambda: images(32), truth=NO_MAPS, expects="nothing"),
        case("patchtsmixer", "PatchTSMixerModel", {"context_length": 32, "patch_length": 4, "patch_stride": 4, "num_input_channels": 2, "d_model": 8, "num_layers": 2, "gated_attn": True}, lambda: [{"past_values": torch.randn(BATCH, 32, 2)}], truth=NO_MAPS, expects="nothing"),
    )  # fmt: skip
