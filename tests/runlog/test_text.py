from __future__ import annotations

import numpy as np
import pytest

from benchmarks.runlog_reading import lines
from trainlab.errors import SubjectError

from .text_formats import FORMATS

NAN = float("nan")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_needs_no_options(name, logged):
    text, expected = FORMATS[name]
    log = logged(text)
    assert log.run_count == 1
    for series, told in expected.items():
        each = log[series]
        seen = (len(each), each.step[0], each.step[-1], each.value[0], each.value[-1])
        assert seen == pytest.approx(told, rel=1e-4, nan_ok=True), series


def test_every_point_tells_its_line(logged):
    log = logged("start\n" + "".join(f"noise\nstep={i} loss={1 / i:.3f} acc={i}\n" for i in range(1, 6)))
    assert log["loss"].line.tolist() == [3, 5, 7, 9, 11]


def test_carriage_returns_are_no_lines(logged):
    log = logged(
        "\n\r"
        + "\r".join(f"  {i}%| | {i}/9 [00:01<00:01, 1.0it/s, loss=0.{i}]" for i in range(1, 10))
        + "\nstep 9 done\n"
    )
    assert set(log["loss"].line.tolist()) == {2}
    assert log["loss"].step.tolist() == list(range(1, 10))


def test_lines_end_as_on_windows(logged):
    log = logged("".join(f"step={i} loss={1 / i:.3f}\r\n" for i in range(1, 6)))
    assert log["loss"].line.tolist() == [1, 2, 3, 4, 5]


class TestValues:
    def test_nan_and_inf_are_values(self, logged):
        log = logged(
            "".join(
                f"step {i} loss {'nan' if i > 3 else 0.5} grad_norm {'inf' if i > 2 else 1.0} kl -inf\n"
                for i in range(1, 6)
            )
        )
        assert np.isnan(log["loss"].value).tolist() == [False, False, False, True, True]
        assert np.isinf(log["grad_norm"].value).tolist() == [False, False, True, True, True]
        assert (log["kl"].value == -np.inf).all()

    def test_words_that_hold_nan_are_not(self, logged):
        log = logged(
            "".join(
                f"step:{i} loss:0.{i} step_avg:nanms banana: 3 number of nan iterations: 0 | info: 2\n"
                for i in range(1, 6)
            )
        )
        assert all(np.isfinite(each.value).all() for each in log.series.values())
        assert "step_avg" not in log.series

    def test_thousands_and_exponents(self, logged):
        log = logged(
            "".join(
                f"step: {i * 1000:,} | loss: 1.04e+0{i} | tokens: {i * 1_000_000:,}\n" for i in range(1, 6)
            )
        )
        assert log["loss"].step.tolist() == [1000, 2000, 3000, 4000, 5000]
        assert log["loss"].best().value == 10.4
        assert log["tokens"].last.value == 5_000_000

    def test_negative_losses(self, logged):
        log = logged("".join(f"epoch {i}: loss -{i}.5\n" for i in range(1, 6)))
        assert log["loss"].value.tolist() == [-1.5, -2.5, -3.5, -4.5, -5.5]

    def test_names_that_differ_in_a_digit(self, logged):
        log = logged(
            "".join(
                f"step {i} loss_q0 {i} loss_q1 {i * 2}\nstep {i} loss_q2 {i * 3} loss_q3 {i * 4}\n"
                for i in range(1, 6)
            )
        )
        assert [log[f"loss_q{q}"].last.value for q in range(4)] == [5, 10, 15, 20]


