"""The facts that MANIFEST.tsv tells of the real tables, JSON, event and W&B files, one assertion each."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from trainlab.errors import SubjectError


def same(value: float, told: str) -> bool:
    """Whether a value is the one that was told, to one unit of its last digit."""
    return abs(Decimal(float(value)) - Decimal(told)) <= Decimal(1).scaleb(Decimal(told).as_tuple().exponent)


class TestNanogptWandb:
    @pytest.fixture
    def log(self, opened):
        return opened("nanogpt_bpc.wandb")

    def test_21_history_rows(self, log):
        assert len(log["train/loss"]) == 21

    def test_train_loss(self, log):
        first, last = log["train/loss"].first, log["train/loss"].last
        assert (first.step, last.step) == (0, 5000)
        assert same(first.value, "12.520064")
        assert same(last.value, "1.516894")

    def test_val_loss(self, log):
        assert same(log["val/loss"].first.value, "12.521757")
        assert same(log["val/loss"].last.value, "1.561654")

    def test_it_is_the_run_of_the_output_log(self, log, opened):
        text = opened("nanogpt_bpc_output.log")
        assert np.allclose(text.val_loss.value, log["val/loss"].value, atol=5.1e-5)
        assert log["console/loss"].value.tolist() == text["loss"].value.tolist()

    def test_1082_console_records(self, log):
        assert "21 history rows, 1082 console records" in log.notes


class TestGuidedDiffusion:
    @pytest.fixture
    def log(self, opened):
        return opened("guideddiff_khanh_progress.csv")

    def test_2065_rows_every_10_steps(self, log):
        assert log["loss"].step.tolist() == list(range(0, 20641, 10))
        assert len(log["loss"]) == 2065

    def test_loss(self, log):
        loss = log.loss
        assert loss.name == "loss"
        assert same(loss.first.value, "16.557572")
        assert same(loss.last.value, "0.139779")
        assert loss.best().step == 15430
        assert same(loss.best().value, "0.0393813")
        assert loss.best(lower=False).step == 10
        assert same(loss.best(lower=False).value, "19.3277")

    def test_loss_at_10000(self, log):
        assert same(log["loss"].at(10000).value, "0.186216")

    def test_quartiles(self, log):
        assert same(log["loss_q0"].last.value, "0.534402")
        assert same(log["loss_q0"].best().value, "0.110881")
        assert same(log["loss_q1"].last.value, "0.008986")
        assert same(log["loss_q3"].last.value, "0.015351")
        assert same(log["loss_q0"].last.value / log["loss_q1"].last.value, "59.5")

    def test_the_spread_of_the_last_100(self, log):
        tail = log["loss"].value[-100:]
        assert same(tail.std() / tail.mean(), "0.92")

    def test_it_is_the_run_of_the_log(self, log, opened):
        table = opened("guideddiff_khanh_log.txt")
        assert np.allclose(table["loss"].value, log["loss"].value, rtol=6e-3)


class TestGuidedDiffusionTooSlow:
    @pytest.fixture
    def loss(self, opened):
        return opened("guideddiff_khanh_lr1e-7_progress.csv").loss

    def test_4736_rows_to_step_47350(self, loss):
        assert len(loss) == 4736
        assert loss.last.step == 47350

    def test_loss(self, loss):
        assert same(loss.first.value, "13.7689")
        assert same(loss.last.value, "10.4934")
        assert (loss.best().step, same(loss.best().value, "8.00244")) == (47000, True)
        assert (loss.best(lower=False).step, same(loss.best(lower=False).value, "25.947")) == (3440, True)

    def test_the_mean_of_the_last_100(self, loss):
        assert same(loss.value[-100:].mean(), "10.366")
        assert same(1 - loss.value[-100:].mean() / loss.first.value, "0.25")

    def test_loss_at_10000(self, loss):
        assert same(loss.at(10000).value, "14.763486")


class TestGuidedDiffusionBehindNuls:
    @pytest.fixture
    def log(self, opened):
        return opened("guideddiff_seismic_nulprefix_progress.csv")

    def test_164270_bytes_are_nul(self, log):
        assert any("164270 NUL bytes" in note for note in log.notes)

    def test_367_rows_of_19_columns(self, log):
        assert len(log["column 1"]) == 367
        assert len(log.series) == 18  # and the step

    def test_the_header_is_lost(self, log):
        assert any(
            "the header is lost" in note and "column 13 counts the steps" in note for note in log.notes
        )

    def test_the_step_is_column_13(self, log):
        assert log["column 1"].step.tolist() == list(range(4480, 8141, 10))

    def test_loss(self, log):
        loss = log["column 1"]
        assert same(loss.first.value, "0.0327352")
        assert same(loss.last.value, "0.0281428")
        assert same(loss.best().value, "0.0213014")
        assert np.nanargmin(loss.value) == 294


class TestWdm:
    @pytest.fixture
    def log(self, opened):
        return opened("wdm_inpainting_progress.csv")

    def test_160_rows(self, log):
        assert log["mse_loss_mean"].step.tolist() == list(range(10, 1601, 10))

    def test_loss(self, log):
        loss = log.loss
        assert loss.name == "mse_loss_mean"
        assert same(loss.first.value, "0.279871")
        assert same(loss.last.value, "0.0112739")
        assert same(loss.best().value, "0.00443902")
        assert np.argmin(loss.value) == 64

    def test_q0_comes_last_and_late(self, log):
        assert list(log.series)[-2:] == ["mse_label_cond_q0_mean", "mse_loss_q0_mean"]
        assert log["mse_loss_q0_mean"].first.step == 20  # row 1, counted from 0

    def test_filled_cells(self, log):
        assert [len(log[f"mse_loss_q{index}_mean"]) for index in (1, 2, 3, 0)] == [148, 147, 149, 149]


class TestMmdet:
    @pytest.fixture
    def log(self, opened):
        return opened("mmdet_None.log.json")

    def test_1022_train_and_19_val(self, log):
        assert (len(log["loss"]), len(log["val/mAP"])) == (1022, 19)
        assert max(log["loss"].line[-1], log["val/mAP"].line[-1]) == 1041

    def test_33_runs(self, log):
        assert len(log.runs) == 33
        lengths = [len(run["loss"]) for run in log.runs if "loss" in run.series]
        assert lengths[:5] == [144, 24, 9, 1, 144]

    def test_loss(self, log):
        assert log["loss"].best().value == 0
        assert (log["loss"].value == 0).sum() == 125
        assert log["loss"].best(lower=False).value == 1.12887

    def test_loss_bbox_is_0_in_154_rows(self, log):
        assert (log["loss_bbox"].value == 0).sum() == 154

    def test_map(self, log):
        values = log["val/mAP"].value
        assert (values == 0).sum() == 7
        assert log["val/mAP"].best(lower=False).value == 0.76747 == values[-1]


class TestRetfound:
    @pytest.fixture
    def log(self, opened):
        return opened("events.out.tfevents.1727894649.retfound")

    def test_5_tags(self, log):
        assert list(log.series) == ["loss", "lr", "perf/val_acc1", "perf/val_auc", "perf/val_loss"]

    def test_loss(self, log):
        loss = log["loss"]
        assert len(loss) == 2800
        assert (loss.first.step, loss.last.step) == (0, 49982)
        assert same(loss.first.value, "0.693066")
        assert same(loss.last.value, "0.491396")
        assert same(loss.best().value, "0.254496")
        assert same(loss.best(lower=False).value, "1.392047")

    def test_val_loss(self, log):
        loss = log["perf/val_loss"]
        assert len(loss) == 50
        assert same(loss.first.value, "0.65")
        assert same(loss.last.value, "0.42572")
        assert same(loss.best().value, "0.422248")


class TestDetectron2:
    @pytest.fixture
    def log(self, opened):
        return opened("detectron2_metrics.json")

    def test_16_lines_of_which_15_train(self, log):
        assert len(log["total_loss"]) == 15
        assert max(each.line[-1] for each in log.series.values()) == 16

    def test_total_loss(self, log):
        loss = log.loss
        assert loss.name == "total_loss"
        assert (loss.first.step, loss.last.step) == (19, 299)
        assert same(loss.first.value, "2.632076")
        assert same(loss.last.value, "0.428604")
        assert loss.best() == loss.last

    def test_nan_in_a_metric_three_times(self, log):
        missing = {name: int(np.isnan(each.value).sum()) for name, each in log.series.items()}
        assert {name: count for name, count in missing.items() if count} == {"bbox/APs": 3}


class TestChatglm:
    @pytest.fixture
    def log(self, opened):
        return opened("chatglm_ccks50_trainer_state.json")

    def test_2380_losses(self, log):
        assert log["loss"].step.tolist() == list(range(10, 23801, 10))
        assert len(log["loss"]) == 2380

    def test_loss(self, log):
        assert log["loss"].first.value == 3.9862
        assert log["loss"].last.value == 0.0018
        assert log["loss"].best()[:2] == (22820, 0.001)

    def test_the_steps_that_were_to_be(self, log):
        assert log.totals["total_steps"] == 23800 == log.config["global_step"]

    def test_no_evaluation_and_no_best(self, log):
        assert log.val_loss is None
        assert "best_metric" not in log.config


def test_the_pointer_is_named(opened):
    with pytest.raises(SubjectError, match="git-LFS pointer"):
        opened("events.out.tfevents.1674974582.LFSPOINTER")


class TestLightning:
    @pytest.fixture
    def log(self, opened):
        return opened("lightning_slm_v0_metrics.csv")

    def test_2834_rows(self, log):
        lines = {line for each in log.series.values() for line in each.line.tolist()}
        assert len(lines) == 2834
        assert max(lines) == 2835  # after the header

    def test_train_loss_step(self, log):
        loss = log["train_loss_step"]
        assert log.loss.name == loss.name
        assert len(loss) == 2814
        assert (loss.first.step, loss.last.step, loss.best().step) == (49, 140699, 139099)
        assert same(loss.first.value, "7.62858")
        assert same(loss.last.value, "3.56594")
        assert same(loss.best().value, "3.42874")

    def test_10_epochs(self, log):
        assert set(log["train_loss_step"].epoch) == set(range(10))

    def test_val_loss(self, log):
        loss = log["val_loss"]
        assert same(loss.first.value, "4.13257")
        assert same(loss.last.value, "3.57049")
        assert loss.best() == loss.last
        assert loss.last.step == 140739

    def test_two_perplexities(self, log):
        assert same(log["train_epoch_perplexity"].first.value, "118.744")
        assert same(np.exp(log["train_loss_epoch"].first.value), "118.744")
        assert same(log["train_loss_epoch"].first.value, "4.77697")
        assert same(log["train_perplexity_epoch"].first.value, "169.753")


class TestReinforcement:
    @pytest.fixture
    def log(self, opened):
        return opened("lightning_rl4co_metrics.csv")

    def test_1161_rows(self, log):
        assert len({line for each in log.series.values() for line in each.line.tolist()}) == 1161

    def test_loss(self, log):
        loss = log["train/loss"]
        assert len(loss) == 160
        assert same(loss.first.value, "-56.7422")
        assert same(loss.last.value, "-2.1933")
        assert (loss.best().step, same(loss.best().value, "-101.618")) == (399, True)
        assert (loss.best(lower=False).step, same(loss.best(lower=False).value, "30.0472")) == (2199, True)

    def test_reward(self, log):
        reward = log["val/reward"]
        assert len(reward) == 1000
        assert (reward.best(lower=False).step, same(reward.best(lower=False).value, "-109.67")) == (
            6695,
            True,
        )


class TestBsmae:
    @pytest.fixture
    def log(self, opened):
        return opened("bsmae_log.txt")

    def test_400_epochs(self, log):
        assert log["train_loss"].epoch.tolist() == list(range(400))

    def test_train_loss(self, log):
        loss = log["train_loss"]
        assert same(loss.first.value, "1.25562")
        assert same(loss.last.value, "0.0474536")
        assert same(loss.best().value, "0.0473131")
        assert loss.epoch[np.argmin(loss.value)] == 391

    def test_learning_rate(self, log):
        rate = log["train_lr"]
        assert same(rate.value.max(), "2.5e-4")
        assert rate.epoch[np.argmax(rate.value)] == 40


class TestStableDiffusionNan:
    @pytest.fixture
    def log(self, opened):
        return opened("sddemo_nan.wandb")

    def test_no_history_row(self, log):
        assert any(note.startswith("0 history rows") for note in log.notes)

    def test_533_updates_all_nan(self, log):
        assert len(log["loss"]) == 533
        assert np.isnan(log["loss"].value).all()

    def test_nan_from_step_1_to_267_and_75_seconds(self, log):
        assert (log["loss"].step[0], log["loss"].step[-1]) == (1, 267)
        assert log["loss"].time[-1] == 75
