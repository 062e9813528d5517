"""Write down what every file of a folder is, to know later, or in another place, that none has changed.

A safetensors or legacy file holds no checksum of its own: this is the only way to verify one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile.parallel import in_parallel
from trainlab.subjects.checkfile.shown import bytes_text, lines_html, listed

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
        title = (
            f"{self.folder}: {len(self.same)} files as in {self.manifest}{'' if self.ok else ', but not all'}"
        )
        parts = {"changed": self.changed, "missing": self.missing, "not in the manifest": self.extra}
        return "\n".join(
            [title, *(f"  {label}: {listed(names, 10)}" for label, names in parts.items() if names)]
        )

    def _repr_html_(self) -> str:
        return lines_html(repr(self))


def manifest(folder: str | Path, out: str | Path | None = None) -> Path:
    """Writes the size and the SHA-256 of every file in a folder and below it.

    Args:
        folder: The folder.
        out: Where to; None takes ``trainlab-manifest.json`` in it.

    Returns:
        The path of the manifest. Costs one reading of all files.

    Raises:
        SubjectError: There is no such folder.
    """
    from trainlab.result import write_whole

    folder = Path(folder).expanduser()
    out = folder / NAME if out is None else Path(out).expanduser()
    files = _files(folder, out)
    sums = _sums(folder, list(files))
    content = {
        "schema": SCHEMA,
        "files": {name: {"size": size, "sha256": sums[name]} for name, size in files.items()},
    }
    return write_whole(out, (json.dumps(content, indent=1) + "\n").encode())


def check_manifest(path: str | Path, folder: str | Path | None = None) -> ManifestCheck:
    """Compares a folder with a manifest that was written before, there or in another place.

    Args:
        path: The manifest, or the folder that it lies in.
        folder: The folder to compare; None takes the one that the manifest lies in.

    Raises:
        SubjectError: There is no manifest, or no such folder.
    """
    path = Path(path).expanduser()
    path = path / NAME if path.is_dir() else path
    folder = path.parent if folder is None else Path(folder).expanduser()
    meant = _read(path)
    here = _files(folder, path)
    # a file of another size need not be read
    sums = _sums(folder, [name for name, (size, _) in meant.items() if here.get(name) == size])
    same, changed = [], []
    for name in meant.keys() & here.keys():
        size, digest = meant[name]
        if sums.get(name) == digest:
            same.append(name)
        else:
            sizes = "" if name in sums else f" ({bytes_text(size)} → {bytes_text(here[name])})"
            changed.append(name + sizes)
    missing, extra = sorted(meant.keys() - here.keys()), sorted(here.keys() - meant.keys())
    return ManifestCheck(
        path, folder, tuple(sorted(same)), tuple(sorted(changed)), tuple(missing), tuple(extra)
    )


def _files(folder: Path, manifest_path: Path) -> dict[str, int]:
    if not folder.is_dir():
        raise SubjectError(f"there is no folder {folder}", fix="check the path")
    files = sorted(
        each for each in folder.rglob("*") if each.is_file() and each.name != NAME and each != manifest_path
    )
    return {each.relative_to(folder).as_posix(): each.stat().st_size for each in files}


def _read(path: Path) -> dict[str, tuple[int, str]]:
    """The size and the sum of each file that a manifest names."""
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] > SCHEMA:
            raise SubjectError(f"{path} was written by a newer trainlab", fix="pip install -U trainlab")
        return {name: (int(each["size"]), str(each["sha256"])) for name, each in content["files"].items()}
    except FileNotFoundError:
        fix = f"write one: tl.manifest({str(path.parent)!r})"
        raise SubjectError(f"there is no manifest {path}", fix=fix) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SubjectError(f"{path} is no manifest", fix="name the one that `manifest` wrote") from None


def _sums(folder: Path, names: list[str]) -> dict[str, str]:
    order = sorted(names, key=lambda name: -(folder / name).stat().st_size)
    work = [partial(_sum, folder / name) for name in order]
    return dict(zip(order, in_parallel(work, label="manifest"), strict=True))


def _sum(file: Path) -> str:
    found = hashlib.sha256()
    buffer = memoryview(bytearray(PIECE))
    with file.open("rb", buffering=0) as opened:
        while count := opened.readinto(buffer):
            found.update(buffer[:count])
    return found.hexdigest()
