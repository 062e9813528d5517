"""The smallest change that lets a model run outside autocast: found by trying, offered once a native run has passed."""

from __future__ import annotations

import linecache
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from trainlab.diagnostics.dtypes.casts import no_autocast
from trainlab.diagnostics.dtypes.sites import DtypeSites, find_sites
from trainlab.diagnostics.dtypes.sites_again import ERRORS, cast
from trainlab.diagnostics.dtypes.sites_causes import Cause
from trainlab.diagnostics.dtypes.sites_tensors import held_tensors
from trainlab.visit import call, map_tensors, visit
from trainlab.visit.ops import Op, Run, ops

__all__ = ["Change", "Mending", "find_fix", "native_error"]

ROUNDS = 4
"""How often the causes of what still breaks are added, before a dtype is given up."""
POOL = 10
"""Causes up to which each is tried by itself first: that takes the square of their number of runs."""


@dataclass(frozen=True)
class Change:
    """One change: ``code`` is a line to paste after the model is built, or ``file:line: old → new``."""

    code: str
    cause: Cause


@dataclass(frozen=True)
class Mending:
    """What it takes for a model to run outside autocast.

    Attributes:
        native_error: What the native run raises as things are, to the letter; empty where it passes.
        changes: With all of these, and with none left out, a native run passed; the smallest first. Empty where none
            is needed, or nothing that was tried passed.
        last_resort: Whether nothing smaller helped than casting the whole model.
        runs: How many native runs it took.
    """

    native_error: str
    changes: tuple[Change, ...] = ()
    last_resort: bool = False
    runs: int = 1


def native_error(model: nn.Module, batch: object, *, train: bool = False) -> str:
    """What a plain run outside autocast raises, to the letter; empty where it passes."""
    with (
        visit(model, train=train),
        no_autocast(),
        ops(model),  # nothing is heard; but a rehearsal's mode around it would switch fused paths off
    ):
        try:
            call(model, batch)
        except ERRORS as error:
            return str(error) or type(error).__name__
        return ""


def find_fix(model: nn.Module, batch: object, found: DtypeSites, *, train: bool = False) -> Mending:
    """Finds the smallest set of changes with which the native run passes, and has seen it pass.

    Causes are taken one by one, whichever leaves the fewest crashes; where that leads nowhere, those of all crashes are
    set right together, and those of what then still breaks. What turns out not to be needed is left out again, edits of
    code first and the largest tensors next. Everything is put back.

    Args:
        model: With values: nothing is verified on the meta device.
        batch: As for `trainlab.visit.call`.
        found: What `find_sites` says of them.
        train: Whether the runs are in training mode.
    """
    trial = _Trial(model, batch, train)
    error = trial.error((), found.reference)
    if not error:
        return Mending("")
    held = {each.tensor.dtype for each in held_tensors(model)}
    best: tuple[list[Cause], torch.dtype] | None = None
    for dtype in (found.reference, *sorted(held - {found.reference}, key=str)):
        causes = trial.least(found, dtype)
        if causes and (best is None or _size(causes) < _size(best[0])):
            best = causes, dtype
        if best and len(best[0]) == 1:
            break
    last_resort = best is None
    if best is None:
        elsewhere = [each for each in found.odd if each.kind in ("attribute", "input", "line")]
        best = [Cause("module", "", found.reference), *elsewhere], found.reference
        if trial.error(*best):
            return Mending(error, runs=trial.runs)
    changes = tuple(Change(_code(cause, batch, best[1]), cause) for cause in best[0])
    return Mending(error, changes, last_resort, trial.runs)


def _size(causes: Collection[Cause]) -> tuple[int, int]:
    return len(causes), sum(cause.elements for cause in causes)


def _effort(cause: Cause) -> tuple[bool, bool, int]:
    """What it takes to set a cause right: lines of code after all else, those of installed packages last."""
    return cause.kind == "line", "-packages" in cause.name, cause.elements


def _suspects(found: DtypeSites) -> list[Cause]:
    """What could be set right: the causes of the crashes; everything odd where one is a line or is not known.

    The dtype that a line casts to may have been read off another tensor.
    """
    blamed = {cause for site in found.crashes for cause in site.causes}
    followed = all(site.causes for site in found.crashes) and all(cause.kind != "line" for cause in blamed)
    return [cause for cause in found.odd if cause in blamed or not followed]


