"""The rule on what was varied: can the effect of each setting be told from the others'?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.comparison.limits import ComparisonLimits
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["one_at_a_time"]

NAMED = 8


@rule("CMP008", "One thing is varied at a time")
def one_at_a_time(r: ComparisonResult, limits: ComparisonLimits) -> Outcome:  # noqa: ARG001
    """What: whether the effect of each setting that was varied can be told from the others', by the rank of the design.

    Why: where learning rate and batch size always change together, the winner does not tell which of them won.
    Fix: add a run that changes one of the named settings alone.
    """
    matrix = r.matrix("setting")
    if not r.varied_name:
        return Outcome.skip("the logs tell no setting that differs between runs")
    if not matrix:
        return Outcome.ok("only seeds, names and folders differ")
    if len(matrix) == 1:
        return Outcome.ok(f"only {next(iter(matrix))} was varied")
    mixed = confounded(matrix)
    if not mixed:
        return Outcome.ok(f"the effects of {', '.join(list(matrix)[:4])} can be told apart")
    reference = r.reference
    evidence = []
    for i in r.order:
        changed = [name for name in mixed if matrix[name][i] != matrix[name][reference]]
        if len(changed) > 1:
            text = ", ".join(f"{name}={matrix[name][i] or 'not told'}" for name in changed[:4])
            evidence.append(Evidence(f"{r.run_name[i]} against {r.run_name[reference]}", text))
    names = f"{', '.join(mixed[:-1][:4])} and {mixed[-1]}"
    return Outcome.warn(
        f"{names} vary together: their effects cannot be told apart",
        *evidence[:NAMED],
        fix=f"add a run like {r.run_name[reference]} in which {mixed[0]} alone is changed",
    )


def confounded(matrix: dict[str, list[str]]) -> list[str]:
    """The settings whose effect cannot be told from the others', by the rank of the design matrix."""
    columns = {name: _levels(values) for name, values in matrix.items()}
    runs = len(next(iter(matrix.values())))
    whole = _rank(list(columns.values()), runs)
    return [
        name
        for name, own in columns.items()
        if whole - _rank([each for other, each in columns.items() if other != name], runs) < own.shape[1]
    ]


def _levels(values: list[str]) -> np.ndarray:
    """(run, level - 1) float64; one column for each value but the first."""
    return np.array([[float(value == level) for level in dict.fromkeys(values)] for value in values])[:, 1:]


def _rank(columns: list[np.ndarray], runs: int) -> int:
    return int(np.linalg.matrix_rank(np.concatenate([np.ones((runs, 1)), *columns], axis=1)))
