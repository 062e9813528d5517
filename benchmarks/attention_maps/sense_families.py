"""Models of Hugging Face that see and hear, and those that do both or neither."""

from __future__ import annotations

import torch

from benchmarks.attention_maps.case import Case
from benchmarks.attention_maps.families import (
    BATCH,
    CODER,
    IMAGE,
    PLAIN,
    SMALL,
    WAVE,
    WORDS,
    case,
    images,
    pairs,
    waves,
    with_masks,
    words,
)

__all__ = ["sense_families"]

STAGES = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
TOWERS = {"text_config": SMALL, "vision_config": IMAGE}


def video() -> list[object]:
    """Clips of four frames."""
    return [{"pixel_values": torch.randn(BATCH, 4, 3, 16, 16)}]


def sound() -> list[object]:
    """Log-mel features and the text that is said."""
    return [{"input_features": torch.randn(BATCH, 8, 40), "decoder_input_ids": words(7)}]


def spectrum() -> list[object]:
    """Log-mel features, frames first, with and without padding, and the text that is said."""
    batch = {"input_features": torch.randn(BATCH, 40, 8), "decoder_input_ids": words(7)}
    return with_masks(batch)


def sense_families() -> tuple[Case, ...]:
    """Every model that does not only read."""
    return (*_vision(), *_sound(), *_mixed())


def _vision() -> tuple[Case, ...]:
    return (
        case("vit", "ViTForImageClassification", IMAGE, images, config="ViTConfig"),
        case("deit", "DeiTModel", IMAGE, images),
        case("beit", "BeitModel", {**IMAGE, "use_relative_position_bias": True, "vocab_size": WORDS}, images),
        case("data2vec-vision", "Data2VecVisionModel", {**IMAGE, "use_relative_position_bias": True}, images),
        case("swin", "SwinModel", STAGES, lambda: images(32)),
        case("swin-v2", "Swinv2Model", STAGES, lambda: images(32)),
        case("dinov2", "Dinov2Model", {**IMAGE, "mlp_ratio": 2}, images),
        case("dinov2, registers", "Dinov2WithRegistersModel", {**IMAGE, "mlp_ratio": 2}, images),
        case("dinov3", "DINOv3ViTModel", IMAGE, images),
        case("ijepa", "IJepaModel", IMAGE, images),
        case("vit-mae", "ViTMAEForPreTraining", {**IMAGE, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4, "decoder_intermediate_size": 64}, images),
        case("vit-msn", "ViTMSNModel", IMAGE, images),
        case("yolos", "YolosModel", {**IMAGE, "image_size": [16, 16], "num_detection_tokens": 3}, images),
        case("sam, vision", "SamVisionModel", {**IMAGE, "output_channels": 16, "global_attn_indexes": [1], "window_size": 2, "mlp_dim": 64, "num_pos_feats": 8}, images),
        case("segformer", "SegformerModel", {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [16, 32], "patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2]}, images),
        case("pvt", "PvtModel", {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1], "sequence_reduction_ratios": [2, 1], "hidden_sizes": [16, 32], "patch_sizes": [4, 2], "strides": [4, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2]}, lambda: images(32)),
        case("glpn", "GLPNModel", {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [16, 32], "patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2]}, images),
        case("cvt", "CvtModel", {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3], "cls_token": [False, False, True]}, lambda: images(32)),
        case("mobilevit", "MobileViTModel", {"image_size": 32, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48]}, lambda: images(32)),
        case("levit", "LevitModel", {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "key_dim": [4, 4, 4]}, lambda: images(64)),
        case("vivit", "VivitModel", {**PLAIN, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4]}, video),
        case("videomae", "VideoMAEModel", {**IMAGE, "num_frames": 4, "tubelet_size": 2}, video),
        case("timesformer", "TimesformerModel", {**IMAGE, "num_frames": 4}, video),
    )  # fmt: skip


def _sound() -> tuple[Case, ...]:
    return (
        case("wav2vec2", "Wav2Vec2Model", WAVE, waves),
        case("wav2vec2-conformer", "Wav2Vec2ConformerModel", {**WAVE, "position_embeddings_type": "relative"}, waves),
        case("hubert", "HubertModel", WAVE, waves),
        case("wavlm", "WavLMModel", WAVE, waves),
        case("unispeech", "UniSpeechModel", WAVE, waves),
        case("sew", "SEWModel", {**WAVE, "squeeze_factor": 2}, waves),
        case("ast", "ASTModel", {**PLAIN, "patch_size": 4, "frequency_stride": 4, "time_stride": 4, "max_length": 16, "num_mel_bins": 8}, lambda: [{"input_values": torch.randn(BATCH, 16, 8)}]),
        case("whisper", "WhisperModel", {**CODER, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16}, sound),
        case("speech-to-text", "Speech2TextModel", {**CODER, "input_feat_per_channel": 8, "input_channels": 1, "conv_channels": 16, "max_source_positions": 64, "max_target_positions": 64}, spectrum),
    )  # fmt: skip


def _mixed() -> tuple[Case, ...]:
    perceiver = {
        "num_latents": 6,
        "d_latents": 32,
        "d_model": 24,
        "num_blocks": 1,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    }
    detr = {
        **CODER, "num_queries": 5, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
        "backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "out_features": ["stage2"], "layer_type": "basic"},
    }  # fmt: skip
    return (
        case("clip", "CLIPModel", {**TOWERS, "projection_dim": 16}, pairs),
        case("chinese-clip", "ChineseCLIPModel", {**TOWERS, "projection_dim": 16}, pairs),
        case("siglip", "SiglipModel", TOWERS, pairs),
        case("blip, vision", "BlipVisionModel", IMAGE, images),
        case("owlvit", "OwlViTModel", TOWERS, lambda: [{"input_ids": words(), "pixel_values": torch.randn(BATCH, 3, 16, 16)}]),
        case("vilt", "ViltModel", {**SMALL, **IMAGE}, pairs),
        case("detr", "DetrModel", detr, lambda: images(32)),
        case("perceiver", "PerceiverModel", perceiver, lambda: [{"inputs": torch.randn(BATCH, 10, 24)}]),
        case("decision", "DecisionTransformerModel", {"state_dim": 5, "act_dim": 3, "hidden_size": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "max_ep_len": 32}, lambda: [{"states": torch.randn(BATCH, 4, 5), "actions": torch.randn(BATCH, 4, 3), "rewards": torch.randn(BATCH, 4, 1), "returns_to_go": torch.randn(BATCH, 4, 1), "timesteps": torch.arange(4).expand(BATCH, 4), "attention_mask": torch.ones(BATCH, 4)}]),
        case("patchtst", "PatchTSTModel", {"num_input_channels": 2, "context_length": 32, "patch_length": 4, "patch_stride": 4, "num_hidden_layers": 2, "d_model": 32, "num_attention_heads": 4, "ffn_dim": 64}, lambda: [{"past_values": torch.randn(BATCH, 32, 2)}]),
    )  # fmt: skip
