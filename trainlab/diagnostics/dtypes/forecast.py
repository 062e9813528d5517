"""Foretell from a run in bfloat16 what float16 could not hold: values, casts of float32, gradients.

bfloat16 has float32's range, so a run in it goes past every place where float16 would overflow, and shows how
large each value would have been. For most ops, what they take in and give out tells all: inside, matrix products,
convolutions, reductions and attention add up in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.dtypes.casts import no_autocast
from trainlab.diagnostics.dtypes.rehearsal import cuda_policy, rehearse_cuda
from trainlab.diagnostics.dtypes.sites_again import ERRORS
from trainlab.visit import call, tensors, visit
from trainlab.visit.ops import Op, Run, ops

__all__ = [
    "DEFAULT_SCALE",
    "LARGEST",
    "NORMAL_POWER",
    "Forecast",
    "GradientRange",
    "OpRange",
    "forecast",
    "headroom",
    "share_lost",
]

LARGEST = 65504.0
"""The largest number of float16."""

DEFAULT_SCALE = 65536.0
"""What ``torch.amp.GradScaler`` begins with."""

NORMAL_POWER = -14
"""Exponent of float16's least normal number: below, digits go."""

OVERFLOW = 65520.0  # halfway to 65536, the next step: what reaches it rounds to infinity
ZERO_POWER = -25  # half of the least subnormal, 2**-24: what is below rounds to 0
LOWEST = -149  # exponent of float32's least subnormal
BINS = 128 - LOWEST
# Beyond, a number stands for minus infinity in a mask (finfo(dtype).min): a run in float16 takes float16's own.
MASK = 2.0**126
# Rounding to bfloat16 (2**-9 at each op, adding up over layers) moves a value by less than this many powers of two.
ROUNDING = 0.25
# These keep numbers of the lower dtype to themselves, so that what enters and leaves them does not tell all.
INNER = {
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("einsum", "tensordot", "linalg_multi_dot", "chain_matmul"),
}

Under = Callable[[torch.dtype], AbstractContextManager[object]]


@dataclass(frozen=True)
class OpRange:
    """What one op took in and gave out, as large as bfloat16 let it grow.

    Attributes:
        module: Qualified name of the module that calls it, ``""`` for the model itself.
        op: Its name, as in `trainlab.visit.ops`.
        site: ``file:line in function`` of the user's code.
        absmax: Largest finite magnitude of its outputs in the lower dtype; 0 where it has none.
        cast_absmax: The same of the float32 values that are cast down to enter it.
        dtype: The lower dtype that it gave in that run.
        nonfinite: How many numbers of its outputs are infinite or NaN, in bfloat16 already.
        exponents: (bin) How many non-zero numbers of those outputs have each binary exponent, from ``2**-149`` on.
        overflows: Whether float16 cannot hold an output, or a value cast in.
    """

    module: str
    op: str
    site: str
    absmax: float
    cast_absmax: float
    dtype: torch.dtype
    nonfinite: int
    exponents: np.ndarray
    overflows: bool

    @property
    def headroom(self) -> float:
        """Powers of two between the largest value and float16's largest; negative beyond; infinite without values."""
        return headroom(max(self.absmax, self.cast_absmax))


@dataclass(frozen=True)
class GradientRange:
    """The gradient, without loss scale, where float16 would hold it.

    Attributes:
        where: Name of a parameter that is cast down, or ``module: op`` for an op's output in the lower dtype.
        parameter: Which of the two it is.
        absmax: Its largest finite magnitude.
        exponents: As in `OpRange`.
    """

    where: str
    parameter: bool
    absmax: float
    exponents: np.ndarray


@dataclass(frozen=True)
class Forecast:
    """Every op in the order of the run, and every gradient.

    Attributes:
        ops: One range a call that gives or takes numbers of the lower dtype; views are left out.
        gradients: Empty where there was no loss.
        settled: A run in float16 was asked too; see `forecast`.
        loss_error: What the run or its backward raised, as training would; all ends there. Empty where they ran.
    """

    ops: tuple[OpRange, ...]
    gradients: tuple[GradientRange, ...]
    settled: bool
    loss_error: str = ""

    @property
    def first(self) -> OpRange | None:
        """The first op that overflows; what comes later computes with its infinities."""
        return next((each for each in self.ops if each.overflows), None)

    @property
    def loss_scale(self) -> float | None:
        """The largest power of two that leaves every gradient a doubling below float16's largest; None without any."""
        largest = max((each.absmax for each in self.gradients), default=0.0)
        return 2.0 ** math.floor(math.log2(LARGEST / 2 / largest)) if largest else None


