"""W&B's offline files and run folders: history, console, settings, exit; and runs that were killed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.wandb_decoding import decode_wandb
from trainlab.subjects.runlog.wandb_files import is_run_folder, looks_like, read, read_folder

from . import binary_writers as w

BAR = "\rEpoch 1/3:  10%|# | {}/100 [00:0{}<00:30, 3.2it/s, loss=nan]"


def file(tmp_path, *records):
    path = tmp_path / "run-abc123.wandb"
    path.write_bytes(w.wandb_file(*records))
    return path


def rows(count):
    return [
        w.history({"iter": 10 * at, "train/loss": 1 / (at + 1), "_step": at, "_timestamp": 1.7e9 + at})
        for at in range(count)
    ]


def test_history_rows_are_points(tmp_path):
    log = read(file(tmp_path, w.run_record({"lr": 0.1, "model": {"d": 3}}), *rows(5), w.ended(0)), b"")
    assert log["train/loss"].value.tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert log["train/loss"].step.tolist() == [0, 10, 20, 30, 40]
    assert log["train/loss"].time.tolist() == [0, 1, 2, 3, 4]
    assert log["train/loss"].line.tolist() == [2, 3, 4, 5, 6]
    assert list(log.series) == ["train/loss"]
    assert log.config == {"lr": 0.1, "model/d": 3, "wandb/run_id": "abc123", "wandb/project": "project"}
    assert [(event.kind, event.text) for event in log.events] == [("completed", "exit code 0")]
    assert "5 history rows, 0 console records" in log.notes


def test_a_step_that_stands_beside_the_items_is_the_rows(tmp_path):
    steps = [
        w.nested(2, w.items({"loss": 1.5}) + w.nested(2, w.integer(1, at) if at else b"")) for at in (0, 3, 7)
    ]
    assert read(file(tmp_path, *steps), b"")["loss"].step.tolist() == [0, 3, 7]


def test_nan_is_a_value_and_media_are_not(tmp_path):
    values = {"_step": 1, "loss": "NaN", "pictures": {"_type": "images/separated", "count": 4}, "name": "x"}
    log = read(file(tmp_path, w.history(values), w.history({"_step": 2, "loss": float("inf")})), b"")
    assert np.isnan(log["loss"].value[0])
    assert log["loss"].value[1] == np.inf
    assert list(log.series) == ["loss"]


def test_records_go_on_over_blocks(tmp_path):
    long = w.history({"_step": 0, "text": "x" * 100_000, "loss": 1.0})
    run = decode_wandb(w.wandb_file(*rows(700), long, *rows(3)))
    assert len(run.history) == 704
    assert run.history[700][1]["loss"] == 1.0
    assert run.notes == ["the file holds no exit code: the run was killed, or still runs"]


def test_the_console_is_read_as_a_log(tmp_path):
    lines = [
        part
        for step in range(0, 50, 10)
        for part in (w.console(f"step {step}: loss {1 / (step + 1):.4f}"), w.console("\n"))
    ]
    log = read(file(tmp_path, *lines), b"")
    assert log["loss"].step.tolist() == [0, 10, 20, 30, 40]
    assert log["loss"].line.tolist() == [2, 4, 6, 8, 10]  # the record that ended the line


def test_where_there_is_a_history_the_console_has_names_of_its_own(tmp_path):
    lines = [w.console(f"step {step}: loss {step / 100}\n") for step in range(5)]
    log = read(file(tmp_path, *rows(5), *lines), b"")
    assert list(log.series) == ["train/loss", "console/loss"]
    assert log.loss.name == "train/loss"


def test_a_bar_that_a_traceback_interrupts_is_whole(tmp_path):
    bars = [w.console(BAR.format(at, at), stdout=False) for at in range(1, 6)]
    log = read(
        file(tmp_path, *bars, w.console("Traceback (most recent call last):\n  File x\n", stdout=False)), b""
    )
    assert len(log["loss"]) == 5
    assert np.isnan(log["loss"].value).all()
    assert "traceback" in [event.kind for event in log.events]


def test_both_streams_keep_their_lines_apart():
    pieces = [w.console("step 1: "), w.console("a warning\n", stdout=False), w.console("loss 2\n")]
    run = decode_wandb(w.wandb_file(*pieces))
    assert run.console == [(2, b"a warning"), (3, b"step 1: loss 2")]


def test_an_exit_code_is_an_error(tmp_path):
    log = read(file(tmp_path, *rows(2), w.ended(1)), b"")
    assert [(event.kind, event.text) for event in log.events] == [("error", "exit code 1")]
    assert log.totals["runtime"] == 60


class TestDamage:
    def test_a_last_record_that_is_cut_off_is_told(self):
        data = w.wandb_file(*rows(50))
        run = decode_wandb(data[:-3])
        assert len(run.history) == 49
        assert "the last record is cut off" in run.notes

    def test_a_damaged_block_is_left_out(self):
        data = bytearray(w.wandb_file(*rows(2000)))
        assert len(data) > 3 * 32768
        data[40000] ^= 1
        run = decode_wandb(bytes(data))
        assert "the block from byte " in run.notes[0]
        assert 1200 < len(run.history) < 2000
        assert run.history[-1][1]["iter"] == 19990

    def test_a_run_without_a_quantity_is_an_error(self, tmp_path):
        with pytest.raises(SubjectError, match="no quantity"):
            read(file(tmp_path, w.run_record({}), w.console("hello\n")), b"")

    def test_no_change_of_bytes_makes_it_raise_or_hang(self):
        data = w.wandb_file(w.run_record({"a": 1}), *rows(20), w.console("step 1: loss 2\n"), w.ended(0))
        rng = np.random.default_rng(0)
        for _ in range(200):
            broken = bytearray(data[: rng.integers(8, len(data) + 1)])
            for at in rng.integers(0, len(broken), rng.integers(0, 4)):
                broken[at] = rng.integers(0, 256)
            assert len(decode_wandb(bytes(broken)).history) <= 20

    def test_no_record_with_a_right_checksum_makes_it_raise(self):
        rng = np.random.default_rng(1)
        for record in (rows(1)[0], w.run_record({"a": 1}), w.console("x\n"), w.ended(3)):
            for _ in range(60):
                broken = bytearray(record)
                broken[rng.integers(len(broken))] = rng.integers(0, 256)
                assert decode_wandb(w.wandb_file(bytes(broken), *rows(1))).history


class TestFolder:
    def make(self, tmp_path):
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "wandb-metadata.json").write_text(
            json.dumps({"program": "train.py", "gpu_count": 2})
        )
        (tmp_path / "files" / "wandb-summary.json").write_text(
            json.dumps({"loss": 0.5, "_step": 4, "table": {"_type": "table"}})
        )
        (tmp_path / "files" / "config.yaml").write_text(
            "wandb_version: 1\nlr:\n  desc: null\n  value: 0.1\n_wandb:\n  value: {}\n"
        )
        (tmp_path / "files" / "output.log").write_text(
            "".join(f"step {at}: loss {1 / (at + 1):.3f}\n" for at in range(6))
        )
        return tmp_path

    def test_the_history_and_what_stands_beside_it(self, tmp_path):
        folder = self.make(tmp_path)
        file(folder, *rows(3))
        assert is_run_folder(folder)
        log = read_folder(folder)
        assert log["train/loss"].value.tolist() == [1, 1 / 2, 1 / 3]
        assert log.config["lr"] == 0.1
        assert log.config["wandb/program"] == "train.py"
        assert log.totals["summary/loss"] == 0.5
        assert "_wandb" not in log.config

    def test_without_the_history_the_console_is_read(self, tmp_path):
        folder = self.make(tmp_path)
        (folder / "run-abc123.wandb").write_bytes(w.wandb_file(w.run_record({})))
        log = read_folder(folder)
        assert log["loss"].step.tolist() == [0, 1, 2, 3, 4, 5]
        assert any("no quantity" in note for note in log.notes)

    def test_an_empty_folder_says_what_to_do(self, tmp_path):
        (tmp_path / "files").mkdir()
        with pytest.raises(SubjectError, match="holds no history and no console output"):
            read_folder(tmp_path)


def test_its_first_bytes_tell_it(tmp_path):
    assert looks_like(tmp_path, w.wandb_file())
    assert not looks_like(tmp_path, b"version https://git-lfs")
