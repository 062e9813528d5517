"""The probe: runs the model on the batch and on the same batch with its samples swapped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trainlab.diagnostics.variation.movement import UNKNOWN, Movement, compare
from trainlab.diagnostics.variation.outputs import (
    Range,
    along,
    distances,
    rank,
    rows,
    small,
    token_axes,
    variation_of_target,
)
from trainlab.diagnostics.variation.passes import Passes, at_least, has_left_init, orders
from trainlab.diagnostics.variation.result import VariationResult
from trainlab.diagnostics.variation.sources import Reading, Source, read
from trainlab.progress import track
from trainlab.visit import call, resolution, tensors, visit, watch, without_target

if TYPE_CHECKING:
    from trainlab.subjects import Checkpoint

__all__ = ["probe"]


def probe(
    model: nn.Module,
    batch: object,
    *,
    fresh: nn.Module | None = None,
    ckpt: Checkpoint | None = None,
    pairs: int = 16,
    train: bool = False,
    seed: int = 0,
    content: str = "",
    output: str = "",
    target: str = "",
    batch_axis: int | None = None,
) -> VariationResult:
    """Measures how the output and every layer move when samples of the batch are swapped.

    Each forward starts from the same seed, so a row sees the same dropout mask whoever sits in it, and the noise
    cancels. Cost: ``4 + (1 + inputs) × pairs / samples`` forwards without gradients, and two of ``fresh``; up to
    65 536 elements of each layer's output are kept meanwhile.

    Args:
        model: Any module; left as it was found.
        batch: Two or more samples as the model takes them, and perhaps their target.
        fresh: The same architecture at init, where it can be built; tells a zero-initialised head from a dead one.
        ckpt: The checkpoint that the weights came from; its step tells whether they have been trained.
        pairs: Compare at least this many pairs of samples, in whole turns of the batch.
        train: Run in training mode: dropout on, batch statistics.
        seed: Where the random numbers of each forward start.
        content: Name of the input that carries the content; the first rich one by default.
        output: Name of the output to measure, e.g. ``logits``; the first floating one with a batch axis by default.
        target: Name of the target in the batch; target, targets, label, labels or y by default.
        batch_axis: Which axis is the batch: 0 by default, 1 where torch's layers say ``batch_first=False``.

    Returns:
        The result; of the model's outputs only a few samples are kept.

    Raises:
        NotApplicable: The batch has one sample, all samples are the same, or no output has a batch axis.
        SubjectError: The model does not take the batch, or not its samples in another order.
        UsageError: A name is not in the batch or the output.
    """
    first_axis = 0 if batch_axis is None else batch_axis
    if batch_axis is None and _is_sequence_first(model, batch, target):
        first_axis = 1
    reading = read(model, batch, content=content, target=target, axis=first_axis)
    ways = orders(reading.samples, pairs, seed)
    passes = Passes(model, reading, train=train, seed=seed, wanted=output)
    kinds = {"all": reading.swappable} | {passes.label(source): (source,) for source in reading.swappable}
    turns = [(label, sources, order) for label, sources in kinds.items() for order in ways]
    for label, sources, order in track(turns, label="variation: swapping samples"):
        passes.swap(label, sources, order)
    passes.floors()
    start = None
    if fresh is not None:
        start = Passes(fresh, reading, train=train, seed=seed, wanted=output)
        start.swap("all", reading.swappable, ways[0])
    values = passes.output.values
    shown = rows(values, reading)
    apart, cosine = distances(shown)
    moved, floor, seen = passes.movement("all"), passes.floor(), Range.of(values)
    aim = None if reading.target is None else Range.of(reading.target)
    return VariationResult(
        **_layers(model, passes, start),
        **_sources(passes, ways),
        **_swaps(passes),
        **_axes(passes),
        output_name=passes.output.name,
        output_dtype=str(values.dtype).removeprefix("torch."),
        output_shape="×".join(map(str, values.shape)),
        output_variation=moved.variation,
        output_typical=moved.typical,
        output_floor=floor.variation,
        output_typical_floor=floor.typical,
        output_repeat=passes.movement("repeat").variation,
        output_noise=passes.movement("noise").variation,
        output_fresh=math.nan if start is None else start.movement("all").larger,
        output_minimum=seen.minimum,
        output_maximum=seen.maximum,
        output_mean=seen.mean,
        output_std=seen.std,
        output_at_edge=seen.at_edge,
        output_nan=seen.nan,
        output_inf=seen.inf,
        output_elements=values.numel(),
        output_rank=rank(shown),
        output_distance=apart,
        output_cosine=cosine,
        output_samples=small(values, reading),
        content_samples=small(reading.tensor(reading.content), reading),
        target_name=reading.target_name,
        target_variation=math.nan
        if reading.target is None
        else variation_of_target(reading.target, ways, reading),
        target_minimum=aim.minimum if aim else math.nan,
        target_maximum=aim.maximum if aim else math.nan,
        target_at_edge=aim.at_edge if aim else math.nan,
        model_name=type(model).__name__,
        samples=reading.samples,
        pairs=len(ways) * reading.samples,
        train=train,
        trained=has_left_init(model, fresh, ckpt),
    )


def _is_sequence_first(model: nn.Module, batch: object, target: str) -> bool:
    """Whether a layer with ``batch_first=False`` takes an input of the batch as it is: its axis 1 is the batch."""
    if all(getattr(module, "batch_first", True) for module in model.modules()):
        return False
    inputs = [t for t in tensors(batch).values() if t.dim() == 3]
    found = False

    def heard(_: str, module: nn.Module, given: object, __: object) -> None:
        nonlocal found
        if getattr(module, "batch_first", True) is False:
            taken = [t for t in tensors(given).values() if t.dim() == 3]
            found = found or any(
                a.shape == b.shape and torch.equal(a.to(b), b) for a in taken for b in inputs
            )

    with visit(model, seed=0), watch(model, heard):
        call(model, without_target(model, batch, target)[0])
    return found


def _layers(model: nn.Module, passes: Passes, start: Passes | None) -> dict[str, Any]:
    listener = passes.listener
    keys = list(listener.calls)
    calls = [listener.calls[key] for key in keys]
    moved = [listener.movement(key, "all") for key in keys]
    floors = [
        at_least(
            resolution(heard.dtype), listener.movement(key, "repeat"), listener.movement(key, "rounding")
        )
        for key, heard in zip(keys, calls, strict=True)
    ]
    fresh = [
        start.listener.movement(key, "all").larger if start and key in start.listener.calls else math.nan
        for key in keys
    ]

    def entering(label: str) -> np.ndarray:
        return _array(listener.input_movement(key, label) for key in keys)

    return {
        "layer_name": tuple(name or type(model).__name__ for name, _ in keys),
        "layer_call": np.array([number for _, number in keys], dtype=np.int64),
        "layer_kind": tuple(heard.kind for heard in calls),
        "layer_variation": _array(m.variation for m in moved),
        "layer_typical": _array(m.typical for m in moved),
        "layer_floor": _array(m.variation for m in floors),
        "layer_typical_floor": _array(m.typical for m in floors),
        "layer_input": entering("all"),
        "layer_input_floor": np.maximum(entering("repeat"), entering("rounding")),
        "layer_fresh": _array(fresh),
        "layer_tokens": _array(Movement.of(heard.tokens).variation for heard in calls),
        "layer_tokens_input": _array(_largest(heard.tokens_input) for heard in calls),
        "layer_dead_units": _array(
            math.nan if heard.unit_moved is None else float((heard.unit_moved == 0).double().mean())
            for heard in calls
        ),
        "layer_nan": np.array([int(heard.nan) for heard in calls], dtype=np.int64),
        "layer_inf": np.array([int(heard.inf) for heard in calls], dtype=np.int64),
        "layer_elements": np.array([heard.shape.numel() for heard in calls], dtype=np.int64),
        "layer_dtype": tuple(str(heard.dtype).removeprefix("torch.") for heard in calls),
    }


def _sources(passes: Passes, ways: list[torch.Tensor]) -> dict[str, Any]:
    reading = passes.reading
    own, moved, broken, reasons = [], [], [], []
    for source in reading.sources:
        tensor = reading.tensor(source) if source.path or source.shape != "number" else None
        reason = source.reason or passes.refused.get(passes.label(source), "")
        reasons.append(reason)
        moved.append(UNKNOWN if reason else passes.movement(passes.label(source)))
        broken.append(
            0 if tensor is None or not tensor.is_floating_point() else int((~tensor.isfinite()).sum())
        )
        own.append(math.nan if tensor is None or source.reason else _own(reading, source, ways))
    return {
        "source_name": tuple(source.name for source in reading.sources),
        "source_role": tuple(source.role for source in reading.sources),
        "source_shape": tuple(source.shape for source in reading.sources),
        "source_own": _array(own),
        "source_variation": _array(m.variation for m in moved),
        "source_typical": _array(m.typical for m in moved),
        "source_nonfinite": np.array(broken, dtype=np.int64),
        "source_elsewhere": _array(passes.elsewhere(passes.label(source)) for source in reading.sources),
        "source_reason": tuple(reasons),
    }


def _swaps(passes: Passes) -> dict[str, Any]:
    listener, sources = passes.listener, passes.reading.sources
    labels = ["" if source.reason else passes.label(source) for source in sources]
    moved = [[listener.movement(key, label) for label in labels] for key in listener.calls]
    entering = [
        [listener.input_movement(key, label) if label else math.nan for label in labels]
        for key in listener.calls
    ]
    shape = (len(listener.calls), len(sources))
    return {
        "swap_variation": np.array([[m.variation for m in row] for row in moved], np.float64).reshape(shape),
        "swap_typical": np.array([[m.typical for m in row] for row in moved], np.float64).reshape(shape),
        "swap_input": np.array(entering, np.float64).reshape(shape),
    }


def _own(reading: Reading, source: Source, ways: list[torch.Tensor]) -> float:
    tensor = reading.tensor(source)
    others = [tensors(reading.swapped(order, (source,)))[source.path] for order in ways]
    return Movement.of(torch.stack([compare(tensor, other) for other in others]).sum(0)).variation


def _axes(passes: Passes) -> dict[str, Any]:
    values, reading = passes.output.values, passes.reading
    given = reading.tensor(reading.content)
    axes = token_axes(values, reading)
    content = given if given.dim() == values.dim() or given.dim() == 2 else given.new_empty(())
    return {
        "axis": np.array(axes, dtype=np.int64),
        "axis_size": np.array([values.shape[axis] for axis in axes], dtype=np.int64),
        "axis_variation": _array(along(values, axis) for axis in axes),
        "axis_content": _array(along(content, axis) for axis in axes),
    }


def _largest(sums: Iterable[torch.Tensor]) -> float:
    known = [value for each in sums if not math.isnan(value := Movement.of(each).variation)]
    return max(known, default=math.nan)


def _array(values: Iterable[float]) -> np.ndarray:
    return np.array(list(values), dtype=np.float64)
