"""Where the rules of `attention` draw the line, and why there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AttentionLimits"]


@dataclass(frozen=True)
class AttentionLimits:
    """Thresholds; each is used where its comment says.

    "Healthy" means the calibration half of benchmarks/attention_study: 22 small models, really trained, 350 heads.
    """

    # Standard deviation of a query's scores over the keys that it sees, below which a head is uniform: no weight is then
    # off the mean by more than a tenth or so. It does not depend on how many keys there are, as entropy does. Healthy
    # heads: 0.15 and more; queries of zero: 0; a fresh model with weights of 0.02 in a width of 32: 0.01.
    spread_min: float = 0.08
    # Share of all heads judged that may be uniform before it is the model, not a head.
    uniform_share_fail: float = 0.5
    # Distance (total variation, 0 to 1) between a joint head's mass by frame and an even one, below which it does not tell
    # frames apart.
    frames_min: float = 0.02
    # Mean weight that one key gets from all queries that see it. Healthy heads: 0.54 and less, the first token of causal
    # models included; a key that is biased: 0.99. Sinks on tokens that a model rests on are judged by `rest_mass_max`.
    one_token_max: float = 0.9
    # The same, for a head to count as resting on that key.
    rest_min: float = 0.5
    # In how many other calls a head has to rest on the same key for it to be the token that this model rests on.
    rest_calls: int = 2
    # Mean over heads of the weight on their most looked-at key. A 405 B Llama leaves 0.8 of its attention on the first
    # token (Barbero et al. 2025, "Why do LLMs attend to the first token?").
    rest_mass_max: float = 0.9
    # What a head writes over the median of the other heads of its call. Healthy heads: 0.35 and more.
    dead_ratio_max: float = 0.01
    # Mean cosine of two heads' weights, what uniform weights have taken off, from which they are copies, where the
    # spreads of their scores agree, too. Healthy heads: 0.93. Two heads that both look at the token before come near 1, but
    # not with the same scores.
    same_min: float = 0.995
    # Relative difference of those spreads.
    same_spread: float = 0.01
    # Standard deviation of a query's scores: from here on a softmax over any number of keys is a choice of one. Healthy
    # heads: 14 and less.
    spread_max: float = 30.0
    # How many times more than the median of the other heads of its call. Healthy heads: 5.6 and less; 50 times larger
    # queries in the least of them: 11.
    spread_ratio_max: float = 9.0
    # … asked for where it is this large in itself, and the head does not just look at its neighbour.
    spread_large: float = 6.0
    # Weight on the token itself or the one before, from which a head is positional: entropy near 0 is its task.
    positional_min: float = 0.9
    # Entropy over log(keys seen), mean over all heads, below which attention has collapsed as a whole (Zhai et al. 2023,
    # "Stabilizing transformer training by preventing attention entropy collapse"). Healthy models: 0.33 and more; with all
    # queries 30 times larger: 0.16 and less.
    entropy_min: float = 0.2
    # Largest score. Beyond 1e4 every run diverged (Wortsman et al. 2023, "Small-scale proxies for large-scale transformer
    # training instabilities").
    logit_max: float = 1e4
