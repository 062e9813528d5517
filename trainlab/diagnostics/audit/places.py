"""Which files are looked at: the checkpoints that were named, and what lies around them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainlab.errors import SubjectError, did_you_mean
from trainlab.subjects.checkfile.sniff import SUFFIXES

__all__ = ["OUTPUT_FOLDERS", "Output", "Places", "find_places", "is_certain"]

# suffixes that other files bear as well: found in a folder, those count only where they hold tensors
SHARED = (".bin", ".pkl", ".ts")
WEIGHT_NAMES = ("pytorch_model", "model", "adapter_model", "diffusion_pytorch_model", "optimizer")
PARTS = ("checkpoint", "checkpoints", "ckpt", "ckpts", "weights", "models", "snapshots", "saved_models")
OUTPUT_FOLDERS = re.compile(
    r"(inference|inferences|infer|sample|samples|output|outputs|generated|generations|prediction|predictions|preds)"
    r"(?:[-_.].*)?|.*[-_](samples|outputs|inference|predictions)",
    re.IGNORECASE,
)
LOG_NAMES = re.compile(
    r".*\.(log|out|err)|.*(log|train|output|history|progress|console|nohup|slurm).*\.txt|.*(log|metric|history|progress).*\.jsonl",
    re.IGNORECASE,
)
SKIPPED = {"__pycache__", "node_modules", "site-packages", "venv"}
ENTRIES = 200_000  # files and folders looked at; more are left out, and the result says so


@dataclass
class Output:
    """A folder of what a model made: how many files, and when the first and the last were written."""

    path: Path
    files: int = 0
    first: float = float("inf")
    last: float = 0.0


@dataclass
class Places:
    """What was found.

    Attributes:
        root: The folder that names are told relative to.
        checkpoints: Files and folders that are named like checkpoints, in order of name.
        named: Were they named one by one, so that each must be one?
        logs: Logs in it.
        outputs: Folders of what a model made.
        others: The names of all files, for `expect`'s ``files``.
        whole: Was everything looked at?
    """

    root: Path
    checkpoints: list[Path] = field(default_factory=list)
    named: bool = False
    logs: list[Path] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    whole: bool = True


def find_places(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Places:
    """Finds the checkpoints, and around them the logs and outputs.

    A folder is searched to its bottom. Around a file and what a glob matches, the folder (the one above, where it
    is called ``checkpoints`` or the like) and the folders in it are searched for logs and outputs.

    Args:
        given: A file, a folder or a glob (``runs/*/last.pt``, ``**`` for any depth), or several of them.

    Raises:
        SubjectError: There is nothing of that name.
    """
    several = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    if not several:
        raise SubjectError("no checkpoint was named", fix="ckpts= a file, a glob or a folder of checkpoints")
    paths = [_placed(path) for each in several for path in _matches(Path(each).expanduser())]
    if len(paths) == 1 and _is_plain_folder(paths[0]):
        places = Places(paths[0].parent if _is_part(paths[0]) else paths[0])
        _search(places, paths[0], depth=99)
        if places.root != paths[0]:
            _search(places, places.root, depth=1, checkpoints=False, skip=paths[0])
    else:
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        places = Places(folder.parent if _is_part(folder) else folder, named=True)
        depth = max(len(path.relative_to(places.root).parts) for path in paths)
        _search(places, places.root, depth=max(depth - 1, 1), checkpoints=False)
        for path in paths:
            if _is_plain_folder(path):
                _search(places, path, depth=99)
            else:
                places.checkpoints.append(path)
    # a link to a file is that file, and is told once, by its own name
    real = {
        path.resolve(): path for path in sorted(places.checkpoints, key=lambda path: not path.is_symlink())
    }
    places.checkpoints = sorted(real.values(), key=_natural)
    return places


def is_certain(path: Path) -> bool:
    """Is it named like a checkpoint and like nothing else?"""
    return path.is_dir() or path.suffix not in SHARED or path.name.startswith(WEIGHT_NAMES)


def _placed(path: Path) -> Path:
    """The path from the root of the disk; a link to a file stays one."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not _is_checkpoint({each.name for each in path.iterdir()})


def _matches(path: Path) -> list[Path]:
    if path.exists():
        return [path]
    if any(each in str(path) for each in "*?["):
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if found:
            return found
        raise SubjectError(
            f"nothing matches {path}", fix="check the glob; a relative one starts from the working folder"
        )
    beside = sorted(each.name for each in path.parent.iterdir()) if path.parent.is_dir() else []
    missing = path.parent if not path.parent.is_dir() else path
    kind = "folder" if missing != path else "file or folder"
    advice = (
        did_you_mean(path.name, beside)
        if beside
        else "check the path; a relative one starts from the working folder"
    )
    if advice.startswith("one of") and len(beside) > 8:
        advice = "check the path; a relative one starts from the working folder"
    raise SubjectError(f"there is no {kind} {missing}", fix=advice)


def _search(
    places: Places, top: Path, *, depth: int, checkpoints: bool = True, skip: Path | None = None
) -> None:
    for folder, folders, files in _walk(top, depth):
        if skip is not None and folder == skip:
            folders.clear()
            continue
        if len(places.others) > ENTRIES:
            places.whole = False
            return
        places.others += [folder / name for name in files]
        places.logs += [folder / name for name in files if LOG_NAMES.fullmatch(name)]
        for name in [each for each in folders if OUTPUT_FOLDERS.fullmatch(each)]:
            output = _output(folder / name)
            if output.files:
                places.outputs.append(output)
        if checkpoints:
            if _is_checkpoint({*files, *folders}):
                places.checkpoints.append(folder)
                folders[:] = [name for name in folders if not name.startswith("global_step")]
            else:
                places.checkpoints += [folder / name for name in files if name.endswith(SUFFIXES)]


def _walk(top: Path, depth: int) -> Iterator[tuple[Path, list[str], list[str]]]:
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        path = Path(folder)
        yield path, folders, sorted(name for name in files if not name.startswith(".") or name == ".metadata")
        if len(path.relative_to(top).parts) >= depth:
            folders.clear()


def _output(folder: Path) -> Output:
    """What a model made, in a folder and below it; nothing where checkpoints lie in it, as in a run's own folder."""
    found, nothing = Output(folder), Output(folder)
    for inner, _, files in _walk(folder, 3):
        if any(name.endswith(SUFFIXES) and not name.endswith(SHARED) for name in files):
            return nothing
        for name in files:
            path = inner / name
            if LOG_NAMES.fullmatch(name) or not path.is_file():
                continue
            time = path.stat().st_mtime
            found.files += 1
            found.first, found.last = min(found.first, time), max(found.last, time)
        if found.files > ENTRIES // 10:
            break
    return found


def _is_checkpoint(names: set[str]) -> bool:
    """Is a folder of these names itself one checkpoint: Hugging Face's, a Trainer's, DeepSpeed's or torch.distributed's?"""
    if names & {
        "trainer_state.json",
        ".metadata",
        "model.safetensors.index.json",
        "pytorch_model.bin.index.json",
    }:
        return (".metadata" not in names) or any(name.endswith(".distcp") for name in names)
    if any(name.endswith("_model_states.pt") for name in names):
        return True
    weights = any(name.startswith(WEIGHT_NAMES) and name.endswith((".safetensors", ".bin")) for name in names)
    return weights and bool(names & {"config.json", "adapter_config.json"})


def _is_part(folder: Path) -> bool:
    return folder.name.lower() in PARTS and folder.parent != folder


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """epoch_9 before epoch_10."""
    pieces = re.split(r"(\d+)", str(path))
    return [(1, int(each), "") if each.isdigit() else (0, 0, each) for each in pieces]
