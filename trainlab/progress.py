"""The one door to tqdm: progress for anything that takes over a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["heard_by", "track"]

T = TypeVar("T")
Listener = Callable[[int, int, str], None]

# A panel listens here, so that a probe need not know where its progress is shown.
_listener: ContextVar[Listener | None] = ContextVar("trainlab_progress_listener", default=None)


def track(items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows how far it is.

    Args:
        items: What is worked through.
        label: What is being done, e.g. ``"variation: forward"``.
        total: How many there are, where ``items`` has no length.

    Yields:
        The items, unchanged.
    """
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    listener = _listener.get()
    if listener is not None:
        listener(0, count, label)
        for done, item in enumerate(items, start=1):
            yield item
            listener(done, count, label)
        return
    from tqdm.auto import tqdm

    # delay keeps anything quicker than a second silent; the notebook's bar does not know tqdm's own switch
    off = bool(os.environ.get("TQDM_DISABLE"))
    yield from tqdm(items, desc=label, total=count or None, delay=1.0, leave=False, disable=off)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Sends the progress of everything inside to ``listener(done, total, label)`` instead of a bar."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
