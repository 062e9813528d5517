"""The facts that MANIFEST.tsv tells of the real text logs, one assertion each."""

from __future__ import annotations

import numpy as np
import pytest

from trainlab.errors import SubjectError


def near(value, digits=6):
    return pytest.approx(value, rel=0.6 * 10.0**-digits)


class TestNanoGPT:
    @pytest.fixture
    def log(self, opened):
        return opened("nanogpt_bpc_output.log")

    def test_501_iter_points(self, log):
        assert len(log.loss) == 501

    def test_loss_first(self, log):
        assert log.loss.first[:2] == (0, 12.5435)

    def test_loss_last(self, log):
        assert log.loss.last[:2] == (5000, 1.5822)

    def test_loss_min(self, log):
        assert log.loss.best()[:2] == (4800, 1.4528)

    def test_21_eval_points(self, log):
        assert len(log.val_loss) == 21

    def test_val_first_and_last(self, log):
        assert log.val_loss.first[:2] == (0, 12.5218)
        assert log.val_loss.last[:2] == (5000, 1.5617)

    def test_val_min_is_not_the_last(self, log):
        assert log.val_loss.best()[:2] == (4750, 1.5590)

    def test_train_at_eval(self, log):
        assert log["train loss"].best()[:2] == (5000, 1.5169)

    def test_21_outliers_of_time(self, log):
        time = log["time"]
        assert time.step[time.value > 2000].tolist() == list(range(0, 5001, 250))

    def test_the_first_iteration_takes_minutes(self, log):
        assert log["time"].at(0).value == 242620.93

    def test_median_time(self, log):
        assert np.median(log["time"].value) == near(318.19, 4)

    def test_median_time_by_1000(self, log):
        time = log["time"]
        usual = time.where(time.value <= 2000)  # without evaluation and saving
        medians = [np.median(usual.value[usual.step // 1000 == at]) for at in range(5)]
        assert medians == pytest.approx([280.3, 315.5, 318.9, 321.4, 325.8], abs=0.06)

    def test_mfu(self, log):
        mfu = log["mfu"]
        assert mfu.at(10).value == 9.31
        assert mfu.at(4990).value == 7.54


class TestModdedAdamW:
    @pytest.fixture
    def log(self, opened):
        return opened("moddednanogpt_adamw.log")

    def test_train(self, log):
        assert len(log.loss) == 9536
        assert log.loss.first.value == near(10.9656)
        assert log.loss.last[:2] == (9535, 3.340180)
        assert (log.loss.best().step, log.loss.best().value) == (9224, pytest.approx(3.1681, abs=5e-5))

    def test_val(self, log):
        val = log.val_loss
        assert len(val) == 76
        assert val.first.value == pytest.approx(10.9689, abs=5e-5)
        assert val.last[:2] == val.best()[:2] == (9536, 3.275959)


class TestModdedOptimizers:
    @pytest.fixture
    def log(self, opened):
        return opened("moddednanogpt_opt_a.txt")

    def test_the_log_begins_behind_the_source(self, log):
        assert min(each.line[0] for each in log.series.values()) == 620

    def test_train(self, log):
        assert len(log.loss) == 5100
        assert log.loss.first.value == 15.9932
        assert log.loss.last.value == 3.2774
        assert log.loss.best()[:2] == (2817, 2.9797)

    def test_val(self, log):
        assert len(log.val_loss) == 42
        assert log.val_loss.first.value == 16.0012
        assert log.val_loss.last[:2] == log.val_loss.best()[:2] == (5100, 3.2858)

    def test_train_time(self, log):
        assert (
            log["train_time"].last.value == 912686 + 20
        )  # of the last validation, 20 ms after the last step
        assert log["train_time"].value[log["train_time"].step == 5100][0] == 912686

    def test_steps_per_second(self, log):
        at = {step: log.loss.time[log.loss.step == step][0] for step in (500, 5000)}
        assert 4500 / (at[5000] - at[500]) == near(5.5679, 4)

    def test_nanms_is_no_value(self, log):
        assert all(np.isfinite(each.value).all() for each in log.series.values())
        assert log["step_avg"].first.step == 13


class TestLoggerTables:
    def test_guided_diffusion(self, opened):
        log = opened("guideddiff_khanh_log.txt")
        loss = log["loss"]
        assert len(loss) == 2065
        assert (loss.first.value, loss.last.value) == (16.6, 0.14)
        assert (loss.best().value, loss.best(lower=False).value) == (0.0394, 19.3)
        assert loss.step[-11:].tolist() == [loss.step[-11], *[20600] * 10]
        assert loss.step[-11] != 20600

    def test_baselines_ppo(self, opened):
        loss = opened("baselines_ppo_log.txt")["train/total_loss"]
        assert len(loss) == 47
        assert (loss.first.value, loss.last.value) == (0.0386, 0.104)
        assert (loss.best().value, loss.best(lower=False).value) == (0.0113, 0.165)


class TestHuggingFaceStdout:
    @pytest.fixture
    def log(self, opened):
        return opened("chatglm_ccks50_stdout.txt")

    def test_2380_dicts(self, log):
        assert len(log["loss"]) == 2380

    def test_steps_are_those_of_trainer_state(self, log, opened):
        state = opened("chatglm_ccks50_trainer_state.json")
        assert log["loss"].step.tolist() == state["loss"].step.tolist()
        assert log["loss"].value.tolist() == state["loss"].value.tolist()

    def test_final(self, log):
        assert log["train_loss"].first.value == pytest.approx(0.0768892, abs=5e-8)
        assert log["train_runtime"].last.value == 23850.5197
        assert log["train_steps_per_second"].last.value == 0.998

    def test_lines(self, log):
        assert max(each.line[-1] for each in log.series.values()) <= 2633


class TestCycleGAN:
    @pytest.fixture
    def log(self, opened):
        return opened("cyclegan_fog2rain_loss_log.txt")

    def test_600_lines_of_200_epochs(self, log):
        assert len(log["D_A"]) == 600
        assert (log["D_A"].epoch[0], log["D_A"].epoch[-1]) == (1, 200)
        assert log.run_count == 1

    def test_discriminator(self, log):
        series = log["D_A"]
        assert (series.first.value, series.last.value, series.best().value) == (0.255, 0.023, 0.018)

    def test_generator(self, log):
        assert (log["G_A"].last.value, log["G_A"].best(lower=False).value) == (0.915, 2.053)

    def test_cycle(self, log):
        assert (log["cycle_A"].first.value, log["cycle_A"].last.value) == (6.358, 0.633)

    def test_all_are_losses(self, log):
        assert {each.name for each in log.losses} == {
            f"{name}_{side}" for name in ("D", "G", "cycle", "idt") for side in "AB"
        }


class TestFairseq:
    @pytest.fixture
    def log(self, opened):
        return opened("fairseq_w2v2_hydra_train.log")

    def test_23_train_inner(self, log):
        assert len(log["loss"]) == 23
        assert log["loss"].first[:2] == (200, 9.276)
        assert log["loss"].last[:2] == log["loss"].best()[:2] == (4600, 3.922)

    def test_10_valid(self, log):
        valid = log["valid_loss"]
        assert len(valid) == 10
        assert valid.split == "val"
        assert (valid.first[:2], valid.last[:2]) == ((479, 6.389), (4791, 3.792))
        assert log.val_loss is valid

    def test_10_train(self, log):
        assert len(log["train_loss"]) == 10

    def test_a_penalty_vanishes(self, log):
        assert (log["loss_2"].first.value, log["loss_2"].last.value) == (2.54, 0.010)

    def test_19_overflows(self, log):
        assert sum(event.count for event in log.events if event.kind == "overflow") == 19

    def test_loss_scale(self, log):
        seen = list(dict.fromkeys(log["loss_scale"].value.tolist()))
        assert seen[0] == 128
        assert {256, 8} <= set(seen)
        assert log["loss_scale"].last.value == 16
        assert log["loss_scale"].role == "scale"


class TestBasicSR:
    @pytest.fixture
    def log(self, opened):
        return opened("basicsr_iqa_nohup.out")

    def test_62_points(self, log):
        assert len(log["l_mos"]) == 62
        assert log["l_mos"].first[:2] == (100, 0.0026487)
        assert log["l_mos"].best()[:2] == (4800, 4.4036e-05)

    def test_l_mos_is_a_loss(self, log):
        assert log["l_mos"].role == "loss"
        assert log.loss.name in ("l_mos", "l_metric")

    def test_two_runs(self, log):
        first, second = log.runs
        assert first["l_mos"].last.step > 4800
        assert second["l_mos"].first.step == 100
        assert second["l_mos"].last[:2] == (700, 0.0031917)

    def test_one_traceback(self, log):
        assert sum(event.kind == "traceback" for event in log.events) == 1


class TestKeras:
    @pytest.fixture
    def log(self, opened):
        return opened("keras_lstm_readme.txt")

    def test_1600_lines_of_verbose_2_and_100_bars(self, log):
        assert len(log["loss"]) == 1700

    def test_5_models(self, log):
        assert [len(run["loss"]) for run in log.runs].count(500) == 3
        assert [len(run["loss"]) for run in log.runs].count(100) == 2

    def test_first_loss(self, log):
        assert log["loss"].first.value == 3.1494

    def test_the_loss_jumps_at_the_second_model(self, log):
        assert log["loss"].value[100] == 5.1131
        assert log["loss"].run[99:101].tolist() == [0, 1]


class TestMegatron:
    @pytest.fixture
    def log(self, opened):
        return opened("megatron_n4.out")

    def test_19_lines(self, log):
        loss = log["lm loss"]
        assert len(loss) == 19
        assert (loss.step[0], loss.step[-1]) == (20, 200)
        assert loss.first.value == near(12.03115)
        assert loss.at(30).value == near(22.475, 5)
        assert (loss.last.step, loss.last.value) == (loss.best().step, loss.best().value)
        assert loss.last.value == near(7.36587)

    def test_skipped_iterations(self, log):
        skipped = log["number of skipped iterations"]
        assert skipped.at(20).value == 8
        assert skipped.at(30).value == 1
        assert skipped.value[skipped.step >= 20].sum() == 9

    def test_the_first_line_has_no_gradient_norm(self, log):
        assert log["grad norm"].first.step == 30

    def test_validation(self, log):
        val = log.val_loss
        assert val.step.tolist() == [100, 200]
        assert val.value == pytest.approx([8.017406, 7.487306])
        assert log["val/lm loss PPL"].value == pytest.approx([3033.3, 1785.236], rel=1e-5)
        assert np.exp(val.value) == pytest.approx(log["val/lm loss PPL"].value, rel=1e-4)

    def test_the_word_nan_is_no_nan(self, log):
        assert all(np.isfinite(each.value).all() for each in log.series.values())
        assert not any(event.kind == "overflow" for event in log.events)


def test_a_pointer_is_named(opened):
    with pytest.raises(SubjectError, match="git-LFS pointer"):
        opened("events.out.tfevents.1674974582.LFSPOINTER")
