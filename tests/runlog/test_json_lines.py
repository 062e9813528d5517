"""JSON lines, JSON documents and trainer_state.json: nested cells, illegal NaN, runs in one file, what is cut off."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from typing import ClassVar

import numpy as np
import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.runlog import json_lines, trainer_state
from trainlab.subjects.runlog.json_lines import JsonLinesReader, whole_records


def log_of(tmp_path, text, name="log.json"):
    path = tmp_path / name
    path.write_text(text)
    assert json_lines.looks_like(path, text.encode())
    return json_lines.read(path, b"")


def test_nested_cells_lists_and_numbers_in_texts(tmp_path):
    line = '{"epoch": 3, "train": {"loss": "2.5e-1", "gnorm": null}, "test_coco": [0.1, 0.2], "ids": ["a"], "ok": true}\n'
    log = log_of(tmp_path, line)
    assert {name: each.value.tolist() for name, each in log.series.items()} == {
        "train/loss": [0.25], "test_coco/0": [0.1], "test_coco/1": [0.2],
    }  # fmt: skip
    assert log["train/loss"].epoch.tolist() == [3]
    assert log.config == {"ok": True}


def test_illegal_nan_and_infinity_are_values(tmp_path):
    log = log_of(
        tmp_path,
        '{"iteration": 1, "loss": NaN}\n{"iteration": 2, "loss": -Infinity}\n{"iteration": 3, "loss": "inf"}\n',
    )
    assert np.array_equal(log["loss"].value, [np.nan, -np.inf, np.inf], equal_nan=True)
    assert log["loss"].step.tolist() == [1, 2, 3]


def test_mode_tells_the_split_and_the_first_record_is_settings(tmp_path):
    lines = [{"env_info": "python 3.8", "seed": 7}]
    for epoch in (1, 2):
        lines += [{"mode": "train", "epoch": epoch, "iter": at, "loss": 1 / at} for at in (10, 20)]
        lines += [{"mode": "val", "epoch": epoch, "iter": 500, "mAP": epoch / 10}]
    log = log_of(tmp_path, "\n".join(map(json.dumps, lines)))
    assert log.config == {"env_info": "python 3.8", "seed": 7}
    assert log["loss"].split == "train"
    assert log["val/mAP"].split == "val"
    assert log["val/mAP"].line.tolist() == [4, 7]
    assert log["loss"].step.tolist() == [10, 20, 30, 40]


def test_an_evaluation_that_tells_no_step_stands_at_the_last_one(tmp_path):
    lines = [each for at in (10, 20, 30) for each in ({"step": at, "loss": 1.0}, {"val_loss": at / 10})]
    log = log_of(tmp_path, "\n".join(map(json.dumps, [{"seed": 7}, *lines])))
    assert log.config == {"seed": 7}
    assert log["val_loss"].step.tolist() == [10, 20, 30]


def test_what_is_nested_without_end_is_passed_over(tmp_path):
    deep = '{"a": ' * 900 + "1" + "}" * 900
    assert log_of(tmp_path, f'{{"step": 1, "loss": 2, "x": {deep}}}\n' * 2)["loss"].value.tolist() == [2, 2]


def test_two_counts_that_disagree_are_not_mixed(tmp_path):
    lines = [{"_step": at, "loss": at, **({"iter": at * 100} if at % 3 else {})} for at in range(1, 7)]
    step = log_of(tmp_path, "\n".join(map(json.dumps, lines)))["loss"].step
    assert step.tolist() == [100, 200, 200, 400, 500, 500]  # what tells no iter stands at the last one


def test_one_count_under_two_names_is_one(tmp_path):
    lines = [{"num_updates": at, "loss": 1} if at % 2 else {"update": at, "valid_loss": 2} for at in range(6)]
    log = log_of(tmp_path, "\n".join(map(json.dumps, lines)))
    assert log["valid_loss"].step.tolist() == [0, 2, 4]
    assert log["loss"].step.tolist() == [1, 3, 5]


def test_other_lines_and_a_half_written_one_are_told(tmp_path):
    log = log_of(
        tmp_path, '{"step": 1, "loss": 1}\nsaved checkpoint\n{"step": 2, "loss": 2}\n{"step": 3, "lo'
    )
    assert log["loss"].line.tolist() == [1, 3]
    assert log.notes == (
        "line 4, the last one, is half written",
        "1 lines are no JSON records, the first is line 2",
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (json.dumps([{"step": at, "loss": at / 2} for at in range(3)], indent=1), [2, 6, 10]),
        (json.dumps([{"step": at, "loss": at / 2} for at in range(3)]), [1, 1, 1]),
        ("\n".join(json.dumps({"step": at, "loss": at / 2}, indent=1) for at in range(3)), [1, 5, 9]),
        (
            json.dumps({"name": "x", "history": [{"step": at, "loss": at / 2} for at in range(3)]}, indent=1),
            [1, 1, 1],
        ),
        (json.dumps({"step": [0, 1, 2], "loss": [0.0, 0.5, 1.0]}, indent=1), [1, 1, 1]),
    ],
)
def test_documents(tmp_path, text, lines):
    log = log_of(tmp_path, text)
    assert log["loss"].value.tolist() == [0, 0.5, 1]
    assert log["loss"].step.tolist() == [0, 1, 2]
    assert log["loss"].line.tolist() == lines


def test_the_history_of_keras_is_by_epoch(tmp_path):
    log = log_of(tmp_path, json.dumps({"loss": [3.0, 2.0], "val_loss": [3.5, 2.5]}))
    assert log["val_loss"].epoch.tolist() == [0, 1]


def test_an_export_of_tensorboard_is_named_by_its_file(tmp_path):
    log = log_of(
        tmp_path, "[[1700000000.5, 10, 0.9], [1700000002.5, 20, NaN]]", name="run-a-tag-train_loss.json"
    )
    assert log["train_loss"].step.tolist() == [10, 20]
    assert log["train_loss"].time.tolist() == [0, 2]
    assert np.array_equal(log["train_loss"].value, [0.9, np.nan], equal_nan=True)


def test_a_document_that_is_cut_off_gives_what_is_whole(tmp_path):
    text = json.dumps([{"step": at, "loss": at / 2} for at in range(30)], indent=1)[:-20]
    log = log_of(tmp_path, text)
    assert len(log["loss"]) == 29
    assert "from line 117 on there is no whole JSON record: cut off, or something else" in log.notes


def test_json_without_a_number_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "x"}\n')
    with pytest.raises(SubjectError, match="holds no record with a number"):
        json_lines.read(tmp_path / "a.json", b"")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss 3",
        "{'loss': 3}",
        "[2022-04-08 18:40:57][train] x",
        '{"a": 1}\n' + "step 1 loss 2\n" * 9,
        "{\n  x\n}",
    ],
)
def test_what_is_no_json(tmp_path, text):
    assert not json_lines.looks_like(tmp_path, text.encode())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0)])
def test_archives_are_unpacked_also_when_they_are_cut_off(tmp_path, pack):
    rng = np.random.default_rng(0)
    text = "\n".join(
        json.dumps({"step": at, "loss": each}) for at, each in enumerate(rng.normal(size=30_000).tolist())
    )
    path = tmp_path / "log.json.gz"
    path.write_bytes(pack(text.encode()))
    assert len(json_lines.read(path, b"")["loss"]) == 30_000
    path.write_bytes(pack(text.encode())[:-1000])
    log = json_lines.read(path, b"")
    assert 5_000 < len(log["loss"]) < 30_000
    assert "the archive is cut off or damaged" in log.notes[0]


def test_parts_give_what_the_whole_gives(tmp_path):
    text = "".join(json.dumps({"step": at, "loss": at / 3}) + "\n" for at in range(40))
    reader = JsonLinesReader(tmp_path / "x")
    for part in text.splitlines(keepends=True):
        reader.take(part.encode())
    whole, parts = log_of(tmp_path, text), reader.finish()
    assert parts["loss"].line.tolist() == whole["loss"].line.tolist()
    assert parts["loss"].value.tolist() == whole["loss"].value.tolist()


class TestTrainerState:
    STATE: ClassVar = {
        "best_metric": 0.7,
        "log_history": [
            {"epoch": 0.5, "loss": 2.0, "learning_rate": 1e-4, "step": 10},
            {"epoch": 0.5, "eval_loss": 1.9, "step": 10},
            {"epoch": 1.0, "loss": 1.0, "learning_rate": 0.0, "step": 20},
            {"epoch": 1.0, "step": 20, "train_loss": 1.5, "train_runtime": 60.0},
        ],
        "max_steps": 20,
        "num_train_epochs": 1,
        "trial_name": None,
    }

    def test_the_history_the_claims_and_the_settings(self, tmp_path):
        path = tmp_path / "trainer_state.json"
        path.write_text(text := json.dumps(self.STATE, indent=2))
        assert trainer_state.looks_like(path, text.encode())
        log = trainer_state.read(path, b"")
        assert log["loss"].value.tolist() == [2.0, 1.0]
        assert log["loss"].line.tolist() == [4, 15]
        assert (log["eval_loss"].split, log["eval_loss"].step.tolist()) == ("val", [10])
        assert log.totals["total_steps"] == 20
        assert log.totals["total_epochs"] == 1
        assert log.totals["train_loss"] == 1.5
        assert log.config == {"best_metric": 0.7}
        assert [event.kind for event in log.events] == ["completed"]

    def test_what_is_whole_of_one_that_is_cut_off(self, tmp_path):
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps(self.STATE, indent=2)[:380])
        log = trainer_state.read(path, b"")
        assert log["eval_loss"].value.tolist() == [1.9]
        assert any("cut off or damaged" in note for note in log.notes)

    def test_without_a_history_it_is_an_error(self, tmp_path):
        path = tmp_path / "trainer_state.json"
        path.write_text('{"log_history": [], "global_step": 0}')
        with pytest.raises(SubjectError, match="holds no log history"):
            trainer_state.read(path, b"")


def test_objects_one_after_the_other_are_found_with_their_lines():
    text = '[{"a": 1},\n {"b": {"c": "}"}}\n]\nrest {"d": 1}'
    assert [(line, record) for line, _, record in whole_records(text)] == [
        (1, {"a": 1}),
        (2, {"b": {"c": "}"}}),
    ]


def test_no_change_of_bytes_raises_anything_but_a_subject_error(tmp_path):
    lines = "\n".join(
        json.dumps({"step": at, "loss": at / 3, "x": {"y": [1, 2]}}) for at in range(8)
    ).encode()
    state = json.dumps(TestTrainerState.STATE, indent=1).encode()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.json"
    for text, module in [(lines, json_lines), (state, trainer_state), (state, json_lines)] * 60:
        broken = bytearray(text[: rng.integers(1, len(text))])
        for at in rng.integers(0, len(broken), rng.integers(0, 6)):
            broken[at] = rng.choice(np.frombuffer(b'\0\n{}[]",:\xff9e-', np.uint8))
        path.write_bytes(broken)
        module.looks_like(path, bytes(broken))
        try:
            log = module.read(path, b"")
        except SubjectError:
            continue
        assert log.series


def test_evaluations_that_count_epochs_stand_at_the_training_step(tmp_path):
    lines = []
    for epoch in range(1, 4):
        lines += [
            {"epoch": epoch, "iter": at, "step": at, "loss": 1.0}
            for at in range(epoch * 100 - 50, epoch * 100 + 1, 50)
        ]
        lines.append({"coco/bbox_mAP": epoch / 10, "step": epoch})  # as mmengine's scalars.json
    log = log_of(tmp_path, "\n".join(map(json.dumps, lines)))
    assert log.run_count == 1
    assert log["loss"].step.tolist() == [50, 100, 150, 200, 250, 300]
    assert log["coco/bbox_mAP"].step.tolist() == [100, 200, 300]


def test_dates_are_time_and_parameters_are_a_claim(tmp_path):
    lines = [
        {"timestamp": f"2024-05-01T10:00:{at:02}", "epoch": at, "loss": 1, "n_parameters": 41e6}
        for at in (0, 30)
    ]
    log = log_of(tmp_path, "\n".join(map(json.dumps, lines)))
    assert log["loss"].time.tolist() == [0, 30]
    assert log.totals["params"] == 41e6
    assert list(log.series) == ["loss"]


def test_the_number_of_steps_to_be_is_no_step(logged):
    rows = [{"current_steps": i, "total_steps": 100, "loss": 1 / i} for i in range(10, 101, 10)]
    log = logged("".join(json.dumps(row) + "\n" for row in rows), "trainer_log.jsonl")
    assert log.loss.step.tolist() == list(range(10, 101, 10))
    assert log.totals["total_steps"] == 100


def test_settings_repeated_on_each_line_are_no_series(logged):
    rows = [{"training_iteration": i, "loss": 1 / i, "config": {"lr": 5e-5}} for i in range(1, 9)]
    log = logged("".join(json.dumps(row) + "\n" for row in rows), "result.json")
    assert list(log.series) == ["loss"]
    assert log.loss.step.tolist() == list(range(1, 9))
    assert log.config["config/lr"] == 5e-5
