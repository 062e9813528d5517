"""What does it cost to trace a model's dtypes? Ratios to a plain forward, beside peers.

Run with ``python -m benchmarks.dtypes_cost``; takes about two minutes. The subject is a BERT of 110 M parameters
on 4×128 tokens. Ends with 1 where a bar is missed. torchlens takes part where it can be imported.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils._debug_mode import DebugMode
from transformers import BertConfig, BertModel
from transformers.debug_utils import DebugUnderflowOverflow

from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.diagnostics.dtypes.trace import trace
from trainlab.visit import call, visit
from trainlab.visit.ops import ops

ROUNDS = 7
TRACE, STATISTICS, SITES = "trace", "trace with statistics", "all-sites check, beside it"
BARS = {TRACE: 1.07, STATISTICS: 1.15, SITES: 0.15}
NOISE = 0.01  # a ratio is not known any better
TORCHLENS_TIMES = 5  # as much overhead at least


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = BertModel(BertConfig()).eval()
    batch = {"input_ids": torch.randint(0, 1000, (4, 128))}
    missed = False
    for precision in ("float32", "bfloat16"):
        ratios = measured(model, batch, precision)
        print(f"\n{precision}: one plain forward takes {ratios.pop('seconds'):.2f} s")
        for name, ratio in ratios.items():
            verdict = ""
            if name in BARS:
                verdict = f"≤ {BARS[name]:.2f} {'met' if ratio <= BARS[name] else 'MISSED'}"
                missed |= ratio > BARS[name]
            print(f"  {name:32} {ratio:6.3f}×  {verdict}")
        if "torchlens" in ratios:
            times = (ratios["torchlens"] - 1) / max(ratios[TRACE] - 1, NOISE)
            missed |= times < TORCHLENS_TIMES
            print(f"  torchlens has some {times:.0f} times the overhead of trace")
    return int(missed)


def measured(model: nn.Module, batch: dict[str, torch.Tensor], precision: str) -> dict[str, float]:
    """What each contestant takes as a ratio to a plain forward."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def under(context: Callable[[], AbstractContextManager[object]]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad(), autocast, context() as finish:
                call(model, batch)
            if callable(finish):
                finish()

        return run

    plain = under(nullcontext)
    contestants = {
        "ops heard, nothing done": under(lambda: ops(model, lambda _, run: run())),
        TRACE: under(lambda: trace(model)),
        STATISTICS: under(lambda: trace(model, statistics=True)),
        "DebugMode": under(lambda: DebugMode(record_torchfunction=True, record_nn_module=True)),
    }
    if precision == "float32":
        contestants[SITES] = sites(model, batch)
    contestants["DebugUnderflowOverflow"] = under(lambda: underflow(model))
    plain()  # warm up
    ratios = {"seconds": seconds(plain), **{name: ratio(run, plain) for name, run in contestants.items()}}
    if importlib.util.find_spec("torchlens"):  # last, as it leaves torch wrapped
        ratios["torchlens"] = ratio(under_torchlens(model, batch, autocast), plain)
    return ratios


@contextmanager
def underflow(model: nn.Module) -> Iterator[None]:
    """The peer has no way to take its hooks off again."""
    before = {module: OrderedDict(module._forward_hooks) for module in model.modules()}  # noqa: SLF001
    DebugUnderflowOverflow(model)
    try:
        yield
    finally:
        for module, hooks in before.items():
            module._forward_hooks = hooks  # noqa: SLF001


def under_torchlens(
    model: nn.Module, batch: dict[str, torch.Tensor], autocast: AbstractContextManager[object]
) -> Callable[[], object]:
    import torchlens

    def run() -> None:
        with torch.no_grad(), autocast:
            torchlens.trace(model, [], batch, save=None)  # metadata only

    return run


def sites(model: nn.Module, batch: object) -> Callable[[], object]:
    def run() -> None:
        with visit(model):
            find_sites(model, batch)

    return run


def ratio(run: Callable[[], object], plain: Callable[[], object]) -> float:
    """The best of some rounds that alternate, in CPU time: the machine may be shared."""
    run()  # warm up
    rounds = [(seconds(run), seconds(plain)) for _ in range(ROUNDS)]
    ours, theirs = map(min, zip(*rounds, strict=True))
    return ours / theirs


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
