"""Runs made by hand, without a file, for the tests of `comparison`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainlab.subjects.runlog.log import Event, RunLog, Series


def series(name, value, *, step=None, split="", time=None, epoch=None):
    value = np.asarray(value, np.float64)
    nothing = np.full(len(value), np.nan)
    return Series(
        name,
        split,
        value,
        np.arange(0.0, 100.0 * len(value), 100.0) if step is None else np.asarray(step, np.float64),
        nothing if epoch is None else np.asarray(epoch, np.float64),
        nothing if time is None else np.asarray(time, np.float64),
        np.arange(10, 10 + len(value), dtype=np.int64),
        np.zeros(len(value), np.int64),
    )


def run(name, *every, config=None, events=(), totals=None):
    """A log of these series; an event is its kind, or its kind and its line."""
    told = [
        Event(each, each, 99) if isinstance(each, str) else Event(each[0], each[0], each[1])
        for each in events
    ]
    return RunLog(
        Path(f"runs/{name}.log"),
        "text",
        {each.name: each for each in every},
        config or {},
        tuple(told),
        (),
        totals or {},
    )


def curve(level, *, seed=0, noise=0.004, count=51, begin=2.0):
    """A loss that falls from one value to another, with noise."""
    place = np.linspace(0, 1, count)
    return (
        level
        + (begin - level) * np.exp(-8 * place)
        + noise * np.random.default_rng(seed).standard_normal(count) * (place > 0)
    )


def healthy(count=4, **each):
    """Runs far apart, in which no rule has anything to say."""
    return {
        f"r{i}": run(
            f"r{i}",
            series("loss", curve(0.3 + 0.05 * i, seed=i), time=np.arange(51) * 10.0),
            config={"lr": 1e-4 * (i + 1), "wd": 0.1, "batch_size": 8},
            events=("completed",),
            totals={"total_steps": 5000.0},
            **each,
        )
        for i in range(count)
    }
