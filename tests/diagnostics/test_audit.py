"""The audit: what it infers of a file, what it reads in a log, each rule on planted folders, and the lost checkpoint."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.audit_corpus import FACTS, SCENE, healthy_folders, lost_scene
from trainlab.diagnostics.audit import AuditResult, diagnostic
from trainlab.diagnostics.audit.example import transformer, write_checkpoint
from trainlab.diagnostics.audit.expect import Expected, expected
from trainlab.diagnostics.audit.inside import look, numbers_in_name
from trainlab.diagnostics.audit.logs import claims
from trainlab.diagnostics.audit.runs import run_of, twice_in
from trainlab.errors import SubjectError, UsageError
from trainlab.testing import check_diagnostic

SHAPES = transformer(16, 3)
NOON = 1_750_000_000.0
CONFIG = {"hidden_dim": 16, "layers": 3}


def plant(folder: Path, epochs=(5, 10, 15, 20), **beside) -> Path:
    """A healthy run: a file every five epochs, an hour apart."""
    for epoch in epochs:
        write_checkpoint(
            folder / f"epoch_{epoch}.pt",
            SHAPES,
            when=NOON + epoch * 720,
            epoch=epoch,
            iter=epoch * 10,
            config=CONFIG,
            **beside,
        )
    return folder


def audit(given, limits=None, **settings):
    return diagnostic.examine(ckpts=given, limits=limits, **settings).findings


def cut(path: Path, share: float = 0.5) -> None:
    raw = path.read_bytes()
    when = path.stat().st_mtime
    path.write_bytes(raw[: int(len(raw) * share)])
    os.utime(path, (when, when))


# --- the contract, and what it costs


def test_it_keeps_the_contract():
    check_diagnostic(diagnostic)


def test_it_needs_no_torch(fresh_modules, tmp_path):
    plant(tmp_path)
    loaded = fresh_modules(
        "from trainlab.diagnostics.audit import diagnostic\n"
        f"found = diagnostic.examine(ckpts={str(tmp_path)!r}, expect={{'epoch': 20}}, verify=True)\n"
        "assert found.verdict == 'ok', found\n"
        "found.plot('timeline').png(), found.plot('inventory').png()\n"
    )
    assert not {"torch", "pandas", "seaborn", "IPython", "papermill", "matplotlib.pyplot"} & loaded


def test_nothing_of_a_file_is_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/was-run",))

    torch.save({"model": {"a.weight": torch.zeros(4, 4)}, "bomb": Bomb()}, tmp_path / "model.pt")
    assert audit(tmp_path)["AUD001"].level == "ok"
    assert not (tmp_path / "was-run").exists()


# --- what is in a file


def row(path: Path, **expect):
    return look(path, expected(expect), check=False)[0]


def test_a_checkpoint_of_torch_is_read_whole(tmp_path):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 2, 96, batch_first=True), 5)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 24)).sum().backward()
    for _ in range(7):
        optimizer.step()
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "a.pt"
    )
    seen = row(tmp_path / "a.pt")
    count = sum(each.numel() for each in model.parameters())
    assert (seen.epoch, seen.iter, seen.width, seen.depth) == (3, 7, 24, 5)
    assert (seen.parameters, seen.weights, seen.optimizer) == (count, 4 * count, "AdamW")
    assert seen.optimizer_bytes == pytest.approx(8 * count, rel=0.01)
    assert (seen.state, seen.dtypes) == ("whole", "float32")
    assert "weights" in seen.width_from
    assert seen.depth_from == "5 model.layers"


def test_the_config_is_believed_where_a_tensor_has_such_a_side(tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", SHAPES, config={"model": {"d_model": 16, "n_layers": 3}})
    seen = row(path)
    assert (seen.width, seen.width_from) == (16, "config model.d_model")
    assert (seen.depth, seen.depth_from, seen.config) == (3, "config model.n_layers", "")


def test_a_config_that_no_tensor_agrees_with_is_not_believed(tmp_path):
    seen = row(write_checkpoint(tmp_path / "a.pt", SHAPES, config={"hidden_dim": 768, "layers": 12}))
    assert (seen.width, seen.depth) == (16, 3)
    assert (
        seen.config
        == "hidden_dim=768, no tensor has a side of 768; layers=12, the weights have 3 model.blocks"
    )


def test_the_callers_own_word_for_the_width_comes_first(tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", SHAPES, config={"hidden_dim": 64, "d_model": 16})
    assert row(path, hidden_dim=64).width == 64
    assert row(path, d_model=16).width == 16


def test_where_votes_spread_no_width_is_told(tmp_path):
    shapes = {f"conv{i}.weight": (2 ** (i + 1), 2**i, 3, 3) for i in range(2, 9)}
    seen = row(write_checkpoint(tmp_path / "a.pt", shapes))
    assert (seen.width, seen.depth) == (-1, -1)


def test_of_an_optimizer_alone_no_width_is_told(tmp_path):
    parameter = nn.Parameter(torch.zeros(8, 8))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(8, 8)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    seen = row(tmp_path / "optimizer.pt")
    assert (seen.width, seen.parameters, seen.iter, seen.optimizer) == (-1, -1, 1, "Adam")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("epoch_012.pt", (12, -1)),
        ("model-ep7.pth", (7, -1)),
        ("epoch=3-step=900.ckpt", (3, 900)),
        ("checkpoint-500", (-1, 500)),
        ("step_4000.pt", (-1, 4000)),
        ("e2e_model.pt", (-1, -1)),
        ("lr=1e-4.pt", (-1, -1)),
        ("best.pt", (-1, -1)),
    ],
)
def test_numbers_in_names(name, found):
    assert numbers_in_name(name) == found


# --- which run, which place


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("epoch_5.pt", "."),
        ("checkpoints/best.pt", "."),
        ("a/checkpoints/epoch_5.pt", "a"),
        ("runs/1/last.pt", "runs/1"),
        ("a_last.pt", "a"),
        ("hidden512_last.pt", "hidden512"),
        ("trainer/checkpoint-500", "trainer"),
    ],
)
def test_the_run_of_a_file(name, run):
    assert run_of(name) == run


@pytest.mark.parametrize(
    ("folder", "below", "twice"),
    [
        ("/x/experiments/m/experiments/m", 2, "experiments/m"),
        ("/data/me/shop/shop/runs", 6, ""),
        ("/data/me/runs/runs", 3, "runs"),
        ("/data/1/1/a", 2, ""),
        ("/a/b/c", 2, ""),
    ],
)
def test_folders_that_a_path_goes_through_twice(folder, below, twice):
    assert twice_in(folder, below) == twice


def test_a_glob_takes_only_what_matches(tmp_path):
    for run in "ab":
        plant(tmp_path / run)
        write_checkpoint(tmp_path / run / "last.pt", SHAPES, iter=15000)
    result = diagnostic.probe(tmp_path / "*" / "last.pt", expect={"iter": 15000})
    assert result.file_name == ("a/last.pt", "b/last.pt")
    assert result.reached([0], "iter") == 0
    assert audit(f"{tmp_path}/*/last.pt", expect={"iter": 15000})["AUD002"].level == "ok"


def test_several_files_and_a_link_are_told_once(tmp_path):
    plant(tmp_path)
    (tmp_path / "latest.pt").symlink_to(tmp_path / "epoch_20.pt")
    assert diagnostic.probe(tmp_path).file_name == ("epoch_5.pt", "epoch_10.pt", "epoch_15.pt", "epoch_20.pt")
    two = diagnostic.probe([tmp_path / "epoch_5.pt", tmp_path / "epoch_10.pt"])
    assert two.file_name == ("epoch_5.pt", "epoch_10.pt")


def test_one_file_in_a_folder_of_checkpoints_is_told_beside_the_log_above(tmp_path):
    plant(tmp_path / "run" / "checkpoints", epochs=(5,))
    (tmp_path / "run" / "train.log").write_text("Epoch 400/400\n")
    result = diagnostic.probe(tmp_path / "run" / "checkpoints" / "epoch_5.pt")
    assert result.file_name == ("checkpoints/epoch_5.pt",)
    assert result.claim_log == ("train.log",)


def test_other_files_of_these_suffixes_are_no_checkpoints(tmp_path):
    plant(tmp_path)
    (tmp_path / "train.bin").write_bytes(os.urandom(100))
    (tmp_path / "movie.ts").write_bytes(b"\x47" * 188)
    findings = audit(tmp_path)
    assert findings.verdict == "ok"
    assert findings["AUD001"].text.startswith("4 files can be opened")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing/run", "there is no folder"),
        ("epoch_6.pt", "did you mean 'epoch_5.pt'?"),
        ("*.ckpt", "nothing matches"),
    ],
)
def test_what_is_not_there_is_told(tmp_path, name, words):
    plant(tmp_path, epochs=(5,))
    with pytest.raises(SubjectError) as error:
        diagnostic.probe(tmp_path / name)
    assert words in str(error.value)


def test_a_folder_without_checkpoints_is_a_skip_or_what_was_expected_is_missing(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    examination = diagnostic.examine(ckpts=tmp_path)
    assert examination.verdict == "skip"
    assert "there is no checkpoint in" in examination.findings[0].text
    findings = audit(tmp_path, expect={"count": 80, "epoch": 400})
    assert findings["AUD009"].text == "0 checkpoints, not 80"
    assert findings["AUD002"].level == "fail"


# --- expectations


def test_expectations_are_typed():
    found = expected(
        {"epochs": 400, "d_model": 768, "n_layer": 12, "size": "1GB", "total": "1.5 GiB", "files": "a.log"}
    )
    assert found == Expected(
        epoch=400, width=768, width_key="d_model", depth=12, depth_key="n_layer", size=10**9, total=3 * 2**29,
        files=("a.log",),
    )  # fmt: skip
    assert expected(None) == Expected()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epok": 4}, "did you mean 'epoch'?"),
        ({"epoch": "four"}, "expect's 'epoch' is a number above 0"),
        ({"epoch": True}, "expect's 'epoch' is a number above 0"),
        ({"size": "big"}, "size: 1GB, or 63.1 MB"),
        ({"files": 3}, "expect's 'files' is a list of names"),
        ({"epoch": 4, "epochs": 5}, "expect names the epoch twice"),
    ],
)
def test_expectations_that_make_no_sense_are_refused(given, words):
    with pytest.raises(UsageError) as error:
        expected(given)
    assert words in str(error.value)


# --- logs


@pytest.mark.parametrize(
    ("line", "kind", "value", "of"),
    [
        ("Epoch 400/400: 100%|██████| 10/10 [00:01]", "epoch", 400, 400),
        ("[epoch 3 of 10] loss 0.1", "epoch", 3, 10),
        ("epoch: 37, loss 0.2", "epoch", 37, -1),
        ("{'loss': 0.1, 'epoch': 3.0}", "epoch", 3, -1),
        ("step 15000/15000 | loss 2.1", "iter", 15000, 15000),
        ("iter=1,500 lr=1e-4", "iter", 1500, -1),
        ('{"global_step": 77}', "iter", 77, -1),
        ("Training completed!", "finished", -1, -1),
        ("`Trainer.fit` stopped: `max_epochs=40` reached.", "finished", -1, -1),
        ("Saved checkpoint to runs/a/epoch_40.pt", "saved", -1, -1),
        ("torch.OutOfMemoryError: CUDA out of memory.", "error", -1, -1),
    ],
)
def test_what_a_log_claims(tmp_path, line, kind, value, of):
    log = tmp_path / "train.log"
    log.write_text(f"start\n{line}\n")
    (found,) = claims(log)
    assert (found.kind, found.value, found.of, found.line) == (kind, value, of, 2)


def test_prose_and_binary_claim_nothing(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("steps to take: none; the epochal loss; timesteps 5\n")
    assert claims(log) == []
    log.write_bytes(b"\0\1Epoch 4/4")
    assert claims(log) == []


def test_a_long_log_is_read_at_both_ends(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("Epoch 1/9\n" + "x" * 5_000_000 + "\nEpoch 9/9\n")
    (found,) = claims(log)
    assert (found.value, found.line) == (9, 0)


# --- rules


def test_a_healthy_run_as_expected_is_left_alone(tmp_path):
    plant(tmp_path)
    (tmp_path / "training.log").write_text("Epoch 20/20: 100%\nTraining completed!\n")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "a.png").write_bytes(b"x")
    findings = audit(
        tmp_path,
        verify=True,
        expect={
            "epoch": 20, "iter": 200, "hidden_dim": 16, "layers": 3, "every_epochs": 5, "count": 4,
            "size": (tmp_path / "epoch_20.pt").stat().st_size, "files": ["training.log", "epoch_*.pt"],
        },
    )  # fmt: skip
    assert {finding.level for finding in findings} == {"ok"}, str(findings)
    assert "4 with good checksums" in findings["AUD001"].text


def test_healthy_folders_of_many_kinds_are_left_alone(tmp_path):
    told = {folder.name: audit(folder) for folder in healthy_folders(tmp_path)}
    assert {name: each.headline for name, each in told.items() if each.verdict != "ok"} == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1000\n", "git-LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "HTML page"),
        (bytes(5000), "only zeros"),
        (b"", "empty"),
    ],
)
def test_aud001_names_a_file_for_what_it_is(tmp_path, content, words):
    plant(tmp_path)
    (tmp_path / "epoch_10.pt").write_bytes(content)
    finding = audit(tmp_path)["AUD001"]
    assert finding.level == "fail"
    assert [each.where for each in finding.evidence] == ["epoch_10.pt"]
    assert words in finding.evidence[0].value


def test_aud001_finds_a_flipped_byte_where_it_is_asked_to(tmp_path):
    plant(tmp_path)
    path = tmp_path / "epoch_10.pt"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert audit(tmp_path)["AUD001"].level == "ok"
    finding = audit(tmp_path, verify=True)["AUD001"]
    assert "its bytes are not what was written: 1 of" in finding.evidence[0].value


def test_aud002_compares_each_run_with_what_is_expected(tmp_path):
    plant(tmp_path / "a")
    plant(tmp_path / "b", epochs=(5, 10))
    finding = audit(tmp_path, expect={"epoch": 20})["AUD002"]
    assert (finding.level, [str(each) for each in finding.evidence]) == (
        "fail",
        ["b/epoch_10.pt = 10 (limit 20)"],
    )
    assert "1 of 2 runs (b)" in finding.text
    assert audit(tmp_path / "a", expect={"epoch": 21})["AUD002"].level == "ok"  # counted from 0
    assert audit(tmp_path / "a")["AUD002"].level == "skip"
    write_checkpoint(tmp_path / "c" / "model.pt", SHAPES, adam=False)
    assert (
        "no file that can be loaded says its epoch"
        in audit(tmp_path / "c", expect={"epoch": 20})["AUD002"].text
    )


def test_aud003_a_finished_log_needs_its_checkpoint(tmp_path):
    log = plant(tmp_path) / "train.log"
    log.write_text("Epoch 400/400: 100%\nTraining completed!\n")
    finding = audit(tmp_path)["AUD003"]
    assert finding.level == "fail"
    assert (
        finding.text
        == "the log says 'Epoch 400/400: 100%' and 'Training completed!', and the furthest file holds epoch 20"
    )
    log.write_text("Epoch 24/400\n")  # the next one is due at 25
    assert audit(tmp_path)["AUD003"].level == "ok"
    log.write_text("Epoch 31/400\n")
    assert audit(tmp_path)["AUD003"].level == "warn"
    log.write_text("Saved checkpoint to /data/run/epoch_25.pt\n")
    assert "/data/run/epoch_25.pt was saved, and it is not here" in audit(tmp_path)["AUD003"].text
    log.write_text("Saved checkpoint to /data/run/epoch_20.pt\n")
    assert audit(tmp_path)["AUD003"].level == "ok"
    log.unlink()
    assert audit(tmp_path)["AUD003"].level == "skip"


def test_aud003_a_completed_training_without_any_checkpoint(tmp_path):
    plant(tmp_path, epochs=(5,))
    cut(tmp_path / "epoch_5.pt", 0.1)
    (tmp_path / "train.log").write_text("Training completed!\n")
    assert (
        audit(tmp_path)["AUD003"].text
        == "the log says 'Training completed!', and no checkpoint can be loaded"
    )


def test_aud004_another_width_depth_or_config(tmp_path):
    plant(tmp_path)
    assert audit(tmp_path, expect={"hidden_dim": 768})["AUD004"].level == "fail"
    assert audit(tmp_path, expect={"layers": 12})["AUD004"].text.startswith(
        "epoch_5.pt holds another model: depth 3"
    )
    write_checkpoint(tmp_path / "epoch_10.pt", transformer(8, 3), epoch=10)
    finding = audit(tmp_path)["AUD004"]  # beside the others of its run
    assert (finding.level, [each.where for each in finding.evidence]) == ("fail", ["epoch_10.pt"])
    write_checkpoint(tmp_path / "epoch_10.pt", SHAPES, epoch=10, config={"layers": 12})
    assert "layers=12, the weights have 3 model.blocks" in audit(tmp_path)["AUD004"].text


def test_aud005_says_what_a_size_is_made_of(tmp_path):
    plant(tmp_path)
    size = (tmp_path / "epoch_20.pt").stat().st_size
    finding = audit(tmp_path, expect={"size": 16 * size})["AUD005"]
    assert finding.level == "fail"
    assert "AdamW" in finding.text
    assert "nothing of it is cut off: it holds a smaller model" in finding.fix
    assert audit(tmp_path, expect={"size": 16 * size}, limits={"size_factor": 20.0})["AUD005"].level == "ok"
    write_checkpoint(tmp_path / "epoch_20.pt", SHAPES, adam=False, epoch=20)
    assert "AdamW's two moments" in audit(tmp_path, expect={"size": size})["AUD005"].fix
    assert audit(tmp_path)["AUD005"].text == "epoch_20.pt: no optimizer, not AdamW"


def test_aud005_expects_no_optimizer_at_step_0(tmp_path):
    plant(tmp_path)
    write_checkpoint(tmp_path / "epoch_0.pt", SHAPES, adam=False, epoch=0)
    assert audit(tmp_path)["AUD005"].level == "ok"


def test_aud005_a_slice_is_saved_with_what_it_was_cut_from(tmp_path):
    torch.save({"model": {"head.weight": torch.zeros(3_000_000)[:10]}}, tmp_path / "model.pt")
    finding = audit(tmp_path)["AUD005"]
    assert finding.level == "warn"
    assert "model.pt has 12 MB, and needs 40 bytes" in finding.text
    assert "clone()" in finding.fix


def test_aud006_a_gap_is_named(tmp_path):
    plant(tmp_path, epochs=(5, 10, 20, 25, 30))
    finding = audit(tmp_path)["AUD006"]
    assert (finding.level, finding.text) == ("warn", "this run: no epoch 15, where one is saved every 5")
    assert audit(tmp_path, expect={"every_epochs": 5})["AUD006"].level == "fail"
    cut(plant(tmp_path) / "epoch_15.pt")  # torn is not missing
    assert audit(tmp_path)["AUD006"].level == "ok"


def test_aud006_no_rhythm_is_no_gap(tmp_path):
    plant(tmp_path, epochs=(1, 2, 4, 8, 16))
    assert audit(tmp_path)["AUD006"].level == "skip"


def test_aud007_a_folder_in_itself(tmp_path):
    plant(tmp_path / "experiments" / "x" / "experiments" / "x")
    finding = audit(tmp_path)["AUD007"]
    assert (finding.level, finding.evidence[0].where) == ("warn", "experiments/x/experiments/x")
    # also where the audit starts inside
    assert audit(tmp_path / "experiments" / "x" / "experiments" / "x")["AUD007"].level == "warn"


def test_aud008_the_last_whole_one_is_named(tmp_path):
    cut(plant(tmp_path) / "epoch_20.pt")
    finding = audit(tmp_path)["AUD008"]
    assert (
        finding.text
        == "epoch_20.pt, the newest, cannot be loaded; epoch_15.pt (epoch 15) is the last that can be loaded"
    )
    assert finding.fix.startswith("resume from epoch_15.pt; tl.salvage('epoch_20.pt')")
    cut(plant(tmp_path) / "epoch_10.pt")
    assert audit(tmp_path)["AUD008"].level == "ok"


def test_aud009_files_count_and_total(tmp_path):
    plant(tmp_path)
    finding = audit(tmp_path, expect={"files": ["training.log", "epoch_*.pt"], "count": 80, "total": "80GB"})[
        "AUD009"
    ]
    assert finding.level == "fail"
    assert finding.text.startswith("training.log is missing; 4 checkpoints, not 80; ")
    assert audit(tmp_path, expect={"count": 4})["AUD009"].level == "ok"


def test_aud010_outputs_newer_than_a_wrong_checkpoint(tmp_path):
    plant(tmp_path)
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "a.png").write_bytes(b"x")
    assert audit(tmp_path)["AUD010"].level == "ok"
    finding = audit(tmp_path, expect={"epoch": 400})["AUD010"]
    assert finding.level == "fail"
    assert (
        "inference is newer than the newest checkpoint, epoch_20.pt, which is not the one meant: epoch 20, not 400"
        in finding.text
    )
    os.utime(tmp_path / "inference" / "a.png", (NOON, NOON))  # made before: by another file
    assert audit(tmp_path, expect={"epoch": 400})["AUD010"].level == "ok"


def test_aud011_a_name_that_is_not_true(tmp_path):
    plant(tmp_path)
    write_checkpoint(tmp_path / "epoch_15.pt", SHAPES, epoch=3)
    finding = audit(tmp_path)["AUD011"]
    assert (finding.level, finding.text) == ("warn", "epoch_15.pt holds epoch 3")
    write_checkpoint(tmp_path / "epoch_15.pt", SHAPES, epoch=14)  # counted from 0
    assert audit(tmp_path)["AUD011"].level == "ok"


def test_aud012_ranks_what_may_have_happened(tmp_path):
    cut(plant(tmp_path) / "epoch_20.pt")
    (tmp_path / "train.log").write_text("Epoch 20/400\nOSError: No space left on device\n")
    result = diagnostic.probe(tmp_path)
    first = result.rows("hypothesis")[0]
    assert first["text"].startswith("a file was cut off while it was written")
    assert first["support"] == 2
    assert "No space left on device" in first["evidence"]
    assert list(result.hypothesis_support) == sorted(result.hypothesis_support, reverse=True)
    assert audit(tmp_path)["AUD012"].fix == first["next"]


def test_an_error_that_a_log_got_over_explains_nothing(tmp_path):
    log = plant(tmp_path) / "train.log"
    log.write_text("Epoch 5/400\nTraceback (most recent call last):\nEpoch 20/400\n")
    assert audit(tmp_path).verdict == "ok"
    log.write_text("Epoch 20/20\nTraining completed!\nTraceback (most recent call last):\n")
    assert audit(tmp_path).verdict == "ok"
    log.write_text("Epoch 20/400\nTraceback (most recent call last):\n")
    assert "the run stopped before its end (train.log:2" in audit(tmp_path)["AUD012"].text


def test_the_times_of_a_copy_explain_nothing(tmp_path):
    for hour, path in enumerate(sorted(plant(tmp_path).iterdir())):  # epoch_10, 15, 20, 5
        os.utime(path, (NOON + 3600 * hour, NOON + 3600 * hour))
    assert audit(tmp_path).verdict == "ok"


# --- the lost checkpoint, and other formats


def test_the_lost_checkpoint_is_told_as_the_user_told_it(tmp_path):
    examination = diagnostic.examine(ckpts=lost_scene(tmp_path), expect=SCENE)
    assert examination.verdict == "fail"
    for code, words in FACTS.values():
        finding = examination.findings[code]
        assert finding.level in ("warn", "fail")
        assert all(word in str(finding) for word in words), str(finding)
    assert "another run's checkpoints" in examination.findings["AUD012"].text
    assert examination.findings["AUD001"].level == "ok"  # the file itself is whole


def test_a_trainers_folder_is_one_checkpoint(tmp_path):
    for step in (500, 1000):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        torch.save({"wte.weight": torch.zeros(8, 4)}, folder / "pytorch_model.bin")
        (folder / "config.json").write_text('{"n_embd": 4}')
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": 1.5}))
        torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    result = diagnostic.probe(tmp_path)
    assert result.file_name == ("checkpoint-500", "checkpoint-1000")
    assert list(result.file_iter) == [500, 1000]
    assert list(result.file_width) == [4, 4]


def test_a_legacy_file_that_lost_its_end(tmp_path):
    torch.save({"a.weight": torch.zeros(50, 50)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert audit(tmp_path)["AUD001"].level == "ok"
    cut(tmp_path / "old.pt", 0.9)
    assert audit(tmp_path)["AUD001"].level == "fail"


# --- views


def test_views_draw_odd_results(tmp_path):
    plant(tmp_path)
    write_checkpoint(tmp_path / "model.pt", SHAPES)  # tells no epoch
    result = diagnostic.probe(tmp_path, expect={"epoch": 400})
    for knobs in ({}, {"in_order": True}, {"count": "iter"}, {"run": "."}):
        assert diagnostic.plot(result, "timeline", **knobs).axes
    with pytest.raises(UsageError, match="files count no 'epok'"):
        diagnostic.plot(result, "timeline", count="epok")
    with pytest.raises(UsageError, match="there is no run 'a'"):
        diagnostic.plot(result, "inventory", run="a")
    healthy = diagnostic.probe(tmp_path / "epoch_5.pt")
    picture = diagnostic.plot(healthy, "inventory", only_trouble=True)
    assert picture.axes[0].texts[0].get_text() == "no file is in trouble"


def test_trouble_is_on_the_first_page(tmp_path):
    plant(tmp_path, epochs=range(5, 205, 5))
    cut(tmp_path / "epoch_200.pt")
    result = diagnostic.probe(tmp_path)
    texts = [text.get_text() for text in diagnostic.plot(result, "inventory").axes[0].texts]
    assert "epoch_200.pt" in texts
    second = [text.get_text() for text in diagnostic.plot(result, "inventory", page=2).axes[0].texts]
    assert "epoch_195.pt" in second


def test_rules_work_on_a_result_alone():
    result = diagnostic.probe(**diagnostic.example())
    assert isinstance(result, AuditResult)
    none = np.zeros(0, np.int64)
    empty = dataclasses.replace(
        result,
        **{
            field.name: () if isinstance(getattr(result, field.name), tuple) else none
            for field in dataclasses.fields(result)
            if "table" in field.metadata
        },
        now=time.time(),
    )
    assert diagnostic.judge(empty).verdict == "ok"  # AUD012: nothing to explain
    assert diagnostic.judge(empty)["AUD001"].level == "skip"
