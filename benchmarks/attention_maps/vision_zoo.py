"""timm models with fused attention at their default, random and small."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attention_maps.case import Case, Expects, Subject
from benchmarks.attention_maps.families import torchvision_on_cpu
from benchmarks.attention_maps.truth import by_patching, patched
from trainlab.visit import call, visit

__all__ = ["timm_cases"]

TINY: Mapping[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 4}
STAGES: Mapping[str, Any] = {"embed_dims": (16, 24, 32, 40), "depths": (1, 1, 1, 1)}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "vit_tiny_patch16_224": TINY,
    "vit_base_patch16_clip_224": TINY,
    "vit_base_patch16_siglip_224": TINY,
    "vit_small_patch14_dinov2": TINY,
    "vit_small_patch14_reg4_dinov2": TINY,
    "vit_relpos_small_patch16_224": TINY,
    "vit_srelpos_small_patch16_224": TINY,
    "vit_small_patch16_rope_224": TINY,
    "deit_tiny_patch16_224": TINY,
    "deit_tiny_distilled_patch16_224": TINY,
    "deit3_small_patch16_224": TINY,
    "beit_base_patch16_224": TINY,
    "beitv2_base_patch16_224": TINY,
    "eva02_tiny_patch14_224": TINY,
    "eva_large_patch14_196": TINY,
    "xcit_nano_12_p16_224": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "swin_tiny_patch4_window7_224": {"img_size": 56, "embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4)},
    "swinv2_tiny_window8_256": {"img_size": 64, "embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4)},
    "swinv2_cr_tiny_224": {"img_size": 224, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4)},
    "pit_ti_224": {"img_size": 64, "base_dims": (8, 8, 8), "depth": (1, 1, 1), "heads": (2, 4, 8)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 40, 64), "num_heads": (1, 2, 4, 8)},
    "twins_svt_small": {"img_size": 64, "embed_dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "num_heads": (2, 4, 8, 16)},
    "twins_pcpvt_small": {"img_size": 64, "embed_dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    "crossvit_tiny_240": {},
    "tnt_s_patch16_224": {"img_size": 64, "embed_dim": 48, "inner_dim": 8, "depth": 2, "num_heads_outer": 4},
    "visformer_tiny": {"img_size": 64, "embed_dim": 48, "depth": (1, 1, 1), "num_heads": 4},
    "levit_128s": {"img_size": 128},
    "mvitv2_tiny": {},
    "nest_tiny": {},
    "gcvit_xxtiny": {},
    "coatnet_pico_rw_224": {},
    "davit_tiny": {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 48, 64), "num_heads": (2, 2, 4, 4)},
    "edgenext_xx_small": {},
    "mobilevit_xxs": {},
    "efficientformer_l1": {},
    "fastvit_sa12": {},
    "hiera_tiny_224": {"img_size": (224, 224)},
    "botnet26t_256": {},
    "halonet26t": {},
    "volo_d1_224": {},
    "naflexvit_base_patch16_gap": {"embed_dim": 32, "depth": 2, "num_heads": 4},
    "tiny_vit_5m_224": {},
    "efficientvit_m0": {},
}  # fmt: skip
HARD: Mapping[str, Mapping[str, Any]] = {
    "cait_xxs24_224": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "convit_tiny": {"img_size": 64, "embed_dim": 8, "depth": 3, "num_heads": 4, "local_up_to_layer": 2},
}  # fmt: skip
"""Heads mixed after the softmax, two softmaxes mixed."""
LINEAR: Mapping[str, Mapping[str, Any]] = {
    "coat_lite_tiny": {"img_size": 64},
    "mobilevitv2_050": {},
    "lambda_resnet26t": {},
    "efficientvit_b0": {},
}  # fmt: skip
"""Softmaxes of keys over tokens, of pooling, or none: there is no map of queries and keys."""
FREE: Mapping[str, Mapping[str, Any]] = {
    "poolformer_s12": {},
    "focalnet_tiny_srf": {},
    "repvit_m0_9": {},
    "mambaout_femto": {},
    "mixer_s32_224": {},
    "gmlp_s16_224": {},
    "resnet10t": {}, "convnext_atto": {}, "seresnext26d_32x4d": {}, "skresnet18": {},
}  # fmt: skip
SIDES = {"swin_tiny_patch4_window7_224": 56, "crossvit_tiny_240": 240}


def timm_model(name: str, settings: Mapping[str, Any]) -> Subject:
    """A random model and a copy that does not fuse its attention."""
    torchvision_on_cpu()
    try:
        import timm
    except RuntimeError as error:  # a torchvision built for another torch
        raise ImportError(str(error)) from error

    model = timm.create_model(name, num_classes=5, **settings)
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    side = settings.get("img_size") or SIDES.get(name) or model.default_cfg["input_size"][-1]
    side = side if isinstance(side, int) else side[0]
    return Subject(model, [torch.randn(2, 3, side, side)], plain)


def before_values(subject: Subject, batch: object) -> list[Tensor]:
    """What meets the values: the input of each attention's dropout, or what ConViT's gates make of two softmaxes."""
    assert subject.eager is not None
    maps: list[Tensor] = []
    with visit(subject.eager), ExitStack() as hooks:
        for module in subject.eager.modules():
            if hasattr(module, "get_attention"):
                heard = module.register_forward_hook(lambda m, x, _: maps.append(m.get_attention(*x)))
                hooks.callback(heard.remove)
            elif isinstance(drop := getattr(module, "attn_drop", None), nn.Module):
                heard = drop.register_forward_pre_hook(lambda _, x: maps.append(x[0]))
                hooks.callback(heard.remove)
        call(subject.eager, batch)
    return maps


def after_talking(subject: Subject, batch: object) -> list[Tensor]:
    """Softmaxes, or what the second convolution over heads makes of them where there is one."""
    assert subject.eager is not None
    maps: list[Tensor] = []
    with visit(subject.eager), ExitStack() as hooks:
        for name, module in subject.eager.named_modules():
            if name.endswith("talking_head2"):
                heard = module.register_forward_hook(lambda _, __, out: maps.__setitem__(-1, out))
                hooks.callback(heard.remove)
        hooks.enter_context(patched(maps.append))
        call(subject.eager, batch)
    return maps


def timm_cases() -> tuple[Case, ...]:
    """Every timm model of the study."""

    def of(models: Mapping[str, Mapping[str, Any]], kind: str, expects: Expects) -> list[Case]:
        truths = {"nothing": None, "exact": by_patching}
        return [
            Case(
                name,
                kind,
                functools.partial(timm_model, name, given),
                truths.get(expects, before_values),
                expects,
            )
            for name, given in models.items()
        ]

    talking = "efficientformerv2_s0"
    return (
        Case(talking, "timm", functools.partial(timm_model, talking, {}), after_talking),
        *of(MODELS, "timm", "exact"),
        *of(HARD, "hard", "exact or named"),
        *of(LINEAR, "hard", "exact or counted"),
        *of(FREE, "attention-free", "nothing"),
    )
