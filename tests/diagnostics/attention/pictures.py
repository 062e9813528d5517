"""Results to draw, and what their pictures say; for the tests of the views."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from trainlab.diagnostics.attention.probe import probe
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.views import VIEWS
from trainlab.examples import tiny
from trainlab.figure import Picture

VIEW = {view.name: view for view in VIEWS}
LABELS = [
    "␣The",
    "猫",
    "🙂",
    "$x$",
    "_a_",
    "<b>",
    "",
    "⏎",
    "Donaudampfschifffahrtsgesellschaftskapitänsmütze",
    "é",
]


class Attends(nn.Module):
    """Attends without weights of its own: the queries and keys are its input."""

    def __init__(self, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        q = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return scaled_dot_product_attention(q, q, q, is_causal=self.causal).transpose(1, 2).flatten(2)


class Stack(nn.Module):
    def __init__(self, depth: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.h = nn.ModuleList(nn.ModuleDict({"attn": Attends(heads, causal=causal)}) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.h:
            x = x + 2 * block["attn"](x)
        return x


def attended(
    tokens: int, *, depth: int = 2, heads: int = 2, causal: bool = True, **settings: Any
) -> AttentionResult:
    x = torch.randn(2, tokens, 8 * heads, generator=torch.Generator().manual_seed(0))
    return probe(Stack(depth, heads, causal=causal), x, **settings)


def digits(kind: str = "") -> AttentionResult:
    subjects = tiny.sick(kind) if kind else tiny.healthy()
    return probe(subjects["model"], subjects["batch"])


def blank(calls: int, heads: int, tokens: int, **given: Any) -> AttentionResult:
    """A result of any size that was never measured: all numbers one half, nothing kept."""
    rows = {"call": calls, "head": calls * heads, "missed": 0}
    values: dict[str, Any] = {
        "call_name": tuple(f"a.long.path.to.stage.{i}.attention.self" for i in range(calls)),
        "call_layout": ("sequence",) * calls,
        "head_call": np.repeat(np.arange(calls), heads),
        "head_number": np.tile(np.arange(heads), calls),
        "head_sink_key": np.zeros(calls * heads, np.int64),
        "thumbnail": np.full(calls * heads * min(32, tokens) ** 2, 0.5, np.float32),
        "receive": np.full(calls * heads * tokens, 0.5, np.float32),
        "likeness": np.full(calls * heads * heads, 0.5, np.float32),
        "picture": np.zeros((0, 1, 1, 3), np.uint8),
        "call_heads": np.full(calls, heads),
        "call_queries": np.full(calls, tokens),
        "call_keys": np.full(calls, tokens),
    }
    zero = {"call_kept", "call_frames", "call_height", "call_width", "call_prefix", "call_causal"}
    for field in dataclasses.fields(AttentionResult):
        count = rows.get(field.metadata.get("table", ""), 0)
        kind = str(field.type)
        fill: Any = np.full(count, 0 if field.name in zero else 0.5)
        if field.name in zero or (field.name.startswith("head_largest_") or field.name == "call_batch"):
            fill = np.zeros(count, np.int64)
        if "tuple" in kind:
            fill = ("",) * count
        elif "ndarray" not in kind:
            fill = "" if "str" in kind else 0
        values.setdefault(field.name, fill)
    return AttentionResult(**values | given)


def drawn(r: AttentionResult, view: str, **knobs: object) -> Picture:
    picture = Picture(*VIEW[view].size)
    VIEW[view].paint(r, picture, **knobs)
    picture.png(scale=0.5)  # lays everything out, as a reader would see it
    return picture


def words(picture: Picture) -> str:
    """Everything that a picture says."""
    texts = [text for axes in picture.axes for text in [*axes.texts, axes.title, axes._left_title]]
    texts += [label for axes in picture.axes for label in [*axes.get_yticklabels(), *axes.get_xticklabels()]]
    return "\n".join([*(text.get_text() for text in texts), picture.get_suptitle(), picture.get_supxlabel()])


def image(axes: Axes, number: int = 0) -> np.ndarray:
    return np.asarray(axes.images[number].get_array())
