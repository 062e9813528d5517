"""Are these the checkpoints of the run that was meant, all of them, and whole?

Needs a file, a folder or a glob (``ckpts``), and says more where it is told what to expect (``expect=``). Reads the directory
and the pickle of each file, some milliseconds whatever its size; imports no torch and runs nothing that a file holds.

What is inferred where a file does not say it: the width by vote of the shapes, the depth as the number of blocks (see
`inside`), the iteration from the optimizer's step counts, the run from folder and name (`runs`). What is read in logs: `logs`.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.audit.example import example
from trainlab.diagnostics.audit.limits import AuditLimits
from trainlab.diagnostics.audit.probe import probe
from trainlab.diagnostics.audit.result import AuditResult
from trainlab.diagnostics.audit.rules import RULES
from trainlab.diagnostics.audit.views import inventory, inventory_knobs, timeline, timeline_knobs

__all__ = ["AuditLimits", "AuditResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="audit",
    question="Are these the checkpoints that were meant, all of them, and whole?",
    probe=probe,
    result=AuditResult,
    limits=AuditLimits,
    rules=RULES,
    views=(
        View(
            "timeline",
            "how far the files are, when they were written",
            timeline,
            timeline_knobs,
            size=(8.4, 4.4),
        ),
        View("inventory", "what is in each file", inventory, inventory_knobs, size=(9.6, 5.2)),
    ),
    rerun={"verify": False},
    example=example,
)
