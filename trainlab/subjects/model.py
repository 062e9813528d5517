"""Make the model that the caller named, with its weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainlab.errors import SubjectError, UsageError, did_you_mean
from trainlab.subjects.checkpoint import Checkpoint, in_words, open_checkpoint
from trainlab.subjects.fit import load_weights
from trainlab.subjects.importing import call_with_config, imported, is_spec, seeded
from trainlab.subjects.recipe import Recipe, find_recipe

__all__ = ["LoadedModel", "chosen_device", "load_model", "open_model"]

DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its provenance.

    Attributes:
        module: The live model.
        origin: Where it came from, one sentence.
        fresh: Makes the same architecture at init, on the same device; None where it cannot be rebuilt.
    """

    module: nn.Module
    origin: str
    fresh: Callable[[], nn.Module] | None


def load_model(
    model: str | nn.Module | Callable[..., nn.Module] | None = None,
    *,
    ckpt: str | Path | Checkpoint | None = None,
    trust: bool = False,
    device: str | torch.device | None = None,
    strict: bool = True,
) -> nn.Module:
    """Makes a model and loads a checkpoint's weights into it.

    How the model is found, first that applies:

    1. ``model``: ``package.module:callable``, ``path/file.py:callable``, the callable itself or an nn.Module;
    2. ``model`` in the recipe, ``trainlab.toml`` beside the checkpoint or in a folder above it;
    3. the checkpoint describes itself: a Hugging Face folder, TorchScript, and with ``trust=True`` an exported
       program (.pt2) or a pickled model.

    A callable is called with the checkpoint's stored config where its signature takes it (see
    `trainlab.subjects.importing.call_with_config`), under seed 0, and leaves the random streams as they were. An
    nn.Module that is handed in is never changed: without a checkpoint, and on its device, it is handed back; otherwise a
    copy gets the weights.

    Args:
        model: The model or what builds it.
        ckpt: The checkpoint; `open_checkpoint` with ``key=`` picks one of several sets of weights.
        trust: Run whatever code the checkpoint holds. Only for files that you or yours have written.
        device: Where the model goes; by default the best there is, or where an nn.Module is already.
        strict: Refuse weights that do not fit; otherwise load what fits and warn of the rest.

    Raises:
        SubjectError: The model cannot be found or built, or the weights do not fit it.
    """
    named = (
        None if isinstance(model, str) and not model else model
    )  # some modules are false: an empty Sequential
    checkpoint = (
        ckpt if isinstance(ckpt, Checkpoint) else open_checkpoint(ckpt, trust=trust) if ckpt else None
    )
    if named is None and checkpoint is None:
        raise UsageError(
            "neither a model nor a checkpoint was given",
            fix="load_model('package.module:callable', ckpt='runs/a/step_4000.pt')",
        )
    recipe = find_recipe(checkpoint.path) if checkpoint else None
    return open_model(named, checkpoint, recipe, device=device, strict=strict).module


def open_model(
    model: str | nn.Module | Callable[..., Any] | None,
    checkpoint: Checkpoint | None,
    recipe: Recipe | None,
    *,
    device: str | torch.device | None = None,
    strict: bool = True,
) -> LoadedModel:
    """Makes the model as `load_model` does, and tells where it came from."""
    base = None
    if model is None and recipe is not None and recipe.model:
        model, base = recipe.model, recipe.folder
    if isinstance(model, nn.Module):
        return _from_module(model, checkpoint, type(model).__name__, device, strict=strict)
    if model is None and checkpoint is not None:
        return _from_checkpoint(checkpoint, chosen_device(device))
    if isinstance(model, str):
        if not is_spec(model):
            raise SubjectError(
                "a model is named as 'package.module:callable' or 'path/file.py:callable'",
                seen=repr(model),
                fix=f"ckpt={model!r}" if Path(model).exists() else "e.g. model='shop.models:build'",
            )
        with seeded(), imported(model, base=base, paths=recipe.paths if recipe else ()) as named:
            if isinstance(named, nn.Module):
                return _from_module(named, checkpoint, model, device, strict=strict)
    elif not callable(model):
        raise SubjectError(
            "a model is a string, an nn.Module or a callable that builds one",
            seen=type(model).__name__,
            fix="e.g. model='shop.models:build'",
        )
    return _from_builder(model, base, checkpoint, recipe, chosen_device(device), strict=strict)


