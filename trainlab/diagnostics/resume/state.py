"""The live state of a run: which thing in it is what, whether two are equal, and how to carry one over."""

from __future__ import annotations

import copy
import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler

from trainlab.diagnostics.resume.parts import AVERAGES, POSITION, words

__all__ = ["GLOBAL", "LEARNED", "PIECES", "Place", "Snapshot", "carry_over", "places", "snapshot", "streams"]

LEARNED = ("weights", "buffers", "EMA", "optimizer", "learning rate", "scheduler", "grad scaler")
PIECES = (*LEARNED, "RNG", "data", "counters", "other values")
Snapshot = dict[tuple[str, str], bytes | None]
"""(piece, where) → a digest of its value; None where it cannot be read, as in an iterator."""

GLOBAL = "'s global stream"
ORDER = {"order", "perm", "permutation", "indices", "index", "queue", "batches", "data"}
# What a scheduler's state says of its object and not of the schedule.
IDLE = {"_step_count", "_is_initial", "_get_lr_called_within_step", "verbose"}
FOREIGN = {
    "concurrent",
    "io",
    "logging",
    "matplotlib",
    "multiprocessing",
    "queue",
    "tensorboardX",
    "threading",
    "torch",
    "tqdm",
    "wandb",
}
DEEP = 4
SCALARS = (bool, int, float, str)
STATEFUL = (("sched", "scheduler"), ("scal", "grad scaler"))


class Place(NamedTuple):
    """One thing in the state, and the container that it can be exchanged in."""

    piece: str
    path: str
    value: Any
    container: Any
    key: Any


def places(state: Any) -> list[Place]:
    """Finds model, optimizer, scheduler, loader … in a state: a dict, dataclass or object, nested ones too."""
    found: list[Place] = []
    seen: set[int] = set()
    waiting = deque([("state", state, None, None, 0)])
    owned = {id(each) for each in _loader_generators(state)}
    while waiting:
        path, value, container, key, depth = waiting.popleft()
        piece = _piece(path, value, owned)
        again = id(value) in seen and not isinstance(value, SCALARS)
        seen.add(id(value))
        if piece is not None and (not again or piece == "data"):
            found.append(Place(piece, path, value, container, key))
        elif piece is None and not again and depth < DEEP:
            for name, each in _inside(value):
                inner = f"{path}.{name}" if depth else str(name)
                waiting.append((inner, each, value, name, depth + 1))
    return found


def snapshot(found: Iterable[Place]) -> Snapshot:
    """Digests of everything in the state and of the process's random streams; holds no tensor."""
    taken: Snapshot = {("RNG", f"{name}{GLOBAL}"): _digest(get()) for name, (get, _) in streams().items()}
    for place in found:
        for piece, value in _values(place):
            taken[piece, place.path] = None if value is _HIDDEN else _digest(value)
    return taken


def streams() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    """The process's random streams, each as a function that reads it and one that sets it."""
    found: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "torch": (torch.get_rng_state, torch.set_rng_state),
        "numpy": (np.random.get_state, np.random.set_state),
        "python": (random.getstate, random.setstate),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["CUDA"] = (torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all)
    return found


@torch.no_grad()
def carry_over(
    pieces: Iterable[str], source: Iterable[Place], target: Iterable[Place], rng: Mapping[str, Any]
) -> None:
    """Carries pieces of one state over into another, tensors by value and data loaders as they are.

    Args:
        pieces: Which, names of `PIECES`.
        source: The state that they are taken from; spent afterwards.
        target: The state that they are put into.
        rng: The process's random streams that belong to the source.
    """
    chosen = set(pieces)
    there = {(place.piece, place.path): place for place in target}
    for place in source:
        other = there.get((place.piece, place.path))
        if other is not None:
            _carry(place, other, chosen)
    if "RNG" in chosen:
        for name, (_, put) in streams().items():
            put(rng[name])


def _piece(path: str, value: Any, owned: set[int]) -> str | None:
    """Which piece a thing is; None where it is a container to look into, or nothing."""
    parts = words(path)
    last = path.rpartition(".")[2].lower()
    in_data = bool(POSITION.search(last)) or bool(words(last) & ORDER)
    if isinstance(value, nn.Module):
        return "EMA" if parts & AVERAGES or isinstance(value, AveragedModel) else "weights"
    if isinstance(value, torch.optim.Optimizer):
        return "optimizer"
    if isinstance(value, LRScheduler):
        return "scheduler"
    if isinstance(value, torch.amp.GradScaler):
        return "grad scaler"
    if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
        return "data" if id(value) in owned else "RNG"
    if isinstance(value, DataLoader | Sampler | Dataset) or hasattr(value, "__next__"):
        return "data"
    if isinstance(value, torch.Tensor):
        return "EMA" if parts & AVERAGES else "data" if in_data else "other values"
    if isinstance(value, SCALARS):
        if isinstance(value, str):
            return None  # paths and names
        return "data" if in_data else "counters"
    if _is_flat(value):
        return "data" if in_data else "other values"
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        named = next((piece for sign, piece in STATEFUL if sign in last), "data" if in_data else None)
        return "EMA" if words(last) & AVERAGES else named
    return None


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif hasattr(value, "__dict__") and not callable(value) and not _is_foreign(value):
        yield from vars(value).items()


