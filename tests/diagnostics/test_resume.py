"""Resume: every part that a save or a load forgets is named, and a true resume is believed."""

# ruff: noqa: NPY002 - the global stream is what real loops draw from
from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

import trainlab as tl
from benchmarks.resume_ablations import PARTS, Training, named, subsets
from trainlab.diagnostics.resume import contents
from trainlab.diagnostics.resume.state import carry_over, places, snapshot
from trainlab.errors import SubjectError, UsageError
from trainlab.finding import Level
from trainlab.testing import check_diagnostic

torch.set_num_threads(1)
resume = tl.resume


def test_it_keeps_the_contract():
    check_diagnostic(resume)


# --- ablations


@pytest.mark.parametrize(
    ("optimizer", "schedule", "side"), [("adamw", "warmup-cosine", "save"), ("sgd", "step", "load")]
)
@pytest.mark.parametrize(
    "dropped",
    [d for d in subsets() if len(d) <= 1 or len(d) == len(PARTS)],
    ids=lambda dropped: "-".join(sorted(dropped)) or "nothing",
)
def test_what_is_dropped_is_named(tmp_path, optimizer, schedule, side, dropped):
    found, examination = named(Training(optimizer, schedule, dropped, side), tmp_path)
    assert found == dropped
    assert examination.findings["RES006"].level == ("fail" if dropped else "ok")


@pytest.mark.parametrize("pair", list(itertools.combinations(PARTS, 2)), ids="-".join)
def test_two_that_are_dropped_are_both_named(tmp_path, pair):
    dropped = frozenset(pair)
    assert named(Training("adamw", "warmup-cosine", dropped, "load"), tmp_path)[0] == dropped


@pytest.mark.study
def test_every_subset_is_named(tmp_path):
    assert all(named(Training(dropped=dropped), tmp_path)[0] == dropped for dropped in subsets())


@pytest.mark.parametrize(
    ("dropped", "step"),
    [
        ("rng", 1),
        ("data", 1),
        ("optimizer", 2),
        ("scheduler", 3),
        ("buffers", None),
        ("ema", None),
        ("scaler", None),
    ],
)
def test_the_first_loss_that_differs_is_told(tmp_path, dropped, step):
    _, examination = named(Training(dropped=frozenset({dropped})), tmp_path)
    assert examination.result.first_difference() == step
    said = examination.findings["RES006"].text
    assert (
        f"part at step {step} of 6" if step else "all 6 losses are equal, but the final state is not"
    ) in said


# --- loops of other shapes


class Trainer:
    """A state as an object with everything inside, its shuffling from the global stream."""

    def __init__(self, momentum=0.9):
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optim = {"main": torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=momentum)}
        self.loader = DataLoader(
            TensorDataset(torch.arange(96.0).reshape(24, 4) / 96), batch_size=4, shuffle=True
        )
        self.iter, self.best_loss, self.history = 0, float("inf"), []


def object_loop(forget=()):
    """An epoch is one step here, so that the global stream alone decides on the order."""

    def start(path):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        state = Trainer()
        if path:
            saved = torch.load(path, weights_only=False)
            state.model.load_state_dict(saved["model"])
            state.optim["main"].load_state_dict(saved["optimizer"])
            for name in ("iter", "best_loss"):
                if name not in forget:
                    setattr(state, name, saved[name])
            if "numpy" not in forget:
                np.random.set_state(saved["numpy"])
            if "python" not in forget:
                random.setstate(saved["python"])
            if "rng" not in forget:
                torch.set_rng_state(saved["rng"])
        return state

    def step(state, n):
        for _ in range(n):
            for (x,) in state.loader:
                scale = 1 + 0.1 * np.random.rand() + 0.1 * random.random()
                loss = mse_loss(state.model(x * scale), x.sum(1, keepdim=True))
                state.optim["main"].zero_grad()
                loss.backward()
                state.optim["main"].step()
            state.iter += 1
            state.best_loss = min(state.best_loss, loss.item())
            state.history.append(loss.item())
        return state.history[-n:]

    def save(state, path):
        torch.save(
            {
                "model": state.model.state_dict(),
                "optimizer": state.optim["main"].state_dict(),
                "iter": state.iter,
                "best_loss": state.best_loss,
                "numpy": np.random.get_state(),
                "python": random.getstate(),
                "rng": torch.get_rng_state(),
            },
            path,
        )

    return {"start": start, "step": step, "save": save}


