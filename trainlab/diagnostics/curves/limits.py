"""Where the rules of `curves` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CurvesLimits"]


@dataclass(frozen=True)
class CurvesLimits:
    """Thresholds; each is used where its comment says. ``None`` leaves it to the pack, and where that has none, unjudged."""

    # Explosion: the level at the end over the lowest level of the run (ratio). Levels are running medians, so
    # that single points do not count; half of what was learned is lost long before a doubling is noise.
    explosion_ratio_max: float = 2.0
    # … and by so many standard errors of the level at the end.
    explosion_z_max: float = 5.0
    # The loss (its own unit) must be below late_loss_max after late_step steps. Only losses of a known scale
    # have such a limit: 1.0 for a diffusion model that predicts unit noise, since a prediction of 0 scores
    # 1.0.
    late_loss_max: float | None = None
    late_step: float = 1000.0
    # Plateau: the loss changes by less than this share of its level (ratio) …
    plateau_change_max: float = 0.02
    # … over this share of the run, while more than plateau_level_min of the initial level is left. Below, it
    # has converged.
    plateau_share_max: float = 0.5
    plateau_level_min: float = 0.5
    # … or over nearly all of the run, from early on, above this share of the initial level.
    plateau_early: float = 0.02
    plateau_early_level_min: float = 0.1
    # The loss must fall by this share (ratio) after so many steps, where the run goes on for as many again,
    # until it is below converged_level of its initial level or of the trivial baseline.
    falling_after: float = 5000.0
    falling_min: float = 0.01
    converged_level: float = 0.1
    # Spike: a point over the median before it (ratio), and over the noise (robust standard deviations of the
    # logarithm).
    spike_ratio_max: float = 1.5
    spike_z_max: float = 8.0
    # … and it must be over within this many steps.
    spike_recovery_max: float = 1000.0
    # Standard deviation over mean at the end of the run (ratio). A mini-batch loss has 0.05 to 0.3; one that
    # draws its noise level anew for every sample 1 and more, so there it is judged in the median of the
    # levels.
    spread_max: float = 0.5
    # The final level over the initial one (ratio). The packs say 0.5; 0.8 for language, whose entropy stays.
    final_ratio_max: float | None = None
    # Overfitting: the validation loss over its best (ratio - 1), while the training loss falls. Two
    # evaluations of one model on other samples differ by 1 to 2 %.
    overfit_rise_max: float = 0.03
    # The gradient norm at the end over its level after the first tenth (ratio), and its inverse.
    gradient_ratio_max: float = 10.0
    gradient_vanish_min: float = 1e-3
    # Share of steps whose gradient norm is not finite. Loss scaling skips one in 1000 to 2000 by design.
    gradient_bad_max: float = 0.02
    # Share of the run spent in warm-up; 1 to 10 % is usual, a fifth is still found.
    warmup_max: float = 0.25
    # Share of the run at a learning rate below 0.1 % of its peak.
    rate_dead_max: float = 0.1
    # How far a schedule may be laid out beyond or short of the run (ratio - 1).
    rate_horizon_error_max: float = 0.1
    # The peak against the learning rate of the config (ratio - 1).
    rate_peak_error_max: float = 0.02
    # A component has vanished when it is zero, or by this factor below what it was just before, to the end.
    vanish_factor: float = 1000.0
    # Share of points of a loss that are exactly zero. A batch without targets gives such a loss.
    zero_share_max: float = 0.05
    # The largest component over the smallest (ratio of medians over the last half of the run).
    component_ratio_max: float | None = None
    # Distance of a scheduled weight from its expected value, as a share of the schedule's range.
    weight_error_max: float = 0.1
    # Distance of log(perplexity) from the loss (nats). Logs print three to five digits. A mean of
    # exponentials lies above the exponential of the mean, by up to 0.5 for the spread that losses have.
    perplexity_error_max: float = 0.05
    perplexity_jensen_max: float = 0.5
    # A run that was stopped early still improves when its best moved by this share (ratio) in the last fifth.
    improving_min: float = 0.01
    # Share of the claimed steps at which a run counts as finished.
    finished_min: float = 0.99
    # Loss of speed between the first quarter of the run and the last (ratio); 10 to 15 % come from heat and
    # other users.
    throughput_drop_max: float = 0.25
    # Lines that hold no number of the run: share of the file, and how many it takes to matter.
    spam_share_max: float = 0.5
    spam_lines_min: float = 1000.0
    # Two claims about one number may differ by this share (ratio - 1).
    claim_error_max: float = 0.1
    # A model that has learned scores below this share of the trivial baseline.
    baseline_ratio_max: float = 0.97
