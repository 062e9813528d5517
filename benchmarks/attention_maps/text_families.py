"""Language models of Hugging Face: encoders, decoders and both."""

from __future__ import annotations

from torch import Tensor

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.families import CODER, SMALL, T5, WORDS, case, text, two_texts, words
from benchmarks.attention_maps.truth import by_patching
from trainlab.visit import call, visit

__all__ = ["text_families"]

GROUPS = {**SMALL, "num_key_value_heads": 2}
DENSE = {**GROUPS, "head_dim": 8}
GPT = {
    "vocab_size": WORDS,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PLAIN_GPT = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
DISTIL = {
    "vocab_size": WORDS,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
}
FUNNEL = {
    "vocab_size": WORDS,
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 64,
    "block_sizes": [2, 1],
    "num_decoder_layers": 1,
}
REFORMER = {
    **SMALL, "attention_head_size": 8, "feed_forward_size": 64, "axial_pos_embds": False, "is_decoder": False,
    "hidden_act": "gelu", "local_attn_chunk_length": 16, "lsh_attn_chunk_length": 16, "num_buckets": 4,
}  # fmt: skip


def only_text() -> list[object]:
    """Tokens alone, for models that take no mask."""
    return [{"input_ids": words()}]


def by_asking(subject: Subject, batch: object) -> list[Tensor]:
    """The maps that the eager twin returns when asked, for a model whose softmax is an exp of differences."""
    model = subject.eager
    assert model is not None
    assert isinstance(batch, dict)
    with visit(model, seed=0):
        maps = call(model, {**batch, "output_attentions": True}).attentions
    return [map_ for map_ in maps if map_ is not None]


def four_axes(subject: Subject, batch: object) -> list[Tensor]:
    """Maps of (batch, head, query, key) alone: what routers and convolution kernels softmax has fewer axes."""
    return [map_ for map_ in by_patching(subject, batch) if map_.ndim == 4]


def without_sink(subject: Subject, batch: object) -> list[Tensor]:
    """Maps whose last column, a learnt sink that is no key, is left out before they meet the values."""
    return [map_[..., :-1] for map_ in by_patching(subject, batch)]


def text_families() -> tuple[Case, ...]:
    """Every language model of the study."""
    return (*_encoders(), *_decoders(), *_both())


def _encoders() -> tuple[Case, ...]:
    return (
        case("bert", "BertForSequenceClassification", SMALL, text),
        case("roberta", "RobertaModel", SMALL, text),
        case("xlm-roberta", "XLMRobertaModel", SMALL, text),
        case("albert", "AlbertModel", {**SMALL, "embedding_size": 16}, text),
        case("electra", "ElectraModel", {**SMALL, "embedding_size": 16}, text),
        case("distilbert", "DistilBertModel", DISTIL, text),
        case("mpnet", "MPNetModel", SMALL, text),
        case("deberta", "DebertaModel", {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, text),
        case("deberta-v2", "DebertaV2Model", {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": True}, text),
        case("convbert", "ConvBertModel", {**SMALL, "embedding_size": 16, "head_ratio": 1}, text, truth=four_axes),
        case("squeezebert", "SqueezeBertModel", {**SMALL, "embedding_size": 32, "q_groups": 2, "k_groups": 2, "v_groups": 2, "intermediate_groups": 2, "output_groups": 2, "post_attention_groups": 1}, text),
        case("mobilebert", "MobileBertModel", {**SMALL, "embedding_size": 16, "intra_bottleneck_size": 16}, text),
        case("ibert", "IBertModel", SMALL, text),
        case("megatron-bert", "MegatronBertModel", SMALL, text),
        case("rembert", "RemBertModel", {**SMALL, "input_embedding_size": 16, "output_embedding_size": 16}, text),
        case("roformer", "RoFormerModel", {**SMALL, "embedding_size": 32}, text, config="RoFormerConfig"),
        case("ernie", "ErnieModel", SMALL, text),
        case("esm", "EsmModel", {**SMALL, "mask_token_id": 3}, text),
        case("modernbert", "ModernBertModel", {**SMALL, "global_attn_every_n_layers": 2, "local_attention": 8}, text),
        case("splinter", "SplinterModel", SMALL, text),
        case("xlm", "XLMModel", {"vocab_size": WORDS, "n_words": WORDS, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}, text),
        case("xlnet", "XLNetModel", {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, text),
        case("funnel", "FunnelModel", FUNNEL, text),
        case("canine", "CanineModel", {**SMALL, "num_hash_buckets": 64, "local_transformer_stride": 8, "downsampling_rate": 4}, lambda: text(16)),
        case("bigbird, full", "BigBirdModel", {**SMALL, "attention_type": "original_full"}, text),
        case("reformer, local", "ReformerModel", {**REFORMER, "attn_layers": ["local", "local"]}, only_text, truth=by_asking),
        case("reformer, lsh", "ReformerModel", {**REFORMER, "attn_layers": ["lsh", "lsh"]}, only_text, truth=by_asking),
    )  # fmt: skip


def _decoders() -> tuple[Case, ...]:
    return (
        case("gpt2", "GPT2LMHeadModel", GPT, text, config="GPT2Config"),
        case("gpt-neo", "GPTNeoForCausalLM", {**PLAIN_GPT, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4}, text),
        case("gpt-neox", "GPTNeoXForCausalLM", SMALL, text),
        case("gptj", "GPTJForCausalLM", {**GPT, "rotary_dim": 4}, text),
        case("codegen", "CodeGenForCausalLM", {**GPT, "rotary_dim": 4}, text),
        case("gpt-bigcode", "GPTBigCodeForCausalLM", GPT, text),
        case("openai-gpt", "OpenAIGPTModel", GPT, text),
        case("ctrl", "CTRLModel", {**GPT, "dff": 64}, text),
        case("opt", "OPTForCausalLM", {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}, text),
        case("bloom", "BloomForCausalLM", {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 4}, text),
        case("mpt", "MptForCausalLM", {"vocab_size": WORDS, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}, text),
        case("falcon", "FalconForCausalLM", {**SMALL, "alibi": False}, text),
        case("falcon, alibi", "FalconForCausalLM", {**SMALL, "alibi": True, "new_decoder_architecture": False}, text, twin=False),  # its eager scales the bias otherwise
        case("llama", "LlamaForCausalLM", GROUPS, text),
        case("mistral", "MistralForCausalLM", {**GROUPS, "sliding_window": 4}, text),
        case("mixtral", "MixtralForCausalLM", {**GROUPS, **EXPERTS, "sliding_window": None}, text),
        case("qwen2", "Qwen2ForCausalLM", GROUPS, text),
        case("qwen2-moe", "Qwen2MoeForCausalLM", {**GROUPS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}, text),
        case("qwen3", "Qwen3ForCausalLM", DENSE, text),
        case("gemma", "GemmaForCausalLM", DENSE, text),
        case("gemma2", "Gemma2ForCausalLM", {**DENSE, "sliding_window": 4, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}, text),
        case("gemma3", "Gemma3ForCausalLM", {**DENSE, "sliding_window": 4, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]}, text, config="Gemma3TextConfig"),
        case("phi", "PhiForCausalLM", SMALL, text),
        case("phi3", "Phi3ForCausalLM", {**GROUPS, "sliding_window": None}, text),
        case("stablelm", "StableLmForCausalLM", GROUPS, text),
        case("starcoder2", "Starcoder2ForCausalLM", {**GROUPS, "sliding_window": 4}, text),
        case("olmo2", "Olmo2ForCausalLM", GROUPS, text),
        case("granite", "GraniteForCausalLM", GROUPS, text),
        case("cohere", "CohereForCausalLM", GROUPS, text),
        case("smollm3", "SmolLM3ForCausalLM", GROUPS, text),
        case("glm", "GlmForCausalLM", DENSE, text),
        case("persimmon", "PersimmonForCausalLM", SMALL, text),
        case("xglm", "XGLMForCausalLM", {"vocab_size": WORDS, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 64, "pad_token_id": 0}, text),
        case("biogpt", "BioGptForCausalLM", SMALL, text),
        case("deepseek-v3", "DeepseekV3ForCausalLM", {**SMALL, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 16}, text),
        case("gpt-oss", "GptOssForCausalLM", {**DENSE, **EXPERTS, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}, text, truth=without_sink),
    )  # fmt: skip


def _both() -> tuple[Case, ...]:
    return (
        case("t5", "T5ForConditionalGeneration", T5, two_texts, config="T5Config"),
        case("mt5", "MT5ForConditionalGeneration", T5, two_texts, config="MT5Config"),
        case("umt5", "UMT5ForConditionalGeneration", T5, two_texts, config="UMT5Config"),
        case("longt5, local", "LongT5ForConditionalGeneration", {**T5, "encoder_attention_type": "local", "local_radius": 3}, two_texts, config="LongT5Config"),
        case("longt5, global", "LongT5ForConditionalGeneration", {**T5, "encoder_attention_type": "transient-global", "local_radius": 3, "global_block_size": 4}, two_texts, config="LongT5Config"),
        case("switch", "SwitchTransformersForConditionalGeneration", {**T5, "num_experts": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}, two_texts, config="SwitchTransformersConfig", truth=four_axes),
        case("bart", "BartModel", CODER, two_texts),
        case("mbart", "MBartModel", CODER, two_texts),
        case("pegasus", "PegasusModel", CODER, two_texts),
        case("blenderbot", "BlenderbotModel", CODER, two_texts),
        case("marian", "MarianModel", CODER, two_texts),
        case("m2m-100", "M2M100Model", CODER, two_texts),
        case("fsmt", "FSMTModel", {**CODER, "langs": ["en", "de"], "src_vocab_size": WORDS, "tgt_vocab_size": WORDS}, two_texts),
        case("prophetnet", "ProphetNetModel", {"vocab_size": WORDS, "hidden_size": 32, "max_position_embeddings": 64, "pad_token_id": 0, "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ngram": 2, "num_buckets": 8, "relative_max_distance": 16, "decoder_start_token_id": 1, "eos_token_id": 2, "bos_token_id": 1}, two_texts),
    )  # fmt: skip
