"""Does one step of a shortcut model go where two of half the size go? (Frans et al. 2024)"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainlab.diagnostics.timesteps.accumulating import estimate
from trainlab.diagnostics.timesteps.objectives import Denoising, Task
from trainlab.diagnostics.timesteps.reading import first_like
from trainlab.diagnostics.timesteps.schedules import CONVENTIONS
from trainlab.progress import track
from trainlab.visit import call, device_of

__all__ = ["SIZES", "shortcuts"]

SIZES = tuple(2.0**-power for power in range(7, -1, -1))  # 1/128 … 1, as in the paper


def shortcuts(model: nn.Module, task: Task, clips: int) -> dict[str, Any]:
    """The columns of `step`: none where the model takes no step size or predicts no velocity."""
    found: list[tuple[float, float, float, int]] = []
    flows = (
        isinstance(task, Denoising) and task.kind == "flow" and not task.schedule.steps and not task.per_frame
    )
    if isinstance(task, Denoising) and flows and task.reading.step:
        reading = task.reading
        clean = reading.clean[:clips].to(device_of(model))
        rows = torch.arange(clips)
        noise = torch.stack([task._draw(clip, 0) for clip in range(clips)]).to(clean)  # noqa: SLF001 - the same noise bank
        sign = -1.0 if task.schedule.convention == CONVENTIONS[0] else 1.0  # from noise to clean

        def velocity(x: Tensor, t: float, size: float) -> Tensor:
            told = {
                reading.level: torch.full((clips,), t).to(clean),
                reading.step: torch.full((clips,), size).to(clean),
            }
            return first_like(call(model, reading.rows(rows) | {reading.entry: x} | told), clean)

        for size in track(SIZES, label="timesteps: step sizes"):
            losses = []
            for start in np.linspace(0, 1 - size, min(int(1 / size), 8)):
                t = start if sign > 0 else 1 - start
                a, b = task.schedule.mix(np.array(t))
                x = float(a) * clean + float(b) * noise
                first = velocity(x, t, size / 2)
                second = velocity(x + sign * size / 2 * first, t + sign * size / 2, size / 2)
                error = (velocity(x, t, size) - (first + second) / 2).square()
                losses.append(reading.by_frame(error).cpu().numpy().T)  # (frame, clip)
            told = estimate(np.stack(losses)[None], (1, 2))
            found.append((size, float(told.mean), float(told.se), int(told.count)))
    columns = np.array(found, np.float64).reshape(-1, 4)
    return {
        "step_size": columns[:, 0],
        "step_mean": columns[:, 1],
        "step_se": columns[:, 2],
        "step_count": columns[:, 3].astype(np.int64),
    }
