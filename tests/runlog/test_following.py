"""Following a log that grows: what is appended is read, what is half written waits, a rotated file is another."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.following import follow
from trainlab.subjects.runlog.opening import open_log

from . import binary_writers as w


def text(step):
    return f"step {step}: loss {10 / (step + 1):.4f}, lr 1.0e-03\n".encode()


def json_line(step):
    return (json.dumps({"step": step, "loss": 10 / (step + 1), "time": 0.5}) + "\n").encode()


def table(step):
    return (
        b"step,loss,val_loss\n" if step == 0 else b""
    ) + f"{step},{10 / (step + 1)},{'' if step % 5 else 1}\n".encode()


def events(step):
    return (w.version() if step == 0 else b"") + w.event(w.scalar("loss", step), step=step, wall=1.7e9 + step)


@pytest.mark.parametrize("written", [text, json_line, table, events])
def test_what_is_appended_is_read_and_what_is_half_written_waits(tmp_path, written):
    path = tmp_path / "log"
    whole = b"".join(map(written, range(100)))
    follower = follow(path)
    cuts = [len(b"".join(map(written, range(count)))) for count in (6, 10, 11, 30, 70, 100)]
    for cut in cuts:
        for end in (cut + 5, cut):
            path.write_bytes(whole[:end])
            seen = follower.read()
        path.write_bytes(whole[:cut])
        expected = open_log(path, progress=False)
        assert list(seen.series) == list(expected.series)
        for name in expected.series:
            for column in ("value", "step", "line"):
                assert np.array_equal(getattr(seen[name], column), getattr(expected[name], column)), (
                    cut,
                    name,
                    column,
                )


def test_appending_feeds_only_what_is_new(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(text, range(1000))))
    follower = follow(path)
    assert len(follower.read()["loss"]) == 1000
    taken = []
    reader = follower._reader
    take = reader.take
    reader.take = lambda data: (taken.append(len(data)), take(data))
    for step in range(1000, 1010):
        with path.open("ab") as file:
            file.write(text(step))
        assert follower.read()["loss"].step.tolist() == list(range(step + 1))
    assert taken == [len(text(step)) for step in range(1000, 1010)]


def test_nothing_new_gives_the_same_log(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(text, range(20))))
    follower = follow(path)
    assert follower.read() is follower.read()


def test_a_file_that_is_rotated_or_cut_starts_anew(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(text, range(50))))
    follower = follow(path)
    follower.read()
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"".join(map(text, range(7))))
    assert len(follower.read()["loss"]) == 7
    path.write_bytes(b"".join(map(text, range(100, 180))))  # longer, but another
    log = follower.read()
    assert log["loss"].step.tolist() == list(range(100, 180))
    assert log["loss"].line[0] == 1


def test_a_header_that_is_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("step,loss\n" + "".join(f"{at},1.5\n" for at in range(20)))
    follower = follow(path)
    follower.read()
    path.write_text("step,loss,late\n" + "".join(f"{at},1.5,\n" for at in range(20)) + "20,1.5,7\n")
    assert follower.read()["late"].step.tolist() == [20]


def test_a_document_that_is_written_anew_is_read_as_a_whole(tmp_path):
    path = tmp_path / "history.json"
    follower = follow(path)
    for epochs in (1, 2, 5):
        path.write_text(
            json.dumps({"loss": [1 / (at + 1) for at in range(epochs)], "val_loss": [2.0] * epochs}) + "\n"
        )
        assert len(follower.read()["val_loss"]) == epochs


def test_it_waits_for_a_file_that_is_not_there_yet(tmp_path):
    path = tmp_path / "log"
    follower = follow(str(path))
    with pytest.raises(SubjectError, match="cannot be followed"):
        follower.read()
    path.write_bytes(b"loading the data\n")
    with pytest.raises(SubjectError):
        follower.read()
    path.write_bytes(b"loading the data\n" + b"".join(map(text, range(5))))
    assert len(follower.read()["loss"]) == 5


def test_what_is_no_log_is_named(tmp_path):
    path = tmp_path / "log"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(SubjectError, match="git-LFS pointer"):
        follow(path).read()


def test_archives_folders_and_wandb_files_are_read_anew(tmp_path):
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(b"".join(map(text, range(9)))))
    follower = follow(packed)
    assert len(follower.read()["loss"]) == 9
    packed.write_bytes(gzip.compress(b"".join(map(text, range(12)))))
    assert len(follower.read()["loss"]) == 12

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "events.out.tfevents.1").write_bytes(b"".join(map(events, range(9))))
    follower = follow(folder)
    assert len(follower.read()["loss"]) == 9
    (folder / "events.out.tfevents.2").write_bytes(b"".join(map(events, range(5, 20))))
    assert len(follower.read()["loss"]) == 20

    offline = tmp_path / "run-x.wandb"
    offline.write_bytes(w.wandb_file(*(w.history({"_step": at, "loss": at}) for at in range(4))))
    follower = follow(offline)
    assert len(follower.read()["loss"]) == 4
    offline.write_bytes(w.wandb_file(*(w.history({"_step": at, "loss": at}) for at in range(6))))
    os.utime(offline, ns=(1, 1))
    assert len(follower.read()["loss"]) == 6
