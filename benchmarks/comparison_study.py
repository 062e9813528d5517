"""Does `comparison` rank, tie and time runs as they were made? Run with ``python -m benchmarks.comparison_study``.

Groups of runs with a known truth are written as lines of text, as training scripts print them, and read back: true levels,
ties, repeats with seeds, pauses for evaluation, NaN and exponents, confounded settings, resumes, copies. Beside it, in the
same run, the pipelines of grep, sort and awk that people write. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainlab.diagnostics.comparison import ComparisonResult, diagnostic
from trainlab.subjects.runlog.opening import open_logs

STEPS = 15_000
EVERY = 100


@dataclass
class Run:
    """A run to be printed: where its loss ends, how noisy it is, and how fast it goes."""

    name: str
    level: float = 0.4
    noise: float = 0.004
    fall: float = 2.0
    steps: int = STEPS
    speed: float = 12.0
    pause_every: int = 0
    pause: float = 0.0
    bad: tuple[int, ...] = ()
    resume_at: int = 0
    settings: str = ""
    end: str = "training completed"

    def loss(self, step: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return self.level + self.fall * np.exp(-step / 2500) + self.noise * random.standard_normal(len(step))

    def text(self, random: np.random.Generator) -> str:
        step = np.arange(0, self.steps + 1, EVERY)
        loss = self.loss(step, random)
        gap = EVERY / self.speed * (1 + 0.02 * random.standard_normal(len(step)))
        gap[0] = 0.5
        if self.pause_every:
            gap[(step % self.pause_every == 0) & (step > 0)] += self.pause
        elapsed = np.cumsum(gap)
        lines = [f"Namespace({self.settings})"] if self.settings else []
        for place, now in enumerate(step):
            value = (
                "nan"
                if now in self.bad
                else f"{loss[place]:.2e}"
                if loss[place] >= 1
                else f"{loss[place]:.5f}"
            )
            lines.append(f"step {now}/{STEPS} loss={value} lr=1.0e-04 elapsed={elapsed[place]:.2f}s")
            if self.pause_every and now % self.pause_every == 0 and now:
                lines.append(f"step {now}/{STEPS} val_loss={loss[place] + 0.02:.5f}")
            if self.resume_at and now == self.resume_at:
                lines.append(f"Resumed from step {now - 500}")
                lines += [
                    f"step {back}/{STEPS} loss={self.level + self.fall * np.exp(-back / 2500):.5f} lr=1.0e-04 elapsed={elapsed[place] + (i + 1) * EVERY / self.speed:.2f}s"
                    for i, back in enumerate(range(now - 500, now, EVERY))
                ]
        return "\n".join([*lines, self.end, ""])


def look(folder: Path, runs: Sequence[Run], seed: int, **settings: object) -> ComparisonResult:
    """Writes the runs into an empty folder, and probes what is read back."""
    for old in folder.iterdir():
        old.unlink()
    random = np.random.default_rng(seed)
    for run in runs:
        (folder / f"{run.name}.log").write_text(run.text(random))
    result: ComparisonResult = diagnostic.probe(open_logs(folder, progress=False), **settings)  # type: ignore[arg-type]
    return result


def shell(folder: Path, command: str) -> list[str]:
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1]


def stem(name: str) -> str:
    return Path(name).stem


@dataclass
class Row:
    """A line of the table: what was asked, how often it came out right, and what the pipeline made of it."""

    what: str
    right: float
    bar: float
    peer: str

    @property
    def passed(self) -> bool:
        return self.right >= self.bar


def ranking(folder: Path, times: int) -> Row:
    """Ten screening runs at step 15000/15000: the order of the numbers as logged, and grep's."""
    right = peer = 0
    for seed in range(times):
        levels = np.random.default_rng(seed).permutation(np.linspace(0.30, 0.48, 10))
        runs = [Run(f"run{i}", level=float(each), noise=0.002) for i, each in enumerate(levels)]
        r = look(folder, runs, seed, at=STEPS, metric="loss")
        truth = [f"run{i}" for i in np.argsort(levels)]
        right += [stem(r.run_name[i]) for i in r.order] == truth
        lines = shell(
            folder, "grep -a '^step 15000/15000 loss' *.log | sed 's/:.*loss=/ /; s/ lr.*//' | sort -k2 -n"
        )
        peer += [stem(line.split()[0]) for line in lines] == truth
    return Row("order of ten runs at one step", right / times, 1.0, f"grep | sort {peer / times:.0%}")


