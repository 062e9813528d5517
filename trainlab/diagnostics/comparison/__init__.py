"""Which run is best, by how much, and is that more than noise?

Needs the logs of two runs or more, in any format that ``open_logs`` reads. Costs what reading them costs.

Runs are ranked by the value at one step, as logged. Whether a gap is real is judged by levels (a straight line through the
last part of the way to that step) and their standard errors: from the spread between repeats where settings were run with
several seeds, else from the noise within each curve, widened for its autocorrelation, and by Student's t for few points.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.comparison.example import example
from trainlab.diagnostics.comparison.limits import ComparisonLimits
from trainlab.diagnostics.comparison.probe import probe
from trainlab.diagnostics.comparison.result import ComparisonResult
from trainlab.diagnostics.comparison.rules import RULES
from trainlab.diagnostics.comparison.table_views import settings, throughput, throughput_knobs
from trainlab.diagnostics.comparison.views import best_last, curves, curves_knobs, ranking
from trainlab.diagnostics.comparison.writing import write

__all__ = ["ComparisonLimits", "ComparisonResult", "diagnostic", "probe", "write"]

diagnostic = Diagnostic(
    name="comparison",
    question="Which run is best, by how much, and is that more than noise?",
    probe=probe,
    result=ComparisonResult,
    limits=ComparisonLimits,
    rules=RULES,
    views=(
        View("curves", "every run on one axis", curves, curves_knobs, size=(9.0, 4.8)),
        View(
            "ranking",
            "the order at one step, with its noise",
            ranking,
            {"noise_z": (0.5, 5.0, 0.5), "logarithmic": False},
            size=(9.0, 5.0),
        ),
        View("best_last", "the best value against the last", best_last, size=(9.0, 5.0)),
        View("throughput", "speed with pauses and without", throughput, throughput_knobs, size=(9.0, 4.6)),
        View("settings", "what was varied", settings, {"everything": False}, size=(9.0, 4.6)),
    ),
    rerun={"tail": (0.05, 0.5, 0.05)},
    example=example,
)
