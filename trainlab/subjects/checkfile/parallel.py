"""Work on every core: reading, summing and hashing let go of Python's lock, so that threads are enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from trainlab.progress import track

__all__ = ["in_parallel"]

T = TypeVar("T")


def in_parallel(work: Sequence[Callable[[], T]], *, label: str) -> list[T]:
    """Does the work on every core and shows how far it is.

    Args:
        work: What is done; the longest first, so that no core idles at the end.
        label: What it is called while it runs.

    Returns:
        The results, in the order of the work.
    """
    with ThreadPoolExecutor(_cores()) as pool:
        futures = [pool.submit(each) for each in work]
        for done in track(as_completed(futures), label=label, total=len(work)):
            done.result()
    return [each.result() for each in futures]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
