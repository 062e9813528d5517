"""Checkpoints that are folders: Hugging Face's, a Trainer's, DeepSpeed's and torch.distributed's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.distributed import read_distributed, storage_files
from trainlab.subjects.checkfile.peek import Peek, content_of, make_peek
from trainlab.subjects.checkfile.sniff import SUFFIXES

__all__ = ["archives_in", "checkpoint_files", "peek_folder"]

WEIGHT_FILES = (
    "model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
)  # fmt: skip
TRAINER_FILES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "training_args.bin")
COUNTERS = (
    "global_step",
    "epoch",
    "max_steps",
    "num_train_epochs",
    "best_metric",
    "best_model_checkpoint",
    "train_batch_size",
)
JSON_LIMIT = 2**27  # bytes


def peek_folder(path: Path) -> Peek:
    """Says what is in a checkpoint that is a folder.

    Args:
        path: The folder, or the ``*.index.json`` of a model in shards.

    Raises:
        SubjectError: It is no checkpoint; the error names the files that are.
    """
    folder = path.parent if path.is_file() else path
    if (folder / ".metadata").is_file():
        content = read_distributed(folder)
        return make_peek(path, content, (folder / ".metadata", *storage_files(folder)))
    if list(folder.glob("*_model_states.pt")) or _latest(folder) is not None:
        return _deepspeed(path, _latest(folder) or folder)
    if _weight_files(folder, path if path.is_file() else None) or (folder / "trainer_state.json").is_file():
        return _huggingface(path, folder)
    files = [str(each.relative_to(folder)) for each in checkpoint_files(folder)]
    raise SubjectError(
        f"{folder} is a folder, but no checkpoint",
        seen=f"{len(files)} checkpoints in it, e.g. {', '.join(files[-3:])}"
        if files
        else "no checkpoint in it",
        fix=f"name one of them, e.g. {folder / files[-1]}" if files else "check the path",
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file in a folder and below it that is named like a checkpoint, in order of its name."""
    found = (each for each in folder.rglob("*") if each.suffix in SUFFIXES and not each.name.startswith("."))
    return sorted(each for each in found if each.is_file())


def archives_in(folder: Path) -> Iterator[tuple[Path, int, int, str]]:
    """The archives inside the files of torch.distributed's checkpoints: file, offset, length, name."""
    for metadata in sorted(folder.rglob(".metadata")):
        content = read_distributed(metadata.parent)
        for name, (file, offset, length) in content.tree.get("places", {}).items():
            yield metadata.parent / file, offset, length, name


def _json(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > JSON_LIMIT:
        return None
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _weight_files(folder: Path, index: Path | None) -> list[Path]:
    """The index of a model in shards, or its one file; all where several lie side by side."""
    indexes = [index] if index else sorted(folder.glob("*.index.json"))
    if indexes:
        return [indexes[0]]
    named = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    return named[:1] or sorted(folder.glob("*.safetensors"))


def _add(content: Content, part: Content, prefix: str = "") -> None:
    for name, info in part.tensors.items():
        full = f"{prefix}.{name}" if prefix else name
        content.tensors[full] = replace(info, name=full) if prefix else info
    content.globals += [each for each in part.globals if each not in content.globals]
    content.notes += [f"{prefix}: {note}" if prefix else note for note in part.notes]
    content.cut |= part.cut


def _huggingface(path: Path, folder: Path) -> Peek:
    content = Content("huggingface", tree={})
    weights: dict[str, Any] = {}
    files: list[Path] = []
    for file in _weight_files(folder, path if path.is_file() else None):
        if file.name.endswith(".index.json"):
            files += _add_shards(content, weights, file)
        else:
            part = content_of(file)
            _add(content, part)
            weights |= part.tree if isinstance(part.tree, Mapping) else {}
            files.append(file)
    content.tree["model"] = weights
    config = _json(folder / "config.json") or _json(folder / "adapter_config.json")
    if isinstance(config, dict):
        content.tree["config"] = config
    state = _json(folder / "trainer_state.json")
    extra = [folder / name for name in TRAINER_FILES if (folder / name).is_file()] + sorted(
        folder.glob("rng_state*.pth")
    )
    for file in extra:
        name = file.name.partition(".")[0]
        try:
            part = content_of(file)
        except SubjectError as error:
            content.notes.append(error.what)
            continue
        _add(content, part, name)
        content.tree[name] = part.tree
        files.append(file)
    if state is not None or extra:
        content.format = "trainer"
    if not files:
        content.notes.append("no weights in it")
    counters = {name: state[name] for name in COUNTERS if name in state} if isinstance(state, dict) else {}
    return make_peek(path, content, tuple(files), scalars=counters)


def _add_shards(content: Content, weights: dict[str, Any], index: Path) -> list[Path]:
    """Adds the shards that an index names, and says which tensors and files are missing."""
    listed = _json(index)
    names = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(names, dict):
        raise SubjectError(f"{index} is no index of shards", seen="no weight_map in it", fix="copy it again")
    files: list[Path] = []
    for shard in dict.fromkeys(str(each) for each in names.values()):
        file = index.parent / shard
        if "/" in shard or not file.is_file():
            content.notes.append(
                f"shard {shard} is missing: {sum(each == shard for each in names.values())} tensors"
            )
            content.cut = True
            continue
        try:
            part = content_of(file)
        except SubjectError as error:
            content.notes.append(error.what)
            content.cut = True
            continue
        wanted = {name for name, each in names.items() if each == shard}
        missing = wanted - set(part.tensors)
        if missing:
            content.notes.append(
                f"shard {shard} lacks {len(missing)} of its tensors: {', '.join(sorted(missing)[:3])}"
            )
        _add(content, part)
        weights |= part.tensors
        files.append(file)
    return files


def _latest(folder: Path) -> Path | None:
    """The folder that DeepSpeed's ``latest`` names."""
    file = folder / "latest"
    if not file.is_file() or file.stat().st_size > 1000:
        return None
    target = folder / file.read_text().strip()
    return target if target.is_dir() and list(target.glob("*_states.pt")) else None


def _deepspeed(path: Path, folder: Path) -> Peek:
    """DeepSpeed's ZeRO: a file of weights per model-parallel rank, a file of optimizer state per rank."""
    content = Content("deepspeed", tree={})
    models = sorted(folder.glob("*_model_states.pt"))
    states = sorted(folder.glob("*_optim_states.pt"))
    scalars: dict[str, Any] = {}
    for number, file in enumerate(models + states):
        try:
            part = content_of(file)
        except SubjectError as error:
            content.notes.append(error.what)
            content.cut = True
            continue
        _add(content, part, "" if number == 0 else file.stem)
        if number == 0 and isinstance(part.tree, Mapping):
            content.tree.update(part.tree)
            scalars = {name: each for name, each in part.tree.items() if isinstance(each, (int, float, str))}
        else:
            content.tree[file.stem] = part.tree
    world = scalars.get("dp_world_size")
    if isinstance(world, int) and states and len(states) % world:
        content.notes.append(f"{len(states)} optimizer states where {world} data-parallel ranks wrote")
    elif isinstance(world, int) and not states:
        content.notes.append("no optimizer states: a run cannot be resumed from it")
    return make_peek(path, content, tuple(models + states), scalars={"ranks": len(states), **scalars})
