"""`curves`: what the probe keeps, packs, and what is said where there is nothing to look at."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trainlab.diagnostics.curves import PACKS, Pack, diagnostic, probe
from trainlab.diagnostics.curves.claims import claims
from trainlab.diagnostics.curves.curve import Curve
from trainlab.diagnostics.curves.result import CurvesResult
from trainlab.diagnostics.curves.schedule import fit
from trainlab.diagnostics.curves.signals import flattest, noise, smooth
from trainlab.errors import NotApplicable, UsageError
from trainlab.finding import Level
from trainlab.subjects.runlog.log import Event, RunLog, Series
from trainlab.subjects.runlog.opening import open_log


def series(name, value, step=None, *, split="train", epoch=None, time=None, run=None):
    value = np.asarray(value, float)
    unknown = np.full(len(value), np.nan)
    step = np.arange(len(value), dtype=float) if step is None else np.asarray(step, float)
    return Series(
        name, split, value, step, unknown if epoch is None else np.asarray(epoch, float), unknown if time is None else np.asarray(time, float),
        np.arange(1, len(value) + 1), np.zeros(len(value), np.int64) if run is None else np.asarray(run),
    )  # fmt: skip


def log(*every, config=None, totals=None, events=(), path="run.log", form="made"):
    return RunLog(
        Path(path), form, {each.name: each for each in every}, config or {}, tuple(events), (), totals or {}
    )


def curve(x, value, role="learning_rate"):
    unknown = np.full(len(x), np.nan)
    return Curve("lr", "train", role, "", "step", x, value, value, value, unknown, unknown, np.arange(len(x)))


class TestPoints:
    def test_a_short_series_is_kept_point_by_point(self):
        value = [3.0, np.nan, 2.0, np.inf, 1.0, 0.0]
        result = probe(log(series("loss", value, [10, 20, 30, 40, 50, 60])))
        row = {key: each[0] for key, each in result.frame("series").items()}
        assert (row["count"], row["nan"], row["inf"], row["zero"]) == (6, 1, 1, 1)
        assert (row["first"], row["last"], row["min"], row["min_step"]) == (3.0, 0.0, 0.0, 60.0)
        assert (row["max"], row["max_step"]) == (3.0, 10.0)
        assert (row["bad_step"], row["bad_line"], row["bad_tail"]) == (20.0, 2, 0)
        np.testing.assert_array_equal(result.point_value, value)
        np.testing.assert_array_equal(result.point_line, np.arange(1, 7))

    def test_a_long_one_keeps_its_ends_its_extremes_and_its_counts(self):
        value = np.sin(np.arange(25_000) / 100) + 2
        value[12_345], value[777] = 50.0, np.nan
        result = probe(log(series("loss", value)), points=1000)
        kept = result.curves["loss"]
        assert len(kept) == 1000
        assert (kept.value[0], kept.x[0], kept.value[-1], kept.x[-1]) == (value[0], 0, value[-1], 24_999)
        top = int(np.argmax(kept.high))
        assert (kept.high[top], kept.x[top], kept.line[top]) == (50.0, 12_345, 12_346)
        assert (np.diff(kept.x) > 0).all()
        assert (kept.low <= kept.value).all()
        assert (kept.value <= kept.high).all()
        assert np.nanmin(value) == kept.low.min() == result.series_min[0]
        assert (result.series_nan[0], result.series_bad_step[0]) == (1, 777)

    def test_a_bin_without_a_finite_value_is_nan(self):
        value = np.ones(1000)
        value[300:700] = np.nan
        kept = probe(log(series("loss", value)), points=100).curves["loss"]
        assert np.isnan(kept.value).sum() > 30
        assert (np.isnan(kept.value) == np.isnan(kept.high)).all()

    def test_one_run_of_several_is_taken(self):
        both = log(series("loss", [5, 4, 3, 9, 8], run=[0, 0, 0, 1, 1]))
        assert probe(both).series_first[0] == 9
        assert probe(both, run=0).series_first[0] == 5
        with pytest.raises(UsageError, match="has no run 2"):
            probe(both, run=2)

    def test_the_spread_is_that_of_the_points_without_their_trend(self):
        rng = np.random.default_rng(0)
        line = np.linspace(200, 100, 5000)
        spread = probe(log(series("loss", line + rng.normal(0, 11, 5000)))).series_spread[0]
        assert spread == pytest.approx(0.1, rel=0.08)  # the last fifth is 120 to 100

    def test_the_axis_is_steps_or_epochs_or_points(self):
        steps, none = np.arange(5.0), np.full(5, np.nan)
        assert probe(log(series("loss", steps, steps))).curves["loss"].unit == "step"
        assert probe(log(series("loss", steps, none, epoch=steps))).curves["loss"].unit == "epoch"
        assert probe(log(series("loss", steps, none))).curves["loss"].unit == "point"

    def test_an_empty_run_is_not_applicable(self):
        with pytest.raises(NotApplicable, match="holds no points"):
            probe(log())

    def test_the_result_survives_its_file(self, tmp_path):
        result = probe(log(series("loss", [2, np.nan, 1])), bands={"loss": (0, 1)})
        assert CurvesResult.load(result.save(tmp_path / "curves.json")) == result


class TestParts:
    def test_components_levels_and_the_main_loss_again(self):
        names = ("loss", "kd_loss", "lm_loss", "loss_q0", "loss_q1", "train_loss_epoch", "val_loss", "lr")
        every = [series(name, np.ones(10), split="val" if name == "val_loss" else "train") for name in names]
        result = probe(log(*every), pack="general")
        assert result.main == "loss"
        assert result.validation == "val_loss"
        assert dict(zip(result.series_name, result.series_part, strict=True)) == {
            "loss": "", "kd_loss": "component", "lm_loss": "component", "loss_q0": "level", "loss_q1": "level",
            "train_loss_epoch": "", "val_loss": "", "lr": "",
        }  # fmt: skip


class TestPacks:
    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("D_A", "adversarial"), ("policy_gradient_loss", "reinforcement"), ("kd_loss", "distillation"),
            ("loss_q0", "diffusion_forcing"), ("train/ppl", "language_model"), ("accuracy", "general"),
        ],
    )  # fmt: skip
    def test_a_pack_is_guessed_from_names(self, name, pack):
        result = probe(log(series("loss", np.ones(10)), series(name, np.ones(10))))
        assert result.pack == pack
        assert name in result.pack_origin or pack == "general"

    def test_a_pack_of_ones_own_extends_another(self):
        ours = dataclasses.replace(
            PACKS["distillation"], name="ours", limits={"late_loss_max": 0.5}, bands={"kd": (0, 1)}
        )
        value = np.full(2000, 0.8)
        result = probe(log(series("loss", value), series("kd_loss", 3 * value)), pack=ours)
        findings = diagnostic.judge(result)
        assert findings["CRV003"].level is Level.FAIL
        assert findings["CRV013"].text == "kd_loss is 2.4, outside its band from 0 to 1"
        assert diagnostic.judge(result, late_loss_max=0.9)["CRV003"].level is Level.OK

    def test_mistakes_are_told(self):
        with pytest.raises(UsageError, match="no rule pack 'distilation'") as error:
            probe(log(series("loss", [1, 2])), pack="distilation")
        assert "did you mean 'distillation'?" in str(error.value)
        with pytest.raises(UsageError, match="sets a limit 'spike_max'"):
            Pack("ours", "", limits={"spike_max": 1.0})
        with pytest.raises(UsageError, match="is not a least and a largest"):
            probe(log(series("loss", [1, 2])), bands={"loss": (2, 1)})
        with pytest.raises(UsageError, match="is not a dict of values by progress"):
            probe(log(series("loss", [1, 2])), schedules={"w": 0.5})
        with pytest.raises(UsageError, match="is no pattern of names"):
            probe(log(series("loss", [1, 2])), bands={"(": (0, 1)})


def test_claims_have_one_name_each():
    config = {
        "model.vocab_size": 50257,
        "optim": {"lr": "3e-4"},
        "max_iters": 5000,
        "train_batch_size": 8,
        "batch_size": 4,
        "amp": True,
    }
    found = claims({"total_steps": 4000.0}, config)
    assert found == {"vocab_size": 50257, "learning_rate": 3e-4, "total_steps": 4000, "batch_size": 4}


class TestSignals:
    def test_the_running_median_against_a_loop(self):
        value = np.random.default_rng(0).normal(size=40)
        expected = [np.median(value[max(0, i - min(i, 3)) : i + min(i, 3) + 1]) for i in range(40)]
        np.testing.assert_allclose(smooth(value, 7), expected)

    def test_noise_is_the_standard_deviation_about_the_trend(self):
        rng = np.random.default_rng(0)
        assert noise(np.linspace(50, 0, 4000) + rng.normal(0, 0.3, 4000)) == pytest.approx(0.3, rel=0.1)

    def test_a_plateau_is_found_with_its_onset(self):
        x = np.arange(0, 10_000, 10.0)
        value = np.where(x < 2000, 10 - x / 500, 6) + np.random.default_rng(0).normal(0, 0.02, 1000)
        flat = flattest(x, value, 0.02)
        assert flat is not None
        assert flat.level == pytest.approx(6, abs=0.02)
        assert x[flat.first] == pytest.approx(2000, abs=100)
        assert x[flat.last] == x[-1]

    def test_a_power_law_has_none_of_half_its_length(self):
        x = np.arange(1, 20_000, 20.0)
        flat = flattest(x, 10 * x**-0.3, 0.02)
        assert flat is None or flat.share < 0.3


class TestSchedule:
    X = np.arange(0, 10_001, 50.0)

    @pytest.mark.parametrize(
        ("kind", "shape"),
        [
            ("constant", np.ones_like),
            ("linear", lambda t: 1 - 0.9 * t),
            ("cosine", lambda t: 0.1 + 0.45 * (1 + np.cos(np.pi * t))),
            ("trapezoid", lambda t: np.interp(t, [0, 0.6, 1], [1, 1, 0.0])),
            ("exponential", lambda t: np.exp(-4 * t)),
            ("steps", lambda t: np.where(t < 0.4, 1, np.where(t < 0.8, 0.1, 0.01))),
            ("restarts", lambda t: 0.5 * (1 + np.cos(np.pi * ((4 * t) % 1)))),
        ],
    )
    def test_each_shape_is_named_with_its_warmup(self, kind, shape):
        share = self.X / 10_000
        after = shape(np.clip((share - 0.05) / 0.95, 0, 1))
        found = fit(curve(self.X, 3e-4 * np.where(share < 0.05, share / 0.05, after)), 1.0)
        assert found.kind == kind
        assert found.peak == pytest.approx(3e-4)
        assert found.warmup == pytest.approx(0.05, abs=0.011)

    def test_inverse_square_root(self):
        x = np.maximum(self.X, 1)
        assert fit(curve(self.X, np.minimum(x / 1000, np.sqrt(1000 / x))), 1.0).kind == "inverse square root"

    def test_half_a_cosine_is_laid_out_for_twice_the_run(self):
        found = fit(curve(self.X, 0.5 * (1 + np.cos(np.pi * self.X / 20_000))), 1.0)
        assert found.kind == "cosine"
        assert found.horizon == pytest.approx(2, rel=0.05)

    def test_only_rising_is_a_warm_up(self):
        found = fit(curve(self.X, self.X * 1e-9), 0.1)
        assert (found.kind, found.warmup) == ("warm-up", pytest.approx(0.1))


def test_kinds_of_lines_are_counted_and_those_that_hold_points_are_told(tmp_path):
    text = "".join(
        f"step {i} loss {9 - i}.5\nwarn: {i} files\r {i}0%|█   | {i}/10\r {i}1%|██  | {i}/10\n"
        for i in range(1, 9)
    )
    path = tmp_path / "run.log"
    path.write_text(text)
    result = probe(open_log(path))
    told = dict(
        zip(
            result.template_text, zip(result.template_lines, result.template_metric, strict=True), strict=True
        )
    )
    assert told["step # loss #"] == (8, True)
    assert told["warn: # files"] == (8, False)
    assert sum(result.template_lines) == result.lines == 32


def test_events_are_kept_with_their_place():
    events = [Event("oom", "CUDA  out of memory " + "x" * 300, 17, 0, 12.0, 3)]
    result = probe(log(series("loss", [1, 2]), events=events))
    assert result.rows("event")[0] == {
        "kind": "oom",
        "text": ("CUDA out of memory " + "x" * 300)[:200],
        "line": 17,
        "step": 12.0,
        "count": 3,
    }


def test_a_view_says_what_it_lacks():
    result = probe(log(series("accuracy", np.linspace(0, 1, 30))))
    for view, text in {
        "curves": "no loss",
        "parts": "fewer than two",
        "rate": "no learning rate",
        "speed": "no time",
        "lines": "text log",
    }.items():
        figure = diagnostic.plot(result, view)
        assert text in figure.axes[0].texts[0].get_text()


def test_a_view_knows_its_series_and_axes():
    result = probe(log(series("loss", np.linspace(3, 1, 90), time=np.arange(90) * 60.0)))
    with pytest.raises(UsageError, match="the log has no series 'los'"):
        diagnostic.plot(result, "curves", show="los")
    with pytest.raises(UsageError, match="not drawn along 'hour'"):
        diagnostic.plot(result, "curves", along="hour")
    assert diagnostic.plot(result, "curves", along="hours").axes[0].get_xlabel() == "time (hours)"
    assert diagnostic.plot(result, "curves", along="epoch").axes[0].get_xlabel() == "step"  # it has none
