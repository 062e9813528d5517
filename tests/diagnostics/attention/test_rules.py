"""For each rule of `attention` a hand-made result that fires it, naming layer and head, and one that does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trainlab.diagnostics.attention import AttentionResult, diagnostic
from trainlab.finding import Level

CALLS = ("blocks.0.attend", "blocks.1.attend", "blocks.2.attend")
HEADS = 4


def healthy(layout="sequence", *, frames=0, causal=False):
    """Three layers of four heads that differ in all things, within bounds; 16 tokens."""
    calls, heads = len(CALLS), len(CALLS) * HEADS
    sizes = {"call": calls, "head": heads, "missed": 0}
    values = {}
    for field in dataclasses.fields(AttentionResult):
        size = sizes.get(field.metadata.get("table", ""), 0)
        plain = {"str": "", "int": 0, "tuple[str, ...]": ("",) * size}
        values[field.name] = plain.get(str(field.type), np.zeros(size))
    turn = np.linspace(0, 1, heads)
    values |= {
        "model_name": "Model",
        "call_name": CALLS,
        "call_layout": (layout,) * calls,
        "call_heads": np.full(calls, HEADS),
        "call_queries": np.full(calls, 16),
        "call_keys": np.full(calls, 16),
        "call_measured": np.full(calls, 16),
        "call_visible": np.full(calls, 16.0),
        "call_causal": np.full(calls, causal),
        "call_frames": np.full(calls, frames),
        "head_call": np.repeat(np.arange(calls), HEADS),
        "head_number": np.tile(np.arange(HEADS), calls),
        "head_entropy": 0.4 + 0.4 * turn,
        "head_spread": 3 - 2 * turn,
        "head_logit": 10 - 5 * turn,
        "head_sink": 0.1 + 0.3 * turn,
        "head_sink_key": np.arange(heads),
        "head_self": 0.1 + 0.1 * turn,
        "head_previous": 0.2 - 0.1 * turn,
        "head_write": 1 + turn,
        "head_projected": np.ones(heads, bool),
        "head_nonfinite": np.zeros(heads, np.int64),
        "head_twin": np.tile((1, 0, 3, 2), calls),
        "head_similarity": 0.9 * turn,
    }
    if frames:
        mass = np.full((heads, frames, frames), 1 / frames, np.float32)
        mass[5] = np.eye(frames)
        values["framewise"] = mass.ravel()
    return AttentionResult(**values)


def put(result, **columns):
    """The result with rows of columns replaced: ``name={row: value}``."""
    new = {}
    for name, rows in columns.items():
        array = np.array(getattr(result, name))
        for row, value in rows.items():
            array[row] = value
        new[name] = array
    return dataclasses.replace(result, **new)


def lost(result):
    missed = {
        "missed_kernel": ("softmax", "TorchScript"),
        "missed_module": ("router", "blocks.2.attend"),
        "missed_count": np.array([3, 1]),
        "missed_attends": np.array([False, True]),
        "missed_why": ("never met values", "no Python runs in it"),
    }
    return dataclasses.replace(result, **missed)


ALL = range(len(CALLS) * HEADS)
SECOND = range(4, 8)
# code: how the healthy result falls ill, how bad it is, and what the evidence names first
FIRES = {
    "ATT001": (lambda r: put(r, head_nonfinite={6: 16}), Level.FAIL, "blocks.1.attend, head 2"),
    "ATT002": (lambda r: put(r, head_sink={6: 0.99}), Level.FAIL, "blocks.1.attend, head 2, key 6"),
    "ATT003": (lambda r: put(r, head_spread={6: 0.01}), Level.WARN, "blocks.1.attend, head 2"),
    "ATT005": (lambda r: put(r, head_sink=dict.fromkeys(ALL, 0.95)), Level.FAIL, "all heads"),
    "ATT006": (lambda r: put(r, head_write={6: 1e-4}), Level.WARN, "blocks.1.attend, head 2"),
    "ATT007": (
        lambda r: put(r, head_similarity={6: 1.0, 7: 1.0}, head_spread={7: r.head_spread[6]}),
        Level.WARN,
        "blocks.1.attend, head 2 and head 3",
    ),
    "ATT008": (lambda r: put(r, head_spread={6: 40.0}), Level.FAIL, "blocks.1.attend, head 2"),
    "ATT009": (lost, Level.WARN, "blocks.2.attend"),
}


def finding(result, code, **limits):
    return diagnostic.judge(result, **limits)[code]


@pytest.mark.parametrize("code", FIRES)
def test_a_rule_fires_where_it_should_and_names_the_place(code):
    sicken, level, where = FIRES[code]
    found = finding(sicken(healthy()), code)
    assert found.level is level
    assert found.evidence[0].where.startswith(where)
    assert found.fix


@pytest.mark.parametrize("code", FIRES)
def test_a_rule_is_quiet_and_says_what_it_looked_at(code):
    found = finding(healthy(), code)
    assert found.level is Level.OK
    assert any(char.isdigit() for char in found.text)


def test_only_the_rule_of_a_fault_fires():
    assert {f.code for f in diagnostic.judge(healthy()) if f.level is not Level.OK} == {"ATT004"}
    for code in FIRES.keys() - {"ATT005"}:  # all heads on one token are stuck there, too
        result = FIRES[code][0](healthy())
        assert [f.code for f in diagnostic.judge(result) if f.level in (Level.WARN, Level.FAIL)] == [code]


def test_queries_that_see_nothing_are_mentioned_and_no_fault():
    found = finding(put(healthy(), call_blind={1: 3}), "ATT001")
    assert found.level is Level.OK
    assert "3 queries see no key" in found.text


def test_a_token_that_a_model_rests_on_is_no_collapse():
    stuck = put(healthy(causal=True), head_sink={6: 0.99}, head_sink_key={6: 0})
    assert finding(stuck, "ATT002").level is Level.OK  # the first of a causal model
    assert "1 of 12 heads rests on one key, mostly key 0" in finding(stuck, "ATT005").text
    behind_prefix = put(healthy(), head_sink={6: 0.99}, head_sink_key={6: 4}, call_prefix={1: 5})
    assert finding(behind_prefix, "ATT002").level is Level.OK
    shared = put(healthy(), head_sink={1: 0.7, 6: 0.99, 9: 0.7}, head_sink_key={1: 15, 6: 15, 9: 15})
    assert finding(shared, "ATT002").level is Level.OK  # a separator, on which other layers rest, too
    assert finding(put(shared, head_sink={9: 0.3}), "ATT002").level is Level.FAIL


def test_a_uniform_layer_or_most_of_a_model_is_worse_than_a_head():
    layer = finding(put(healthy(), head_spread=dict.fromkeys(SECOND, 0.0)), "ATT003")
    assert layer.level is Level.FAIL
    assert "all of blocks.1.attend; their scores are all equal" in layer.text
    assert "freshly" not in layer.fix
    fresh = finding(put(healthy(), head_spread=dict.fromkeys(ALL, 0.01)), "ATT003")
    assert fresh.level is Level.FAIL
    assert "never trained" in fresh.text
    assert "freshly initialised" in fresh.fix


def test_time_is_judged_by_its_own_rule():
    sick = put(healthy("time", frames=16), head_spread=dict.fromkeys(SECOND, 0.0))
    assert finding(sick, "ATT003").level is Level.SKIP
    found = finding(sick, "ATT004")
    assert found.level is Level.FAIL
    assert found.evidence[0].where.startswith("blocks.1.attend, head 0")
    assert finding(healthy("time", frames=16), "ATT004").level is Level.OK
    assert "grid=" in finding(healthy(), "ATT004").text


def test_joint_tokens_are_judged_by_their_mass_by_frame():
    joint = healthy("joint", frames=4)
    assert finding(joint, "ATT004").level is Level.OK
    assert finding(joint, "ATT004").evidence[0].where == "blocks.1.attend, head 1"
    assert finding(joint, "ATT004").evidence[0].value == pytest.approx(0.75)
    even = dataclasses.replace(joint, framewise=np.full(joint.framewise.shape, 0.25, np.float32))
    assert finding(even, "ATT004").level is Level.FAIL
    past = (
        np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    )  # even over the frames that a causal query sees
    causal = dataclasses.replace(
        healthy("joint", frames=4, causal=True), framewise=np.tile(past, (12, 1, 1)).ravel()
    )
    assert finding(causal, "ATT004").level is Level.FAIL
    assert finding(healthy("joint", frames=1), "ATT004").level is Level.SKIP  # an image


def test_a_dead_head_may_be_alone_or_the_whole_model():
    assert finding(put(healthy(), head_write=dict.fromkeys(ALL, 0.0)), "ATT006").level is Level.FAIL
    assert finding(put(healthy(), head_write=dict.fromkeys(SECOND, 0.0)), "ATT006").level is Level.WARN
    assert finding(put(healthy(), head_write=dict.fromkeys(ALL, np.nan)), "ATT006").level is Level.SKIP


def test_heads_that_do_the_same_with_other_scores_are_no_copies():
    assert finding(put(healthy(), head_similarity={6: 1.0, 7: 1.0}), "ATT007").level is Level.OK
    assert finding(put(healthy(), head_twin=dict.fromkeys(ALL, -1)), "ATT007").level is Level.SKIP


def test_a_head_may_grow_beside_its_neighbours_unless_it_is_positional():
    grown = put(healthy(), head_spread={6: 20.0})
    assert finding(grown, "ATT008").level is Level.WARN
    assert finding(grown, "ATT008").evidence[0].limit < 20
    assert finding(put(grown, head_previous={6: 0.98}), "ATT008").level is Level.OK
    assert finding(grown, "ATT008", spread_max=15).level is Level.FAIL
    far = finding(put(healthy(), head_logit={6: 5e4}), "ATT008")
    assert far.level is Level.FAIL
    assert (far.evidence[0].value, far.evidence[0].limit) == (5e4, 1e4)


def test_entropy_may_collapse_as_a_whole():
    found = finding(put(healthy(), head_entropy=dict.fromkeys(ALL, 0.05)), "ATT008")
    assert found.level is Level.FAIL
    assert "collapsed" in found.text
    assert found.evidence[0].value == pytest.approx(0.05)


def test_heads_that_were_not_measured_are_skipped():
    nothing = {name: dict.fromkeys(ALL, np.nan) for name in ("head_spread", "head_sink", "head_entropy", "head_write", "head_similarity")}  # fmt: skip
    findings = diagnostic.judge(put(healthy(), **nothing))
    assert {f.code for f in findings if f.level is Level.SKIP} == {f"ATT00{n}" for n in range(2, 9)}


def test_a_limit_can_be_changed_by_name_and_is_shown():
    found = finding(healthy(), "ATT003", spread_min=1.5)
    assert found.level is Level.WARN
    assert found.evidence[0].limit == 1.5
