"""The same statistics during training: losses are scattered into bins on the device, and written now and then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from trainlab.diagnostics.timesteps.accumulating import relative_to_median
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.errors import SubjectError, UsageError

__all__ = ["PERIODS", "Recorder"]

PERIODS = 4  # into so many a log is parted, to see what still improves
# what is summed: in every cell, and in every level over what one clip brings
CELL = ("count", "loss", "square", "nonfinite")
CLIP = ("clip_count", "clip_both", "clip_square")


class Recorder:
    """Records the loss by level and frame while a model trains.

    ::

        recorder = Recorder("runs/a/timesteps.jsonl", frames=16)
        …
        loss = (model(x, tau) - clean).square()  # one number for each element
        recorder.add(loss, tau)
        loss.mean().backward()
        …
        recorder.close()

    Losses are binned on the device that they are on, and nothing waits for it until ``every`` steps have come
    together; then one line is added to the file. `Recorder.read` makes a result of it, which `trainlab.timesteps`
    judges and plots like any other.

    Args:
        path: The file, JSON lines; begun anew.
        levels: How many bins between ``low`` and ``high``.
        frames: How many frames the loss has; 1 for none.
        low: The least level that the model is told.
        high: The largest; 999 for a thousand timesteps.
        every: Steps in a line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        levels: int = 16,
        frames: int = 1,
        low: float = 0.0,
        high: float = 1.0,
        every: int = 100,
    ) -> None:
        if levels < 1 or frames < 1 or every < 1 or not low < high:
            raise UsageError("a recorder needs bins", seen=f"levels={levels}, frames={frames}, {low} … {high}", fix="low below high, all others 1 or more")  # fmt: skip
        self.path = Path(path)
        self.levels, self.frames, self.low, self.high, self.every = levels, frames, low, high, every
        self.step = self.begun = 0
        self._sums: Tensor | None = None
        head = {"kind": "timesteps log", "levels": levels, "frames": frames, "low": low, "high": high}
        self.path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def add(self, loss: Tensor, level: Tensor) -> None:
        """Takes the losses of one step.

        Args:
            loss: (clip,), (clip, frame) or (clip, frame, …), before it is averaged; with ``frames=1`` all but the clip is
                averaged. Detached here.
            level: What the model was told, (clip,) or (clip, frame).

        Raises:
            UsageError: The shapes do not go together.
        """
        with torch.no_grad():
            sums = self._added(loss.detach(), level.detach())
            self._sums = sums if self._sums is None else self._sums.add_(sums)
        self.step += 1
        if self.step - self.begun >= self.every:
            self.flush()

    def flush(self) -> None:
        """Writes what has come together since the last line."""
        if self._sums is None:
            return
        sums = self._sums.cpu().double()
        split = len(CELL) * self.levels * self.frames
        cells = sums[:split].view(len(CELL), self.levels, self.frames).tolist()
        clips = sums[split:].view(len(CLIP), self.levels).tolist()
        line = {"begun": self.begun, "step": self.step, **dict(zip(CELL + CLIP, cells + clips, strict=True))}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._sums, self.begun = None, self.step

    def close(self) -> None:
        """Writes what is left."""
        self.flush()

    @staticmethod
    def read(path: str | os.PathLike[str], *, bands: int = 4) -> TimestepsResult:
        """Makes a result of what was recorded, in up to four periods of training.

        Args:
            path: The file.
            bands: Parts of the level axis for shares of the loss.

        Raises:
            SubjectError: There is no such file, or a `Recorder` did not write it.
        """
        return TimestepsResult(**_columns(Path(path)), bands=bands)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _added(self, loss: Tensor, level: Tensor) -> Tensor:
        """One vector: by cell the sums of `CELL`, by level over clips those of `CLIP`."""
        clips = len(loss)
        fits = self.frames == 1 or loss.shape[1:2] == (self.frames,)
        if not fits or level.shape not in ((clips,), (clips, self.frames)):
            raise UsageError(
                "loss and level do not go together",
                seen=f"loss {tuple(loss.shape)}, level {tuple(level.shape)}, frames={self.frames}",
                fix="loss (clip, frame, …), level (clip,) or (clip, frame), and Recorder(frames=…)",
            )
        loss = loss.reshape(clips, self.frames, -1).float().mean(2)
        good = loss.isfinite()
        loss, ones = loss.where(good, 0.0), good.float()
        place = (level.float() - self.low) * (self.levels / (self.high - self.low))
        bins = place.long().clamp(0, self.levels - 1).reshape(clips, -1).expand(clips, self.frames)
        cell = (bins * self.frames + torch.arange(self.frames, device=loss.device)).flatten()
        room = loss.new_zeros(len(CELL), self.levels * self.frames)
        room.index_add_(1, cell, torch.stack([ones, loss, loss.square(), 1 - ones]).flatten(1))
        both = loss.new_zeros(2, clips, self.levels)
        count, total = both.scatter_add_(2, bins.expand(2, -1, -1), torch.stack([ones, loss]))
        squares = torch.stack([count.square(), count * total, total.square()]).sum(1)
        return torch.cat([room.flatten(), squares.flatten()])


