"""The rules of `comparison`: each fires on what it is for, and none on runs that are well."""

from __future__ import annotations

import numpy as np
import pytest

from trainlab.diagnostics.comparison import diagnostic, probe
from trainlab.diagnostics.comparison.rules_of_settings import confounded
from trainlab.figure import Picture
from trainlab.finding import Level

from .comparison_logs import curve, healthy, run, series


def judged(logs, **settings):
    return diagnostic.judge(probe(logs, **settings))


def with_one(**changes):
    """Healthy runs and one more, `odd`, changed."""
    told = {
        "every": (series("loss", curve(0.6, seed=9), time=np.arange(51) * 10.0),),
        "config": {"lr": 9e-4, "wd": 0.1, "batch_size": 8},
        "events": ("completed",),
        "totals": {"total_steps": 5000.0},
        **changes,
    }
    return {**healthy(), "odd": run("odd", *told.pop("every"), **told)}


def test_none_fires_on_runs_that_are_well():
    assert {each.level for each in judged(healthy())} == {Level.OK}


class TestFinite:
    def test_a_run_that_ends_in_nan_fails(self):
        value = curve(0.6)
        value[30:] = np.nan
        finding = judged(with_one(every=(series("loss", value),)))["CMP001"]
        assert finding.level == "fail"
        assert (
            str(finding.evidence[0])
            == "runs/odd.log:40, step 3000 and on = 21 not finite (limit 0 not finite)"
        )
        assert "step 3000" in finding.fix

    def test_one_that_goes_on_is_a_warning(self):
        value = curve(0.6)
        value[30] = np.inf
        assert judged(with_one(every=(series("loss", value),)))["CMP001"].level == "warn"


class TestSameStep:
    def test_a_run_that_is_short(self):
        finding = judged(with_one(every=(series("loss", curve(0.6, count=31)),)), at=5000)["CMP002"]
        assert finding.level == "warn"
        assert finding.evidence[0].value == 3000
        assert "rank all at step 3000" in finding.fix

    def test_a_run_without_the_metric(self):
        finding = judged(with_one(every=(series("lr", curve(0.6)),)))["CMP002"]
        assert finding.text == "1 of 5 runs are not in the ranking at step 5000: odd"
        assert finding.fix == "log loss in odd too, or name another metric"


class TestAlike:
    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"every": (series("train_nll", curve(0.6)),)}, "metric"),
            ({"every": (series("loss", curve(0.6, begin=2.0 / np.log(2))),)}, "first value"),
            (
                {"every": (series("loss", curve(0.6)[::5], step=np.arange(0, 5001, 500)),)},
                "steps between values",
            ),
            ({"totals": {"total_steps": 20_000.0}}, "planned steps"),
            ({"config": {"lr": 9e-4, "wd": 0.1, "batch_size": 32}}, "batch size"),
        ],
    )
    def test_one_that_is_measured_otherwise(self, changes, what):
        finding = judged(with_one(**changes))["CMP003"]
        assert finding.level == "warn"
        assert finding.text == f"runs differ in {what}"
        assert finding.evidence[0].where == f"odd: {what}"

    def test_another_data_set(self):
        logs = {
            f"r{i}": run(
                f"r{i}", series("loss", curve(0.3 + i)), config={"lr": 1, "val_set": "a" if i else "b"}
            )
            for i in range(3)
        }
        finding = judged(logs)["CMP003"]
        assert [str(each) for each in finding.evidence] == ["r0: val_set = b, against a"]


class TestNoise:
    def test_equal_runs_are_a_tie(self):
        logs = {each: run(each, series("loss", curve(0.3, seed=seed))) for seed, each in enumerate("abc")}
        finding = judged(logs)["CMP004"]
        assert finding.level == "warn"
        assert "cannot be told apart" in finding.text
        assert "noise between seeds is not in this" in finding.text

    def test_a_lucky_last_point_does_not_win(self):
        lucky = curve(0.35, seed=1, count=501)
        lucky[-1] = 0.25
        logs = {
            "lucky": run("lucky", series("loss", lucky)),
            "good": run("good", series("loss", curve(0.3, count=501))),
        }
        r = probe(logs)
        assert r.run_name[r.best_run] == "lucky", "it is ranked as it was logged"
        finding = diagnostic.judge(r)["CMP004"]
        assert finding.level == "warn"
        assert "without the noise of single points good leads" in finding.text

    def test_two_points_tell_no_noise(self):
        logs = {each: run(each, series("loss", [2.0, end])) for each, end in (("a", 0.3), ("b", 0.4))}
        assert judged(logs)["CMP004"].level == "skip"
        assert probe(logs).ties() == ["?", "?"]

    def test_a_copy_is_not_the_next_best(self):
        logs = healthy()
        logs["copy"] = logs["r0"]
        assert judged(logs)["CMP004"].evidence[0].where == "r0 against r1"


class TestBestAndLast:
    def test_a_run_that_rose_again(self):
        value = np.concatenate([curve(0.6, count=31), 0.6 + 0.01 * np.arange(20)])
        finding = judged(with_one(every=(series("loss", value),)))["CMP005"]
        assert finding.level == "warn"
        assert "of odd" in finding.fix

    def test_a_lucky_point_is_none(self):
        value = curve(0.6, noise=0.03)
        value[25] = 0.55
        assert judged(with_one(every=(series("loss", value),)))["CMP005"].level == "ok"


