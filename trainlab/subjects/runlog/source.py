"""The plain bytes of a file, whatever it is packed in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

__all__ = ["HEAD", "head_of", "open_bytes"]

HEAD = 2**16  # bytes by which a file is recognised
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


class Archive(io.RawIOBase):
    """The plain bytes of an archive, which end where it is damaged or cut off; ``damage`` says how.

    Args:
        file: The opened archive.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.damage = ""
        self._file = file

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer; small pieces, since the one in which the damage is found is lost."""
        try:
            piece = self._file.read(min(len(buffer), 8192))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            self.damage = str(error)
            return 0
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Closes the archive."""
        self._file.close()
        super().close()


def open_bytes(path: Path) -> IO[bytes]:
    """Opens the file for reading; gzip, bzip2 and xz are unpacked on the way, told by their first bytes."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return io.BufferedReader(Archive(cast("IO[bytes]", opener(path, "rb"))))
    return path.open("rb")


def head_of(path: Path) -> bytes:
    """The first 64 KiB of the plain bytes."""
    with open_bytes(path) as file:
        return file.read(HEAD)
