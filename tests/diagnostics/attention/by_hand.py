"""The statistics of a call worked out query by query in float64 from whole maps: slow, and as they are defined."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import product

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import Layout

COLUMNS = (
    "entropy", "nats", "peak", "first", "self", "previous", "diagonal", "distance", "uniform_distance", "spread",
    "space", "time", "elsewhere", "prefix",
)  # fmt: skip


def maps(call: Call) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, scores and what is visible: (entry, head, query, key)."""
    if call.weights is not None:
        seen = (call.weights != 0).any(1, keepdim=True).expand_as(call.weights)
        scores = call.scores if call.scores is not None else call.weights.clamp_min(1e-30).log()
        return call.weights.double().numpy(), scores.double().numpy(), seen.numpy()
    q, k = call.q.double(), call.k.double()
    scores = call.scale * q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT
    entries, _, queries, keys = scores.shape
    if call.change is not None:
        scores = call.change(scores, torch.arange(entries), torch.arange(queries)).double()
    seen = scores > -torch.inf
    if call.mask is not None and call.mask.dtype != torch.bool:
        scores, seen = scores + call.mask, seen & (call.mask > -9e3)
    elif call.mask is not None:
        seen = seen & call.mask
    if call.causal:
        seen = seen & torch.ones(queries, keys).tril().bool()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0)
    return weights.numpy(), scores.numpy(), np.broadcast_to(seen.numpy(), scores.shape)


