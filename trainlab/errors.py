"""Errors that say what failed, what was seen and what to try, in the caller's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "MissingExtraError",
    "NotApplicable",
    "PageError",
    "ResultError",
    "SubjectError",
    "TrainlabError",
    "UsageError",
    "did_you_mean",
]


class TrainlabError(Exception):
    """Base of every error that trainlab raises on purpose.

    Args:
        what: What failed, one sentence, in the caller's words.
        seen: What was there instead.
        fix: What to do about it: an action, printed after ``try:``.
    """

    def __init__(self, what: str, *, seen: object = None, fix: str | None = None) -> None:
        self.what = what
        self.seen = None if seen is None else str(seen)
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.seen is not None:
            lines.append(f"  seen: {_indent(self.seen)}")
        if self.fix is not None:
            lines.append(f"  try:  {_indent(self.fix)}")
        return "\n".join(lines)


class UsageError(TrainlabError):
    """An argument, setting or name that trainlab does not know or cannot use."""


class SubjectError(TrainlabError):
    """A model, batch, checkpoint or log that could not be opened, or does not fit the others."""


class ResultError(TrainlabError):
    """A saved result that cannot be read back, or a value that a result may not hold."""


class PageError(TrainlabError):
    """A report page that could not be found, parameterized or executed to its end."""


class MissingExtraError(TrainlabError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: What is missing, as it is imported.
        extra: The extra of trainlab that brings it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            fix=f"pip install 'trainlab[{extra}]'",
        )


class NotApplicable(TrainlabError):  # noqa: N818 - it is a skip with a reason, not a failure
    """The subject has nothing that this diagnostic, rule or view could look at; becomes a SKIP."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Advice for a mistyped name: the closest known one, or all of them.

    Args:
        word: What was typed.
        known: The names that exist.

    Returns:
        ``did you mean 'pairs'?`` or ``one of: a, b, c``, ready for an error's ``fix``.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" … and {len(names) - 12} more" if len(names) > 12 else ""
    return f"one of: {', '.join(names[:12])}{more}" if names else "there are none"


def _indent(text: str) -> str:
    return text.replace("\n", "\n        ")
