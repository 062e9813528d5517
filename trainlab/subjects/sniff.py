"""What kind of file is this? Told from its first bytes, before anything tries to load it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from trainlab.errors import SubjectError, did_you_mean

__all__ = ["WEIGHT_SUFFIXES", "missing_file", "sniff"]

WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2", ".ts")
LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save pickled before 1.6
NOT_CHECKPOINTS = {
    b"version https://git-lfs": ("a git-LFS pointer, not the file it stands for", "git lfs pull"),
    b"<!doctype html": (
        "an HTML page, not a checkpoint",
        "look at it in a browser: a download often ends in a login page",
    ),
    b"<html": (
        "an HTML page, not a checkpoint",
        "look at it in a browser: a download often ends in a login page",
    ),
    b"\x89hdf": ("an HDF5 file (Keras writes those)", "save the weights with torch.save"),
    b"gguf": ("a GGUF file (llama.cpp reads those)", "give the checkpoint that it was made from"),
    b"\x93numpy": ("a NumPy array", "give it as batch=, or a checkpoint as ckpt="),
    b"\x1f\x8b": ("a gzip archive", "unpack it first"),
}


def sniff(path: Path) -> str:
    """Which format a checkpoint file has.

    Args:
        path: The file.

    Returns:
        ``torch``, ``torch-legacy``, ``safetensors``, ``torch.export`` or ``torchscript``.

    Raises:
        SubjectError: The file is missing or is something else, which the error names.
    """
    if not path.exists():
        raise missing_file(path)
    size = path.stat().st_size
    if size == 0:
        raise SubjectError(
            f"{path} is empty",
            seen="0 bytes",
            fix="its writing was cut off, or the disk was full; take the one before",
        )
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path, size)
    if LEGACY_TORCH in head[:64]:
        return "torch-legacy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    start = head.lstrip().lower()
    for magic, (what, fix) in NOT_CHECKPOINTS.items():
        if start.startswith(magic):
            raise SubjectError(f"{path} is {what}", seen=repr(head[:40]), fix=fix)
    if not head.strip(b"\0"):
        raise SubjectError(
            f"{path} holds only zeros",
            seen=f"{size} bytes",
            fix="its writing was cut off; take the one before",
        )
    if head.startswith(b"\x80"):
        raise SubjectError(
            f"{path} is a plain pickle, not written by torch.save", fix="save the weights with torch.save"
        )
    raise SubjectError(
        f"{path} is not a checkpoint",
        seen=f"{size} bytes that begin with {head[:16]!r}",
        fix=f"one of: {', '.join(WEIGHT_SUFFIXES)}, or a Hugging Face folder",
    )


def _zip_kind(path: Path, size: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        raise SubjectError(
            f"{path} is cut short: the archive has no end",
            seen=f"{size} bytes",
            fix="its writing or copying was interrupted; take the one before or copy it again",
        ) from None
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names and any(name.startswith("models/") for name in names):
        return "torch.export"
    if "data.pkl" in names:
        return "torch"
    raise SubjectError(
        f"{path} is a zip archive, but not one that torch.save wrote",
        seen=", ".join(sorted(names)[:5]),
        fix="unpack it first, or give a checkpoint" if path.suffix != ".npz" else "a .npz goes to batch=",
    )


def missing_file(path: Path, suffixes: tuple[str, ...] = WEIGHT_SUFFIXES) -> SubjectError:
    """The error for a file that is not there, with the one that was perhaps meant."""
    folder = path.parent
    if not folder.is_dir():
        return SubjectError(
            f"there is no folder {folder}",
            fix="check the path; a relative one starts from the working folder",
        )
    files = sorted(each.name for each in folder.iterdir() if each.suffix in suffixes)
    advice = did_you_mean(path.name, files) if files else "check the path"
    if len(files) > 8 and advice.startswith("one of"):
        advice = f"one of the {len(files)} files there, e.g. {files[-1]}"
    seen = f"the folder holds {len(files) or 'no'} such files: {', '.join(suffixes)}"
    return SubjectError(f"there is no file {path}", seen=seen, fix=advice)
