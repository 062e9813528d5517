"""Attention that one kernel computes: what went in is what its weights follow from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional

from trainlab.diagnostics.attention.capture.heads import by_head, head_axes
from trainlab.diagnostics.attention.capture.tags import plain
from trainlab.visit.ops import Op

__all__ = ["Fused", "fused"]


class Fused(NamedTuple):
    """One kernel's call: the fields of its `Call`, and where its output goes.

    Attributes:
        facts: Fields of `Call`.
        out: What the kernel gave to the model, None where it has gone through the projection already.
        axes: Axes of ``out`` that are heads, see `labels`.
        projection: The output projection inside the kernel, (out, heads × value depth).
        inner: Name, below the module that ran, of the attention that the kernel computes among other things.
    """

    facts: dict[str, Any]
    out: Tensor | None = None
    axes: tuple[int, ...] = ()
    projection: Tensor | None = None
    inner: str = ""


def fused(op: Op) -> Callable[[Op, Any, int], Fused] | None:
    """Reads the call of a kernel, given its result and the module's number of heads; None where it is none."""
    if op.name.startswith("scaled_dot_product") and "backward" not in op.name:
        return _dot_product
    return _KERNELS.get(op.name)


# --- scaled dot product ----------------------------------------------------------------------------------


def _named(op: Op) -> dict[str, Any]:
    """The arguments by name, as the operator's schema has them."""
    func = op.func
    if not isinstance(func, OpOverload | OpOverloadPacket):
        func = getattr(torch.ops.aten, func.__name__)
    schema = (func.default if isinstance(func, OpOverloadPacket) else func)._schema  # noqa: SLF001 - no public name
    return {**dict(zip([each.name for each in schema.arguments], op.args, strict=False)), **op.kwargs}


def _dot_product(op: Op, result: Any, heads: int) -> Fused:
    given = _named(op)
    output = result[0] if isinstance(result, tuple) else result
    inputs = [
        given["query"],
        given["key"],
        given["value"],
        given.get("attn_mask", given.get("attn_bias")),
        output,
    ]
    if any(each is not None and each.is_nested for each in inputs):
        raise NotImplementedError("its sequences are nested tensors")
    if hasattr(inputs[3], "_materialize"):  # a CausalBias; to import the class would load the compiler
        inputs[3] = inputs[3]._materialize()  # noqa: SLF001 - no public way
    q, k, v, mask, out = plain(*inputs)
    assert q is not None
    assert k is not None
    assert v is not None
    assert out is not None
    scale = given.get("scale")
    facts = {
        "scale": 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale),
        "causal": bool(given.get("is_causal")),
    }
    if q.dtype != out.dtype:  # autocast
        q, k, v = q.to(out.dtype), k.to(out.dtype), v.to(out.dtype)
    if mask is not None:
        mask = mask if mask.dim() > 1 else mask[None]
        mask = mask[tuple(slice(None) if step else slice(1) for step in mask.stride()[:-1])]  # not expanded
        mask = mask.expand(*mask.shape[:-1], k.shape[-2])
    lead = out.shape[:-2]
    if len(lead) == 2:  # by torch's convention (batch, head), where groups of heads may share keys
        k, v = (each.expand(lead[0], *each.shape[-3:]) for each in (k, v))
        v = v.expand(-1, k.shape[1], -1, -1)
        mask = None if mask is None else mask[(None,) * (4 - mask.dim())]
        tensors = {"q": q.expand(*lead, -1, -1), "k": k, "v": v, "mask": mask, "out": out}
    else:
        axes = head_axes(lead, heads)
        tensors = {"mask": None if mask is None else mask[(None,) * (4 - mask.dim())]}
        if mask is not None and mask.shape[:-2].numel() > 1:
            tensors["mask"] = by_head(mask, lead, axes, heads)
        for name, each in {"q": q, "k": k, "v": v, "out": out}.items():
            tensors[name] = by_head(each, lead, axes, heads)
    return Fused(
        {**facts, **tensors}, output, (1,) if output.dim() == 4 else head_axes(output.shape[:-2], heads)
    )


# --- flex attention --------------------------------------------------------------------------------------


