"""Tables: sparse cells, late columns, headers written again or lost, NULs, foreign separators, exports."""

from __future__ import annotations

import numpy as np
import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.tables import TableReader, looks_like, read, separator


def log_of(tmp_path, text, name="metrics.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert looks_like(path, path.read_bytes()[: 2**16])
    return read(path, b"")


def test_empty_cells_are_no_points_and_nan_is_one(tmp_path):
    log = log_of(
        tmp_path,
        "epoch,step,train_loss_step,train_loss_epoch,val_loss\n0,49,7.5,,\n0,99,nan,,\n0,99,,7.2,6.9\n1,149,-inf,,\n",
    )
    assert np.array_equal(log["train_loss_step"].value, [7.5, np.nan, -np.inf], equal_nan=True)
    assert log["train_loss_step"].step.tolist() == [49, 99, 149]
    assert log["train_loss_step"].line.tolist() == [2, 3, 5]
    assert log["train_loss_epoch"].value.tolist() == [7.2]
    assert (log["val_loss"].split, log["val_loss"].line.tolist()) == ("val", [4])
    assert log["train_loss_step"].epoch.tolist() == [0, 0, 1]
    assert list(log.series) == ["train_loss_step", "train_loss_epoch", "val_loss"]


def test_columns_that_come_late_are_found_under_their_own_name(tmp_path):
    log = log_of(tmp_path, "step,loss,loss_q0\n10,1.0\n20,0.9\n30,0.8,0.5\n")
    assert log["loss"].value.tolist() == [1.0, 0.9, 0.8]
    assert log["loss_q0"].step.tolist() == [30]


def test_cells_that_the_header_does_not_name_are_kept_and_told(tmp_path):
    log = log_of(tmp_path, "step,loss\n10,1.0\n20,0.9\n30,0.8,0.5\n")
    assert log["column 2"].value.tolist() == [0.5]
    assert "columns that the header does not name are called column 2" in log.notes


def test_a_header_that_is_written_again_names_what_follows(tmp_path):
    log = log_of(tmp_path, "step,loss\n10,1.0\n20,0.9\nstep,lr,loss\n30,0.1,0.8\n")
    assert log["loss"].value.tolist() == [1.0, 0.9, 0.8]
    assert log["loss"].line.tolist() == [2, 3, 5]
    assert log["lr"].step.tolist() == [30]
    assert "the header is written again, with other columns, at line 4" in log.notes


def test_without_its_header_the_step_is_the_whole_number_that_grows(tmp_path):
    rows = "".join(f"{1 / (at + 1)},{at * 256 + 7},{at * 10 + 5},0.5\n" for at in range(20))
    log = log_of(tmp_path, b"\0" * 70_000 + rows.encode())
    assert log["column 0"].step.tolist() == [at * 10 + 5 for at in range(20)]
    assert log["column 0"].line.tolist() == list(range(1, 21))
    assert "70000 NUL bytes before line 1: the file was truncated while it was open" in log.notes
    assert (
        "the header is lost: the columns from line 1 on are numbered from 0; column 2 counts the steps"
        in log.notes
    )


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("epoch;loss\n1;0,5\n2;0,25\n", ";"),
        ("epoch\tloss\n1\t0.5\n2\t0.25\n", "\t"),
        ("      epoch,       loss\n          1,      0.5\n          2,     0.25\n", ","),
        ('"epoch","loss"\n"1","0.5"\n"2","0.25"\n', ","),
        ("epoch,loss\r\n1,0.5\r\n2,0.25\r\n", ","),
        ("\ufeffepoch,loss\n1,5e-1\n2,2.5E-01\n", ","),
    ],
)
def test_separators_spaces_quotes_and_decimal_commas(tmp_path, text, mark):
    assert separator(text.lstrip("\ufeff")) == mark
    log = log_of(tmp_path, text)
    assert log["loss"].value.tolist() == [0.5, 0.25]
    assert log["loss"].epoch.tolist() == [1, 2]
    assert log["loss"].line.tolist() == [2, 3]


def test_ultralytics_counts_its_time_from_the_start(tmp_path):
    log = log_of(
        tmp_path,
        "epoch,time,train/box_loss,metrics/mAP50(B)\n1,34.5,1.2,0.3\n2,66.1,1.1,0.4\n3,99.0,1.0,0.5\n",
    )
    assert log["train/box_loss"].time.tolist() == [34.5, 66.1, 99.0]
    assert list(log.series) == ["train/box_loss", "metrics/mAP50(B)"]


def test_a_time_that_rises_and_falls_is_a_quantity(tmp_path):
    assert log_of(tmp_path, "step,loss,time\n1,1,0.5\n2,1,0.4\n3,1,0.6\n")["time"].value.tolist() == [
        0.5,
        0.4,
        0.6,
    ]


def test_an_export_of_tensorboard_is_named_by_its_file(tmp_path):
    text = "Wall time,Step,Value\n1700000000.5,10,0.9\n1700000002.5,20,0.8\n"
    log = log_of(tmp_path, text, name="run-.-tag-train_loss.csv")
    assert log["train_loss"].step.tolist() == [10, 20]
    assert log["train_loss"].time.tolist() == [0, 2]