def _columns(path: Path) -> dict[str, Any]:
    head, lines = _opened(path)
    shape = (head["levels"], head["frames"])
    cells = np.array([[line[key] for key in CELL] for line in lines], np.float64)
    clips = np.array([[line[key] for key in CLIP] for line in lines], np.float64)
    periods = [part for part in np.array_split(np.arange(len(lines)), PERIODS) if len(part)]
    width = (head["high"] - head["low"]) / shape[0]
    at = head["low"] + width * (np.arange(shape[0]) + 0.5)
    names = tuple(f"steps {lines[part[0]]['begun'] + 1}–{lines[part[-1]]['step']}" for part in periods)
    columns: dict[str, list[np.ndarray]] = {}
    for part in periods:
        for name, values in _period(cells[part].sum(0), clips[part].sum(0)).items():
            columns.setdefault(name, []).append(values)
    periods_of = {"level": shape[0], "frame": shape[1], "cell": shape[0] * shape[1]}
    count = len(names)
    empty = np.zeros(0)
    return {
        "source": "log", "objective": "as trained", "why": "recorded during training", "schedule": "", "convention": "",
        "argument": "level", "steps": 0, "per_frame": False, "model_name": "", "batch_name": "", "unit": "clip",
        "clips": 0, "frames": shape[1], "draws": 1, "seed": 0, "se": 0.0, "stopped": f"{lines[-1]['step']} steps were recorded",
        "checkpoint_name": names, "length": (shape[1],),
        **{name: np.concatenate(parts) for name, parts in columns.items()},
        **{f"{table}_checkpoint": tuple(np.repeat(names, size).tolist()) for table, size in periods_of.items()},
        **{f"{table}_length": np.full(count * size, shape[1]) for table, size in periods_of.items()},
        "level_at": np.tile(at, count), "level_noise": np.tile((np.arange(shape[0]) + 0.5) / shape[0], count),
        "frame_at": np.tile(np.arange(shape[1]), count),
        "cell_level": np.tile(np.repeat(at, shape[1]), count), "cell_frame": np.tile(np.arange(shape[1]), count * shape[0]),
        "told_name": (), "told_ratio": empty, "told_low": empty, "told_high": empty, "told_moved": empty,
        "told_level": np.zeros((0, shape[0])), "step_size": empty, "step_mean": empty, "step_se": empty,
        "step_count": empty, "unit_loss": np.zeros((0, 0, 0)), "unit_length": np.zeros(0, np.int64),
    }  # fmt: skip


def _opened(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path} is no log of a Recorder", seen=str(error), fix="give the file that Recorder wrote") from None  # fmt: skip
    if not isinstance(head, dict) or head.get("kind") != "timesteps log" or not lines:
        raise SubjectError(
            f"{path} is no log of a Recorder",
            seen="no step in it" if not lines else str(head)[:80],
            fix="give the file that Recorder wrote, after flush() or close()",
        )
    return head, lines


def _period(cells: np.ndarray, clips: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of one period from sums by cell (4, level, frame) and of clips' squares (3, level)."""
    count, total, square, bad = cells
    many, both, squares = clips
    n, s = count.sum(1), total.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = s / n
        # a clip's frames in one bin are not independent: the variance of a ratio of sums over clips
        se = np.sqrt(np.maximum(squares - 2 * mean * both + mean**2 * many, 0)) / n
        spread = np.sqrt(np.maximum(square.sum(1) / n - mean**2, 0))
        frame_mean, cell_mean = total.sum(0) / count.sum(0), total / count
        frame_se = np.sqrt(np.maximum(square.sum(0) / count.sum(0) - frame_mean**2, 0) / count.sum(0))
        cell_se = np.sqrt(np.maximum(square / count - cell_mean**2, 0) / count)
        units = np.where(many > 0, np.maximum(n * n / many, 1), 0)
    nothing = {
        name: np.full(len(n), np.nan) for name in ("zero", "average", "copy", "ideal", "own", "previous")
    }
    none = np.full(count.shape, np.nan).ravel()
    return {
        "level_mean": mean, "level_se": se, "level_count": n.astype(np.int64), "level_units": units.astype(np.int64),
        "level_weighted": mean, "level_spread": spread, "level_nonfinite": bad.sum(1).astype(np.int64),
        **{f"level_{name}": each for name, each in nothing.items()},
        "frame_mean": frame_mean, "frame_se": frame_se, "frame_count": count.sum(0).astype(np.int64),
        **{f"frame_{name}": np.full(count.shape[1], np.nan) for name in ("zero", "average", "copy")},
        "frame_relative": relative_to_median(cell_mean), "cell_mean": cell_mean.ravel(), "cell_se": cell_se.ravel(),
        "cell_count": count.ravel().astype(np.int64), "cell_weighted": cell_mean.ravel(),
        "cell_nonfinite": bad.ravel().astype(np.int64),
        **{f"cell_{name}": none for name in ("zero", "average", "copy", "ideal")},
    }  # fmt: skip