class _Trial:
    """Native runs of one model with some causes set right."""

    def __init__(self, model: nn.Module, batch: object, train: bool) -> None:
        self.model, self.batch, self.train, self.runs = model, batch, train, 0

    def error(self, causes: Collection[Cause], dtype: torch.dtype) -> str:
        """What the native run raises with these causes set right."""
        self.runs += 1
        with self.mended(causes, dtype) as batch:
            return native_error(self.model, batch, train=self.train)

    def least(self, found: DtypeSites, dtype: torch.dtype) -> list[Cause]:
        """Causes that, set right together, let the native run pass, the smallest first; empty where none were found.

        None can be left out.
        """
        if dtype != found.reference:
            with visit(self.model, train=self.train):
                found = find_sites(self.model, self.batch, reference=dtype)
        kept = sorted(self.grown(found, dtype) or self.enough(found, dtype), key=_effort)
        for cause in reversed(kept.copy()):
            without = [each for each in kept if each is not cause]
            if without and not self.error(without, dtype):
                kept = without
        return kept

    def grown(self, found: DtypeSites, dtype: torch.dtype) -> list[Cause]:
        """Causes taken one by one, each time the one that leaves the fewest crashes, the smallest at a tie."""
        pool, left = sorted(_suspects(found), key=_effort), len(found.crashes)
        kept: list[Cause] = []
        while left and len(pool) <= POOL:
            crashes = {}
            for cause in pool:
                if not self.error([*kept, cause], dtype):
                    return [*kept, cause]
                if left > 1:  # with one left, a cause that does not pass has not helped
                    with self.mended([*kept, cause], dtype) as batch:
                        crashes[cause] = len(find_sites(self.model, batch, reference=dtype).crashes)
            best = min(crashes, key=lambda cause: crashes[cause], default=None)
            if best is None or crashes[best] >= left:
                return []
            left = crashes[best]
            kept.append(best)
            pool.remove(best)
        return []

    def enough(self, found: DtypeSites, dtype: torch.dtype) -> list[Cause]:
        """Causes that, set right together, let the native run pass, needed or not."""
        causes: list[Cause] = []
        for _ in range(ROUNDS):
            new = [cause for cause in _suspects(found) or found.odd if cause not in causes]
            if not new:
                break
            causes += new
            if not self.error(causes, dtype):
                return causes
            with self.mended(causes, dtype) as batch:
                found = find_sites(self.model, batch, reference=dtype)
        return []

    @contextmanager
    def mended(self, causes: Collection[Cause], dtype: torch.dtype) -> Iterator[object]:
        """Sets causes right, and everything back afterwards; gives the batch to use."""
        lines = {(cause.name, cause.op) for cause in causes if cause.kind == "line"}
        inputs = {cause.name for cause in causes if cause.kind == "input"}

        def around(op: Op, run: Run) -> object:
            result = run()
            made = op.name in names and (f"{op.site.file}:{op.site.line}", op.name) in lines
            return cast(result, dtype) if made else result

        names = {name for _, name in lines}
        with visit(self.model, train=self.train):
            for cause in causes:
                _set_right(self.model, cause, dtype)
            batch = map_tensors(self.batch, lambda path, value: value.to(dtype) if path in inputs else value)
            if not lines:
                yield batch
                return
            with ops(self.model, around):
                yield batch


def _set_right(model: nn.Module, cause: Cause, dtype: torch.dtype) -> None:
    owner, _, leaf = cause.name.rpartition(".")
    if cause.kind == "module":
        model.get_submodule(cause.name).to(dtype)
    elif cause.kind == "parameter":
        weight = model.get_parameter(cause.name)
        weight.data = weight.data.to(dtype)
    elif cause.kind in ("buffer", "attribute"):
        module = model.get_submodule(owner)
        setattr(module, leaf, getattr(module, leaf).to(dtype))


def _code(cause: Cause, batch: object, dtype: torch.dtype) -> str:
    """The change as the user would write it."""
    owner, _, leaf = cause.name.rpartition(".")
    module = f"model.get_submodule({owner!r})" if owner else "model"
    if cause.kind == "module":
        return f"model.get_submodule({cause.name!r}).to({dtype})" if cause.name else f"model.to({dtype})"
    if cause.kind == "parameter":
        weight = f"model.get_parameter({cause.name!r})"
        return f"{weight}.data = {weight}.data.to({dtype})"
    if cause.kind in ("buffer", "attribute"):
        return f"{module}.{leaf} = {module}.{leaf}.to({dtype})"
    if cause.kind == "input":
        return _input_code(cause.name, batch, dtype)
    return _edit(cause, dtype)


def _input_code(path: str, batch: object, dtype: torch.dtype) -> str:
    if not path:
        return f"batch = batch.to({dtype})"
    if isinstance(batch, dict) and path in batch:
        return f"batch[{path!r}] = batch[{path!r}].to({dtype})"
    return (
        "batch = trainlab.visit.map_tensors("
        f"batch, lambda path, value: value.to({dtype}) if path == {path!r} else value)"
    )


def _edit(cause: Cause, dtype: torch.dtype) -> str:
    file, _, line = cause.name.rpartition(":")
    old = linecache.getline(file, int(line)).strip()
    new = old.replace(f".{cause.op}()", f".to({dtype})").replace(str(cause.dtype), str(dtype))
    if old != new:
        return f"{cause.name}: {old}  →  {new}"
    return f"{cause.name}: add .to({dtype}) to {cause.op}(…)"
