"""Lines as tools print them that are easily misread: settings, counters that are none, numbers in wrappers."""

from __future__ import annotations

import numpy as np
import pytest

N = range(1, 21)


def written(form: str) -> str:
    return "".join(form.format(i=i, v=2 / i) + "\n" for i in N)


@pytest.mark.parametrize(
    ("form", "series"),
    [
        ("step {i}: loss = Array({v:.6f}, dtype=float32)", "loss"),
        ("step {i} loss: tf.Tensor({v:.6f}, shape=(), dtype=float32) acc: 0.1", "loss"),
        ("I0501 10:00:{i:02d}.123456 140123456789 train.py:300] [{i}] train_loss={v:.6f}", "train_loss"),
        ("[{i:5d}] loss={v:.6f} lr=3e-04 0.5s", "loss"),
        ("{i}/20, train_loss: {v:.6f}", "train_loss"),
        ("trainer-1  | 2024-05-01 10:00:{i:02d},123 - INFO - step {i}/20, loss {v:.6f}", "loss"),
    ],
)
def test_step_and_value_in_any_wrapper(logged, form, series):
    told = logged(written(form))[series]
    assert told.step.tolist() == list(N)
    assert told.value == pytest.approx([2 / i for i in N], abs=1e-6)


def test_a_bar_drawn_anew_by_backspaces(logged):
    bar = [f"{i}/20 [=====>....] - ETA: 3s - loss: {2 / i:.4f}" for i in N]
    log = logged("Epoch 1/1\n" + "".join(each + "\b" * len(each) for each in bar))
    assert log["loss"].step.tolist() == list(N)
    assert log["loss"].line.tolist() == [2] * 20


class TestDecimalCommas:
    def test_they_are_decimal_points(self, logged):
        log = logged(
            "epoch 1 loss: 0,3452; lr: 1,2e-04; acc: 12,5%\nepoch 2 loss: 1,45; lr: 1,2e-04; acc: 13,5%\n"
        )
        assert log["loss"].value.tolist() == [0.3452, 1.45]
        assert log["lr"].value.tolist() == [1.2e-4] * 2
        assert log["acc"].value.tolist() == [12.5, 13.5]

    def test_thousands_and_lists_are_not(self, logged):
        log = logged(written("step {i} loss {v:.3f} tokens: 1,234,567 tps: 7,110 betas=0.9,0.95"))
        assert log["tokens"].value[0] == 1_234_567
        assert log["tps"].value[0] == 7110
        assert log["betas"].value[0] == 0.9


class TestSettings:
    @pytest.mark.parametrize(
        "dump",
        [
            "Namespace(batch_size=64, epochs=14, lr=1.0, gamma=0.7, no_cuda=False, seed=1)",
            "args: {'lr': 1.0, 'start_epoch': 0, 'epochs': 14, 'batch_size': 64}",
            "epochs=14 lr=1.0 batch=64 loss_weight=0.5",
            "task=detect, mode=train, model=yolov8n.pt, data=coco128.yaml, epochs=14, batch=64, lr0=1.0",
        ],
    )
    def test_a_dump_is_no_record(self, logged, dump):
        log = logged(dump + "\n" + written("step={i} loss={v:.3f} lr=0.001 phase=train device=cuda"))
        assert set(log.series) == {"loss", "lr"}
        assert len(log["lr"]) == 20
        assert not np.isfinite(log.loss.epoch).any()

    def test_a_record_that_looks_like_one_is_read(self, logged):
        log = logged(written("Metrics(step={i}, loss={v:.3f}, lr=0.001, grad_norm=1.5)"))
        assert log.loss.step.tolist() == list(N)

    def test_the_dump_is_kept_as_config(self, logged):
        log = logged(
            "Namespace(batch_size=64, epochs=14, lr=1.0, seed=1)\n" + written("step {i} loss {v:.3f}")
        )
        assert log.config == {"batch_size": 64, "epochs": 14, "lr": 1.0, "seed": 1}

    def test_shards_that_are_loaded_are_no_resume(self, logged):
        log = logged(
            "Loading checkpoint shards: 100%|###| 4/4 [00:10<00:00,  2.58s/it]\n"
            + written("step {i} loss {v:.3f}")
        )
        assert log.events == ()

    def test_the_summary_of_wandb_is_no_record(self, logged):
        log = logged(written("step {i} loss={v:.3f}") + "wandb: Run summary:\nwandb:   loss 9.0\n")
        assert len(log.loss) == 20


class TestNames:
    def test_the_speed_is_no_step(self, logged):
        log = logged(written("fps step: 3100{i} fps total: 2100 epoch: {i}/20 loss: {v:.3f}"))
        assert not np.isfinite(log.loss.step).any()
        assert log.loss.epoch.tolist() == list(N)

    def test_norm_edit_distance_is_no_gradient(self, logged):
        log = logged(written("step {i} loss: {v:.3f}, norm_edit_dis: 0.5, norm: 1.5"))
        assert [log[name].role for name in ("norm_edit_dis", "norm")] == ["metric", "gradient_norm"]

    def test_a_total_of_milliseconds_is_no_loss(self, logged):
        log = logged(written("{i}:\tlearn: {v:.4f}\ttest: {v:.4f}\ttotal: 11ms\tremaining: 3s"))
        assert log["total (ms)"].role == "time"
        assert log.loss.name == "learn"

    def test_numbers_named_by_their_unit_alone(self, logged):
        log = logged(written("step {i}/20 | loss {v:.3f} | 210.5 ms | 58.3% bf16 MFU | 120518 tok/s"))
        assert log["ms"].value.tolist() == [210.5] * 20
        assert log["tok/s"].value.tolist() == [120518] * 20

    def test_parts_of_a_line_are_train_and_validation(self, logged):
        log = logged(written("[node1:0/1] {i}epoch results: [train] loss={v:.3f}, [valid] loss=3.0, acc=0.5"))
        assert set(log.series) == {"train/loss", "valid/loss", "valid/acc"}
        assert log.val_loss.value.tolist() == [3.0] * 20

    def test_a_quantity_on_a_line_of_its_own_beside_a_loss(self, logged):
        form = "Learning iteration {i}/20\n  Mean reward: {v:.3f}\n  Mean episode length: {i}\n\n"
        assert logged(written(form))["Mean episode length"].step.tolist() == list(N)

    def test_the_place_in_the_code_is_no_quantity(self, logged):
        log = logged(
            written("[NeMo I 2024-05-01 10:00:{i:02d} ctc_models:200] Epoch {i}: train_loss={v:.3f}")
        )
        assert set(log.series) == {"train_loss"}


class TestTables:
    @pytest.mark.parametrize(
        ("header", "row"),
        [
            ("┃ step ┃ loss   ┃ val_loss ┃", "│ {i:4d} │ {v:.4f} │ {v:.4f} │"),
            ("# step loss val_loss", "{i} {v:.4f} {v:.4f}"),
        ],
    )
    def test_columns_drawn_with_lines_or_titled_in_a_comment(self, logged, header, row):
        log = logged(header + "\n" + written(row))
        assert log["val_loss"].step.tolist() == list(N)
        assert log["val_loss"].value == pytest.approx([2 / i for i in N], abs=1e-4)

    def test_rows_drawn_with_lines(self, logged):
        log = logged(written("━━━━\n│ epoch  │ {i}  │\n│ loss   │ {v:.3f}  │\nelse"))
        assert log.loss.epoch.tolist() == list(N)