@pytest.fixture
def weights_file(tmp_path):
    torch.save({"model": nn.Linear(2, 2).state_dict()}, tmp_path / "w.pt")
    return str(tmp_path / "w.pt")


def replayed(loop, file, **settings):
    """The replay of a loop that begins a new run whatever it is given."""
    first = loop["start"]
    loop = {**loop, "start": lambda path: first(None if path == file else path)}
    return resume.examine(ckpt=file, **loop, **settings)


def test_an_object_that_shuffles_with_the_global_stream_resumes(weights_file):
    examination = replayed(object_loop(), weights_file)
    assert examination.findings["RES006"].level == "ok"
    assert examination.result.piece_name.count("data") == 1


@pytest.mark.parametrize("stream", ["rng", "numpy", "python"])
def test_each_global_stream_is_named(weights_file, stream):
    examination = replayed(object_loop(forget=[stream]), weights_file)
    assert examination.result.culprits() == ("RNG",)
    where = {"rng": "torch", "numpy": "numpy", "python": "python"}[stream]
    assert f"{where}'s global stream" in str(examination.findings["RES006"].evidence[0])


def test_a_count_that_is_lost_without_effect_is_a_warning(weights_file):
    finding = replayed(object_loop(forget=["best_loss", "iter"]), weights_file).findings["RES006"]
    assert finding.level == "warn"
    assert "counters are not restored, and may tell later" in finding.text
    assert "best_loss" in str(finding.evidence[0])
    assert "iter" in str(finding.evidence[0])


