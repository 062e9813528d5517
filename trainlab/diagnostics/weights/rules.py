"""What the rules of `weights` say: is every weight finite, alive, moving, and in line with its siblings?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainlab.diagnostics.weights.limits import WeightsLimits
from trainlab.diagnostics.weights.result import WeightsResult
from trainlab.diagnostics.weights.siblings import siblings
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES"]

NAMED = 8  # offenders that are listed
TRAINED = ("weight", "embedding", "gain")
ALL = ("weight", "embedding", "gain", "bias", "vector")


@rule("WGT001", "Every weight is finite")
def finite(r: WeightsResult, limits: WeightsLimits) -> Outcome:  # noqa: ARG001
    """What: counts NaN and Inf in every tensor; infinities are allowed in masks and other buffers.

    Why: one NaN in a weight spreads to every output, and training on from this file cannot heal it.
    Fix: go back to the last checkpoint without it; lower the rate, clip gradients, skip steps with Inf.
    """
    bad = [
        i
        for i in range(len(r.tensor_name))
        if r.tensor_nan[i] or (r.tensor_inf[i] and r.tensor_role[i] != "buffer")
    ]
    if not bad:
        return Outcome.ok(
            f"all {int(r.tensor_elements.sum()):,} numbers in {len(r.tensor_name)} tensors are finite"
        )
    evidence = [
        Evidence(r.tensor_name[i], int(r.tensor_nan[i] + r.tensor_inf[i]), 0, "non-finite")
        for i in bad[:NAMED]
    ]
    kinds = " and ".join(
        f"{count} {kind}"
        for kind, count in (("NaN", r.tensor_nan[bad].sum()), ("Inf", r.tensor_inf[bad].sum()))
        if count
    )
    return Outcome.fail(
        f"{kinds} in {r.counted(bad)}",
        *evidence,
        fix="go back to the last checkpoint without them, then clip gradients or skip steps whose loss is not finite; "
        f"look first at what feeds {r.tensor_name[bad[0]]}",
    )


@rule("WGT002", "No weight is zero or constant")
def alive(r: WeightsResult, limits: WeightsLimits) -> Outcome:  # noqa: ARG001
    """What: weights, embeddings and the gains of norms that are zero everywhere, and matrices of one number.

    Why: a zero weight passes nothing on; a constant matrix gives all its units the same, and the same gradient.
    Biases, class tokens and buffers may be zero, and a gain may be one.
    Fix: initialise the named tensor, or see why its gradient is zero. Zero by design holds until the first step.
    """
    zero = [i for i in r.having(*TRAINED) if r.tensor_zeros[i] == 1.0]
    one = [i for i in r.having("weight", "embedding") if r.tensor_std[i] == 0 and i not in zero]
    if not zero and not one:
        return Outcome.ok(f"{len(r.having(*TRAINED))} weights and gains differ from zero")
    evidence = [Evidence(r.tensor_name[i], 0.0, None, "everywhere") for i in zero[:NAMED]]
    evidence += [Evidence(r.tensor_name[i], float(r.tensor_min[i]), None, "everywhere") for i in one[:NAMED]]
    names = r.tensor_name[(zero or one)[0]]
    said = [f"{r.counted(zero)} {_is(zero)} zero everywhere"] if zero else []
    said += [f"{r.counted(one)} {_is(one)} one number everywhere"] if one else []
    text = "; ".join(said)
    if r.step == 0:
        return Outcome.warn(
            f"{text}: by design at step 0, a fault later",
            *evidence,
            fix=f"look at {names} again after some steps",
        )
    return Outcome.fail(
        text,
        *evidence,
        fix=f"see that {names} is initialised, is given to the optimizer and gets a gradient: a layer scaled by zero, "
        "detached or masked out stays as it is",
    )


@rule("WGT003", "Every tensor moved")
def moved(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: tensors with the same bits as in the earlier checkpoint, and those that weight decay alone has moved.

    Why: a tensor that does not move is frozen, detached from the loss or missing from the optimizer; one that only
    shrinks gets a gradient of zero.
    Fix: give it to the optimizer; see that forward uses it and that requires_grad is on. Frozen on purpose is fine.
    """
    if not r.earlier:
        return Outcome.skip("there is nothing to compare with: earlier= names an earlier checkpoint")
    known = [i for i in r.having(*ALL) if np.isfinite(r.tensor_moved[i]) and r.tensor_elements[i]]
    if not known:
        return Outcome.skip(f"no weight here has the name and shape of one in {r.earlier}")
    still = [i for i in known if r.tensor_moved[i] == 0]
    # a bias before a norm has no gradient by design, and only decays
    trained = [i for i in known if r.tensor_role[i] in TRAINED and r.tensor_norm[i] > 0]
    shrunk = [i for i in trained if r.tensor_turn[i] < limits.turn_min]
    if len(still) == len(known):
        return Outcome.fail(
            f"not one of {len(known)} tensors differs from {r.earlier}",
            Evidence("tensors that moved", 0, len(known)),
            fix="see that the two files are of different steps, that the optimizer holds model.parameters() of this "
            "very model, and that optimizer.step() is reached",
        )
    evidence = [Evidence(r.tensor_name[i], 0.0, None, "of its numbers changed") for i in still[:NAMED]]
    evidence += [
        Evidence(r.tensor_name[i], float(r.tensor_turn[i]), limits.turn_min, "of its change")
        for i in shrunk[:NAMED]
    ]
    said = [f"{r.counted(still)} never moved"] if still else []
    said += [f"{r.counted(shrunk)} only shrank or grew as a whole, as by weight decay"] if shrunk else []
    if said:
        first = r.tensor_name[(still or shrunk)[0]]
        return Outcome.warn(
            f"of {len(known)} tensors, {'; '.join(said)}",
            *evidence,
            fix=f"unless it is frozen on purpose, see that {first} is in the optimizer, has requires_grad and is used "
            "in forward: print its .grad after backward()",
        )
    typical = float(np.median(r.tensor_change[known]))
    return Outcome.ok(f"all {len(known)} tensors moved, by {typical:.2g} of their norm in the median")


