"""What the rules of `attention` say of heads beside the other heads of their layer."""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.attention.limits import AttentionLimits
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.telling import NAMED, heads_in, named, others
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["alive", "bounded", "distinct"]


@rule("ATT006", "No head is dead")
def alive(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: what a head adds through the output projection, beside the other heads of its layer.

    Why: a head that writes nothing costs as much as any other, and gets next to no gradient.
    Fix: see that its values and its columns of the output projection are not zero: pruned, masked, or initialised so.
    """
    known = np.flatnonzero(np.isfinite(r.head_write))
    if not len(known):
        return Outcome.skip("what heads write was not heard: no values, no projection")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(r.head_write == 0, 0.0, r.head_write / others(r, r.head_write))
    dead = known[ratio[known] < limits.dead_ratio_max]
    if not len(dead):
        beside = known[np.isfinite(ratio[known])]
        if not len(beside):
            return Outcome.ok(f"{heads_in(r, known)} write, each alone in its layer")
        least = beside[ratio[beside].argmin()]
        return Outcome.ok(
            f"of {len(known)} heads {named(r, least)} writes the least, {ratio[least]:.2g} of its neighbours'",
            Evidence(named(r, least), float(ratio[least]), limits.dead_ratio_max, "of the median head"),
        )
    level = Outcome.fail if len(dead) == len(known) else Outcome.warn
    first = named(r, dead[0])
    return level(
        f"{heads_in(r, dead)} {'writes' if len(dead) == 1 else 'write'} nothing: {first}",
        *(Evidence(named(r, i), float(ratio[i]), limits.dead_ratio_max, "of the median head") for i in dead[:NAMED]),
        fix=f"see that the values of {first} and its columns of the output projection are not zero. Zero by design (pruned, "
        "zero-initialised gates before the first step) is fine",
    )  # fmt: skip


@rule("ATT007", "No head is a copy of another")
def distinct(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: the cosine between two heads' weights, what uniform weights have taken off, and the spreads of their scores.

    Two heads that do the same with other scores, such as looking at the token before, are no copies.

    Why: copies of one head get the same gradient and stay copies.
    Fix: initialise them apart: tiling weights over heads, when growing a model or splitting grouped keys, leaves copies.
    """
    known = np.flatnonzero((r.head_twin >= 0) & np.isfinite(r.head_similarity))
    if not len(known):
        return Outcome.skip("no layer has two heads to compare")
    first_row = np.array([r.heads_of(c).start for c in range(len(r.call_name))])
    twin = first_row[r.head_call] + r.head_twin
    agree = np.abs(r.head_spread - r.head_spread[twin]) <= limits.same_spread * r.head_spread
    copies = known[(r.head_similarity[known] > limits.same_min) & agree[known]]
    shown = copies[:NAMED] if len(copies) else known[[r.head_similarity[known].argmax()]]
    evidence = [
        Evidence(f"{named(r, i)} and head {r.head_twin[i]}", float(r.head_similarity[i]), limits.same_min, "cosine")
        for i in shown
    ]  # fmt: skip
    first = shown[0]
    if not len(copies):
        return Outcome.ok(
            f"of {len(known)} heads {named(r, first)} and head {r.head_twin[first]} are most alike: "
            f"{r.head_similarity[first]:.2g}",
            *evidence,
        )
    return Outcome.warn(
        f"{heads_in(r, copies)} {'is a copy' if len(copies) == 1 else 'are copies'}: {named(r, first)} is head {r.head_twin[first]} again",
        *evidence,
        fix=f"if nobody copied the weights of {named(r, first)}, see how its layer was initialised or converted; add noise "
        "to one of each pair, or prune it",
    )


@rule("ATT008", "Scores stay within bounds")
def bounded(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: how far a query's scores spread, in itself and beside the layer's other heads; largest score; entropy of all.

    Heads that look at their own token or the one before may be sharper than others.

    Why: scores that grow make the softmax a choice of one, its gradient zero, and training unstable: entropy collapse
    (Zhai et al. 2023), an 8 B ViT that diverged (Dehghani et al. 2023, "ViT-22B"), logits beyond 1e4 (Wortsman et al.
    2023).
    Fix: normalise queries and keys (QK-norm), lower the rate or lengthen the warm-up, clip gradients; a z-loss does it
    for the output's logits.
    """
    known = np.flatnonzero(np.isfinite(r.head_spread))
    if not len(known):
        return Outcome.skip("no query sees two keys")
    usual = others(r, r.head_spread)
    positional = np.fmax(r.head_self, r.head_previous) > limits.positional_min
    beside = (r.head_spread > limits.spread_ratio_max * usual) & (r.head_spread > limits.spread_large)
    blown = (r.head_spread > limits.spread_max) | (r.head_logit > limits.logit_max)
    bad = known[(beside & ~positional | blown)[known]]
    bad = bad[np.argsort(-r.head_spread[bad])]
    entropy = float(r.head_entropy[known].mean())
    collapsed = entropy < limits.entropy_min
    first = bad[0] if len(bad) else known[r.head_spread[known].argmax()]
    scores = f"its scores spread by {r.head_spread[first]:.3g}, the largest is {r.head_logit[first]:.3g}"
    evidence = [_sharp(r, i, usual[i], limits) for i in (bad[:NAMED] if len(bad) else [first])]
    if not len(bad) and not collapsed:
        text = f"the sharpest of {len(known)} heads is {named(r, first)}: {scores}; the mean entropy is {entropy:.2g} of uniform"
        return Outcome.ok(text, *evidence)
    if collapsed:
        evidence.insert(0, Evidence("all heads, mean entropy", entropy, limits.entropy_min, "of uniform"))
        text = f"attention has collapsed: most queries of {len(known)} heads choose one key; {named(r, first)}: {scores}"
    else:
        text = f"the scores of {heads_in(r, bad)} have grown; {named(r, first)}: {scores}"
    return (Outcome.fail if collapsed or blown[bad].any() else Outcome.warn)(
        text,
        *evidence,
        fix=f"normalise the queries and keys of {r.call_name[r.head_call[first]]} (QK-norm), lower the rate or lengthen the "
        "warm-up, and go back to a checkpoint before it; see that q·k is scaled by 1/√depth, and only once",
    )


def _sharp(r: AttentionResult, head: int, usual: float, limits: AttentionLimits) -> Evidence:
    """What is large about a head's scores, and the limit that it passed first."""
    where = f"{named(r, head)} (entropy {r.head_entropy[head]:.2g} of uniform)"
    if r.head_logit[head] > limits.logit_max:
        return Evidence(where, float(r.head_logit[head]), limits.logit_max, "largest score")
    limit = limits.spread_max
    if np.isfinite(usual):  # else it is alone in its layer
        limit = min(limit, max(limits.spread_large, limits.spread_ratio_max * usual))
    return Evidence(where, float(r.head_spread[head]), limit, "spread of scores")
