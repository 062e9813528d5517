"""A comparison as files: ``results.csv`` for programs, ``results.md`` for an experiment diary."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainlab.diagnostics.comparison.drawing import duration, figures, number_of
from trainlab.diagnostics.comparison.limits import ComparisonLimits
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.diagnostics.comparison.rules import RULES
from trainlab.errors import UsageError
from trainlab.finding import Level
from trainlab.markup import number
from trainlab.result import write_whole

__all__ = ["markdown", "table", "write"]

ROWS = 30  # of the ranking in the summary


def write(result: ComparisonResult, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Writes ``results.csv`` and ``results.md`` into a folder, which is made; each appears whole or not at all."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {str(place)!r}", seen=error.strerror, fix="another folder"
        ) from error
    return (
        write_whole(place / "results.csv", table(result).encode()),
        write_whole(place / "results.md", markdown(result).encode()),
    )


def table(r: ComparisonResult) -> str:
    """All that is known of each run as CSV, the best first; settings that were varied stand in columns at the end."""
    ties, matrix = r.ties(), r.matrix()
    rows = r.rows("run")
    samples, training = r.samples_per_s(), r.samples_per_s(training=True)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    measured = [name for name in rows[0] if name != "group"]
    more = ["samples_per_s", "samples_per_s_training"]
    writer.writerow(["rank", "tie", *measured, *more, *(f"setting {name}" for name in matrix)])
    for rank, run in enumerate(r.order, 1):
        own = [rows[run][name] for name in measured]
        able = bool(np.isfinite(r.run_value[run]))
        writer.writerow(
            [rank if able else "", ties[r.run_group[run]] if able else "", *own, samples[run], training[run],
             *(values[run] for values in matrix.values())]
        )  # fmt: skip
    return stream.getvalue()


def markdown(r: ComparisonResult) -> str:
    """The ranking, what was varied and what to beware of, as a person would note it down."""
    findings = [each(r, ComparisonLimits()) for each in RULES]
    first = next(each for each in findings if each.code == "CMP004")
    lead = "Winner" if first.level is Level.OK else "In the lead"
    lines = [
        f"## {len(r.run_name)} runs by {_cell(r.metric)} at {r.unit} {r.at:,g}",
        "",
        f"{r.better.capitalize()} is better. {lead}: **{_cell(r.run_name[r.best_run])}** ({_cell(first.text)}).",
        "",
        *_ranking(r),
    ]
    matrix = r.matrix("setting", "seed")
    if matrix:
        lines += ["", "Varied:", ""]
        lines += [
            f"- {_cell(name)}: {_cell(', '.join(dict.fromkeys(value or 'not told' for value in values)))}"
            for name, values in matrix.items()
        ]
    beware = [each for each in findings if each.level in (Level.WARN, Level.FAIL)]
    if beware:
        lines += ["", "Beware:", ""]
        for finding in beware:
            lines.append(f"- {finding.code} {_cell(finding.text)}")
            lines += [f"  - {_cell(str(each))}" for each in finding.evidence[:4]]
    lines += ["", "Where:", "", *(f"- {_cell(r.run_name[i])}: `{r.run_path[i]}`" for i in r.order)]
    return "\n".join(lines) + "\n"


def _ranking(r: ComparisonResult) -> list[str]:
    ties, decimals = r.ties(), figures(r.run_value)
    heads = [
        "",
        "run",
        f"at {r.at:,g}",
        "tie",
        "best",
        "last",
        f"mean of last {r.tail:.0%}",
        "steps/s",
        "without pauses",
        "took",
    ]
    rows, measured = [], r.run_points > 0
    for rank, i in enumerate(r.order[:ROWS], 1):
        able = np.isfinite(r.run_value[i])
        rows.append(
            [
                str(rank) if able else "–",
                r.run_name[i],
                number_of(float(r.run_value[i]), decimals) if r.reaches()[i] else "not reached",
                ties[r.run_group[i]] if able else "",
                *(_values(r, int(i), decimals) if measured[i] else ["–"] * 3),
                _told(float(r.run_speed[i])),
                _told(float(r.run_speed_training[i])),
                duration(float(r.run_wall[i])),
            ]
        )
    silent = [place for place in range(7, 10) if all(row[place] == "–" for row in rows)]
    left = [place for place in range(len(heads)) if place not in silent]
    lines = [
        _line([heads[place] for place in left]),
        _line(["--:" if place in (0, 2, 4, 5, 6, 7, 8, 9) else "---" for place in left]),
    ]
    lines += [_line([_cell(row[place]) for place in left]) for row in rows]
    more = len(r.order) - len(rows)
    return [*lines, *([f"\n… and {more} more"] if more > 0 else [])]


def _values(r: ComparisonResult, i: int, decimals: int) -> list[str]:
    """The best, the last and the mean of the end of one run."""
    mean = number_of(float(r.run_tail_mean[i]), decimals)
    return [
        f"{number_of(float(r.run_best[i]), decimals)} @ {r.run_best_step[i]:g}",
        number_of(float(r.run_last[i]), decimals),
        f"{mean} ± {number(float(r.run_tail_spread[i]))}",
    ]


def _told(value: float) -> str:
    return number(value) if np.isfinite(value) else "–"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that Markdown takes as it is, on one line."""
    for mark in "\\|*`<[":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
