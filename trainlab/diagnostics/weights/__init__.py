"""Are the weights sound: finite, moving, neither dead nor exploding?

Needs a checkpoint and no model; an earlier one (``earlier``) tells what never moved. Costs one pass over the file, tensor
by tensor and in blocks of 2 MB through its mapping, so that a file of any size needs little memory.

Each tensor is looked at as a matrix (out, everything else). Stable rank is ‖W‖²/σ₁² (Rudelson and Vershynin 2007),
effective rank exp of the entropy of the normalised singular values (Roy and Vetterli 2007). Matrices too large for
all singular values have their largest computed by block Krylov iteration (Musco and Musco 2015), with its error.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.weights.distributions import spectra, spectra_knobs, values, values_knobs
from trainlab.diagnostics.weights.example import example
from trainlab.diagnostics.weights.limits import WeightsLimits
from trainlab.diagnostics.weights.probe import probe
from trainlab.diagnostics.weights.result import WeightsResult
from trainlab.diagnostics.weights.rules import RULES
from trainlab.diagnostics.weights.views import change, change_knobs, layers, layers_knobs

__all__ = ["WeightsLimits", "WeightsResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="weights",
    question="Are the weights sound: finite, moving, neither dead nor exploding?",
    probe=probe,
    result=WeightsResult,
    limits=WeightsLimits,
    rules=RULES,
    views=(
        View("layers", "every tensor beside its siblings", layers, layers_knobs, size=(9.0, 7.5)),
        View("values", "the values of one tensor", values, values_knobs, size=(8.0, 5.6)),
        View("spectra", "singular values through the layers", spectra, spectra_knobs, size=(8.6, 4.4)),
        View("change", "how far each tensor moved", change, change_knobs, size=(8.0, 6.4)),
    ),
    rerun={"spectra": True},
    example=example,
)