def plain_loop(**changes):
    """A dict as a state; without randomness."""

    def start(path):
        model = nn.Linear(2, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        state = {"model": model, "opt": torch.optim.Adam(model.parameters(), lr=0.1)}
        if path:
            saved = torch.load(path)
            model.load_state_dict(saved["model"])
            state["opt"].load_state_dict(saved["opt"])
        return state

    def step(state, n):
        losses = []
        for _ in range(n):
            loss = state["model"](torch.tensor([[1.0, 2.0]])).square().sum()
            state["opt"].zero_grad()
            loss.backward()
            state["opt"].step()
            losses.append(loss)
        return losses

    def save(state, path):
        torch.save({"model": state["model"].state_dict(), "opt": state["opt"].state_dict()}, path)

    return {"start": start, "step": step, "save": save, **changes}


def test_losses_may_be_tensors(weights_file):
    assert replayed(plain_loop(), weights_file).findings["RES006"].level == "ok"


def test_weights_that_are_not_loaded_are_named(weights_file):
    loop = plain_loop()

    def start(path):
        state = loop["start"](path)
        if path:
            nn.init.ones_(state["model"].weight)
        return state

    assert replayed({**loop, "start": start}, weights_file).result.culprits() == ("weights",)


def test_a_rate_that_is_set_by_hand_is_named(weights_file):
    loop = plain_loop()

    def start(path):
        state = loop["start"](path)
        if path:
            state["opt"].param_groups[0]["lr"] = 0.05
        return state

    examination = replayed({**loop, "start": start}, weights_file)
    assert examination.result.culprits() == ("learning rate",)
    assert "set no rate by hand" in examination.findings["RES006"].fix


def test_a_scheduler_that_is_made_after_loading_resets_the_rate(weights_file):
    """`LRScheduler.__init__` sets the rate of step 0, and its load_state_dict does not set it back."""
    loop = plain_loop()

    def start(path):
        state = loop["start"](path)
        warmup = LambdaLR(state["opt"], lambda taken: min(1, (taken + 1) / 50))
        if path:
            warmup.load_state_dict(torch.load(path)["sched"])
        return {**state, "sched": warmup}

    def step(state, n):
        losses = []
        for _ in range(n):
            losses += loop["step"](state, 1)
            state["sched"].step()
        return losses

    def save(state, path):
        loop["save"](state, path)
        torch.save({**torch.load(path), "sched": state["sched"].state_dict()}, path)

    examination = replayed({"start": start, "step": step, "save": save}, weights_file)
    assert examination.result.culprits() == ("learning rate",)
    assert examination.result.first_difference() == 2


def test_one_of_two_optimizers_is_told_by_its_place(weights_file):
    loop = plain_loop()

    def start(path):
        state = loop["start"](path)
        second = nn.Linear(2, 1)
        second.load_state_dict(state["model"].state_dict())
        return {**state, "critic": {"net": second, "opt": torch.optim.Adam(second.parameters())}}

    def step(state, n):
        loop["step"]({"model": state["critic"]["net"], "opt": state["critic"]["opt"]}, n)
        return loop["step"](state, n)

    def save(state, path):
        loop["save"](state, path)
        torch.save({**torch.load(path), "critic": state["critic"]["net"].state_dict()}, path)

    def load_critic(path):
        state = start(path)
        if path:
            state["critic"]["net"].load_state_dict(torch.load(path)["critic"])
        return state

    examination = replayed({"start": load_critic, "step": step, "save": save}, weights_file)
    assert examination.result.culprits() == ("optimizer",)
    assert examination.findings["RES006"].evidence[0].where == "optimizer (critic.opt)"


def test_what_hides_outside_the_state_is_said_to(weights_file):
    loop, outside = plain_loop(), {"factor": 1.0}

    def start(path):
        outside["factor"] = 2.0 if path else 1.0
        return loop["start"](path)

    def step(state, n):
        state["model"].weight.data.mul_(outside["factor"])
        return loop["step"](state, n)

    finding = replayed({**loop, "start": start, "step": step}, weights_file).findings["RES006"]
    assert finding.level == "fail"
    assert "nothing that could be carried over explains it" in finding.text
    assert "globals, closures" in finding.fix


def test_a_run_that_cannot_repeat_itself_is_no_judge(weights_file):
    loop, calls = plain_loop(), itertools.count(1)

    def step(state, n):
        state["model"].bias.data.add_(next(calls))
        return loop["step"](state, n)

    examination = replayed({**loop, "step": step}, weights_file)
    assert examination.findings["RES006"].level == "warn"
    assert "run twice, parts from itself" in examination.findings["RES006"].text
    assert examination.result.culprits() == ()


def test_a_save_that_changes_the_run_is_told(weights_file):
    loop = plain_loop()

    def save(state, path):
        loop["save"](state, path)
        state["model"].weight.data.mul_(0.5)

    finding = replayed({**loop, "save": save}, weights_file).findings["RES006"]
    assert finding.level == "fail"
    assert "saving changes the run" in finding.text


def test_losses_that_are_not_finite_prove_nothing(weights_file):
    loop = plain_loop()
    examination = replayed({**loop, "step": lambda state, n: [float("nan")] * n}, weights_file)
    assert examination.findings["RES006"].level == "warn"
    assert "no loss is finite" in examination.findings["RES006"].text


def endless(forget=()):
    """Batches from a Python generator, which can be neither copied nor read."""

    def batches(order):
        while True:
            for index in torch.randperm(8, generator=order).split(2):
                yield index.float()[:, None] / 8

    def start(path):
        state = {**plain_loop()["start"](None), "noise": torch.Generator().manual_seed(1), "taken": 0}
        saved = torch.load(path) if path else None
        if saved:
            state["model"].load_state_dict(saved["model"])
            state["opt"].load_state_dict(saved["opt"])
            if "noise" not in forget:
                state["noise"].set_state(saved["noise"])
        state["stream"] = iter(batches(torch.Generator().manual_seed(7)))
        if saved and "taken" not in forget:
            state["taken"] = saved["taken"]
            for _ in range(saved["taken"]):
                next(state["stream"])
        state["path"] = path
        return state

    def step(state, n):
        losses = []
        for _ in range(n):
            x = next(state["stream"]) + 0.01 * torch.randn(1, generator=state["noise"])
            state["taken"] += 1
            loss = state["model"](torch.cat([x, x], 1)).square().mean()
            state["opt"].zero_grad()
            loss.backward()
            state["opt"].step()
            losses.append(loss.item())
        return losses

    def save(state, path):
        torch.save({"model": state["model"].state_dict(), "opt": state["opt"].state_dict(), "noise": state["noise"].get_state(), "taken": state["taken"]}, path)  # fmt: skip

    return {"start": start, "step": step, "save": save}


def test_a_generator_function_as_the_data_resumes(weights_file):
    assert replayed(endless(), weights_file, steps=5).findings["RES006"].level == "ok"


def test_the_position_in_a_generator_function_is_named(weights_file):
    assert replayed(endless(forget=["taken"]), weights_file, steps=5).result.culprits() == ("data",)


def test_a_generator_of_the_loops_own_is_named_and_mended(weights_file):
    examination = replayed(endless(forget=["noise"]), weights_file)
    assert examination.result.culprits() == ("RNG",)
    assert examination.findings["RES006"].fix == "save noise.get_state(), and noise.set_state(…) when loading"


def test_what_belongs_to_others_is_not_looked_into():
    from tqdm import tqdm

    bar = tqdm(total=3, disable=True)
    found = places({"bar": bar, "folder": "runs/a", "epoch": 2, "opts": argparse.Namespace(lr=0.1)})
    assert [place.path for place in found] == ["epoch", "opts.lr"]


def test_a_clock_in_the_state_accuses_nobody(weights_file):
    loop, clock = plain_loop(), itertools.count()

    def start(path):
        return {**loop["start"](path), "started": next(clock)}

    assert replayed({**loop, "start": start}, weights_file).findings["RES006"].level == "ok"


def test_the_process_is_left_as_found(weights_file):
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    replayed(object_loop(), weights_file)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (random.getstate(), repr(np.random.get_state())) == before[1:]


def test_what_is_carried_over_shares_no_memory():
    training = Training()
    one, other = training.start(None), training.start(None)
    training.step(one, 3)
    carry_over(("optimizer", "weights", "EMA"), places(one), places(other), {})
    kept = snapshot(places(one))
    wanted = {key: value for key, value in kept.items() if key[0] in ("optimizer", "weights", "EMA")}
    assert wanted.items() <= snapshot(places(other)).items()
    training.step(other, 2)
    now = snapshot(places(one))
    assert all(now[key] == value for key, value in wanted.items())


# --- how a loop is named


@pytest.fixture
def loop_module(monkeypatch):
    module = types.ModuleType("shop_train")
    for name, function in plain_loop().items():
        function.__module__ = "shop_train"
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "shop_train", module)
    return module


