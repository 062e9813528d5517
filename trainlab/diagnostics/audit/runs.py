"""Which files belong to one run? Told from their paths: folders, and names without counters."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

__all__ = ["run_of", "twice_in"]

# what stands in names of checkpoints beside the name of the run
WORDS = {
    "best", "last", "latest", "final", "ema", "model", "models", "checkpoint", "checkpoints", "ckpt", "ckpts", "epoch",
    "epochs", "ep", "step", "steps", "iter", "iters", "iteration", "iterations", "it", "global", "e", "state", "weights",
    "val", "train", "loss", "acc", "snapshot", "save", "saved", "end", "interrupted", "emergency", "tmp", "backup",
}  # fmt: skip


def run_of(name: str) -> str:
    """The run that a checkpoint belongs to.

    ``a/checkpoints/epoch_5.pt`` and ``a/best.pt`` are of run ``a``; ``a_last.pt`` and ``b_last.pt`` are two runs.

    Args:
        name: Its path relative to the audited folder, with ``/``.
    """
    path = PurePosixPath(name)
    folders = [part for part in path.parts[:-1] if _rest(part) or part.isdigit()]
    stem = _rest(
        path.name[: -len(path.suffix)] if path.suffix and not path.suffix[1:].isdigit() else path.name
    )
    return "/".join([*folders, *([stem] if stem else [])]) or "."


def _rest(part: str) -> str:
    words = [word for word in re.split(r"[-_.=+ ]+", part) if word]
    kept = [word for word in words if re.sub(r"\d+$", "", word).lower() not in WORDS | {""}]
    return part if len(kept) == len(words) else "_".join(kept)


def twice_in(folder: str, below: int) -> str:
    """The folders that a path goes through twice: ``experiments/x`` in ``experiments/x/experiments/x``; "" if none.

    Two folders or more anywhere in the path; a single one (``runs/runs``) only within the audited folder, since
    packages lie in a folder of their own name by custom.

    Args:
        folder: An absolute path.
        below: How many of its first parts lead to the audited folder.
    """
    parts = PurePosixPath(folder).parts[1:]
    for length in range(len(parts) // 2, 0, -1):
        for start in range(len(parts) - 2 * length + 1):
            first, second = parts[start : start + length], parts[start + length : start + 2 * length]
            inside = start + length >= below - 1
            if first == second and (length > 1 or inside) and not all(each.isdigit() for each in first):
                return "/".join(first)
    return ""
