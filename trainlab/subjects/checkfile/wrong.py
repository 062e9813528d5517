"""The errors of a file that cannot be read as a checkpoint, each in one wording."""

from __future__ import annotations

from pathlib import Path

from trainlab.errors import SubjectError

__all__ = ["damaged", "to_one_file"]


def to_one_file(folder: Path) -> str:
    """How a folder of torch.distributed.checkpoint becomes a file that can be read."""
    program = "python -m torch.distributed.checkpoint.format_utils"
    return f"make one file of it: {program} dcp_to_torch {folder} whole.pt"


def damaged(path: Path, how: str, *, cut: bool = False, size: int | None = None) -> SubjectError:
    """The error for a file that is a checkpoint, but not a whole one.

    Args:
        path: The file.
        how: What is wrong, one clause.
        cut: Its end is missing, so that what comes before it can be had back.
        size: Its size in bytes.
    """
    if not cut:
        fix = f"copy it again, or see what is left of it: `trainlab verify {path}`"
        return SubjectError(f"{path} is damaged: {how}", fix=fix)
    return SubjectError(
        f"{path} is cut short: {how}",
        seen=f"{path.stat().st_size if size is None else size} bytes",
        fix=f"its writing or copying was interrupted: copy it again, take the one before, or `trainlab salvage {path} -o saved.pt`",
    )
