"""Does one run in bfloat16 foretell what overflows in float16? `python -m benchmarks.dtypes_forecast [cases]`

Each case takes an architecture of the study and scales one of its weights, until the largest value that
enters or leaves an op in the lower dtype is a chosen distance from float16's edge: 2**-1 to 2**1 of it, every
fifth one within 2**±0.05, and every seventh one of the small kind, where a denominator becomes 0. The truth is a
real run under rehearsed float16: the first op that gives a number that is not finite, where the unscaled model
gave one that is, or that casts a finite float32 number to infinity. Where the forecast asks a run in float16 to
settle close calls, it asks what the truth asks, by other code; the rows "bfloat16 alone" say what the run in
bfloat16 would tell by itself, of values that grow large and of denominators that become 0. It exits with 1 where
a bar is missed.
"""

from __future__ import annotations

import contextlib
import io
import math
import random
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.dtypes_study.zoo import ZOO
from trainlab.diagnostics.dtypes.forecast import (
    DEFAULT_SCALE,
    LARGEST,
    OVERFLOW,
    Forecast,
    forecast,
    share_lost,
)
from trainlab.diagnostics.dtypes.rehearsal import rehearse_cuda
from trainlab.visit import call, tensors, visit
from trainlab.visit.ops import Op, Run, ops

Place = tuple[int, str, str]  # which call, module, op
CASTING = "linear conv1d conv2d conv_transpose1d conv_transpose2d matmul bmm baddbmm addmm einsum prelu lstm gru gru_cell"
CASTING_OPS = frozenset(CASTING.split())


class Attention(nn.Module):
    """Written by hand: the scores are a `q @ k`, which no module hook hears."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), torch.finfo(scores.dtype).min)
        return self.out(scores.softmax(-1) @ self.value(x))


class Gated(nn.Module):
    """Products of activations: what overflows is a `*`, and no weight is large."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.gate(x) * self.up(x)) + x


class Normalised(nn.Module):
    """Divides by a mean in the lower dtype: small values become 0 there, and the quotient infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        code = self.inlet(x)
        return self.outlet(code / code.abs().amax(-1, keepdim=True))


OWN: dict[str, Callable[[], nn.Module]] = {"attention": Attention, "gated": Gated, "normalised": Normalised}
# These raise under CUDA's autocast in both dtypes: half written into float32, Fourier transform of half
RAISING = ("buffers", "experts", "spectral")
NAMES = [each.name for each in ZOO if each.name not in RAISING] + [
    name for name in OWN if name != "normalised"
]


def built(name: str) -> tuple[nn.Module, object]:
    if name not in OWN:
        return next(each for each in ZOO if each.name == name).build()
    torch.manual_seed(0)
    return OWN[name]().eval(), torch.randn(2, 5, 8)


@dataclass
class Case:
    name: str
    model: nn.Module
    batch: object
    weight: str
    distance: float


def scaled(seed: int) -> Case | None:
    """A case by number; None where no scale brings the model to the edge."""
    rng = random.Random(seed)
    small = seed % 7 == 6
    name = "normalised" if small else NAMES[seed % len(NAMES)]
    model, batch = built(name)
    weights = {
        k: v for k, v in model.named_parameters() if v.ndim >= 2 and (not small or k == "inlet.weight")
    }
    weight = rng.choice(sorted(weights))
    distance = rng.uniform(-1, 1) * (0.05 if seed % 5 == 4 else 1)
    parameter = weights[weight].data
    healthy = parameter.clone()

    def size(power: float) -> float:
        parameter.copy_(healthy * 2.0**power)
        return extent(model, batch, smallest=small)

    low, high = (-40.0, 0.0) if small else (0.0, 40.0)
    target = 2.0 ** (distance - 25) if small else OVERFLOW * 2.0**distance
    if not size(low) < target < size(high):
        return None
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    size(high)
    return Case(name, model, batch, weight, distance)


def extent(model: nn.Module, batch: object, *, smallest: bool) -> float:
    """The largest number in the lower dtype or cast to it; or the smallest of the row maxima, for denominators."""
    found = []

    def around(op: Op, run: Run) -> object:
        out = run()
        if isinstance(out, Tensor) and out.dtype == torch.bfloat16:
            taken = [out, *(each for each in casting(op))]
            if smallest:
                found.extend([float(out.detach().amin())] if op.name == "amax" else [])
            else:
                sizes = [each.detach().float().abs() for each in taken]
                found.extend(float(each[each < 1e38].max()) for each in sizes if (each < 1e38).any())
        return out

    with visit(model), rehearse_cuda(torch.bfloat16), ops(model, around):
        call(model, batch)
    return min(found) if smallest else max(found)


def casting(op: Op) -> list[Tensor]:
    """The float32 tensors that an op casts down; told from a list of its own, not from torch's header."""
    taken = tensors((op.args, op.kwargs)).values() if op.name in CASTING_OPS else ()
    return [each for each in taken if each.dtype == torch.float32]


