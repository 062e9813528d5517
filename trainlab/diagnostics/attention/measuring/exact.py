"""Exact weights of kept calls, from the result alone: tiles, rows, columns, and rollout through the layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring.chunks import chunk, precisely
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import UsageError

__all__ = ["column", "rolled", "rollout", "row", "weights"]

ELEMENTS = 2**21
ALL = slice(None)


def weights(
    r: AttentionResult, call: int, head: int, entry: int, *, queries: slice = ALL, keys: slice = ALL
) -> np.ndarray:
    """Who attends to whom: the weights of a head, exactly as in the model.

    Args:
        r: The result.
        call: Row of table ``call``.
        head: Number of the head.
        entry: Number of the kernel's batch entry, one of those kept.
        queries: Which queries.
        keys: Which keys.

    Returns:
        (query, key) float32; a row over all keys sums to 1, or to 0 where the query sees no key.

    Raises:
        UsageError: There is no such call, head or entry, or it was not kept.
    """
    place = _place(r, call, head, entry)
    for name, part in (("queries", queries), ("keys", keys)):
        if not isinstance(part, slice) or (part.step or 1) < 1:
            raise UsageError(
                f"{name} is a slice with a step of 1 or more",
                seen=repr(part),
                fix=f"{name}=slice(0, 64), or `row` and `column` for one",
            )
    rows = np.arange(int(r.call_queries[call]))[queries]
    if r.kept_whole[call]:
        return np.array(_cut(r, call, "weights")[place, head, rows][:, keys])
    one, count = _call(r, call, head, place), int(r.call_keys[call])
    found = np.zeros((len(rows), len(range(count)[keys])), np.float32)
    step = max(1, ELEMENTS // count)
    for first in range(0, len(rows), step):
        with precisely():
            c = chunk(one, slice(0, 1), torch.from_numpy(rows[first : first + step]), count)
        found[first : first + step] = c.raw[0, 0, :, keys] / c.total[0, 0, :, None].clamp_min(1e-30)
    return found


def row(r: AttentionResult, call: int, head: int, entry: int, query: int) -> np.ndarray:
    """What a query attends to: (key) float32; see `weights`."""
    _check("query", query, int(r.call_queries[call]))
    return np.asarray(weights(r, call, head, entry, queries=slice(query, query + 1))[0])


def column(r: AttentionResult, call: int, head: int, entry: int, key: int) -> np.ndarray:
    """Who attends to a key: (query) float32; see `weights`."""
    _check("key", key, int(r.call_keys[call]))
    return np.asarray(weights(r, call, head, entry, keys=slice(key, key + 1))[:, 0])


def rolled(r: AttentionResult) -> tuple[int, ...]:
    """Which calls does `rollout` go through, from the last to the first?

    Self-attention over the same tokens as that of the last call that is self-attention. Left out is cross-attention, and what
    comes before these calls over other tokens: an encoder, stages of another resolution.

    Raises:
        UsageError: No call is self-attention; tokens change between the calls; or attention is divided in space and time,
            or cuts a batch entry into windows.
    """
    if {"space", "time"} <= {*r.call_layout}:
        raise UsageError(
            "rollout cannot go through attention that is divided in space and time",
            seen="a token's way leads through both, and each of these calls knows only the tokens of one frame, or of one place",
            fix="look at the maps of the calls; only attention over all tokens of a clip can be rolled out",
        )
    tokens = list(zip(r.call_batch.tolist(), r.call_queries.tolist(), r.call_keys.tolist(), strict=True))
    own = [c for c, (_, q, k) in enumerate(tokens) if q == k and r.call_layout[c] != "cross"]
    if not own:
        raise UsageError(
            "rollout goes through self-attention, and no call is", fix="look at the maps of the calls"
        )
    last = own[-1]
    parts, rest = divmod(tokens[last][0], max(r.batch_size, 1))
    if r.call_layout[last] == "sequence" and parts > 1 and not rest:
        raise UsageError(
            "rollout cannot go through attention over parts of a batch entry",
            seen=f"{r.call_name[last]} attends in {parts} parts of each, and another call may cut them otherwise",
            fix="look at the maps of the calls",
        )
    # an encoder may have as many tokens as the decoder that looks at it
    causal = r.call_causal == r.call_causal[last] if "cross" in r.call_layout else np.ones(len(tokens), bool)
    alike = [tokens[c] == tokens[last] and r.call_layout[c] == r.call_layout[last] and causal[c] for c in own]
    same = [c for c, fits in zip(own, alike, strict=True) if fits]
    between = [c for c in own if c > same[0] and c not in same]
    if between:
        first, other = r.call_name[same[0]], r.call_name[between[0]]
        raise UsageError(
            "rollout goes through self-attention over the same tokens, and they change on the way",
            seen=f"{tokens[same[0]][1]} tokens in {first}, {tokens[between[0]][1]} in {other} (batch entries "
            f"{tokens[same[0]][0]} and {tokens[between[0]][0]})",
            fix="probe with only='…' that names modules over the same tokens, one after the other",
        )
    return tuple(reversed(same))


def rollout(r: AttentionResult, entry: int, query: int) -> np.ndarray:
    """Which input tokens does a token of the last layer come from? Attention rollout (Abnar and Zuidema 2020).

    A layer mixes tokens by half the identity, for the residual stream, and half the mean of its heads; rollout is the product
    of the layers, here one row of it, from the last call to the first. It ignores values and MLPs: read it as a hint.

    Args:
        r: The result.
        entry: Number of the batch entry, kept of every call.
        query: The token.

    Returns:
        (calls + 1, key) float32, each row summing to 1: the token itself, then what it comes from below each call of
        `rolled`, and in the last row what it comes from at the input of the first.

    Raises:
        UsageError: See `rolled`; or one of its calls was not kept.
    """
    calls = rolled(r)
    count = int(r.call_keys[calls[0]])
    _check("query", query, count)
    mass = np.zeros((len(calls) + 1, count), np.float64)
    mass[0, query] = 1
    for step, call in enumerate(calls):
        above, below = mass[step], mass[step + 1]
        below += above / 2
        heads = int(r.call_heads[call])
        for head in range(heads):
            for rows in _runs(above, max(1, ELEMENTS // count)):
                mixed = weights(r, call, head, entry, queries=rows)
                total = mixed.sum(1, dtype=np.float64)
                part = above[rows] / 2 / heads
                below += np.where(total > 0, part / np.where(total > 0, total, 1), 0) @ mixed
                below[rows] += np.where(total > 0, 0, part)  # what sees nothing stays as it is
    return mass.astype(np.float32)


def _runs(mass: np.ndarray, length: int) -> Iterator[slice]:
    """Runs of rows, without those before and after which all is 0."""
    filled = np.flatnonzero(mass)
    for first in range(filled[0], filled[-1] + 1, length):
        yield slice(first, min(first + length, filled[-1] + 1))


def _check(what: str, number: object, count: int) -> None:
    if not isinstance(number, int | np.integer) or not 0 <= number < count:
        raise UsageError(f"there is no {what} {number!r}", seen=f"{count} of them", fix=f"0 to {count - 1}")


def _place(r: AttentionResult, call: int, head: int, entry: int) -> int:
    """Where an entry is among those kept of a call."""
    _check("call", call, len(r.call_name))
    _check("head", head, int(r.call_heads[call]))
    _check("batch entry", entry, int(r.call_batch[call]))
    if not r.call_kept[call]:
        raise UsageError(
            f"of {r.call_name[call]} nothing was kept to compute exact weights from",
            seen="a result without what exact weights need, or one that ran out of room",
            fix="probe again with a larger keep_mb=, or with only= this module",
        )
    kept = r.kept(call).tolist()
    if entry not in kept:
        raise UsageError(
            f"batch entry {entry} of {r.call_name[call]} was not kept",
            seen=f"kept: {', '.join(map(str, kept))}",
            fix="ask for one of these, or probe with a larger entries= and keep_mb=",
        )
    return int(kept.index(entry))


def _cut(r: AttentionResult, call: int, name: str) -> np.ndarray:
    """What is kept of a call under a name, (kept, …)."""
    kept = np.where(np.asarray(r.kept_whole, bool) == (name == "weights"), r.call_kept, 0)
    axes = {
        "q": (r.call_heads, r.call_queries, r.call_depth),
        "k": (r.call_key_heads, r.call_keys, r.call_depth),
        "weights": (r.call_heads, r.call_queries, r.call_keys),
        "mask": (*r.kept_mask_shape[:, :2].T, -(-r.kept_mask_shape[:, 2] // 8)),
    }[name]
    numbers = np.prod((kept, *axes), axis=0, dtype=np.int64)
    first = numbers[:call].sum()
    flat = np.asarray(getattr(r, f"kept_{name}"))[first : first + numbers[call]]
    return flat.reshape([int(kept[call]), *(int(axis[call]) for axis in axes)])


def _call(r: AttentionResult, call: int, head: int, place: int) -> Call:
    """One head of one entry, as a call of its own."""
    group = r.call_heads[call] // r.call_key_heads[call]
    q = torch.from_numpy(_cut(r, call, "q")[place, head].copy())
    k = torch.from_numpy(_cut(r, call, "k")[place, head // group].copy())
    mask = None
    if r.kept_mask_shape[call].any():
        bits = _cut(r, call, "mask")[place]
        bits = bits[head if len(bits) > 1 else 0]
        mask = torch.from_numpy(np.unpackbits(bits, -1, count=len(k)).astype(bool))[None, None]
    causal, scale = bool(r.kept_causal[call]), float(r.call_scale[call])
    return Call(call, "", "", "", q[None, None], k[None, None], scale=scale, mask=mask, causal=causal)
