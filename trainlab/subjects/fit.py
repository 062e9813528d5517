"""Fit stored weights onto a model: names that a wrapper changed are matched, what differs is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from trainlab.errors import SubjectError
from trainlab.subjects.checkpoint import Checkpoint
from trainlab.subjects.contents import Weights

__all__ = ["load_weights"]

INSIDE = re.compile(
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)  # compile, FSDP, recomputation
WRAPPERS = {"module", "model", "net", "network", "_forward_module"}
BOOKKEEPING = {"n_averaged"}  # torch.optim.swa_utils counts in the weights
SHOWN = 8
Shape = tuple[int, ...]
DEPTH = 3  # how many names a prefix may have: module.model.net.


@dataclass(frozen=True)
class _Misfit:
    """What does not fit: shapes (the model's, the checkpoint's), names only the model has, names only the checkpoint has."""

    differ: Mapping[str, tuple[Shape, Shape]]
    missing: list[str]
    unexpected: list[str]

    @property
    def lines(self) -> list[str]:
        shapes = [
            f"{key}: the model has {ours}, the checkpoint {theirs}"
            for key, (ours, theirs) in self.differ.items()
        ]
        missing = [f"missing: {key}" for key in self.missing]
        return [*_some(shapes), *_some(missing), *_some([f"unexpected: {key}" for key in self.unexpected])]

    @property
    def counts(self) -> str:
        words = {
            "shape differs" if len(self.differ) == 1 else "shapes differ": self.differ,
            "missing": self.missing,
            "unexpected": self.unexpected,
        }
        return ", ".join(f"{len(keys)} {word}" for word, keys in words.items() if keys)


def load_weights(
    module: nn.Module, checkpoint: Checkpoint, *, name: str, strict: bool = True
) -> tuple[str, str]:
    """Loads a checkpoint's weights into a model, in place.

    Names are compared without what torch.compile, FSDP and recomputation put into them. Then the prefix (up to
    three names, e.g. ``module.model.``) is dropped, or the model's own wrapper is added, that makes the most tensors fit by
    name and shape; none where none helps. Tensors outside a dropped prefix (Lightning's metrics and losses) are
    left aside. A missing name is forgiven where the model ties it to one that was loaded.

    Args:
        module: The model; changed.
        checkpoint: Where the weights are.
        name: How the caller named the model.
        strict: Refuse what does not fit; otherwise load what fits.

    Returns:
        How the names were changed, and what was left out by ``strict=False``; "" where nothing.

    Raises:
        SubjectError: Names or shapes differ, with the likely cause.
    """
    stored = checkpoint.state_dict()
    own = module.state_dict(keep_vars=True)
    shapes = {
        key: None if is_lazy(each) else tuple(each.shape)
        for key, each in own.items()
        if is_lazy(each) or hasattr(each, "shape")  # extra state has none
    }
    names = {INSIDE.sub("", key): key for key in own}
    dropped, added = _prefix(
        {INSIDE.sub("", key): shape for key, (shape, _) in checkpoint.tensors.items()},
        {short: shapes.get(key) for short, key in names.items()},
        str(checkpoint.path),
    )
    fitted: Weights = {}
    aside = 0
    for key, tensor in stored.items():
        short = INSIDE.sub("", key)
        if not short.startswith(dropped) or short in BOOKKEEPING:
            aside += 1
            continue
        short = added + short.removeprefix(dropped)
        fitted[names.get(short, short)] = tensor
    differ = {
        key: (shape, tuple(fitted[key].shape))
        for key, shape in shapes.items()
        if key in fitted and shape is not None and shape != tuple(fitted[key].shape)
    }
    tied = {id(own[key]) for key in fitted if key in own}
    # the model's own hooks may rename old keys, so torch is asked what is missing, on the tensors of equal shape
    told = module.load_state_dict(
        {key: each for key, each in fitted.items() if key not in differ}, strict=False
    )
    missing = [key for key in told.missing_keys if key not in differ and id(own.get(key)) not in tied]
    misfit = _Misfit(differ, missing, list(told.unexpected_keys))
    if misfit.lines and strict:
        raise SubjectError(
            f"the weights in {checkpoint.path} do not fit {name}: {misfit.counts}",
            seen="\n".join(misfit.lines),
            fix=_cause(checkpoint, shapes, misfit, fitted),
        )
    change = f"prefix {dropped!r} dropped" if dropped else f"prefix {added!r} added" if added else ""
    if aside:
        change = ", ".join(filter(None, [change, f"tensors left aside: {aside}"]))
    return change, "\n".join(misfit.lines)


def _prefix(stored: Mapping[str, Any], own: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The prefix to drop from stored names, and the one to add, that make the most of them fit."""

    def fits(dropped: str, added: str) -> int:
        keys = (
            (added + key[len(dropped) :], shape) for key, shape in stored.items() if key.startswith(dropped)
        )
        return sum(1 + (own[key] in (shape, None)) for key, shape in keys if key in own)

    wrapper = [start for start in _starts(own) if all(key.startswith(start) for key in own)]
    choices = [("", ""), *((start, "") for start in _starts(stored)), *(("", start) for start in wrapper)]
    scores = {choice: fits(*choice) for choice in choices}
    best = max(scores.values())
    tied = [choice for choice in choices if scores[choice] == best]
    if len(tied) > 1 and ("", "") not in tied:
        tied = [choice for choice in tied if set("".join(choice).strip(".").split(".")) <= WRAPPERS] or tied
        if len(tied) > 1 and best == 2 * len(own):
            raise SubjectError(
                f"{where} holds several parts that fit the model equally well",
                seen=", ".join(dropped for dropped, _ in tied),
                fix="give a model that holds them all, or save the one part on its own",
            )
    return ("", "") if ("", "") in tied else tied[0]


def _starts(names: Iterable[str]) -> list[str]:
    starts: dict[str, None] = {}
    for name in names:
        parts = name.split(".")[:-1]
        for depth in range(1, min(len(parts), DEPTH) + 1):
            starts[".".join(parts[:depth]) + "."] = None
    return list(starts)


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"… and {len(lines) - SHOWN} more"]


