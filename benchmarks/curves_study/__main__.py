"""Run the study and print its tables; exit code 1 where a bar is missed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves_study.real import real
from benchmarks.curves_study.study import Score, over_synthetic, scored, total

BAR = 0.95
LEAST = 200  # synthetic cases
HALVES = {"calibration": range(0, 20, 2), "held-out": range(21, 41, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at every case, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves_study", description=__doc__)
    parser.add_argument("--logs", type=Path, help="the folder of the real logs")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="both")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    missed: list[str] = []
    for half in HALVES if given.half == "both" else (given.half,):
        scores, alarms, count = over_synthetic(HALVES[half])
        print(f"\n{half}: {count} synthetic curves\n\n{table(scores)}")
        missed += [f"{half}: {line}" for line in bars(scores)]
        missed += [f"{half}: must not fire: {line}" for line in alarms]
        missed += [f"{half}: {count} curves, {LEAST} are asked"] if count < LEAST else []
    if given.logs is not None:
        scores, _, count = scored(real(given.logs))
        print(f"\nreal: {count} logs\n\n{table(scores)}")
        missed += [f"real: {line}" for line in bars({"all": total(scores)})]
    else:
        print("\nreal logs: not looked at (--logs FOLDER)")
    print("\n" + ("\n".join(f"bar missed: {line}" for line in missed) or "every bar is met"))
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if missed else 0


def table(scores: dict[str, Score]) -> str:
    """Each rule in a row, then all together, then what went wrong."""
    lines = [f"{'rule':8}{'said':>6}{'missed':>8}{'wrong':>7}{'precision':>11}{'recall':>8}"]
    for code, score in [*sorted(scores.items()), ("all", total(scores))]:
        lines.append(
            f"{code:8}{score.hit:6}{score.missed:8}{score.wrong:7}{score.precision:11.3f}{score.recall:8.3f}"
        )
    lines += [f"  {code} {note}" for code, score in sorted(scores.items()) for note in score.notes]
    return "\n".join(lines)


def bars(scores: dict[str, Score]) -> list[str]:
    """Rules below the bar."""
    return [
        f"{code}: precision {score.precision:.3f}, recall {score.recall:.3f}"
        for code, score in sorted(scores.items())
        if min(score.precision, score.recall) < BAR
    ]


sys.exit(main())