class TestLookAlikes:
    @pytest.mark.parametrize(
        "line",
        [
            "|   0  NVIDIA H100 80GB HBM3  On  | 00000000:1A:00.0 Off |  0 |\n| N/A   28C    P0  116W /  700W |    4992MiB /  81559MiB |      0%      Default |",
            "lr = 3e-4\nbatch_size = 64\nloss = criterion(out, y) / 4\nassert loss == 0.5\nself.step = 3",
            "Master: 10.0.0.1:29500, torch 2.1.0+cu118, python 3.10",
            'File "/a/train.py", line 12, in step\n    loss = model(x)[0]',
            "eta: 3:12:01",
            "Downloading model.bin: 100%|██████████| 548M/548M [00:10<00:00, 54.8MB/s]",
            "Map: 100%|██████████| 5000/5000 [00:01<00:00, 4000 examples/s]",
            "learning_rate: 0.001\ndropout: 0.1\nlabel_smoothing: 0.1\nloss_weight: 2.0",
            "Killing subprocess 7950",
        ],
    )
    def test_they_are_no_metrics(self, line, logged):
        log = logged(f"{line}\n" + "".join(f"step {i} loss {1 / i:.3f}\n" for i in range(1, 6)) + f"{line}\n")
        assert list(log.series) == ["loss"]
        assert len(log["loss"]) == 5

    def test_a_text_without_metrics_is_an_error(self, logged):
        with pytest.raises(SubjectError, match=r"no line of .* tells a quantity") as error:
            logged("Chapter 1\nIt was a dark and stormy night in 1830.\n")
        assert "dark and stormy" in error.value.seen
        assert "pattern=" in error.value.fix

    SOURCE = "import torch\nlr: float = 0.1\nloss = 0.3\nloss = 0.2\nloss = 0.1\n\ndef step(x):\n    if x > 1:\n        return 2\n    assert x\n"

    def test_a_program_is_no_log(self, logged):
        with pytest.raises(SubjectError, match="tells a quantity"):
            logged(self.SOURCE, name="train.py")

    def test_a_log_that_begins_with_its_program_is_one(self, logged):
        log = logged(self.SOURCE + "".join(f"step:{i}/9 train_loss:0.{i}\n" for i in range(1, 6)))
        assert list(log.series) == ["train_loss"]
        assert log.loss.line.tolist() == [11, 12, 13, 14, 15]


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "val"),
        [
            ("step {i} train loss 0.5", "step {i} val loss 0.6"),
            ("Train | epoch {i} | loss 0.5", "Validation | epoch {i} | loss 0.6"),
            ("[train] epoch {i} loss=0.5", "[val] epoch {i} loss=0.6"),
            ("epoch {i} training loss: 0.5", "epoch {i} validation loss: 0.6"),
            ("{{'loss': 0.5, 'epoch': {i}}}", "{{'eval_loss': 0.6, 'epoch': {i}}}"),
        ],
    )
    def test_train_and_validation_are_told_apart(self, train, val, logged):
        log = logged("".join(f"{train.format(i=i)}\n{val.format(i=i)}\n" for i in range(1, 6)))
        assert log.loss.value.tolist() == [0.5] * 5
        assert log.val_loss.value.tolist() == [0.6] * 5
        assert log.val_loss.split == "val"


def test_a_shorter_bar_between_is_the_validation(logged):
    turns = []
    for epoch in range(3):
        turns += [
            f"\r {b}%|█   | {b}/100 [00:01<00:02, 9.0it/s, loss={epoch + 1}.0]" for b in range(25, 101, 25)
        ]
        turns += [f"\r {b}%|█   | {b}/10 [00:01<00:02, 9.0it/s, loss={epoch + 1}.5]" for b in (5, 10)]
    log = logged("".join(turns) + "\n")
    assert log.run_count == 1
    assert log.loss.step.tolist() == list(range(25, 301, 25))
    assert log.val_loss.value.tolist() == [1.5, 1.5, 2.5, 2.5, 3.5, 3.5]
    assert log.val_loss.step.tolist() == [100, 100, 200, 200, 300, 300]


