"""Make the batch that the caller named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.sniff import missing_file
from trainlab.subjects.checkpoint import load_file
from trainlab.subjects.formats import load_safetensors
from trainlab.subjects.importing import call_with_config, imported, is_spec, seeded
from trainlab.subjects.model import chosen_device
from trainlab.subjects.recipe import Recipe
from trainlab.subjects.spec import batch_from_spec, parse_spec
from trainlab.visit import map_tensors, tensors

__all__ = ["load_batch", "open_batch"]

FILES = (".pt", ".pth", ".npz", ".npy", ".safetensors")
WAYS = (
    "a tensor, tuple, dict or dataclass of tensors, 'package.module:callable', a file "
    f"({', '.join(FILES)}), or a spec like '{{x: {{shape: [2, 3]}}}}'"
)


def load_batch(
    batch: object,
    *,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    trust: bool = False,
) -> Any:
    """Makes a batch and moves its tensors to the device.

    Args:
        batch: One of these.

            * a tensor, NumPy array, or a nested tuple, list, dict or dataclass of tensors: as it is;
            * ``package.module:callable``, ``path/file.py:callable`` or the callable itself: called with the
              config where its signature takes it, under seed 0, leaving the random streams as they were;
            * a file: .pt and .pth (weights-only), .npy, .npz (a dict), .safetensors (a dict);
            * a spec, as a mapping or in YAML's or JSON's flow form: ``{x: {shape: [2, 3]}, tau: 0.5}``; see
              `trainlab.subjects.spec.batch_from_spec`.
        config: The checkpoint's stored config.
        device: Where the tensors go; by default the best there is.
        trust: Run whatever code a .pt file holds. Only for files that you or yours have written.

    Raises:
        SubjectError: It is none of these, cannot be opened, or holds no tensor.
    """
    return open_batch(batch, config=config, device=chosen_device(device), trust=trust)[0]


def open_batch(
    batch: object,
    *,
    config: Mapping[str, Any] | None,
    device: torch.device,
    trust: bool = False,
    base: Path | None = None,
    recipe: Recipe | None = None,
) -> tuple[Any, str]:
    """Makes the batch as `load_batch` does, and tells where it came from.

    Args:
        batch: See `load_batch`.
        config: The checkpoint's stored config.
        device: Where the tensors go.
        trust: Run code in a .pt file.
        base: The folder that a relative path starts from; the working folder by default.
        recipe: Whose ``paths`` are searched.
    """
    made, source = _made(batch, config, device, trust=trust, base=base, recipe=recipe)
    made = torch.from_numpy(made) if isinstance(made, np.ndarray) and made.dtype != object else made
    if not tensors(made):
        raise SubjectError(
            "the batch holds no tensor",
            seen=f"{source}: {type(made).__name__}",
            fix="next(iter(loader))" if hasattr(made, "__iter__") and hasattr(made, "dataset") else WAYS,
        )
    moved = map_tensors(made, lambda _, tensor: tensor.to(device))
    shapes = ", ".join(
        f"{name} {tuple(each.shape)}".strip() for name, each in list(tensors(moved).items())[:6]
    )
    return moved, f"{source} ({shapes})"


def _made(
    batch: Any,
    config: Mapping[str, Any] | None,
    device: torch.device,
    *,
    trust: bool,
    base: Path | None,
    recipe: Recipe | None,
) -> tuple[Any, str]:
    if isinstance(batch, str):
        return _named(batch.strip(), config, device, trust=trust, base=base, recipe=recipe)
    if isinstance(batch, Path):
        return _from_file(batch, trust=trust), str(batch)
    if isinstance(batch, Mapping) and not tensors(batch):
        return batch_from_spec(batch), "a spec"
    if callable(batch) and not tensors(batch):
        return _called(batch, config, device, getattr(batch, "__name__", type(batch).__name__))
    return batch, f"{type(batch).__name__}, as given"


def _named(
    text: str,
    config: Mapping[str, Any] | None,
    device: torch.device,
    *,
    trust: bool,
    base: Path | None,
    recipe: Recipe | None,
) -> tuple[Any, str]:
    if text.startswith(("{", "[")):
        return batch_from_spec(parse_spec(text)), f"the spec {text}"
    if Path(text).suffix in FILES:
        file = (base or Path.cwd()) / Path(text).expanduser()
        return _from_file(file, trust=trust), text
    if is_spec(text):
        with seeded(), imported(text, base=base, paths=recipe.paths if recipe else ()) as function:
            if callable(function):
                return _called(function, config, device, text)
            return function, text
    raise SubjectError("the batch is not one that can be opened", seen=repr(text), fix=WAYS)


def _called(
    function: Callable[..., Any], config: Mapping[str, Any] | None, device: torch.device, name: str
) -> tuple[Any, str]:
    with seeded():
        return call_with_config(function, config, name=name, device=device)


def _from_file(file: Path, *, trust: bool) -> Any:
    if not file.is_file():
        raise missing_file(file, FILES)
    if file.suffix in (".pt", ".pth"):
        return load_file(file, trust=trust)
    if file.suffix == ".safetensors":
        return load_safetensors(file)[0]
    if file.suffix not in FILES:
        raise SubjectError(
            f"{file} is not a file that batches are read from", fix=f"one of: {', '.join(FILES)}"
        )
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return torch.from_numpy(content)
        with content:
            return {name: torch.from_numpy(content[name]) for name in content.files}
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise SubjectError(
            f"{file} cannot be read as NumPy numbers: {error}", fix="save plain arrays, without objects"
        ) from error
