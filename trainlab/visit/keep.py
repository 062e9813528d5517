"""The visit itself: what is kept, and how it is put back."""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainlab.errors import SubjectError

__all__ = ["COPY_LIMIT", "compiler_off", "require_module", "visit"]

COPY_LIMIT = 256 * 2**20
"""Bytes of parameters up to which a visit copies them; above, it takes a checksum of each."""

# The containers a module keeps its state in: hooks, parameters, buffers, submodules, histories, caches.
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def visit(
    model: nn.Module, *, train: bool = False, seed: int | None = None, grad: bool = False
) -> Iterator[None]:
    """Leaves the model, and the process around it, exactly as found, whatever happens inside.

    Put back, also after an exception: the training flag of every submodule; every attribute of every module
    (parameters, buffers, submodules and hooks by identity and order, counters, plain tensors, lists and dicts
    one level deep); the values, storage, ``requires_grad`` and ``.grad`` of every tensor; the random streams
    of torch on every device in use, numpy, Python and of generators that modules own; grad mode; autocast.
    Modules under ``torch.compile`` run eagerly inside, so they are neither compiled nor retraced.

    Inside, every ``.grad`` is None: a probe may call ``backward`` without touching the gradients that were
    there, which come back as the same objects. Visits nest.

    Cost: buffers are always copied. Parameters are copied where together they take `COPY_LIMIT` bytes (256
    MiB) or less; above, a checksum of each, before and after, tells whether it changed. A checksum reads the
    weights once, as a forward on a single token does.

    Not put back: objects nested deeper than that, a TorchScript module's attributes other than its mode,
    parameters and buffers, the values of sparse tensors and of wrapper subclasses such as DTensor, hooks on
    tensors, and tensors that belong to the batch.

    Args:
        model: Any module: frozen, shared, quantized, compiled, scripted, on several devices or on meta.
        train: Training mode instead of eval mode, by the model's own ``train`` method, overrides included.
        seed: Where every random stream starts inside; None goes on from where they stand.
        grad: Whether autograd records; off by default, even where it was on.

    Raises:
        SubjectError: The model is no module, has lazy parameters, is an exported program asked to train, or
            changed (on leaving) a parameter that was too large to copy. Where an error is already on its
            way, that last one becomes a note on it.
    """
    require_module(model)
    with _ambient_kept(), compiler_off(), _random_kept(model), _model_kept(model):
        _set_mode(model, train=train)
        torch.set_grad_enabled(grad)
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the stream that models draw from
            torch.manual_seed(seed)
        yield


def require_module(model: object) -> None:
    """Raises SubjectError where the model is not one."""
    if not isinstance(model, nn.Module):
        raise SubjectError(
            "the model is not an nn.Module",
            seen=f"{type(model).__module__}.{type(model).__qualname__}",
            fix="build the model first: trainlab.load_model(…) makes one from a name or a checkpoint",
        )


def _set_mode(model: nn.Module, *, train: bool) -> None:
    try:
        model.train(train)
    except NotImplementedError as error:  # torch.export bakes the mode into the program
        if train:
            raise SubjectError(
                "an exported program cannot be put into training mode",
                seen=type(model).__name__,
                fix="leave train off, or use the module that the program was exported from",
            ) from error


@contextmanager
def _ambient_kept() -> Iterator[None]:
    """Keeps grad mode and autocast."""
    grad, cache = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    casts = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _AUTOCAST_DEVICES]
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_autocast_cache_enabled(cache)
        for device, enabled, dtype in casts:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.clear_autocast_cache()  # it may hold casts of weights that have been put back since


@contextmanager
def compiler_off() -> Iterator[None]:
    """Runs compiled modules eagerly; loads no compiler where none is loaded yet, or will be by flex attention."""
    if sys.modules.keys().isdisjoint(("torch._dynamo", "torch.nn.attention.flex_attention")):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _random_kept(model: nn.Module) -> Iterator[None]:
    """Keeps every random stream that a forward can draw from."""
    streams: list[tuple[Callable[[Any], object], object]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state(legacy=False)),  # noqa: NPY002 - likewise
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():  # asking for the state would initialise it
            streams += [(device.set_rng_state_all, device.get_rng_state_all())]
    if torch.backends.mps.is_available():
        streams.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    for module in model.modules():
        own = (value for value in vars(module).values() if isinstance(value, torch.Generator))
        streams.extend((generator.set_state, generator.get_state()) for generator in own)
    try:
        yield
    finally:
        for put_back, state in streams:
            put_back(state)


@contextmanager
def _model_kept(model: nn.Module) -> Iterator[None]:
    """Keeps the modules' attributes, the state of every tensor they hold, and the bytes beneath."""
    held = list(_held(model))
    modules = [_ModuleFound(each) for each in model.modules()]
    storages = _storages_found(held)
    tensors = [_TensorFound(each) for each in {id(each): each for _, each, _ in held}.values()]

    def put_back() -> list[str]:
        for module in modules:
            module.put_back()
        for tensor in tensors:
            tensor.put_back()
        return [storage.name for storage in storages if not storage.put_back()]

    try:
        yield
    except BaseException as error:
        if changed := put_back():
            error.add_note(str(_changed_for_good(model, changed)))
        raise
    if changed := put_back():
        raise _changed_for_good(model, changed)


def _changed_for_good(model: nn.Module, names: list[str]) -> SubjectError:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return SubjectError(
        f"{type(model).__name__} changed its own parameters during a visit, and they are too large to put back",
        seen=", ".join(names[:3]) + more,
        fix="load the model again, and let its forward write to parameters in training mode only",
    )