class TestFinished:
    def test_a_crash_fails(self):
        finding = judged(with_one(events=(("oom", 400),)))["CMP006"]
        assert finding.level == "fail"
        assert finding.evidence[0].where == "runs/odd.log:400: failed"

    def test_a_traceback_that_was_survived(self):
        assert judged(with_one(events=(("traceback", 20), ("completed", 99))))["CMP006"].level == "ok"

    @pytest.mark.parametrize(("events", "word"), [((), "ended before"), (("early_stop",), "stopped early")])
    def test_one_that_stopped(self, events, word):
        finding = judged(with_one(events=events, every=(series("loss", curve(0.6, count=31)),)))["CMP006"]
        assert finding.level == "warn"
        assert word in finding.text

    def test_counting_from_0(self):
        assert judged(with_one(events=(), totals={"total_steps": 5001.0}))["CMP006"].level == "ok"

    def test_nothing_told(self):
        logs = {each: run(each, series("loss", curve(0.3))) for each in "ab"}
        assert judged(logs)["CMP006"].level == "skip"


class TestSpeed:
    def test_a_slow_one_is_named(self):
        finding = judged(with_one(every=(series("loss", curve(0.6), time=np.arange(51) * 20.0),)))["CMP007"]
        assert finding.level == "warn"
        assert str(finding.evidence[0]) == "odd = 2 times slower (limit 1.3 times slower)"

    def test_of_two_the_slower_is_named(self):
        logs = {
            each: run(each, series("loss", curve(0.3), time=np.arange(51) * gap))
            for each, gap in (("a", 10.0), ("b", 20.0))
        }
        assert [each.where for each in judged(logs)["CMP007"].evidence] == ["b"]

    def test_a_larger_batch_is_slower_by_right(self):
        odd = with_one(
            every=(series("loss", curve(0.6), time=np.arange(51) * 20.0),),
            config={"lr": 9e-4, "wd": 0.1, "batch_size": 16},
        )
        assert judged(odd)["CMP007"].level == "ok"


class TestSettings:
    def test_two_settings_that_go_together(self):
        logs = {
            f"r{i}": run(f"r{i}", series("loss", curve(0.3 + i)), config={"lr": i, "wd": -i, "width": 8})
            for i in range(4)
        }
        finding = judged(logs, baseline="r1")["CMP008"]
        assert finding.text == "lr and wd vary together: their effects cannot be told apart"
        assert finding.evidence[0].where == "r0 against r1"
        assert finding.fix == "add a run like r1 in which lr alone is changed"

    def test_the_rank_of_the_design(self):
        grid = {"lr": ["1", "1", "2", "2"], "wd": ["0", "1", "0", "1"]}
        assert confounded(grid) == []
        assert confounded({**grid, "both": ["a", "b", "b", "a"]}) == []
        assert confounded({**grid, "twice": ["x", "x", "y", "y"]}) == ["lr", "twice"]
        assert confounded({**grid, "all": ["1", "2", "3", "4"]}) == ["lr", "wd", "all"]

    def test_seeds_and_folders_are_no_settings(self):
        logs = {
            f"r{i}": run(
                f"r{i}", series("loss", curve(0.3, seed=i)), config={"lr": 1, "seed": i, "out_dir": f"o{i}"}
            )
            for i in range(3)
        }
        assert judged(logs)["CMP008"].text == "only seeds, names and folders differ"


class TestCopiesAndResumes:
    def test_a_rounded_copy(self):
        logs = healthy()
        original = logs["r1"]["loss"]
        logs["copy"] = run("copy", series("loss", np.round(original.value, 3)))
        finding = judged(logs)["CMP009"]
        assert str(finding.evidence[0]) == "runs/copy.log = the points of r1"

    def test_seeds_are_no_copies(self):
        logs = {f"s{i}": run(f"s{i}", series("loss", np.round(curve(0.3, seed=i), 3))) for i in range(4)}
        assert judged(logs)["CMP009"].level == "ok"

    def test_a_resume_is_told_with_its_line(self):
        logs = with_one(events=("completed",))
        resumed = run("odd", logs["odd"]["loss"], events=(("resume", 60),))
        # what the event says decides: loading a pretrained checkpoint is no resume
        finding = judged({**logs, "odd": resumed})["CMP010"]
        assert finding.level == "warn"
        assert finding.evidence[0].where == "runs/odd.log:60"
        assert "4 runs not" in finding.text

    def test_a_log_that_begins_late(self):
        step = np.arange(1000, 5001, 100)
        finding = judged(with_one(every=(series("loss", curve(0.6, count=41), step=step),)))["CMP010"]
        assert str(finding.evidence[0]) == "runs/odd.log: begins = 1000 steps (limit 500 steps)"


@pytest.mark.parametrize("view", [view.name for view in diagnostic.views])
@pytest.mark.parametrize(("count", "size"), [(2, (4.2, 3.2)), (13, (9.0, 5.0)), (45, (4.2, 3.2))])
def test_pictures_of_few_and_many_in_little_room(view, count, size):
    logs = healthy(count)
    logs["broken_" + "x" * 60] = run("broken", series("loss", [np.nan] * 51))
    picture = Picture(*size)
    diagnostic.plot(probe(logs), view, figure=picture)
    assert len(picture.png(scale=0.5, quick=True)) > 1000


def test_pictures_say_why_there_is_nothing_to_draw():
    logs = {each: run(each, series("loss", [np.nan] * 3)) for each in "ab"}
    for view in diagnostic.views:
        diagnostic.plot(probe(logs), view.name)
    said = diagnostic.plot(probe(logs), "throughput").axes[0].texts[0].get_text()
    assert said == "no log tells the time"
