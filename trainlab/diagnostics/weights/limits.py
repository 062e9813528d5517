"""Where the rules of `weights` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WeightsLimits"]


@dataclass(frozen=True)
class WeightsLimits:
    """Thresholds; each is used where its comment says."""

    # Share of a matrix's rows or columns that may be dead. Healthy matrices have none; a few ReLU units die in
    # many runs and cost little.
    dead_share_max: float = 0.05
    # … and beyond this share the layer passes on less than half of what it was built for.
    dead_share_fail: float = 0.5
    # How many times larger or smaller than the median of its siblings a gain may be (no unit). Depth alone spreads
    # trained ones over a factor of 3 to 5; a wrong init, a lost scale or a blow-up makes it 30 and more.
    sibling_ratio_max: float = 20.0
    # … and how far it must stand out of their spread, in robust standard deviations (1.4826 · MAD of log10).
    sibling_z_max: float = 6.0
    # The same ratio for a matrix without siblings, beside all matrices; kinds differ more than depths.
    stranger_ratio_max: float = 100.0
    # Largest magnitude of a weight (its own unit). Trained ones stay below some tens; above 1e3 a step of float16
    # or bfloat16 is 1 or more, and one input swamps the sum.
    weight_max: float = 1e3
    # Least stable rank of a matrix with 8 rows and columns or more; 1 is rank one. Gaussian matrices have a quarter
    # of their side, trained ones 2 and more.
    stable_rank_min: float = 1.15
    # … where all singular values are known, the effective rank must be this low too: a strong mean direction alone
    # lowers only the stable rank.
    effective_rank_min: float = 2.0
    # Largest norm of an embedding's row over the median. Frequent and rare tokens differ by a factor of 5 to 10.
    embedding_ratio_max: float = 50.0
    # Share of an embedding's rows that may be zero, or the same as in the earlier checkpoint.
    embedding_dead_max: float = 0.1
    embedding_unmoved_max: float = 0.5
    # Share of a tensor's numbers that may lie below the least normal number of its dtype (float16: 6.1e-5). Of a
    # normal distribution with rms 1e-3 it is 5 %; half precision has fewer digits there, and float32 is slow.
    subnormal_max: float = 0.1
    # Largest magnitude as a share of what the dtype can hold: one doubling is left.
    range_max: float = 0.5
    # Share of a tensor's change that must be more than scaling; with weight decay alone it is rounding, below 1e-3.
    turn_min: float = 0.01
