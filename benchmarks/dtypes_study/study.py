"""One mutant: what the oracle knows, what the room says, what its peers say."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import trainlab
from benchmarks.dtypes_study.mutants import Mutant
from benchmarks.dtypes_study.oracle import Site, native_error, true_sites
from trainlab.diagnostics.dtypes.fixes import Change, find_fix
from trainlab.diagnostics.dtypes.sites import DtypeSites, find_sites
from trainlab.visit import call, map_tensors, tensors, visit

__all__ = ["Tally", "study"]


@dataclass
class Tally:
    """Counts over many models; `wrong` has a line for each miss."""

    models: int = 0
    crashing: int = 0
    sites: int = 0
    found: Counter[str] = field(default_factory=Counter)  # by way of looking
    false: Counter[str] = field(default_factory=Counter)
    same_text: Counter[str] = field(default_factory=Counter)
    fell_back: int = 0
    fixed: int = 0
    last_resort: int = 0
    changes: int = 0
    runs: int = 0
    flagged_by_meta: int = 0
    fixed_by_majority: int = 0
    wrong: list[str] = field(default_factory=list)


def study(mutants: Iterable[Mutant]) -> Tally:
    """Looks at each mutant in every way."""
    tally = Tally()
    for mutant in mutants:
        model, batch = mutant.build()
        truth = dict(true_sites(model, batch))
        error = native_error(model, batch)
        if error != next(iter(truth.values()), ""):
            tally.wrong.append(f"{mutant.name}: the oracle's first error is not the native one: {error}")
        tally.models += 1
        tally.sites += len(truth)
        for way in ("real", "fake"):
            with visit(model):
                found = find_sites(model, batch, fake=way == "fake")
            _compare(tally, mutant.name, way, found, truth)
        tally.fell_back += bool(found.fallback)
        if not error:
            continue
        tally.crashing += 1
        mending = find_fix(model, batch, found)
        passes = bool(mending.changes) and not _error_with(mutant, mending.changes)
        tally.fixed += passes
        if not passes:
            tally.wrong.append(f"{mutant.name}: not fixed by {[change.code for change in mending.changes]}")
        tally.last_resort += mending.last_resort
        tally.changes += len(mending.changes)
        tally.runs += mending.runs
        tally.flagged_by_meta += _flagged_by_meta(model, batch)
        tally.fixed_by_majority += not native_error(*_all_in_majority(model, batch))
    return tally


def _compare(tally: Tally, name: str, way: str, found: DtypeSites, truth: dict[Site, str]) -> None:
    got = {(site.module, site.op, site.place): site.error for site in found.crashes}
    tally.found[way] += len(got.keys() & truth.keys())
    tally.false[way] += len(got.keys() - truth.keys())
    tally.same_text[way] += sum(got[site] == truth[site] for site in got.keys() & truth.keys())
    tally.wrong += [f"{name}: {way}: missed {site}: {truth[site]}" for site in truth.keys() - got.keys()]
    tally.wrong += [f"{name}: {way}: false {site}: {got[site]}" for site in got.keys() - truth.keys()]


def _error_with(mutant: Mutant, changes: Iterable[Change]) -> str:
    """The native error of a new mutant after the offered changes, done as they are written."""
    model, batch = mutant.build()
    names = {"model": model, "batch": batch, "torch": torch, "trainlab": trainlab}
    for change in changes:
        if change.cause.kind == "line":
            _edit(model, change.code)
        else:
            exec(change.code, names)
    return native_error(model, names["batch"])


def _edit(model: nn.Module, code: str) -> None:
    """Changes one line of a file, and gives the model's modules the classes that the changed file defines."""
    file, line, edit = code.split(":", 2)
    old, _, new = edit.strip().partition("  →  ")
    lines = Path(file).read_text().splitlines()
    lines[int(line) - 1] = lines[int(line) - 1].replace(old, new)
    classes = [type(each) for each in model.modules() if inspect.getsourcefile(type(each)) == file]
    edited: dict[str, object] = {"__name__": classes[0].__module__}
    exec(compile("\n".join(lines), file, "exec"), edited)
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = edited[type(module).__name__]


def _flagged_by_meta(model: nn.Module, batch: object) -> bool:
    """Whether a plain run on fake tensors, with no kernel asked, raises: what meta tensors alone find."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = map_tensors(batch, lambda _, value: mode.from_tensor(value))
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.setLevel(logging.CRITICAL)
    try:
        with visit(model), mode:
            call(model, fake)
    except DataDependentOutputException:
        return False
    except (RuntimeError, TypeError, ValueError):
        return True
    finally:
        log.setLevel(logging.NOTSET)
    return False


def _all_in_majority(model: nn.Module, batch: object) -> tuple[nn.Module, object]:
    """Everything cast to the dtype that most numbers of the model have: the peer's fix. The model stays cast."""
    sizes: Counter[torch.dtype] = Counter()
    for value in tensors([*model.parameters(), *model.buffers()]).values():
        if value.is_floating_point():
            sizes[value.dtype] += value.numel()
    dtype = sizes.most_common(1)[0][0]
    cast = map_tensors(batch, lambda _, value: value.to(dtype) if value.is_floating_point() else value)
    return model.to(dtype), cast
