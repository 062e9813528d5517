"""Where the rules of `timesteps` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TimestepsLimits"]


@dataclass(frozen=True)
class TimestepsLimits:
    """Thresholds; each is used where its comment says."""

    # How many times more an end of the range may lose than the level beside it. The noise of a nearly clean input
    # cannot be told, so that epsilon models lose up to 5 times more there; a division by 0 makes it 1e3 and more.
    end_ratio_max: float = 30.0
    # Share of what an element-by-element Gaussian denoiser gains over the trivial answer that a model must gain. Trained
    # ones, small ones too, gain 0.7 and more, since they see more than one element.
    skill_min: float = 0.25
    # … asked for where that denoiser gains at least this share of the trivial loss.
    possible_min: float = 0.2
    # How far above the trivial answer a level may lie where nothing can be gained. Models overshoot by some per cent there.
    excess_max: float = 1.25
    # A model that loses less than this share of its loss when told otherwise (swapped, another schedule) prefers that,
    # where the 95 % interval agrees. Told the truth, healthy models lose the least, within 1 %.
    preferred_ratio: float = 0.99
    # The same for a timestep more or less, which moves the loss by some per cent among 50 timesteps; the other way must
    # make it worse. Of 1000 timesteps one cannot be told from the next.
    shifted_ratio: float = 0.999
    # Least change of the loss when the level is told half a range off, over the loss. Healthy models: 0.4 and more; those
    # that were told levels at random: below 0.06.
    listens_min: float = 0.12
    # How many times harder the last third of the frames may be than the first frame. It has no past to look at, so
    # healthy causal models find later frames easier.
    later_ratio_max: float = 1.5
    # How many times harder a single frame may be than the median frame. Healthy ones stay within 1.5, the first one 2.
    frame_ratio_max: float = 3.0
    # How many times farther a prediction may be from its own frame than from the one before, at clean levels. Healthy
    # models: below 0.1; an answer that is the same for all frames: 1; one that is shifted by a frame: 1.2 and more.
    neighbour_ratio_max: float = 1.08
    # Share of the weighted loss that one band may make. Four healthy bands make up to 0.7, where noise is what the
    # model predicts and only the cleanest levels are hard.
    band_share_max: float = 0.85
    # Standard deviation of clips' losses over their mean, within one level. Over all levels it is about 0.9 in any healthy
    # run, from the sampling of levels alone; within one, 0.2 to 1.5.
    spread_max: float = 2.5
    # Relative growth of the loss at a level from one checkpoint to the next that counts as worse, where paired clips agree.
    worse_max: float = 0.05
    # Relative standard error of a level's mean beyond which the comparison with the trivial answer says little.
    se_max: float = 0.3