def _cause(
    checkpoint: Checkpoint, shapes: Mapping[str, Shape | None], misfit: _Misfit, fitted: Weights
) -> str:
    """The likeliest reason why the weights do not fit, as something to do."""
    missing, unexpected = misfit.missing, misfit.unexpected
    for other, outline in checkpoint.others.items():
        if {key: shape for key, (shape, _) in outline.items()} == dict(shapes):
            return f"the weights under {other!r} fit: key={other!r}"
    if misfit.differ:
        return _size_cause(checkpoint, misfit.differ)
    for stack in dict.fromkeys(
        found[1] for key in [*missing, *unexpected] if (found := re.match(r"(.+?)\.\d+\.", key))
    ):
        ours, theirs = _length(stack, shapes), _length(stack, fitted)
        if ours != theirs and theirs:
            return f"the model has {ours} {stack}, the checkpoint {theirs}: build it with {theirs}"
    if len(missing) == len(shapes):
        keys = ", ".join(map(repr, checkpoint.others)) or "there is no other"
        return f"no name fits: the model's are like {missing[0]!r}, the checkpoint's like {unexpected[0] if unexpected else '(none)'!r}; is it this model's? key= takes another set of weights ({keys})"
    starts = {key.partition(".")[0] for key in missing or unexpected}
    if len(starts) == 1:
        verb = "is not in the checkpoint" if missing else "is not in the model"
        return (
            f"{starts.pop()!r} {verb}: build the model as it was trained, or load what fits with strict=False"
        )
    return "build the model as it was trained, or load what fits with strict=False"


def _size_cause(checkpoint: Checkpoint, differ: Mapping[str, tuple[Shape, Shape]]) -> str:
    pairs = Counter(
        (ours, theirs)
        for a, b in differ.values()
        if len(a) == len(b)
        for ours, theirs in zip(a, b, strict=True)
        if ours != theirs
    )
    if not pairs:
        return "a tensor has another number of axes: build the model as it was trained"
    sizes = dict(_numbers(checkpoint.config or {}))
    # a config that names one of the two sizes tells more than how often a size is seen
    (ours, theirs), _ = max(
        pairs.items(), key=lambda item: (bool({*item[0]} & {*sizes.values()}), item[1], -item[0][0])
    )
    said = next((key for key, value in sizes.items() if value == ours), None)
    held = next((key for key, value in sizes.items() if value == theirs), None)
    if held:
        return f"the checkpoint's config says {held}={theirs}, the model was built with {ours}: hand the builder its config"
    if said:
        return f"the checkpoint's config says {said}={ours}, its weights hold {theirs}: build the model with {said}={theirs}"
    return f"the model was built with {ours} where the checkpoint holds {theirs}: build it with {theirs}"


def _numbers(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def _length(stack: str, names: Iterable[str]) -> int:
    return len({found[1] for name in names if (found := re.match(rf"{re.escape(stack)}\.(\d+)\.", name))})
