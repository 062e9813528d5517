"""What breaks outside autocast? One run that goes on past every dtype error, and notes each.

A plain evaluation stops at its first dtype error; here the call that raised is run again so that it passes, and the
run goes on, so that every place is found at once:

* the call's floating arguments are promoted to one dtype; what is written in place keeps its own;
* where that dtype has no kernel, or is too narrow for a number, the call runs in float32, then in float64, and its
  result is cast back;
* a module that refuses its input in Python, as ``nn.LSTM`` does, gets it in its weights' dtype.

Only dtype errors are gone past: an error that none of this cures rises as it would natively.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainlab.diagnostics.dtypes.casts import dtype_name, no_autocast
from trainlab.diagnostics.dtypes.sites_again import ERRORS, LEVELS, again, cast, is_in_place, promoted
from trainlab.diagnostics.dtypes.sites_causes import CASTS, Cause, Origins
from trainlab.diagnostics.dtypes.sites_fake import FakeRun
from trainlab.diagnostics.dtypes.sites_tensors import floats, reference_dtype
from trainlab.errors import SubjectError
from trainlab.visit import call
from trainlab.visit.ops import Op, Run, ops

__all__ = ["FAKE_FROM", "DtypeSite", "DtypeSites", "find_sites"]


FAKE_FROM = 10_000_000
"""Weights from which on a fake run is quicker than a real one, the second that its machinery takes to load included."""


@dataclass(frozen=True)
class DtypeSite:
    """One place where floating dtypes mix.

    Attributes:
        kind: ``crash``; or it runs on silently, and ``promotes`` (its result has the widest dtype) or ``narrows`` (its
            result, or what it writes in place, has less).
        module: Qualified name of the innermost module, ``""`` for the model itself.
        op: What is called: ``linear``, ``add_``; the class of a module that refuses its input.
        file, line, function: Where the user's code calls it.
        dtypes: The floating dtypes of its arguments, in order: ``("float16", "float32")``.
        error: The native error's text, to the letter; empty where it runs on.
        causes: What brings in the odd dtypes; empty where that could not be followed.
    """

    kind: str
    module: str
    op: str
    file: str
    line: int
    function: str
    dtypes: tuple[str, ...]
    error: str
    causes: tuple[Cause, ...]

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class DtypeSites:
    """All the sites of one run, in order.

    Attributes:
        sites: Each (kind, module, op, line) once.
        reference: The dtype that most of the model has; every other one is odd.
        odd: All that holds an odd dtype, then the lines that made one in the order in which they ran, whether or not
            anything crashed.
        evidence: ``ran on CPU`` or ``ran on GPU`` (every kernel ran on the batch), or ``known rule`` (shapes and dtypes
            were followed, and kernels asked on tiny tensors where it matters).
        fallback: Why a fake run was given up; empty where it was not.
    """

    sites: tuple[DtypeSite, ...]
    reference: torch.dtype
    odd: tuple[Cause, ...]
    evidence: str
    fallback: str = ""

    @property
    def crashes(self) -> tuple[DtypeSite, ...]:
        """The sites that raise."""
        return tuple(site for site in self.sites if site.kind == "crash")


def find_sites(
    model: nn.Module, batch: object, *, fake: bool | None = None, reference: torch.dtype | None = None
) -> DtypeSites:
    """Finds every place where a run of the model outside autocast raises over dtypes, or mixes them silently.

    To be called inside a `visit`, which turns autocast off and puts back what the run changes.

    Args:
        model: May be on the meta device, where it is always run fake.
        batch: As for `trainlab.visit.call`.
        fake: Follows shapes and dtypes without computing: about a tenth of a forward at 100 M parameters, and no
            memory for weights. A model that looks at its values cannot be run so, and is run for real. By default, from
            `FAKE_FROM` weights on; for fewer, a real run is quicker, and better evidence.
        reference: The dtype that all should have; by default that of most of the model (see `reference_dtype`).

    Raises:
        SubjectError: The model is on the meta device and cannot be run fake.
        Exception: What the model raises by itself, dtypes aside.
    """
    with no_autocast():
        without_values = any(each.is_meta for each in model.parameters())
        if fake is None:
            fake = without_values or sum(each.numel() for each in model.parameters()) >= FAKE_FROM
        if not fake:
            return _real(model, batch, reference)
        try:
            with FakeRun(model, batch) as run:
                return _Going(model, run.batch, reference, run).find("known rule")
        except Exception as error:
            if without_values:
                raise SubjectError(
                    f"{type(model).__name__} has no values, and cannot be followed without",
                    seen=f"parameters on the meta device; {type(error).__name__}: {error}",
                    fix="load a checkpoint into the model",
                ) from error
            return replace(_real(model, batch, reference), fallback=f"{type(error).__name__}: {error}")


def _real(model: nn.Module, batch: object, reference: torch.dtype | None) -> DtypeSites:
    on_gpu = any(each.is_cuda for each in model.parameters())
    return _Going(model, batch, reference, None).find("ran on GPU" if on_gpu else "ran on CPU")


class _Going:
    """A run that goes on: stands around every call, and notes the sites."""

    def __init__(
        self, model: nn.Module, batch: object, reference: torch.dtype | None, fake: FakeRun | None
    ) -> None:
        self.model, self.batch, self.fake = model, batch, fake
        self.reference = reference or reference_dtype(model, batch)
        self.origins = Origins(model, batch, self.reference)
        self.odd = dict.fromkeys(sorted(self.origins.odd, key=lambda cause: (cause.kind, cause.name)))
        self.sites: dict[tuple[str, ...], DtypeSite] = {}
        self.final: Exception | None = None  # an error that is not over dtypes, on its way up

    def find(self, evidence: str) -> DtypeSites:
        with ops(self.model, self.around, modules=self.around_module):
            call(self.model, self.batch)
        return DtypeSites(tuple(self.sites.values()), self.reference, tuple(self.odd), evidence)

    def around(self, op: Op, run: Run) -> object:
        given = floats((op.args, op.kwargs))
        if self.fake is None:
            result, error = self.go_on(op, run)
        else:
            level, error = self.fake.ask(op)
            perform = self.fake.perform
            result = perform(op, run) if error is None else again(op.name, op.args, op.kwargs, level, run)
        if error is not None:
            self.note("crash", op, str(error), given)
        elif op.name not in CASTS and not op.opaque and not op.name.endswith(".apply"):
            self.note_if_silent(op, given, result)
        self.odd.update(dict.fromkeys(self.origins.follow(op, given, result)))
        return result

    def go_on(self, op: Op, run: Run) -> tuple[object, Exception | None]:
        """The result of a call, however it is to be had, and the error that it raises natively."""
        try:
            return run(), None
        except ERRORS as error:
            if error is not self.final and floats((op.args, op.kwargs)):
                for level in LEVELS:
                    try:
                        return again(op.name, op.args, op.kwargs, level, run), error
                    except ERRORS:
                        continue
            self.final = error
            raise

    def around_module(self, op: Op, run: Run) -> object:
        try:
            return run()
        except ERRORS as error:
            given, own = floats((op.args, op.kwargs)), []
            if isinstance(op.func, nn.Module):
                own = floats(list(op.func.parameters(recurse=False)))
            if error is self.final or not own or all(each.dtype == own[0].dtype for each in given):
                raise
            self.final = error
            result = run(cast(op.args, own[0].dtype), cast(op.kwargs, own[0].dtype))
            given += own
            self.note("crash", op, str(error), given)
            result = cast(result, promoted(given))
            self.origins.follow(op, given, result)
            return result

    def note_if_silent(self, op: Op, given: list[Tensor], result: object) -> None:
        """Notes a call that mixes dtypes and runs.

        A number (no axes) has no say in promotion; a copy is meant, and so is a float32 island in a half-precision
        model that explicit casts make, as norms do.
        """
        given = [each for each in given if each.dim()]
        if len({each.dtype for each in given}) > 1 and op.name != "copy_":
            written = given if is_in_place(op.name) else floats(result)
            if not written:  # a comparison gives no float
                return
            kind = "promotes" if written[0].dtype == promoted(given) else "narrows"
            wide = all(cause.kind == "line" for cause in self.origins.of(given))
            if not (kind == "promotes" and written[0].dtype == torch.float32 and wide):
                self.note(kind, op, "", given)

    def note(self, kind: str, op: Op, error: str, given: list[Tensor]) -> None:
        place = op.site
        site = DtypeSite(
            kind, op.module, op.name, place.file, place.line, place.function,
            tuple(dtype_name(each.dtype) for each in given), error,
            tuple(sorted(self.origins.of(given), key=lambda cause: (cause.kind, cause.name))),
        )  # fmt: skip
        self.sites.setdefault((kind, op.module, op.name, site.place), site)
