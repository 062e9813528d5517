"""Write down what every file of a folder is, to know later, or in another place, that none has changed.

A safetensors or legacy file holds no checksum of its own: this is the only way to verify one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.shown import bytes_text

__all__ = ["NAME", "ManifestCheck", "check_manifest", "manifest"]

NAME = "trainlab-manifest.json"
SCHEMA = 1
PIECE = 2**20


@dataclass(frozen=True, repr=False)
class ManifestCheck:
    """What became of the files of a manifest.

    Attributes:
        manifest: The manifest.
        folder: The folder that was compared with it.
        same: Files with the same bytes.
        changed: Files with others, and how their sizes differ.
        missing: Files that are not there.
        extra: Files that the manifest does not know.
    """

    manifest: Path
    folder: Path
    same: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Is every file of the manifest there, unchanged?"""
        return not (self.changed or self.missing)

    def __repr__(self) -> str:
        lines = [
            f"{self.folder}: {len(self.same)} files as in {self.manifest}"
            + ("" if self.ok else ", but not all")
        ]
        for label, names in (
            ("changed", self.changed),
            ("missing", self.missing),
            ("not in the manifest", self.extra),
        ):
            lines += (
                [f"  {label}: {', '.join(names[:10])}{f' … {len(names)} in all' if len(names) > 10 else ''}"]
                if names
                else []
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from trainlab.markup import block, paragraph

        title, *lines = repr(self).split("\n")
        return block(title, [paragraph(line.strip()) for line in lines])


def manifest(folder: str | Path, out: str | Path | None = None, *, workers: int | None = None) -> Path:
    """Writes the size and the SHA-256 of every file in a folder and below it.

    Args:
        folder: The folder.
        out: Where to; None takes ``trainlab-manifest.json`` in it.
        workers: Threads; None takes one per core.

    Returns:
        The path of the manifest. Costs one reading of all files.

    Raises:
        SubjectError: There is no such folder.
    """
    from trainlab.result import write_whole

    folder = Path(folder).expanduser()
    out = folder / NAME if out is None else Path(out).expanduser()
    files = _files(folder, out)
    sums = _sums(folder, list(files), workers)
    content = {
        "schema": SCHEMA,
        "files": {name: {"size": size, "sha256": sums[name]} for name, size in files.items()},
    }
    return write_whole(out, (json.dumps(content, indent=1) + "\n").encode())


def check_manifest(
    path: str | Path, folder: str | Path | None = None, *, workers: int | None = None
) -> ManifestCheck:
    """Compares a folder with a manifest that was written before, there or in another place.

    Args:
        path: The manifest, or the folder that it lies in.
        folder: The folder to compare; None takes the one that the manifest lies in.
        workers: Threads; None takes one per core.

    Raises:
        SubjectError: There is no manifest, or no such folder.
    """
    path = Path(path).expanduser()
    path = path / NAME if path.is_dir() else path
    folder = path.parent if folder is None else Path(folder).expanduser()
    listed = _read(path)
    here = _files(folder, path)
    sized = [name for name, entry in listed.items() if here.get(name) == entry["size"]]
    sums = _sums(folder, sized, workers)  # a file of another size need not be read
    same = [name for name in sized if sums[name] == listed[name]["sha256"]]
    changed = [
        name
        if name in sized
        else f"{name} ({bytes_text(int(listed[name]['size']))} → {bytes_text(here[name])})"
        for name in listed
        if name in here and name not in same
    ]
    missing = [name for name in listed if name not in here]
    extra = [name for name in here if name not in listed]
    return ManifestCheck(path, folder, tuple(same), tuple(changed), tuple(missing), tuple(extra))


def _files(folder: Path, manifest_path: Path) -> dict[str, int]:
    if not folder.is_dir():
        raise SubjectError(f"there is no folder {folder}", fix="check the path")
    files = sorted(
        each for each in folder.rglob("*") if each.is_file() and each.name != NAME and each != manifest_path
    )
    return {each.relative_to(folder).as_posix(): each.stat().st_size for each in files}


def _read(path: Path) -> dict[str, dict[str, str | int]]:
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] > SCHEMA:
            raise SubjectError(f"{path} was written by a newer trainlab", fix="pip install -U trainlab")
        return dict(content["files"])
    except FileNotFoundError:
        raise SubjectError(
            f"there is no manifest {path}", fix=f"write one: tl.manifest({str(path.parent)!r})"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SubjectError(f"{path} is no manifest", fix="name the one that `manifest` wrote") from None


def _sums(folder: Path, names: list[str], workers: int | None) -> dict[str, str]:
    order = sorted(names, key=lambda name: -(folder / name).stat().st_size)
    work = [partial(_sum, folder / name) for name in order]
    return dict(zip(order, in_parallel(work, label="manifest", workers=workers), strict=True))


def _sum(file: Path) -> str:
    found = hashlib.sha256()
    buffer = memoryview(bytearray(PIECE))
    with file.open("rb", buffering=0) as opened:
        while count := os.readv(opened.fileno(), [buffer]):
            found.update(buffer[:count])
    return found.hexdigest()
