from __future__ import annotations

import numpy as np
import pytest

import trainlab as tl
from trainlab.errors import UsageError
from trainlab.subjects.runlog.naming import is_epoch, is_step, role_of, split_of
from trainlab.subjects.runlog.recording import Recording

NAN = float("nan")


@pytest.fixture
def recording(tmp_path):
    return Recording(tmp_path / "a.log", "by hand")


def added(recording, steps, **options):
    for line, step in enumerate(steps, start=1):
        recording.add({"loss": float(line)}, line=line, step=step, **options)
    return recording.finish()


class TestSeries:
    def test_best_passes_over_nan(self, recording):
        for line, value in enumerate([3.0, NAN, 1.0, 1.0, np.inf], start=1):
            recording.add({"loss": value}, line=line, step=line * 10)
        loss = recording.finish()["loss"]
        assert loss.best() == (30, 1.0, 3)
        assert loss.best(lower=False) == (50, np.inf, 5)
        assert loss.first == (10, 3.0, 1)

    def test_best_of_nothing_but_nan(self, recording):
        recording.add({"loss": NAN}, line=1)
        assert recording.finish()["loss"].best() is None

    def test_at_a_step(self, recording):
        loss = added(recording, [10, 20, 20, 30])["loss"]
        assert loss.at(20) == (20, 3.0, 3)
        assert loss.at(25) is None

    def test_frame(self, recording):
        frame = added(recording, [10, 20])["loss"].frame()
        assert list(frame.columns) == ["run", "step", "epoch", "time", "value", "line"]
        assert frame["value"].tolist() == [1, 2]


class TestRunLog:
    def test_a_mistyped_name_is_helped(self, recording):
        with pytest.raises(UsageError, match="no series 'lsos'") as error:
            added(recording, [1])["lsos"]
        assert error.value.fix == "did you mean 'loss'?"

    def test_the_frame_is_wide(self, recording):
        recording.add({"loss": 1.0, "lr": 0.1}, line=1, step=1)
        recording.add({"val_loss": 2.0}, line=2, step=1)
        recording.add({"loss": 0.5}, line=3, step=2)
        frame = recording.finish().frame()
        assert frame.index.tolist() == [(0, 1), (0, 2)]
        assert frame["val_loss"].iloc[0] == 2
        assert np.isnan(frame["lr"].iloc[1])

    def test_the_frame_goes_by_epochs_where_no_step_is_told(self, recording):
        for line in (1, 2):
            recording.add({"loss": 1.0}, line=line, epoch=line)
        assert recording.finish().frame().index.names == ["run", "epoch"]

    @pytest.mark.parametrize(
        ("names", "main"),
        [
            (["val_loss", "aux_loss", "train_loss"], "train_loss"),
            (["loss_cls", "total_loss", "lr"], "total_loss"),
            (["grad_norm", "l_mos", "lr"], "l_mos"),
            (["D_A", "lr"], "D_A"),
            (["val_loss"], "val_loss"),
            (["loss scale", "lm loss PPL", "lm loss"], "lm loss"),
        ],
    )
    def test_the_main_loss(self, names, main, recording):
        recording.add(dict.fromkeys(names, 1.0), line=1, step=1)
        assert recording.finish().loss.name == main

    def test_no_loss(self, recording):
        recording.add({"reward": 1.0}, line=1)
        log = recording.finish()
        assert log.loss is None
        assert log.val_loss is None
        assert log.losses == ()

    def test_text_and_html(self, recording):
        recording.add({"<b>loss": 1.0}, line=1, step=5)
        recording.event("warning", "careful", 1)
        log = recording.finish()
        assert "a.log: by hand, 1 run" in repr(log)
        assert "1 warning" in repr(log)
        assert "&lt;b&gt;loss" in log._repr_html_()
        assert "<b>" not in log._repr_html_()


