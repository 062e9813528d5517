"""The rules of `curves`, in the order of their codes."""

from __future__ import annotations

from trainlab.diagnostics.curves.rules_of_loss import explodes, finite, late, spreads, still
from trainlab.diagnostics.curves.rules_of_optimizer import gradient, scheduled
from trainlab.diagnostics.curves.rules_of_parts import balanced, perplexed, present, weighted
from trainlab.diagnostics.curves.rules_of_run import adds_up, finished, quiet, steady, stopped
from trainlab.diagnostics.curves.rules_of_trend import fallen, falling, generalises, learned, moving

__all__ = ["RULES"]

RULES = (
    finite, explodes, late, moving, falling, still, spreads, fallen, generalises, gradient, scheduled,
    present, balanced, weighted, perplexed, stopped, finished, steady, quiet, adds_up, learned,
)  # fmt: skip