def test_an_export_of_wandb_is_named_by_its_quantity(tmp_path):
    text = '"Step","neat-sun-3 - train/loss","neat-sun-3 - train/loss__MIN","neat-sun-3 - train/loss__MAX"\n"0","2.5","2.5","2.5"\n"1","2.25","2.25","2.25"\n'
    log = log_of(tmp_path, text)
    assert list(log.series) == ["train/loss"]
    assert log["train/loss"].value.tolist() == [2.5, 2.25]
    two = '"Step","a - loss","b - loss"\n"0","2.5","3.5"\n"1","2.25","3.25"\n'
    assert list(log_of(tmp_path, two).series) == ["a - loss", "b - loss"]


def test_the_index_of_a_pandas_table_is_no_quantity(tmp_path):
    assert list(log_of(tmp_path, ",loss,acc\n0,1.5,0.5\n1,1.0,0.6\n").series) == ["loss", "acc"]


def test_comments_and_constant_texts_are_settings(tmp_path):
    log = log_of(tmp_path, '#{"env_id": "Ant"}\nmodel,step,loss\nvit,1,0.5\nvit,2,\nvit,3,0.25\n')
    assert log.config == {"env_id": "Ant", "model": "vit"}
    assert log["loss"].line.tolist() == [3, 5]


def test_a_last_row_that_is_cut_off_is_left_out_and_told(tmp_path):
    log = log_of(tmp_path, "step,loss,lr\n1,0.5,0.1\n2,0.4,0.1\n3,0.")
    assert log["loss"].value.tolist() == [0.5, 0.4]
    assert "line 4, the last one, is cut off and left out" in log.notes


def test_blank_lines_and_broken_cells_move_no_line(tmp_path):
    log = log_of(tmp_path, 'step,loss,note\n\n1,0.5,"a, b"\n2,x,\n3,0.3,fine"\n')
    assert log["loss"].value.tolist() == [0.5, 0.3]
    assert log["loss"].line.tolist() == [3, 5]


@pytest.mark.parametrize("text", ["a,b\n", "name,colour\nx,red\ny,blue\n"])
def test_a_table_without_a_number_is_an_error(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SubjectError, match="a table without a number"):
        read(tmp_path / "t.csv", b"")


@pytest.mark.parametrize(
    "text",
    [
        "", "hello\n", "epoch 1, loss 0.5, accuracy 0.3\nepoch 2, loss 0.4, accuracy 0.4\n", "iter 0: loss 2.5, time 3ms\n",
        "x = foo(1, 2)\nif x:\n    y = bar(3, 4)\n", '{"loss": 1, "step": 2}\n', "| loss | 0.5 |\n| step | 3 |\n",
        "2024-01-01 10:00:00,123 INFO step 1 loss 0.5\n2024-01-01 10:00:01,456 INFO step 2 loss 0.4\n",
    ],
)  # fmt: skip
def test_what_is_no_table(tmp_path, text):
    assert not looks_like(tmp_path, text.encode())


def test_parts_give_what_the_whole_gives(tmp_path):
    text = "step,loss\n" + "".join(f"{at},{1 / at}\n" for at in range(1, 50))
    reader = TableReader(tmp_path / "x.csv")
    for part in text.splitlines(keepends=True):
        reader.take(part.encode())
    whole, parts = log_of(tmp_path, text), reader.finish()
    assert parts["loss"].value.tolist() == whole["loss"].value.tolist()
    assert parts["loss"].line.tolist() == whole["loss"].line.tolist()
    assert parts["loss"].step.tolist() == whole["loss"].step.tolist()


def test_parts_without_a_header_keep_their_step(tmp_path):
    reader = TableReader(tmp_path / "x.csv")
    for part in (b"0.5,10,1\n0.4,20,1\n", b"0.3,30,1\n"):
        reader.take(part)
    assert reader.finish()["column 0"].step.tolist() == [10, 20, 30]


def test_no_change_of_bytes_raises_anything_but_a_subject_error(tmp_path):
    text = (
        "step,loss,val_loss\n" + "".join(f"{at},{1 / at},{'' if at % 3 else 0.5}\n" for at in range(1, 30))
    ).encode()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(text[: rng.integers(1, len(text))])
        for at in rng.integers(0, len(broken), rng.integers(0, 6)):
            broken[at] = rng.choice(np.frombuffer(b'\0\n\r,;"#\xff9x-', np.uint8))
        (tmp_path / "t.csv").write_bytes(broken)
        looks_like(tmp_path / "t.csv", bytes(broken))
        try:
            log = read(tmp_path / "t.csv", b"")
        except SubjectError:
            continue
        assert log.series


def test_settings_and_dates_stand_beside_and_inside(tmp_path):
    (tmp_path / "hparams.yaml").write_text("lr: 0.1\nmodel:\n  depth: 3\n")
    log = log_of(tmp_path, "created_at,step,loss\n2024-05-01 10:00:00,1,0.5\n2024-05-01 10:01:00,2,0.4\n")
    assert log.config == {"lr": 0.1, "model/depth": 3}
    assert log["loss"].time.tolist() == [0, 60]
    (tmp_path / "hparams.yaml").write_text("model: !!python/object/apply:os.system ['false']\n")
    assert log_of(tmp_path, "step,loss\n1,0.5\n").config == {}