class TestRecording:
    def test_arrays_with_empty_cells(self, recording):
        column = np.ma.masked_array([1.0, NAN, 3.0], mask=[False, False, True])
        recording.add_rows(
            {"loss": column, "lr": np.arange(3.0)}, line=np.array([2, 3, 4]), step=np.array([1.0, 2, 3])
        )
        log = recording.finish()
        assert len(log["loss"]) == 2
        assert np.isnan(log["loss"].value[1])
        assert log["lr"].line.tolist() == [2, 3, 4]

    def test_the_split_is_in_the_name_where_only_the_context_tells_it(self, recording):
        for split in ("train", "val"):
            recording.add({"loss": 1.0, "eval_acc": 2.0}, line=1, step=1, split=split)
        assert list(recording.finish().series) == ["loss", "eval_acc", "val/loss"]

    def test_a_run_that_is_told(self, recording):
        recording.new_run(3)
        log = added(recording, [10, 20, 30, 40])
        assert [len(run.loss) for run in log.runs] == [2, 2]

    def test_a_restart_after_a_resume(self, recording):
        log = added(recording, [*range(0, 100, 10), *range(50, 200, 10), *range(0, 50, 10)])
        assert [run.loss.step.tolist() for run in log.runs] == [
            list(range(0, 200, 10)),
            list(range(0, 50, 10)),
        ]

    def test_steps_within_epochs_count_on(self, recording):
        for line in range(9):
            recording.add({"loss": 1.0}, line=line + 1, step=line % 3, epoch=line // 3)
        log = recording.finish()
        assert log["loss"].step.tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6]
        assert "steps count within the epoch" in log.notes[0]

    def test_a_validation_takes_the_step_before_it(self, recording):
        for line in (1, 3, 5):
            recording.add({"loss": 1.0}, line=line, step=line * 100, split="train")
        recording.add({"loss": 2.0}, line=4, step=7, split="val")
        assert recording.finish()["val/loss"].step.tolist() == [300]

    def test_exact_steps_stay(self, recording):
        recording.add_rows({"loss": np.ones(3)}, line=np.arange(3), step=np.array([0.0, 5000, 10000]))
        recording.add_rows(
            {"val": np.ones(2)}, line=np.arange(2), step=np.array([0.0, 1.0]), split="val", exact=True
        )
        assert recording.finish()["val"].step.tolist() == [0, 1]

    def test_dates_count_from_the_run_s_first(self, recording):
        for line, (step, time) in enumerate(
            [(1, 1.7e9), (2, 1.7e9 + 5), (1, 1.7e9 + 60), (2, 1.7e9 + 64)], start=1
        ):
            recording.add({"loss": 1.0}, line=line, step=step, time=time)
        assert recording.finish()["loss"].time.tolist() == [0, 5, 0, 4]

    def test_events_find_their_step_and_run(self, recording):
        recording.event("oom", "out of memory", 4)
        log = added(recording, [10, 20, 10, 20, 30])
        assert [(event.run, event.step) for event in log.events] == [(1, 20)]
        assert len(log.runs[1].events) == 1


class TestNaming:
    @pytest.mark.parametrize(
        ("name", "role"),
        [
            ("train/loss", "loss"), ("l_mos", "loss"), ("D_A", "loss"), ("nll", "loss"), ("trl", "loss"), ("cross_entropy", "loss"),
            ("learning rate", "learning_rate"), ("lr_g0", "learning_rate"), ("train_lr", "learning_rate"),
            ("grad norm", "gradient_norm"), ("gnorm", "gradient_norm"), ("lm loss PPL", "perplexity"), ("train_epoch_perplexity", "perplexity"),
            ("tokens/sec", "throughput"), ("train_steps_per_second", "throughput"), ("wps", "throughput"), ("mfu", "throughput"),
            ("train_time", "time"), ("elapsed", "time"), ("data_time", "time"), ("loss_scale", "scale"), ("loss scale", "scale"),
            ("kd_weight", "weight"), ("accuracy", "metric"), ("mAP50-95", "metric"), ("number of skipped iterations", "metric"),
        ],
    )  # fmt: skip
    def test_roles(self, name, role):
        assert role_of(name) == role

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("val/loss", "val"),
            ("eval_loss", "val"),
            ("train loss", "train"),
            ("test_acc", "test"),
            ("loss", ""),
            ("valid_loss", "val"),
            ("interval", ""),
        ],
    )
    def test_splits(self, name, split):
        assert split_of(name) == split

    def test_counters(self):
        assert is_step("global_step")
        assert is_step("num_updates")
        assert is_epoch("Epoch")
        assert not is_step("loss_step")


def test_public_names():
    assert {"open_log", "open_logs", "follow"} <= set(dir(tl))
