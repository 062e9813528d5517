"""Run the study and print its table; exit code 1 where a bar is missed."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.dtypes_study.cost import memory_at_7b, share_of_a_forward
from benchmarks.dtypes_study.invisible import ARCHITECTURES, PRECISIONS, differences
from benchmarks.dtypes_study.mutants import mutants
from benchmarks.dtypes_study.study import Tally, study
from benchmarks.dtypes_study.zoo import ZOO
from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.diagnostics.dtypes.trace import trace
from trainlab.progress import track
from trainlab.visit import visit

__all__ = ["alarms", "main", "table"]

SHARE, GIGABYTES = 0.15, 2.0  # bars: of a forward at 100 M parameters in float32; for a model of 7 B


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at every mutant, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dtypes_study", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="look at every n-th mutant, and measure no cost")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch's prototypes; the study counts errors
    tally = study(track(list(mutants())[:: given.every], label="mutants"))
    false = alarms()
    print(f"{table(tally)}\n\nclean models: {len(ZOO)}, alarms: {len(false)}")
    missed = [*tally.wrong, *false]
    if given.every == 1:
        if tally.models < 200 or len(ZOO) < 12:
            missed.append(f"{tally.models} mutants of {len(ZOO)} architectures are too few")
        missed += _disturbed() + _cost()
    print("\n" + ("\n".join(f"bar missed: {line}" for line in missed) or "every bar is met"))
    return 1 if missed else 0


def table(tally: Tally) -> str:
    """The room beside its peers."""
    lines = [
        f"{tally.models} mutants of {len(ZOO)} architectures; {tally.crashing} crash natively, at {tally.sites} sites in all",
        "",
        f"{'crash sites':<46}{'precision':>10}{'recall':>8}{'text to the letter':>20}",
    ]
    for way, label in (("fake", "dtypes: fake run, kernels asked"), ("real", "dtypes: real run")):
        found, false = tally.found[way], tally.false[way]
        precision, recall = found / max(1, found + false), found / max(1, tally.sites)
        text = f"{tally.same_text[way]} of {found}"
        lines.append(f"{label:<46}{precision:>10.3f}{recall:>8.3f}{text:>20}")
    recall = tally.crashing / max(1, tally.sites)
    crashing = max(1, tally.crashing)
    effort = f"; on average {tally.changes / crashing:.2f} lines, {tally.runs / crashing:.1f} native runs"
    effort += f"; {tally.last_resort} by casting all"
    lines += [
        f"{'a native run, which stops at the first':<46}{1:>10.3f}{recall:>8.3f}{'all':>20}",
        "",
        f"crashing models that are flagged: dtypes {tally.crashing}, a FakeTensor run alone {tally.flagged_by_meta}",
        f"the fake run fell back to a real one on {tally.fell_back} of {tally.models}",
        "",
        f"{'fixes that let a new native run pass':<46}{'fixed':>10}",
        f"{'dtypes, its lines pasted':<46}{tally.fixed:>10} of {tally.crashing}{effort}",
        f"{'everything cast to the majority dtype':<46}{tally.fixed_by_majority:>10} of {tally.crashing}",
    ]
    return "\n".join(lines)


def alarms() -> list[str]:
    """What the room finds in the clean models."""
    lines = []
    for architecture in ZOO:
        model, batch = architecture.build()
        for fake in (False, True):
            with visit(model):
                found = find_sites(model, batch, fake=fake)
            lines += [f"{architecture.name}: alarm in a clean model: {site}" for site in found.sites]
    return lines


def _disturbed() -> list[str]:
    """What differs in any bit while the trace listens: outputs, gradients, buffers, random numbers, errors."""
    lines, pairs = [], 0
    for architecture in ARCHITECTURES:
        for precision in PRECISIONS:
            for train in (False, True):
                differing = differences(architecture, precision, partial(trace, statistics=True), train=train)
                pairs += 1
                lines += [f"{architecture.name}, {precision}, train={train}: {name}" for name in differing]
    print(f"\n{pairs} pairs of runs, traced and not: {len(lines)} outputs or gradients differ in a bit")
    return lines


def _cost() -> list[str]:
    shares, memory = share_of_a_forward(), memory_at_7b()
    for name, share in shares.items():
        print(f"all sites at 96 M parameters, 4×128 tokens, {name}: {share:.3f} of a forward")
    print(f"a 7 B-shaped Llama: {memory:.2f} GB in all, torch included")
    missed = [
        f"{name}: {share:.3f} of a forward > {SHARE}"
        for name, share in shares.items()
        if "float32" in name and share > SHARE
    ]
    return missed + ([f"7 B: {memory:.2f} GB"] if memory > GIGABYTES else [])


if __name__ == "__main__":
    sys.exit(main())
