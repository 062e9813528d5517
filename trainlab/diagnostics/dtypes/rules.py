"""What the rules of `dtypes` say: does it run with autocast and without, in float16 too, and is nothing cast badly?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.dtypes.result import DtypesResult, located, short_place
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES", "DtypesLimits"]

NAMED = 12  # offenders that are listed
# What writes an infinity on purpose: a mask for a softmax
MASKS = ("masked_fill", "masked_fill_", "where", "full", "full_like", "fill_", "new_full", "triu", "setitem")
WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # bytes
HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class DtypesLimits:
    """Thresholds; each is used where its comment says."""

    # Powers of two that must lie between the largest value and float16's largest number. Activations of a run grow
    # by a factor of 2 between batches and between steps without anything being wrong.
    headroom_min: float = 1.0
    # Share of a gradient's non-zero numbers that may become zero in float16 under the recommended loss scale; the
    # mixed precision paper (Micikevicius et al. 2018) lost 5 % at scale 1 in SSD, and that run did not diverge.
    gradient_lost_max: float = 0.05
    # How often a weight may be cast in one forward; autocast's cache makes it once.
    weight_casts_max: int = 1


@rule("DTY001", "Runs to its end under autocast")
def runs_under_autocast(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: the forward under the autocast that was asked for; `off` runs it plainly.

    Why: autocast mends most mixtures of dtypes, but not all, and refuses some ops, such as binary_cross_entropy.
    Fix: cast at the op that is named, or replace it: binary_cross_entropy_with_logits is safe under autocast.
    """
    under = f"autocast({r.autocast!r}, {r.dtype})" if r.dtype else "no autocast"
    if not r.error:
        return Outcome.ok(
            f"{len(r.op_name)} {'op' if len(r.op_name) == 1 else 'ops'} under {under}, {r.evidence}"
        )
    at = r.error_at or "the line that raises"
    cast = f"cast what enters {at} to one dtype that it takes"
    if r.dtype:
        cast += ", or put it under torch.autocast(device_type, enabled=False), in float32"
    return Outcome.fail(
        f"under {under} the run ends with: {r.error}",
        *([Evidence(r.error_at, r.error_dtypes or "raises")] if r.error_at else []),
        fix="; ".join(r.fix_code) if r.fix_code and not r.dtype else cast,
    )


