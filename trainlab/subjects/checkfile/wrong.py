"""The errors of a file that cannot be read as a checkpoint, each in one wording."""

from __future__ import annotations

from pathlib import Path

from trainlab.errors import SubjectError

__all__ = ["damaged"]


def damaged(path: Path, how: str, *, cut: bool = False, size: int | None = None) -> SubjectError:
    """The error for a file that is a checkpoint, but not a whole one.

    Args:
        path: The file.
        how: What is wrong, one clause.
        cut: Its end is missing, so that what comes before it can be had back.
        size: Its size in bytes.
    """
    if cut:
        return SubjectError(
            f"{path} is cut short: {how}",
            seen=f"{path.stat().st_size if size is None else size} bytes",
            fix=f"its writing or copying was interrupted: copy it again, take the one before, or `trainlab salvage {path} -o saved.pt`",
        )
    return SubjectError(
        f"{path} is damaged: {how}", fix=f"copy it again, or see what is left of it: `trainlab verify {path}`"
    )
