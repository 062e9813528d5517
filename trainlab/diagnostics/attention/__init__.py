"""Who attends to whom, and is any head uniform, stuck on one token, dead or a copy?

Needs a model and a batch, and nothing of the model: it runs once, unmodified, at its default attention, and every attention
is heard while it computes, out of fused kernels too. Costs one forward without gradients and the statistics: about what
the written-out maps would take, in memory that does not grow with them; a fraction of it with ``rows``.

For each head: how sharp its weights are (entropy over the logarithm of the keys that a query sees), where they go (first
tokens, itself, the token before, places and frames), what it adds to the stream, and which other head does the same. Maps
are thumbnails; `weights`, `row`, `column` and `rollout` compute exact ones from queries and keys that are kept. What is heard
and not recorded is named: see `AttentionResult.coverage`.
"""

from __future__ import annotations

from trainlab.diagnostic import Diagnostic
from trainlab.diagnostics.attention.limits import AttentionLimits
from trainlab.diagnostics.attention.measuring import column, rollout, row, weights
from trainlab.diagnostics.attention.probe import probe
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.rules import RULES
from trainlab.diagnostics.attention.views import VIEWS
from trainlab.examples.tiny import healthy

__all__ = [
    "AttentionLimits",
    "AttentionResult",
    "column",
    "diagnostic",
    "probe",
    "rollout",
    "row",
    "weights",
]

diagnostic = Diagnostic(
    name="attention",
    question="Who attends to whom, and is any head uniform, stuck on one token, dead or a copy?",
    probe=probe,
    result=AttentionResult,
    limits=AttentionLimits,
    rules=RULES,
    views=VIEWS,
    rerun={"rows": (0, 4096, 64), "seed": (0, 16), "train": False},
    example=healthy,
)
