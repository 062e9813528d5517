"""The rules of `audit`, in the order of the report."""

from __future__ import annotations

from typing import Any

from trainlab.diagnostics.audit.rules_of_files import (
    files_are_whole,
    model_is_the_one,
    names_are_true,
    sizes_fit,
)
from trainlab.diagnostics.audit.rules_of_runs import (
    all_is_there,
    got_far_enough,
    logs_are_true,
    newest_is_whole,
    no_gaps,
    not_nested,
    nothing_to_explain,
    outputs_are_right,
)

__all__ = ["RULES"]

RULES: tuple[Any, ...] = (
    files_are_whole, got_far_enough, logs_are_true, model_is_the_one, sizes_fit, no_gaps, not_nested, newest_is_whole,
    all_is_there, outputs_are_right, names_are_true, nothing_to_explain,
)  # fmt: skip