def _flex(op: Op, result: Any, _heads: int) -> Fused:
    """``FlexAttentionAutogradOp.apply(q, k, v, score_mod, joint, block_mask, scale, options, mask's, *score's)``."""
    q, k, v = op.args[:3]
    score_mod, block_mask, scale, mask_more, score_more = *(op.args[i] for i in (3, 5, 6, 8)), op.args[9:]
    mask_mod = block_mask[-1]

    def change(scores: Tensor, entries: Tensor, rows: Tensor) -> Tensor:
        every = torch.arange(scores.shape[1], device=scores.device)
        keys = torch.arange(scores.shape[3], device=scores.device)
        changed = _over_all(score_mod, scores, entries, every, rows, keys, score_more)
        sees = _over_all(mask_mod, None, entries, every, rows, keys, mask_more)
        return torch.where(sees, changed, -math.inf)

    out = result[0] if isinstance(result, tuple) else result
    batch = q.shape[0]
    facts = {"q": q, "k": k.expand(batch, -1, -1, -1), "v": v.expand(batch, -1, -1, -1), "out": out}
    return Fused({**facts, "scale": float(scale), "change": change}, out, (1,))


def _over_all(function: Callable[..., Tensor], scores: Tensor | None, *indices: Any) -> Tensor:
    """A ``score_mod`` or ``mask_mod``, which are written for one score, over (entry, head, row, key)."""
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    *places, more = indices
    first = () if scores is None else (0,)
    for axis in (3, 2, 1, 0):
        dims = (*first, *(0 if each == axis else None for each in range(4)), *(None for _ in more))
        function = torch.vmap(function, in_dims=dims)
    with TransformGetItemToIndex():  # tables may be looked up by index inside
        return function(*(() if scores is None else (scores,)), *places, *more)


# --- nn.MultiheadAttention and nn.TransformerEncoderLayer, fast paths --------------------------------------


def _encoder_layer(op: Op, _result: Any, _heads: int) -> Fused:
    """Recomputed beside the kernel, from what it is given."""
    given = _named(op)
    src, norm = given["src"], given["norm_weight_1"]
    src, padded = _padded(src.to(norm.dtype))  # autocast may have made it a lower one
    if given["norm_first"]:
        src = functional.layer_norm(src, norm.shape, norm, given["norm_bias_1"], given["eps"])
    facts = _self_attention(given, src, given["num_heads"])
    return Fused(_masked(facts, given, padded), projection=given["proj_weight"], inner="self_attn")


def _native(op: Op, _result: Any, _heads: int) -> Fused:
    given = _named(op)
    if given["key"] is not given["query"]:
        raise NotImplementedError("its keys are other tokens than its queries")
    src, padded = _padded(given["query"])
    facts = _self_attention(given, src, given["num_head"])
    return Fused(_masked(facts, given, padded), projection=given["proj_weight"])


def _padded(src: Tensor) -> tuple[Tensor, Tensor | None]:
    """A nested tensor filled up with zeros, and which of its places are real: (batch, 1, 1, token) bool."""
    if not src.is_nested:
        return src, None
    lengths = torch.tensor([each.shape[0] for each in src.unbind()], device=src.device)
    padded = src.to_padded_tensor(0.0)
    return padded, (torch.arange(padded.shape[1], device=src.device) < lengths[:, None])[:, None, None]


def _self_attention(given: Mapping[str, Any], src: Tensor, heads: int) -> dict[str, Any]:
    projected = functional.linear(src, given["qkv_weight"], given["qkv_bias"])
    q, k, v = (part.reshape(*src.shape[:2], heads, -1).transpose(1, 2) for part in projected.chunk(3, -1))
    return {"q": q, "k": k, "v": v, "scale": 1 / math.sqrt(q.shape[-1])}


def _masked(facts: dict[str, Any], given: Mapping[str, Any], sees: Tensor | None) -> dict[str, Any]:
    mask = given.get("mask")
    if mask is not None:
        mask = ~mask.bool()  # as the kernel does: whatever is not 0 is hidden
        if mask.dim() == 2:  # of type 1 by key, else by query and key
            mask = mask[:, None, None] if given.get("mask_type") == 1 else mask[None, None]
        sees = mask if sees is None else mask & sees
    facts["mask"] = sees
    facts["out"] = functional.scaled_dot_product_attention(facts["q"], facts["k"], facts["v"], sees)
    return facts


_KERNELS: dict[str, Callable[[Op, Any, int], Fused]] = {
    "FlexAttentionAutogradOp.apply": _flex,
    "transformer_encoder_layer_fwd": _encoder_layer,
    "native_multi_head_attention": _native,
}
