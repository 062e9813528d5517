"""Does `audit` find what is wrong among 400 checkpoints, and leave alone what is well? Run with ``python -m benchmarks.audit_corpus``.

Fifty runs of eight checkpoints lie in one folder, two for each kind of fault; one audit looks at all. A fault counts as
found when the rule for it names the very file or run; whatever else is named is a false alarm. Then healthy folders of other
kinds are audited without expectations, and the scene of the lost checkpoint with all its facts.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainlab.diagnostic import Examination
from trainlab.diagnostics.audit import diagnostic
from trainlab.diagnostics.audit.example import transformer, write_checkpoint

SECONDS = 5.0
EPOCHS = range(5, 45, 5)
EXPECT = {"epoch": 40, "hidden_dim": 32, "layers": 4, "every_epochs": 5}
CONFIG = {"model": {"hidden_dim": 32, "layers": 4}, "lr": 1e-3}
SHAPES = transformer(32, 4)
START = time.time() - 40 * 86_400
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1073741824\n"
HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"


@dataclass(frozen=True)
class Fault:
    """What was planted: its kind, the rule that must tell it, and the place that it must name."""

    kind: str
    code: str
    where: str


def at(epoch: int) -> float:
    return START + epoch * 3600


def plant_run(
    folder: Path, *, epochs: range = EPOCHS, shift: int = 0, adam: bool = True, log: str = ""
) -> None:
    for epoch in epochs:
        path = folder / f"epoch_{epoch:03d}.pt"
        write_checkpoint(
            path, SHAPES, adam=adam, when=at(epoch), epoch=epoch - shift, iter=epoch * 100, config=CONFIG
        )
    if log:
        (folder / "training.log").write_text(log)


def rewrite(path: Path, content: bytes) -> None:
    """Other content under the same name and time."""
    when = path.stat().st_mtime
    path.write_bytes(content)
    os.utime(path, (when, when))


def plant_fault(kind: str, root: Path, run: str, number: int) -> list[Fault]:
    """Plants a fault into a healthy run; which file it hits depends on the number."""
    folder = root / run
    epoch = EPOCHS[1 + number % 6]
    path = folder / f"epoch_{epoch:03d}.pt"
    name = f"{run}/{path.name}"
    if kind == "wrong epoch":
        write_checkpoint(path, SHAPES, when=at(epoch), epoch=2, iter=200, config=CONFIG)
        return [Fault(kind, "AUD011", name)]
    if kind == "wrong width":
        write_checkpoint(path, transformer(16, 4), when=at(epoch), epoch=epoch, iter=epoch * 100)
        return [Fault(kind, "AUD004", name)]
    if kind == "wrong depth":
        write_checkpoint(path, transformer(32, 2), when=at(epoch), epoch=epoch, iter=epoch * 100)
        return [Fault(kind, "AUD004", name)]
    if kind == "config lies":
        write_checkpoint(
            path, transformer(16, 4), when=at(epoch), epoch=epoch, iter=epoch * 100, config=CONFIG
        )
        return [Fault(kind, "AUD004", name)]
    if kind == "wrong size":
        write_checkpoint(
            path, SHAPES, adam=False, when=at(epoch), epoch=epoch, iter=epoch * 100, config=CONFIG
        )
        return [Fault(kind, "AUD005", name)]
    if kind in BROKEN:
        rewrite(path, BROKEN[kind](path.read_bytes()))
        return [Fault(kind, "AUD001", name)]
    if kind == "missing":
        path.unlink()
        return [Fault(kind, "AUD006", run)]
    if kind == "torn newest":
        newest = folder / f"epoch_{EPOCHS[-1]:03d}.pt"
        rewrite(newest, newest.read_bytes()[:100_000])
        where = f"{run}/{newest.name}"
        # what is left of the run is behind, too
        return [
            Fault(kind, "AUD008", where),
            Fault(kind, "AUD001", where),
            Fault(kind, "AUD002", f"{run}/epoch_035.pt"),
        ]
    if kind == "nested":
        folder.rename(root / "moved")
        (root / run / "runs/a/runs").mkdir(parents=True)
        (root / "moved").rename(root / run / "runs/a/runs/a")
        return [Fault(kind, "AUD007", f"{run}/runs/a/runs/a")]
    if kind == "stopped early":
        for late in EPOCHS[5:]:
            (folder / f"epoch_{late:03d}.pt").unlink()
        return [Fault(kind, "AUD002", f"{run}/epoch_{EPOCHS[4]:03d}.pt")]
    for late in EPOCHS[5:]:
        (folder / f"epoch_{late:03d}.pt").unlink()
    (folder / "training.log").write_text("Epoch 40/40: 100%|████████| 10/10\nTraining completed!\n")
    return [
        Fault(kind, "AUD003", f"{run}/training.log:1"),
        Fault(kind, "AUD003", f"{run}/training.log:2"),
        Fault(kind, "AUD002", f"{run}/epoch_{EPOCHS[4]:03d}.pt"),
    ]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda raw: raw[: len(raw) // 2],
    "git-LFS pointer": lambda _: LFS.encode(),
    "HTML page": lambda _: HTML.encode(),
    "zeros": lambda raw: bytes(len(raw)),
    "empty": lambda _: b"",
    "flipped byte": lambda raw: (
        raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :]
    ),
}
KINDS = (
    "wrong epoch", "wrong width", "wrong depth", "config lies", "wrong size", *BROKEN, "missing", "torn newest", "nested",
    "stopped early", "log claims more",
)  # fmt: skip


def plant(root: Path) -> list[Fault]:
    """Fifty runs of eight files, most with a fault, each fault in two."""
    faults: list[Fault] = []
    healthy = [
        {"log": "Epoch 40/40: 100%|█████| 10/10\nTraining completed!\n"},
        {"shift": 1},  # epochs counted from 0
        {"adam": False},
        {"log": '{"epoch": 39, "loss": 0.1}\nSaved checkpoint to /scratch/x/epoch_040.pt\n'},
        {},
    ]
    kinds = [*KINDS, *KINDS]
    for number in range(50):
        run = f"run_{chr(97 + number // 26)}{chr(97 + number % 26)}"
        if number < len(kinds):
            plant_run(root / run)
            faults += plant_fault(kinds[number], root, run, number)
        else:
            plant_run(root / run, **healthy[number % 5])  # type: ignore[arg-type]
    for number in range(14):  # in place of those that faults took away
        run = root / f"run_b{chr(97 + 23 - number)}"
        write_checkpoint(run / "last.pt", SHAPES, when=at(40) + 5, epoch=40, config=CONFIG)
    return faults


def named(examination: Examination) -> set[tuple[str, str]]:
    """The rule and the place of everything that is not well; AUD012 sums up, and names no place."""
    return {
        (finding.code, evidence.where)
        for finding in examination.findings
        if finding.level in ("warn", "fail") and finding.code != "AUD012"
        for evidence in finding.evidence
    }


def corpus() -> bool:
    """One audit of 400 files: prints a line for each kind of fault; were all found, and nothing else?"""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        faults = plant(root)
        count = sum(1 for _ in root.rglob("*.pt"))
        begun = time.perf_counter()
        diagnostic.examine(ckpts=root, expect=EXPECT)
        seconds = time.perf_counter() - begun
        examination = diagnostic.examine(
            ckpts=root, expect=EXPECT, verify=True, limits={"evidence_max": 1000}
        )
        checked = time.perf_counter() - begun - seconds
    seen = named(examination)
    print(f"{'fault':<18} {'planted':>8} {'found':>6}   rules")
    for kind in KINDS:
        mine = [fault for fault in faults if fault.kind == kind]
        found = sum((fault.code, fault.where) in seen for fault in mine)
        print(f"{kind:<18} {len(mine):>8} {found:>6}   {', '.join(sorted({fault.code for fault in mine}))}")
    missed = {(fault.code, fault.where) for fault in faults} - seen
    alarms = seen - {(fault.code, fault.where) for fault in faults}
    recall = 1 - len(missed) / len(faults)
    print(
        f"{count} files in {seconds:.2f} s (bar {SECONDS:g} s), with every checksum in {checked:.2f} s; "
        f"recall {recall:.0%}, false alarms {len(alarms)}"
    )
    for code, where in sorted(missed):
        print(f"  missed: {code} {where}")
    for code, where in sorted(alarms):
        print(f"  false alarm: {code} {where}")
    return not missed and not alarms and seconds <= SECONDS


def conv_net() -> dict[str, tuple[int, ...]]:
    """A U-Net's shapes: no width of its own, stacks of different depth."""
    shapes: dict[str, tuple[int, ...]] = {"inlet.weight": (32, 3, 3, 3)}
    for level, width in enumerate((32, 64, 128, 256)):
        for block in range(2):
            shapes[f"down.{level}.blocks.{block}.conv1.weight"] = (
                width,
                width if block else max(width // 2, 32),
                3,
                3,
            )
            shapes[f"down.{level}.blocks.{block}.conv2.weight"] = (width, width, 3, 3)
    return shapes


def healthy_folders(root: Path) -> list[Path]:
    """Folders as people have them, with nothing wrong."""
    plant_run(root / "plain")
    plant_run(root / "from zero", shift=1)
    plant_run(root / "keeps the last three", epochs=range(30, 45, 5))
    plant_run(root / "still training", log="".join(f"Epoch {each}/100 loss 0.1\n" for each in range(1, 43)))
    plant_run(root / "finished", log="Epoch 40/40: 100%\n`Trainer.fit` stopped: `max_epochs=40` reached.\n")
    plant_run(root / "best beside" / "checkpoints")
    for name, epoch, adam in (("best.pt", 25, False), ("last.pt", 40, True), ("ema_latest.pt", 40, False)):
        write_checkpoint(
            root / "best beside" / "checkpoints" / name,
            SHAPES,
            adam=adam,
            when=at(epoch) + 30,
            epoch=epoch,
            config=CONFIG,
        )
    samples = root / "best beside" / "samples"
    samples.mkdir()
    (samples / "a.png").write_bytes(b"\x89PNG")
    for step in (1, 2, 4, 8, 16, 32, 64):
        write_checkpoint(root / "doubling" / f"step_{step}.pt", SHAPES, when=at(step), iter=step)
    write_checkpoint(root / "alone" / "model.pt", SHAPES, adam=False)
    write_checkpoint(
        root / "u-net" / "unet.pt", conv_net(), config={"model_channels": 32, "channel_mult": [1, 2, 4, 8]}
    )
    for name in ("vae", "unet", "text_encoder"):
        write_checkpoint(
            root / "three models" / f"{name}_epoch10.pt", transformer(16 * len(name), len(name)), epoch=10
        )
    others = root / "other files"
    plant_run(others, epochs=range(5, 15, 5))
    (others / "train.bin").write_bytes(os.urandom(4096))
    (others / "notes.txt").write_text("epoch 900 was promised\n")
    (others / "runs").mkdir()
    trainer = root / "trainer"
    for step in (500, 1000, 1500):
        folder = trainer / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        header = json.dumps(
            {"wte.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]}}
        ).encode()
        header += b" " * (-len(header) % 8)
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(128))
        (folder / "config.json").write_text('{"n_embd": 4}')
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 500}))
    (trainer / "train.log").write_text("{'loss': 0.1, 'epoch': 3.0}\n{'train_runtime': 9.1, 'epoch': 3.0}\n")
    return sorted(each for each in root.iterdir() if each.is_dir())


