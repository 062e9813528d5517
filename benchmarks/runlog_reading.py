"""How fast is a text log of 896 000 lines read, and in how much memory? Beside grep, awk and pandas, in one process each.

Run with ``python -m benchmarks.runlog_reading``; takes about a minute. The log is written here: bars, warnings and the
chatter of workers, with a line of metrics every hundredth. Exits with 1 when a bar fails.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

LINES = 896_000
SECONDS = {"metrics": 2.0, "spam": 5.0}
MEMORY = 300  # MB
REPEATS = 3


def lines(count: int) -> Iterator[str]:
    """A distillation that was logged too much."""
    chance = random.Random(0)
    for at in range(count):
        hundredth, clock = at % 100, f"{at // 3600}:{at // 60 % 60:02d}:{at % 60:02d}"
        if hundredth == 0:
            loss = 2 + 8 / (1 + at / 50_000)
            yield (
                f"step {at // 10}/{count // 10} loss={loss:.4f} lm_loss={0.4 * loss:.3e} kd_loss={30 + 10 * chance.random():.3f} "
                f"feature_loss={150 + 50 * chance.random():.2f} lr=1.000e-04 grad_norm={chance.random():.3f} elapsed={clock}\n"
            )
        elif hundredth == 50:
            yield f"eval step {at // 10} val_loss={2 + 8 / (1 + at / 50_000):.4f} perplexity=485165195.41\n"
        elif hundredth % 3 == 0:
            full = hundredth // 8
            yield (
                f"Training: {hundredth:3d}%|{'█' * full}{' ' * (13 - full)}| {at}/{count} [{clock}<2:14:51, {10 * chance.random():.2f}it/s]\n"
            )
        elif hundredth % 3 == 1:
            yield "/opt/lib/python3.10/site-packages/torch/utils/checkpoint.py:429: UserWarning: torch.utils.checkpoint: the use_reentrant parameter should be passed\n"
        else:
            yield (
                f"[rank{chance.randrange(8)}] 2024-05-01 12:{at // 60 % 60:02d}:{at % 60:02d},{at % 1000:03d} INFO dataloader: worker "
                f"{chance.randrange(8)} fetched shard {chance.randrange(10_000)} in {chance.random():.3f} s\n"
            )


def metrics(path: str) -> int:
    from trainlab.subjects.runlog.opening import open_log

    return len(open_log(path, progress=False)["loss"])


def every_line(path: str) -> int:
    """All states of a bar tell the loss: nothing can be passed over."""
    from trainlab.subjects.runlog.opening import open_log

    bars = Path(path).with_name("bars.log")
    with bars.open("w") as file:
        for at in range(Path(path).read_bytes().count(b"\n")):
            file.write(
                f"\rTraining:  {at % 100}%|███   | {at}/{LINES} [0:{at // 60 % 60:02d}<2:14, 3.1it/s, loss={1 / (at + 1):.4g}]"
            )
    return len(open_log(bars, progress=False)["loss"])


def spam(path: str) -> int:
    from trainlab.subjects.runlog.spam import templates

    return templates(path, progress=False)[0].count


def pandas(path: str) -> int:
    import pandas as pd

    text = pd.Series(Path(path).read_text().splitlines())
    found = text.str.extract(r"^step (?P<step>\d+)/\d+ loss=(?P<loss>[\d.e+-]+)").dropna().astype(float)
    return len(found)


def regex(path: str) -> int:
    import re

    pattern = re.compile(r"^step (\d+)/\d+ loss=([\d.e+-]+)")
    with Path(path).open() as file:
        found = [(float(each[1]), float(each[2])) for line in file if (each := pattern.search(line))]
    return len(found)


def run(act: str, path: Path) -> tuple[float, float, int]:
    """Processor seconds without the imports, peak memory in MB and the count, in a process of its own."""
    code = (
        "import resource, sys, time\n"
        f"from benchmarks.runlog_reading import {act}\n"
        f"{act}(sys.argv[2])\n"
        "begin = time.process_time()\n"
        f"count = {act}(sys.argv[1])\n"
        "print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, count)\n"
    )
    small = path.with_name("small.log")
    small.write_text("".join(lines(200)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(small)], capture_output=True, text=True, check=True
    )
    seconds, memory, count = done.stdout.split()
    return float(seconds), float(memory), int(count)


def shell(command: str, path: Path) -> tuple[float, float, int]:
    """Processor seconds and the count of a pipeline."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["sh", "-c", command, "sh", str(path)], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, float("nan"), int(done.stdout.split()[0])


PEERS = {
    "grep | cut | sort (loss alone)": 'grep -a "^step" "$1" | cut -d= -f2 | cut -d" " -f1 | sort -g | wc -l',
    "awk (loss alone)": """awk '/^step/ { split($3, a, "="); n++; s += a[2] } END { print n }' "$1" """,
    "sed | sort | uniq -c (kinds of lines)": 'sed "s/[0-9.]//g" "$1" | sort | uniq -c | sort -rn | head -1',
}


def main() -> int:
    """Prints the table; 1 where a bar fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        with path.open("w") as file:
            file.writelines(lines(LINES))
        size = path.stat().st_size / 1e6
        print(f"{LINES:,} lines, {size:.0f} MB\n\n{'what':40} {'seconds':>8} {'MB':>6} {'found':>8}  bar")
        failed = False
        for act, limit in SECONDS.items():
            seconds, memory, count = min(run(act, path) for _ in range(REPEATS))
            good = seconds <= limit and memory <= MEMORY
            failed |= not good
            bar = f"<= {limit:g} s, {MEMORY} MB: {'held' if good else 'MISSED'}"
            print(f"{'trainlab, ' + act:40} {seconds:8.2f} {memory:6.0f} {count:8}  {bar}")
        others = {
            "every_line": "trainlab, metrics in every line",
            "regex": "regex in Python (step and loss alone)",
            "pandas": "pandas (step and loss alone)",
        }
        for act, name in others.items():
            seconds, memory, count = run(act, path)
            print(f"{name:40} {seconds:8.2f} {memory:6.0f} {count:8}")
        for name, command in PEERS.items():
            seconds, memory, count = shell(command, path)
            print(f"{name:40} {seconds:8.2f} {'':>6} {count:8}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