@rule("WGT004", "Rows and columns are alive")
def rows_alive(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: rows and columns of every weight that are zero or tiny beside their median.

    Why: a dead row is a unit that says nothing, a dead column an input that is not heard; they do not come back by
    themselves. Rows of embeddings are looked at by WGT008.
    Fix: see whether the unit's activation is always zero or its input constant; lower the rate or the weight decay.
    """
    rows = r.having("weight", "embedding")
    looked = [i for i in rows if r.tensor_rows[i] and r.tensor_zeros[i] < 1 and r.tensor_norm[i] > 0]
    if not looked:
        return Outcome.skip("there is no matrix with a number in it")
    share = np.where(
        [role == "embedding" for role in r.tensor_role],
        r.tensor_dead_columns / np.maximum(r.tensor_columns, 1),
        r.dead_share(),
    )
    bad = sorted((i for i in looked if share[i] > limits.dead_share_max), key=lambda i: -share[i])
    if not bad:
        worst = max(looked, key=lambda i: share[i])
        text = f"at most {share[worst]:.2g} of the rows or columns of a matrix are dead"
        return Outcome.ok(text, Evidence(r.tensor_name[worst], float(share[worst]), limits.dead_share_max))
    evidence = [
        Evidence(
            f"{r.tensor_name[i]} ({r.tensor_dead_at[i]})",
            float(share[i]),
            limits.dead_share_max,
            "of its side",
        )
        for i in bad[:NAMED]
    ]
    say = Outcome.fail if share[bad[0]] > limits.dead_share_fail else Outcome.warn
    first = r.tensor_name[bad[0]]
    return say(
        f"{r.counted(bad)} {'has' if len(bad) == 1 else 'have'} dead rows or columns: {r.tensor_dead_at[bad[0]]}",
        *evidence,
        fix=f"see what the units of {first} answer on a batch: dead rows are units that never fire (lower the rate, "
        "start again from before), dead columns are inputs that never vary (drop them)",
    )


@rule("WGT005", "Norms agree with their siblings")
def norms_agree(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: each weight's gain (rms · √fan-in) beside the same tensor in the other layers, and the largest magnitude.

    Why: layers of one kind train alike; one far away has blown up, has withered, or was scaled twice.
    Fix: go back to before it left its siblings, and look at its init, its rate and the gradient that it gets.
    """
    found = siblings(r)
    far = sorted((s for s in found if s.stands_out(limits)), key=lambda s: -abs(np.log(s.ratio)))
    peak = r.max_abs()
    large = [i for i in r.having(*ALL) if peak[i] > limits.weight_max]
    evidence = [
        Evidence(r.tensor_name[s.place], s.ratio, s.limit(limits), "× the median") for s in far[:NAMED]
    ]
    evidence += [
        Evidence(f"{r.tensor_name[i]}, largest magnitude", float(peak[i]), limits.weight_max)
        for i in large[:NAMED]
    ]
    if far or large:
        first = r.tensor_name[far[0].place if far else large[0]]
        how = (
            f"{first} is {_times(far[0].ratio)} than {far[0].among}"
            if far
            else f"{first} holds numbers up to {peak[large].max():.3g}"
        )
        more = len({*(s.place for s in far), *large}) - 1
        text = how + (f"; {more} more stand out" if more else "")
        fix = (
            f"look at the init of {first}, at the learning rate of its group and at its gradient norm; take a checkpoint "
            "from before it left the others"
        )
        blown = any(s.ratio > limits.stranger_ratio_max for s in far)
        return (Outcome.fail if blown else Outcome.warn)(text, *evidence, fix=fix)
    if not found:
        return Outcome.skip("no weight has another to be compared with, and none is large")
    worst = max(found, key=lambda s: abs(np.log(s.ratio)))
    return Outcome.ok(
        f"{len(found)} weights are within {max(worst.ratio, 1 / worst.ratio):.3g}× of their siblings' median",
        Evidence(r.tensor_name[worst.place], worst.ratio, worst.limit(limits), "× the median"),
    )


@rule("WGT006", "Spectra have not collapsed")
def spectra_wide(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: the stable rank ‖W‖²/σ₁² and the effective rank of every weight with 8 rows and columns or more.

    An embedding is a table, and may be of low rank.

    Why: a matrix of rank one maps every input onto one direction, whatever its size on paper.
    Fix: lower the rate or raise the warmup; see that the layer's inputs differ from each other.
    """
    known = [
        i
        for i in r.having("weight")
        if np.isfinite(r.tensor_stable_rank[i]) and min(r.tensor_rows[i], r.tensor_columns[i]) >= 8
    ]
    if not known:
        return Outcome.skip("no spectrum of a matrix with 8 rows and columns was computed")
    low = [
        i
        for i in known
        if r.tensor_stable_rank[i] < limits.stable_rank_min
        and not r.tensor_effective_rank[i] >= limits.effective_rank_min
    ]
    shown = sorted(low, key=lambda i: r.tensor_stable_rank[i])[:NAMED] or [
        min(known, key=lambda i: r.tensor_stable_rank[i])
    ]
    evidence = [
        Evidence(r.tensor_name[i], float(r.tensor_stable_rank[i]), limits.stable_rank_min, "stable rank")
        for i in shown
    ]
    if not low:
        return Outcome.ok(
            f"the least stable rank of {len(known)} matrices is {r.tensor_stable_rank[shown[0]]:.3g}",
            evidence[0],
        )
    first = r.tensor_name[shown[0]]
    return Outcome.fail(
        f"{r.counted(low)} {_is(low)} nearly of rank one",
        *evidence,
        fix=f"see whether the inputs of {first} differ from each other; train again from before with a lower rate or a "
        "longer warmup",
    )


@rule("WGT007", "No weight is a copy of another")
def distinct(r: WeightsResult, limits: WeightsLimits) -> Outcome:  # noqa: ARG001
    """What: weights with the same bits in different memory. Tied ones share memory and are counted as tied.

    Why: layers that were cloned at init stay equal only if they do not train; two halves of a model loaded from the
    same keys are equal too. An embedding and its head that were saved apart are allowed.
    Fix: initialise clones anew; map each key of the source to one place.
    """
    copies = [
        i for i in r.having("weight", "embedding") if r.tensor_copy_of[i] and not _head_of_embedding(r, i)
    ]
    tied = sum(bool(name) for name in r.tensor_tied_to)
    if not copies:
        beside = f"; {tied} tied on purpose share memory" if tied else ""
        return Outcome.ok(
            f"no two of {len(r.having('weight', 'embedding'))} weights hold the same numbers{beside}"
        )
    evidence = [Evidence(r.tensor_name[i], f"same bits as {r.tensor_copy_of[i]}") for i in copies[:NAMED]]
    first = r.tensor_name[copies[0]]
    return Outcome.warn(
        f"{r.counted(copies)} {'is a copy' if len(copies) == 1 else 'are copies'} of another",
        *evidence,
        fix=f"if {first} and {r.tensor_copy_of[copies[0]]} are meant to differ, initialise them apart (copy.deepcopy and "
        "nn.TransformerEncoder clone) and see that both train; if they are one, tie them. A target or momentum copy is fine",
    )


@rule("WGT008", "Embeddings' rows are sane")
def embeddings_sane(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: rows of an embedding that are zero, far larger than the rest, or the same as in the earlier checkpoint.

    Why: a row that is never trained is noise or nothing to every layer above, until its token comes.
    Fix: shrink the vocabulary to what the data holds, or see that the tokenizer belongs to this model.
    """
    known = [i for i in r.having("embedding") if r.tensor_rows[i] and r.tensor_zeros[i] < 1]
    if not known:
        return Outcome.skip("no tensor is an embedding by its name")
    share = r.tensor_dead_rows / np.maximum(r.tensor_rows, 1)
    faults: list[tuple[str, Evidence]] = []
    for i in known:
        name, row = r.tensor_name[i], f"row {int(r.tensor_row_peak_at[i])} of {r.tensor_name[i]}"
        gone, peak, still = float(share[i]), float(r.tensor_row_peak[i]), float(r.tensor_unmoved_rows[i])
        if gone > limits.embedding_dead_max and r.tensor_dead_rows[i] > 1:  # one may be padding
            where = Evidence(
                f"{name} ({r.tensor_dead_at[i]})", gone, limits.embedding_dead_max, "of its rows"
            )
            faults.append((f"{gone:.0%} of the rows of {name} are zero or tiny", where))
        if peak > limits.embedding_ratio_max:
            where = Evidence(row, peak, limits.embedding_ratio_max, "× the median norm")
            faults.append((f"{row} is {peak:.3g} times longer than the median", where))
        if limits.embedding_unmoved_max < still < 1:  # all of them: see WGT003
            where = Evidence(f"{name} (unmoved)", still, limits.embedding_unmoved_max, "of its rows")
            faults.append((f"{still:.0%} of the rows of {name} never moved", where))
    if faults:
        return Outcome.warn(
            "; ".join(text for text, _ in faults[:2])
            + (f"; {len(faults) - 2} more" if len(faults) > 2 else ""),
            *(evidence for _, evidence in faults[:NAMED]),
            fix="count the tokens of the training data: rows that none uses can go, and one row far out means a token "
            "with a wrong or a rare use",
        )
    worst = max(known, key=lambda i: r.tensor_row_peak[i])
    return Outcome.ok(
        f"the longest row of {len(known)} embeddings is {r.tensor_row_peak[worst]:.2g} times the median",
        Evidence(
            r.tensor_name[worst],
            float(r.tensor_row_peak[worst]),
            limits.embedding_ratio_max,
            "× the median norm",
        ),
    )


@rule("WGT009", "Values fit their dtype")
def fits(r: WeightsResult, limits: WeightsLimits) -> Outcome:
    """What: float16 and bfloat16 magnitudes near the largest that the dtype holds, and numbers below its least normal.

    Why: a doubling more is Inf; below the least normal number digits are lost, and processors are slow.
    Fix: keep the tensor in float32 or bfloat16; look for dead units that weight decay shrinks for ever.
    """
    largest = {
        "float16": 65504.0,
        "bfloat16": 3.39e38,
        "float32": 3.40e38,
    }  # float8 is scaled to its edge by design
    known = [i for i in r.having(*ALL) if r.tensor_dtype[i] in largest and np.isfinite(r.tensor_norm[i])]
    if not known:
        return Outcome.skip("no weight is a float of 16 or 32 bits")
    reach = {i: float(r.max_abs()[i]) / largest[r.tensor_dtype[i]] for i in known}
    high = [i for i in known if reach[i] > limits.range_max]
    low = [i for i in known if r.tensor_subnormal[i] > limits.subnormal_max and r.tensor_role[i] in TRAINED]
    if not high and not low:
        top = max(known, key=lambda i: reach[i])
        return Outcome.ok(
            f"the largest number is {r.max_abs()[top]:.3g}, in {r.tensor_dtype[top]}",
            Evidence(r.tensor_name[top], reach[top], limits.range_max, f"of {r.tensor_dtype[top]}'s range"),
        )
    evidence = [
        Evidence(r.tensor_name[i], reach[i], limits.range_max, f"of {r.tensor_dtype[i]}'s range")
        for i in high[:NAMED]
    ]
    evidence += [
        Evidence(
            r.tensor_name[i],
            float(r.tensor_subnormal[i]),
            limits.subnormal_max,
            f"below normal {r.tensor_dtype[i]}",
        )
        for i in low[:NAMED]
    ]
    said = [f"{r.counted(high)} nearly {'overflows' if len(high) == 1 else 'overflow'}"] if high else []
    said += [f"{r.counted(low)} {'lies' if len(low) == 1 else 'lie'} below the normal numbers"] if low else []
    return Outcome.warn(
        "; ".join(said),
        *evidence,
        fix=f"save {r.tensor_name[(high or low)[0]]} in float32 or bfloat16 and see why it is so "
        f"{'large' if high else 'small'}",
    )


RULES = (finite, alive, moved, rows_alive, norms_agree, spectra_wide, distinct, embeddings_sane, fits)


def _is(places: Sequence[int]) -> str:
    return "is" if len(places) == 1 else "are"


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times larger" if ratio >= 1 else f"{1 / ratio:.3g} times smaller"


def _head_of_embedding(r: WeightsResult, place: int) -> bool:
    """Were an embedding and its tied head saved apart?"""
    other = r.tensor_name.index(r.tensor_copy_of[place])
    return "embedding" in (r.tensor_role[place], r.tensor_role[other])
