"""Is this a true continuation of the run, or a fresh start in disguise?

Needs a checkpoint. With the config or the arguments now in use (``config=``) it tells what differs from the stored
ones; with three functions of the training loop (``step=``, see `loop`) it proves the resume: it runs on and from the
saved file, and compares bit by bit. Costs one reading of the optimizer's moments, and 5 × ``steps`` steps of the loop.

Where the runs part, the step tells little alone: a wrong random stream or data position shows in the first loss,
moments in the second, a schedule in the second or later, BatchNorm's buffers and averages never. So pieces of the
uninterrupted run are carried over into the other, and the smallest set that makes them equal is to blame.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.resume.example import example
from trainlab.diagnostics.resume.probe import probe
from trainlab.diagnostics.resume.result import ResumeResult
from trainlab.diagnostics.resume.rules import RULES, ResumeLimits
from trainlab.diagnostics.resume.views import losses, parts, pieces, settings

__all__ = ["ResumeLimits", "ResumeResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="resume",
    question="Is this a true continuation, or a fresh start in disguise?",
    probe=probe,
    result=ResumeResult,
    limits=ResumeLimits,
    rules=RULES,
    views=(
        View("parts", "what the file holds of the run", parts, {"absent": True}, size=(8.0, 3.8)),
        View("losses", "the run that goes on and the one that is loaded", losses, {"logarithmic": False}),
        View("pieces", "which piece of the run is not restored", pieces, {"same": True}, size=(8.6, 3.8)),
        View(
            "settings", "config in use beside the stored one", settings, {"harmless": True}, size=(8.0, 4.0)
        ),
    ),
    rerun={"steps": (3, 30, 1)},
    example=example,
)