def test_start_and_save_are_found_beside_step(weights_file, loop_module):
    begin = loop_module.start
    loop_module.start = lambda path: begin(None if path == weights_file else path)
    examination = resume.examine(ckpt=weights_file, step="shop_train:step")
    assert examination.findings["RES006"].level == "ok"


def test_a_loop_without_save_says_what_to_define(weights_file, loop_module):
    del loop_module.save
    with pytest.raises(SubjectError) as error:
        resume.examine(ckpt=weights_file, step="shop_train:step")
    assert str(error.value) == (
        "shop_train has no save beside its step\n"
        "  seen: functions: start, step\n"
        "  try:  define save(state, path) there, or name it: save='package.module:callable'"
    )


@pytest.mark.parametrize(
    ("changes", "wording"),
    [
        ({"step": lambda state, n: [0.0]}, "step(state, 6) returned 1 losses"),
        ({"save": lambda state, path: None}, "save(state, path) wrote nothing at the path"),
        ({"step": lambda state, n: state["optimiser"]}, "step(state, 6) failed: KeyError: 'optimiser'"),
    ],
)
def test_a_loop_that_breaks_the_protocol_is_told(weights_file, changes, wording):
    with pytest.raises(SubjectError) as error:
        replayed(plain_loop(**changes), weights_file)
    assert wording in str(error.value)


def test_a_replay_takes_a_step(weights_file):
    with pytest.raises(UsageError, match="at least one step"):
        resume.examine(ckpt=weights_file, steps=0)


# --- files


