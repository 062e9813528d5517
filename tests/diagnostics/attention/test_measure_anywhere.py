"""Calls are measured on any device, under any setting of torch, and with masks of any kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import Grid, Keeper, Layout, engine, measure, place, write_rms

from .by_hand import by_hand, maps, random_call
from .far import Far, FarDevice
from .test_measure import CASES, blind_rows, close

TENSORS = ("q", "k", "v", "mask", "weights", "scores", "out")


@pytest.mark.parametrize("case", [*CASES, "weights"])
def test_every_call_is_measured_where_it_is(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = torch.rand(2, 4, 11, 11).softmax(-1)
    call, layout = CASES.get(case, (Call(0, "", "", "", weights=made, scores=made.log(), out=made), Layout()))
    monkeypatch.setattr(engine, "SINGLE", ("meta",))
    near = {name: getattr(call, name) for name in TENSORS}
    far = replace(call, **{name: None if t is None else Far(t.clone()) for name, t in near.items()})
    for rows in (0, 5):
        expected = measure(call, rows=rows, layout=layout)
        with FarDevice():
            found = measure(far, rows=rows, layout=layout)
        for name, value in expected.heads.items():
            np.testing.assert_allclose(found.heads[name], value, rtol=1e-4, atol=2e-5, err_msg=name)
    with FarDevice():
        write_rms(found.gram, Far(torch.randn(7, 4, found.gram.shape[1])))
        keeper = Keeper(2**24, 2)
        keeper.keep(far)
        place(Grid(4, 3, 2), 2, far)
    assert keeper.columns()["call_kept"].all()


@pytest.mark.parametrize("case", ["causal", "padding", "bias", "joint"])
def test_what_a_user_set_for_all_of_torch_changes_nothing(case: str) -> None:
    call, layout = CASES[case]
    expected, seen = measure(call, rows=5, layout=layout).heads, []

    def looked_at(scores: torch.Tensor, entries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return scores

    before = torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.bfloat16)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.device("meta"):
            found = measure(call, rows=5, layout=layout).heads
            measure(replace(call, change=looked_at))
        after = torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(before)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert set(seen) == {"ieee"}
    assert after == ("medium", "bf16")


def test_a_mask_of_minus_100_hides_as_swin_means_it_but_never_what_is_looked_at() -> None:
    hides = blind_rows(1, 11)
    hides[:, :, 3] = True
    soft = random_call(mask=torch.where(hides, 0.0, -100.0))
    close(measure(soft), by_hand(random_call(mask=hides), Layout()), soft)
    q = soft.q.clone()
    q[0, 1, 5] *= 400  # for it, a key that is hidden so may be the largest
    sharp = replace(soft, q=q)
    np.testing.assert_allclose(measure(sharp).receive, maps(sharp)[0].mean((0, 2)), atol=1e-6)


def test_queries_of_padding_whose_weights_are_uniform_are_left_out_as_padding() -> None:
    sees = (
        torch.ones(11, 11).tril().bool() & (torch.arange(11) >= torch.tensor([0, 4])[:, None])[:, None, None]
    )
    asked = random_call(mask=sees)
    weights, scores, _ = maps(asked)
    weights[1, :, :4] = 1 / 11  # as a softmax of equal scores, each the least there is
    scores = torch.tensor(scores).masked_fill(~sees, -1e9).float()
    expected = measure(asked)
    assert expected.counts["padding"] == 4
    for heard in (None, scores):
        made = Call(0, "", "", "", weights=torch.tensor(weights).float(), v=asked.v, scores=heard)
        found = measure(made)
        assert found.counts == expected.counts
        for name in ("entropy", "peak", "sink", "self", "previous", "distance", "similarity", "write"):
            np.testing.assert_allclose(found.heads[name], expected.heads[name], rtol=2e-5, atol=1e-6)


def test_uniform_weights_of_a_causal_layer_are_no_padding() -> None:
    uniform = torch.ones(2, 4, 9, 9).tril()
    found = measure(Call(0, "", "", "", weights=uniform / uniform.sum(-1, keepdim=True)))
    assert (found.counts["padding"], found.counts["measured"], found.counts["causal"]) == (0, 18, True)
    np.testing.assert_allclose(found.heads["entropy"], 1, atol=1e-6)


def test_queries_at_the_end_of_the_keys_have_their_places_there() -> None:
    whole = random_call(causal=True)
    expected = by_hand(whole, Layout())
    last = replace(
        whole, q=whole.q[:, :, -3:], causal=False, mask=torch.ones(3, 11).tril(8).bool()[None, None]
    )
    found = measure(last, layout=Layout())
    assert found.counts["causal"]
    by_query = maps(whole)[0][:, :, -3:]
    away = torch.arange(8, 11)[:, None] - torch.arange(11)
    for name, on in (
        ("self", away == 0),
        ("previous", away == 1),
        ("diagonal", away.abs() <= 1),
        ("distance", away.abs()),
    ):
        np.testing.assert_allclose(found.heads[name], (by_query * on.numpy()).sum(-1).mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(measure(whole).heads["self"], expected["self"], rtol=1e-5)


def test_near_uniform_heads_are_compared_as_exactly_as_others() -> None:
    call = random_call(entries=1, queries=64, keys=64)
    call = replace(call, q=call.q / 200)
    np.testing.assert_allclose(measure(call).likeness, by_hand(call, Layout())["likeness"], atol=2e-5)


def test_a_large_picture_takes_no_table_of_all_pairs_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    hypot = torch.hypot

    def heard(*sides: torch.Tensor) -> torch.Tensor:
        made.append(torch.broadcast_tensors(*sides)[0].numel())
        return hypot(*sides)

    monkeypatch.setattr(torch, "hypot", heard)
    monkeypatch.setattr(engine, "ELEMENTS", 4 * 900)
    monkeypatch.setattr(engine, "FEW", 1)
    measure(random_call(entries=1, heads=1, queries=900), layout=Layout("joint", 0, 1, 30, 30))
    assert max(made) == 4 * 900