def run_in_half(model: nn.Module, batch: object) -> list[tuple[str, str, int, bool]]:
    """Module, op, how many numbers are not finite, whether a cast made an infinity; for each op that gives half."""
    rows = []

    def around(op: Op, run: Run) -> object:
        out = run()
        taken = casting(op)
        given = [each for each in tensors(out).values() if each.is_floating_point()]
        infinite = any((each.isfinite() & ~each.half().isfinite()).any() for each in taken)
        rows.append(
            (op.module, op.name, sum(int((~each.isfinite()).sum()) for each in given), bool(infinite))
        )
        return out

    with visit(model), rehearse_cuda(torch.float16), ops(model, around):
        call(model, batch)
    return rows


def truth(case: Case) -> Place | None:
    healthy = run_in_half(*built(case.name))
    found = run_in_half(case.model, case.batch)
    for index, (good, row) in enumerate(zip(healthy, found, strict=True)):
        if row[2] > good[2] or row[3]:
            return (sum(each[:2] == row[:2] for each in found[:index]), row[0], row[1])
    return None


def foretold(found: Forecast) -> Place | None:
    """The first op of a forecast; the calls of its op in its module are counted, as for the truth."""
    first = found.first
    if first is None:
        return None
    before = found.ops[: next(i for i, each in enumerate(found.ops) if each is first)]
    return (
        sum((each.module, each.op) == (first.module, first.op) for each in before),
        first.module,
        first.op,
    )


def by_threshold(found: Forecast) -> Place | None:
    """What bfloat16's numbers alone would say, without the run that settles close calls."""
    for index, each in enumerate(found.ops):
        if max(each.absmax, each.cast_absmax) >= OVERFLOW:
            before = found.ops[:index]
            return (sum((o.module, o.op) == (each.module, each.op) for o in before), each.module, each.op)
    return None


def by_debug(case: Case) -> str | None:
    """The module that transformers' DebugUnderflowOverflow stops at, in a real run in float16."""
    from transformers.debug_utils import DebugUnderflowOverflow

    text = io.StringIO()
    model = case.model
    try:
        with contextlib.redirect_stdout(text), visit(model), rehearse_cuda(torch.float16):
            DebugUnderflowOverflow(model)
            call(model, case.batch)
    except NotImplementedError:  # it takes the magnitude of every tensor, masks of bool included
        return None
    except ValueError:
        return re.findall(r"^ {18}(\S*) \w+$", text.getvalue(), re.MULTILINE)[-1]
    return None


@dataclass
class Tally:
    name: str
    hits: int = 0
    missed: int = 0
    false: int = 0
    named: int = 0
    seconds: float = 0.0

    def add(self, said: bool, so: bool, named: bool, seconds: float) -> None:
        self.hits += said and so
        self.missed += so and not said
        self.false += said and not so
        self.named += said and so and named
        self.seconds += seconds

    @property
    def shares(self) -> tuple[float, float, float]:
        return (
            self.hits / max(self.hits + self.missed, 1),
            self.hits / max(self.hits + self.false, 1),
            self.named / max(self.hits + self.missed, 1),
        )


