"""What is in this checkpoint? Told in milliseconds, without reading its tensors and without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.grading import Global, Grade, worst
from trainlab.subjects.checkfile.roles import (
    OptimizerInfo,
    SchedulerInfo,
    config_of,
    optimizers_of,
    rank,
    scalars_of,
    schedulers_of,
    weights_of,
)
from trainlab.subjects.checkfile.sniff import sniff
from trainlab.subjects.checkfile.tensors import TensorInfo
from trainlab.subjects.checkfile.values import Reader

__all__ = ["Peek", "content_of", "make_peek", "peek"]


@dataclass(frozen=True, repr=False)
class Peek:
    """What a checkpoint says of itself.

    Attributes:
        path: The file or folder, as it was given.
        format: ``torch``, ``torch-legacy``, ``torch-tar``, ``lightning``, ``torchscript``, ``torch.export``,
            ``safetensors``, ``pickle``, ``huggingface``, ``trainer``, ``deepspeed`` or ``torch.distributed``.
        size: Bytes on disk, of all its files.
        tensors: Every tensor by its dotted name.
        weights: The sets of weights in it: name → the names of their tensors.
        scalars: The plain values beside the weights: epoch, iter, best loss.
        config: The stored config as nested dicts, or None.
        optimizers: What the optimizers' states say.
        schedulers: What the schedulers' states say.
        globals: Every name that unpickling would import, with its grade.
        notes: What is odd: duplicates, missing records, a lost end.
        cut: Is its end missing?
        tree: Everything in it as plain nested values, tensors as `TensorInfo`.
        files: The files that it is made of.
    """

    path: Path
    format: str
    size: int
    tensors: Mapping[str, TensorInfo]
    weights: Mapping[str, tuple[str, ...]]
    scalars: Mapping[str, Any]
    config: Mapping[str, Any] | None
    optimizers: tuple[OptimizerInfo, ...]
    schedulers: tuple[SchedulerInfo, ...]
    globals: tuple[Global, ...]
    notes: tuple[str, ...]
    cut: bool
    tree: Any = field(compare=False)
    files: tuple[Path, ...] = ()

    @property
    def optimizer(self) -> OptimizerInfo | None:
        """The first optimizer."""
        return self.optimizers[0] if self.optimizers else None

    @property
    def scheduler(self) -> SchedulerInfo | None:
        """The first scheduler."""
        return self.schedulers[0] if self.schedulers else None

    @property
    def grade(self) -> Grade:
        """The worst grade of any name in it; `Grade.HARMLESS` loads weights-only as it is."""
        return worst(self.globals)

    @cached_property
    def parameters(self) -> int:
        """How many elements its first set of weights has, shared ones once."""
        names = next(iter(self.weights.values()), ())
        seen: dict[object, int] = {}
        for name in names:
            info = self.tensors[name]
            seen[(info.storage, info.offset, info.shape) if info.storage else name] = info.numel
        return sum(seen.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """How many elements of each dtype its tensors have."""
        found: dict[str, int] = {}
        for info in self.tensors.values():
            found[info.dtype] = found.get(info.dtype, 0) + info.numel
        return found

    def refusal(self) -> str:
        """Why weights-only loading refuses it: all the names at once, and the safe way on; "" where it does not."""
        from trainlab.subjects.checkfile.refusal import refused

        return str(refused(self.path, self.globals) or "")

    def __repr__(self) -> str:
        from trainlab.subjects.checkfile.shown import peek_text

        return peek_text(self)

    def _repr_html_(self) -> str:
        from trainlab.subjects.checkfile.shown import peek_html

        return peek_html(self)


def peek(path: str | Path) -> Peek:
    """Says what is in a checkpoint: keys, shapes, dtypes, counters, config, optimizer, and what loading it would run.

    Reads the directory and the pickles, and of the tensors only those of one element (step counts); nothing is imported
    and nothing is run, whatever the file holds. Takes milliseconds for any size. A file that lost its end is told from
    its beginning.

    Args:
        path: A file (``.pt``, ``.pth``, ``.ckpt``, ``.bin``, ``.safetensors``, ``.pt2``, TorchScript) or a folder
            (Hugging Face, a Trainer's ``checkpoint-N``, DeepSpeed, torch.distributed.checkpoint).

    Raises:
        SubjectError: It is missing or no checkpoint; the error says what it is.
    """
    path = Path(path).expanduser()
    if path.is_dir() or path.name.endswith(".index.json"):
        from trainlab.subjects.checkfile.folders import peek_folder

        return peek_folder(path)
    content = content_of(path)
    return make_peek(path, content, (path,))


def content_of(path: Path) -> Content:
    """Everything that one file says.

    Raises:
        SubjectError: It is missing, damaged or no checkpoint.
    """
    kind = sniff(path)
    if kind == "safetensors":
        from trainlab.subjects.checkfile.tensorfile import read_safetensors

        return read_safetensors(path)
    if kind == "zip":
        return _zip_content(path)
    from trainlab.subjects.checkfile.legacy import read_pickles, read_tar

    return read_tar(path) if kind == "tar" else read_pickles(path)


def _zip_content(path: Path) -> Content:
    from trainlab.subjects.checkfile.torchzip import read_zip, zip_format
    from trainlab.subjects.checkfile.zipped import Archive

    try:
        archive = Archive(path)
    except SubjectError as error:
        from trainlab.subjects.checkfile.cut import read_cut

        content, pieces = read_cut(path)
        if not any("/" in each.name for each in pieces):
            raise
        content.notes.insert(0, error.what.removeprefix(f"{path} is "))
        return content
    with archive:
        if not zip_format(archive):
            names = sorted({each.name for each in archive.records})
            arrays = names and all(name.endswith(".npy") for name in names)
            raise SubjectError(
                f"{path} is a zip archive, but not one that torch wrote",
                seen=", ".join(names[:5]) or "no records",
                fix="a .npz goes to batch=" if arrays else "unpack it first",
            )
        return read_zip(path, archive)


def make_peek(
    path: Path, content: Content, files: tuple[Path, ...], *, scalars: Mapping[str, Any] | None = None
) -> Peek:
    """A peek at what one file or several say."""
    tree = content.tree
    with Reader() as reader:
        found = weights_of(tree)
        counters = scalars_of(tree, reader.scalar)
        optimizers = tuple(optimizers_of(tree, reader.scalar))
    if content.format in ("torch.export", "torchscript") and not found:
        inputs = "data/sample_inputs/"
        found = {"": [each for name, each in content.tensors.items() if not name.startswith(inputs)]}
    lightning = isinstance(tree, Mapping) and "pytorch-lightning_version" in tree
    return Peek(
        path,
        "lightning" if lightning else content.format,
        sum(each.stat().st_size for each in files),
        content.tensors,
        {name: tuple(each.name for each in found[name]) for name in sorted(found, key=rank)},
        {**counters, **(scalars or {})},
        config_of(tree),
        optimizers,
        tuple(schedulers_of(tree)),
        tuple(content.globals),
        tuple(content.notes),
        content.cut,
        tree,
        files,
    )