@rule("DTY002", "Runs without autocast")
def runs_without_autocast(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: the same forward outside autocast, going on past every dtype error, so that all of them are listed.

    Why: autocast hides a layer in the wrong dtype for as long as training lasts; evaluation or export outside it
    then ends with "mat1 and mat2 must have the same dtype".
    Fix: the lines that are offered were applied to this model, and it ran through natively before it was put back.
    """
    crashes = r.crashes()
    if not crashes:
        return Outcome.ok(f"the forward runs in {r.reference} ({r.without_evidence})")
    evidence = [
        Evidence(
            located(r.site_module[i], r.site_op[i], r.site_place[i]),
            r.site_dtypes[i],
            None,
            f"from {r.brought_in_by(i)}" if r.site_causes[i] else "",
        )
        for i in crashes[:NAMED]
    ]
    places = "place" if len(crashes) == 1 else "places"
    only = (
        "nothing smaller helped than casting the whole model: " if r.last_resort else "run before training: "
    )
    fix = (
        only + "; ".join(r.fix_code) + " (applied and run: the forward passes)"
        if r.fix_code
        else f"bring what enters {r.site_module[crashes[0]] or 'the model'} to {r.reference}; no change could be "
        "verified by a run"
    )
    return Outcome.fail(
        f"outside autocast it raises at {len(crashes)} {places}, first: {r.site_error[crashes[0]]}",
        *evidence,
        fix=fix,
    )


@rule("DTY003", "Every weight has the dtype of the rest")
def one_dtype(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: parameters and buffers in another floating dtype than most, where they meet it or are trained in less.

    Why: a layer built in a teacher's half precision, or a float64 buffer from numpy, decides what comes after it.
    Fix: cast it when it is built; a part that never meets the rest, and norms kept in float32, are left in peace.
    """
    odd = [i for i, flag in enumerate(r.tensor_odd) if flag]
    # A norm takes half values with float32 weights: that is how norms are kept in a half-precision model
    causes = ", ".join(
        names
        for i, names in enumerate(r.site_causes)
        if r.site_kind[i] != "narrows" or _is_written(r.site_op[i])
    )
    met = [
        i
        for i in odd
        if _names(causes, r.tensor_name[i])
        or (r.tensor_trainable[i] and WIDTHS.get(r.tensor_dtype[i], 1) < WIDTHS.get(r.reference, 1))
    ]
    shares = Counter(r.tensor_dtype)
    told = ", ".join(f"{count} in {dtype}" for dtype, count in shares.most_common()) or "none"
    if not met:
        apart = f"; {len(odd)} odd ones keep to themselves" if odd else ""
        return Outcome.ok(f"{len(r.tensor_name)} floating tensors: {told}{apart}")
    evidence = [Evidence(r.tensor_name[i], r.tensor_dtype[i], r.reference) for i in met[:NAMED]]
    fix = "; ".join(r.fix_code) or f"cast {r.tensor_name[met[0]]} to {r.reference} where it is built"
    return Outcome.warn(
        f"{len(met)} of {len(r.tensor_name)} floating tensors are not in {r.reference} ({told})",
        *evidence,
        fix=fix,
    )


@rule("DTY004", "No float32 result is narrowed silently")
def not_narrowed(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: results that are written in place into a tensor of a narrower dtype, with autocast and without.

    Why: a sum kept in half precision stops growing at 2048 (float16) or 256 (bfloat16) times what is added.
    Fix: keep the accumulator in float32, and cast once, at the end.
    """
    places = dict.fromkeys(r.where(int(r.cast_op[i])) for i in r.casts_of("in place") if _narrows(r, i))
    places |= dict.fromkeys(
        located(r.site_module[i], r.site_op[i], r.site_place[i])
        for i, kind in enumerate(r.site_kind)
        if kind == "narrows" and _is_written(r.site_op[i])
    )
    if not places:
        return Outcome.ok("nothing is written into a narrower dtype")
    return Outcome.warn(
        f"{len(places)} {'op writes' if len(places) == 1 else 'ops write'} into a narrower dtype",
        *[Evidence(place, "narrowed") for place in list(places)[:NAMED]],
        fix="make the tensor that is written to float32, and cast it once, when it is complete",
    )


@rule("DTY005", "Values stay finite")
def stays_finite(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: the first op to give NaN or infinity from finite values; infinities that mask, or go nowhere, are meant.

    Why: from there on every value that depends on it is lost, and the loss tells only that.
    Fix: look at the op that is named: an overflow in the lower dtype, a division by zero, a log of zero.
    """
    sick = (r.op_nan + r.op_inf) > 0
    read = sick | ~np.isnan(r.op_max)
    if not read.any():
        return Outcome.skip("no floating values were read")
    nans = np.flatnonzero(r.op_nan)
    # Then infinities in float32 went nowhere, as T5's log of a distance of zero, which `where` leaves out
    ends_well = not len(nans) and not sick[np.flatnonzero(read)[-1]]
    told = [int(i) for i in np.flatnonzero(r.op_born) if r.op_nan[i] or r.op_name[i] not in MASKS]
    born = [i for i in told if not ends_well or r.op_output[i] in HALF]
    # An infinity in float32 may have been done away with: it comes last. One of a mask is named where NaN comes of it
    born = sorted(born, key=lambda i: not r.op_nan[i] and r.op_output[i] not in HALF)
    born = born or [int(i) for i in nans[:1]]
    if not born:
        vanish = f"; the infinities of {r.where(told[0])} go nowhere" if told else ""
        return Outcome.ok(f"the outputs of {int((read & ~sick).sum())} ops are finite{vanish}")
    evidence = [
        Evidence(r.where(i), int(r.op_nan[i] + r.op_inf[i]), 0, f"non-finite in {r.op_output[i]}")
        for i in born[:NAMED]
    ]
    first = born[0]
    line = short_place(r.op_site[first])
    fix = f"look at {line}: what goes in is finite, what comes out is not"
    if not r.op_born[first]:
        fix = f"look at the batch and the weights: NaN goes in at {line} already"
        if r.op_inf[:first].any():
            fix = (
                f"look at {line}: the infinities of a mask go in, perhaps over a whole row, and NaN comes out"
            )
    elif r.op_output[first] in HALF and not r.dtype:
        fix = f"cast what enters {line} to float32, or run the model in bfloat16"
    elif r.op_output[first] in HALF:
        fix = f"run it in float32: with torch.autocast(device_type, enabled=False) around {line}"
    return Outcome.fail(f"not finite from {r.where(first)} on", *evidence, fix=fix)


@rule("DTY006", "float16 holds every value")
def float16_holds(r: DtypesResult, limits: DtypesLimits) -> Outcome:
    """What: from a run in bfloat16, the ops whose output, or what is cast to enter them, float16 cannot hold.

    Why: float16 ends at 65504, and what is beyond becomes infinite; bfloat16 has the range of float32.
    Fix: bfloat16 where the hardware has it; otherwise float32 for the op that is named, or a scale before it.
    """
    if not r.range_op:
        return Outcome.skip("no op ran in a lower dtype, or no forecast was made")
    over = np.flatnonzero(r.range_overflows)
    near = np.flatnonzero(~r.range_overflows & (r.range_headroom < limits.headroom_min))
    offenders = [
        Evidence(
            located(r.range_module[i], r.range_op[i], r.range_site[i]),
            round(float(r.range_headroom[i]), 2),
            limits.headroom_min,
            "powers of two of headroom",
        )
        for i in [*over, *near][:NAMED]
    ]
    least = f"least headroom {r.range_headroom.min():.1f} powers of two"
    if not offenders:
        return Outcome.ok(f"{least} in {len(r.range_op)} ops")
    many = f"{len(over)} {'op overflows' if len(over) == 1 else 'ops overflow'}" if len(over) else least
    first = offenders[0].where
    if r.dtype != "float16":
        return Outcome.ok(f"bfloat16 holds all; in float16 {many}, first {first}", *offenders)
    fix = f"use bfloat16, or keep {first} in float32: torch.autocast(device_type, enabled=False) around it"
    judge = Outcome.fail if len(over) else Outcome.warn
    return judge(f"in float16 {many}, first {first}", *offenders, fix=fix)


@rule("DTY007", "Gradients survive the loss scale")
def gradients_survive(r: DtypesResult, limits: DtypesLimits) -> Outcome:
    """What: the share of each gradient that float16 rounds to zero under the largest loss scale that fits.

    Why: a gradient that is flushed to zero trains nothing; one scale serves all, so a spread too wide fits none.
    Fix: start GradScaler at the scale that is named; where too much is lost, use bfloat16. A loss that raises under
    autocast is computed in float32.
    """
    if r.loss_error:
        return Outcome.fail(
            f"under autocast, in bfloat16, the loss or its backward ends with: {r.loss_error}",
            fix="compute the loss in float32 under torch.autocast(device_type, enabled=False)",
        )
    if not r.gradient_name:
        return Outcome.skip("no loss was given (loss=), so there are no gradients")
    scale = f"loss scale 2**{np.log2(r.loss_scale):.0f}"
    lost = np.flatnonzero(r.gradient_lost_scaled > limits.gradient_lost_max)
    if r.dtype != "float16" or not len(lost):
        worst = float(r.gradient_lost_scaled.max())
        return Outcome.ok(f"with {scale} at most {worst:.1%} of a gradient is lost to float16")
    evidence = [
        Evidence(
            r.gradient_name[i], round(float(r.gradient_lost_scaled[i]), 4), limits.gradient_lost_max, "lost"
        )
        for i in lost[np.argsort(-r.gradient_lost_scaled[lost])][:NAMED]
    ]
    return Outcome.warn(
        f"even with {scale}, {len(lost)} gradients lose more than {limits.gradient_lost_max:.0%} to float16",
        *evidence,
        fix=f"use bfloat16, or GradScaler(init_scale={r.loss_scale:g}) and float32 for the ops named",
    )


@rule("DTY008", "No weight is trained in half precision")
def trained_in_full(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: parameters in float16 or bfloat16 that take gradients.

    Why: GradScaler refuses them with "Attempting to unscale FP16 gradients", and a step below 2**-8 of a bfloat16
    weight changes nothing. Autocast wants weights in float32.
    Fix: keep weights in float32 and let autocast cast them; freeze what only runs.
    """
    half = [i for i, dtype in enumerate(r.tensor_dtype) if r.tensor_trainable[i] and dtype in HALF]
    trained = int(r.tensor_trainable.sum())
    if not half:
        return Outcome.ok(f"{trained} trainable weights, none in half precision")
    evidence = [Evidence(r.tensor_name[i], r.tensor_dtype[i], "float32") for i in half[:NAMED]]
    refused = any(r.tensor_dtype[i] == "float16" for i in half)
    text = f"{len(half)} of {trained} trainable weights are in half precision"
    if len(half) < trained and refused:
        return Outcome.fail(
            f"{text}: GradScaler.step raises 'Attempting to unscale FP16 gradients.'",
            *evidence,
            fix=(r.reference not in HALF and "; ".join(r.fix_code))
            or f"cast {r.tensor_name[half[0]]} to float32 before the optimizer is made",
        )
    return Outcome.warn(
        text,
        *evidence,
        fix="for training, load the weights in float32; to run only, call model.requires_grad_(False)",
    )


@rule("DTY009", "Autocast casts a weight once")
def cast_once(r: DtypesResult, limits: DtypesLimits) -> Outcome:
    """What: counts how often autocast casts the same weight in one forward, those from its cache left out.

    Why: a cast reads and writes the whole weight. The cache keeps only float32 leaves that take gradients, and ends
    with the outermost autocast: frozen, shared or re-made weights are cast at each use.
    Fix: one autocast around the whole forward; cast frozen weights once, by hand.
    """
    if r.autocast == "off":
        return Outcome.skip("there is no autocast")
    counts = Counter(
        r.cast_tensor[i] for i in r.casts_of("autocast") if r.cast_weight[i] and not r.cast_cached[i]
    )
    often = [(name, count) for name, count in counts.most_common() if count > limits.weight_casts_max]
    if not often:
        return Outcome.ok(f"{len(counts)} weights are cast, each at most {limits.weight_casts_max}×")
    name, count = often[0]
    return Outcome.warn(
        f"{name} is cast {count}× in one forward, and so are {len(often) - 1} others"
        if len(often) > 1
        else f"{name} is cast {count}× in one forward",
        *[Evidence(name, count, limits.weight_casts_max, "casts") for name, count in often[:NAMED]],
        fix=f"put one torch.autocast around the whole forward; where {name} is frozen, cast it once before",
    )


@rule("DTY010", "CUDA's kernels take the same dtypes")
def same_on_cuda(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: ops of this run whose dtypes the CPU's kernels take and CUDA's do not, by a table of known rules.

    Why: a run on a CPU, rehearsed or not, cannot show what a kernel of a GPU refuses.
    Fix: give the op one dtype.
    """
    if r.evidence == "ran on GPU":
        return Outcome.ok("it ran on a GPU")
    if not r.rule_op:
        return Outcome.ok("no op of this run is known to differ")
    return Outcome.warn(
        f"{len(r.rule_op)} {'op is' if len(r.rule_op) == 1 else 'ops are'} taken otherwise on a GPU: {r.rule_text[0]}",
        *[
            Evidence(place, text, None, "known rule")
            for place, text in zip(r.rule_op[:NAMED], r.rule_text, strict=False)
        ],
        fix=f"cast what enters {r.rule_op[0]} to one dtype that both take: that of its weights, or float32",
    )


@rule("DTY011", "Every op was seen")
def every_op_seen(r: DtypesResult, limits: DtypesLimits) -> Outcome:  # noqa: ARG001
    """What: counts TorchScript calls, whose inside cannot be heard.

    Why: what was not seen was not judged.
    Fix: give the module that was scripted instead of its script.
    """
    opaque = [i for i, evidence in enumerate(r.op_evidence) if evidence == "opaque"]
    if not opaque:
        return Outcome.ok(f"{len(r.op_name)} ops, none opaque")
    return Outcome.warn(
        f"{len(opaque)} {'call' if len(opaque) == 1 else 'calls'} of TorchScript, whose inside is not seen",
        *[Evidence(r.where(i), "opaque") for i in opaque[:NAMED]],
        fix="pass the module that was scripted, not the script",
    )


def _narrows(r: DtypesResult, cast: int) -> bool:
    """Whether a cast in place loses digits of a result: from a wider floating dtype to a narrower one."""
    return WIDTHS.get(r.cast_after[cast], 9) < WIDTHS.get(r.cast_before[cast], 0)


def _is_written(op: str) -> bool:
    """Whether an op writes into what it is given."""
    return op.endswith("_") or op == "setitem"


def _names(causes: str, tensor: str) -> bool:
    """Whether the causes name a tensor, or a module that holds it."""
    return any(tensor == name or tensor.startswith(f"{name}.") for name in causes.split(", "))


RULES = (
    runs_under_autocast,
    runs_without_autocast,
    one_dtype,
    not_narrowed,
    stays_finite,
    float16_holds,
    gradients_survive,
    trained_in_full,
    cast_once,
    same_on_cuda,
    every_op_seen,
)
