"""Does the output move when the input does, which input does it listen to, and where does the movement die?

Needs a model and a batch of two or more different samples; the batch may bring its target along. With ``fresh``,
the same architecture at init, it tells a zero-initialised head from a dead one. Costs about ten forwards without
gradients.

Samples are swapped while everything else, the random numbers included, stays as it is, so that dropout noise
cancels: ``V = sqrt(E‖f(x_i, s) − f(x_π(i), s)‖² / (2 E‖f‖²))`` is 0 for a constant output, about 1 for unrelated
ones, and free of scale. The same is measured at every module's output, for every input alone, and along tokens.
What rounding alone can do is measured by disturbing the last place of every layer (Parker, Monte Carlo
arithmetic, 1997). Effective rank (Roy and Vetterli 2007) and dead units are shown beside, and decide nothing.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.variation import prediction_view
from trainlab.diagnostics.variation.prediction_view import predictions
from trainlab.diagnostics.variation.probe import probe
from trainlab.diagnostics.variation.result import VariationResult
from trainlab.diagnostics.variation.rules import RULES, VariationLimits
from trainlab.diagnostics.variation.views import distances, profile, profile_knobs, sources
from trainlab.examples.tiny import healthy

__all__ = ["VariationLimits", "VariationResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="variation",
    question="Does the output move when the input does, and in which layer does the movement die?",
    probe=probe,
    result=VariationResult,
    limits=VariationLimits,
    rules=RULES,
    views=(
        View("profile", "movement through the layers", profile, profile_knobs, size=(7.2, 5.2)),
        View("sources", "which input the output listens to", sources),
        View(
            "distances",
            "distances between outputs",
            distances,
            {"metric": ["variation", "cosine"]},
            size=(5.6, 4.4),
        ),
        View(
            "predictions", "two predictions side by side", predictions, prediction_view.knobs, size=(9.0, 2.5)
        ),
    ),
    rerun={"pairs": (2, 64, 2), "train": False},
    example=healthy,
)
