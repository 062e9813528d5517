"""A diagnostic such as a user makes in a notebook cell, for tests of the kernel."""

from __future__ import annotations

import dataclasses
import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure, SubFigure
from torch import nn

from trainlab.diagnostic import Diagnostic, View
from trainlab.errors import NotApplicable
from trainlab.finding import Evidence, Outcome, rule
from trainlab.result import Result, column
from trainlab.visit import call, tensors, visit

if find_spec("torchvision") and "+cpu" in torch.__version__:
    # timm and transformers import it; beside a CPU build of torch it asks for compiled operators that no test calls
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.set_num_threads(1)  # test processes run side by side,
os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so do the kernels and commands that they start


class SpreadResult(Result, kind="spread"):
    """How far the outputs spread."""

    spread: float
    output_name: tuple[str, ...] = column("output")
    output_std: np.ndarray = column("output")


@dataclasses.dataclass(frozen=True)
class SpreadLimits:
    """Thresholds."""

    spread_min: float = 0.01  # standard deviations of the output


def probe(model: nn.Module, batch: object, *, scale: float = 1.0, train: bool = False) -> SpreadResult:
    with visit(model, train=train), torch.no_grad():
        outputs = tensors(call(model, batch))
    first = next(iter(outputs.values()))
    if len(first) < 2:
        raise NotApplicable(
            "one sample has no spread", seen=f"batch of {len(first)}", fix="give two samples or more"
        )
    stds = np.array([float(value.std()) * scale for value in outputs.values()], dtype=np.float32)
    return SpreadResult(float(stds.max()), tuple(outputs), stds)


@rule("SPR001", "Outputs spread")
def spreads(result: SpreadResult, limits: SpreadLimits) -> Outcome:
    """What: the standard deviation of every output.

    Why: a constant output carries nothing.
    Fix: look at the last layer.
    """
    evidence = Evidence(result.output_name[0], result.spread, limits.spread_min)
    if result.spread < limits.spread_min:
        return Outcome.fail("the outputs are all alike", evidence, fix="look at the last layer")
    return Outcome.ok(f"spread {result.spread:.3g}", evidence)


@rule("SPR002", "There are two outputs")
def two(result: SpreadResult, limits: SpreadLimits) -> Outcome:
    """What: a second output.

    Why: it shows a skip.
    Fix: none is needed.
    """
    if len(result.output_name) < 2:
        raise NotApplicable("the model has one output")
    return Outcome.ok("two outputs")


def bars(
    result: SpreadResult, figure: Figure | SubFigure, *, logarithmic: bool = False, colour: str = "#0072b2"
) -> None:
    axes = figure.add_subplot()
    axes.bar(result.output_name, result.output_std, color=colour, log=logarithmic)
    axes.set_ylabel("standard deviation")


def nothing(result: SpreadResult, figure: Figure | SubFigure) -> None:
    raise NotApplicable("the outputs are no images")


def example() -> dict[str, object]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "model": nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)),
            "batch": torch.randn(8, 3),
        }


@pytest.fixture
def spread() -> Diagnostic:
    """A whole diagnostic: two rules, two views, knobs and an example."""
    return Diagnostic(
        name="spread",
        question="Do the outputs spread?",
        probe=probe,
        result=SpreadResult,
        limits=SpreadLimits,
        rules=(spreads, two),
        views=(
            View(
                "bars",
                "spread of each output",
                bars,
                {"logarithmic": False, "colour": ["#0072b2", "#d55e00"]},
            ),
            View("nothing", "never anything", nothing),
        ),
        rerun={"scale": (0.5, 2.0, 0.5), "train": False},
        example=example,
    )


@pytest.fixture(scope="session")
def fresh_modules():
    """Runs code in a fresh process and returns the modules that it loaded."""
    import json
    import subprocess
    import sys

    def run(code: str) -> set[str]:
        script = f"{code}\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
        )
        return set(json.loads(done.stdout.splitlines()[-1]))

    return run


@pytest.fixture
def trainlab():
    """Runs the command with these arguments; anything but an exit rises."""
    from click.testing import CliRunner

    from trainlab.cli import main

    def run(*args):
        done = CliRunner().invoke(main, list(map(str, args)), prog_name="trainlab")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run
