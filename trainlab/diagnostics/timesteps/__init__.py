"""Where along noise level, frame and position is the loss made, and is it made there for the right reason?

Needs a model and a batch of clean clips (or noisy ones with their target); several checkpoints (``ckpts``) show which
levels still improve. A `Recorder` gathers the same during training; `Recorder.read` makes a result of it. Costs levels × samples clips without
gradients: seconds for a small model.

The noise of a clip depends on seed, clip and draw alone, so that checkpoints are compared under the very same noise, clip
by clip. Every loss stands beside what trivial answers would lose. The convention, the timestep index and the schedule are
not trusted: the model is told otherwise while its noisy input stays, and should like that less.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.timesteps.example import example
from trainlab.diagnostics.timesteps.limits import TimestepsLimits
from trainlab.diagnostics.timesteps.probe import probe
from trainlab.diagnostics.timesteps.recorder import Recorder
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.rules import RULES
from trainlab.diagnostics.timesteps.views import (
    by_frame,
    by_level,
    cells,
    checkpoint_knobs,
    frame_knobs,
    level_knobs,
)
from trainlab.diagnostics.timesteps.views_of_change import change, change_knobs, share, told

__all__ = ["Recorder", "TimestepsLimits", "TimestepsResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="timesteps",
    question="At which noise level, frame and position is the loss made, and for the right reason?",
    probe=probe,
    result=TimestepsResult,
    limits=TimestepsLimits,
    rules=RULES,
    views=(
        View("levels", "loss by level", by_level, level_knobs, size=(7.6, 4.8)),
        View("frames", "loss by frame or position", by_frame, frame_knobs, size=(7.6, 4.4)),
        View("cells", "loss by frame and level", cells, checkpoint_knobs, size=(9.0, 5.2)),
        View("change", "which levels still improve", change, change_knobs, size=(7.6, 4.4)),
        View("share", "which band of levels makes the loss", share, size=(7.2, 4.2)),
        View("told", "what if the model is told another level", told, {"by_level": False}, size=(7.6, 4.2)),
    ),
    rerun={"samples": (16, 256, 16), "levels": (4, 64, 4)},
    example=example,
)
