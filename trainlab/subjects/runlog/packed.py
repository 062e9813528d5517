"""All plain bytes of a file, also of an archive that is cut off."""

from __future__ import annotations

from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.source import open_bytes

__all__ = ["read_whole"]


def read_whole(path: Path) -> tuple[bytes, list[str]]:
    """The file's plain bytes, and a note where a gzip, bzip2 or xz archive ends too early or is damaged.

    Raises:
        SubjectError: If the file cannot be read.
    """
    try:
        with open_bytes(path) as file:
            data = file.read()
            damage = getattr(getattr(file, "raw", None), "damage", "")
    except OSError as error:
        raise SubjectError(
            f"{path} cannot be read", seen=error, fix="check the path and its rights"
        ) from None
    return data, [
        f"the archive is cut off or damaged ({damage}): what could be unpacked is read"
    ] if damage else []
