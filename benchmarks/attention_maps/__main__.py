"""Run the study and print its tables; exit code 1 where a bar is missed."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence

import torch

from benchmarks.attention_maps.families import torchvision_on_cpu
from benchmarks.attention_maps.harm import harm, harmed, harms, recompiles
from benchmarks.attention_maps.judge import judge
from benchmarks.attention_maps.peers import peers
from benchmarks.attention_maps.study import KINDS, all_cases, bars, by_kind, wrong
from trainlab.progress import track


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at every case, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_maps", description=__doc__)
    parser.add_argument(
        "--only", default="", help="only cases whose name holds this, and what was heard of them"
    )
    parser.add_argument("--kind", default="", choices=("", *KINDS), help="only cases of this kind")
    parser.add_argument("--quick", action="store_true", help="only the maps: leave out harm and peers")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torchvision_on_cpu()
    start = time.perf_counter()
    cases = [case for case in all_cases() if given.only in case.name and given.kind in {"", case.kind}]
    if not cases:
        parser.error(f"no case is called like {given.only!r} among the kind {given.kind!r}")
    verdicts = [judge(case) for case in track(cases, label="maps")]
    if given.only:
        for v in verdicts:
            print(
                f"{v.case.name}: {v.found} of {v.maps} maps, {v.extra} false; {v.skipped or v.error or v.said}"
            )
        print()
    print(table(by_kind(verdicts)))
    if len(lines := wrong(verdicts)) > 1:
        print(f"\nnot as expected\n\n{table(lines)}")
    missed = bars(verdicts, partial=bool(given.only or given.kind))
    if not given.quick:
        found = [harm(v.case) for v in track(verdicts, label="harm") if not v.skipped and not v.error]
        print(f"\nmodels by the harm that is done to them\n\n{table(harms(found))}")
        missed += [*harmed(found), *recompiles()]
        print(f"\n{table(peers(verdicts))}")
    print("\n" + ("\n".join(f"bar missed: {line}" for line in missed) or "every bar is met"))
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if missed else 0


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns under their headings, with a rule below the first line."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


if __name__ == "__main__":
    sys.exit(main())