def headroom(absmax: float) -> float:
    """How many powers of two lie between a magnitude and float16's largest number?"""
    return math.log2(LARGEST / absmax) if absmax else math.inf


def share_lost(exponents: np.ndarray, *, scale: float = 1.0, power: int = ZERO_POWER) -> float:
    """Which share of the non-zero numbers does float16 round to zero, once multiplied by ``scale``?

    Args:
        exponents: (bin) or (…, bin) counts, as in `OpRange`; shares are of all together.
        scale: A power of two: the loss scale.
        power: Another edge: `NORMAL_POWER` gives the share that loses digits.
    """
    edge = int(np.clip(power - math.log2(scale) - LOWEST, 0, BINS))
    total = exponents.sum()
    return float(exponents[..., :edge].sum() / total) if total else 0.0


def forecast(
    model: nn.Module,
    batch: object,
    *,
    loss: Callable[[nn.Module, object], Tensor] | None = None,
    train: bool = False,
    seed: int = 0,
    under: Under = rehearse_cuda,
) -> Forecast:
    """Runs the model once in bfloat16 and tells what float16 would not hold, and which loss scale fits.

    That run is enough where nothing comes near an edge. Otherwise one more, in float16, decides up to its first
    overflow: where a value comes within a quarter of a power of two of the largest number or beyond (it may be
    rounded, or be meant to be bfloat16), where a number becomes 0 (a denominator, perhaps), and where an op keeps
    numbers of the lower dtype to itself, as an LSTM. After that overflow it computes with infinities, and
    bfloat16's values count.

    Cost: a forward, a backward where there is a loss, and some five passes over every output and cast weight.

    Args:
        model: Left as found.
        batch: What it is called on.
        loss: ``loss(model, batch)``, which runs the model itself; its mean is differentiated. None forecasts no
            gradients.
        train: Training mode instead of eval mode.
        seed: Where random streams start, the same in both runs.
        under: Enters autocast with a dtype: the rehearsal, or ``partial(torch.autocast, "cuda")`` on a GPU.
    """
    wide = _Listener()
    with visit(model, train=train, seed=seed, grad=loss is not None), under(torch.bfloat16):
        try:
            with ops(model, wide):
                value = loss(model, batch).mean() if loss else call(model, batch)
        except ERRORS as error:
            wide.loss_error = str(error)
        else:
            if loss and isinstance(value, Tensor):
                with _grad_kept(batch):
                    wide.hear_backward(model, value)
    found = Forecast(tuple(wide.rows), tuple(wide.gradients), settled=False, loss_error=wide.loss_error)
    if not any(map(_near, wide.rows)):
        return found
    narrow = _Listener()
    # float16 may lack a kernel or refuse a constant: what ran until there tells all the same
    with (
        suppress(*ERRORS),
        visit(model, train=train, seed=seed),
        under(torch.float16),
        ops(model, narrow),
    ):
        loss(model, batch) if loss else call(model, batch)
    return replace(found, ops=tuple(_settled(wide.rows, narrow.rows)), settled=True)


class _Listener:
    """Measures what each op takes in and gives out, and hooks on to the gradients of what it gives."""

    def __init__(self) -> None:
        self.rows: list[OpRange] = []
        self.gradients: list[GradientRange] = []
        self.loss_error = ""
        self.cast: set[int] = set()  # ids of the tensors that were cast down

    def __call__(self, op: Op, run: Run) -> object:
        site, out = str(op.site), run()
        with torch.no_grad(), no_autocast():
            taken = _dense((op.args, op.kwargs))
            written = _dense(op.args[0] if op.name == "setitem" else out)
            low = [each for each in written if each.dtype in (torch.float16, torch.bfloat16)]
            given = [each for each in low if not _is_view(each, taken)]
            if given:
                wide = [each for each in taken if each.dtype == torch.float32 and each is not _mask(op)]
                wide = wide if op.name in _casting() else []
                self.cast.update(map(id, wide))
                self._measure(op, site, given, wide)
        return out

    def _measure(self, op: Op, site: str, given: list[Tensor], wide: list[Tensor]) -> None:
        measured = [_measured(each) for each in given]
        absmax = max(size for size, _, _ in measured)
        cast_absmax = max(map(_largest, wide), default=0.0)
        self.rows.append(
            OpRange(
                module=op.module,
                op=op.name,
                site=site,
                absmax=absmax,
                cast_absmax=cast_absmax,
                dtype=given[0].dtype,
                nonfinite=sum(count for _, count, _ in measured),
                exponents=np.sum([exponents for _, _, exponents in measured], axis=0),
                overflows=max(absmax, cast_absmax) >= OVERFLOW,
            )
        )
        for each in given:
            if each.requires_grad:
                each.register_hook(partial(self._hear, f"{op.module or 'model'}: {op.name}", parameter=False))  # type: ignore[no-untyped-call]

    def hear_backward(self, model: nn.Module, loss: Tensor) -> None:
        """Runs the backward, outside autocast as torch advises; parameters that nothing cast stay float32."""
        cast = (
            (name, each)
            for name, each in model.named_parameters()
            if each.requires_grad and id(each) in self.cast
        )
        hooks = [each.register_hook(partial(self._hear, name, parameter=True)) for name, each in cast]  # type: ignore[no-untyped-call]
        try:
            with no_autocast():
                loss.backward()  # type: ignore[no-untyped-call]
        except ERRORS as error:
            self.loss_error = str(error)
        finally:
            for hook in hooks:
                hook.remove()

    def _hear(self, where: str, gradient: Tensor, *, parameter: bool) -> None:
        absmax, _, exponents = _measured(gradient)
        self.gradients.append(GradientRange(where, parameter, absmax, exponents))