def ties(folder: Path, times: int) -> Row:
    """Two equal runs: called a tie in 95 of 100."""
    found = 0
    for seed in range(times):
        r = look(folder, [Run("a"), Run("b")], seed)
        found += len(set(r.ties())) == 1
    return Row("equal runs called a tie", found / times, 0.90, "grep | sort 0%")


def gaps(folder: Path, times: int) -> Row:
    """A gap of three standard deviations of single points: four standard errors of what 15 points of a tail tell."""
    found = 0
    for seed in range(times):
        r = look(folder, [Run("a"), Run("b", level=0.412)], seed)
        found += r.ties() == ["a", "b"] and stem(r.run_name[r.runs_of(0)[0]]) == "a"
    return Row("a gap of 4 standard errors is told", found / times, 0.95, "–")


def seeds(folder: Path, times: int) -> Row:
    """Four settings of three seeds that spread by 0.01: two settings equal, two apart by 0.05."""
    found = 0
    for seed in range(times):
        random = np.random.default_rng(seed + 999)
        runs = [
            Run(
                f"lr{lr}_seed{s}",
                level=level + 0.01 * float(random.standard_normal()),
                noise=0.001,
                settings=f"lr={lr}, seed={s}, width=64",
            )
            for lr, level in ((0.1, 0.40), (0.2, 0.40), (0.3, 0.45), (0.4, 0.50))
            for s in range(3)
        ]
        r = look(folder, runs, seed)
        groups = dict(zip(r.group_name, r.ties(), strict=True))
        found += (
            groups["lr=0.1"] == groups["lr=0.2"]
            and len({groups["lr=0.1"], groups["lr=0.3"], groups["lr=0.4"]}) == 3
        )
    return Row("seeds: equal settings tied, others apart", found / times, 0.80, "–")


def lowest(folder: Path, times: int) -> Row:
    """The minimum, with nan and 1.04e+01 in the log."""
    right = peer = 0
    for seed in range(times):
        runs = [Run("a", fall=10.0, bad=(300, 9000)), Run("b", level=0.5)]
        r = look(folder, runs, seed, metric="loss")
        random = np.random.default_rng(seed)
        loss = runs[0].loss(np.arange(0, STEPS + 1, EVERY), random)
        truth = round(float(np.delete(loss, [3, 90]).min()), 5)
        row = [stem(name) for name in r.run_name].index("a")
        right += bool(np.isclose(r.run_best[row], truth, atol=1e-9))
        said = shell(folder, "grep -ao 'loss=[^ ]*' a.log | cut -d= -f2 | sort -n | head -1")
        peer += said[0] == f"{truth:.5f}"
    return Row("lowest loss among nan and 1.04e+01", right / times, 1.0, f"sort -n {peer / times:.0%}")


def throughput(folder: Path, times: int) -> Row:
    """Steps per second between two steps without pauses, within 2 %; awk divides all time."""
    right, errors, peers = 0, [], []
    for seed in range(times):
        random = np.random.default_rng(seed + 77)
        runs = [
            Run(
                f"run{i}",
                speed=float(random.uniform(2, 40)),
                pause_every=int(random.choice([500, 1000, 2500])),
                pause=float(random.uniform(30, 300)),
            )
            for i in range(4)
        ]
        r = look(folder, runs, seed, steps=(500, STEPS), metric="loss")
        for run in runs:
            row = [stem(name) for name in r.run_name].index(run.name)
            errors.append(abs(r.run_speed_training[row] / run.speed - 1))
            command = (
                f"grep -a 'elapsed=' {run.name}.log | sed 's/^step //; s#/.*elapsed=# #; s/s$//' | "
                "awk '$1==500{a=$2} $1==15000{b=$2} END{print 14500/(b-a)}'"
            )
            peers.append(abs(float(shell(folder, command)[0]) / run.speed - 1))
        right += max(errors[-4:]) < 0.02
    return Row(
        f"speed without pauses (error {np.max(errors):.2%})",
        right / times,
        1.0,
        f"awk: error {np.median(peers):.0%}",
    )


