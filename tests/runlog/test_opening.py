from __future__ import annotations

import gzip
import json
import lzma

import pytest

import trainlab as tl
from trainlab.errors import SubjectError, UsageError

LINES = "".join(f"step={i} loss={1 / i:.3f}\n" for i in range(1, 9))


class TestFiles:
    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
    def test_packed_ones(self, pack, logged):
        assert len(logged(pack(LINES.encode()), name="train.log.gz").loss) == 8

    @pytest.mark.parametrize(
        ("content", "what", "fix"),
        [
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 37748\n",
                "is a git-LFS pointer",
                "git lfs pull",
            ),
            (b"<!DOCTYPE html><html>Sign in</html>", "is an HTML page", "login page"),
            (b"", "is empty", "nothing yet"),
            (b"\0" * 1000, "holds zeros only", "cut off"),
            (bytes(range(256)) * 40, "is binary", "the log itself"),
            (b"PK\x03\x04" + b"x" * 100, "zip archive", "ckpt="),
            (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "PNG image", "the log itself"),
            (b"hello world\n", "tells a quantity", "pattern="),
        ],
    )
    def test_what_is_no_log_is_named(self, content, what, fix, logged):
        with pytest.raises(SubjectError, match=what) as error:
            logged(content)
        assert fix in error.value.fix

    def test_a_mistyped_path(self, tmp_path):
        (tmp_path / "train.log").write_text(LINES)
        with pytest.raises(SubjectError, match="there is no") as error:
            tl.open_log(tmp_path / "trian.log")
        assert error.value.fix == "did you mean 'train.log'?"

    def test_text_that_begins_like_json(self, logged):
        log = logged('{"lr": 0.1, "model": "vit"}\n' + LINES)
        assert len(log.loss) == 8
        assert log.config["lr"] == 0.1


class TestPattern:
    TEXT = "".join(f"<{i}> L~{1 / i:.2f} V~{2 / i:.2f}\n" for i in range(1, 6))

    def test_named_groups(self, logged):
        log = logged(self.TEXT, pattern=r"<(?P<step>\d+)> L~(?P<loss>[\d.]+)(?: V~(?P<val_loss>[\d.]+))?")
        assert log["loss"].step.tolist() == [1, 2, 3, 4, 5]
        assert log["val_loss"].last == (5, 0.4, 5)

    def test_a_mistyped_pattern_points_at_it(self, logged):
        with pytest.raises(UsageError, match="no regular expression") as error:
            logged(self.TEXT, pattern=r"<(?P<step>\d+> L~(?P<loss>[\d.]+)")
        assert "^" in error.value.seen

    def test_a_pattern_without_a_quantity(self, logged):
        with pytest.raises(UsageError, match="no named group for a quantity"):
            logged(self.TEXT, pattern=r"<(?P<step>\d+)> L~([\d.]+)")

    def test_a_pattern_that_is_escaped_twice(self, logged):
        with pytest.raises(SubjectError, match="matches no line") as error:
            logged(self.TEXT, pattern=r"<(?P<step>\\d+)> L~(?P<loss>[\\d.]+)")
        assert "<1> L~1.00" in error.value.seen
        assert "raw string" in error.value.fix

    def test_a_group_that_takes_words(self, logged):
        with pytest.raises(SubjectError, match=r"'loss' holds no number at .*:1"):
            logged(self.TEXT, pattern=r"<(?P<step>\d+)> (?P<loss>.*)")


class TestFolders:
    def test_a_folder_with_one_log(self, tmp_path):
        (tmp_path / "train.log").write_text(LINES)
        (tmp_path / "notes.md").write_text("hello")
        assert len(tl.open_log(tmp_path).loss) == 8

    def test_a_folder_with_several_is_asked_about(self, tmp_path):
        for name in ("a.log", "b.log"):
            (tmp_path / name).write_text(LINES)
        with pytest.raises(SubjectError, match="holds 2 logs") as error:
            tl.open_log(tmp_path)
        assert "a.log" in error.value.seen

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(SubjectError, match="holds no log"):
            tl.open_log(tmp_path)

    def test_the_last_checkpoint_tells_all(self, tmp_path):
        for step in (900, 1000):
            folder = tmp_path / f"checkpoint-{step}"
            folder.mkdir()
            history = [{"loss": 1 / at, "step": at} for at in range(100, step + 1, 100)]
            (folder / "trainer_state.json").write_text(
                json.dumps({"global_step": step, "log_history": history})
            )
        assert tl.open_log(tmp_path)["loss"].last.step == 1000


class TestManyLogs:
    def test_names_are_the_shortest_that_tell_them_apart(self, tmp_path):
        for name in ("lr1", "lr2"):
            folder = tmp_path / "group" / name / "logs"
            folder.mkdir(parents=True)
            (folder / "train.log").write_text(LINES)
        assert list(tl.open_logs(tmp_path)) == ["lr1", "lr2"]

    def test_a_glob_a_list_and_one_file(self, tmp_path):
        for name in ("a.log", "b.log", "c.txt"):
            (tmp_path / name).write_text(LINES)
        assert list(tl.open_logs(str(tmp_path / "*.log"))) == ["a.log", "b.log"]
        assert list(tl.open_logs([tmp_path / "a.log", tmp_path / "c.txt"])) == ["a.log", "c.txt"]
        assert list(tl.open_logs(tmp_path / "a.log")) == ["a.log"]

    def test_runs_of_one_file_are_entries(self, tmp_path):
        (tmp_path / "both.log").write_text(LINES + LINES)
        (tmp_path / "one.log").write_text(LINES)
        assert list(tl.open_logs(tmp_path)) == ["both.log#1", "both.log#2", "one.log"]

    def test_what_is_no_log_is_told(self, tmp_path):
        (tmp_path / "a.log").write_text(LINES)
        (tmp_path / "notes.txt").write_text("hello")
        logs = tl.open_logs(tmp_path)
        assert list(logs) == ["a.log"]
        assert "notes.txt" in logs.skipped[0]
        assert "skipped" in repr(logs)
        assert "a.log" in logs._repr_html_()

    def test_none_of_them_is_a_log(self, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(SubjectError, match="there is no log in"):
            tl.open_logs(tmp_path)

    def test_a_mistyped_path_among_others(self, tmp_path):
        (tmp_path / "lr1.log").write_text(LINES)
        with pytest.raises(SubjectError, match=r"there is no .*lr2\.log"):
            tl.open_logs([tmp_path / "lr1.log", tmp_path / "lr2.log"])

    def test_a_mistyped_run(self, tmp_path):
        (tmp_path / "lr1.log").write_text(LINES)
        with pytest.raises(UsageError, match="there is no run"):
            tl.open_logs(tmp_path)["lr2.log"]


def test_templates_tell_what_fills_a_log(tmp_path):
    from trainlab.subjects.runlog.spam import templates

    path = tmp_path / "spam.log"
    path.write_text("".join(f"W: worker {i} is slow\n" * 3 + f"step {i} loss 0.{i}\n" for i in range(1, 26)))
    first, second = templates(path)
    assert (first.text, first.count, first.line, first.line_share) == ("W: worker # is slow", 75, 1, 0.75)
    assert (second.text, second.count, second.line) == ("step # loss #", 25, 4)
    assert first.bytes + second.bytes == path.stat().st_size


def test_a_log_is_a_subject(tmp_path):
    def reads(log, logs):
        return log, logs

    (tmp_path / "a.log").write_text(LINES)
    subjects = tl.resolve(reads, {"log": str(tmp_path / "a.log"), "logs": [str(tmp_path / "a.log")]})
    assert len(subjects["log"].loss) == 8
    assert list(subjects["logs"]) == ["a.log"]
    assert dict(tl.resolve(reads, dict(subjects))) == dict(subjects)
