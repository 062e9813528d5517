"""Does the model continue a clip: right, sharp and in one movement?

Needs a model and a batch with clips; how the model is rolled out it finds out, or is told (``sample``). Costs one forward a
predicted frame, in diffusion forcing one for every denoising step. Needs scikit-image, for PSNR and SSIM (Wang et al.
2004).

Each clip is continued from its first frames, and every predicted frame is compared with the true one, and with the answer
"nothing moves any more". Sharpness is the energy of the finest tenth of the truth's spectrum; motion that of the difference
between neighbouring frames; jerk that of the third difference of coarse frames, which needs no optical flow: of waves much
longer than a step, smooth motion leaves next to nothing in it, and erratic motion all.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.rollout.example import example
from trainlab.diagnostics.rollout.limits import RolloutLimits
from trainlab.diagnostics.rollout.probe import probe
from trainlab.diagnostics.rollout.result import RolloutResult
from trainlab.diagnostics.rollout.rules import RULES
from trainlab.diagnostics.rollout.views import curves, frame, frame_knobs, strip, strip_knobs

__all__ = ["RolloutLimits", "RolloutResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="rollout",
    question="Does the model continue a clip: right, sharp and in one movement?",
    probe=probe,
    result=RolloutResult,
    limits=RolloutLimits,
    rules=RULES,
    views=(
        View("strip", "truth, prediction and error, frame by frame", strip, strip_knobs, size=(10.0, 3.4)),
        View("curves", "every measure by frame", curves, size=(10.0, 6.0)),
        View("frame", "one frame: truth, prediction, difference", frame, frame_knobs, size=(9.0, 3.4)),
    ),
    rerun={"context": (1, 8, 1), "steps": (1, 50, 1), "seed": (0, 9, 1)},
    example=example,
)
