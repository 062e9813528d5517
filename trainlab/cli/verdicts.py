"""A verdict becomes an exit code here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

import click

__all__ = ["STRICT", "exit_code"]

STRICT = click.option("--strict", is_flag=True, help="A warning is a failure too.")


def exit_code(verdicts: Iterable[str], *, strict: bool) -> int:
    """0 for ok, skip and warn; 1 for fail, and for warn where ``strict``; 2 where something could not run."""
    found = set(verdicts)
    if "error" in found:
        return 2
    return int("fail" in found or (strict and "warn" in found))
