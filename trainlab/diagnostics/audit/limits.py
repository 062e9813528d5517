"""The thresholds of `audit`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AuditLimits"]


@dataclass(frozen=True)
class AuditLimits:
    """Thresholds."""

    size_factor: float = 1.5  # a size is as expected up to this factor; "about 1 GB" is no exact number
    waste_factor: float = (
        1.5  # bytes on disk over those that the tensors need; pickles and headers take a few per cent
    )
    waste_bytes: int = 5_000_000  # and at least so many bytes, so that tiny files are left alone
    evidence_max: int = 12  # places named by one finding
