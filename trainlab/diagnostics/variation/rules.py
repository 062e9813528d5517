"""What the rules of `variation` say: is the output finite, does it move, with what, and where does that end?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.variation.result import VariationResult
from trainlab.diagnostics.variation.tracing import trace
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES", "VariationLimits"]


@dataclass(frozen=True)
class VariationLimits:
    """Thresholds, all without a unit: variation is 0 for a constant and about 1 for unrelated values."""

    # Between what healthy models on targets far from zero reach (years, 1998 ± 11: 1.5e-3) and what is left of a
    # layer drowned in its bias (weights × 1e-4: 5e-4 at most); benchmarks/variation_study prints both.
    variation_min: float = 7e-4
    # Of the target's variation: a task that is nearly constant lowers variation_min to this share of it …
    target_share: float = 0.1
    # … and an output that moves less than this share of its target is worth a warning.
    target_share_min: float = 0.01
    # Least share of the output's movement that the content must bring about; healthy models reach 0.1 or more, deaf ones 1e-5.
    content_share_min: float = 0.01
    # Tokens count as equal below this. Exactly equal ones differ by rounding, 1e-7 in float32.
    tokens_min: float = 2e-6
    # Share of the output that may sit exactly on its minimum or maximum: a ReLU's zeros reach one half.
    edge_max: float = 0.9


@rule("VAR001", "Output is finite")
def output_finite(r: VariationResult, _: VariationLimits) -> Outcome:
    """What: counts NaN and Inf in the output, in every layer and in the batch, and names the first module with one.

    Why: one NaN spreads to all that it touches, and is a fault of its own, not a collapse.
    Fix: look at what the named module is given and at its weights; with Inf, at overflow in half precision.
    """
    broken = r.output_nan + r.output_inf
    first = next((i for i in range(len(r.layer_name)) if r.layer_nan[i] or (broken and r.layer_inf[i])), None)
    if first is None and not broken:
        return Outcome.ok(f"all {r.output_elements} elements of {r.output_name} are finite")
    batch = [
        Evidence(f"input {name}", int(count), 0, "non-finite")
        for name, count in zip(r.source_name, r.source_nonfinite, strict=True)
        if count
    ]
    evidence = [Evidence(r.output_name, broken, 0, "non-finite"), *batch]
    where = "the model"
    if first is not None:
        where = r.layer_name[first]
        evidence.append(Evidence(where, int(r.layer_nan[first] + r.layer_inf[first]), 0, "non-finite"))
    origin = "the batch brings them" if batch else f"{where} is the first module to make one"
    fix = (
        f"clean {batch[0].where} before it reaches the model"
        if batch
        else f"look for NaN, Inf or huge values in the weights of {where} and in what it is given"
    )
    if not broken:
        return Outcome.warn(f"the output is finite, but NaNs arise inside: {origin}", *evidence, fix=fix)
    kinds = " and ".join(f"{n} {kind}" for n, kind in ((r.output_nan, "NaN"), (r.output_inf, "Inf")) if n)
    return Outcome.fail(
        f"{kinds} among {r.output_elements} elements of the output: {origin}", *evidence, fix=fix
    )


@rule("VAR002", "Output varies with the input")
def output_varies(r: VariationResult, limits: VariationLimits) -> Outcome:
    """What: how far the output moves when samples are swapped, dropout noise cancelled, free of scale.

    Why: a model that answers the same to everything has collapsed, however low its loss.
    Fix: mend the layer where the movement dies; VAR003 names it.
    """
    if not np.isfinite(r.output_variation):
        return Outcome.skip("the output has no finite value to compare: see VAR001")
    moved, limit = r.output_movement(), _limit(r, limits)
    evidence = Evidence(f"variation of {r.output_name}", moved, limit)
    if _output_dead(r, limits):
        name, kind = _culprit(r, limits)
        still = Evidence(name, r.layer_variation[r.layer_name.index(name)].item(), limit)
        fix = _advice(name, kind, r.trained)
        if r.trained is False:
            return Outcome.skip(
                "the output is constant, as it is at init, and the weights have not moved yet: a zero-initialised "
                f"{name} does this by design. Train some steps and ask again"
            )
        if r.trained is None and r.output_fresh <= limit:
            return Outcome.warn(
                f"the output is constant, as it is at init: by design before the first step, a fault of {name} after",
                evidence,
                still,
                fix=fix,
            )
        stuck = ", as it was at init, although the model has been trained" if r.output_fresh <= limit else ""
        return Outcome.fail(
            f"the output is the same for every input{stuck}: its movement dies in {name}",
            evidence,
            still,
            fix=fix,
        )
    aim = r.target_variation
    if np.isfinite(aim) and moved < limits.target_share_min * aim:
        return Outcome.warn(
            f"the output moves with its input, but {aim / moved:.0f} times less than {r.target_name} does",
            Evidence(f"variation of {r.output_name}", moved, limits.target_share_min * aim),
            fix=f"compare the loss with that of predicting the mean of {r.target_name}: the model may do no more",
        )
    return Outcome.ok(f"variation {moved:.3g} over {r.pairs} pairs (0 constant, 1 unrelated)", evidence)


@rule("VAR003", "Every layer's variation is alive")
def layers_alive(r: VariationResult, limits: VariationLimits) -> Outcome:
    """What: the movement of every module's output; names each that stands still although its input moves.

    Why: the first layer after which all is still is where to look, and a dead branch hides behind its residual
    stream: the output still moves, without it.
    Fix: look at the named module's weights and gradients, and at what it is given.
    """
    if not np.isfinite(r.output_variation):
        return Outcome.skip("the output has no finite value to follow: see VAR001")
    found = trace(r, _limit(r, limits))
    measured = [i for i in range(len(found.known)) if found.known[i]]
    if not measured:
        return Outcome.skip("no layer's output could be compared")
    by_design = (
        np.zeros(len(found.dead), bool) if r.trained is not False else r.layer_fresh <= _limit(r, limits)
    )
    dead = _output_dead(r, limits)
    culprit = found.culprit() if dead else len(found.dead)
    branches = [i for i in found.branches(r.layer_name, culprit) if not by_design[i]]
    evidence = [_still(r, i, limits, "branch: ") for i in branches]
    evidence = evidence[:8]
    if dead and r.trained is not False:
        name, kind = r.layer_name[culprit], r.layer_kind[culprit]
        by_init = r.trained is None and r.layer_fresh[culprit] <= _limit(r, limits)
        say = Outcome.warn if by_init else Outcome.fail
        return say(
            f"after {name} ({kind}) nothing moves any more" + (", as at init" if by_init else ""),
            _still(r, culprit, limits),
            *evidence,
            fix=_advice(name, kind, r.trained),
        )
    if branches:
        name, kind = r.layer_name[branches[0]], r.layer_kind[branches[0]]
        more = f"; so do {len(branches) - 1} more modules" if len(branches) > 1 else ""
        return Outcome.warn(
            f"the output moves, but {name} ({kind}) answers the same to everything{more}",
            *evidence,
            fix=_advice(name, kind, r.trained),
        )
    if by_design[found.dies].any():
        count = len({r.layer_name[i] for i in np.flatnonzero(by_design & found.dies)})
        return Outcome.skip(f"{count} modules are constant, as at init; the weights have not moved yet")
    alive = [i for i in measured if not found.dead[i]]
    if not alive:
        return Outcome.skip("no layer moves, because nothing that moves goes in")
    moves = np.maximum(r.layer_variation, r.layer_typical)
    least = min(alive, key=lambda i: moves[i])
    return Outcome.ok(
        f"{len(alive)} calls of modules move, the least in {r.layer_name[least]}",
        Evidence(r.layer_name[least], moves[least].item(), _limit(r, limits)),
    )


@rule("VAR004", "Output listens to its content")
def listens_to_content(r: VariationResult, limits: VariationLimits) -> Outcome:
    """What: how far the output moves when one input alone is swapped, content first.

    Why: a model that reads only its timestep or its condition varies, and is blind all the same.
    Fix: mend the layer where the movement of that input dies.
    """
    floor = max(r.output_floor, r.output_typical_floor)
    place = r.source_role.index("content")
    content = r.source_name[place]
    if r.source_reason[place]:
        return Outcome.skip(f"{content} was not swapped: {r.source_reason[place]}")
    if not np.isfinite(r.output_variation) or r.output_movement() <= floor:
        return Outcome.skip("the output listens to nothing: see VAR001 and VAR002")
    listens = np.maximum(r.source_variation, r.source_typical)
    limit = max(limits.content_share_min * r.output_movement(), floor)
    heard = Evidence(content, listens[place].item(), limit)
    if listens[place] <= limit:
        if r.trained is False:
            return Outcome.skip(f"the output ignores {content}, but the weights are still at their init")
        others = [name for name, m in zip(r.source_name, listens, strict=True) if m > limit]
        name, kind = _culprit(r, limits, place)
        only = f" and reads only {', '.join(others)}" if others else ""
        last = r.swap_variation[r.layer_name.index(name), place].item()
        return Outcome.fail(
            f"the output ignores {content}{only}: its movement dies in {name}",
            heard,
            Evidence(name, last, limits.variation_min),
            fix=_advice(name, kind, r.trained),
        )
    least = limits.variation_min * r.output_movement()
    heard_at_all = np.maximum(listens, r.source_elsewhere)
    deaf = [
        i for i, role in enumerate(r.source_role) if role == "input" and heard_at_all[i] <= max(least, floor)
    ]
    if deaf and r.trained is not False:
        places = [_culprit(r, limits, i) for i in deaf]
        named = "; ".join(
            f"{r.source_name[i]} – lost in {where}" for i, (where, _) in zip(deaf, places, strict=True)
        )
        return Outcome.warn(
            f"the output ignores {named}",
            *(Evidence(r.source_name[i], listens[i].item(), least) for i in deaf),
            heard,
            fix=_advice(*places[0], r.trained),
        )
    alone = "" if np.isfinite(listens).sum() > 1 else ", the only input that differs between samples"
    return Outcome.ok(f"swapping {content} alone moves the output by {listens[place]:.3g}{alone}", heard)


@rule("VAR005", "Tokens differ")
def tokens_differ(r: VariationResult, limits: VariationLimits) -> Outcome:
    """What: how far the output and every layer vary along the token, frame or pixel axis.

    Why: attention that looks everywhere alike gives every token the same (oversmoothing); samples may still differ.
    Fix: look at the queries and keys of the named module, and at its softmax temperature.
    """
    if not np.isfinite(r.output_variation) or _output_dead(r, limits):
        return Outcome.skip("the output is constant or not finite: see VAR001 and VAR002")
    dying = _tokens_die(r, limits)
    at = f", from {r.layer_name[dying[-1]]} on" if dying else ""
    look = f"look at {r.layer_name[dying[-1]] if dying else 'the last layers'}: its queries and keys, or its pooling"
    axes = [i for i in range(len(r.axis)) if not r.axis_content[i] <= limits.tokens_min]
    evidence = [
        Evidence(f"output axis {r.axis[i]}", r.axis_variation[i].item(), limits.tokens_min) for i in axes
    ]
    if any(r.axis_variation[i] <= limits.tokens_min for i in axes):
        return Outcome.fail(f"all tokens of the output are the same{at}", *evidence, fix=look)
    if dying and r.trained is not False:
        names = [r.layer_name[i] for i in dying]
        more = f"; so do {len(names) - 1} more modules" if len(names) > 1 else ""
        return Outcome.warn(
            f"{names[0]} gives every token the same{more}",
            *(Evidence(r.layer_name[i], r.layer_tokens[i].item(), limits.tokens_min) for i in dying),
            fix=look,
        )
    if not axes:
        return Outcome.skip("the output has no token axis along which the content differs")
    least = min(r.axis_variation[i] for i in axes)
    return Outcome.ok(f"variation along tokens {least:.3g}", *evidence)


@rule("VAR006", "Prediction range is sane")
def range_sane(r: VariationResult, limits: VariationLimits) -> Outcome:
    """What: minimum, maximum, mean and spread of the output; whether it sticks to an edge of its range.

    Why: a saturated output has no gradient, and one near the largest number of its dtype overflows next.
    Fix: look at the last activation, at clamps, and at the scale of what goes in.
    """
    if not np.isfinite(r.output_minimum):
        return Outcome.skip("the output has no finite value: see VAR001")
    if _output_dead(r, limits):
        return Outcome.skip("the output is constant: see VAR002")
    aim = (
        f"; {r.target_name} {r.target_minimum:.3g} … {r.target_maximum:.3g}"
        if np.isfinite(r.target_minimum)
        else ""
    )
    text = f"{r.output_minimum:.3g} … {r.output_maximum:.3g}, mean {r.output_mean:.3g}, std {r.output_std:.3g}{aim}"
    edge = Evidence("share at an edge of the range", r.output_at_edge, limits.edge_max)
    # without a target, an output that is mostly 0 is how detectors and sparse codes look
    sparse = not r.target_name and 0 in (r.output_minimum, r.output_maximum)
    if r.output_at_edge > limits.edge_max and not r.target_at_edge > limits.edge_max and not sparse:
        fix = "look at the output's last activation or clamp: lower what goes into it, or its learning rate"
        return Outcome.warn(
            f"{r.output_at_edge:.0%} of the output sits on one edge of its range: {text}", edge, fix=fix
        )
    largest = max(abs(r.output_minimum), abs(r.output_maximum))
    if r.output_dtype == "float16" and largest > 32752:
        near = Evidence("largest value", largest, 32752)
        return Outcome.warn(
            f"the output is about to overflow float16: {text}", near, fix="use bfloat16, or scale down"
        )
    return Outcome.ok(text, edge)


RULES = (output_finite, output_varies, layers_alive, listens_to_content, tokens_differ, range_sane)


def _limit(r: VariationResult, limits: VariationLimits) -> float:
    """Least movement of the output and the layers: less where the target itself hardly varies."""
    if not np.isfinite(r.target_variation):
        return limits.variation_min
    return min(limits.variation_min, limits.target_share * r.target_variation)


def _output_dead(r: VariationResult, limits: VariationLimits) -> bool:
    limit = _limit(r, limits)
    return r.output_variation <= max(limit, r.output_floor) and r.output_typical <= max(
        limit, r.output_typical_floor
    )


def _culprit(r: VariationResult, limits: VariationLimits, source: int | None = None) -> tuple[str, str]:
    place = trace(r, _limit(r, limits), source=source).culprit()
    return r.layer_name[place], r.layer_kind[place]


def _still(r: VariationResult, call: int, limits: VariationLimits, what: str = "") -> Evidence:
    value = max(r.layer_variation[call], r.layer_typical[call]).item()
    return Evidence(what + r.layer_name[call], value, max(_limit(r, limits), r.layer_floor[call].item()))


def _tokens_die(r: VariationResult, limits: VariationLimits) -> list[int]:
    """The deepest modules that take different tokens and, in every call, give equal ones that are not constant."""
    found = trace(r, _limit(r, limits))
    equal = r.layer_tokens <= limits.tokens_min
    dies = equal & (r.layer_tokens_input > limits.tokens_min) & ~found.dead
    differ = {name for name, same in zip(r.layer_name, equal, strict=True) if not same}
    deepest = [i for i in np.flatnonzero(dies) if not any(dies[j] for j in found.inside[i])]
    first = {r.layer_name[i]: int(i) for i in reversed(deepest)}
    return sorted(i for name, i in first.items() if name not in differ)


def _advice(name: str, kind: str, trained: bool | None) -> str:
    """What to do about a module that stands still."""
    if "Norm" in kind:
        return f"print({name}.weight): a gain of 0 leaves only the bias; look at its init, decay and learning rate"
    if kind == "Embedding":
        return f"compare rows of {name}.weight: they are all alike; look at its init and whether it gets a gradient"
    if kind in ACTIVATIONS:
        return f"look at what {name} is given: all of it lies where {kind} is flat; re-initialise the layer before it, lower the learning rate"
    if kind in ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Conv1D"):
        step = (
            ""
            if trained is not None
            else " (right after a zero init that is by design; train some steps first)"
        )
        return f"print({name}.weight.abs().max()): if it is 0, see that the optimizer holds it and requires_grad is True{step}"
    return f"look at {name} ({kind}): what its forward gives out no longer depends on what it takes in"


ACTIVATIONS = (
    "ReLU",
    "ReLU6",
    "GELU",
    "SiLU",
    "Tanh",
    "Sigmoid",
    "ELU",
    "LeakyReLU",
    "Softplus",
    "Hardtanh",
    "Softmax",
)
