"""What is kept of calls gives their weights exactly, within the budget, from the result alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.diagnostics.attention.by_hand import maps, random_call
from tests.diagnostics.attention.test_measure import alibi, blind_rows, cap, ragged
from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import Keeper, column, exact, rolled, rollout, row, weights
from trainlab.diagnostics.attention.measuring.chunks import sizes
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.errors import UsageError


def result_of(calls: Sequence[Call], budget: int = 2**24, entries: int = 4) -> AttentionResult:
    """A result of which only that is filled in which exact weights need."""
    keeper = Keeper(budget, entries)
    for call in calls:
        keeper.keep(call)
    found = [sizes(call) for call in calls]
    fields = {f.name: f for f in dataclasses.fields(AttentionResult)}
    empty = {"str": "", "int": 0, "bool": False, "np.ndarray": np.zeros(0), "tuple[str, ...]": ()}
    values = {name: empty[str(field.type)] for name, field in fields.items()}
    for name in values:
        if name.startswith("call_"):
            values[name] = np.zeros(len(calls), np.int64)
    for name, attribute in (
        ("batch", "entries"),
        ("heads", "heads"),
        ("key_heads", "key_heads"),
        ("queries", "queries"),
        ("keys", "keys"),
        ("depth", "depth"),
    ):
        values[f"call_{name}"] = np.array([getattr(size, attribute) for size in found])
    values |= {
        "batch_size": found[0].entries,
        "call_name": tuple(f"blocks.{number}" for number in range(len(calls))),
        "call_kernel": ("sdpa",) * len(calls),
        "call_site": ("here",) * len(calls),
        "call_scale": np.array([call.scale for call in calls]),
        "call_layout": tuple("sequence" if size.queries == size.keys else "cross" for size in found),
        **keeper.columns(),
    }
    return AttentionResult(**values)


CALLS = [
    random_call(),
    random_call(key_heads=2, causal=True),
    random_call(entries=3, mask=ragged(3, 11)),
    random_call(mask=blind_rows(1, 11), causal=True),
    random_call(mask=blind_rows(4, 11)),
    random_call(mask=torch.where(ragged(2, 11), 0.0, torch.finfo(torch.float32).min)),
    random_call(mask=alibi(4, 11)),
    random_call(change=cap, key_heads=2),
    random_call(queries=5, keys=9),
    random_call(entries=9, queries=6, keys=6),
]


@pytest.mark.parametrize("elements", [1, 2**20])
def test_weights_of_every_kind_of_call_are_exact(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "ELEMENTS", elements)
    r = AttentionResult.from_dict(result_of(CALLS).to_dict())
    for number, call in enumerate(CALLS):
        expected, _, _ = maps(call)
        for entry in r.kept(number):
            for head in range(4):
                got = weights(r, number, head, entry)
                np.testing.assert_allclose(got, expected[entry, head], atol=1e-6)
                tile = weights(r, number, head, entry, queries=slice(1, 4), keys=slice(2, None, 2))
                np.testing.assert_allclose(tile, got[1:4, 2::2], atol=1e-6)
                np.testing.assert_allclose(row(r, number, head, entry, 3), got[3], atol=1e-6)
                np.testing.assert_allclose(column(r, number, head, entry, 2), got[:, 2], atol=1e-6)


def test_weights_that_the_model_made_are_kept_as_they_are() -> None:
    made, _, _ = maps(random_call())
    call = Call(0, "", "softmax", "", weights=torch.tensor(made, dtype=torch.float32))
    r = result_of([random_call(), call])
    np.testing.assert_array_equal(weights(r, 1, 2, 1), made[1, 2].astype(np.float32))


def test_entries_are_spread_and_given_up_fairly() -> None:
    one = 2 * 4 * 11 * 6 * 4  # bytes of an entry's queries and keys
    calls = [random_call(entries=9) for _ in range(3)]
    assert result_of(calls).kept(0).tolist() == [0, 3, 5, 8]
    for entries, kept in ((12, [4, 4, 4]), (8, [3, 3, 2]), (3, [1, 1, 1]), (2, [1, 1, 0]), (0, [0, 0, 0])):
        r = result_of(calls, budget=entries * one)
        assert sorted(r.call_kept.tolist(), reverse=True) == kept
        assert r.kept_q.nbytes + r.kept_k.nbytes <= entries * one


@pytest.mark.parametrize(("budget", "entries"), [(0, 4), (2**20, 0)])
def test_nothing_may_be_kept(budget: int, entries: int) -> None:
    r = result_of(CALLS, budget, entries)
    assert not r.call_kept.any()
    assert not any(value.size for name, value in vars(r).items() if name in ("kept_q", "kept_k", "kept_mask"))


def test_what_is_given_up_is_let_go_of() -> None:
    one = 2 * 4 * 11 * 6 * 4
    keeper = Keeper(7 * one, 4)
    for number in range(6):
        keeper.keep(random_call(entries=9))
        arrays = [array for each in keeper.calls for array in each.arrays.values()]
        assert sum((array if array.base is None else array.base).nbytes for array in arrays) <= 7 * one
        assert len(keeper.calls) == number + 1
    assert sum(keeper.columns()["call_kept"]) == 7
    assert not any(each.arrays for each in keeper.calls)


def test_what_was_not_kept_is_said_with_what_to_do() -> None:
    r = result_of([random_call(entries=9)] * 2, budget=2 * 4 * 11 * 6 * 4)
    with pytest.raises(UsageError, match=r"(?s)of blocks.1 nothing was kept.*keep_mb=.*only="):
        weights(r, 1, 0, 0)
    with pytest.raises(UsageError, match=r"(?s)batch entry 3 of blocks.0 was not kept.*kept: 0.*entries="):
        weights(r, 0, 0, 3)
    with pytest.raises(UsageError, match="nothing was kept"):
        weights(r.slim(), 0, 0, 0)
    for wrong in ((2, 0, 0), (0, 4, 0), (0, 0, 9), (-1, 0, 0)):
        with pytest.raises(UsageError, match="there is no"):
            weights(r, *wrong)
    for wrong in (11, 1.5):
        with pytest.raises(UsageError, match=f"there is no query {wrong}"):
            row(r, 0, 0, 0, wrong)
    with pytest.raises(UsageError, match=r"there is no call 'blocks\.0'"):
        weights(r, "blocks.0", 0, 0)
    for wrong in (3, slice(None, None, -1)):
        with pytest.raises(UsageError, match="queries is a slice"):
            weights(r, 0, 0, 0, queries=wrong)
    assert weights(r, 0, 0, 0, queries=slice(50, 60)).shape == (0, 11)


def test_rollout_is_a_row_of_the_product_of_layers() -> None:
    calls = [random_call(causal=True), random_call(key_heads=1), random_call(mask=blind_rows(1, 11))]
    r = result_of(calls)
    product = np.eye(11)
    rows = [product[5]]
    for call in reversed(calls):
        mean = maps(call)[0][1].mean(0)
        mean[mean.sum(1) == 0] = np.eye(11)[mean.sum(1) == 0]
        product = product @ (0.5 * np.eye(11) + 0.5 * mean)
        rows.append(product[5])
    got = rollout(r, 1, 5)
    np.testing.assert_allclose(got, rows, atol=1e-6)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-6)


def test_rollout_leaves_out_cross_attention_and_what_comes_before_other_tokens() -> None:
    encoder, own, cross = random_call(queries=9, keys=9), random_call(), random_call(queries=11, keys=9)
    r = result_of([encoder, encoder, own, cross, own, cross])
    assert rolled(r) == (4, 2)
    np.testing.assert_array_equal(rollout(r, 0, 3), rollout(result_of([own, own]), 0, 3))
    level = result_of([own, own, own, random_call(), own])  # an encoder of as many tokens as the decoder
    level = dataclasses.replace(
        level,
        call_layout=(*("sequence",) * 3, "cross", "sequence"),
        call_causal=np.array([0, 0, 1, 0, 1], bool),
    )
    assert rolled(level) == (4, 2)


def test_rollout_refuses_what_it_cannot_go_through() -> None:
    own, other = random_call(), random_call(queries=9, keys=9)
    with pytest.raises(
        UsageError, match=r"(?s)change on the way.*11 tokens in blocks.0, 9 in blocks.1.*only="
    ):
        rollout(result_of([own, other, own]), 0, 0)
    with pytest.raises(UsageError, match="no call is"):
        rollout(result_of([random_call(queries=5, keys=9)]), 0, 0)
    divided = dataclasses.replace(result_of([own, own]), call_layout=("space", "time"))
    with pytest.raises(UsageError, match="divided in space and time"):
        rollout(divided, 0, 0)
    windows = dataclasses.replace(result_of([own, own]), batch_size=1)
    with pytest.raises(UsageError, match=r"(?s)parts of a batch entry.*blocks.1 attends in 2 parts"):
        rollout(windows, 0, 0)
