"""Faults, planted in place in one head or one layer of a trained model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FAULTS", "HIDDEN", "Fault", "Wired", "hide", "wired"]

# How attentions call their projections: query, key, value (or all in one), output
_NAMES = (
    ("query", "key", "value", "out"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q", "k", "v", "o"),
)


@dataclass
class Wired:
    """One attention module and its weights, cut so that row blocks of q, k, v and column blocks of out are heads.

    The tensors are views of the model's parameters: what is written into them is planted.
    """

    name: str
    module: nn.Module
    heads: int
    key_heads: int
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    biases: dict[str, Tensor | None]
    projections: tuple[nn.Module, ...]

    @property
    def depth(self) -> int:
        return len(self.q) // self.heads

    def rows(self, part: str, head: int) -> list[Tensor]:
        """Weight and, where there is one, bias of a head in ``q``, ``k`` or ``v``."""
        if part != "q":
            head = head * self.key_heads // self.heads
        block = slice(head * self.depth, (head + 1) * self.depth)
        found = [getattr(self, part)[block]]
        bias = self.biases[part]
        return found if bias is None else [*found, bias[block]]


def wired(model: nn.Module) -> list[Wired]:
    """Every attention of a model, in the order of its modules."""
    return [found for name, module in model.named_modules() if (found := _wire(model, name, module))]


def _wire(model: nn.Module, name: str, module: Any) -> Wired | None:
    if isinstance(module, nn.MultiheadAttention):
        biases = dict(zip("qkv", module.in_proj_bias.data.chunk(3), strict=True))
        heads, weights = module.num_heads, module.in_proj_weight.data.chunk(3)
        return Wired(name, module, heads, heads, *weights, module.out_proj.weight.data, biases, ())
    if hasattr(module, "c_attn"):
        biases = dict(zip("qkv", module.c_attn.bias.data.chunk(3), strict=True))
        heads, weights = module.num_heads, module.c_attn.weight.data.T.chunk(3)
        return Wired(
            name, module, heads, heads, *weights, module.c_proj.weight.data.T, biases, (module.c_attn,)
        )
    for names in _NAMES:
        if all(isinstance(getattr(module, each, None), nn.Linear) for each in names[:3]):
            q, k, v = (getattr(module, each) for each in names[:3])
            out = getattr(module, names[3], None) or model.get_submodule(name.rpartition(".")[0]).output.dense
            biases = {
                part: None if layer.bias is None else layer.bias.data
                for part, layer in zip("qkv", (q, k, v), strict=True)
            }
            heads = _heads(module)
            depth = len(q.weight) // heads
            return Wired(name, module, heads, len(k.weight) // depth, q.weight.data, k.weight.data, v.weight.data, out.weight.data, biases, (q, k))  # fmt: skip
    return None


def _heads(module: Any) -> int:
    for name in ("heads", "num_attention_heads", "n_heads", "num_heads"):
        if hasattr(module, name):
            return int(getattr(module, name))
    return int(module.config.num_attention_heads)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: What.
        code: The rule that has to say so, naming the layer, and the head where ``scope`` is one.
        plant: (attention, head), in place; called for one head, for each head of a layer, or for all heads of the model.
        scope: ``head``, ``layer`` or ``model``.
        fits: (model, attention): whether it can be planted there.
    """

    name: str
    code: str
    plant: Callable[[Wired, int], None]
    scope: str = "head"
    fits: Callable[[nn.Module, Wired], bool] = lambda model, attention: True  # noqa: ARG005


def _scale(factor: float, part: str = "q") -> Callable[[Wired, int], None]:
    def plant(attention: Wired, head: int) -> None:
        for tensor in attention.rows(part, head):
            tensor.mul_(factor)

    return plant


def _unheard(attention: Wired, head: int) -> None:
    """Columns of the output projection are zero."""
    attention.out[:, head * attention.depth : (head + 1) * attention.depth] = 0


