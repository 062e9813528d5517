"""For each rule of `timesteps` a result that fires it and one that does not; the pictures; the recorder."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from trainlab.diagnostics.timesteps import Recorder, TimestepsResult, diagnostic
from trainlab.errors import SubjectError, UsageError
from trainlab.finding import Level

ROWS = 32  # 2 checkpoints × 16 levels
LAST = slice(16, 32)


@pytest.fixture(scope="module")
def healthy() -> TimestepsResult:
    return diagnostic.examine().result


def changed(result, **columns):
    return dataclasses.replace(result, **columns)


def put(result, name, where, value):
    """A result with some rows of a column replaced."""
    column = getattr(result, name).copy()
    column[where] = value
    return changed(result, **{name: column})


def told(result, name, ratio, width=0.001, moved=1.0):
    """A result in which the model, told so, loses this share."""
    names = (*result.told_name, name) if name not in result.told_name else result.told_name
    row = names.index(name)
    columns = {
        "told_ratio": ratio,
        "told_low": ratio - width,
        "told_high": ratio + width,
        "told_moved": moved,
    }
    new = {}
    for column, value in columns.items():
        values = np.resize(getattr(result, column), len(names))
        values[row] = value
        new[column] = values
    level = np.resize(result.told_level, (len(names), 16))
    return changed(result, told_name=names, told_level=level, **new)


def level_of(result, code, **limits):
    return diagnostic.judge(result, **limits)[code].level


FIRES = {
    "TIM001": lambda r: put(r, "level_nonfinite", 20, 3),
    "TIM002": lambda r: put(put(r, "level_nonfinite", 16, 3), "level_mean", 16, np.nan),
    "TIM010": lambda r: put(r, "level_mean", slice(18, 22), 0.3),
    "TIM003": lambda r: told(r, "swapped", 0.4),
    "TIM004": lambda r: told(told(changed(r, steps=50), "one more", 0.97), "one less", 1.05),
    "TIM005": lambda r: told(r, "schedule cosine", 0.8),
    "TIM006": lambda r: told(r, "half a range off", 1.0, moved=0.01),
    "TIM007": lambda r: put(r, "frame_relative", slice(6, 8), 2.5),
    "TIM008": lambda r: put(r, "frame_relative", 5, 9.0),
    "TIM009": lambda r: put(put(r, "level_own", LAST, 0.2), "level_previous", LAST, 0.1),
    "TIM011": lambda r: put(r, "level_weighted", 16, 30.0),
    "TIM012": lambda r: put(r, "level_spread", 20, 0.5),
    "TIM013": lambda r: changed(
        put(r, "level_mean", LAST, r.level_mean[:16] * 2), unit_loss=r.unit_loss[::-1]
    ),
    "TIM014": lambda r: put(r, "level_se", 30, 0.09),
}
# what also follows from the planted change
ALONG = {"TIM002": {"TIM001"}, "TIM006": {"TIM003"}, "TIM013": {"TIM010"}}


def test_the_example_is_healthy(healthy):
    findings = diagnostic.judge(healthy)
    assert findings.verdict is Level.OK
    assert set(FIRES) == {each.code for each in findings}


@pytest.mark.parametrize("code", FIRES)
def test_a_rule_fires_where_it_should_and_the_others_keep_still(code, healthy):
    findings = diagnostic.judge(FIRES[code](healthy))
    fired = {each.code for each in findings if each.level in (Level.WARN, Level.FAIL)}
    assert code in fired
    assert fired <= {code} | ALONG.get(code, set())
    assert findings[code].fix


def test_a_dead_output_is_told_from_one_that_answers_the_mean(healthy):
    still = changed(healthy, told_moved=np.zeros(5), told_ratio=np.ones(5))
    dead = put(still, "level_mean", LAST, healthy.level_zero[LAST])
    assert "the output is dead" in diagnostic.judge(dead)["TIM010"].text
    mean = put(still, "level_mean", LAST, healthy.level_average[LAST])
    assert "ignores its content" in diagnostic.judge(mean)["TIM010"].text
    for code in ("TIM003", "TIM005", "TIM006"):
        assert level_of(dead, code) is Level.SKIP
        assert "see TIM010" in diagnostic.judge(dead)[code].text


def test_a_rule_names_the_cause_that_another_has_found(healthy):
    flipped = told(put(healthy, "level_mean", slice(18, 22), 0.3), "swapped", 0.4)
    assert diagnostic.judge(flipped)["TIM010"].fix == "mend what TIM003 names: this follows from it"
    assert "see TIM003" in diagnostic.judge(flipped)["TIM005"].text


def test_a_weight_that_is_infinite_at_an_end_is_a_warning(healthy):
    weighted = put(healthy, "level_weighted", [0, 16], np.inf)
    assert level_of(weighted, "TIM002") is Level.WARN
    assert level_of(weighted, "TIM011") is Level.OK


def test_an_end_that_loses_far_more_than_its_neighbour_fails(healthy):
    assert level_of(put(healthy, "level_mean", 31, 90.0), "TIM002") is Level.FAIL


def test_an_index_that_is_blurred_is_not_off_by_one(healthy):
    both = told(told(changed(healthy, steps=50), "one more", 0.98), "one less", 0.99)
    assert level_of(both, "TIM004") is Level.OK
    unsure = told(told(changed(healthy, steps=50), "one more", 0.98, width=0.05), "one less", 1.05)
    assert level_of(unsure, "TIM004") is Level.OK


def test_limits_are_settings(healthy):
    assert level_of(healthy, "TIM011", band_share_max=0.4) is Level.WARN
    assert level_of(healthy, "TIM014", se_max=0.01) is Level.WARN


def test_shares_of_bands_add_up(healthy):
    np.testing.assert_allclose(healthy.band_share().sum(-1), 1)
    assert np.bincount(healthy.band_of()).tolist() == [4, 4, 4, 4]


def test_every_view_draws_every_knob(healthy):
    for view in diagnostic.views:
        for knob, values in view.knobs_for(healthy).items():
            for value in values if isinstance(values, list) else [True, False]:
                assert diagnostic.plot(healthy, view.name, **{knob: value}).axes


# --- the recorder


def steps_of_training(count, clips=40, frames=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.rand((clips, frames, 3), generator=rng), torch.rand((clips, frames), generator=rng)


def test_what_is_recorded_is_what_a_loop_finds(tmp_path):
    with Recorder(tmp_path / "log.jsonl", levels=5, frames=4, every=3) as recorder:
        for loss, tau in steps_of_training(10):
            recorder.add(loss, tau)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4  # a head, three times 3 steps and one more
    assert json.loads(lines[-1])["step"] == 10
    result = Recorder.read(tmp_path / "log.jsonl")
    assert result.checkpoint_name == ("steps 1–3", "steps 4–6", "steps 7–9", "steps 10–10")
    cells = np.zeros((5, 4)), np.zeros((5, 4))
    for place, (loss, tau) in enumerate(steps_of_training(10)):
        if place >= 3:
            break
        for clip in range(40):
            for frame in range(4):
                at = min(int(tau[clip, frame] * 5), 4), frame
                cells[0][at] += float(loss[clip, frame].mean())
                cells[1][at] += 1
    np.testing.assert_allclose(result.grid("cell_mean")[0, 0], cells[0] / cells[1], rtol=1e-5)
    np.testing.assert_allclose(result.grid("level_mean")[0, 0], cells[0].sum(1) / cells[1].sum(1), rtol=1e-5)
    assert result.grid("level_count")[0, 0].sum() == 40 * 4 * 3
    findings = diagnostic.judge(result)
    assert findings.verdict is not Level.FAIL
    assert findings["TIM003"].level is Level.SKIP
    assert TimestepsResult.from_dict(result.to_dict()) == result
    for view in diagnostic.views:
        assert diagnostic.plot(result, view.name).png()


def test_a_recorded_error_counts_clips_not_frames(tmp_path):
    """All frames of a clip alike: twelve clips are twelve units, however many frames they have."""
    rng = torch.Generator().manual_seed(0)
    inside = []
    for _ in range(300):
        recorder = Recorder(tmp_path / "log.jsonl", levels=1, frames=8, every=1000)
        for _ in range(10):
            recorder.add(1 + torch.randn(12, 1, generator=rng).expand(12, 8), torch.rand(12, generator=rng))
        recorder.close()
        result = Recorder.read(tmp_path / "log.jsonl")
        inside.append(abs(result.level_mean[0] - 1) <= 1.96 * result.level_se[0])
    assert np.mean(inside) > 0.92


def test_a_loss_of_clips_alone_may_be_recorded(tmp_path):
    recorder = Recorder(tmp_path / "log.jsonl", levels=4, high=999)
    recorder.add(torch.arange(8.0), torch.tensor([0, 0, 300, 300, 600, 600, 999, 999]))
    recorder.close()
    result = Recorder.read(tmp_path / "log.jsonl")
    assert result.level_mean.tolist() == [0.5, 2.5, 4.5, 6.5]


def test_a_loss_that_is_not_finite_is_counted_and_left_out(tmp_path):
    with Recorder(tmp_path / "log.jsonl", levels=2) as recorder:
        recorder.add(torch.tensor([1.0, 3.0, torch.nan, torch.inf]), torch.tensor([0.1, 0.1, 0.1, 0.9]))
    result = Recorder.read(tmp_path / "log.jsonl")
    assert result.level_mean[0] == 2
    assert result.level_nonfinite.tolist() == [1, 1]
    assert level_of(result, "TIM001") is Level.FAIL


def test_the_recorder_leaves_the_graph_alone(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    loss = weight.square()
    Recorder(tmp_path / "log.jsonl").add(loss, torch.rand(3))
    loss.sum().backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_a_recorder_says_what_does_not_fit(tmp_path):
    recorder = Recorder(tmp_path / "log.jsonl", frames=4)
    with pytest.raises(UsageError, match="do not go together"):
        recorder.add(torch.rand(6, 3), torch.rand(6))
    with pytest.raises(UsageError, match="a recorder needs bins"):
        Recorder(tmp_path / "log.jsonl", low=1, high=0)
    with pytest.raises(SubjectError, match="is no log of a Recorder"):
        Recorder.read(tmp_path / "log.jsonl")
    (tmp_path / "other.jsonl").write_text('{"iter": 1}\n')
    with pytest.raises(SubjectError, match="is no log of a Recorder"):
        Recorder.read(tmp_path / "other.jsonl")
    with pytest.raises(SubjectError, match="is no log of a Recorder"):
        Recorder.read(tmp_path / "none.jsonl")
