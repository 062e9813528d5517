"""Peek, verify, salvage, diff and hostile files against their bars, with the peers beside them in the same run.

    python -m benchmarks.checkpoints                  a file of 1 GB
    python -m benchmarks.checkpoints --large          one of 4 GB too
    python -m benchmarks.checkpoints --gigabytes 0.1  quicker, and the bars mean less

Peers: torch.load (weights only; mapped; mapped to meta), safetensors, and picklescan and modelscan where these commands
are on the path. Every time is taken in a fresh process; the best of several counts, as other programs use the machine
too. Writes three times the file's size into a temporary folder. Leaves with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from tests.checkfile import corpus

ROOT = Path(__file__).parents[1]
# not ru_maxrss, which a process inherits from the one that started it
PEAK = "print(next(int(each.split()[1]) for each in open('/proc/self/status') if each.startswith('VmHWM')) / 1e3)"


@dataclass(frozen=True)
class Row:
    """One line of the table; ``met`` is None where there is no bar."""

    what: str
    measured: str
    bar: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        mark = {None: "", True: "ok", False: "MISSED"}[self.met]
        return f"{self.what:<44} {self.measured:<46} {self.bar:<28} {mark}".rstrip()


# --- the file


def shapes_of(width: int, layers: int) -> dict[str, tuple[int, ...]]:
    part = {
        "qkv": (3 * width, width),
        "out": (width, width),
        "up": (4 * width, width),
        "down": (width, 4 * width),
    }
    shapes: dict[str, tuple[int, ...]] = {"emb.weight": (8192, width)}
    for layer in range(layers):
        for name, shape in part.items():
            shapes |= {f"blocks.{layer}.{name}.weight": shape, f"blocks.{layer}.{name}.bias": shape[:1]}
        for name in ("ln1", "ln2"):
            shapes |= {f"blocks.{layer}.{name}.{what}": (width,) for what in ("weight", "bias")}
    return shapes


def make(path: Path, gigabytes: float) -> Path:
    """Writes a language model with AdamW's state: three float32 for each parameter."""
    import torch

    width = 1280 if gigabytes > 2 else 768 if gigabytes > 0.3 else 256
    layers = max(1, round((gigabytes * 1e9 / 12 - 8192 * width) / (12 * width**2)))
    noise = torch.randn(2**22)

    def tensor(shape: tuple[int, ...]) -> torch.Tensor:
        count = torch.Size(shape).numel()
        return noise.repeat(count // 2**22 + 1)[:count].reshape(shape).clone()

    shapes = shapes_of(width, layers)
    state = {
        number: {"step": torch.tensor(15000.0), "exp_avg": tensor(shape), "exp_avg_sq": tensor(shape)}
        for number, shape in enumerate(shapes.values())
    }
    group = {"lr": 3e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False}
    optimizer = {"state": state, "param_groups": [{**group, "params": list(range(len(shapes)))}]}
    model = {name: tensor(shape) for name, shape in shapes.items()}
    torch.save({"model": model, "optimizer": optimizer, "epoch": 400, "iter": 15000}, path)
    return path


# --- clocks


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def inside(setup: str, call: str, repeats: int = 9, cold: Path | None = None) -> tuple[float, float, float]:
    """Best and median seconds of a call, and peak MB of the process, which runs nothing else.

    With ``cold``, that file is dropped from the page cache before each call, as a checkpoint of last week is.
    """
    drop = f"f = os.open({str(cold)!r}, os.O_RDONLY); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED); os.close(f)"
    code = (
        f"{setup}\nimport os, time\ntimes = []\nfor _ in range({repeats}):\n    {drop if cold else 'pass'}\n"
        f"    t = time.perf_counter(); x = {call}; times.append(time.perf_counter() - t); del x\n"
        f"print(min(times), sorted(times)[len(times) // 2])\n{PEAK}"
    )
    best, median, peak = map(float, run(sys.executable, "-c", code).split())
    return best, median, peak


def command(*words: str, repeats: int = 5) -> float:
    """Best seconds of a whole command."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run(words, capture_output=True, check=False, cwd=ROOT)
        times.append(time.perf_counter() - begin)
    return min(times)


# --- what is measured


def peeks(path: Path) -> Iterator[Row]:
    size = f"{path.stat().st_size / 1e9:.1f} GB"
    best, median, peak = inside("from trainlab.subjects.checkfile import peek", f"peek({str(path)!r})")
    text = f"{best * 1e3:.1f} ms (median {median * 1e3:.1f}), {peak:.0f} MB"
    yield Row(f"peek, {size}, in process", text, "≤ 15 ms, ≤ 25 MB", best <= 0.015 and peak <= 25)
    whole = command(sys.executable, "-m", "trainlab", "peek", str(path))
    yield Row(f"peek, {size}, whole command", f"{whole:.3f} s", "≤ 0.2 s", whole <= 0.2)
    for name, arguments, bar in (
        ("weights_only", "weights_only=True", 100),
        ("mmap", "weights_only=True, mmap=True", 4),
        ("mmap, meta", "weights_only=True, mmap=True, map_location='meta'", 4),
    ):
        setup = "import torch; torch.set_num_threads(1)"
        theirs, _, peak = inside(setup, f"torch.load({str(path)!r}, {arguments})", 7 if "mmap" in name else 3)
        text = f"{theirs * 1e3:.1f} ms, {peak:.0f} MB: {theirs / best:.1f} × peek"
        yield Row(f"  torch.load, {name}", text, f"≥ {bar} × peek", theirs >= bar * best)
    os.sync()  # only what is written can be dropped from the cache
    ours, _, _ = inside("from trainlab.subjects.checkfile import peek", f"peek({str(path)!r})", cold=path)
    theirs, _, _ = inside(
        "import torch", f"torch.load({str(path)!r}, weights_only=True)", repeats=3, cold=path
    )
    text = f"{ours * 1e3:.1f} ms; torch.load {theirs * 1e3:.0f} ms: {theirs / ours:.0f} × peek"
    yield Row(f"peek, {size}, not in the page cache", text)
    for scanner in ("picklescan", "modelscan"):
        if found := shutil.which(scanner):
            yield Row(f"  {scanner}, whole command", f"{command(found, '-p', str(path), repeats=1):.2f} s")


def safetensors(path: Path, out: Path) -> Iterator[Row]:
    from trainlab.subjects.checkfile import salvage

    salvage(path, out)
    ours, _, _ = inside("from trainlab.subjects.checkfile import peek", f"peek({str(out)!r})")
    setup = "from safetensors import safe_open\ndef names(p):\n    with safe_open(p, 'pt') as f: return {n: f.get_slice(n).get_shape() for n in f.keys()}"
    theirs, _, _ = inside(setup, f"names({str(out)!r})")
    out.unlink()
    yield Row("peek, .safetensors", f"{ours * 1e3:.1f} ms; safe_open, names and shapes {theirs * 1e3:.1f} ms")


def hostile(root: Path) -> Iterator[Row]:
    from trainlab.subjects.checkfile import Grade, peek

    payloads = corpus.payloads()
    times = []
    flagged = 0
    modules: set[str] = set()
    with chdir(root):
        for container, write in corpus.CONTAINERS.items():
            for number, body in enumerate(payloads.values()):
                path = root / f"{container.replace(' ', '_')}_{number}.pt"
                write(body, path)
                modules = modules or (set(sys.modules) if peek(path).refusal() else set())
                begin = time.process_time()
                seen = peek(path)
                times.append(time.process_time() - begin)
                flagged += seen.grade is not Grade.HARMLESS
        ran = (root / "hostile-was-run").exists()
    # modules of our own, and the standard tarfile, which the first tar brings
    late = {name for name in set(sys.modules) - modules if not name.startswith(("trainlab.", "tarfile"))}
    text = f"{flagged} of {len(times)} flagged, {int(ran)} executed, {len(late)} imported, {max(times) * 1e3:.0f} ms"
    yield Row(
        f"hostile: {len(payloads)} payloads × {len(corpus.CONTAINERS)} files",
        text,
        "all, 0, 0, ≤ 1 s each",
        flagged == len(times) and not ran and not late and max(times) <= 1,
    )
    if found := shutil.which("picklescan"):
        count = sum(
            subprocess.run([found, "-p", str(each)], capture_output=True, check=False).returncode == 1
            for each in sorted(root.glob("zip_*.pt"))
        )
        yield Row("  picklescan, zip alone", f"{count} of {len(payloads)} flagged")
    if found := shutil.which("modelscan"):
        done = subprocess.run([found, "-p", str(root)], capture_output=True, text=True, check=False)
        total = re.search(r"Total Issues: (\d+)", done.stdout)
        yield Row("  modelscan, all", f"{total[1] if total else 'no'} issues in {len(times)} files")
    slowest = 0.0
    for body in corpus.BOMBS.values():
        corpus.as_zip(body(), root / "bomb.pt")
        begin = time.process_time()
        repr(peek(root / "bomb.pt"))
        slowest = max(slowest, time.process_time() - begin)
    yield Row(f"hostile: {len(corpus.BOMBS)} bombs", f"slowest {slowest:.2f} s", "≤ 1 s each", slowest <= 1)


def verifies(path: Path) -> Iterator[Row]:
    from trainlab.subjects.checkfile import verify
    from trainlab.subjects.checkfile.verify import crc_of

    raw = path.read_bytes()
    cores = len(os.sched_getaffinity(0))

    view, step = memoryview(raw), len(raw) // cores

    def on_all(target: Callable[..., object], arguments: Callable[[int], tuple[object, ...]]) -> float:
        begin = time.perf_counter()
        threads = [threading.Thread(target=target, args=arguments(step * number)) for number in range(cores)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return time.perf_counter() - begin

    def summed() -> float:
        return on_all(zlib.crc32, lambda start: (view[start : start + step],))

    wall, busy, rates = [], [], []
    verify(path)
    for _ in range(9):
        begin, cpu = time.perf_counter(), time.process_time()
        summed()
        middle, cpu_middle = time.perf_counter(), time.process_time()
        verify(path)
        end, cpu_end = time.perf_counter(), time.process_time()
        wall.append((middle - begin) / (end - middle))
        busy.append((cpu_middle - cpu) / (cpu_end - cpu_middle))
        rates.append(len(raw) / (end - middle) / 1e9)
    ratio = statistics.median(wall)
    text = f"{ratio:.2f} × (by CPU time {statistics.median(busy):.2f}), {max(rates):.2f} GB/s, {cores} cores"
    yield Row("verify, of zlib.crc32 on as many cores", text, "≥ 0.8 ×", ratio >= 0.8)
    with path.open("rb") as file:
        bound = [summed() / on_all(crc_of, lambda start: (file.fileno(), start, step)) for _ in range(9)]
    yield Row("  bound: its pages mapped and summed, no checks", f"{statistics.median(bound):.2f} ×")


def flips(path: Path, count: int = 200) -> Iterator[Row]:
    from trainlab.subjects.checkfile import State, verify

    found = 0
    rng = random.Random(0)
    with path.open("r+b", buffering=0) as file:
        for _ in range(count):
            place = rng.randrange(path.stat().st_size)
            old = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([old[0] ^ 1]), place)
            found += verify(path).state is State.DAMAGED
            os.pwrite(file.fileno(), old, place)
    yield Row("verify: flipped bytes", f"{found} of {count} found", "all", found == count)


def unverifiable(root: Path) -> Iterator[Row]:
    import torch
    from safetensors.torch import save_file

    from trainlab.subjects.checkfile import State, verify

    tensors = {"a": torch.randn(100, 100)}
    files = [root / name for name in ("legacy.pt", "a.safetensors", "without.pt")]
    torch.save(tensors, files[0], _use_new_zipfile_serialization=False)
    save_file(tensors, files[1])
    torch.serialization.set_crc32_options(False)
    torch.save(tensors, files[2])
    torch.serialization.set_crc32_options(True)
    states = {verify(each).state for each in files}
    yield Row(
        "verify: files without a CRC", ", ".join(states), "never damaged", states == {State.UNVERIFIABLE}
    )


def cuts(path: Path, count: int = 20) -> Iterator[Row]:
    import numpy as np

    from trainlab.subjects.checkfile import peek, salvage
    from trainlab.subjects.checkfile.values import Reader

    whole, size, rng = peek(path), path.stat().st_size, random.Random(0)
    rates, copies, lost, wrong, compared = [], [], 0, 0, 0
    copy, out = path.with_name("cut.pt"), path.with_name("cut.safetensors")
    shutil.copy(path, copy)
    with Reader() as source:
        ends = {
            name: source.place(info.storage)[1] + info.storage.nbytes
            for name, info in whole.tensors.items()
            if info.storage is not None
        }
        for length in sorted((rng.randrange(size // 20, size) for _ in range(count)), reverse=True):
            os.truncate(copy, length)
            complete = {name for name, end in ends.items() if end <= length}
            begin = time.perf_counter()
            result = salvage(copy, out)
            rates.append((time.perf_counter() - begin) / (length / 1e9))
            if len(copies) < 5:
                begin = time.perf_counter()
                shutil.copyfile(copy, path.with_name("plain"))
                copies.append((time.perf_counter() - begin) / (length / 1e9))
            lost += len(complete - set(result.saved))
            saved = peek(out)
            with Reader() as reader:
                for name in rng.sample(sorted(complete), min(40, len(complete))):
                    compared += 1
                    old, new = source.array(whole.tensors[name]), reader.array(saved.tensors[name])
                    wrong += not np.array_equal(old, new)
    for each in (copy, out, path.with_name("plain")):
        each.unlink()
    text = f"{lost} lost, {wrong} of {compared} compared differ, {min(rates):.2f} s/GB (median {statistics.median(rates):.2f})"
    met = not lost and not wrong and min(rates) <= 1
    yield Row(f"salvage: cut at {count} places", text, "0, 0, ≤ 1 s/GB", met)
    yield Row("  bound: a plain copy", f"{min(copies):.2f} s/GB (median {statistics.median(copies):.2f})")


def diffs(path: Path) -> Iterator[Row]:
    import torch

    other = path.with_name("other.pt")
    content = torch.load(path)
    content["model"]["emb.weight"][0, 0] += 1
    torch.save(content, other)
    del content
    setup = "from trainlab.subjects.checkfile import diff"
    best, median, _ = inside(setup, f"diff({str(path)!r}, {str(other)!r})")
    other.unlink()
    text = f"{best * 1e3:.1f} ms (median {median * 1e3:.1f})"
    yield Row("diff of two files, by name", text, "≤ 50 ms", best <= 0.05)


def rows(folder: Path, gigabytes: float, *, large: bool) -> Iterator[Row]:
    path = make(folder / "model.pt", gigabytes)
    yield from peeks(path)
    yield from safetensors(path, folder / "model.safetensors")
    yield from verifies(path)
    yield from flips(make(folder / "small.pt", 0.05))
    yield from unverifiable(folder)
    yield from cuts(path)
    yield from diffs(path)
    (folder / "hostile").mkdir()
    yield from hostile(folder / "hostile")
    if large:
        path.unlink()
        yield from peeks(make(folder / "large.pt", 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the file")
    parser.add_argument("--large", action="store_true", help="peek into a file of 4 GB too")
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), given.gigabytes, large=given.large):
            print(row, flush=True)
            missed += row.met is False
    print(f"{missed} bars missed" if missed else "all bars met")
    sys.exit(int(missed > 0))


if __name__ == "__main__":
    main()