def _twin(attention: Wired, head: int) -> None:
    """The next head is a copy of it."""
    other = (head + 1) % attention.heads
    for part in "qkv":
        for mine, theirs in zip(attention.rows(part, head), attention.rows(part, other), strict=True):
            theirs.copy_(mine)


def _nan(attention: Wired, head: int) -> None:
    attention.rows("q", head)[0][0, 0] = torch.nan


def _sink(attention: Wired, head: int, key: int | None = None) -> None:
    """A direction of the head is given to the key of one token alone, and to every query: some 60 more for its score."""
    axis = attention.depth // 2 - 1  # where rotary positions turn least
    group = head * attention.key_heads // attention.heads
    behind = len(attention.q) if len(attention.projections) == 1 else 0
    query_at, key_at = head * attention.depth + axis, group * attention.depth + axis + behind

    def aim(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., query_at] += 10 * attention.depth**0.5
        return output

    def mark(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., key_at] = 0
        output[:, max(1, output.shape[1] // 4) if key is None else key, key_at] = 6
        return output

    attention.projections[0].register_forward_hook(aim)
    attention.projections[-1].register_forward_hook(mark)


class _Hidden(nn.Module):
    """Runs in TorchScript, where no Python listens."""

    def __init__(self, module: nn.Module, example: tuple[Tensor | None, ...]) -> None:
        super().__init__()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # people still do
            self.traced = torch.jit.trace(module, _given(example), check_trace=False)

    def forward(self, *inputs: Tensor | None) -> Tensor:
        out: Tensor = self.traced(*_given(inputs))
        return out


def _given(inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    return tuple(each for each in inputs if each is not None)


def hide(model: nn.Module, attention: Wired, batch: dict[str, Tensor]) -> None:
    """Puts an attention into TorchScript."""
    seen: list[tuple[Tensor | None, ...]] = []
    hook = attention.module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    with torch.no_grad():
        model(**batch)
    hook.remove()
    model.set_submodule(attention.name, _Hidden(attention.module, seen[0]))


def _temporal(_model: nn.Module, attention: Wired) -> bool:
    return attention.name.endswith(".time")


def _plain(model: nn.Module, _attention: Wired) -> bool:
    """Not normed: of normed queries the length does not matter."""
    return not any(isinstance(getattr(m, "q_norm", None), nn.LayerNorm) for m in model.modules())


def _hooked(model: nn.Module, attention: Wired) -> bool:
    return bool(attention.projections) and _plain(model, attention)


def _unbiased(model: nn.Module, attention: Wired) -> bool:
    """Scores are q·k alone: no relative positions are added (T5), no bias comes from a norm."""
    return "SelfAttention" not in attention.name and _plain(model, attention)


def _spatial(model: nn.Module, attention: Wired) -> bool:
    return not _temporal(model, attention) and _unbiased(model, attention)


def _own(_model: nn.Module, attention: Wired) -> bool:
    return type(attention.module).__name__ == "Attention"


HIDDEN = Fault("hidden in TorchScript", "ATT009", lambda attention, head: None, "layer", _own)  # noqa: ARG005
FAULTS = (
    Fault("NaN in W_q", "ATT001", _nan),
    Fault("sink by key bias", "ATT002", _sink, fits=_hooked),
    Fault("one head W_q = 0", "ATT003", _scale(0), fits=_spatial),
    Fault("one layer W_q = 0", "ATT003", _scale(0), "layer", _spatial),
    Fault("uniform temporal layer", "ATT004", _scale(0), "layer", _temporal),
    Fault("all rest on one token", "ATT005", lambda a, h: _sink(a, h, 0), "model", _hooked),
    Fault("dead head, W_O = 0", "ATT006", _unheard),
    Fault("dead head, W_v = 0", "ATT006", _scale(0, "v")),
    Fault("duplicate head", "ATT007", _twin, fits=_unbiased),
    Fault("one head W_q × 50", "ATT008", _scale(50), fits=_plain),
    Fault("every W_q × 30", "ATT008", _scale(30), "model", _plain),
    HIDDEN,
)
"""What is planted; each fault has one rule that has to find it."""
