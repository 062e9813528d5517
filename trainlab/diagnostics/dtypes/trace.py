"""One run of a model, told op by op: which dtypes went in and came out, and what cast them.

What is exact: the dtypes, shapes, places and values of every op that `ops` hears. What is concluded: the
casts, from the dtypes of a call and of its result, see `casts`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from trainlab.diagnostics.dtypes.casts import Cast, Caster, autocast_off, dtype_name, in_place
from trainlab.visit.ops import Op, Run, Site, ops

__all__ = ["Row", "Trace", "trace"]


class Row(NamedTuple):
    """One op that the model ran.

    Attributes:
        module: Qualified name of the module that ran it, ``""`` for the model itself.
        op: Name of the op, as `ops` tells it.
        site: The line of the user's code.
        inputs, input_shapes: dtype and shape of each tensor that went in, in the order of the arguments; a
            nested tensor's shape is ``()``.
        outputs, output_shapes: Likewise of each tensor that came out.
        autocast: The dtype that autocast was set to for the op's device, ``""`` where it was off.
        opaque: TorchScript: what happened inside is not known.
        low, high: Least and greatest value of the floating outputs; NaN where one of them is NaN, None where
            none was read: no statistics asked, no new values (views), no floating output.
        nan, inf: How many values are NaN, and infinite; on a GPU, 1 where there are some.
        sources: Rows that last wrote the storage of each floating input; -1 for the batch and the weights.
        fed: Whether the batch or a weight brought a value in that is not finite; told on the CPU alone.
    """

    module: str
    op: str
    site: Site
    inputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    autocast: str
    opaque: bool
    low: float | None = None
    high: float | None = None
    nan: int = 0
    inf: int = 0
    sources: tuple[int, ...] = ()
    fed: bool = False

    @property
    def absmax(self) -> float | None:
        """The greatest magnitude among the floating outputs; None where none was read."""
        return None if self.low is None or self.high is None else max(-self.low, self.high)

    @property
    def finite(self) -> bool:
        """Whether nothing non-finite was seen in the outputs."""
        return not self.nan and not self.inf


class Trace(NamedTuple):
    """The ops of one run in the order in which they ended, and their casts in the same order.

    Attributes:
        rows: One for each op that ran to its end.
        casts: Likewise of their casts.
        raised: The op whose error ended the run, without outputs; None where there was no error, or no op's.
    """

    rows: tuple[Row, ...]
    casts: tuple[Cast, ...]
    raised: Row | None = None

    @property
    def born(self) -> tuple[int, ...]:
        """The rows whose output is not finite while every input is, in order.

        An infinity that a mask puts in on purpose is among them.
        """
        sick = {i: row for i, row in enumerate(self.rows) if not row.finite}
        return tuple(i for i, row in sick.items() if not row.fed and not sick.keys() & row.sources)


@contextmanager
def trace(model: nn.Module, *, statistics: bool = False) -> Iterator[Callable[[], Trace]]:
    """Records every op that runs inside; what it gives is called for the `Trace`, outside again.

    ::

        with visit(model), torch.autocast("cpu", torch.bfloat16), trace(model) as finish:
            call(model, batch)
        finish().rows

    The trace holds no tensors.

    Cost: some 20 µs an op; with statistics each new value is read once more, on its own device, and fetched
    when `finish` is called.

    Args:
        model: Gives modules, parameters and buffers their names.
        statistics: Also the least and greatest value of each output, and what is not finite.
    """
    recorder = _Recorder(model, statistics=statistics)
    with recorder.caster.hearing_the_cache(), ops(model, recorder):
        yield recorder.finish


class _Recorder:
    """Stands around each op and writes its row."""

    def __init__(self, model: nn.Module, *, statistics: bool) -> None:
        self.caster = Caster(model)
        self.rows: list[Row] = []
        self.casts: list[Cast] = []
        self.raised: Row | None = None
        self.values = _Values() if statistics else None

    def __call__(self, op: Op, run: Run) -> object:
        inputs = self.caster.inputs(op)
        dtypes = tuple([dtype_name(tensor.dtype) for _, tensor in inputs])
        shapes = tuple([_shape(tensor) for _, tensor in inputs])  # now: the call may resize what it is given
        try:
            result = run()
        except Exception:
            # The innermost op of those that the error passes; a later op that runs says that it was caught
            low = self.caster.autocast_dtype(inputs[0][1].device.type) if inputs else None
            self.raised = self.raised or _row(op, dtypes, shapes, (), low)
            raise
        self.raised = None
        outputs = _outputs(op.args[0] if op.name == "setitem" else result)
        if not outputs:
            return result
        index = len(self.rows)
        low = self.caster.autocast_dtype((inputs[0][1] if inputs else outputs[0]).device.type)
        self.rows.append(_row(op, dtypes, shapes, outputs, low))
        self.casts.extend(self.caster.casts(index, op, inputs, outputs, low))
        if self.values is not None:
            self.values.read(index, [tensor for _, tensor in inputs], outputs, written=in_place(op))
        return result

    def finish(self) -> Trace:
        """The trace; fetches the statistics."""
        rows = self.rows if self.values is None else self.values.told(self.rows)
        return Trace(tuple(rows), tuple(self.casts), self.raised)


def _row(
    op: Op,
    dtypes: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
    outputs: Sequence[Tensor],
    low: torch.dtype | None,
) -> Row:
    return Row(
        op.module,
        op.name,
        op.site,
        dtypes,
        shapes,
        tuple([dtype_name(tensor.dtype) for tensor in outputs]),
        tuple([_shape(tensor) for tensor in outputs]),
        dtype_name(low) if low else "",
        op.opaque,
    )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return () if tensor.is_nested else tuple(tensor.shape)


def _outputs(result: object) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for each in result for tensor in _outputs(each)]
    return []


@dataclass
class _Values:
    """Reads the outputs where they are, and fetches what was read in one go."""

    ends: dict[tuple[torch.device, torch.dtype], list[tuple[int, Tensor]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    sources: dict[int, tuple[int, ...]] = field(default_factory=dict)
    fed: set[int] = field(default_factory=set)
    writer: dict[int, int] = field(default_factory=dict)  # row that last wrote a storage, by its address

    def read(self, row: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, written: bool) -> None:
        """Reads the outputs of a row that hold new values."""
        floats = {_address(tensor): tensor for tensor in inputs if _is_readable(tensor)}
        self.sources[row] = tuple([self.writer.get(address, -1) for address in floats])
        given = [tensor for address, tensor in floats.items() if address not in self.writer]
        for tensor in outputs:
            if _is_readable(tensor) and (written or _address(tensor) not in floats):  # no view
                with autocast_off(tensor.device.type):
                    self._read(row, tensor.detach(), given)
                self.writer[_address(tensor)] = row

    def _read(self, row: int, values: Tensor, given: Sequence[Tensor]) -> None:
        ends = torch.stack(torch.aminmax(values))
        self.ends[values.device, values.dtype].append((row, ends))
        if values.device.type == "cpu" and not all(map(math.isfinite, ends.tolist())):
            nan, inf = self.counts.get(row, (0, 0))
            self.counts[row] = nan + int(values.isnan().sum()), inf + int(values.isinf().sum())
            address = _address(values)
            if not all(_address(tensor) == address or tensor.isfinite().all() for tensor in given):
                self.fed.add(row)

    def told(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with their statistics."""
        found: dict[int, list[float]] = defaultdict(list)
        for (device, _), read in self.ends.items():
            with autocast_off(device.type):
                fetched = torch.stack([ends for _, ends in read]).tolist()
            for (row, _), ends in zip(read, fetched, strict=True):
                found[row] += ends
        return [self._told(i, row, found.get(i, [])) for i, row in enumerate(rows)]

    def _told(self, index: int, row: Row, ends: list[float]) -> Row:
        sources = self.sources[index]
        if not ends:
            return row._replace(sources=sources)
        some = any(map(math.isnan, ends)), any(map(math.isinf, ends))
        nan, inf = self.counts.get(index, some)
        low, high = (math.nan, math.nan) if some[0] else (min(ends), max(ends))
        fed = index in self.fed
        return row._replace(low=low, high=high, nan=int(nan), inf=int(inf), sources=sources, fed=fed)


def _is_readable(tensor: Tensor) -> bool:
    """Whether it holds floating values that can be read: not nested, inside vmap, fake or on meta."""
    plain = type(tensor) is Tensor or type(tensor) is nn.Parameter
    return (
        plain
        and not tensor.is_nested
        and tensor.is_floating_point()
        and tensor.element_size() > 1  # aminmax knows no float8
        and tensor.numel() > 0
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not is_functorch_wrapped_tensor(tensor)
    )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
