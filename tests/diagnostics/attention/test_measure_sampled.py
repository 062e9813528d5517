"""Samples of queries: unbiased, balanced, and with errors that tell how far off they may be."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.attention_cost import recovered
from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import measure
from trainlab.diagnostics.attention.measuring.chunks import sizes
from trainlab.diagnostics.attention.measuring.sampling import plan
from trainlab.student import student

from .by_hand import random_call
from .test_measure import ragged

ERRORS = ("entropy", "peak", "first", "sink", "self", "previous", "diagonal", "distance")


@pytest.mark.parametrize(
    "call", [random_call(entries=3, queries=60, causal=True), random_call(entries=30, queries=16)]
)
def test_a_sample_is_unbiased_and_its_intervals_hold_the_truth(call: Call) -> None:
    truth, reach = measure(call).heads, float(student(39))
    samples = [measure(call, rows=40, seed=seed) for seed in range(60)]
    assert all(each.counts["measured"] == 40 for each in samples)
    held = []
    for name in ERRORS:
        off = np.array([each.heads[name] for each in samples]) - truth[name]
        errors = np.array([each.heads[f"{name}_se"] for each in samples])
        assert (errors > 0).all()
        held.append((np.abs(off) <= reach * errors).mean())
        if name != "sink":
            assert (np.abs(off.mean(0)) < 0.5 * errors.mean(0)).all()
    assert np.mean(held) >= 0.95
    receive = np.mean([each.receive for each in samples], 0)
    np.testing.assert_allclose(receive.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(receive, measure(call).receive, atol=0.02)


def test_a_sample_of_all_is_all() -> None:
    call = random_call(mask=ragged(2, 11))
    found, every = measure(call, rows=19), measure(call)
    for name, value in every.heads.items():
        np.testing.assert_array_equal(found.heads[name], value)
        if name.endswith("_se"):
            assert (value == 0).all()
    nearly = measure(call, rows=18).heads
    assert (nearly["entropy_se"] < np.abs(every.heads["entropy"]) / 10).all()


def test_a_sample_takes_as_much_from_every_entry_and_nothing_of_the_padding() -> None:
    call = random_call(entries=3, queries=40, mask=ragged(3, 40))
    chosen = plan(call, sizes(call), cross=False, rows=30, seed=1)
    counts = (chosen.weight > 0).sum(1).tolist()
    assert sum(counts) == 30
    assert max(counts) - min(counts) <= 2
    assert chosen.padding == 9
    assert chosen.weight.sum() == 111
    assert not chosen.weight[2, 34:].any()


def test_planted_spatial_temporal_and_self_heads_are_told_by_a_sample() -> None:
    assert recovered(rows=64) == 100