def overflows(cases: int) -> tuple[list[Tally], list[str]]:
    """The table, and a line for each case that the forecast got wrong."""
    ours, debug = Tally("forecast"), Tally("DebugUnderflowOverflow")
    large, small = Tally("bfloat16 alone, large"), Tally("bfloat16 alone, small")
    wrong, number, seed, settled = [], 0, -1, 0
    while number < cases:
        seed += 1
        case = scaled(seed)
        if case is None:
            continue
        number += 1
        so = truth(case)
        begun = time.perf_counter()
        found = forecast(case.model, case.batch)
        told, alone = foretold(found), by_threshold(found)
        settled += found.settled
        ours.add(told is not None, so is not None, told == so, time.perf_counter() - begun)
        bare = small if case.name == "normalised" else large
        bare.add(alone is not None, so is not None, alone == so, 0.0)
        begun = time.perf_counter()
        module = by_debug(case)
        named = so is not None and module == so[1]
        debug.add(module is not None, so is not None, named, time.perf_counter() - begun)
        if told != so:
            wrong.append(f"{case.name} {case.weight} 2^{case.distance:.3f}: {told}, but {so}")
    print(f"{cases} cases, {ours.hits + ours.missed} overflow, {settled} settled by a run in float16")
    return [ours, large, small, debug], wrong


def loss(model: nn.Module, batch: object) -> Tensor:
    """Mean square of all that the model gives."""
    output = call(model, batch)
    outputs = [each for each in tensors(output).values() if each.is_floating_point() and each.requires_grad]
    return torch.stack([each.float().square().mean() for each in outputs]).sum()


def gradients_in_half(name: str, scale: float) -> dict[str, Tensor]:
    """A real backward in float16 under a loss scale."""
    model, batch = built(name)
    with rehearse_cuda():
        with torch.autocast("cuda", torch.float16):
            value = loss(model, batch)
        (value * scale).backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def gradients() -> tuple[int, int, float]:
    """How many recommended scales hold, of how many, and the largest error of a share of gradients lost."""
    held, asked, error = 0, 0, 0.0
    for name in [
        each for each in NAMES if each != "autograd-function"
    ]:  # its backward mixes dtypes, and raises
        found = forecast(*built(name), loss=loss)
        scale = found.loss_scale
        assert scale is not None
        finite = all(each.isfinite().all() for each in gradients_in_half(name, scale).values())
        burst = any(not each.isfinite().all() for each in gradients_in_half(name, 4 * scale).values())
        asked += 1
        held += finite
        rows = {row.where: row for row in found.gradients if row.parameter}
        for power in (8, 4, 0):
            half = gradients_in_half(name, 2.0**power)
            wide = {key: row.exponents.sum() for key, row in rows.items()}
            lost = sum(int(wide[key]) - int((half[key] != 0).sum()) for key in rows)
            told = sum(share_lost(row.exponents, scale=2.0**power) * wide[key] for key, row in rows.items())
            error = max(error, abs(lost - told) / sum(wide.values()))
        print(f"{name:20} scale 2^{math.log2(scale):+.0f} finite: {finite}, at four times infinite: {burst}")
    return held, asked, error


def main(cases: int = 240) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tallies, wrong = overflows(cases)
    print(f"{'':24}{'recall':>9}{'precision':>11}{'first named':>13}{'s a case':>10}")
    for each in tallies:
        recall, precision, named = each.shares
        print(f"{each.name:24}{recall:9.4f}{precision:11.4f}{named:13.4f}{each.seconds / cases:10.3f}")
    print(*wrong, sep="\n")
    held, asked, error = gradients()
    print(
        f"recommended scales that keep every gradient finite: {held} of {asked}; GradScaler begins with {DEFAULT_SCALE:.0f}"
    )
    print(
        f"largest error of a share of gradients that become 0, scales 256, 16 and 1: {error:.4f}; float16's largest is {LARGEST:.0f}"
    )
    recall, precision, named = tallies[0].shares
    return 0 if recall == 1 and precision >= 0.99 and named >= 0.99 and held == asked else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 240))
