"""Trains the zoo, plants the faults, prints the table; exit code 1 where a bar is missed. Takes about 15 minutes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from benchmarks.attention_study.fresh import FAMILIES, fresh
from benchmarks.attention_study.plant import FAULTS
from benchmarks.attention_study.study import NAIVE, Tally, alarms, look, study
from benchmarks.attention_study.zoo import HALVES, ZOO
from trainlab.progress import track

__all__ = ["main"]

RECALL, ALARMS, MODELS = 0.95, 0.01, 24  # bars
UNIFORM = {"ATT003", "ATT004"}  # what may be said of a fresh model


def main(arguments: Sequence[str] | None = None) -> int:
    """Studies every model whose name holds the given text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_study", description=__doc__)
    parser.add_argument("--only", default="", help="text in the names of the models to study")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tally = Tally()
    for subject in track([each for each in ZOO if given.only in each.name], label="models"):
        study(subject, tally)
    print(table(tally))
    missed = bars(tally, whole=not given.only)
    if not given.only:
        missed += fresh_models()
    print("\n" + "\n".join([*tally.wrong, *(f"left out: {line}" for line in tally.untrained), ""]))
    print("\n".join(f"bar missed: {line}" for line in missed) or "every bar is met")
    return int(bool(missed))


def table(tally: Tally) -> str:
    """Recall by fault and half of the zoo, the naive reading beside; alarms on healthy models."""
    lines = [f"{'planted':<26}{'rule':<9}{'calibration':>16}{'held out':>16}{'entropy / log T':>18}"]
    for fault in FAULTS:
        cells = [f"{tally.found[half, fault.name]} of {tally.planted[half, fault.name]}" for half in HALVES]
        naive = sum(tally.naive_found[half, fault.name] for half in HALVES)
        total = sum(tally.planted[half, fault.name] for half in HALVES)
        cells.append(f"{naive} of {total}" if fault.code in NAIVE else "silent")
        lines.append(f"{fault.name:<26}{fault.code:<9}{cells[0]:>16}{cells[1]:>16}{cells[2]:>18}")
    lines += ["", f"{'healthy':<35}{'calibration':>16}{'held out':>16}"]
    for label, counter in (
        ("models", tally.models), ("heads", tally.heads), ("findings", tally.judged), ("false alarms", tally.alarms),
        ("heads named in them", tally.head_alarms), ("naive: models with an alarm", tally.naive_models),
        ("naive: heads with an alarm", tally.naive_alarms),
    ):  # fmt: skip
        lines.append(f"{label:<35}{counter[HALVES[0]]:>16}{counter[HALVES[1]]:>16}")
    return "\n".join(lines)


def bars(tally: Tally, *, whole: bool) -> list[str]:
    """A line for each bar that is missed."""
    missed = []
    if whole and tally.models.total() < MODELS:
        missed.append(f"{tally.models.total()} trained models are too few")
    for half in HALVES:
        planted = sum(count for (where, _), count in tally.planted.items() if where == half)
        found = sum(count for (where, _), count in tally.found.items() if where == half)
        if found < RECALL * planted:
            missed.append(f"{found} of {planted} faults named in the {half} half")
        if tally.alarms[half] > ALARMS * tally.judged[half]:
            missed.append(f"{tally.alarms[half]} false alarms in {tally.judged[half]} findings, {half} half")
    return missed


def fresh_models() -> list[str]:
    """Prints what is said of models as they are born; a line for each that is said to have another fault."""
    wrong = []
    print("\nfresh models of Hugging Face")
    for family in FAMILIES:
        said = alarms(look(*fresh(family))[1])
        print(f"  {family:<10} {'; '.join(f'{each.code} {each.text}' for each in said) or 'no alarm'}")
        wrong += [f"fresh {family}: {each.code} {each.text}" for each in said if each.code not in UNIFORM]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