@pytest.fixture
def whole():
    """The content of a checkpoint that lacks nothing, after nine steps."""
    from trainlab.subjects.importing import seeded

    training = Training()
    with seeded():
        state = training.start(None)
        training.step(state, 9)
        return {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scheduler": state.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "iter": 9,
            "epoch": 1,
            "config": {"lr": 1e-2, "batch_size": 8, "seed": 3, "optim": {"warmup": 8}, "log_dir": "runs/a"},
        }


@pytest.fixture
def look(tmp_path, whole):
    """Examines the whole content with changes."""

    def examine(*without, settings=None, **changes):
        content = {name: value for name, value in {**whole, **changes}.items() if name not in without}
        torch.save(content, tmp_path / "last.pt")
        return resume.examine(ckpt=str(tmp_path / "last.pt"), **(settings or {}))

    return examine


def status(examination):
    return dict(zip(examination.result.part_name, examination.result.part_status, strict=True))


def test_a_whole_file_passes(look):
    examination = look()
    assert [finding.level for finding in examination.findings] == ["ok", "ok", "ok", "ok", "skip", "skip"]
    assert examination.verdict is Level.OK


@pytest.mark.parametrize(
    ("without", "part", "level", "fix"),
    [
        ("optimizer", "optimizer", "fail", "save 'optimizer': optimizer.state_dict()"),
        ("scheduler", "scheduler", "warn", "scheduler.load_state_dict(ckpt['scheduler'])"),
        ("rng", "RNG torch", "warn", "torch.set_rng_state(ckpt['rng'])"),
    ],
)
def test_a_missing_part_is_missed(look, without, part, level, fix):
    examination = look(without)
    finding = examination.findings["RES001"]
    assert (finding.level, status(examination)[part]) == (level, "missing")
    assert part in finding.text
    assert fix in finding.fix


def test_a_schedule_that_no_count_can_rebuild_is_lost(look):
    assert "only if it sets the schedule from the count" in look("scheduler").findings["RES001"].text
    assert look("scheduler", "iter", "epoch").findings["RES001"].level == "fail"


def test_a_pickled_module_is_a_skip(tmp_path):
    torch.save({"model": nn.Linear(2, 2), "iter": 3}, tmp_path / "a.pt")
    examination = resume.examine(ckpt=str(tmp_path / "a.pt"), trust=True)
    assert examination.verdict is Level.SKIP
    assert "holds a pickled module" in examination.findings[0].text


def test_schedules_in_a_list_and_counts_in_a_group_are_found(look, whole):
    states = {"param_schedulers": [{"last_step": 9, "base_values": [0.1]}]}
    assert status(look("scheduler", **states))["scheduler"] == "present"
    for state in whole["optimizer"]["state"].values():
        del state["step"]
    whole["optimizer"]["param_groups"][0]["step"] = 9
    assert "optimizer: step 9" in look().findings["RES002"].text


def test_without_any_count_the_data_position_is_missing(look):
    assert status(look("iter", "epoch"))["data position"] == "missing"
    assert status(look("iter"))["data position"] == "present"


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"precision": "16-mixed"}, "grad scaler"),
        ({"fp16": True}, "grad scaler"),
        ({"ema_decay": 0.999}, "EMA"),
        ({"device": "cuda:0"}, "RNG CUDA"),
    ],
)
def test_the_config_says_what_is_needed(look, config, part):
    assert status(look(config=config))[part] == "missing"


@pytest.mark.parametrize(
    "config", [{"precision": "bf16-mixed"}, {"fp16": False}, {"ema_decay": 0}, {"dim": 16}]
)
def test_what_the_run_has_not_got_is_not_missed(look, config):
    assert look(config=config).findings["RES001"].level == "ok"


def test_the_caller_can_say_what_is_needed(look):
    assert status(look(settings={"needs": "RNG numpy, ema"}))["EMA"] == "missing"
    with pytest.raises(UsageError, match="names no part 'rng nunpy'"):
        look(settings={"needs": "RNG nunpy"})


def test_a_shuffling_generator_is_not_the_models_stream(look):
    assert status(look("rng", data={"order": torch.Generator().get_state()}))["RNG torch"] == "missing"