@contextmanager
def _grad_kept(batch: object) -> Iterator[None]:
    """Puts back the gradients of a batch that takes some; those of the model are the visit's."""
    kept = [(each, each.grad) for each in tensors(batch).values() if each.is_leaf and each.requires_grad]
    for each, _ in kept:
        each.grad = None
    try:
        yield
    finally:
        for each, grad in kept:
            each.grad = grad


@cache
def _casting() -> frozenset[str]:
    """The ops that cast all they take to the lower dtype."""
    rules = cuda_policy().items()
    return frozenset(
        name.split(".")[0] for name, rule in rules if rule in ("lower_precision_fp", "recurrent")
    )


def _mask(op: Op) -> object:
    """The mask that attention takes: its infinities are meant."""
    if op.name != "scaled_dot_product_attention":
        return None
    return op.args[3] if len(op.args) > 3 else op.kwargs.get("attn_mask")


def _dense(tree: object) -> list[Tensor]:
    found = tensors(tree).values()
    return [
        each
        for each in found
        if each.is_floating_point() and each.layout == torch.strided and not each.is_nested
    ]


def _is_view(tensor: Tensor, taken: list[Tensor]) -> bool:
    """Is it an argument seen otherwise? One that was written to in place is not."""
    memory = tensor.untyped_storage().data_ptr()
    return all(tensor is not each for each in taken) and any(
        memory == each.untyped_storage().data_ptr() for each in taken
    )


def _largest(tensor: Tensor) -> float:
    """Largest finite magnitude, in one pass where nothing masks or is not finite: a weight is large."""
    if not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor.detach())
    largest = max(-float(low), float(high))
    return largest if largest < MASK else _measured(tensor)[0]  # NaN compares false


def _measured(tensor: Tensor) -> tuple[float, int, np.ndarray]:
    """Largest finite magnitude, how many numbers are infinite or NaN, and counts by binary exponent."""
    sizes = tensor.detach().float().abs().flatten()
    numbers = sizes[(sizes > 0) & (sizes < MASK)]
    exponents = torch.frexp(numbers).exponent - 1  # frexp's fraction is in [0.5, 1)
    counts = torch.bincount((exponents - LOWEST).long(), minlength=BINS).cpu().numpy()
    nonfinite = sizes.numel() - int(sizes.isfinite().sum())
    return float(numbers.max()) if numbers.numel() else 0.0, nonfinite, counts


def _near(row: OpRange) -> bool:
    """Does it take a run in float16 to tell whether the op stays finite?"""
    large = max(row.absmax, row.cast_absmax) >= OVERFLOW * 2**-ROUNDING
    return large or row.op in INNER or share_lost(row.exponents) > 0


def _settled(wide: list[OpRange], narrow: list[OpRange]) -> Iterator[OpRange]:
    """What the run in float16 says up to its first overflow; what bfloat16 says from there on."""
    alike = finite = True
    for row, other in zip_longest(wide, narrow[: len(wide)]):
        alike = alike and other is not None and (row.module, row.op) == (other.module, other.op)
        overflows = row.overflows
        if alike and other.dtype != torch.float16:
            overflows = False  # the model asks for bfloat16 here, whatever autocast's dtype
        elif alike and finite:
            overflows = other.nonfinite > row.nonfinite or other.cast_absmax >= OVERFLOW
        finite = finite and not overflows
        yield replace(row, overflows=overflows)
