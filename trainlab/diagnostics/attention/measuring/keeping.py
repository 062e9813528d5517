"""Keeps what exact weights are computed from, within a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from operator import mul

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring.chunks import HIDDEN, chunk, precisely, sizes

__all__ = ["Keeper"]


@dataclass
class _Kept:
    """What is kept of a call: by name of a result's field without ``kept_``, arrays over the kept entries."""

    entry: np.ndarray
    arrays: dict[str, np.ndarray]
    bytes: int
    causal: bool
    mask_shape: tuple[int, ...]

    def shed(self, count: int) -> None:
        """Gives up all but the first entries."""
        if count < len(self.entry):
            self.entry = self.entry[:count]
            self.arrays = {name: array[:count].copy() for name, array in self.arrays.items()}


class Keeper:
    """Keeps batch entries of every call, as many as a budget has room for.

    Of each call it takes evenly spaced entries. Where all of them are more than the budget, entries are given up one by
    one, from a call that holds the most of them, the largest first; where one entry of each call is more, the later
    calls are left out.

    Kept are queries and keys, bool masks (and float ones that only hide) as bits, unexpanded; the weights themselves where
    a bias or a change of scores would be needed too, or where the model made them by itself.

    Args:
        budget: Bytes.
        entries: Batch entries of a call at most.
    """

    def __init__(self, budget: int, entries: int) -> None:
        self.budget, self.entries = budget, entries
        self.calls: list[_Kept] = []

    @precisely()
    def keep(self, call: Call) -> None:
        """Takes down a call, live."""
        count, whole = sizes(call).entries, self.budget > 0 and _whole(call)
        counts = [*(len(each.entry) for each in self.calls), min(count, self.entries)]
        size = [*(each.bytes for each in self.calls), _bytes(call, whole=whole)]
        over = sum(map(mul, counts, size)) - self.budget
        while over > 0:
            most = max(range(len(size)), key=lambda at: (counts[at], size[at]))
            if counts[most] == 1:
                most = max(at for at, held in enumerate(counts) if held)
            counts[most] -= 1
            over -= size[most]
        for each, held in zip(self.calls, counts, strict=False):
            each.shed(held)
        chosen = np.linspace(0, count - 1, min(count, self.entries)).round().astype(np.int64)
        self.calls.append(_keep(call, chosen[: counts[-1]], size[-1], whole=whole))

    def columns(self) -> dict[str, np.ndarray]:
        """The result's fields: ``call_kept``, and all that start with ``kept_``; hands over what it holds."""
        found = {
            "call_kept": np.array([len(each.entry) for each in self.calls], np.int64),
            "kept_entry": np.concatenate([np.zeros(0, np.int64), *(each.entry for each in self.calls)]),
            "kept_whole": np.array(["weights" in each.arrays for each in self.calls], bool),
            "kept_causal": np.array([each.causal for each in self.calls], bool),
            "kept_mask_shape": np.array([each.mask_shape for each in self.calls], np.int64).reshape(-1, 3),
        }
        for name in ("q", "k", "mask", "weights"):
            flat = np.empty(sum(each.arrays[name].size for each in self.calls if name in each.arrays),
                            np.uint8 if name == "mask" else np.float32)  # fmt: skip
            end = 0
            for each in self.calls:
                array = each.arrays.pop(name, flat[:0]).ravel()  # nothing is held twice
                flat[end : end + array.size] = array
                end += array.size
            found[f"kept_{name}"] = flat
        return found


def _parts(mask: Tensor) -> Iterator[Tensor]:
    """The rows of a mask of some entries, so many at a time that they take little memory."""
    return iter(torch.split(mask, max(1, 2**21 // max(1, mask[:, :, 0].numel())), 2))


def _whole(call: Call) -> bool:
    """Whether only the weights themselves will do: a mask that is added may do more than hide."""
    if call.weights is not None or call.change is not None:
        return True
    if call.mask is None or call.mask.dtype == torch.bool:
        return False
    return not all(bool(((part == 0) | (part <= HIDDEN)).all()) for part in _parts(call.mask))


def _bytes(call: Call, *, whole: bool) -> int:
    """Of one entry."""
    size = sizes(call)
    if whole:
        return 4 * size.heads * size.queries * size.keys
    bits = 0 if call.mask is None else prod(call.mask.shape[1:3]) * -(-size.keys // 8)
    return 4 * size.depth * (size.heads * size.queries + size.key_heads * size.keys) + bits


def _keep(call: Call, chosen: np.ndarray, size: int, *, whole: bool) -> _Kept:
    if whole:
        return _Kept(chosen, {"weights": _weights(call, chosen)}, size, call.causal, (0, 0, 0))
    assert call.q is not None
    assert call.k is not None
    entries = chosen.tolist()
    arrays = {"q": call.q[entries].float().cpu().numpy(), "k": call.k[entries].float().cpu().numpy()}
    if call.mask is None:
        return _Kept(chosen, arrays, size, call.causal, (0, 0, 0))
    shape = tuple(call.mask.shape[1:])
    arrays["mask"] = np.zeros((len(chosen), *shape[:2], -(-shape[2] // 8)), np.uint8)
    for place, entry in enumerate(entries):
        first, at = 0, entry if len(call.mask) > 1 else 0
        for part in _parts(call.mask[at : at + 1]):
            sees = part if part.dtype == torch.bool else part > HIDDEN
            arrays["mask"][place, :, first : first + part.shape[2]] = np.packbits(sees[0].cpu().numpy(), -1)
            first += part.shape[2]
    return _Kept(chosen, arrays, size, call.causal, shape)


def _weights(call: Call, chosen: np.ndarray) -> np.ndarray:
    """(kept, head, query, key) float32, as the model has them."""
    size = sizes(call)
    if call.weights is not None:
        return call.weights[chosen.tolist()].float().cpu().numpy()
    assert call.q is not None
    found = np.zeros((len(chosen), size.heads, size.queries, size.keys), np.float32)
    rows = torch.arange(size.queries, device=call.q.device)
    for place, entry in enumerate(chosen.tolist()):
        for part in torch.split(rows, max(1, 2**21 // (size.heads * size.keys))):
            c = chunk(call, slice(entry, entry + 1), part, size.keys)
            weights = (c.raw / c.total.clamp_min(1e-30)[..., None])[0]
            found[place, :, part.cpu().numpy()] = weights.transpose(0, 1).cpu().numpy()
    return found
