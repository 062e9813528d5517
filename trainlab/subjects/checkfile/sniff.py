"""What kind of file is this? Told from its first bytes, before anything tries to read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from trainlab.errors import SubjectError, did_you_mean
from trainlab.subjects.checkfile.inert import read_pickle

__all__ = ["SUFFIXES", "missing_file", "sniff"]

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2", ".ts", ".pkl")
_UNPACK = "unpack it first"
_BEFORE = "its writing was cut off, or the disk was full; take the one before"
_LOGIN = "download it again: a login page or an error was saved in its place"
_READ = "read it, it says what went wrong; then download again"
_ITSELF = "give the checkpoint itself"
_SOURCE = "give the checkpoint that it was made from"

# the beginning, lower case -> what it is, what to do
_OTHERS: dict[bytes, tuple[str, str]] = {
    b"<!doctype html": ("an HTML page", _LOGIN),
    b"<html": ("an HTML page", _LOGIN),
    b"<head": ("an HTML page", _LOGIN),
    b"<?xml": ("an XML page, as storage services answer an error", _READ),
    b"<error": ("an XML error, as storage services answer", _READ),
    b"\x89hdf": ("an HDF5 file (Keras writes those)", "save the weights with torch.save"),
    b"gguf": ("a GGUF file (llama.cpp reads those)", _SOURCE),
    b"ggml": ("a GGML file (llama.cpp reads those)", _SOURCE),
    b"\x93numpy": ("a NumPy array", "give it as batch=, or a checkpoint as ckpt="),
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"bzh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zxz\0": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"rar!": ("a RAR archive", _UNPACK),
    b"(\xb5/\xfd": ("a zstandard archive", _UNPACK),
    b"\x89png": ("a PNG image", _ITSELF),
    b"\xff\xd8\xff": ("a JPEG image", _ITSELF),
    b"gif8": ("a GIF image", _ITSELF),
    b"riff": ("a RIFF file (WAV, AVI, WebP)", _ITSELF),
    b"%pdf": ("a PDF", _ITSELF),
    b"\x7felf": ("a program", _ITSELF),
    b"sqlite format 3": ("an SQLite database", _ITSELF),
    b"#!": ("a script", _ITSELF),
}


def sniff(path: Path) -> str:
    """Which format a checkpoint file has.

    Reads a few kilobytes. Like torch, goes by how the file begins: a zip that begins with a pickle is a pickle.

    Args:
        path: The file.

    Returns:
        ``zip``, ``pickles`` (torch's legacy format, and any plain pickle), ``tar`` or ``safetensors``.

    Raises:
        SubjectError: The file is missing or is something else, which the error names.
    """
    if not path.exists():
        raise missing_file(path)
    if not path.is_file():
        raise SubjectError(f"{path} is no file", fix="give a checkpoint")
    size = path.stat().st_size
    if size == 0:
        raise SubjectError(f"{path} is empty", seen="0 bytes", fix=_BEFORE)
    try:
        with path.open("rb") as file:
            head = file.read(8192)
    except PermissionError:
        raise SubjectError(
            f"{path} may not be read by this user", fix="ask its owner, or chmod +r it"
        ) from None
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if not head.strip(b"\0"):
        raise _of_zeros(path, size)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        stands_for = re.search(rb"\nsize (\d{1,18})", head)
        raise SubjectError(
            f"{path} is a git-LFS pointer, not the file it stands for",
            seen=f"{size} bytes" + (f" that stand for {int(stands_for[1]):,}" if stands_for else ""),
            fix="git lfs pull",
        )
    for magic, (what, fix) in _OTHERS.items():
        if start.startswith(magic):
            raise SubjectError(f"{path} is {what}, not a checkpoint", seen=_shown(head), fix=fix)
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return _tar_kind(path)
    if head[:1] == b"\x80" or _is_text_pickle(head):
        return "pickles"
    raise _unknown(path, head, size)


def _is_text_pickle(head: bytes) -> bool:
    """Is it a pickle of protocol 0? Those are text; prose is no program for a stack machine."""
    document = read_pickle(head)
    named = [part for pair in document.names for text in pair for part in text.split(".")]
    if not all(part.isidentifier() for part in named):  # an "import os" reads as an opcode and a name
        return False
    return not document.broken or (bool(named) and "opcode" not in document.broken)


def _is_old_tar(head: bytes) -> bool:
    return (
        len(head) >= 512
        and head[:8].startswith((b"sys_info", b"storages", b"pickle\0"))
        and head[148:154].strip(b" \0").isdigit()
    )


def _tar_kind(path: Path) -> str:
    import tarfile

    try:
        with tarfile.open(path, "r:") as tar:
            names = tar.getnames()
    except tarfile.TarError:
        names = []
    if {"pickle", "storages", "tensors"} <= set(names):
        return "tar"
    raise SubjectError(f"{path} is a tar archive, not a checkpoint", seen=", ".join(names[:5]), fix=_UNPACK)


def _unknown(path: Path, head: bytes, size: int) -> SubjectError:
    one = ", ".join(SUFFIXES)
    text = _text_of(head)
    if path.suffix in (".part", ".crdownload", ".tmp", ".incomplete", ".aria2"):
        what, fix, seen = "a download that is not finished", "finish or repeat the download", f"{size} bytes"
    elif text is None:
        what, seen = "not a checkpoint", f"{size} bytes that begin with {head[:16]!r}"
        fix = f"one of: {one}, or a folder in Hugging Face's form"
    elif text.lstrip()[:1] in ("{", "["):
        json_text = "JSON" if size > len(head) or _is_json(text) else "text that looks like JSON"
        what, seen = f"{json_text}, not a checkpoint", _shown(head)
        fix = "give the folder that it lies in, or the weights"
    else:
        what, fix, seen = "a text file, not a checkpoint", f"{_ITSELF}, one of: {one}", _shown(head)
    return SubjectError(f"{path} is {what}", seen=seen, fix=fix)


def _text_of(head: bytes) -> str | None:
    try:
        text = head[: len(head) - 4 if len(head) == 8192 else None].decode()
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each in "\t\r\n\x1b" for each in text[:2000]) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _of_zeros(path: Path, size: int) -> SubjectError:
    """Zeros at the beginning: nothing was ever written, or the beginning was lost."""
    step = max(size // 64, 4096)
    with path.open("rb") as file:
        for offset in range(0, size, step):
            file.seek(offset)
            if file.read(512).strip(b"\0"):
                what, fix = "begins with zeros: its beginning was never written", "copy or download it again"
                return SubjectError(f"{path} {what}", seen=f"{size} bytes", fix=fix)
    return SubjectError(f"{path} holds only zeros", seen=f"{size} bytes", fix=_BEFORE)


def _shown(head: bytes) -> str:
    return repr(head[:60].decode("utf-8", "replace"))


def missing_file(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> SubjectError:
    """The error for a file that is not there, with the one that was perhaps meant."""
    folder = path.parent
    if set("*?[") & set(str(path)):
        fix = "leave off the quotes, so that the shell names the files"
        return SubjectError(f"{path} is a pattern, and a file is needed", fix=fix)
    if not folder.is_dir():
        fix = "check the path; a relative one starts from the working folder"
        return SubjectError(f"there is no folder {folder}", fix=fix)
    files = sorted(each.name for each in folder.iterdir() if each.suffix in suffixes)
    advice = did_you_mean(path.name, files) if files else "check the path"
    if len(files) > 8 and advice.startswith("one of"):
        advice = f"one of the {len(files)} files there, e.g. {files[-1]}"
    seen = f"the folder holds {len(files) or 'no'} such files: {', '.join(suffixes)}"
    return SubjectError(f"there is no file {path}", seen=seen, fix=advice)
