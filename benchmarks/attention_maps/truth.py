"""Attention maps that owe nothing to the capture under test: torch's functions patched, or the closed form."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.attention_maps.case import Subject
from trainlab.diagnostics.attention.call import Call
from trainlab.visit import visit

__all__ = ["alike", "by_patching", "closed_form", "difference", "map_of", "patched"]


def closed_form(
    q: Tensor, k: Tensor, *, scale: float | None = None, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Softmax of scaled products in float64; a row that sees nothing is zero; key heads are shared in groups."""
    k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
    scores = (
        q.double() @ k.double().transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    )
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.double()
    if causal:
        lower = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~lower, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0)


def map_of(call: Call) -> Tensor:
    """The map that a heard call stands for, by what its docstring promises and nothing else."""
    if call.weights is not None:
        return call.weights.detach().clone()
    assert call.q is not None
    assert call.k is not None
    if call.change is None:
        return closed_form(call.q, call.k, scale=call.scale, mask=call.mask, causal=call.causal)
    k = call.k.repeat_interleave(call.q.shape[1] // call.k.shape[1], dim=1)
    scores = call.q.float() @ k.float().mT * call.scale
    scores = call.change(scores, torch.arange(scores.shape[0]), torch.arange(scores.shape[2]))
    if call.mask is not None:
        mask = call.mask
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    if call.causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    return torch.softmax(scores.double(), -1).nan_to_num(0.0)


def difference(heard: Tensor, true: Tensor) -> float:
    """The largest difference of two maps; infinite where their keys or their number differ.

    Axes before the keys may be folded in another way: (batch·head, query, key) is the same map as (batch, head,
    query, key), and so are the rows of grouped heads that Hugging Face hands over as queries while it generates.
    Where the truth has windows or chunks too, any of its leading axes may be the heads. Where it is NaN, it is not
    known.
    """
    if heard.shape[-1] != true.shape[-1] or heard.numel() != true.numel():
        return math.inf
    heads = range(1, true.ndim - 2) if true.ndim > 4 else [true.ndim - 3]
    return min(_gap(heard, true.movedim(axis, -3)) for axis in heads) if true.ndim > 2 else _gap(heard, true)


def _gap(heard: Tensor, true: Tensor) -> float:
    known = ~true.isnan().reshape(-1)
    gap = (heard.reshape(-1).double() - true.reshape(-1).double()).abs()[known]
    return float(gap.max().nan_to_num(math.inf)) if gap.numel() else math.inf


def alike(heard: list[Tensor], true: list[Tensor], *, within: float) -> tuple[int, int]:
    """How many true maps are among those heard, in order, and how many heard ones are left over."""
    found = at = 0
    for map_ in true:
        rest = range(at, len(heard))
        place = next((i for i in rest if difference(heard[i], map_) <= within), None)
        if place is not None:
            found, at = found + 1, place + 1
    return found, len(heard) - found


@contextmanager
def patched(say: Callable[[Tensor], None]) -> Iterator[None]:
    """Patch every softmax, fused attention and multi-head attention of torch to say its weights too."""
    inside = False

    def wrap(real: Callable[..., Any], weights: Callable[..., Tensor | None]) -> Callable[..., Any]:
        @functools.wraps(real)
        def both(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside:
                return real(*args, **kwargs)
            inside = True
            try:
                out = real(*args, **kwargs)
                with torch.no_grad(), torch.random.fork_rng():
                    shown = weights(out, real, *args, **kwargs)
            finally:
                inside = False
            if shown is not None:
                say(shown.detach().clone())
            return out

        return both

    with ExitStack() as stack:
        for owner in (functional, torch, torch.special, torch.Tensor):
            stack.enter_context(mock.patch.object(owner, "softmax", wrap(owner.softmax, _of_softmax)))
        for owner, name, show in (
            (functional, "scaled_dot_product_attention", _of_fused),
            (functional, "multi_head_attention_forward", _of_heads),
        ):
            stack.enter_context(mock.patch.object(owner, name, wrap(getattr(owner, name), show)))
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        yield


def _of_softmax(out: Tensor, _: object, *args: Any, **kwargs: Any) -> Tensor | None:
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    return out.movedim(dim, -1) if out.ndim >= 3 else None


def _of_fused(_: Tensor, __: object, *args: Any, **kwargs: Any) -> Tensor:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    mask, causal = given.get("attn_mask"), given.get("is_causal", False)
    return closed_form(given["query"], given["key"], scale=given.get("scale"), mask=mask, causal=causal)


def _of_heads(_: object, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    given = inspect.signature(real).bind(*args, **kwargs).arguments
    each_head = {"need_weights": True, "average_attn_weights": False, "training": False}
    weights: Tensor = real(**{**given, **each_head})[1]
    return weights


def by_patching(subject: Subject, batch: object) -> list[Tensor]:
    """Every map of the eager twin, or of the model itself where it has none."""
    model: nn.Module = subject.model if subject.eager is None else subject.eager
    maps: list[Tensor] = []
    with visit(model, train=model.training, seed=0), patched(maps.append):
        subject.run(model, batch)
    return maps