class _ModuleFound:
    """One module's attributes, and what its containers held."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.attributes = dict(vars(module))
        self.contents = {k: copy.copy(v) for k, v in self.attributes.items() if type(v) in _CONTAINERS}
        # TorchScript keeps its state outside __dict__; a frozen one has no mode
        self.scripted: dict[str, object] = {name: tensor for name, tensor, _ in _script_tensors(module)}
        if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "training"):
            self.scripted["training"] = module.training

    def put_back(self) -> None:
        # Only what differs is written, and past __setattr__: rewriting would trip the guards of compiled code
        now = vars(self.module)
        for name in now.keys() - self.attributes.keys():
            del now[name]
        for name, value in self.attributes.items():
            if name not in now or now[name] is not value:
                now[name] = value
        for name, contents in self.contents.items():
            container = self.attributes[name]
            if _identities(container) != _identities(contents):
                container.clear()
                (container.extend if isinstance(container, list | deque) else container.update)(contents)
        for name, value in self.scripted.items():
            if getattr(self.module, name) is not value:
                setattr(self.module, name, value)


def _identities(container: Iterable[object]) -> list[int]:
    if isinstance(container, dict):
        return [id(each) for item in container.items() for each in item]
    return [id(each) for each in container]


class _TensorFound:
    """What a tensor points to, and its place in autograd; sets its gradient aside."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.data = tensor.data  # the same memory, found again if the tensor is pointed elsewhere
        self.layout = _layout(tensor)
        self.leaf, self.requires_grad = tensor.is_leaf, tensor.requires_grad
        self.grad = tensor.grad if self.leaf else None  # asking a non-leaf warns
        if self.grad is not None:
            tensor.grad = None

    def put_back(self) -> None:
        if self.leaf and not self.tensor.is_leaf:
            self.tensor.detach_()
        if _layout(self.tensor) != self.layout:
            self.tensor.data = self.data
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)
        if self.leaf and self.tensor.grad is not self.grad:
            self.tensor.grad = self.grad


def _layout(tensor: Tensor) -> tuple[object, ...]:
    memory = _bytes_of(tensor)
    if memory is None:
        return (tensor.shape, tensor.dtype, tensor.device)
    return (
        memory.data_ptr(),
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor.device,
    )


class _StorageFound:
    """The bytes of one storage: a copy that can be put back, or a checksum that can only tell."""

    def __init__(self, name: str, memory: Tensor, *, copied: bool) -> None:
        self.name, self.memory = name, memory
        self.copy = memory.clone() if copied else None
        self.checksum = None if copied else _checksum(memory)

    def put_back(self) -> bool:
        """Puts the bytes back if they changed; False when there is no copy to do it from."""
        storage, size = self.memory.untyped_storage(), self.memory.numel()
        if storage.nbytes() != size:  # freed by the model: reading on would read past its end
            storage.resize_(size)
        if self.copy is None:
            return _checksum(self.memory) == self.checksum
        pairs = zip(_words(self.copy), _words(self.memory), strict=True)
        if not all(torch.equal(copied, now) for copied, now in pairs):
            self.memory.copy_(self.copy)
        return True


def _storages_found(held: Iterable[tuple[str, Tensor, bool]]) -> list[_StorageFound]:
    distinct: dict[tuple[torch.device, int], tuple[str, Tensor, bool]] = {}
    for name, tensor, buffer in held:
        memory = _bytes_of(tensor)
        if memory is not None and memory.numel():
            key = (memory.device, memory.data_ptr())
            first, _, buffer_before = distinct.get(key, (name, memory, False))
            distinct[key] = (first, memory, buffer or buffer_before)
    large = sum(memory.numel() for _, memory, buffer in distinct.values() if not buffer) > COPY_LIMIT
    return [
        _StorageFound(name, memory, copied=buffer or not large) for name, memory, buffer in distinct.values()
    ]


def _bytes_of(tensor: Tensor) -> Tensor | None:
    """The whole storage beneath a tensor as uint8, sharing memory: the same for every dtype and stride."""
    if tensor.is_meta:
        return None
    try:
        return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
    except RuntimeError:  # sparse tensors, wrapper subclasses and fake tensors have no bytes to read
        return None


def _words(memory: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes as int64, some ten times quicker to compare, and the odd ones at the end."""
    whole = memory.numel() // 8 * 8
    return memory[:whole].view(torch.int64), memory[whole:]


def _checksum(memory: Tensor) -> tuple[int, ...]:
    words, rest = _words(memory)
    return (int(words.sum()), *rest.tolist())


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Every tensor that a module holds: its name, itself, whether it is a buffer."""
    for prefix, module in model.named_modules():
        for name, tensor, buffer in (*_plain_tensors(module), *_script_tensors(module)):
            full = f"{prefix}.{name}" if prefix else name
            if is_lazy(tensor):
                raise SubjectError(
                    f"the parameter {full!r} has no shape yet",
                    seen=f"{type(module).__name__}, which takes its shape from the first batch",
                    fix="run one batch through the model first, or load a checkpoint into it",
                )
            yield full, tensor, buffer


def _plain_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield name, value, False
        elif type(value) in _CONTAINERS:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, Tensor):
                    own = name in ("_parameters", "_buffers")
                    yield (str(key) if own else f"{name}[{key}]"), item, name == "_buffers"


def _script_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    if isinstance(module, torch.jit.ScriptModule):
        yield from ((name, tensor, False) for name, tensor in module.named_parameters(recurse=False))
        yield from ((name, tensor, True) for name, tensor in module.named_buffers(recurse=False))
