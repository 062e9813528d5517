"""Read a training log, whatever wrote it: named series with step, epoch, time and line; events; config."""

from __future__ import annotations

__all__: list[str] = []
