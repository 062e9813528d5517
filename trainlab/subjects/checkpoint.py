"""Open a checkpoint, whatever wrote it, without running the code that may hide in it."""

from __future__ import annotations

import argparse
import glob
import os
import pathlib
import pickle
import re
import types
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.errors import SubjectError
from trainlab.markup import block, paragraph
from trainlab.subjects.checkfile.sniff import SUFFIXES, sniff
from trainlab.subjects.contents import Weights, config_of, counters_of, weights_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "Checkpoint",
    "Outline",
    "checkpoints_in",
    "file_format",
    "in_words",
    "load_file",
    "open_checkpoint",
    "outline",
]

Outline = dict[str, tuple[tuple[int, ...], str]]

LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save pickled before 1.6

# What lies in a folder that is one checkpoint: Hugging Face's, torch.distributed's
WHOLE_FOLDERS = ("config.json", "trainer_state.json", "model.safetensors.index.json", ".metadata")

# Containers of plain values that do nothing when they are made: old training scripts store their arguments in them.
HARMLESS: dict[str, Callable[..., Any]] = {
    "argparse.Namespace": argparse.Namespace,
    "types.SimpleNamespace": types.SimpleNamespace,
    "pathlib.PosixPath": pathlib.PosixPath,
    "pathlib._local.PosixPath": pathlib.PosixPath,  # as Python 3.13 names it
}


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A checkpoint that was opened: what it says of itself, and its weights on demand.

    Attributes:
        path: The file or folder, as it was given.
        format: ``torch``, ``torch-legacy``, ``lightning``, ``safetensors``, ``huggingface``, ``torch.export``,
            ``torchscript`` or ``pickled module``.
        key: Which entry the weights were taken from; "" where the file holds nothing but them.
        config: The stored config as plain dicts, or None.
        metadata: The plain values beside the weights: iter, epoch, global_step …
        tensors: Name → (shape, dtype) of every tensor, names as stored.
        others: The same for every other set of weights in the file, e.g. under "ema".
    """

    path: Path
    format: str
    key: str
    config: Mapping[str, Any] | None
    metadata: Mapping[str, bool | int | float | str]
    tensors: Outline
    others: Mapping[str, Outline]
    _weights: Callable[[], Weights] = field(compare=False)
    _module: Callable[[], torch.nn.Module] | None = field(default=None, compare=False)
    _fresh: Callable[[], torch.nn.Module] | None = field(default=None, compare=False)
    _content: Callable[[], Any] | None = field(default=None, compare=False)

    def state_dict(self) -> Weights:
        """The weights on the CPU, names as stored; mapped from the file and private to this process."""
        return self._weights()

    def content(self) -> Any:
        """Reads the whole stored object: the weights and whatever lies beside them, tensors on the CPU.

        Of a Hugging Face folder a dict of the files beside the weights: optimizer, scheduler, scaler, sampler, rng_state,
        trainer_state. Of a format that holds nothing but weights, those. Runs code only where ``trust=True`` opened the
        checkpoint.
        """
        return (self._content or self._weights)()

    @property
    def describes_itself(self) -> bool:
        """Can the model be made from the checkpoint alone?"""
        return self._module is not None

    def module(self) -> torch.nn.Module:
        """Makes the model of a checkpoint that describes itself, with its weights."""
        if self._module is None:
            raise SubjectError(
                f"{self.path} holds weights but not the model they belong to",
                fix="load_model(builder, ckpt=…)",
            )
        return self._module()

    @property
    def fresh(self) -> Callable[[], torch.nn.Module] | None:
        """Makes the same architecture at init; None where the checkpoint cannot say how."""
        return self._fresh

    def summary(self) -> str:
        """Its weights and the step they are from: ``214 tensors, 9.8 M parameters, iter 4000``."""
        count = sum(_size(shape) for shape, _ in self.tensors.values())
        step = next((f"{name} {self.metadata[name]}" for name in STEPS if name in self.metadata), None)
        under = f"under {self.key!r}" if self.key else None
        others = f"not {', '.join(map(repr, self.others))}" if self.others else None
        parts = (f"{len(self.tensors)} tensors", f"{in_words(count)} parameters", step, under, others)
        return ", ".join(part for part in parts if part)

    def __repr__(self) -> str:
        lines = [f"{self.path} ({self.format}): {self.summary()}"]
        if self.config:
            lines.append(f"  config: {', '.join(self.config)}")
        if self.metadata:
            lines.append("  " + ", ".join(f"{name} {_short(value)}" for name, value in self.metadata.items()))
        names = list(self.tensors)
        lines += [f"  {name}  {self.tensors[name][0]}  {self.tensors[name][1]}" for name in names[:8]]
        if len(names) > 8:
            lines.append(f"  … and {len(names) - 8} more tensors")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title, *lines = repr(self).split("\n")
        return block(title, [paragraph(line.strip()) for line in lines])


STEPS = ("iter", "iteration", "iter_num", "step", "global_step", "steps", "epoch")


def open_checkpoint(path: str | Path, *, trust: bool = False, key: str | None = None) -> Checkpoint:
    """Opens a checkpoint and says what is in it.

    Tensors are mapped from the file where its format allows, so opening costs little memory. Code inside a
    pickle does not run: the file is read weights-only unless ``trust=True``.

    Where a file holds several sets of weights, the first of model, state_dict, model_state_dict, model_state,
    module, net, network, generator, student, weights, params, ema, model_ema, ema_model, ema_state_dict, teacher
    is taken; ``key`` takes another. ``Checkpoint.others`` tells what else there was.

    Args:
        path: A file written by torch.save, Lightning, safetensors, torch.export or TorchScript, or a folder in
            Hugging Face's form.
        trust: Run whatever code the file holds. Only for files that you or yours have written.
        key: The entry that holds the weights, e.g. ``"ema"``; dotted where it lies deeper.

    Raises:
        SubjectError: There is no such file, it is something else, it is cut short, it holds no weights, or it
            holds code.
    """
    from trainlab.subjects import formats

    path = Path(path).expanduser()
    if path.is_dir():
        return formats.open_folder(path, trust=trust)
    kind = file_format(path)
    if key is not None and kind not in ("torch", "torch-legacy"):
        raise SubjectError(
            f"{path} ({kind}) holds a single set of weights", seen=f"key={key!r}", fix="leave key out"
        )
    if kind == "safetensors":
        return formats.open_safetensors(path)
    if kind == "torch.export":
        return formats.open_exported(path, trust=trust)
    if kind == "torchscript":
        return formats.open_torchscript(path)
    return _open_torch(path, kind, trust=trust, key=key)


def checkpoints_in(path: object) -> list[str]:
    """The checkpoint files in a folder or of a glob, oldest first; none where the path is itself a checkpoint."""
    if not isinstance(path, str | os.PathLike):
        return []
    folder = Path(path)
    if folder.is_dir() and not any((folder / name).exists() for name in WHOLE_FOLDERS):
        found = [file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file()]
    elif set("*?[") & set(os.fspath(path)) and not folder.exists():
        # Path.glob takes no absolute pattern
        named = map(Path, glob.glob(os.fspath(path), recursive=True))  # noqa: PTH207
        found = [file for file in named if file.suffix in SUFFIXES and file.is_file()]
    else:
        return []
    return [str(file) for file in sorted(found, key=lambda file: (file.stat().st_mtime, str(file)))]


def file_format(path: Path) -> str:
    """Which format a checkpoint file has: torch, torch-legacy, torchscript, torch.export or safetensors.

    Raises:
        SubjectError: The file is missing, cut short or something else, which the error names.
    """
    kind = sniff(path)
    if kind == "zip":
        from trainlab.subjects.checkfile.torchzip import zip_format
        from trainlab.subjects.checkfile.zipped import Archive

        with Archive(path) as archive:
            names = sorted({each.short for each in archive.records})
            kind = zip_format(archive)
        if not kind:
            raise SubjectError(
                f"{path} is a zip archive, but not one that torch wrote",
                seen=", ".join(names[:5]),
                fix="a .npz goes to batch="
                if path.suffix == ".npz"
                else "unpack it first, or give a checkpoint",
            )
    if kind == "tar":
        raise SubjectError(
            f"{path} is in the tar format that torch wrote before 0.2, which it no longer reads safely",
            fix=f"`trainlab salvage {path} -o weights.pt` makes a file of today of it",
        )
    if kind == "pickles":
        with path.open("rb") as file:
            if LEGACY_TORCH not in file.read(64):
                raise SubjectError(
                    f"{path} is a plain pickle, not written by torch.save",
                    fix="save the weights with torch.save",
                )
        return "torch-legacy"
    return kind


def load_file(path: Path, *, trust: bool = False) -> Any:
    """What torch.save wrote into a file, on the CPU, weights-only unless trusted.

    numpy arrays and numbers, as random states and best losses are, come too; see `arrays`.

    Raises:
        SubjectError: The file is not one of torch.save, is damaged, or holds code.
    """
    import torch

    from trainlab.subjects.arrays import ALLOWED

    zipped = file_format(path) == "torch"
    # only what is not allowed already: leaving the block takes away all that it brought
    theirs = torch.serialization.get_safe_globals()
    names = {_name(each) for each in theirs}
    ours: list[Any] = [(each, name) for name, each in (HARMLESS | ALLOWED).items() if name not in names]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(ours):
            warnings.simplefilter("ignore")  # torch muses about pickle protocols and old storages
            return torch.load(path, map_location="cpu", weights_only=not trust, mmap=zipped)
    except pickle.UnpicklingError as error:
        if trust:
            raise SubjectError(
                f"{path} cannot be unpickled: {error}", fix="take the checkpoint before"
            ) from error
        raise _refused(path, names | set(HARMLESS) | set(ALLOWED), error) from None
    except (ModuleNotFoundError, AttributeError) as error:
        raise SubjectError(
            f"{path} was pickled with code that cannot be imported here: {error}",
            fix="run from the project's folder, or save model.state_dict() instead of the model",
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise SubjectError(
            f"{path} is damaged: {str(error).splitlines()[0]}",
            seen=f"{path.stat().st_size} bytes",
            fix="its writing or copying was interrupted; take the one before or copy it again",
        ) from error


def outline(weights: Mapping[str, Any]) -> Outline:
    """Shape and dtype of every tensor: ``{"head.weight": ((10, 64), "float32")}``."""
    return {
        name: (tuple(each.shape), str(each.dtype).removeprefix("torch."))
        for name, each in weights.items()
        if hasattr(each, "dtype")  # extra state is no tensor
    }


def _open_torch(path: Path, kind: str, *, trust: bool, key: str | None) -> Checkpoint:
    from torch import nn

    content = load_file(path, trust=trust)
    name, chosen, others = weights_of(content, key, str(path))
    module = chosen if isinstance(chosen, nn.Module) else None
    weights: Weights = chosen.state_dict() if isinstance(chosen, nn.Module) else chosen
    if module is not None:
        kind = "pickled module"
    elif isinstance(content, Mapping) and "pytorch-lightning_version" in content:
        kind = "lightning"
    return Checkpoint(
        path,
        kind,
        name,
        config_of(content),
        counters_of(content) if name or content is not chosen else {},
        outline(weights),
        {each: outline(tensors) for each, tensors in others.items()},
        lambda: weights,
        None if module is None else lambda: module,
        # read again, so that what nobody asks for is not held
        _content=lambda: load_file(path, trust=trust),
    )


def _refused(path: Path, allowed: Collection[str], error: Exception) -> SubjectError:
    from trainlab.subjects.checkfile.peek import peek
    from trainlab.subjects.checkfile.refusal import refused

    told = refused(path, peek(path).globals, allowed)
    if told is not None:
        return told
    reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("WeightsUnpickler error:")[-1]
    return SubjectError(
        f"{path} cannot be read weights-only",
        seen=reason.strip().splitlines()[0],
        fix="if you trust the file, trust=True loads it and runs whatever code it holds",
    )


def _name(allowed: Any) -> str:
    """The dotted name of an entry of torch's safe globals."""
    return str(allowed[1]) if isinstance(allowed, tuple) else f"{allowed.__module__}.{allowed.__qualname__}"


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def in_words(count: int) -> str:
    """A count of parameters for a person: ``9.8 M``."""
    if count < 10_000:
        return str(count)
    return (
        f"{count / 1e3:.1f} k"
        if count < 1_000_000
        else f"{count / 1e6:.1f} M"
        if count < 1_000_000_000
        else f"{count / 1e9:.2f} G"
    )


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