def chosen_device(device: str | torch.device | None) -> torch.device:
    """The device that was asked for, or the best there is: cuda, then mps, then cpu.

    Raises:
        UsageError: There is no such device, or not on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(name for name, available in there.items() if available))
    try:
        asked = torch.device(device)
    except RuntimeError:
        raise UsageError(
            f"there is no device {str(device)!r}", fix=did_you_mean(str(device), DEVICES)
        ) from None
    if not there.get(asked.type, True):
        raise UsageError(
            f"device {str(device)!r} is not on this machine",
            seen=", ".join(name for name, available in there.items() if available),
            fix="leave device out for the best there is",
        )
    return asked


def _from_module(
    model: nn.Module,
    checkpoint: Checkpoint | None,
    name: str,
    device: str | torch.device | None,
    *,
    strict: bool,
) -> LoadedModel:
    from trainlab.visit import device_of

    target = device_of(model) if device is None else chosen_device(device)
    moves = target != device_of(model)
    if checkpoint is None and not moves:
        return LoadedModel(model, f"{name}, {_size(model)}, as given", None)
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise SubjectError(
            f"{name} cannot be copied, and a model that was handed in is not changed: {error}",
            fix="give what builds it instead: model='package.module:callable'",
        ) from error
    origin = f"a copy of {name}"
    origin += (
        f" with {_loaded(copied, checkpoint, name, strict=strict)}" if checkpoint else f", {_size(model)}"
    )
    return LoadedModel(copied.to(target), origin, None)


def _from_checkpoint(checkpoint: Checkpoint, device: torch.device) -> LoadedModel:
    if not checkpoint.describes_itself:
        raise _three_ways(checkpoint)
    with seeded():
        module = checkpoint.module().to(device)

    def fresh() -> nn.Module:
        assert checkpoint.fresh is not None
        with seeded():
            return checkpoint.fresh().to(device)

    origin = f"{type(module).__name__} from {checkpoint.path} ({checkpoint.summary()})"
    return LoadedModel(module, origin, fresh if checkpoint.fresh else None)


def _from_builder(
    builder: str | Callable[..., Any],
    base: Path | None,
    checkpoint: Checkpoint | None,
    recipe: Recipe | None,
    device: torch.device,
    *,
    strict: bool,
) -> LoadedModel:
    config = checkpoint.config if checkpoint else None

    def build() -> tuple[nn.Module, str]:
        with seeded():
            if not isinstance(builder, str):
                return _called(builder, config, getattr(builder, "__name__", type(builder).__name__), device)
            with imported(builder, base=base, paths=recipe.paths if recipe else ()) as function:
                return _called(function, config, builder, device)

    module, call = build()
    origin = call
    if base is not None and recipe is not None:
        origin += f" as {recipe.path} says"
    origin += (
        f" with {_loaded(module, checkpoint, call, strict=strict)}"
        if checkpoint
        else f", {_size(module)}, at init (seed 0)"
    )
    return LoadedModel(module.to(device), origin, lambda: build()[0].to(device))


def _called(
    function: Any, config: Mapping[str, Any] | None, name: str, device: torch.device
) -> tuple[nn.Module, str]:
    if not callable(function):
        raise SubjectError(
            f"{name} is no callable that builds a model",
            seen=type(function).__name__,
            fix="name a function or class that returns an nn.Module",
        )
    module, call = call_with_config(function, config, name=name, device=device)
    if not isinstance(module, nn.Module):
        raise SubjectError(
            f"{call} did not return a model", seen=type(module).__name__, fix="return the nn.Module"
        )
    return module, call


def _loaded(module: nn.Module, checkpoint: Checkpoint, name: str, *, strict: bool) -> str:
    change, faults = load_weights(module, checkpoint, name=name, strict=strict)
    if faults:
        warnings.warn(f"loaded what fits of {checkpoint.path} into {name}; the rest:\n{faults}", stacklevel=2)
    details = ", ".join(filter(None, [checkpoint.summary(), change, "loaded in part" if faults else ""]))
    return f"weights from {checkpoint.path} ({details})"


def _size(module: nn.Module) -> str:
    return f"{in_words(sum(each.numel() for each in module.parameters()))} parameters"


def _three_ways(checkpoint: Checkpoint) -> SubjectError:
    seen = [f"{checkpoint.format} checkpoint with {checkpoint.summary()}"]
    seen += [f"{name}  {shape}  {dtype}" for name, (shape, dtype) in list(checkpoint.tensors.items())[:8]]
    if len(checkpoint.tensors) > 8:
        seen.append(f"… and {len(checkpoint.tensors) - 8} more")
    if checkpoint.config:
        seen.append(f"config with {', '.join(checkpoint.config)}")
    return SubjectError(
        f"{checkpoint.path} does not say which model it belongs to",
        seen="\n".join(seen),
        fix=(
            "one of three\n"
            "1. name what builds it: model='package.module:callable' or 'path/file.py:callable'\n"
            f'2. write it once for the project: {checkpoint.path.parent / "trainlab.toml"} with model = "package.module:callable"\n'
            "3. give a checkpoint that describes itself: a Hugging Face folder, a torch.export .pt2, a TorchScript archive"
        ),
    )
