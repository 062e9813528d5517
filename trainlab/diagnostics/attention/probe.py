"""The probe: runs the model once and measures every attention as it is heard."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.capture import Coverage, capture
from trainlab.diagnostics.attention.labels import Labels, labels_of
from trainlab.diagnostics.attention.measuring import Grid, Keeper, guess_grid, measure, place
from trainlab.diagnostics.attention.picture import picture_of
from trainlab.diagnostics.attention.result import AttentionResult, missed_in_words
from trainlab.diagnostics.attention.tables import Seen, missed_table, tables
from trainlab.errors import NotApplicable, SubjectError, UsageError, did_you_mean
from trainlab.progress import track
from trainlab.visit import call as run
from trainlab.visit import tensors, visit, without_target

if TYPE_CHECKING:
    from trainlab.subjects import Checkpoint

__all__ = ["probe"]


def probe(
    model: nn.Module,
    batch: object,
    *,
    ckpt: Checkpoint | None = None,
    grid: str = "",
    rows: int = 0,
    seed: int = 0,
    sink: int = 4,
    only: str = "",
    keep_mb: float = 64.0,
    entries: int = 4,
    labels: Labels | None = None,
    train: bool = False,
) -> AttentionResult:
    """Measures who attends to whom in every attention of the model, without asking it for its weights.

    The model runs once, at its default attention, and its numbers stay what they are. Each attention is measured while it
    runs, in chunks: no map of queries × keys is ever held. Cost: one forward without gradients, and for each attention
    about as much again as it takes when its map is written out; with ``rows`` in proportion to them.

    Args:
        model: Any module; left as it was found.
        batch: As the model takes it, and perhaps with its target.
        ckpt: The checkpoint that the weights came from; labels are read off a ``tokenizer.json`` in its folder.
        grid: How tokens lie in images or video, ``prefix+frames x height x width``: ``1+8x14x14``, ``14x14``; guessed
            where left out.
        rows: Measure so many queries of each attention, drawn at random, and give standard errors; 0 for all.
        seed: Of the model's random numbers, and of the drawing.
        sink: How many first keys count as the sink.
        only: Measure only attentions in modules of this name, e.g. ``blocks.*.time``; what else is heard is counted.
        keep_mb: Queries and keys to keep for exact maps, in MiB; what is over that is measured and not kept.
        entries: Keep those of so many batch entries at most.
        labels: Of the tokens: a list of strings, or one for each batch entry; a tokenizer; a text file of one label a line,
            or a ``tokenizer.json``.
        train: Run in training mode: dropout on.

    Returns:
        The result: statistics of every head, thumbnails, and what exact maps are computed from.

    Raises:
        UsageError: A setting is malformed, or names no attention that was heard.
        NotApplicable: Nothing in the model attends.
        SubjectError: What attends cannot be recorded, or model and batch do not fit each other.
    """
    whole = {"rows": rows, "seed": seed, "entries": entries, "sink": sink}
    _check_settings(whole, keep_mb, {"grid": grid, "only": only}, train)
    inputs = without_target(model, batch)[0]
    given = list(tensors(inputs).values())
    count = next((len(tensor) for tensor in given if tensor.ndim), 1)
    if not count or any(tensor.is_meta for tensor in given):
        raise SubjectError(
            "the batch holds no values",
            seen="tensors on the meta device" if count else "0 entries",
            fix="give a batch of at least one entry, on a device that computes",
        )
    chosen, why = (Grid.parse(grid), "as given") if grid else guess_grid(model, inputs)
    token = labels_of(labels, inputs, ckpt.path if ckpt else None)
    keeper = Keeper(int(min(keep_mb, 2**30) * 2**20), entries)
    names: list[str] = []
    cached: dict[str, int] = {}
    seen: dict[int, Seen] = {}
    counting = track(itertools.count(1), label="attention: measuring")
    with closing(cast("Generator[int]", counting)) as bar:

        def heard(call: Call) -> None:
            names.append(call.module or type(model).__name__)
            if only and not fnmatchcase(names[-1], only):
                return
            layout = place(chosen, count, call, cached)
            measured = measure(call, rows=rows, seed=seed, sink=sink, layout=layout)
            seen[call.number] = Seen.of(names[-1], call, layout, measured)
            keeper.keep(call)
            next(bar)

        def projected(number: int, weight: Tensor) -> None:
            if number in seen:
                seen[number].project(weight)

        next(bar)
        with visit(model, train=train, seed=seed), capture(model, heard, projected) as coverage:
            run(model, inputs)
    _check(type(model).__name__, only, names, seen, coverage)
    laid = [each.layout for each in seen.values()]
    if chosen and not any(layout.frames or layout.why for layout in laid):
        if grid:
            raise UsageError(
                f"no attention has the tokens of the grid {chosen}",
                seen=f"attentions over {_lengths(each.facts['keys'] for each in seen.values())} tokens",
                fix="count tokens where they attend: prefix + frames x height x width, as in '1+8x14x14'",
            )
        chosen, why = None, f"{why}: {chosen}, and no attention has as many tokens"
    columns: dict[str, Any] = {
        **tables(list(seen.values())),
        **keeper.columns(),
        **missed_table(coverage.missed),
    }
    found = AttentionResult(
        model_name=type(model).__name__,
        batch_size=count,
        sampled=rows if any(rows < each.real for each in seen.values()) else 0,
        seed=seed,
        sink=sink,
        grid=str(chosen) if chosen else "",
        grid_why="; ".join(dict.fromkeys([why, *(layout.why for layout in laid if layout.why)])),
        only=only,
        left_out=len(names) - len(seen),
        softmaxes=coverage.softmaxes,
        **columns,
        token=token,
        picture=picture_of(inputs),
    )
    return _labelled(found, given=labels)


def _check_settings(
    whole: Mapping[str, object], keep_mb: object, texts: Mapping[str, object], train: object
) -> None:
    """Says which settings are not of their kind, or out of their range."""
    wrong = {}
    for name, value in whole.items():
        least = int(name == "sink")
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integer or not least <= value < 2**31:  # type: ignore[operator]
            wrong[f"{name}={value!r}"] = f"{name}= a whole number from {least}"
    if not isinstance(keep_mb, int | float | np.number) or not keep_mb >= 0:  # which NaN is not
        wrong[f"keep_mb={keep_mb!r}"] = "keep_mb= a number from 0"
    for name, value in texts.items():
        if not isinstance(value, str):
            wrong[f"{name}={value!r}"] = f"{name}= a string"
    if not isinstance(train, bool):
        wrong[f"train={train!r}"] = "train= True or False"
    if wrong:
        raise UsageError(
            "a setting is out of its range", seen=", ".join(wrong), fix=", ".join(wrong.values())
        )


def _check(name: str, only: str, names: Sequence[str], seen: object, coverage: Coverage) -> None:
    """Says why there is nothing to show, where there is nothing."""
    if names and not seen:
        raise UsageError(
            f"no attention was heard in {only!r}, where * stands for any letters",
            fix=did_you_mean(only, set(names)),
        )
    lost = [dataclasses.asdict(each) for each in coverage.missed if each.attends]
    if lost and not seen:
        raise SubjectError(
            f"{name} attends, and none of it could be recorded",
            seen=missed_in_words(lost),
            fix="an attention that torch computes as softmax(q·k)·v can be; what is scripted, as it was before",
        )
    if not seen:
        unsure = missed_in_words(dataclasses.asdict(each) for each in coverage.missed)
        raise NotApplicable(
            f"nothing in {name} attends",
            seen=f"no attention kernel; {unsure}" if unsure else "no attention kernel, and no softmax",
            fix="give the part that attends, in the mode in which it does",
        )


def _lengths(found: Iterable[int]) -> str:
    return ", ".join(map(str, sorted({*found})))


def _labelled(result: AttentionResult, *, given: object) -> AttentionResult:
    """The result, if its labels fit an attention; labels that nobody gave are dropped where they do not."""
    lengths = {*result.call_queries.tolist(), *result.call_keys.tolist()}
    if len(result.token) in {0, *lengths}:
        return result
    if given:
        raise UsageError(
            f"there are {len(result.token)} labels, and no attention has as many tokens",
            seen=f"attentions over {_lengths(lengths)} tokens",
            fix="one label for each token of the first batch entry, CLS and registers included",
        )
    return dataclasses.replace(result, token=())
