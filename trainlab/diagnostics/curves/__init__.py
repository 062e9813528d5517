"""Are there red flags in this training run?

Needs a log and neither model nor checkpoint. Costs milliseconds; counting the repeated lines of a text log reads it once
more, at about 50 MB a second.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.curves.example import example
from trainlab.diagnostics.curves.limits import CurvesLimits
from trainlab.diagnostics.curves.packs import PACKS, Pack
from trainlab.diagnostics.curves.probe import probe
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.rules import RULES
from trainlab.diagnostics.curves.run_views import lines, rate, throughput
from trainlab.diagnostics.curves.views import curves, curves_knobs, parts, parts_knobs

__all__ = ["PACKS", "CurvesLimits", "CurvesResult", "Pack", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="curves",
    question="Are there red flags in this training run?",
    probe=probe,
    result=CurvesResult,
    limits=CurvesLimits,
    rules=RULES,
    views=(
        View("curves", "losses, with what the rules speak of", curves, curves_knobs, size=(9.0, 5.0)),
        View("parts", "the parts of the loss", parts, parts_knobs, size=(9.0, 4.6)),
        View("rate", "the learning rate and its schedule", rate, {"logarithmic": False}, size=(8.0, 4.2)),
        View("speed", "how fast the run goes", throughput, size=(8.0, 4.2)),
        View("lines", "which lines the log repeats", lines, size=(9.0, 4.6)),
    ),
    rerun={"pack": ["auto", *PACKS]},
    example=example,
)
