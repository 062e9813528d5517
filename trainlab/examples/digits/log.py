"""The run's log: one line a step for programs, one line every 20 steps for people."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Log"]


class Log:
    """Writes one line a step to ``log.jsonl`` (every number) and every 20th to ``train.log`` (for people).

    Args:
        folder: Where the two files are begun anew.
        steps: How many steps there will be.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.steps, self.begun = steps, time.perf_counter()
        self.text, self.json = folder / "train.log", folder / "log.jsonl"
        self.text.write_text("", encoding="utf-8")
        self.json.write_text("", encoding="utf-8")

    def write(self, step: int, epoch: int, numbers: Mapping[str, float]) -> None:
        """Logs a step; ``steps_per_s`` is the mean since the start."""
        numbers = {**numbers, "steps_per_s": step / (time.perf_counter() - self.begun)}
        with self.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iter": step, "epoch": epoch, **numbers}, allow_nan=False) + "\n")
        if step % 20 == 0 or step == self.steps:
            words = " ".join(f"{name}={value:.4g}" for name, value in numbers.items())
            self.say(f"iter={step}/{self.steps} epoch={epoch} {words}")

    def say(self, line: str) -> None:
        """Adds a line to ``train.log``."""
        with self.text.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
