"""Checkpoints written without torch: tiny ones, or big ones full of holes that take no disk; and a run to look at."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trainlab.subjects.checkfile import TensorInfo
from trainlab.subjects.checkfile.writing import plan_torch

__all__ = ["example", "transformer", "write_checkpoint"]

DAY = 86_400.0


def transformer(width: int, layers: int, *, words: int = 64) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a transformer's weights."""
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (words, width)}
    for i in range(layers):
        shapes |= {f"blocks.{i}.attn.{name}.weight": (width, width) for name in ("q", "k", "v", "out")}
        shapes[f"blocks.{i}.up.weight"] = (4 * width, width)
        shapes[f"blocks.{i}.down.weight"] = (width, 4 * width)
        shapes |= {f"blocks.{i}.norm{n}.{name}": (width,) for n in (1, 2) for name in ("weight", "bias")}
    return {**shapes, "norm.weight": (width,), "norm.bias": (width,)}


def write_checkpoint(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    adam: bool = True,
    when: float | None = None,
    crc: bool = True,
    **beside: Any,
) -> Path:
    """Writes a file as torch.save does, its weights all zero and left out of the disk's blocks.

    Args:
        path: Where; its folder is made.
        shapes: The weights.
        adam: With AdamW's two moments and step count for each weight.
        when: Its modification time, seconds since 1970; now by default.
        crc: Store the checksums; without them a file of a gigabyte is written at once.
        **beside: What else the file holds: ``epoch=4``, ``config={…}``.
    """
    tensors: dict[str, TensorInfo] = {}

    def tensor(name: str, shape: tuple[int, ...]) -> TensorInfo:
        return tensors.setdefault(name, TensorInfo(name, "float32", shape, None))

    tree: dict[str, Any] = {
        "model": {name: tensor(f"model.{name}", shape) for name, shape in shapes.items()},
        **beside,
    }
    if adam:
        state = {
            i: {
                "step": float(beside.get("iter", 1)),
                **{key: tensor(f"{i}.{key}", shape) for key in ("exp_avg", "exp_avg_sq")},
            }
            for i, shape in enumerate(shapes.values())
        }
        group = {
            "lr": 1e-3,
            "betas": (0.9, 0.95),
            "eps": 1e-8,
            "weight_decay": 0.1,
            "amsgrad": False,
            "params": list(range(len(shapes))),
        }
        tree["optimizer"] = {"state": state, "param_groups": [group]}
    plan = plan_torch(tree, tensors)
    sums = {name: zlib.crc32(bytes(each.nbytes)) if crc else 0 for name, each in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(plan.size)
        file.write(plan.head)
        for at, raw in plan.tail(sums):
            file.seek(at)
            file.write(raw)
    if when is not None:
        os.utime(path, (when, when))
    return path


def example() -> dict[str, object]:
    """A run whose newest file is torn, with one that was never saved and a log that says more than there is."""
    return {"ckpts": _planted()}


@cache
def _planted() -> str:
    folder = Path(tempfile.mkdtemp(prefix="trainlab-audit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    start = time.time() - 3 * DAY
    run = folder / "shapes"
    shapes = transformer(32, 4)
    for epoch in (*range(5, 45, 5), *range(50, 75, 5)):
        when = start + epoch * 1800
        write_checkpoint(
            run / f"checkpoints/epoch_{epoch:03d}.pt", shapes, when=when, epoch=epoch, iter=epoch * 250,
            config={"hidden_dim": 32, "layers": 4, "epochs": 80},
        )  # fmt: skip
    torn = run / "checkpoints/epoch_075.pt"
    whole = write_checkpoint(torn, shapes, epoch=75, iter=75 * 250).read_bytes()
    torn.write_bytes(whole[: len(whole) // 3])
    write_checkpoint(
        run / "checkpoints/best.pt", shapes, adam=False, when=start + 55 * 1800 + 20, epoch=55, iter=55 * 250
    )
    log = run / "training.log"
    log.write_text(
        "".join(f"Epoch {epoch}/80 loss {2 / epoch:.3f}\n" for epoch in range(1, 77))
        + "OSError: No space left on device\n"
    )
    for path in (torn, log):
        os.utime(path, (start + 75 * 1800, start + 75 * 1800))
    return str(run)
