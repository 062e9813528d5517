"""What the rules of `attention` say of single calls and of what was recorded; `rules_of_heads` compares heads."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np

from trainlab.diagnostics.attention.limits import AttentionLimits
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.rules_of_heads import alive, bounded, distinct
from trainlab.diagnostics.attention.telling import NAMED, counted, heads_in, named
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES"]


@rule("ATT001", "Every weight is finite")
def finite(r: AttentionResult, limits: AttentionLimits) -> Outcome:  # noqa: ARG001
    """What: queries whose weights hold NaN or infinity; queries that see no key at all are counted apart.

    Why: one such row makes its token NaN, and the next layer all tokens.
    Fix: look at the first one named: its scores overflow, its weights are NaN, or its mask hides every key.
    """
    bad = np.flatnonzero(r.head_nonfinite)
    blind = int(r.call_blind.sum())
    beside = f"; {counted(blind, 'query', 'queries')} see no key, and were left out" if blind else ""
    if not len(bad):
        measured = int((r.call_measured * r.call_heads).sum())
        return Outcome.ok(f"all {counted(measured, 'row', 'rows')} of weights are finite{beside}")
    first = named(r, bad[0])
    masked = "; give queries that see no key one to see, e.g. themselves" if blind else ""
    return Outcome.fail(
        f"NaN or infinity in the weights of {heads_in(r, bad)}, first in {first}{beside}",
        *(
            Evidence(named(r, i), int(r.head_nonfinite[i]), 0, "queries with non-finite weights")
            for i in bad[:NAMED]
        ),
        fix=f"look for NaN in the query and key weights of {first} and in what feeds it, for scores that overflow in float16, "
        f"and for −inf in a whole row of the mask; later layers only hand it on{masked}",
    )


@rule("ATT002", "No head looks at one token whatever the query")
def looks_around(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: the mean weight that a head's most looked-at key gets from all queries that see it.

    Tokens that a model learns to rest on are left to ATT005: the first of a causal model, a prefix such as CLS and
    registers, and any key that heads of two other layers rest on, too (BERT's separator).

    Why: such a head gives every query the same vector: a bias, no attention.
    Fix: see what is special about that token's key (its norm, a bias, a massive activation); lower the rate, or
    normalise queries and keys.
    """
    judged = np.flatnonzero(np.isfinite(r.head_sink) & (r.call_visible[r.head_call] > 2))
    if not len(judged):
        return Outcome.skip("no query sees more than two keys")
    stuck = [i for i in judged if r.head_sink[i] > limits.one_token_max and not _rests(r, i, limits)]
    if not stuck:
        free = [i for i in judged if not _rests(r, i, limits)] or judged
        most = max(free, key=lambda i: r.head_sink[i])
        return Outcome.ok(
            f"no key has more than {r.head_sink[most]:.2g} of a head's attention: key {r.head_sink_key[most]} in {named(r, most)}",
            Evidence(named(r, most), float(r.head_sink[most]), limits.one_token_max, "on one key"),
        )
    stuck.sort(key=lambda i: -r.head_sink[i])
    first = stuck[0]
    return Outcome.fail(
        f"{heads_in(r, stuck)} {'looks' if len(stuck) == 1 else 'look'} at one token whatever the query: {named(r, first)} at key {r.head_sink_key[first]}",
        *(
            Evidence(f"{named(r, i)}, key {r.head_sink_key[i]}", float(r.head_sink[i]), limits.one_token_max, "of its attention")
            for i in stuck[:NAMED]
        ),
        fix=f"compare the norm of key {r.head_sink_key[first]} in {named(r, first)} with the others'. If it is a separator, all is "
        "well; else lower the rate or normalise queries and keys (QK-norm), and go back to a checkpoint before it",
    )  # fmt: skip