def _is_foreign(value: Any) -> bool:
    """A module, a progress bar, a logger: things whose inside is not the run's."""
    return isinstance(value, ModuleType) or type(value).__module__.partition(".")[0] in FOREIGN


def _is_flat(value: Any) -> bool:
    """A list, set or array of plain values: one thing, not a container of parts."""
    if isinstance(value, np.ndarray):
        return True
    return isinstance(value, list | tuple | set | deque) and all(isinstance(each, SCALARS) for each in value)


def _loader_generators(state: Any) -> Iterator[torch.Generator]:
    """Generators that shuffle: they belong to the data."""
    for _, value in _inside(state):
        for owner in (value, getattr(value, "sampler", None), getattr(value, "batch_sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(value, DataLoader | Sampler) and isinstance(generator, torch.Generator):
                yield generator


_HIDDEN = object()


def _values(place: Place) -> Iterator[tuple[str, Any]]:
    """What there is to compare of a thing: a module has weights and buffers, an optimizer state and rates."""
    value = place.value
    if place.piece == "weights":
        yield "weights", dict(value.named_parameters())
        if buffers := dict(value.named_buffers()):
            yield "buffers", buffers
    elif isinstance(value, torch.optim.Optimizer):
        yield (
            "optimizer",
            [dict(value.state.get(p, {})) for group in value.param_groups for p in group["params"]],
        )
        yield "learning rate", [_without(group, {"params"}) for group in value.param_groups]
    elif place.piece == "scheduler":
        yield "scheduler", _without(value.state_dict(), IDLE)
    elif isinstance(value, torch.Generator):
        yield place.piece, value.get_state()
    elif isinstance(value, np.random.Generator):
        yield place.piece, value.bit_generator.state
    elif isinstance(value, np.random.RandomState):
        yield place.piece, value.get_state(legacy=False)
    elif isinstance(value, random.Random):
        yield place.piece, value.getstate()
    elif isinstance(value, (torch.Tensor, *SCALARS)) or _is_flat(value):
        yield place.piece, value
    elif place.piece != "data" and hasattr(value, "state_dict"):
        yield place.piece, value.state_dict()
    else:
        yield place.piece, _HIDDEN


def _carry(source: Place, target: Place, chosen: set[str]) -> None:
    mine, theirs = target.value, source.value
    if isinstance(mine, nn.Module):
        for piece, tensors in (("weights", "named_parameters"), ("buffers", "named_buffers")):
            if source.piece in chosen if source.piece == "EMA" else piece in chosen:
                values = dict(getattr(theirs, tensors)())
                for name, tensor in getattr(mine, tensors)():
                    tensor.copy_(values[name])
    elif isinstance(mine, torch.optim.Optimizer):
        _carry_optimizer(theirs, mine, chosen)
    elif source.piece not in chosen:
        return
    elif source.piece in ("data", "counters"):
        _put(target.container, target.key, theirs)
    elif isinstance(mine, torch.Tensor):
        mine.copy_(theirs)
    elif isinstance(mine, torch.Generator):
        mine.set_state(theirs.get_state())
    elif isinstance(mine, np.random.Generator):
        mine.bit_generator.state = theirs.bit_generator.state
    elif isinstance(mine, np.random.RandomState):
        mine.set_state(theirs.get_state())
    elif isinstance(mine, random.Random):
        mine.setstate(theirs.getstate())
    elif hasattr(mine, "load_state_dict"):
        mine.load_state_dict(copy.deepcopy(theirs.state_dict()))  # what is loaded may be kept by reference
    else:
        _put(target.container, target.key, copy.deepcopy(theirs))


def _carry_optimizer(theirs: torch.optim.Optimizer, mine: torch.optim.Optimizer, chosen: set[str]) -> None:
    """By hand, since load_state_dict sets moments and rates at once, aliases them and may change their dtype."""
    for group, other in zip(mine.param_groups, theirs.param_groups, strict=True):
        if "learning rate" in chosen:
            group.update(copy.deepcopy(_without(other, {"params"})))
        if "optimizer" in chosen:
            for parameter, twin in zip(group["params"], other["params"], strict=True):
                mine.state.pop(parameter, None)
                if twin in theirs.state:
                    mine.state[parameter] = copy.deepcopy(theirs.state[twin])


def _put(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, MutableMapping | MutableSequence):
        container[key] = value
    elif not isinstance(container, Mapping | tuple):
        object.__setattr__(container, key, value)  # frozen dataclasses too


def _without(mapping: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def _digest(value: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in _bytes(value):
        digest.update(piece)
    return digest.digest()


def _bytes(value: Any) -> Iterator[Any]:
    """The value as bytes that differ where a bit of it does."""
    if isinstance(value, torch.Tensor) and not value.is_sparse and not value.is_quantized:
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{key}:".encode()
            yield from _bytes(value[key])
    elif isinstance(value, list | tuple | deque):
        yield f"{len(value)}[".encode()
        for each in value:
            yield from _bytes(each)
    elif isinstance(value, set):
        yield repr(sorted(map(repr, value))).encode()
    elif isinstance(value, (*SCALARS, np.generic)) or value is None:
        yield repr(value).encode()
    else:
        yield type(value).__qualname__.encode()