def leaves_alone() -> bool:
    """Prints how many healthy folders are left alone, and what is told of the others."""
    with tempfile.TemporaryDirectory() as place:
        folders = healthy_folders(Path(place))
        told = {folder.name: diagnostic.examine(ckpts=folder) for folder in folders}
    wrong = {name: each for name, each in told.items() if each.verdict != "ok"}
    print(f"{len(told) - len(wrong)} of {len(told)} healthy folders without expectations left alone")
    for name, each in wrong.items():
        print(f"  {name}: {each.findings.headline}")
    return not wrong


def lost_scene(root: Path) -> Path:
    """The lost checkpoint: epoch 4 for 400, width 256 for 768, 63.1 MB for 1 GB, nested twice, used for inference.

    Returns:
        The folder of the experiment.
    """
    now = time.time()
    folder = root / "experiments/simple_magvit"
    # 5.26 M parameters and AdamW's two moments
    write_checkpoint(
        folder / "experiments/simple_magvit/checkpoint_last.pt", transformer(256, 6, words=2075), crc=False,
        when=now - 9 * 86_400, epoch=4, iter=1000, config={"hidden_dim": 256, "layers": 6},
    )  # fmt: skip
    log = folder / "training.log"
    bars = "\r".join(
        f"Epoch {epoch}/400: {epoch / 4:.0f}%|█████     | {epoch}/400" for epoch in range(1, 401)
    )
    log.write_text(bars + "\nTraining completed!\n")
    os.utime(log, (now - 3 * 86_400, now - 3 * 86_400))
    outputs = folder / "inference_outputs"
    outputs.mkdir()
    for number in range(6):
        (outputs / f"sample_{number}.png").write_bytes(b"\x89PNG")
    return folder