class TestTime:
    def test_elapsed(self, logged):
        log = logged("".join(f"step {i}/90 loss=0.5 elapsed=0:{i:02d}:30\n" for i in range(1, 6)))
        assert log.loss.time.tolist() == [90, 150, 210, 270, 330]
        assert log.totals["total_steps"] == 90

    def test_elapsed_that_restarts_counts_on(self, logged):
        log = logged(
            "".join(f"step {i} loss=0.5 elapsed={t}s\n" for i, t in enumerate([10, 20, 30, 5, 15], start=1))
        )
        assert log.loss.time.tolist() == [10, 20, 30, 35, 45]

    def test_dates_count_from_the_first(self, logged):
        log = logged(
            "".join(
                f"2024-02-28 23:59:5{i},500 INFO step {i} loss 0.5\n2024-02-29 00:00:0{i},000 INFO step {i + 5} loss 0.4\n"
                for i in range(1, 2)
            )
        )
        assert log.loss.time.tolist() == [0, 9.5]

    def test_a_time_of_day_goes_past_midnight(self, logged):
        log = logged(
            "".join(f"[{t}] step {i} loss 0.5\n" for i, t in enumerate(["23:59:50", "00:00:10", "00:01:00"]))
        )
        assert log.loss.time.tolist() == [0, 20, 70]

    def test_several_writers_do_not_restart_the_clock(self, logged):
        log = logged("".join(f"step {i} loss=0.5 elapsed={t}s\n" for i, t in enumerate([10, 20, 19, 30])))
        assert log.loss.time.tolist() == [10, 20, 19, 30]

    def test_milliseconds(self, logged):
        log = logged("".join(f"step:{i}/9 train_loss:0.5 train_time:{i * 500}ms\n" for i in range(1, 5)))
        assert log.loss.time.tolist() == [0.5, 1, 1.5, 2]


class TestRuns:
    def test_steps_that_restart_are_another_run(self, logged):
        log = logged("".join(f"step={i} loss={1 / i:.3f}\n" for i in [*range(1, 11), *range(1, 6)]))
        assert [len(run.loss) for run in log.runs] == [10, 5]
        assert log.runs[1].loss.line[0] == 11
        assert "line 11" in log.notes[0]

    def test_a_resume_that_goes_back_is_spliced(self, logged):
        log = logged("".join(f"step={i} loss={i}\n" for i in [*range(10, 101, 10), *range(80, 151, 10)]))
        assert log.run_count == 1
        assert log.loss.step.tolist() == list(range(10, 151, 10))
        assert log.loss.line[6:9].tolist() == [7, 11, 12]
        (event,) = [event for event in log.events if event.kind == "resume"]
        assert (event.line, event.step) == (11, 80)
        assert "3 records replaced" in event.text

    def test_several_writers_are_no_resume(self, logged):
        log = logged("".join(f"step {i} loss {i}\n" for i in [1, 2, 4, 3, 5, 6, 8, 7, 9]))
        assert len(log.loss) == 9
        assert log.run_count == 1

    def test_lines_that_every_rank_writes_are_told_once(self, logged):
        log = logged("".join(f"step {i} loss {i}\n" for i in range(5) for _ in range(4)))
        assert log.run_count == 1
        assert len(log.loss) == 5
        assert log.loss.line.tolist() == [1, 5, 9, 13, 17]
        assert log.notes == ("15 lines repeat the step and the values of the line before: they are left out",)

    @pytest.mark.parametrize(
        "form", ["[rank{}]: step {} loss {}", "{}: step={} loss={}", "Rank {}, Iter {}, Loss: {}"]
    )
    def test_ranks_are_no_points(self, logged, form):
        log = logged("".join(form.format(r, i, i + r / 10) + "\n" for i in range(9) for r in (2, 0, 3, 1)))
        assert log.loss.value.tolist() == list(range(9))
        assert log.loss.step.tolist() == list(range(9))
        assert "4 processes write the same lines: those of rank 0 are taken" in log.notes

    def test_equal_values_of_other_epochs_are_points(self, logged):
        log = logged("".join(f"Epoch {i}\n  [100/100] loss 0.000\n" for i in range(9)))
        assert len(log.loss) == 9

    def test_a_rank_that_is_no_process_takes_nothing_away(self, logged):
        log = logged("".join(f"step {i} loss {i} rank {5 + i % 2}\n" for i in range(9)))
        assert len(log.loss) == 9


