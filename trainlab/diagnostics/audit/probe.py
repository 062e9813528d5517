"""Look at every checkpoint, log and output folder, and write down what they say; see `trainlab.diagnostics.audit`."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainlab.diagnostics.audit.expect import Expected, expected
from trainlab.diagnostics.audit.hypotheses import hypotheses
from trainlab.diagnostics.audit.inside import File, look
from trainlab.diagnostics.audit.logs import claims
from trainlab.diagnostics.audit.places import Places, find_places, is_certain
from trainlab.diagnostics.audit.result import AuditResult
from trainlab.diagnostics.audit.runs import run_of, twice_in
from trainlab.errors import NotApplicable
from trainlab.progress import track

__all__ = ["probe"]

LOGS = 300  # the newest are read

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def probe(ckpts: Paths, *, expect: Mapping[str, object] | None = None, verify: bool = False) -> AuditResult:
    """Looks into every checkpoint of a folder, and into the logs and outputs around them.

    Reads the directory of each file and no tensor: some milliseconds a file, whatever its size. Imports no torch, and runs
    nothing of what the files hold.

    Args:
        ckpts: A file, a folder or a glob such as ``runs/*/last.pt``, or several of them.
        expect: What should be there, any of ``epoch``, ``iter``, ``hidden_dim``, ``layers``, ``every_epochs``,
            ``every_iters``, ``size`` (of a run's last checkpoint: "1GB"), ``total``, ``count``, ``files`` (names or globs).
        verify: Compare all bytes with the CRCs that torch stores and never reads; costs one reading of the files.

    Raises:
        SubjectError: There is nothing of that name.
        UsageError: ``expect`` holds a name or a value that it does not know.
        NotApplicable: There is no checkpoint, and nothing is expected either.
    """
    wanted = expected(expect)
    places = find_places(ckpts)
    files: dict[str, File] = {}
    for path in track(places.checkpoints, label="audit: files"):
        row, tensors = look(path, wanted, check=verify)
        if places.named or is_certain(path) or (tensors and row.state not in ("no checkpoint", "damaged")):
            files[_name(path, places.root)] = row
    if not files and wanted == Expected():
        raise NotApplicable(
            f"there is no checkpoint in {places.root}",
            seen=f"{len(places.others)} files",
            fix="name another folder, or say what should be there: expect={count: 80}",
        )
    result = AuditResult(
        given=os.fspath(ckpts)
        if isinstance(ckpts, (str, os.PathLike))
        else ", ".join(os.fspath(each) for each in ckpts),
        root=str(places.root),
        now=time.time(),
        whole=places.whole,
        expect_epoch=wanted.epoch or -1,
        expect_iter=wanted.iter or -1,
        expect_width=wanted.width or -1,
        expect_depth=wanted.depth or -1,
        expect_every_epochs=wanted.every_epochs or -1,
        expect_every_iters=wanted.every_iters or -1,
        expect_size=wanted.size or -1,
        expect_total=wanted.total or -1,
        expect_count=wanted.count or -1,
        **_files(files),
        **_claims(places),
        **_outputs(places),
        **_nested(places),
        **_wanted(wanted, places),
        hypothesis_text=(),
        hypothesis_support=np.zeros(0, np.int64),
        hypothesis_evidence=(),
        hypothesis_next=(),
    )
    ranked = hypotheses(result)
    return dataclasses.replace(
        result,
        hypothesis_text=tuple(each.text for each in ranked),
        hypothesis_support=np.array([each.support for each in ranked], np.int64),
        hypothesis_evidence=tuple("; ".join(each.evidence) for each in ranked),
        hypothesis_next=tuple(each.then for each in ranked),
    )


def _files(files: Mapping[str, File]) -> dict[str, Any]:
    rows = list(files.values())

    def numbers(field: str, dtype: type = np.int64) -> np.ndarray:
        return np.array([getattr(row, field) for row in rows], dtype)

    def texts(field: str) -> tuple[str, ...]:
        return tuple(getattr(row, field) for row in rows)

    return {
        "file_name": tuple(files),
        "file_run": tuple(run_of(name) for name in files),
        "file_bytes": numbers("size"),
        "file_implied_bytes": numbers("implied"),
        "file_weights_bytes": numbers("weights"),
        "file_time": numbers("time", np.float64),
        **{
            f"file_{field}": numbers(field)
            for field in (
                "epoch", "iter", "width", "depth", "parameters", "optimizer_bytes", "planned", "named_epoch", "named_iter",
            )
        },
        **{
            f"file_{field}": texts(field)
            for field in (
                "state", "optimizer", "dtypes", "crc", "format", "trouble", "fix", "config", "width_from", "depth_from",
            )
        },
    }  # fmt: skip


def _claims(places: Places) -> dict[str, Any]:
    newest = sorted(places.logs, key=lambda path: -path.stat().st_mtime)[:LOGS]
    found = [(path, claim) for path in newest for claim in claims(path)]
    return {
        "claim_log": tuple(_name(path, places.root) for path, _ in found),
        "claim_line": np.array([claim.line for _, claim in found], np.int64),
        "claim_kind": tuple(claim.kind for _, claim in found),
        "claim_value": np.array([claim.value for _, claim in found], np.int64),
        "claim_of": np.array([claim.of for _, claim in found], np.int64),
        "claim_path": tuple(claim.path for _, claim in found),
        "claim_text": tuple(claim.text for _, claim in found),
        "claim_time": np.array([path.stat().st_mtime for path, _ in found], np.float64),
    }


def _outputs(places: Places) -> dict[str, Any]:
    found = places.outputs
    return {
        "output_folder": tuple(_name(each.path, places.root) for each in found),
        "output_files": np.array([each.files for each in found], np.int64),
        "output_first": np.array([each.first for each in found], np.float64),
        "output_last": np.array([each.last for each in found], np.float64),
    }


def _nested(places: Places) -> dict[str, Any]:
    below = len(places.root.parts)
    found: dict[str, tuple[str, int]] = {}
    for path in places.checkpoints:
        folder = path.parent.as_posix()
        twice = twice_in(folder, below)
        if twice:
            name = _name(path.parent, places.root)
            # the folder itself may be where the audit starts: then its own path is the only name that shows it
            name = folder if twice.count("/") + 1 > len(PurePosixPath(name).parts) - 1 else name
            found[name] = (twice, found.get(name, ("", 0))[1] + 1)
    return {
        "nested_folder": tuple(found),
        "nested_twice": tuple(twice for twice, _ in found.values()),
        "nested_files": np.array([count for _, count in found.values()], np.int64),
    }


def _wanted(wanted: Expected, places: Places) -> dict[str, Any]:
    names = [_name(path, places.root) for path in [*places.others, *places.checkpoints]]

    def first(pattern: str) -> str:
        if not any(each in pattern for each in "*?["):
            return next((name for name in names if name == pattern or name.endswith(f"/{pattern}")), "")
        return next(
            (
                name
                for name in names
                if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name, f"*/{pattern}")
            ),
            "",
        )

    return {"wanted_name": wanted.files, "wanted_found": tuple(first(each) for each in wanted.files)}


def _name(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