def faults(folder: Path, times: int) -> list[Row]:
    """Planted faults, told by their rule; and healthy groups, in which none of these rules fires."""
    plain = [
        Run(f"r{i}", level=0.3 + 0.02 * i, settings=f"lr={i + 1}e-4, wd=0.1, width=64") for i in range(4)
    ]
    grid = [
        Run(f"g{a}{b}", level=0.3 + 0.02 * a + 0.05 * b, settings=f"lr={a + 1}e-4, wd={b}, width=64")
        for a in range(2)
        for b in range(2)
    ]
    kinds: dict[str, tuple[str, Callable[[], list[Run]]]] = {
        "confounded settings": (
            "CMP008",
            lambda: [
                Run(f"c{i}", level=0.3 + 0.02 * i, settings=f"lr={i + 1}e-4, wd={i}, width=64")
                for i in range(4)
            ],
        ),
        "a resume": (
            "CMP010",
            lambda: [*plain[:3], Run("again", resume_at=9000, settings="lr=9e-4, wd=0.1, width=64")],
        ),
        "a run that stopped short": (
            "CMP006",
            lambda: [*plain[:3], Run("short", steps=9000, end="", settings="lr=9e-4, wd=0.1, width=64")],
        ),
        "a run that ends in NaN": (
            "CMP001",
            lambda: [
                *plain[:3],
                Run("nan", bad=tuple(range(9000, STEPS + 1, EVERY)), settings="lr=9e-4, wd=0.1, width=64"),
            ],
        ),
        "a slow run": (
            "CMP007",
            lambda: [*plain[:3], Run("slow", speed=7.0, settings="lr=9e-4, wd=0.1, width=64")],
        ),
    }
    watched = {code for code, _ in kinds.values()} | {"CMP009", "CMP002", "CMP003"}
    rows = []
    for kind, (code, make) in kinds.items():
        told = [
            diagnostic.judge(look(folder, make(), seed))[code].level.value in ("warn", "fail")
            for seed in range(times)
        ]
        rows.append(Row(f"{kind}: {code}", float(np.mean(told)), 1.0, "–"))
    found = []
    for seed in range(times):
        look(folder, plain, seed)
        (folder / "copy.log").write_bytes((folder / "r1.log").read_bytes())
        found.append(
            diagnostic.judge(diagnostic.probe(open_logs(folder, progress=False)))["CMP009"].level == "warn"
        )
    rows.append(Row("a copy: CMP009", float(np.mean(found)), 1.0, "–"))
    quiet = [
        not {f.code for f in diagnostic.judge(look(folder, runs, seed)) if f.level in ("warn", "fail")}
        & watched
        for seed in range(times)
        for runs in (plain, grid)
    ]
    rows.append(Row("healthy groups left alone", float(np.mean(quiet)), 1.0, "–"))
    return rows


def study(times: int = 60) -> list[Row]:
    """Every row of the table, each from so many groups."""
    few = max(times // 6, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            ranking(folder, few),
            ties(folder, times),
            gaps(folder, times),
            seeds(folder, times // 2),
            lowest(folder, few),
            throughput(folder, few),
        ]
        return [*rows, *faults(folder, few)]


def main() -> int:
    rows = study()
    print(f"{'what':<48} {'right':>6} {'bar':>5}   beside it")
    for row in rows:
        print(
            f"{row.what:<48} {row.right:>6.0%} {row.bar:>5.0%}   {row.peer}{'' if row.passed else '   MISSED'}"
        )
    return int(not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