SCENE = {"epoch": 400, "hidden_dim": 768, "layers": 12, "size": "1GB"}
FACTS = {  # what the user told -> the rule that must say it, and its words
    "epoch 4 instead of 400": ("AUD002", ("epoch 4, not 400",)),
    "the log said 'Epoch 400/400: 100%'": ("AUD003", ("Epoch 400/400: 100%", "epoch 4")),
    "and 'Training completed!'": ("AUD003", ("Training completed!",)),
    "hidden 256 instead of 768": ("AUD004", ("width 256", "768")),
    "63.1 MB instead of ~1 GB": ("AUD005", ("63.1 MB", "1 GB")),
    "in a path nested twice": ("AUD007", ("experiments/simple_magvit/experiments/simple_magvit",)),
    "inference had used the wrong file": (
        "AUD010",
        ("inference_outputs is newer than the only checkpoint", "epoch 4, not 400"),
    ),
}


def scene() -> bool:
    """Prints which of the user's facts are told."""
    with tempfile.TemporaryDirectory() as place:
        folder = lost_scene(Path(place))
        begun = time.perf_counter()
        examination = diagnostic.examine(ckpts=folder, expect=SCENE)
        seconds = time.perf_counter() - begun
    well = True
    print("the lost checkpoint:")
    for fact, (code, words) in FACTS.items():
        finding = examination.findings[code]
        told = finding.level in ("warn", "fail") and all(word in str(finding) for word in words)
        well &= told
        print(f"  {'told' if told else 'NOT TOLD':<9} {code}  {fact}")
    print(f"  {examination.findings['AUD012'].text}")
    print(f"  in {seconds * 1000:.0f} ms")
    return well


def main() -> int:
    """Prints the three tables; 1 where a bar is missed."""
    results = [corpus(), leaves_alone(), scene()]
    torch = "torch" in sys.modules
    print(f"torch was {'' if torch else 'not '}imported")
    return int(not all(results) or torch)


if __name__ == "__main__":
    sys.exit(main())
