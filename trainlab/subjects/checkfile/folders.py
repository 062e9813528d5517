"""Checkpoints that are folders: Hugging Face's, a Trainer's, DeepSpeed's and torch.distributed's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.content import Content
from trainlab.subjects.checkfile.distributed import read_distributed
from trainlab.subjects.checkfile.peek import Peek, content_of, make_peek
from trainlab.subjects.checkfile.sniff import SUFFIXES

__all__ = ["checkpoint_files", "peek_folder"]

WEIGHT_FILES = (
    "model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
)  # fmt: skip
TRAINER_FILES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "training_args.bin")
COUNTERS = (
    "global_step", "epoch", "max_steps", "num_train_epochs", "best_metric", "best_model_checkpoint", "train_batch_size",
)  # fmt: skip
JSON_LIMIT = 2**27  # bytes


def peek_folder(path: Path) -> Peek:
    """Says what is in a checkpoint that is a folder.

    Args:
        path: The folder, or the ``*.index.json`` of a model in shards.

    Raises:
        SubjectError: It is no checkpoint; the error names the files that are.
    """
    folder, index = (path.parent, path) if path.is_file() else (path, None)
    if (folder / ".metadata").is_file():
        files = sorted(folder.glob("*.distcp")) or sorted(folder.glob("*.safetensors"))
        return make_peek(path, read_distributed(folder), (folder / ".metadata", *files))
    deepspeed = _latest(folder) or folder
    if list(deepspeed.glob("*_states.pt")):
        return _deepspeed(path, deepspeed)
    weights = _weight_files(folder, index)
    if weights or (folder / "trainer_state.json").is_file():
        return _huggingface(path, folder, weights)
    files = checkpoint_files(folder)
    names = [str(each.relative_to(folder)) for each in files]
    raise SubjectError(
        f"{folder} is a folder, but no checkpoint",
        seen=f"{len(files)} checkpoints in it, e.g. {', '.join(names[-3:])}"
        if files
        else "no checkpoint in it",
        fix=f"name one of them, e.g. {files[-1]}" if files else "check the path",
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file in a folder and below it that is named like a checkpoint, in order of its name."""
    found = (each for each in folder.rglob("*") if each.suffix in SUFFIXES and not each.name.startswith("."))
    return sorted(each for each in found if each.is_file())


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    if not path.is_file() or path.stat().st_size > JSON_LIMIT:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _weight_files(folder: Path, index: Path | None) -> list[Path]:
    """The index of a model in shards, or its one file; all where several lie side by side."""
    indexes = [index] if index else sorted(folder.glob("*.index.json"))
    named = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    return indexes[:1] or named[:1] or sorted(folder.glob("*.safetensors"))


def _add(content: Content, file: Path, prefix: str = "", *, needed: bool = True) -> Content | None:
    """Adds what a file says, its tensors under a prefix; None, and a note, where it cannot be read."""
    try:
        return _merged(content, content_of(file), prefix)
    except SubjectError as error:
        content.notes.append(error.what)
        content.cut |= needed
        return None


def _merged(content: Content, part: Content, prefix: str = "") -> Content:
    for name, info in part.tensors.items():
        full = f"{prefix}.{name}" if prefix else name
        content.tensors[full] = replace(info, name=full)
    content.ask(part.globals)
    content.notes += [f"{prefix}: {note}" if prefix else note for note in part.notes]
    content.cut |= part.cut
    return part


def _huggingface(path: Path, folder: Path, weight_files: list[Path]) -> Peek:
    content = Content("huggingface", tree={})
    weights: dict[str, Any] = {}
    files: list[Path] = []
    for file in weight_files:
        if file.name.endswith(".index.json"):
            files += _add_shards(content, weights, file)
        else:
            tree = _merged(content, content_of(file)).tree
            weights |= tree if isinstance(tree, Mapping) else {}
            files.append(file)
    content.tree["model"] = weights
    config = _json(folder / "config.json") or _json(folder / "adapter_config.json")
    if config:
        content.tree["config"] = config
    state = _json(folder / "trainer_state.json")
    extra = [folder / name for name in TRAINER_FILES if (folder / name).is_file()]
    extra += sorted(folder.glob("rng_state*.pth"))
    for file in extra:
        name = file.name.partition(".")[0]
        part = _add(content, file, name, needed=False)
        if part is not None:
            content.tree[name] = part.tree
            files.append(file)
    if state or extra:
        content.format = "trainer"
    if not files:
        content.notes.append("no weights in it")
    counters = {name: state[name] for name in COUNTERS if name in state}
    return make_peek(path, content, tuple(files), scalars=counters)


def _add_shards(content: Content, weights: dict[str, Any], index: Path) -> list[Path]:
    """Adds the shards that an index names, and says which tensors and files are missing."""
    names = _json(index).get("weight_map")
    if not isinstance(names, dict):
        raise SubjectError(f"{index} is no index of shards", seen="no weight_map in it", fix="copy it again")
    files: list[Path] = []
    wanted: dict[str, list[str]] = {}
    for name, shard in names.items():
        wanted.setdefault(str(shard), []).append(name)
    for shard, tensors in wanted.items():
        file = index.parent / shard
        if "/" in shard or not file.is_file():
            content.notes.append(f"shard {shard} is missing: {len(tensors)} tensors")
            content.cut = True
            continue
        part = _add(content, file)
        if part is None:
            continue
        missing = sorted(set(tensors) - set(part.tensors))
        if missing:
            content.notes.append(
                f"shard {shard} lacks {len(missing)} of its tensors: {', '.join(missing[:3])}"
            )
        weights |= part.tensors
        files.append(file)
    return files


def _latest(folder: Path) -> Path | None:
    """The folder that DeepSpeed's ``latest`` names."""
    file = folder / "latest"
    if not file.is_file() or file.stat().st_size > 1000:
        return None
    target = folder / file.read_text(errors="replace").strip()
    return target if target.is_dir() else None


def _deepspeed(path: Path, folder: Path) -> Peek:
    """DeepSpeed's ZeRO: a file of weights per model-parallel rank, a file of optimizer state per rank."""
    content = Content("deepspeed", tree={})
    models = sorted(folder.glob("*_model_states.pt"))
    states = sorted(folder.glob("*_optim_states.pt"))
    scalars: dict[str, Any] = {}
    for number, file in enumerate(models + states):
        part = _add(content, file, file.stem if number else "")
        if part is None:
            continue
        if number == 0 and isinstance(part.tree, Mapping):
            content.tree.update(part.tree)
            scalars = {name: each for name, each in part.tree.items() if isinstance(each, (int, float, str))}
        else:
            content.tree[file.stem] = part.tree
    world = scalars.get("dp_world_size")
    if isinstance(world, int) and world > 0 and not states:
        content.notes.append("no optimizer states: a run cannot be resumed from it")
    elif isinstance(world, int) and world > 0 and len(states) % world:
        content.notes.append(f"{len(states)} optimizer states where {world} data-parallel ranks wrote")
    return make_peek(path, content, tuple(models + states), scalars={"ranks": len(states), **scalars})
