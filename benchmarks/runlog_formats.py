"""How fast are event files, W&B files and tables read, and is every point there? Beside the peers, in one process.

Run with ``python -m benchmarks.runlog_formats``; takes about a minute. Peers that are not installed are left out:
``pip install --target DIR tensorboard tbparse`` and ``PYTHONPATH=DIR`` bring them. Real files are taken from
TRAINLAB_LOGS or ``../shared/data/logs``; where they are absent, files of their size are written.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.runlog import binary_writers as w
from trainlab.subjects.runlog.event_decoding import decode_events
from trainlab.subjects.runlog.opening import open_log

LOGS = Path(os.environ.get("TRAINLAB_LOGS", Path(__file__).parents[2] / "shared/data/logs"))
TAGS = [
    "train/loss",
    "train/lr",
    "train/grad_norm",
    "val/loss",
    "perf/steps_per_second",
    "train/accuracy",
    "a",
    "b/c",
]
SCALARS = 1_000_000
SECONDS = 1.5  # for 1 M scalars
FASTER = 15  # times, than tbparse
WANDB = 0.050  # seconds, for a file of 432 KB


def timed(act: Callable[[], object], repeats: int = 1) -> tuple[float, object]:
    """The quickest of several runs, and what it gave; in processor time, since others use the cores too."""
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = time.process_time()
        result = act()
        best = min(best, time.process_time() - begin)
    return best, result


def write_events(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=count).tolist()
    walls = (1.7e9 + np.cumsum(rng.random(count))).tolist()
    with path.open("wb") as file:
        file.write(w.version())
        for index, (value, wall) in enumerate(zip(values, walls, strict=True)):
            step, tag = divmod(index, len(TAGS))
            file.write(w.event(w.scalar(TAGS[tag], value), step=step, wall=wall))


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def accumulated(path: Path) -> dict[str, np.ndarray]:
    """Every point that TensorBoard reads: tag -> (point, [step, wall time, value])."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: np.array([(p.step, p.wall_time, p.value) for p in accumulator.Scalars(tag)]) for tag in tags}


def same_points(path: Path, theirs: dict[str, np.ndarray]) -> bool:
    ours = decode_events(path.read_bytes()).points
    log = open_log(path, progress=False)
    return set(ours) == set(theirs) == set(log.series) and all(
        np.array_equal(
            np.stack([column.astype(float) for column in ours[tag][1:]], axis=1), points, equal_nan=True
        )
        and np.array_equal(log[tag].step, points[:, 0])
        and np.array_equal(log[tag].value, points[:, 2], equal_nan=True)
        for tag, points in theirs.items()
    )


def row(what: str, seconds: float, of: str = "") -> None:
    print(f"{what:<58}{1000 * seconds:>10.1f} ms  {of}")


def events(folder: Path) -> dict[str, bool]:
    path = folder / "events.out.tfevents.1"
    write_events(path, SCALARS)
    ours, log = timed(lambda: open_log(path, progress=False), 3)
    count = sum(map(len, log.series.values()))
    row(f"trainlab: {count:,} scalars, {path.stat().st_size / 1e6:.0f} MB", ours)
    bars = {f"1 M scalars in at most {SECONDS} s": ours <= SECONDS and count == SCALARS}
    if installed("tensorboard"):
        seconds, theirs = timed(lambda: accumulated(path))
        row("EventAccumulator, size_guidance 0", seconds, f"{seconds / ours:.1f} times as long")
        bars["every point equal to EventAccumulator's"] = same_points(path, theirs)
        real = LOGS / "events.out.tfevents.1727894649.retfound"
        if real.exists():
            bars["the real file's points, too"] = same_points(real, accumulated(real))
    if installed("tbparse"):
        from tbparse import SummaryReader

        seconds, frame = timed(lambda: SummaryReader(str(path)).scalars)
        row(f"tbparse: {len(frame):,} scalars", seconds, f"{seconds / ours:.1f} times as long")
        bars[f"at least {FASTER} times as fast as tbparse"] = seconds >= FASTER * ours
    return bars


def wandb(folder: Path) -> dict[str, bool]:
    path = LOGS / "nanogpt_bpc.wandb"
    if not path.exists():
        path = folder / "run-made.wandb"
        rows = [w.history({"iter": 250 * at, "train/loss": 12 / (at + 1), "_step": at}) for at in range(21)]
        lines = [w.console(f"iter {10 * at}: loss {12 / (at + 1):.4f}, time 280.1ms\n") for at in range(1082)]
        stats = w.nested(7, bytes(4000))  # what the machine did: most of a real file
        path.write_bytes(w.wandb_file(w.run_record({"lr": 0.1}), *rows, *lines, *([stats] * 85), w.ended(0)))
    seconds, log = timed(lambda: open_log(path, progress=False), 5)
    row(f"trainlab: {path.name}, {path.stat().st_size / 1e3:.0f} KB", seconds)
    told = any("21 history rows, 1082 console records" in note for note in log.notes)
    return {f"a W&B file in at most {1000 * WANDB:.0f} ms, history and console": seconds <= WANDB and told}


def table(folder: Path) -> dict[str, bool]:
    import pandas as pd

    path = folder / "metrics.csv"
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(100_000, 9)), columns=[f"loss_{index}" for index in range(9)])
    frame.insert(0, "step", range(len(frame)))
    frame.loc[frame.index % 10 != 0, "loss_8"] = np.nan
    frame.to_csv(path, index=False)
    ours, log = timed(lambda: open_log(path, progress=False), 2)
    row(f"trainlab: a table of 1 M cells, {path.stat().st_size / 1e6:.0f} MB", ours)
    seconds, theirs = timed(lambda: pd.read_csv(path), 2)
    row("pandas.read_csv", seconds, f"{seconds / ours:.1f} times as long")
    near = np.allclose(
        log["loss_0"].value, theirs["loss_0"], rtol=1e-15, atol=0
    )  # pandas rounds the last digit
    same = near and np.array_equal(log["loss_8"].step, theirs["step"][theirs["loss_8"].notna()])
    return {"every cell that pandas reads, none more": same}


def main() -> int:
    bars: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in (events, wandb, table):
            bars |= part(Path(folder))
    for bar, held in bars.items():
        print(f"{'holds' if held else 'FAILS'}  {bar}")
    for peer in ("tensorboard", "tbparse"):
        if not installed(peer):
            print(f"not measured: {peer} is not installed")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
