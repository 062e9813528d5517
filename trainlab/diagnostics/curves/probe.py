"""The probe of `curves`: one run of a log, thinned to what pictures and rules need; counts and extremes stay exact."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from trainlab.diagnostics.curves.claims import claims
from trainlab.diagnostics.curves.packs import Pack, chosen, expectations
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.errors import NotApplicable, UsageError
from trainlab.subjects.runlog.log import RunLog, Series
from trainlab.subjects.runlog.spam import Template, templates

__all__ = ["probe"]

EVENTS = 200  # that are kept
TEMPLATES = 40  # kinds of lines that are kept
SHOWN = 160  # characters of each
CLOCKS = ("throughput", "time")
# one loss a noise level, timestep or sequence length: loss_q0, loss_t500, loss_len128, loss/sigma_0.1
_LEVEL = re.compile(
    r"(?:_|/|\b)(?:q|t|bin|sigma|tau|noise|level|len|seq_?len|length|timestep)_?\d+(?:\.\d+)?(?:_|/|\b)"
)
_ACCURACY = re.compile(r"acc|top_?[15]\b|error_?rate|f1|auc", re.IGNORECASE)


def probe(
    log: RunLog,
    *,
    run: int = -1,
    pack: str | Pack = "auto",
    bands: Mapping[str, tuple[float, float]] | None = None,
    schedules: Mapping[str, Mapping[float, float]] | None = None,
    points: int = 5000,
    spam: bool = True,
) -> CurvesResult:
    """Reads one run of a log.

    Costs milliseconds; counting the repeated lines of a text log reads the file once more, at about 50 MB a second.

    Args:
        log: The log, or its path.
        run: Which run of the file, from 0; -1 is the last.
        pack: The kind of training, one of `trainlab.diagnostics.curves.packs.PACKS`, or a `Pack` of your own; ``auto``
            guesses it from names.
        bands: The least and largest value of series by a pattern of their name, e.g. ``{"kd": (0.5, 5.0)}``.
        schedules: What a weight should be at shares of the run, e.g. ``{"curriculum_weight": {0: 0, 1: 1}}``; linear
            between them.
        points: Most points of a series to keep one by one; beyond, bins with their lowest and highest.
        spam: Count the repeated lines of a text log.

    Raises:
        UsageError: There is no such run or pack, or an expectation is malformed.
        NotApplicable: The run has no points.
    """
    if points < 100:
        raise UsageError(
            "at least 100 points of a series are kept", seen=f"points={points}", fix="points=5000"
        )
    runs = log.runs
    if not -len(runs) <= run < len(runs):
        raise UsageError(
            f"{log.path.name} has no run {run}", seen=f"{len(runs)} runs, from 0", fix="run=-1 is the last"
        )
    one = runs[run]
    series = [each for each in one.series.values() if len(each)]
    if not series:
        raise NotApplicable(f"run {run} of {log.path.name} holds no points")
    # what a file of several runs claims in all need not be meant for this one
    known = claims(one.totals if len(runs) == 1 else {}, one.config)
    kind, why = chosen(pack, [*(each.name for each in series), *map(str, one.config)])
    trivial, source = _baseline(known, kind, [each.name for each in series])
    expected = expectations(kind, bands, schedules)
    main = one.loss if kind.name != "adversarial" else None
    validation = one.val_loss
    if main is not None and main.split in ("val", "test"):
        main, validation = None, main
    return CurvesResult(
        path=str(log.path),
        format=log.format,
        run=run % len(runs),
        runs=len(runs),
        pack=kind.name,
        pack_origin=why,
        main=main.name if main is not None else "",
        validation=validation.name if validation is not None else "",
        progress_told=kind.progress,
        baseline=trivial,
        baseline_origin=source,
        kept=points,
        **_series(series, _parts(series, main)),
        **_points(series, points),
        **_events(one),
        **_spam(log, wanted=spam),
        claim_name=tuple(known),
        claim_value=np.array(list(known.values()), np.float64),
        expected_name=tuple(row[0] for row in expected),
        expected_progress=np.array([row[1] for row in expected], np.float64),
        expected_low=np.array([row[2] for row in expected], np.float64),
        expected_high=np.array([row[3] for row in expected], np.float64),
        preset_name=tuple(kind.limits),
        preset_value=np.array([np.nan if v is None else v for v in kind.limits.values()], np.float64),
        note=tuple(one.notes),
    )


def _baseline(known: Mapping[str, float], pack: Pack, names: Sequence[str]) -> tuple[float, str]:
    """What a prediction scores that knows nothing but how often each answer occurs, and how that is known."""
    if pack.baseline:
        return pack.baseline, f"the {pack.name} pack"
    if known.get("vocab_size", 0) > 1 and pack.name == "language_model":
        return float(np.log(known["vocab_size"])), f"ln({known['vocab_size']:.0f} tokens)"
    classified = any(_ACCURACY.search(name) for name in names)  # many configs name classes that nothing uses
    if known.get("classes", 0) > 1 and classified and pack.name == "general":
        return float(np.log(known["classes"])), f"ln({known['classes']:.0f} classes)"
    if known.get("target_variance", 0) > 0:
        return known["target_variance"], "the variance of the target"
    return 0.0, ""


def _parts(series: Sequence[Series], main: Series | None) -> list[str]:
    """What each training loss is beside the main one."""
    parts: list[str] = []
    for each in series:
        if each.role != "loss" or each is main or each.split in ("val", "test"):
            parts.append("")
        elif _LEVEL.search(each.name):
            parts.append("level")
        elif any(_same_loss(each.name, other.name) for other in _told_before(each, series, main)):
            parts.append("")
        else:
            parts.append("component")
    return parts


def _told_before(one: Series, series: Sequence[Series], main: Series | None) -> list[Series]:
    """The main loss, and the training losses that have more points, or as many and stand before it."""
    losses = [each for each in series if each.role == "loss" and each.split not in ("val", "test")]
    place = losses.index(one)
    more = [each for at, each in enumerate(losses) if (-len(each), at) < (-len(one), place)]
    return more if main is None else [main, *more]


def _same_loss(name: str, main: str) -> bool:
    """Is it that loss again, by the epoch or smoothed: ``train_loss_epoch`` beside ``train_loss_step``?"""
    plain = [
        re.sub(r" \(\d+\)|train(ing)?|epoch|step|avg|mean|smooth(ed)?|total|[^a-z0-9]", "", each.lower())
        for each in (name, main)
    ]
    return plain[0] == plain[1]


def _series(series: Sequence[Series], parts: list[str]) -> dict[str, Any]:
    rows = [_row(each) for each in series]
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return {
        "series_name": tuple(each.name for each in series),
        "series_split": tuple(each.split for each in series),
        "series_role": tuple(each.role for each in series),
        "series_part": tuple(parts),
        **{f"series_{key}": array for key, array in columns.items()},
    }


def _row(series: Series) -> dict[str, float | int]:
    value = series.value
    x = series.step if np.isfinite(series.step).all() else series.epoch
    bad = ~np.isfinite(value)
    good = np.flatnonzero(~bad)
    low = int(good[np.argmin(value[good])]) if len(good) else -1
    high = int(good[np.argmax(value[good])]) if len(good) else -1
    first = int(np.argmax(bad)) if bad.any() else -1
    return {
        "count": len(value),
        "nan": int(np.isnan(value).sum()),
        "inf": int(np.isinf(value).sum()),
        "zero": int((value == 0).sum()),
        "first": float(value[0]),
        "last": float(value[-1]),
        "min": float(value[low]) if len(good) else np.nan,
        "min_step": float(x[low]) if len(good) else np.nan,
        "max": float(value[high]) if len(good) else np.nan,
        "max_step": float(x[high]) if len(good) else np.nan,
        "bad_step": float(x[first]) if first >= 0 else np.nan,
        "bad_line": int(series.line[first]) if first >= 0 else 0,
        "spread": _spread(value[good]),
        "bad_tail": len(value) - 1 - int(good[-1]) if len(good) else len(value),
    }


def _spread(value: np.ndarray) -> float:
    tail = value[-max(30, min(len(value) // 5, 1000)) :]
    middle = float(np.median(tail)) if len(tail) else 0.0
    if len(tail) < 30 or middle <= 0:
        return float("nan")
    half = len(tail) // 2  # the slope by medians, which a spike does not tilt
    slope = float(np.median(tail[half:]) - np.median(tail[:half])) / half
    flat = tail - slope * np.arange(len(tail))
    low, high = np.quantile(flat, [0.16, 0.84])
    return float((high - low) / 2 / middle)


def _points(series: Sequence[Series], most: int) -> dict[str, Any]:
    thinned = [_thinned(each, most) for each in series]
    counts = [len(each["value"]) for each in thinned]
    return {"point_series": np.repeat(np.arange(len(series), dtype=np.int32), counts)} | {
        f"point_{key}": np.concatenate([each[key] for each in thinned]) for key in thinned[0]
    }


def _thinned(series: Series, most: int) -> dict[str, np.ndarray]:
    """At most so many points; bins of equal counts between the first point and the last where there are more."""
    value, count = series.value, len(series)
    if count <= most:
        picked = np.arange(count)
        mean = low = high = value
    else:
        cuts = np.unique(np.linspace(1, count - 1, most - 1).astype(int))
        starts = np.concatenate([[0], cuts])
        good = np.isfinite(value)
        sizes = np.add.reduceat(good, starts)
        total = np.add.reduceat(np.where(good, value, 0.0), starts)
        low = np.minimum.reduceat(np.where(good, value, np.inf), starts)
        high = np.maximum.reduceat(np.where(good, value, -np.inf), starts)
        mean = np.where(sizes > 0, total / np.maximum(sizes, 1), np.nan)
        empty = sizes == 0
        low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
        owner = np.repeat(np.arange(len(starts)), np.diff([*starts, count]))
        top = np.flatnonzero(good & (value == high[owner]))
        picked = starts.copy()
        picked[owner[top][::-1]] = top[::-1]  # the first of equal ones is written last, and stays
    return {
        "step": series.step[picked],
        "epoch": series.epoch[picked],
        "time": series.time[picked],
        "value": mean,
        "low": low,
        "high": high,
        "line": series.line[picked],
    }


def _events(log: RunLog) -> dict[str, Any]:
    events = log.events[:EVENTS]
    return {
        "event_kind": tuple(each.kind for each in events),
        "event_text": tuple(" ".join(each.text.split())[:200] for each in events),
        "event_line": np.array([each.line for each in events], np.int64),
        "event_step": np.array([each.step for each in events], np.float64),
        "event_count": np.array([each.count for each in events], np.int64),
    }


def _spam(log: RunLog, *, wanted: bool) -> dict[str, Any]:
    rows = templates(log.path) if wanted and "text" in log.format and log.path.is_file() else ()
    lines = {int(line) for each in log.series.values() for line in each.line}
    names = [
        re.split(r"[/.]", each.name)[-1].lower() for each in log.series.values() if each.role not in CLOCKS
    ]
    kept = rows[:TEMPLATES]
    return {
        "lines": sum(each.count for each in rows),
        "bytes": sum(each.bytes for each in rows),
        "template_text": tuple(each.text[:SHOWN] for each in kept),
        "template_lines": np.array([each.count for each in kept], np.int64),
        "template_bytes": np.array([each.bytes for each in kept], np.int64),
        "template_first": np.array([each.line for each in kept], np.int64),
        "template_metric": np.array([_holds_points(each, lines, names) for each in kept], bool),
    }


def _holds_points(template: Template, lines: Collection[int], names: Sequence[str]) -> bool:
    """Whether points were read from lines of a kind; a progress bar may only share the line of those that were."""
    bar = "%|" in template.example
    return template.line in lines and (not bar or any(name in template.text.lower() for name in names))
