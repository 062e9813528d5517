"""Run a model on a batch, and hear what its modules say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from trainlab.errors import SubjectError, did_you_mean
from trainlab.visit.keep import require_module
from trainlab.visit.tree import is_dataclass, map_tensors, parts

__all__ = ["call", "device_of", "watch"]

Args = tuple[object, ...]
Kwargs = dict[str, object]
Heard = Callable[[str, nn.Module, object, object], None]


def call(model: nn.Module, batch: object) -> object:
    """Runs the model on a batch, which says by its type how it is handed over.

    A tuple or list (namedtuples too) is the positional arguments; a mapping the keyword arguments; a
    dataclass the keyword arguments where forward takes any of its fields, otherwise the one argument;
    anything else is the one argument. A list or a mapping that forward wants whole goes in a tuple of one.
    Tensors are moved to the model's device first, inside any nesting; the batch itself is left alone.

    Returns:
        What the model returns, untouched.

    Raises:
        SubjectError: The batch does not fit forward, by name or number, or the model has no weights. What
            forward itself raises, rises unchanged.
    """
    require_module(model)
    inner = getattr(
        model, "_orig_mod", model
    )  # torch.compile's wrapper takes anything, so ask the module in it
    signature = _signature(inner)
    args, kwargs = _arguments(batch, signature)
    if signature is not None:
        _check_fit(f"{type(inner).__name__}.forward", signature, args, kwargs)
    device = device_of(model)

    def moved(name: str, tensor: Tensor) -> Tensor:
        if device.type == "meta" and not tensor.is_meta:
            raise SubjectError(
                f"{type(inner).__name__} has no weights: its parameters are on the meta device",
                seen=f"a batch with values in {name!r}",
                fix="load a checkpoint into the model",
            )
        return tensor.to(device)

    return model(*map_tensors(args, moved), **map_tensors(kwargs, moved))


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first weights are: ``meta`` where none has values, ``cpu`` where there are none."""
    devices = [tensor.device for each in (model.parameters(), model.buffers()) for tensor in each]
    real = [device for device in devices if device.type != "meta"]  # an offloaded model has both
    return (real or devices or [torch.device("cpu")])[0]


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except ValueError:  # a traced TorchScript module has none
        return None


def _arguments(batch: object, signature: inspect.Signature | None) -> tuple[Args, Kwargs]:
    if isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence):
        return tuple(batch), {}
    if isinstance(batch, Mapping):
        return (), dict(batch)
    if is_dataclass(batch) and signature is not None:
        fields = {str(name): value for name, value in parts(batch)}
        taken, more = _keywords(signature)
        if more or fields.keys() & set(taken):
            return (), fields
    return (batch,), {}


def _keywords(signature: inspect.Signature) -> tuple[list[str], bool]:
    """The keywords that forward takes, and whether it takes any other."""
    parameters = signature.parameters.values()
    taken = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return taken, any(each.kind is each.VAR_KEYWORD for each in parameters)


def _check_fit(forward: str, signature: inspect.Signature, args: Args, kwargs: Kwargs) -> None:
    taken, more = _keywords(signature)
    given = f"{len(args)} in a row" if args else ", ".join(map(str, kwargs)) or "nothing"
    seen = f"the batch holds: {given}; forward takes: {', '.join(taken) or 'nothing'}"
    unexpected = [name for name in kwargs if name not in taken]
    if unexpected and not more:
        names = ", ".join(map(repr, unexpected))
        advice = did_you_mean(str(unexpected[0]), [name for name in taken if name not in kwargs])
        leave_out = f"leave {names} out of the batch, or hand it over whole, in a tuple: (batch,)"
        raise SubjectError(
            f"the batch has {names}, which {forward} does not take",
            seen=seen,
            fix=advice if advice.startswith("did you mean") else leave_out,
        )
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise SubjectError(
            f"the batch does not fit {forward}: {error}",
            seen=seen,
            fix="a dict whose keys are forward's parameters, or a tuple of them in order",
        ) from error


@contextmanager
def watch(model: nn.Module, heard: Heard) -> Iterator[None]:
    """Calls ``heard(name, module, inputs, output)`` each time one of the model's modules has been called.

    In the order in which the calls end, so children come before their parent; a module that is called twice
    is heard twice, one that is registered twice goes by its first name. ``inputs`` is the tuple of positional
    arguments, and where there are keyword arguments the dict of them comes last in it. Names are those of
    ``named_modules``; the model itself is ``""``.

    Not heard: functions (``F.relu``, ``x + y``), submodules whose weights are used without calling them
    (``MultiheadAttention.out_proj``), modules first made inside forward, TorchScript modules and all inside
    them. Hooks switch off the fused path of ``nn.TransformerEncoder``, so its outputs can differ from an
    unwatched call in the last bits. A compiled module's parts are heard where it runs eagerly, as in a `visit`.
    """
    require_module(model)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # these refuse hooks

                def hook(
                    module: nn.Module, args: Args, kwargs: Kwargs, output: object, name: str = name
                ) -> None:
                    heard(name, module, (*args, kwargs) if kwargs else args, output)

                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield
