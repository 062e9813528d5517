"""`comparison`: every number on logs as such runs print them, and on the real ones."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison_study import study
from trainlab.diagnostics.comparison import probe
from trainlab.diagnostics.comparison.drawing import duration, figures, number_of
from trainlab.diagnostics.comparison.noise import level, window
from trainlab.diagnostics.comparison.settings import flat, group, kind_of, varied
from trainlab.errors import NotApplicable, UsageError
from trainlab.subjects.runlog.log import RunLogs
from trainlab.subjects.runlog.opening import open_logs

from .comparison_logs import curve, healthy, run, series

REAL = Path(__file__).parents[3] / "shared" / "data" / "logs"


def written(folder, texts):
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return open_logs(folder, progress=False)


def row(result, name):
    return next(i for i, each in enumerate(result.run_name) if each.startswith(name))


class TestStories:
    """What people have grepped for, one test a number."""

    def screening(self, folder):
        finals = [0.4012, 0.3871, 0.4555, 0.3333, 0.3999, 0.5120, 0.3334, 0.4100, 0.3870, 0.9001]
        texts = {}
        for i, final in enumerate(finals):
            steps = range(0, 15_001, 500)
            lines = [
                f"step {s}/15000 loss={final if s == 15_000 else 1.2 - s / 15_000:.4f} elapsed={s / (8 + i):.2f}s"
                for s in steps
            ]
            texts[f"screen_{i:02d}.log"] = "\n".join([*lines, "\x1b[32mdone\x1b[0m \x00", ""])
        return finals, written(folder, texts)

    def test_ten_screening_logs_are_ranked_as_grep_does(self, tmp_path):
        finals, logs = self.screening(tmp_path)
        r = probe(logs, at=15_000)
        assert [r.run_name[i][7:9] for i in r.order] == [f"{i:02d}" for i in np.argsort(finals)]
        assert sorted(r.run_value) == sorted(finals)
        assert set(r.run_value_step) == {15_000.0}
        assert r.place(r.best_run, int(r.run_value_line[r.best_run])).endswith("screen_03.log:31")

    def test_speed_between_two_steps(self, tmp_path):
        _, logs = self.screening(tmp_path)
        r = probe(logs, steps=(5000, 10_000))
        assert r.run_speed == pytest.approx([8.0 + i for i in range(10)], rel=1e-4)
        assert set(r.run_speed_from) == {5000.0}
        assert set(r.run_speed_to) == {10_000.0}

    def test_the_lowest_loss_is_that_of_numbers_not_of_text(self, tmp_path):
        lines = [
            f"step {i}/6 loss={value}"
            for i, value in enumerate(["1.04e+01", "nan", "9.8e-01", "2.5", "inf", "0.99", "1.1"])
        ]
        r = probe(written(tmp_path, {"a.log": "\n".join(lines), "b.log": "\n".join(lines[3:])}))
        a = row(r, "a")
        assert (r.run_best[a], r.run_best_step[a], r.run_best_line[a]) == (0.98, 2, 3)
        assert r.run_bad[a] == 2
        assert (r.run_bad_step[a], r.run_bad_line[a]) == (1, 2)
        assert r.run_first[a] == 10.4


@pytest.mark.skipif(not REAL.is_dir(), reason="the real logs are not here")
class TestRealLogs:
    """Against the manifest, to four digits and more."""

    def look(self, *names, **settings):
        r = probe(open_logs([REAL / name for name in names], progress=False), **settings)
        return r, [row(r, name) for name in names]

    def test_guided_diffusion(self):
        r, (fast, slow) = self.look(
            "guideddiff_khanh_progress.csv", "guideddiff_khanh_lr1e-7_progress.csv", at=10_000
        )
        assert r.run_value[[fast, slow]] == pytest.approx([0.186216, 14.763486], abs=5e-7)
        assert r.run_best[[fast, slow]] == pytest.approx([0.0393813, 8.00244], rel=1e-5)
        assert list(r.run_best_step[[fast, slow]]) == [15_430, 47_000]
        assert r.run_last[[fast, slow]] == pytest.approx([0.139779, 10.4934], rel=1e-5)
        assert r.run_tail_mean[slow] == pytest.approx(10.69, abs=0.01)
        assert r.run_batch[fast] == 256

    def test_modded_nanogpt(self):
        r, (adamw, other) = self.look("moddednanogpt_adamw.log", "moddednanogpt_opt_a.txt", steps=(500, 5000))
        assert r.run_speed[other] == pytest.approx(5.5679, abs=5e-5)
        assert r.run_speed_training[other] == pytest.approx(5.5679, rel=0.01), (
            "its clock stands still in evaluations"
        )
        assert (r.run_best[adamw], r.run_best[other]) == (3.275959, 3.2858)
        assert list(r.run_points[[adamw, other]]) == [76, 42]

    def test_nanogpt_and_its_pauses(self):
        r, (wandb, text) = self.look("nanogpt_bpc.wandb", "nanogpt_bpc_output.log")
        assert (r.run_pauses[text], r.run_pause_every[text]) == (21, 250)
        assert r.run_speed_training[text] == pytest.approx(1000 / 312.38, rel=0.005), (
            "the mean of its five medians"
        )
        assert r.run_wall[text] == pytest.approx(r.run_wall[wandb], rel=0.03)
        assert r.run_best[text] == 1.559
        assert r.run_best_step[text] == 4750
        assert r.run_copy_of[text] == r.run_name[wandb]

    def test_one_run_in_two_files_with_other_digits(self):
        r, (table, text) = self.look("guideddiff_khanh_progress.csv", "guideddiff_khanh_log.txt")
        assert r.run_copy_of[text] == r.run_name[table]
        r, (state, output) = self.look("chatglm_ccks50_trainer_state.json", "chatglm_ccks50_stdout.txt")
        assert r.run_copy_of[output] == r.run_name[state]
        assert r.run_speed[output] == pytest.approx(0.998, abs=5e-4)
        assert not r.run_resumed[output], "it loads shards of a pretrained model"


class TestMetric:
    def test_the_validation_loss_comes_first(self):
        logs = {
            name: run(name, series("loss", curve(0.3)), series("val/loss", curve(0.4), split="val"))
            for name in "ab"
        }
        assert probe(logs).metric == "val/loss"

    def test_the_loss_that_more_runs_have(self):
        logs = {name: run(name, series("loss", curve(0.3))) for name in "abc"}
        logs["d"] = run("d", series("loss", curve(0.3)), series("val/loss", curve(0.4), split="val"))
        assert set(probe(logs).run_metric) == {"loss"}

    def test_names_match_where_their_words_do(self):
        logs = {
            "a": run("a", series("val/loss", curve(0.3), split="val")),
            "b": run("b", series("val_loss", curve(0.3), split="val")),
        }
        assert probe(logs, metric="val_loss").run_metric == ("val/loss", "val_loss")

    @pytest.mark.parametrize(
        ("name", "better"),
        [
            ("val/acc", "higher"),
            ("fid", "lower"),
            ("psnr", "higher"),
            ("loss", "lower"),
            ("ppl", "lower"),
            ("wer", "lower"),
        ],
    )
    def test_what_is_better_is_told_from_the_name(self, name, better):
        logs = {each: run(each, series(name, curve(0.5))) for each in "ab"}
        assert probe(logs, metric=name).better == better

    def test_higher_is_better(self):
        logs = {
            each: run(each, series("acc", np.linspace(0, top, 20))) for each, top in (("a", 0.7), ("b", 0.9))
        }
        r = probe(logs, metric="acc")
        assert [r.run_name[i] for i in r.order] == ["b", "a"]
        assert list(r.run_best) == [0.7, 0.9]
        assert r.gap(0, 1)[0] == pytest.approx(0.2)

    def test_wrong_names_are_told(self):
        with pytest.raises(UsageError, match="no run has a series 'los'") as error:
            probe(healthy(), metric="los")
        assert error.value.fix == "did you mean 'loss'?"
        with pytest.raises(UsageError, match="no run 'r9'"):
            probe(healthy(), baseline="r9")
        with pytest.raises(UsageError, match="not 'smaller'"):
            probe(healthy(), better="smaller")
        with pytest.raises(UsageError, match="between two steps"):
            probe(healthy(), steps=(500, 100))
        with pytest.raises(UsageError, match="mapping of runs"):
            probe("runs/")
        with pytest.raises(NotApplicable, match="needs two runs"):
            probe(healthy(1))
        with pytest.raises(NotApplicable, match=r"here is 1; notes\.txt holds no log"):
            probe(RunLogs(healthy(1), ("notes.txt holds no log",)))
        with pytest.raises(NotApplicable, match="0 of 2 runs tell a loss"):
            probe({each: run(each, series("lr", [1, 2])) for each in "ab"})


class TestStep:
    def test_the_value_at_or_last_before(self):
        logs = {each: run(each, series("loss", [5, 4, 3, 2], step=[0, 90, 200, 310])) for each in "ab"}
        r = probe(logs, at=250)
        assert set(r.run_value) == {3.0}
        assert set(r.run_value_step) == {200.0}

    def test_the_last_step_that_all_reached(self):
        logs = {
            each: run(each, series("loss", curve(0.3, count=count)))
            for each, count in (("a", 51), ("b", 41), ("c", 5))
        }
        r = probe(logs)
        assert r.at == 4000, "the one that stopped at once does not hold the others back"
        assert list(r.reaches()) == [True, True, False]
        assert np.isnan(r.run_value[2])
        assert r.order[-1] == 2

    def test_counting_from_0_is_no_missing_step(self):
        logs = {
            each: run(each, series("loss", np.linspace(1, 0.5, 100), step=np.arange(100))) for each in "ab"
        }
        assert probe(logs, at=100).reaches().all()
        assert not probe(logs, at=102).reaches().any()

    def test_nan_is_ranked_last_and_has_no_letter(self):
        logs = healthy(3)
        logs["bad"] = run("bad", series("loss", [*curve(0.2)[:-1], np.nan]))
        r = probe(logs)
        assert r.run_name[r.order[-1]] == "bad"
        assert r.ties() == ["a", "b", "c", ""]

    def test_epochs_where_there_are_no_steps(self):
        logs = {
            each: run(each, series("loss", [3, 2, 1], step=[np.nan] * 3, epoch=[1, 2, 3])) for each in "ab"
        }
        r = probe(logs)
        assert (r.unit, r.at) == ("epoch", 3)


class TestNoise:
    def test_a_line_by_hand(self):
        # residuals of (0, 3, 0) about its mean 1, slope 0: -1, 2, -1; s² = 6 / 1; error² = 6 (1/3 + 1/2)
        found = level(np.array([0.0, 1, 2]), np.array([0.0, 3, 0]), 2.0)
        assert (found.value, found.freedom) == (1.0, 1.0)
        assert found.noise == pytest.approx(6**0.5)
        assert found.error == pytest.approx(5**0.5)

    def test_a_trend_is_no_noise(self):
        found = level(np.arange(50.0), 10 - 0.1 * np.arange(50), 49.0)
        assert (round(found.value, 9), found.error) == (5.1, 0)

    @pytest.mark.parametrize("alike", [0.0, 0.8])
    def test_the_error_is_the_spread_of_levels(self, alike):
        random = np.random.default_rng(0)
        levels, errors = [], []
        for _ in range(300):
            noise = random.standard_normal(400)
            for i in range(1, 400):
                noise[i] = alike * noise[i - 1] + (1 - alike**2) ** 0.5 * noise[i]
            found = level(np.arange(400.0), noise, 399.0)
            levels.append(found.value)
            errors.append(found.error)
        assert np.mean(errors) == pytest.approx(np.std(levels), rel=0.25)

    def test_too_few_points(self):
        assert np.isnan(level(np.array([1.0, 2]), np.array([1.0, 2]), 2.0).error)
        assert np.isnan(level(np.zeros(0), np.zeros(0), 2.0).value)

    def test_a_window_has_five_points_where_there_are_five(self):
        assert window(np.arange(0.0, 1001, 100), 1000, 0.1) == slice(6, 11)
        assert window(np.arange(0.0, 1001), 800, 0.1) == slice(720, 801)
        assert window(np.arange(3.0), 2, 0.1) == slice(0, 3)

    def test_repeats_give_the_noise(self):
        finals = {"a0": 0.30, "a1": 0.32, "b0": 0.33, "b1": 0.31, "c0": 0.60, "c1": 0.62}
        logs = {
            name: run(
                name, series("loss", [2.0] * 5 + [final] * 20), config={"kind": name[0], "seed": int(name[1])}
            )
            for name, final in finals.items()
        }
        r = probe(logs)
        assert r.group_name == ("kind=a", "kind=b", "kind=c")
        assert list(r.group_runs) == [2, 2, 2]
        assert r.group_value == pytest.approx([0.31, 0.32, 0.61])
        # spreads over levels: 0.02 / √2 over 0.31, 0.32 and 0.61; pooled over three degrees of freedom
        assert r.seed_spread == pytest.approx(
            np.sqrt(np.mean([(0.02 / each) ** 2 / 2 for each in (0.31, 0.32, 0.61)]))
        )
        assert r.group_error == pytest.approx(r.seed_spread * r.group_level / np.sqrt(2))
        assert set(r.group_freedom) == {3.0}
        assert r.ties() == ["a", "a", "b"]

    def test_a_copy_is_no_repeat(self):
        logs = {name: run(name, series("loss", curve(0.3)), config={"lr": 1, "seed": 0}) for name in "ab"}
        r = probe(logs)
        assert r.run_copy_of == ("", "a")
        assert np.isnan(r.seed_spread)


class TestSpeed:
    def test_pauses_are_taken_out_where_evaluations_are(self):
        step = np.arange(0, 5001, 100.0)
        time = step / 10 + np.cumsum((step % 1000 == 0) * 50.0)
        logs = {
            each: run(
                each,
                series("loss", curve(0.3), time=time),
                series("val/loss", [1, 1, 1, 1, 1], step=np.arange(1000, 5001, 1000), split="val"),
            )
            for each in "ab"
        }
        r = probe(logs, metric="loss")
        assert r.run_speed_training == pytest.approx([10, 10])
        assert r.run_speed == pytest.approx([5000 / 750, 5000 / 750])
        assert set(r.run_pauses) == {5}
        assert set(r.run_pause_every) == {1000}
        assert r.run_pause_seconds == pytest.approx([250, 250])

    def test_a_frequent_gap_belongs_to_the_rhythm(self):
        time = np.arange(51) * 1.0 + np.cumsum(np.arange(51) % 5 == 4) * 10
        logs = {each: run(each, series("loss", curve(0.3), time=time)) for each in "ab"}
        r = probe(logs)
        assert not r.run_pauses.any()
        assert list(r.run_speed_training) == list(r.run_speed)

    def test_the_time_of_single_steps(self):
        took = np.where(np.arange(51) == 20, 8.5, 0.5)
        logs = {
            each: run(
                each,
                series("loss", curve(0.3), step=np.arange(0, 501, 10)),
                series("step_time", took, step=np.arange(0, 501, 10)),
            )
            for each in "ab"
        }
        r = probe(logs)
        assert set(r.run_clock) == {"step_time"}
        assert r.run_speed_training == pytest.approx([2.0, 2.0])
        assert r.run_wall == pytest.approx([501 * 0.5 + 8] * 2)

    def test_the_speed_that_is_logged(self):
        logs = {
            each: run(each, series("loss", curve(0.3)), series("it/s", [3.0, 5.0, 4.0], step=[100, 200, 300]))
            for each in "ab"
        }
        r = probe(logs)
        assert list(r.run_speed) == [4.0, 4.0]
        assert set(r.run_clock) == {"it/s"}

    def test_samples(self):
        r = probe(healthy())
        assert r.samples_per_s() == pytest.approx([80] * 4)
        assert set(r.run_batch_origin) == {"batch_size"}

    def test_no_time(self):
        r = probe({each: run(each, series("loss", curve(0.3))) for each in "ab"})
        assert np.isnan(r.run_speed).all()
        assert set(r.run_clock) == {""}


class TestSettings:
    def test_flat(self):
        config = {
            "model": {"width": 64, "lr": "1e-3"},
            "betas": [0.9, 0.95],
            "wandb": {"value": "1.0"},
            "on": True,
            "blocks": [{"n": 1}],
        }
        assert flat(config) == {
            "model.width": "64",
            "model.lr": "0.001",
            "betas": "0.9, 0.95",
            "wandb": "1",
            "on": "True",
            "blocks.0.n": "1",
        }

    def test_only_what_differs(self):
        assert varied([{"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {}]) == {"a": ["1", "2", ""]}
        assert varied([{"a": "1", "b": "1"}, {"a": "1"}]) == {"b": ["1", ""]}
        assert varied([{"a": "1", "b": "1"}, {"c": "1", "d": "2"}]) == {}, "two kinds of log"

    @pytest.mark.parametrize(
        ("key", "kind"),
        [("seed", "seed"), ("train.random_seed", "seed"), ("lr", "setting"), ("model_name", "setting"), ("run_name", "record"), ("output_dir", "record"),
         ("data_path", "setting"), ("git_commit", "record"), ("num_params", "record"), ("epochs", "setting"), ("exp.log_dir", "record")],
    )  # fmt: skip
    def test_kinds(self, key, kind):
        assert kind_of(key) == kind

    def test_repeats_are_found_by_settings_and_by_names(self):
        assert group(
            ["a", "b", "c"], [{"lr": "1", "seed": "0"}, {"lr": "1", "seed": "1"}, {"lr": "2", "seed": "0"}]
        ) == ([0, 0, 1], ["lr=1", "c"])
        assert group(["x_seed0.log", "x_seed1.log", "y.log"], [{}, {}, {}]) == ([0, 0, 1], ["x.log", "y.log"])
        assert group(["a", "b"], [{"lr": "1"}, {"lr": "1"}]) == ([0, 1], ["a", "b"]), (
            "a log of one setting is silent on others"
        )


class TestPoints:
    def test_a_long_curve_keeps_its_ends_and_its_best(self):
        value = curve(0.3, count=20_001, noise=0.05)
        value[7001], value[9000] = -5.0, np.nan
        r = probe({each: run(each, series("loss", value)) for each in "ab"}, kept=200)
        mine = r.point_run == 0
        assert mine.sum() <= 202
        step, kept = r.point_step[mine], r.point_value[mine]
        assert (step[0], kept[0], step[-1], kept[-1]) == (0, value[0], 2_000_000, value[-1])
        assert kept[step == 700_100] == -5.0
        assert np.nanmax(r.point_high[mine]) == np.nanmax(value)


def test_files_for_programs_and_for_a_diary(tmp_path):
    logs = healthy(3)
    logs["a|b"] = run("a|b", series("loss", curve(0.5)), config={"lr": 1.0, "wd": 0.1, "batch_size": 8})
    r = probe(logs)
    table, text = r.write(tmp_path / "new")
    assert (table.name, text.name) == ("results.csv", "results.md")
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [each["name"] for each in rows] == [r.run_name[i] for i in r.order]
    assert float(rows[0]["value"]) == r.run_value[0]
    assert rows[0]["setting lr"] == "0.0001"
    assert rows[0]["tie"] == "a"
    lines = text.read_text().splitlines()
    assert lines[0] == "## 4 runs by loss at step 5,000"
    assert "**r0**" in lines[2]
    ranking = [line for line in lines if line.startswith("| ") and line[2].isdigit()]
    assert len(ranking) == 4
    assert {line.replace("\\|", "").count("|") for line in ranking} == {lines[4].count("|")}
    assert "- lr: 0.0001, 0.0002, 0.0003, 1" in lines


def test_numbers_are_written_with_the_digits_that_tell_them_apart():
    def column(*values):
        return [number_of(value, figures(np.array(values))) for value in values]

    assert column(0.3593, 0.3637, np.nan) == ["0.3593", "0.3637", "nan"]
    assert column(3.28501, 3.28523) == ["3.28501", "3.28523"]
    assert column(14.763486, 0.186216, -np.inf) == ["14.76", "0.1862", "-inf"]
    assert column(1234.5, 2345.6) == ["1,234", "2,346"]
    assert [duration(each) for each in (np.nan, 4.25, 125, 7380)] == ["–", "4.25 s", "2:05 min", "2:03 h"]


def test_the_study_in_small():
    missed = [row for row in study(6) if row.right < min(row.bar, 0.6)]
    assert not missed
