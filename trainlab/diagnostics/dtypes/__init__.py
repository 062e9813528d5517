"""Which dtypes does a run take under autocast, what raises without it, and would float16 hold it?

Needs a model and a batch; with ``loss`` it also forecasts gradients. Costs two forwards, or a few more where
something raises: a fix is offered only once the model has run natively with it.

CUDA's autocast is rehearsed on a CPU by its own rules, read from the installed torch (``ATen/autocast_mode.h``);
on a GPU the real one runs. Every row says which it was: ran on CPU, ran on GPU, rehearsed, or known rule.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic, View
from trainlab.diagnostics.dtypes.probe import probe
from trainlab.diagnostics.dtypes.result import DtypesResult
from trainlab.diagnostics.dtypes.rules import RULES, DtypesLimits
from trainlab.diagnostics.dtypes.views import headroom, modules, part_knobs, ribbon, sites
from trainlab.examples.tiny import healthy

__all__ = ["DtypesLimits", "DtypesResult", "diagnostic", "probe"]

diagnostic = Diagnostic(
    name="dtypes",
    question="Which dtypes does a run take under autocast, what raises without it, and would float16 hold it?",
    probe=probe,
    result=DtypesResult,
    limits=DtypesLimits,
    rules=RULES,
    views=(
        View("sites", "what raises without autocast, and the fix", sites, size=(8.4, 3.4)),
        View("ribbon", "the run, op by op", ribbon, part_knobs, size=(9.0, 4.0)),
        View("modules", "dtypes and casts of each module", modules, part_knobs, size=(8.0, 7.0)),
        View("headroom", "the range of float16", headroom, {"scaled": True}, size=(8.0, 4.4)),
    ),
    rerun={"autocast": ["cuda", "cpu", "off"], "dtype": ["bfloat16", "float16"], "train": False},
    example=healthy,
)