class TestDamage:
    LINES = "".join(f"step={i} loss={1 / i:.3f}\n" for i in range(1, 9))

    def test_nul_bytes_are_told(self, logged):
        log = logged(b"\0" * 5000 + self.LINES.encode())
        assert len(log.loss) == 8
        assert "5,000 NUL bytes" in log.notes[0]

    def test_a_line_cut_in_the_middle(self, logged):
        assert len(logged(self.LINES + "step=9 lo").loss) == 8

    def test_other_encodings(self, logged):
        assert len(logged(b"\xff\xfe caf\xe9\n"[2:] + self.LINES.encode() + b"\x93quoted\x94\n").loss) == 8
        assert len(logged(("\ufeff" + self.LINES).encode("utf-16-le")).loss) == 8

    def test_parts_of_any_size_tell_the_same(self, tmp_path):
        from trainlab.subjects.runlog.text import TextReader
        from trainlab.subjects.runlog.text_scan import chunks

        path = tmp_path / "a.log"
        path.write_bytes(
            self.LINES.replace("\n", "\r\n").encode()
            + b"\rbar 1\rbar 2\n"
            + self.LINES.replace("=0", "=1").encode()
        )
        seen = []
        for size in (7, 64, 1 << 20):
            reader = TextReader(path)
            with path.open("rb") as file:
                for part in chunks(file, size):
                    reader.take(part)
            log = reader.finish()
            seen.append((log.loss.line.tolist(), log.loss.value.tolist(), log.loss.step.tolist()))
        assert seen[0] == seen[1] == seen[2]


class TestConfigAndEvents:
    LINES = "".join(f"step={i} loss={1 / i:.3f}\n" for i in range(1, 9))

    def test_namespace(self, logged):
        log = logged("Namespace(lr=0.001, model='vit', betas=(0.9, 0.999), amp=True)\n" + self.LINES)
        assert log.config == {"lr": 0.001, "model": "vit", "betas": (0.9, 0.999), "amp": True}

    def test_json_and_dicts(self, logged):
        log = logged("args: {'lr': 1e-4, 'optim': {'name': 'adam', 'eps': 1e-08}}\n" + self.LINES)
        assert log.config["optim.name"] == "adam"
        assert log.config["lr"] == 1e-4

    def test_a_line_each(self, logged):
        log = logged("batch_size: 64\nwarmup ................ 100\nseed = 3\noptimizer: adamw\n" + self.LINES)
        assert log.config == {"batch_size": 64, "warmup": 100, "seed": 3, "optimizer": "adamw"}
        assert log.totals["batch_size"] == 64

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("UserWarning: lr_scheduler.step() before optimizer.step()", "warning"),
            ("Traceback (most recent call last):", "traceback"),
            ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "oom"),
            ("Training completed!", "completed"),
            ("`Trainer.fit` stopped: `max_epochs=3` reached.", "completed"),
            ("Early stopping at epoch 3", "early_stop"),
            ("Resuming from checkpoint runs/a/step_400.pt", "resume"),
            ("NOTE: gradient overflow detected, ignoring gradient, setting loss scale to: 64.0", "overflow"),
            ("Saving model checkpoint to runs/a", "saved"),
            ("slurmstepd: error: *** JOB 18 ON r8 CANCELLED AT 2021-05-23T08:45:57 ***", "killed"),
            ("ValueError: expected 3 channels", "error"),
        ],
    )
    def test_events(self, line, kind, logged):
        log = logged(self.LINES + line + "\n")
        assert [(event.kind, event.line, event.step, event.text) for event in log.events] == [
            (kind, 9, 8, line)
        ]

    def test_events_in_source_are_none(self, logged):
        log = logged('print("Training completed!")\nraise ValueError("out of memory")\n' + self.LINES)
        assert log.events == ()

    def test_warnings_are_counted(self, logged):
        log = logged(self.LINES.replace("\n", "\nUserWarning: 3 workers\n"))
        (event,) = log.events
        assert (event.kind, event.line, event.count) == ("warning", 2, 8)


def test_the_log_of_the_benchmark_is_read_right(logged):
    log = logged("".join(lines(2000)))
    assert log["loss"].step.tolist() == list(range(0, 200, 10))
    assert log["loss"].line.tolist() == list(range(1, 2000, 100))
    assert log.val_loss.line.tolist() == list(range(51, 2000, 100))
    assert [(event.kind, event.line, event.count) for event in log.events] == [("warning", 2, 660)]
