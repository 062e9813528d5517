"""A run: its schedule, its steps, its folder, and that it can go on from what it wrote."""

from __future__ import annotations

import json
import math

import pytest
import torch

from trainlab.errors import TrainlabError, UsageError
from trainlab.examples.digits import Config, build, one_batch, train
from trainlab.examples.digits.data import digits
from trainlab.examples.digits.evaluation import ahead, evaluate
from trainlab.examples.digits.run import Run, lr_share

SMALL = {
    "frames": 4, "patch": 4, "dim": 16, "depth": 2, "heads": 2, "batch": 4, "steps": 6, "save_every": 3,
    "warmup": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A short run's folder."""
    return train(tmp_path_factory.mktemp("runs") / "short", seed=5, config=SMALL).parent


@pytest.fixture(scope="module")
def glyphs():
    return digits(held_out=False)


def opened(path):
    return torch.load(path, weights_only=True)


def test_the_schedule_warms_up_falls_as_a_cosine_and_ends_on_its_floor():
    config = Config(steps=110, warmup=10, lr_floor=0.1)
    assert [lr_share(step, config) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert lr_share(10, config) == pytest.approx(1.0)
    assert lr_share(35, config) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert lr_share(60, config) == pytest.approx(0.55)
    assert lr_share(110, config) == lr_share(500, config) == pytest.approx(0.1)


def test_the_optimizer_follows_the_schedule(glyphs):
    config = Config.of(SMALL)
    run = Run.start(config)
    assert [run.step(glyphs)["lr"] for _ in range(6)] == pytest.approx(
        [config.lr * lr_share(step, config) for step in range(6)]
    )


def test_a_run_is_the_same_from_the_same_seed(glyphs):
    first, again, other = (Run.start(Config.of({**SMALL, "seed": seed})) for seed in (3, 3, 4))
    assert [first.step(glyphs) for _ in range(3)] == [again.step(glyphs) for _ in range(3)]
    assert not torch.equal(first.model.embed.weight, other.model.embed.weight)


def test_starting_a_run_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    Run.start(Config.of(SMALL))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_short_training_lowers_the_held_out_loss(glyphs):
    run = Run.start(Config.of({**SMALL, "steps": 60, "lr": 1e-2}))
    before = evaluate(run.model, run.config)
    for _ in range(60):
        run.step(glyphs)
    after = evaluate(run.model, run.config)
    assert after.loss < 0.5 * before.loss
    assert after.next_mean == before.next_mean
    assert 0 < after.loss_mean < after.next_copy


def test_a_loss_that_is_not_finite_stops_the_run(glyphs):
    run = Run.start(Config.of(SMALL))
    torch.nn.init.constant_(run.model.head.out.bias, torch.nan)
    with pytest.raises(TrainlabError, match="not finite at step 1") as error:
        run.step(glyphs)
    assert "try:  lower lr" in str(error.value)


def test_autocast_is_a_setting(glyphs):
    run = Run.start(Config.of({**SMALL, "autocast": True}))
    seen = []
    run.model.head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    assert math.isfinite(run.step(glyphs)["loss"])
    assert seen == [torch.bfloat16]


def test_a_folder_holds_checkpoints_logs_picture_and_recipe(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.pt", "log.jsonl", "run.json", "step_0000.pt", "step_0003.pt", "step_0006.pt", "strip.png",
        "train.log", "trainlab.toml",
    ]  # fmt: skip


def test_a_checkpoint_opens_weights_only_and_rebuilds_to_the_bit(folder):
    checkpoint = opened(folder / "last.pt")
    assert set(checkpoint) == {"model", "optimizer", "scheduler", "rng", "iter", "epoch", "config"}
    assert (checkpoint["iter"], checkpoint["epoch"]) == (6, 0)
    assert checkpoint["config"] == json.loads((folder / "run.json").read_text())
    assert (checkpoint["config"]["seed"], checkpoint["config"]["twin"]) == (5, None)
    outputs = []
    batch = one_batch(checkpoint["config"])
    for path in (folder / "last.pt", folder / "step_0006.pt"):
        model = build(checkpoint["config"])
        model.load_state_dict(opened(path)["model"])
        outputs.append(model(batch["x"], batch["tau"]))
    assert torch.equal(*outputs)
    assert outputs[0].any()


def test_a_checkpoint_holds_all_that_a_run_needs_to_go_on(folder, glyphs):
    checkpoint = opened(folder / "step_0003.pt")
    run = Run.start(Config.of(checkpoint["config"]))
    run.model.load_state_dict(checkpoint["model"])
    run.optimizer.load_state_dict(checkpoint["optimizer"])
    run.scheduler.load_state_dict(checkpoint["scheduler"])
    run.rng.set_state(checkpoint["rng"])
    run.iter = checkpoint["iter"]
    for _ in range(3):
        run.step(glyphs)
    whole = opened(folder / "last.pt")
    assert run.iter == whole["iter"]
    assert torch.equal(run.rng.get_state(), whole["rng"])
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, whole["model"][name]), name


def test_the_step_0_checkpoint_is_the_model_at_init(folder):
    checkpoint = opened(folder / "step_0000.pt")
    assert checkpoint["iter"] == 0
    assert not checkpoint["model"]["head.out.weight"].any()


def test_the_logs_say_the_same(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [record["iter"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert list(records[0]) == [
        "iter", "epoch", "loss", "grad_norm", "lr", "tau_min", "tau_mean", "tau_max", "steps_per_s",
    ]  # fmt: skip
    assert all(0 <= r["tau_min"] <= r["tau_mean"] <= r["tau_max"] <= 1 for r in records)
    last, verdict = (folder / "train.log").read_text().splitlines()
    words = dict(word.split("=") for word in last.split())
    assert words.pop("iter") == "6/6"
    assert {name: float(word) for name, word in words.items()} == pytest.approx(
        {name: records[-1][name] for name in words}, rel=1e-3
    )
    assert verdict.startswith("held-out loss ")
    assert "predict the mean" in verdict


def test_the_recipe_names_what_is_there(folder):
    import tomllib

    recipe = tomllib.loads((folder / "trainlab.toml").read_text())
    assert recipe == {
        "model": "trainlab.examples.digits:build",
        "batch": "trainlab.examples.digits:one_batch",
    }


def test_a_finished_run_is_left_as_it_is_and_another_config_trains_anew(tmp_path):
    last = train(tmp_path, config=SMALL, steps=2)
    written = last.stat().st_mtime_ns
    assert train(tmp_path, config=SMALL, steps=2) == last
    assert last.stat().st_mtime_ns == written
    train(tmp_path, config=SMALL, steps=3)
    assert opened(last)["iter"] == 3


def test_a_run_that_was_cut_off_trains_anew(tmp_path):
    last = train(tmp_path, config=SMALL, steps=2)
    (tmp_path / "run.json").unlink()
    written = last.stat().st_mtime_ns
    train(tmp_path, config=SMALL, steps=2)
    assert last.stat().st_mtime_ns > written


def test_an_unknown_twin_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="no such twin") as error:
        train(tmp_path / "run", twin="dead_rely", config=SMALL)
    assert "did you mean 'dead_relu'?" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_one_frame_ahead_is_predicted_from_clean_frames_alone():
    clips = one_batch()["target"][:2]
    seen = []

    def copy_previous(x, tau):
        seen.append((x, tau[0].tolist()))
        return x.roll(1, dims=1)

    predicted = ahead(copy_previous, clips)
    assert torch.equal(predicted[:, 1:], clips[:, :-1])
    assert [tau for _, tau in seen] == [[0] * known + [1] * (16 - known) for known in range(16)]
    assert all(not torch.equal(x[:, known], clips[:, known]) for known, (x, _) in enumerate(seen))
