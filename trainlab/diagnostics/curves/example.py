"""The room's example; torch is imported when it is asked for, since reading a log needs none."""

from __future__ import annotations

__all__ = ["example"]


def example() -> dict[str, object]:
    """The log of a tiny run that is really trained, in a second."""
    from trainlab.diagnostics.curves.training import trained

    return {"log": trained()}