def by_hand(call: Call, layout: Layout, *, sink: int = 4) -> dict[str, np.ndarray]:
    """Columns of `head`, the flat arrays and ``measured``, by name."""
    weights, scores, seen = maps(call)
    entries, heads, queries, _ = weights.shape
    real = np.ones((entries, queries), bool) if layout.kind == "cross" else seen.any((1, 2))
    values = call.v.double().repeat_interleave(heads // call.v.shape[1], 1).numpy()
    found: dict[str, list] = defaultdict(list)
    for h in range(heads):
        rows: dict[str, list[float]] = defaultdict(list)
        used = [
            (e, i) for e, i in product(range(entries), range(queries)) if real[e, i] and seen[e, h, i].any()
        ]
        for e, i in used:
            one = of_query(weights[e, h, i], scores[e, h, i], seen[e, h, i], i, layout, sink=sink)
            for name, value in one.items():
                rows[name].append(value)
        for name in COLUMNS:
            found[name].append(np.mean(rows[name]) if rows[name] else np.nan)
        for part in ("space", "time"):
            far = np.sum(rows[f"far_{part}"]) / np.sum(rows["grid"]) if rows["grid"] else np.nan
            found[f"reach_{part}"].append(far)
        found["logit"].append(max(rows["logit"]))
        found["measured"].append(len(used))
        p, shown = (np.array([each[e, h, i] for e, i in used]) for each in (weights, seen))
        of_sinks(found, p, shown)
        found["receive"].append(p.mean(0))
        out = p[:, :, None] * np.array([values[e, h] for e, _ in used])
        found["gram"].append(np.mean([np.outer(o, o) for o in out.sum(1)], 0))
        found["write"].append(np.sqrt(np.trace(found["gram"][-1]) / values.shape[-1]))
        of_blocks(found, p, np.array([i for _, i in used]), queries)
        if layout.kind in ("time", "joint"):
            found["framewise"].append(by_frame(p, np.array([i for _, i in used]), layout))
    found["likeness"] = list(likeness(weights, seen, real))
    return {name: np.array(value) for name, value in found.items()}


def of_query(
    p: np.ndarray, scores: np.ndarray, visible: np.ndarray, i: int, layout: Layout, *, sink: int
) -> dict[str, float]:
    """What is said of one query: its weights, scores, visible keys and number."""
    n, keys = visible.sum(), len(p)
    nats = -sum(x * math.log(x) for x in p if x > 0)
    found = {"nats": nats, "logit": np.abs(scores[visible]).max()}
    if n > 1:
        found |= {"entropy": nats / math.log(n), "peak": p.max(), "first": p[:sink].sum()}
        found["spread"] = scores[visible].std()
    if layout.kind == "cross":
        return found
    distance = np.abs(np.arange(keys) - i)
    found |= {"self": p[i], "diagonal": p[distance <= 1].sum(), "distance": p @ distance}
    found["uniform_distance"] = distance[visible].mean()
    if i:
        found["previous"] = p[i - 1]
    if not layout.frames or i < layout.prefix:
        return found
    on = np.arange(keys) >= layout.prefix
    frame, y, x = np.unravel_index(
        np.maximum(np.arange(keys) - layout.prefix, 0), (layout.frames, layout.height, layout.width)
    )
    away = np.hypot(y - y[i], x - x[i])
    found |= {
        "space": p[on & (frame == frame[i]) & (away > 0)].sum(),
        "time": p[on & (frame != frame[i]) & (away == 0)].sum(),
        "elsewhere": p[on & (frame != frame[i]) & (away > 0)].sum(),
        "prefix": p[~on].sum(),
        "grid": p[on].sum(),
        "far_space": (p * away)[on].sum(),
        "far_time": (p * np.abs(frame - frame[i]))[on].sum(),
    }
    return found


def of_sinks(found: dict[str, list], p: np.ndarray, seen: np.ndarray) -> None:
    """The sink and the largest weight, of the weights and visible keys of a head's queries."""
    n = seen.sum(1)
    two, count = p[n > 1].sum(0), seen[n > 1].sum(0)
    share = np.where(2 * count >= count.max(), two / np.maximum(count, 1), -1)
    found["sink"].append(share.max() if count.any() else np.nan)
    found["sink_key"].append(share.argmax())
    wide = n > (32 if (n > 32).any() else 1)
    found["largest"].append(p[wide].max() if wide.any() else np.nan)


def of_blocks(found: dict[str, list], p: np.ndarray, queries: np.ndarray, count: int) -> None:
    """The thumbnail: block b of n holds tokens b * T // n up to (b + 1) * T // n."""
    keys = p.shape[1]
    a, b = min(32, count), min(32, keys)
    thumbnail = np.full((a, b), np.nan)
    for i, j in product(range(a), range(b)):
        inside = (i * count // a <= queries) & (queries < (i + 1) * count // a)
        if inside.any():
            thumbnail[i, j] = p[inside, j * keys // b : (j + 1) * keys // b].sum(1).mean()
    found["thumbnail"].append(thumbnail)


def by_frame(p: np.ndarray, queries: np.ndarray, layout: Layout) -> np.ndarray:
    """(frame, frame): weight of a frame's queries on a frame."""
    places = layout.height * layout.width
    frame, keys = (queries - layout.prefix) // places, (np.arange(p.shape[1]) - layout.prefix) // places
    every = range(layout.frames)
    return np.array([[p[frame == f][:, keys == g].sum(1).mean() for g in every] for f in every])


def likeness(weights: np.ndarray, seen: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(head, head) mean correlation of weights over visible keys, of queries where neither head is uniform."""
    heads = weights.shape[1]
    mean = np.zeros((heads, heads))
    for a, b in product(range(heads), repeat=2):
        each = []
        for entry, i in zip(*real.nonzero(), strict=True):
            visible = seen[entry, :, i].any(0)
            if not (seen[entry, a, i].any() and seen[entry, b, i].any()) or visible.sum() < 2:
                continue
            p, g = (weights[entry, h, i][visible] - 1 / visible.sum() for h in (a, b))
            if min(p @ p, g @ g) * visible.sum() > 1e-5:
                each.append(p @ g / np.sqrt((p @ p) * (g @ g)))
        mean[a, b] = np.mean(each) if each else 0
    return mean


def random_call(
    *, entries: int = 2, heads: int = 4, queries: int = 11, depth: int = 6, **more: object
) -> Call:
    """A call of random queries, keys and values; scores are some units large. ``keys`` and ``key_heads`` may differ."""
    rng = torch.Generator().manual_seed(7)
    key_heads, keys = int(more.pop("key_heads", heads)), int(more.pop("keys", queries))  # type: ignore[call-overload]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    q, k, v = (
        draw(entries, heads, queries, depth),
        draw(entries, key_heads, keys, depth),
        draw(entries, key_heads, keys, 5),
    )
    return Call(0, "blocks.0", "scaled_dot_product_attention", "here", 2 * q, k, v, depth**-0.5, **more)  # type: ignore[arg-type]