@rule("ATT003", "No head or layer is uniform")
def selective(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: the standard deviation of each query's scores over the keys that it sees; attention over time is ATT004's.

    Why: scores that are all alike make an average of all tokens, the same for every query.
    Fix: if the model is freshly initialised this is how it starts. Otherwise see that the query and key weights are not
    zero and get gradients, that q and k are scaled once, and that the layer's input differs from token to token.
    """
    return _uniform(r, limits, np.array([layout != "time" for layout in r.call_layout]), "attention")


@rule("ATT004", "Attention over time is not uniform")
def temporal(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: the same for attention over frames; where space and time are attended together, each head's mass by frame.

    Why: uniform attention over time adds up a clip's frames, and cannot tell what moved which way.
    Fix: see that the temporal layer's queries and keys train (their gradient is not zero), that frames carry positions,
    and that the reshape before it puts frames, not places, along the tokens.
    """
    time = np.array([layout == "time" for layout in r.call_layout])
    if time.any():
        heads = time[r.head_call]
        own, reach = r.head_self[heads].mean(), r.head_reach_time[heads].mean()
        aside = (
            f"; a query leaves {own:.2g} of its weight in its own frame, and reaches {reach:.2g} frames far"
        )
        return _uniform(r, limits, time, "attention over time", aside)
    joint = [c for c, layout in enumerate(r.call_layout) if layout == "joint" and r.call_frames[c] > 1]
    if not joint:
        return Outcome.skip("nothing here attends over frames; of a video, grid= says how its tokens lie")
    apart = {c: _apart(r, c) for c in joint}
    best = max(apart, key=lambda c: apart[c].max())
    head = r.heads_of(best).start + int(apart[best].argmax())
    where = Evidence(named(r, head), float(apart[best].max()), limits.frames_min, "off an even mass by frame")
    if apart[best].max() >= limits.frames_min:
        return Outcome.ok(f"{named(r, head)} tells frames apart the most of {len(joint)} layers", where)
    return Outcome.fail(
        f"no head of {len(joint)} layers tells one frame from another",
        where,
        fix="see that tokens carry the position of their frame, and that the data ask for motion: a model that is freshly "
        "initialised looks so, too",
    )


@rule("ATT005", "Sinks stay within bounds")
def sinks(r: AttentionResult, limits: AttentionLimits) -> Outcome:
    """What: the weight on each head's most looked-at key, mean over all heads, and how many heads rest there.

    Why: heads with nothing to do rest on a token that means little, mostly the first: normal in language models, where
    it may take most of the attention; in a ViT such tokens are patches that hold global information (registers help).
    Nearly all attention of all heads is more than rest.
    Fix: see that the model was trained with the first token that it gets here; give a ViT registers; in training, lower
    the rate or gate the heads' output.
    """
    judged = np.flatnonzero(np.isfinite(r.head_sink) & (r.call_visible[r.head_call] > 2))
    if not len(judged):
        return Outcome.skip("no query sees more than two keys")
    mass = float(r.head_sink[judged].mean())
    resting = judged[r.head_sink[judged] > limits.rest_min]
    where = Evidence("all heads, their most looked-at key", mass, limits.rest_mass_max, "of the attention")
    text = f"{len(resting)} of {len(judged)} heads {'rests' if len(resting) == 1 else 'rest'} on one key"
    if len(resting):
        keys, times = np.unique(r.head_sink_key[resting], return_counts=True)
        text += f", mostly key {keys[times.argmax()]}"
    if mass <= limits.rest_mass_max:
        return Outcome.ok(
            f"{text}; a head's most looked-at key gets {mass:.2g} of its attention in the mean", where
        )
    most = resting[np.argsort(-r.head_sink[resting])][: NAMED - 1]
    return Outcome.fail(
        f"{text}: {mass:.2g} of all attention goes there",
        where,
        *(Evidence(named(r, i), float(r.head_sink[i]), limits.rest_min, f"on key {r.head_sink_key[i]}") for i in most),
        fix="see that the batch starts as those of training did (its begin token, no long padding in front); in training, "
        "lower the rate, or give the heads a way to write nothing (a gate, registers)",
    )  # fmt: skip


@rule("ATT009", "All attention was recorded")
def covered(r: AttentionResult, limits: AttentionLimits) -> Outcome:  # noqa: ARG001
    """What: attention that was heard and could not be recorded: TorchScript, custom kernels, other threads.

    Why: the other findings say nothing about it.
    Fix: probe the model before it is scripted or exported, or with a kernel of torch's own.
    """
    lost = [row for row in r.rows("missed") if row["attends"]]
    if not lost:
        return Outcome.ok(r.coverage())
    return Outcome.warn(
        r.coverage(),
        *(Evidence(row["module"] or row["kernel"], row["count"], 0, "not recorded") for row in lost[:NAMED]),
        fix=f"{lost[0]['why']}; probe the eager model, before it is scripted or its kernels are replaced",
    )


def _rests(r: AttentionResult, head: SupportsIndex, limits: AttentionLimits) -> bool:
    """Whether the head's most looked-at key is one that this model rests on."""
    call, key = r.head_call[head], r.head_sink_key[head]
    if key < r.call_prefix[call] or (key == 0 and r.call_causal[call]):
        return True
    same = (r.head_sink_key == key) & (r.head_sink > limits.rest_min) & (r.head_call != call)
    return len(np.unique(r.head_call[same])) >= limits.rest_calls


def _uniform(
    r: AttentionResult, limits: AttentionLimits, calls: np.ndarray, what: str, aside: str = ""
) -> Outcome:
    """Judges the heads of some calls by the spread of their scores; ``aside`` ends the sentence where all is well."""
    judged = np.flatnonzero(calls[r.head_call] & np.isfinite(r.head_spread))
    if not len(judged):
        return Outcome.skip(f"there is no {what} with two keys to choose from")
    flat = judged[r.head_spread[judged] < limits.spread_min]
    shown = flat[:NAMED] if len(flat) else judged[[r.head_spread[judged].argmin()]]
    evidence = [
        Evidence(f"{named(r, i)} (entropy {r.head_entropy[i]:.3g} of uniform): spread of scores", float(r.head_spread[i]), limits.spread_min)
        for i in shown
    ]  # fmt: skip
    if not len(flat):
        text = f"the most uniform of {counted(len(judged), 'head', 'heads')} is {named(r, shown[0])}"
        return Outcome.ok(
            f"{text}; the mean entropy of {what} is {r.head_entropy[judged].mean():.2g} of uniform{aside}",
            *evidence,
        )
    whole = [c for c in np.unique(r.head_call[flat]) if np.isin(judged[r.head_call[judged] == c], flat).all()]
    equal = r.head_spread[flat].max() < 1e-6  # not small, but no queries or keys at all
    if len(flat) == len(judged):
        text = f"each of {counted(len(flat), 'head', 'heads')} of {what} averages over all that it sees"
        text += "" if equal else ", as in a model that was never trained"
    else:
        layers = ", ".join(r.call_name[c] for c in whole[:NAMED])
        place = f"all of {layers}" if whole else f"first {named(r, flat[0])}"
        text = (
            f"{heads_in(r, flat)} {'averages' if len(flat) == 1 else 'average'} over all tokens seen: {place}"
        )
    first = r.call_name[r.head_call[flat[0]]]
    fresh = (
        ""
        if equal
        else "if the model is freshly initialised, train it first: this is how it starts. Otherwise "
    )
    level = Outcome.fail if whole or len(flat) > limits.uniform_share_fail * len(judged) else Outcome.warn
    return level(
        text + ("; their scores are all equal" if equal else ""),
        *evidence,
        fix=f"{fresh}see that the query and key weights of {first} are not zero, are in the optimizer and get a gradient, and "
        "that its tokens differ from each other",
    )


def _apart(r: AttentionResult, call: int) -> np.ndarray:
    """(head) total variation between each frame's mass by frame and an even one over the frames that it sees."""
    mass = r.frames(call).astype(np.float64)
    seen = np.tri(mass.shape[-1]) if r.call_causal[call] else np.ones(mass.shape[-2:])
    total = mass.sum(-1, keepdims=True)
    mass = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    off: np.ndarray = 0.5 * np.abs(mass - seen / seen.sum(-1, keepdims=True)).sum(-1)
    apart: np.ndarray = np.where(total[..., 0] > 0, off, 0).mean(-1)
    return apart


RULES = (finite, looks_around, selective, temporal, sinks, alive, distinct, bounded, covered)
