"""Every statistic against brute force in float64, closed forms, and that chunks do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.diagnostics.attention.by_hand import by_hand, maps, random_call
from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import (
    Layout,
    Measured,
    chunks,
    engine,
    measure,
    write_rms,
)

torch.set_num_threads(1)


def ragged(entries: int, keys: int) -> torch.Tensor:
    """A padding mask: entry e sees its first keys only."""
    lengths = torch.tensor([keys - 3 * entry for entry in range(entries)])
    return (torch.arange(keys) < lengths[:, None])[:, None, None]


def blind_rows(heads: int, size: int) -> torch.Tensor:
    mask = torch.rand(1, heads, size, size, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[:, :, 3] = False
    mask[..., 0] = True
    mask[:, :, 3] = False
    return mask


def alibi(heads: int, size: int) -> torch.Tensor:
    away = (torch.arange(size)[:, None] - torch.arange(size)).abs()
    return -away * torch.arange(1, heads + 1)[:, None, None] / 8 + torch.zeros(1, 1, 1, 1)


def cap(scores: torch.Tensor, entries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return 2 * torch.tanh(scores / 2)


def window(scores: torch.Tensor, entries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    away = rows[:, None] - torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill((away < 0) | (away > 2), -torch.inf)


CASES = {
    "plain": (random_call(), Layout()),
    "causal": (random_call(causal=True), Layout()),
    "grouped": (random_call(key_heads=2), Layout()),
    "one key head, causal": (random_call(key_heads=1, causal=True), Layout()),
    "cross": (random_call(queries=5, keys=9), Layout("cross")),
    "cross of one size": (random_call(mask=ragged(2, 11)), Layout("cross")),
    "cross causal": (random_call(queries=9, keys=5, causal=True), Layout("cross")),
    "padding": (random_call(mask=ragged(2, 11)), Layout()),
    "padding, causal": (random_call(entries=3, mask=ragged(3, 11), causal=True), Layout()),
    "blind": (random_call(mask=blind_rows(1, 11)), Layout()),
    "a mask for each head": (random_call(mask=blind_rows(4, 11)), Layout()),
    "hiding": (random_call(mask=torch.where(ragged(2, 11), 0.0, torch.finfo(torch.float32).min)), Layout()),
    "bias": (random_call(mask=alibi(4, 11)), Layout()),
    "bias and causal": (random_call(mask=alibi(4, 11), causal=True), Layout()),
    "soft cap": (random_call(change=cap), Layout()),
    "window": (random_call(change=window, causal=True), Layout()),
    "one key": (random_call(queries=1, keys=1), Layout()),
    "one query": (random_call(queries=1, keys=7), Layout("cross")),
    "long": (random_call(entries=1, queries=67, keys=67, causal=True), Layout()),
    "folded": (random_call(entries=40, queries=6, keys=6), Layout("time", 0, 6, 1, 1)),
    "space": (random_call(entries=6, queries=13, keys=13), Layout("space", 1, 1, 3, 4)),
    "joint": (random_call(queries=26, keys=26), Layout("joint", 2, 4, 3, 2)),
    "an image, causal": (random_call(queries=13, causal=True), Layout("joint", 1, 1, 3, 4)),
    "joint, causal": (random_call(queries=24, keys=24, causal=True), Layout("joint", 0, 4, 3, 2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("elements", [1, 200, 2**20])
def test_every_statistic_is_what_whole_maps_give(
    case: str, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, layout = CASES[case]
    monkeypatch.setattr(engine, "ELEMENTS", elements)
    monkeypatch.setattr(engine, "FEW", elements)
    close(measure(call, layout=layout), by_hand(call, layout), call)


def close(found: Measured, expected: dict[str, np.ndarray], call: Call, tolerance: float = 2e-6) -> None:
    """Compares all that there is."""
    for name, value in expected.items():
        got = found.heads.get(name)
        if name == "measured":
            assert round(value.mean()) == found.counts["measured"]
        elif name == "sink_key":  # of keys that receive the same, any
            heads = np.flatnonzero(expected["sink"] > 0)
            share = expected["receive"][heads]
            tied = np.isclose(
                share[np.arange(len(heads)), value[heads]], share[np.arange(len(heads)), got[heads]]
            )
            assert ((got == value)[heads] | tied).all()
        else:
            got = getattr(found, name) if got is None else got
            np.testing.assert_allclose(got, value, rtol=tolerance, atol=5 * tolerance, err_msg=name)
    weights, _, _ = maps(call)
    for head in np.flatnonzero(np.isfinite(found.heads["largest"])):
        entry, query, key = (found.heads[f"largest_{axis}"][head] for axis in ("entry", "query", "key"))
        assert weights[entry, head, query, key] == pytest.approx(found.heads["largest"][head], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_measured_in_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "TILE", 100)
    call = random_call(entries=1, queries=40, causal=True)
    call = replace(call, q=call.q.to(dtype), k=call.k.to(dtype), v=call.v.to(dtype))
    close(measure(call), by_hand(call, Layout()), call)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("mask", [None, ragged(2, 11), blind_rows(1, 11)])
def test_weights_that_the_model_made_itself_are_measured_alike(
    mask: torch.Tensor | None, heard: bool
) -> None:
    asked = random_call(mask=mask)
    weights, scores, seen = maps(asked)
    scores = torch.tensor(scores, dtype=torch.float32).masked_fill(~torch.tensor(seen), -1e9)
    call = Call(
        0, "", "", "", weights=torch.tensor(weights).float(), v=asked.v, scores=scores if heard else None
    )
    found, same = measure(call), measure(asked)
    assert found.counts == same.counts
    for name, value in same.heads.items():
        if name == "logit" and not heard:
            assert np.isnan(found.heads[name]).all()
        else:
            np.testing.assert_allclose(found.heads[name], value, rtol=3e-5, atol=3e-6, err_msg=name)
    for name in ("thumbnail", "receive", "likeness", "gram"):
        np.testing.assert_allclose(getattr(found, name), getattr(same, name), atol=3e-6)


def test_out_may_be_given_instead_of_values() -> None:
    call = random_call(key_heads=2)
    weights, _, _ = maps(call)
    out = torch.tensor(weights).float() @ call.v.repeat_interleave(2, 1)
    given, neither = measure(replace(call, v=None, out=out)), measure(replace(call, v=None))
    np.testing.assert_allclose(given.gram, measure(call).gram, atol=1e-6)
    assert neither.gram is None
    assert np.isnan(neither.heads["write"]).all()


def test_write_rms_is_that_of_the_projected_output() -> None:
    call = random_call(key_heads=2)
    weights, _, _ = maps(call)
    out = torch.tensor(weights) @ call.v.double().repeat_interleave(2, 1)
    projection = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(0))
    added = torch.einsum("bhqv,ohv->hbqo", out, projection.double())
    np.testing.assert_allclose(
        write_rms(measure(call).gram, projection), added.square().mean((1, 2, 3)).sqrt(), rtol=1e-5
    )


def test_queries_that_are_not_finite_are_counted_and_left_out() -> None:
    call = random_call()
    q = call.q.clone()
    q[1, 2, 3], q[0, 2, 5, 0] = torch.nan, torch.inf
    found, clean = measure(replace(call, q=q)), measure(call)
    assert found.heads["nonfinite"].tolist() == [0, 0, 2, 0]
    assert np.isfinite(found.heads["entropy"]).all()
    for name in ("entropy", "peak", "sink", "self", "spread", "logit", "write"):
        np.testing.assert_array_equal(np.delete(found.heads[name], 2), np.delete(clean.heads[name], 2))
    k = call.k.clone()
    k[:, 0, 4] = torch.nan
    ruined = measure(replace(call, k=k))
    assert ruined.heads["nonfinite"].tolist() == [22, 0, 0, 0]
    assert np.isnan(ruined.heads["entropy"][0])
    assert np.isfinite(ruined.heads["entropy"][1:]).all()


def test_a_score_of_minus_infinity_is_a_weight_of_zero() -> None:
    call = random_call()
    k = call.k.clone()
    k[0, 1, 4] = 0
    k[0, 1, 4, 0] = -torch.inf
    call = replace(call, q=call.q.abs(), k=k)
    found = measure(call)
    assert found.heads["nonfinite"].tolist() == [0, 0, 0, 0]
    gone = torch.zeros(2, 4, 1, 11).bool()
    gone[0, 1, 0, 4] = True
    same = measure(replace(call, k=k.nan_to_num(neginf=0), mask=~gone)).heads
    for name in ("nats", "peak", "first", "self"):
        np.testing.assert_allclose(found.heads[name], same[name], rtol=1e-6)
    assert np.isposinf(found.heads["logit"][1])


def test_a_call_of_padding_alone_has_no_values() -> None:
    found = measure(random_call(mask=torch.zeros(2, 1, 1, 11, dtype=torch.bool)))
    assert found.counts["padding"] == 22
    assert found.counts["measured"] == 0
    for name in ("entropy", "sink", "self", "largest", "logit", "write", "similarity"):
        assert np.isnan(found.heads[name]).all()


def test_counts_say_what_was_left_out() -> None:
    mask = ragged(2, 11) & blind_rows(1, 11)
    found = measure(random_call(mask=mask)).counts
    assert found["padding"] == 3
    assert found["blind"] == 2
    assert found["measured"] == 22 - 5
    assert not found["causal"]
    assert measure(random_call(causal=True)).counts == {
        "measured": 22, "blind": 0, "padding": 0, "visible": 6.0, "causal": True,
    }  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
def test_uniform_one_hot_and_previous_token_heads_have_the_values_worked_out_on_paper(causal: bool) -> None:
    size = 64
    eye = 200 * torch.eye(size)
    sink = torch.zeros(size, size)
    sink[:, 2 * causal] = 200
    q = torch.stack([0 * eye, eye, eye.roll(-1, 1), sink])[None]
    k = torch.eye(size).expand(1, 4, -1, -1)
    heads = measure(Call(0, "", "", "", q, k, k, 1.0, causal=causal)).heads
    np.testing.assert_allclose(heads["entropy"][0], 1, atol=1e-6)
    np.testing.assert_allclose(heads["distance"][0], heads["uniform_distance"][0], rtol=1e-6)
    np.testing.assert_allclose(heads["self"][1], 1, atol=1e-6)
    np.testing.assert_allclose(heads["entropy"][1], 0, atol=1e-6)
    np.testing.assert_allclose(heads["distance"][1], 0, atol=1e-6)
    np.testing.assert_allclose(heads["sink"][3], 1, atol=0.02 * causal)
    assert heads["sink_key"][3] == 2 * causal
    if not causal:
        np.testing.assert_allclose(heads["uniform_distance"], (size**2 - 1) / 3 / size, rtol=1e-6)
        np.testing.assert_allclose(heads["previous"][2], 1, atol=1e-6)
        np.testing.assert_allclose(heads["sink"][:2], 1 / size, rtol=1e-6)


def test_copies_of_a_head_are_alike_and_uniform_heads_are_not() -> None:
    call = random_call()
    q, k = call.q.clone(), call.k.clone()
    q[:, 2], k[:, 2], q[:, 3] = q[:, 0], k[:, 0], 0
    heads = measure(replace(call, q=q, k=k)).heads
    assert heads["twin"][[0, 2]].tolist() == [2, 0]
    np.testing.assert_allclose(heads["similarity"][[0, 2, 3]], [1, 1, 0], atol=1e-6)
    one = random_call(heads=1)
    assert measure(one).heads["twin"].tolist() == [-1]
    assert np.isnan(measure(one).heads["similarity"]).all()


def test_order_of_heads_and_entries_and_a_shift_of_all_keys_do_not_matter() -> None:
    call = random_call(entries=3, causal=True)
    heads, entries = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    moved = replace(call, **{n: getattr(call, n)[entries][:, heads] for n in ("q", "k", "v")})
    shifted = replace(call, k=call.k + 0.5)
    first, second, third = (measure(each).heads for each in (call, moved, shifted))
    for name in ("entropy", "peak", "sink", "previous", "distance", "spread", "write", "similarity"):
        np.testing.assert_allclose(second[name], first[name][heads.numpy()], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(third[name], first[name], rtol=1e-4, atol=1e-6)