def test_a_fresh_optimizer_under_an_old_count_is_a_disguise(look, whole):
    for state in whole["optimizer"]["state"].values():
        state["step"] = torch.tensor(4.0)
    finding = look(iter=15000).findings["RES002"]
    assert finding.level == "fail"
    assert "iter 15000, epoch 1, but optimizer: step 4, scheduler: last_epoch 9" in finding.text
    assert finding.evidence[0].limit == 15000


def test_a_scheduler_that_began_anew_is_told(look, whole):
    finding = look(iter=9, scheduler={**whole["scheduler"], "last_epoch": 4}).findings["RES002"]
    assert finding.level == "fail"
    assert "scheduler: last_epoch 4" in finding.text
    assert "scheduler.load_state_dict" in finding.fix


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"iter": 10}, "ok"),  # written after it was raised
        ({"iter": 36, "config": {"gradient_accumulation_steps": 4}}, "ok"),
        ({"iter": 36}, "warn"),  # four batches a step, or an optimizer that began anew
        ({"iter": 36, "config": {"gradient_accumulation_steps": 2}}, "fail"),
    ],
)
def test_batches_per_step_explain_a_multiple(look, changes, level):
    assert look(**changes).findings["RES002"].level == level


def adam(steps, lr=0.1, schedule=None):
    """Saved states of an optimizer that took some steps, and of its scheduler."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=lr)
    scheduler = schedule(optimizer) if schedule else None
    for _ in range(steps):
        weight.grad = torch.ones(3)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return optimizer.state_dict(), scheduler.state_dict() if scheduler else None


@pytest.mark.parametrize(
    ("count", "generator", "critic", "level"),
    [
        (10, 10, 50, "ok"),  # the critic takes five steps for each
        (20, 10, 10, "ok"),  # Lightning counts both
        (10, 10, 10, "ok"),
        (40, 40, 27, "fail"),  # the critic began anew
    ],
)
def test_two_optimizers_may_keep_different_counts(look, count, generator, critic, level):
    optimizers = {"opt_g": adam(generator)[0], "opt_d": adam(critic)[0]}
    findings = look("optimizer", "scheduler", "epoch", **optimizers, iter=count).findings
    assert findings["RES002"].level == level


def test_schedulers_find_their_optimizers_in_any_order(look):
    one, its = adam(10, 0.1, lambda o: StepLR(o, 3))
    other, others = adam(10, 0.5, lambda o: CosineAnnealingLR(o, 40))
    plain = adam(10, 0.7)[0]
    content = {"opt_a": one, "opt_b": other, "opt_c": plain, "sched_b": others, "sched_a": its}
    finding = look("optimizer", "scheduler", "config", **content, iter=10).findings["RES003"]
    assert finding.level == "ok", finding
    other["param_groups"][0]["lr"] = 0.3
    assert look("optimizer", "scheduler", "config", **content, iter=10).findings["RES003"].level == "fail"


def test_a_scaler_may_have_skipped_some_steps(look, whole):
    for state in whole["optimizer"]["state"].values():
        state["step"] = torch.tensor(990.0)
    scaler = torch.amp.GradScaler("cpu").state_dict()
    counts = {"iter": 1000, "scheduler": {**whole["scheduler"], "last_epoch": 1000}}
    assert look(**counts, scaler=scaler).findings["RES002"].level == "ok"
    assert look(**counts).findings["RES002"].level == "fail"


def test_a_scheduler_may_count_epochs(look, whole):
    scheduler = {**whole["scheduler"], "last_epoch": 4}
    assert look(epoch=4, iter=9, scheduler=scheduler).findings["RES002"].level == "ok"


def test_four_hundred_epochs_take_more_than_nine_steps(look):
    finding = look("iter", "scheduler", epoch=400).findings["RES002"]
    assert finding.level == "fail"
    assert "epoch 400, but optimizer: step 9" in finding.text


def test_a_rate_that_its_scheduler_did_not_set_is_told(look, whole):
    whole["optimizer"]["param_groups"][0]["lr"] = 3e-4
    finding = look().findings["RES003"]
    assert finding.level == "fail"
    assert "the optimizer's lr is 0.0003, its scheduler set 0.009985" in finding.text


def test_a_schedule_that_is_not_the_configs_is_told(look):
    finding = look(config={"lr": 0.5}).findings["RES003"]
    assert finding.level == "warn"
    assert "built on lr 0.01, the stored config says 0.5" in finding.text


def test_moments_that_are_all_zeros_are_fresh(look, whole):
    for state in whole["optimizer"]["state"].values():
        state["exp_avg"].zero_()
    finding = look().findings["RES004"]
    assert finding.level == "fail"
    assert "moments that are all zeros after 9 steps" in finding.text


def test_an_empty_optimizer_is_fresh_unless_nothing_has_begun(look, whole):
    whole["optimizer"]["state"].clear()
    assert look().findings["RES004"].level == "fail"
    assert look(iter=0, epoch=0).findings["RES004"].level == "skip"


def test_a_parameter_without_state_is_named(look, whole):
    del whole["optimizer"]["state"][3]
    finding = look().findings["RES004"]
    assert finding.level == "warn"
    assert "no state for 1.bias" in finding.text
    assert (finding.evidence[0].value, finding.evidence[0].limit) == (5, 6)


def test_plain_sgd_keeps_no_history(tmp_path):
    model = nn.Linear(2, 2)
    state = {
        "model": model.state_dict(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=1.0).state_dict(),
    }
    torch.save({**state, "iter": 50, "rng": torch.get_rng_state()}, tmp_path / "a.pt")
    findings = resume.examine(ckpt=str(tmp_path / "a.pt")).findings
    assert findings["RES004"].text == "plain SGD keeps no history"
    assert findings.verdict is Level.OK


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 3),
        lambda o: CosineAnnealingLR(o, 50),
        lambda o: OneCycleLR(o, max_lr=0.1, total_steps=40),
        ReduceLROnPlateau,
        lambda o: SequentialLR(o, [StepLR(o, 3), CosineAnnealingLR(o, 9)], [4]),
    ],
    ids=["step", "cosine", "one-cycle", "plateau", "sequential"],
)
def test_no_schedule_of_torch_is_accused(tmp_path, make):
    model = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = make(optimizer)
    for _ in range(10):
        cross_entropy(model(torch.randn(4, 3)), torch.arange(4) % 3).backward()
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    content = {
        "model": model.state_dict(),
        "opt": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
    }
    torch.save(
        {**content, "step": 10, "rng": torch.get_rng_state(), "config": {"lr": 0.1}}, tmp_path / "a.pt"
    )
    findings = resume.examine(ckpt=str(tmp_path / "a.pt")).findings
    assert [finding.level for finding in findings][:4] == ["ok"] * 4, str(findings)


def test_a_trainer_folder_is_read(tmp_path, whole):
    folder = tmp_path / "checkpoint-9"
    folder.mkdir()
    save_file(whole["model"], folder / "model.safetensors")
    torch.save(whole["optimizer"], folder / "optimizer.pt")
    torch.save(whole["scheduler"], folder / "scheduler.pt")
    streams = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    torch.save(streams, folder / "rng_state.pth")
    state = {
        "global_step": 9,
        "epoch": 1.5,
        "max_steps": 40,
        "save_steps": 3,
        "log_history": [{"step": 3, "epoch": 1}],
    }
    (folder / "trainer_state.json").write_text(json.dumps(state))
    examination = resume.examine(ckpt=str(folder))
    assert examination.verdict is Level.OK, str(examination)
    assert [status(examination)[f"RNG {name}"] for name in ("torch", "numpy", "python")] == ["present"] * 3
    assert "trainer_state.global_step 9" in examination.findings["RES002"].text
    (folder / "scheduler.pt").unlink()
    assert "lacks scheduler" in resume.examine(ckpt=str(folder)).findings["RES001"].text


def test_a_lightning_file_is_read(tmp_path, whole):
    progress = {"total": {"ready": 9, "completed": 9}, "current": {"ready": 9, "completed": 9}}
    content = {
        "pytorch-lightning_version": "2.4",
        "epoch": 1,
        "global_step": 9,
        "state_dict": whole["model"],
        "optimizer_states": [whole["optimizer"]],
        "lr_schedulers": [whole["scheduler"]],
        "loops": {
            "fit_loop": {"epoch_loop.batch_progress": progress, "epoch_loop.scheduler_progress": progress}
        },
        "hyper_parameters": {"lr": 0.01},
    }
    torch.save(content, tmp_path / "a.ckpt")
    examination = resume.examine(ckpt=str(tmp_path / "a.ckpt"))
    assert [finding.level for finding in examination.findings][:4] == ["warn", "ok", "ok", "ok"], str(
        examination
    )
    assert examination.findings["RES001"].text.startswith("lacks RNG torch:")


def test_bare_weights_lack_all_the_rest(weights_file):
    examination = resume.examine(ckpt=weights_file)
    assert "lacks optimizer, RNG torch and data position" in examination.findings["RES001"].text
    assert examination.verdict is Level.FAIL


def test_what_is_no_torch_file_has_no_more_than_weights(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    ckpt = tl.open_checkpoint(tmp_path / "a.safetensors")
    assert contents.contents(ckpt) == {}
    assert resume.examine(ckpt=ckpt).findings["RES001"].level == "fail"


# --- settings


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({"lr": "1e-2", "batch_size": 8.0}, "ok"),
        ("--lr 1e-2 --batch-size 8 --log-dir runs/b", "ok"),
        ("train.py lr=0.01 optim.warmup=8", "ok"),
        ("--warmup 8", "ok"),  # matched by its last part
        (argparse.Namespace(lr=3e-4, seed=3), "fail"),
        ("--warmup=80", "fail"),
        ("--flavour mint", "warn"),
    ],
    ids=str,
)
def test_the_config_in_use_is_compared(look, config, level):
    assert look(settings={"config": config}).findings["RES005"].level == level


def test_what_breaks_is_told_from_what_does_not(look):
    config = {"lr": 3e-4, "seed": 4, "log_dir": "runs/b", "batch_size": 8}
    examination = look(settings={"config": config})
    finding = examination.findings["RES005"]
    assert finding.text == "lr 0.01 → 0.0003, seed 3 → 4; 1 harmless differences"
    assert finding.fix == "use the stored values: lr=0.01 seed=3"
    assert examination.result.rows("setting")[-1] == {
        "name": "log_dir", "stored": "runs/a", "now": "runs/b", "effect": "harmless",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "lr: 1e-3\n"), ("a.json", '{"lr": 0.001}'), ("a.toml", "lr = 0.001\n")],
)
def test_a_config_file_is_read(look, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    finding = look(settings={"config": str(tmp_path / name)}).findings["RES005"]
    assert "lr 0.01 → " in finding.text


@pytest.mark.parametrize(
    ("config", "wording"),
    [("nowhere.yaml", "there is no config nowhere.yaml"), ("what is this", "neither a file nor arguments")],
)
def test_a_config_that_cannot_be_read_is_told(look, config, wording):
    with pytest.raises((SubjectError, UsageError), match=wording):
        look(settings={"config": config})


def test_a_file_without_a_config_cannot_be_compared(look):
    finding = look("config", settings={"config": {"lr": 1.0}}).findings["RES005"]
    assert finding.level == "skip"
    assert "stores no config" in finding.text


# --- results and views


def test_without_a_loop_the_replay_is_skipped_and_says_how(look):
    examination = look()
    assert "step='package.module:step'" in examination.findings["RES006"].text
    assert "no training loop was named" in examination.plot("losses").axes[0].texts[0].get_text()


def test_the_bare_example_names_its_fault():
    examination = resume.examine()
    assert examination.result.culprits() == ("scheduler",)
    assert examination.plot("losses").axes[0].get_title(loc="left") == "Not restored: scheduler"
    again = type(examination.result).from_dict(json.loads(json.dumps(examination.result.to_dict())))
    assert resume.judge(again).to_dict() == examination.findings.to_dict()


def test_a_nan_equals_itself(look):
    result = dataclasses.replace(look().result, replay_reason="", step_uninterrupted=np.array([1, np.nan, 2]), step_resumed=np.array([1, np.nan, 3]))  # fmt: skip
    assert result.first_difference() == 3


def test_the_example_leaves_nothing_behind():
    folder = Path(resume.example()["ckpt"].path).parent
    assert [file.name for file in folder.iterdir()] == ["last.pt"]
