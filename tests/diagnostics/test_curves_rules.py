"""The rules of `curves`: for each, a run made by hand that it speaks of, and one like it that it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainlab.diagnostics.curves import diagnostic, probe
from trainlab.diagnostics.curves.marks import marks
from trainlab.finding import Level
from trainlab.subjects.runlog.log import Event, RunLog, Series

STEPS = np.arange(0, 20_001, 50.0)
SHARE = STEPS / STEPS[-1]
FALL = 2.0 * (1 + STEPS / 200) ** -0.6


def wobble(scale=0.02, seed=0):
    return np.random.default_rng(seed).lognormal(0, scale, len(STEPS))


def judged(code, series, *, config=None, totals=None, events=(), clock=None, step=STEPS, **settings):
    """The finding of one rule; ``series`` are values by name over the steps."""
    limits = settings.pop("limits", {})
    count, unknown = len(step), np.full(len(step), np.nan)
    made = {
        name: Series(
            name, "val" if name.startswith("val") else "train", np.asarray(value, float), step, unknown,
            unknown if clock is None else clock, np.arange(1, count + 1), np.zeros(count, np.int64),
        )
        for name, value in series.items()
    }  # fmt: skip
    placed = tuple(
        Event(kind, text, line, 0, float(step[min(line, count) - 1])) for kind, text, line in events
    )
    log = RunLog(Path("run.log"), "made", made, config or {}, placed, (), totals or {})
    return diagnostic.judge(probe(log, **settings), **limits)[code]


def nan_from(index):
    value = FALL.copy()
    value[index:] = np.nan
    return value


class TestFinite:
    def test_nan_names_its_first_step_and_line(self):
        found = judged("CRV001", {"loss": nan_from(100)})
        assert found.level is Level.FAIL
        assert found.text == "loss is not finite from step 5,000 to the end"
        assert found.evidence[0].where == "loss from step 5,000 (run.log:101)"

    def test_nan_from_the_first_value_on(self):
        assert "from its first value on" in judged("CRV001", {"loss": nan_from(0)}).text

    def test_one_inf_is_a_warning(self):
        value = FALL.copy()
        value[100] = np.inf
        assert judged("CRV001", {"loss": value}).level is Level.WARN

    def test_nan_in_a_metric_of_an_absent_class_is_fine(self):
        assert judged("CRV001", {"loss": FALL, "bbox/APs": nan_from(0)}).level is Level.OK


class TestExplosion:
    def test_a_rise_that_stays(self):
        found = judged(
            "CRV002", {"loss": np.where(SHARE < 0.7, FALL, FALL * np.exp(12 * (SHARE - 0.7))) * wobble()}
        )
        assert found.level is Level.FAIL
        assert "rose from" in found.text

    @pytest.mark.parametrize(
        "value",
        [FALL * wobble(0.9), -3 + 5 * np.exp(-4 * SHARE), 1e-4 + FALL * 1e-3],
        ids=["noise", "negative", "tiny"],
    )
    def test_noise_and_negative_losses_are_left_alone(self, value):
        assert judged("CRV002", {"loss": value}).level is Level.OK


class TestLate:
    def test_a_diffusion_loss_above_1(self):
        found = judged("CRV003", {"loss": 3 + FALL, "loss_q0": FALL})
        assert found.level is Level.FAIL
        assert "at step 1,000" in found.text

    def test_a_loss_of_unknown_scale_has_no_limit_until_it_is_given_one(self):
        assert judged("CRV003", {"loss": 3 + FALL}).level is Level.SKIP
        assert judged("CRV003", {"loss": 3 + FALL}, limits={"late_loss_max": 1.0}).level is Level.FAIL
        assert judged("CRV003", {"loss": FALL}, limits={"late_loss_max": 1.0}).level is Level.OK

    def test_a_loss_summed_over_pixels_is_of_another_scale(self):
        assert judged("CRV003", {"loss": 3000 * FALL + 300, "loss_q0": FALL}).level is Level.SKIP


class TestPlateau:
    def test_a_plateau_is_told_with_its_onset(self):
        found = judged("CRV004", {"loss": np.interp(STEPS, [0, 2000], [10, 8]) * wobble(0.005)})
        assert found.level is Level.FAIL
        assert found.text.startswith("loss stays at 7.997 from step 1,950 to step 20,000")

    def test_what_has_converged_is_flat_and_fine(self):
        assert "converged" in judged("CRV004", {"loss": np.maximum(10 * np.exp(-20 * SHARE), 0.05)}).text
        assert judged("CRV004", {"loss": FALL * wobble()}).level is Level.OK

    def test_a_resumed_run_is_not_judged(self):
        assert (
            "begins at step 10,000" in judged("CRV004", {"loss": np.full(401, 8.0)}, step=STEPS + 10_000).text
        )


class TestFalling:
    def test_flat_after_step_5000(self):
        found = judged("CRV005", {"loss": np.interp(STEPS, [0, 4000], [10, 4]) * wobble(0.005)})
        assert found.level is Level.WARN
        assert "after step 5,000" in found.text

    def test_still_falling_converged_and_too_noisy(self):
        assert judged("CRV005", {"loss": FALL * wobble()}).level is Level.OK
        assert "is left" in judged("CRV005", {"loss": np.maximum(10 * np.exp(-40 * SHARE), 0.05)}).text
        assert "too noisy" in judged("CRV005", {"loss": np.full(401, 4.0) * wobble(0.9) + 2}).text


class TestSpikes:
    def spiked(self, at, until, by):
        value = FALL * wobble()
        value[at:until] *= by
        return value

    def test_one_that_passes_is_a_warning(self):
        found = judged("CRV006", {"loss": self.spiked(200, 203, 5)})
        assert found.level is Level.WARN
        assert found.text == "one spike, the first at step 10,000; each recovered within 150 steps"
        assert "run.log:20" in found.evidence[0].where

    def test_one_that_stays_is_a_failure(self):
        found = judged("CRV006", {"loss": self.spiked(200, 401, 5)})
        assert found.level is Level.FAIL
        assert "did not recover" in found.text

    def test_longer_than_1000_steps_is_not_recovered(self):
        assert judged("CRV006", {"loss": self.spiked(200, 225, 5)}).level is Level.FAIL

    @pytest.mark.parametrize("noise", [0.02, 0.3, 0.9])
    def test_noise_is_no_spike(self, noise):
        assert judged("CRV006", {"loss": FALL * wobble(noise)}).level is Level.OK

    def test_a_restart_of_the_rate_explains_a_rise(self):
        cycle = (4 * SHARE) % 1
        value = FALL * np.where(SHARE > 0.2, 1 + 1.5 * np.exp(-60 * cycle), 1)
        assert judged("CRV006", {"loss": value}).level is not Level.OK
        assert judged("CRV006", {"loss": value, "lr": 0.5 * (1 + np.cos(np.pi * cycle))}).level is Level.OK

    def test_spikes_of_the_gradient_are_not_of_the_loss(self):
        norm = np.ones(401)
        norm[[50, 200, 300]] = 1000
        for code in ("CRV006", "CRV010"):
            assert judged(code, {"loss": FALL, "grad_norm": norm}).level is Level.OK


class TestSpread:
    def test_raw_spread_is_a_warning_and_levels_are_not(self):
        wide = (0.8 + FALL) * wobble(0.9)
        assert judged("CRV007", {"loss": wide}).level is Level.WARN
        levels = {f"loss_q{k}": (0.8 + FALL) * wobble(0.1, k) for k in range(4)}
        assert judged("CRV007", {"loss": wide, **levels}).level is Level.OK
        assert judged("CRV007", {"loss": wide}, config={"diffusion_steps": 1000}).level is Level.SKIP


class TestEnd:
    def test_half_is_left(self):
        assert judged("CRV008", {"loss": 2 - 0.8 * SHARE}).level is Level.WARN
        assert judged("CRV008", {"loss": FALL}).level is Level.OK

    def test_a_language_model_keeps_its_entropy_and_a_fine_tuned_one_begins_low(self):
        language = {"vocab_size": 50257}
        assert judged("CRV008", {"loss": 10.8 - 4 * SHARE}, config=language).level is Level.OK
        assert "was trained before" in judged("CRV008", {"loss": 2.2 - 0.3 * SHARE}, config=language).text

    def test_a_run_that_has_just_begun_is_not_judged(self):
        assert (
            "too early" in judged("CRV008", {"loss": 2 - 0.8 * SHARE}, totals={"total_steps": 100_000.0}).text
        )


class TestOverfitting:
    def test_validation_up_while_training_falls(self):
        found = judged("CRV009", {"loss": FALL, "val_loss": FALL + np.maximum(0, SHARE - 0.4)})
        assert found.level is Level.WARN
        assert "is best at step " in found.text
        assert "use the checkpoint of step" in found.fix

    def test_a_rise_within_the_noise_and_one_that_training_shares(self):
        assert (
            judged("CRV009", {"loss": FALL, "val_loss": FALL + 0.002 * np.maximum(0, SHARE - 0.9)}).level
            is Level.OK
        )
        both = FALL + 2 * np.maximum(0, SHARE - 0.4)
        assert judged("CRV009", {"loss": both, "val_loss": both}).level is Level.OK

    def test_the_best_of_some_noisy_values_is_lucky(self):
        epochs = np.arange(60.0)
        fired = 0
        for seed in range(40):
            noise = np.random.default_rng(seed).normal(0, 0.02, 60)
            held = 0.3 + 1.1 * np.exp(-epochs / 12) + noise
            found = judged("CRV009", {"loss": np.exp(-epochs / 20), "val_loss": held}, step=epochs)
            fired += found.level is not Level.OK
        assert fired == 0

    def test_no_validation_cannot_be_told(self):
        assert "learns by heart cannot be told" in judged("CRV009", {"loss": FALL}).text


class TestGradient:
    @pytest.mark.parametrize(("factor", "word"), [(6, "grew"), (-16, "fell")])
    def test_a_norm_that_grows_or_vanishes(self, factor, word):
        found = judged("CRV010", {"loss": FALL, "grad_norm": np.exp(factor * SHARE) * wobble(0.2)})
        assert found.level is Level.WARN
        assert word in found.text

    def test_not_finite_now_and_then_is_loss_scaling(self):
        norm = wobble(0.2)
        norm[7] = np.inf
        assert judged("CRV010", {"loss": FALL, "grad_norm": norm}).level is Level.OK
        norm[::5] = np.nan
        assert judged("CRV010", {"loss": FALL, "grad_norm": norm}).level is Level.FAIL


class TestRate:
    COSINE = 1e-3 * 0.5 * (1 + np.cos(np.pi * SHARE))

    def told(self, rate, **given):
        return judged("CRV011", {"loss": FALL, "lr": rate}, **given)

    def test_a_cosine_is_named(self):
        found = self.told(self.COSINE, config={"lr": 1e-3})
        assert (found.level, found.text) == (Level.OK, "cosine to 0 % of its peak 0.001")

    @pytest.mark.parametrize(
        ("rate", "text"),
        [
            (1e-3 * np.minimum(1, SHARE / 0.5), "warm-up takes 50 %"),
            (1e-3 * 0.5 * (1 + np.cos(np.pi * SHARE / 2)), "is laid out for 198 % of the run"),
            (1e-3 * 0.5 * (1 + np.cos(np.pi * np.minimum(1, 2 * SHARE))), "less than 0.1 % of the peak"),
            (
                1e-3 * 0.5 * (1 + np.cos(np.pi * np.where(SHARE < 0.5, SHARE, SHARE - 0.5))),
                "jumps from 0.0005",
            ),
            (np.full(401, 8e-3), "its peak is 0.008 where the config says 0.001"),
        ],
        ids=["warm-up", "long", "dead", "jump", "peak"],
    )
    def test_its_faults(self, rate, text):
        found = self.told(rate, config={"lr": 1e-3})
        assert found.level is Level.WARN
        assert text in found.text

    def test_always_zero_is_a_failure(self):
        found = self.told(np.zeros(401))
        assert (found.level, found.text) == (Level.FAIL, "lr is 0 from the first point to the last")

    def test_warm_restarts_are_a_schedule(self):
        assert self.told(1e-3 * 0.5 * (1 + np.cos(np.pi * ((4 * SHARE) % 1)))).level is Level.OK


class TestParts:
    def test_zero_collapsed_and_no_longer_logged(self):
        total = {"loss": FALL + 1}
        for value, word in (
            (np.where(STEPS < 1000, 3.0, 0.0), "is 0 after step 950"),
            (np.where(STEPS < 1000, 3.0, 1e-5), "falls to 1e-05 at once after step 950"),
        ):
            found = judged("CRV012", {**total, "lm_loss": value})
            assert found.level is Level.FAIL
            assert word in found.text

    def test_heads_told_apart_by_a_number_are_parts_and_means_of_them_are_not(self):
        dead = np.where(STEPS < 1000, 3.0, 0.0)
        found = judged("CRV012", {"loss": FALL + 1, "loss_1": FALL, "loss_2": dead, "train/loss_2": dead})
        assert found.text == "loss_2 is 0 after step 950, from 3"

    def test_a_penalty_may_fade_and_a_gan_may_do_as_it_likes(self):
        assert judged("CRV012", {"loss": FALL + 1, "loss_2": 2.54 * np.exp(-6 * SHARE)}).level is Level.OK
        assert judged("CRV012", {"D_A": FALL, "G_A": np.where(SHARE < 0.5, 1, 0)}).level is Level.SKIP

    def test_zero_now_and_then_is_an_empty_batch(self):
        found = judged("CRV012", {"loss": FALL + 1, "loss_bbox": np.where(np.arange(401) % 7 == 0, 0, FALL)})
        assert found.level is Level.WARN
        assert found.text == "loss_bbox is exactly 0 in 58 of 401 points"

    def test_scale_is_judged_where_the_pack_says_so(self):
        parts = {"loss": FALL * 50, "a_loss": FALL * 50, "b_loss": FALL}
        assert judged("CRV013", parts).level is Level.OK
        found = judged("CRV013", parts, pack="distillation")
        assert found.level is Level.WARN
        assert "a_loss is 50 times b_loss" in found.text
        faded = {
            "loss": FALL * 50 + 1,
            "a_loss": 1 + FALL,
            "b_loss": 2 + FALL,
            "penalty_loss": 2.5 * np.exp(-9 * SHARE),
        }
        assert judged("CRV013", faded, pack="distillation").level is Level.OK

    def test_a_weight_against_its_schedule(self):
        lags = {"loss": FALL, "curriculum_weight": 0.0672 * np.minimum(1, 2 * SHARE)}
        found = judged(
            "CRV014", lags, schedules={"curriculum": {0: 0, 1: 1}}, totals={"total_steps": 40_000.0}
        )
        assert found.text == "curriculum_weight is 0.0672 at 50 % of the run where 0.5 is meant"
        assert judged("CRV014", {**lags, "curriculum_weight": SHARE}, pack="distillation").level is Level.OK
        assert judged("CRV014", lags, pack="general").level is Level.SKIP


class TestPerplexity:
    LOSS = 3 + FALL

    def told(self, perplexity, name="perplexity"):
        return judged("CRV015", {"loss": self.LOSS, name: perplexity})

    def test_agrees_to_base_e_and_2_and_as_a_mean_of_exponentials(self):
        for perplexity, base in (
            (np.exp(self.LOSS), "exp"),
            (2**self.LOSS, "exp2"),
            (np.exp(self.LOSS + 0.35), "exp"),
        ):
            found = self.told(perplexity)
            assert (found.level, found.text) == (Level.OK, f"perplexity is {base}(loss)")

    def test_a_clamp_is_exactly_a_power_of_e(self):
        found = self.told(np.full(401, 4.852e8))
        assert found.level is Level.FAIL
        assert "exactly exp(20), a clamp" in found.text

    def test_another_loss_and_codes(self):
        assert self.told(np.exp(2 * self.LOSS)).level is Level.WARN
        assert self.told(np.exp(2 * self.LOSS), "code_perplexity").level is Level.SKIP


class TestRun:
    def test_stopped_while_improving(self):
        stop = [("early_stop", "Early stopping", 401)]
        found = judged(
            "CRV016", {"loss": FALL, "val_loss": 2 - SHARE}, events=stop, totals={"total_steps": 40_000.0}
        )
        assert found.level is Level.WARN
        assert found.text.startswith(
            "stopped early at 50 % of 40,000 steps, while val_loss still improved by "
        )
        flat = np.maximum(2 - 4 * SHARE, 1)
        assert judged("CRV016", {"loss": FALL, "val_loss": flat}, events=stop).level is Level.OK

    @pytest.mark.parametrize(
        ("total", "events", "level", "text"),
        [
            (20_000, [], Level.OK, "step 20,000 of 20,000 (100 %)"),
            (103_600, [], Level.WARN, "the log ends at step 20,000 of 103,600 (19.3 %)"),
            (103_600, [("oom", "CUDA out of memory", 402)], Level.FAIL, "ended by an error"),
            (103_600, [("traceback", "Traceback", 3)], Level.WARN, "without a line that says why"),
            (103_600, [("completed", "Training done", 402)], Level.OK, "'Training done'"),
            (0, [], Level.SKIP, "does not say how many steps"),
        ],
    )
    def test_its_end(self, total, events, level, text):
        found = judged("CRV017", {"loss": FALL}, totals={"total_steps": float(total)}, events=events)
        assert found.level is level
        assert text in found.text

    def test_a_loss_of_speed_with_its_onset(self):
        slow = np.cumsum(np.where(SHARE < 0.5, 50.0, 100.0))
        found = judged("CRV018", {"loss": FALL}, clock=slow)
        assert found.level is Level.WARN
        assert found.text == "steps per second fell by 50 %, from 1 to 0.5, first at step 10,150"
        outliers = np.cumsum(np.where(np.arange(401) % 20 == 0, 500.0, 50.0))
        assert judged("CRV018", {"loss": FALL}, clock=outliers).level is Level.OK

    def test_claims_that_do_and_do_not_add_up(self):
        claims = {"total_steps": 20_000.0, "total_epochs": 10.0, "steps_per_epoch": 3000.0}
        found = judged("CRV020", {"loss": FALL}, totals=claims)
        assert found.level is Level.WARN
        assert "20,000 is said, 30,000 found" in found.text
        assert (
            judged("CRV020", {"loss": FALL}, totals={**claims, "steps_per_epoch": 2000.0}).level is Level.OK
        )
        eight_devices = {"steps_per_epoch": 56.0, "dataset_size": 7058.0, "batch_size": 16.0}
        assert judged("CRV020", {"loss": FALL}, totals=eight_devices).level is Level.OK
        assert (
            judged("CRV020", {"loss": FALL}, totals={**eight_devices, "dataset_size": 30_000.0}).level
            is Level.WARN
        )

    def test_samples_per_second_against_the_counter_and_the_clock(self):
        clock = STEPS * 0.5
        counted = {"loss": FALL, "clips": STEPS * 16, "clips/s": np.full(401, 32.0)}
        assert judged("CRV020", counted, clock=clock).level is Level.OK
        assert judged("CRV020", {**counted, "clips/s": np.full(401, 64.0)}, clock=clock).level is Level.WARN


class TestLearned:
    def test_the_level_of_chance(self):
        value = np.log(1000) + 0.05 * wobble(0.1)
        found = judged("CRV021", {"loss": value, "accuracy": SHARE}, config={"num_classes": 1000})
        assert found.level is Level.FAIL
        assert "ln(1000 classes)" in found.text
        assert (
            judged("CRV021", {"loss": FALL, "accuracy": SHARE}, config={"num_classes": 1000}).level
            is Level.OK
        )

    def test_where_it_began(self):
        assert judged("CRV021", {"loss": 4 + 0.01 * wobble(0.5)}).level is Level.FAIL
        assert judged("CRV021", {"loss": FALL}).level is Level.OK


@pytest.mark.parametrize(
    "code", ["CRV002", "CRV003", "CRV004", "CRV005", "CRV008", "CRV009", "CRV012", "CRV021"]
)
def test_reinforcement_is_not_judged_by_its_loss(code):
    loss = np.random.default_rng(0).normal(-5, 30, len(STEPS))
    assert judged(code, {"train/loss": loss, "train/reward": SHARE}).level is Level.SKIP


class TestMarks:
    """What a picture marks with a code."""

    def marked(self, **series):
        count, unknown = len(STEPS), np.full(len(STEPS), np.nan)
        made = {
            name: Series(
                name, "val" if name.startswith("val") else "train", value, STEPS, unknown, unknown,
                np.arange(1, count + 1), np.zeros(count, np.int64),
            )
            for name, value in series.items()
        }  # fmt: skip
        result = probe(RunLog(Path("run.log"), "made", made))
        return {
            (mark.code, mark.series, result.curves[mark.series].finite.x[mark.point])
            for mark in marks(result)
        }

    def test_nothing_on_a_healthy_run(self):
        assert self.marked(loss=FALL * wobble(), val_loss=FALL) == set()

    def test_the_last_finite_point_and_the_best_of_validation(self):
        up = FALL + np.maximum(0, SHARE - 0.4)
        assert self.marked(loss=nan_from(200), val_loss=FALL) == {("CRV001", "loss", 9950.0)}
        assert self.marked(loss=FALL, val_loss=up) == {("CRV009", "val_loss", 8000.0)}

    def test_a_spike_and_a_part_that_vanished(self):
        value = FALL * wobble()
        value[200] *= 9
        gone = np.where(STEPS < 1000, 3.0, 0.0)
        assert self.marked(loss=value, lm_loss=gone) == {
            ("CRV006", "loss", 10_000.0),
            ("CRV012", "lm_loss", 950.0),
        }
