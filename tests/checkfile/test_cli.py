"""The commands for checkpoint files: what they print, their exit codes, and that none of them loads torch."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "runs" / "epoch_4.pt"
    path.parent.mkdir()
    model = {f"blocks.{number}.weight": torch.full((256, 256), float(number)) for number in range(20)}
    torch.save({"model": model, "epoch": 4, "best": float("inf"), "config": {"hidden_dim": 256}}, path)
    return path


def damage(path):
    """Flips one byte in the middle."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_peek_lists_as_many_tensors_as_wanted(trainlab, file):
    text = trainlab("peek", file).stdout
    assert text.startswith(f"{file} (torch): 5.25 MB, 20 tensors")
    assert "epoch 4" in text
    assert "and 8 more tensors" in text
    assert "more tensors" not in trainlab("peek", file, "--all").stdout
    assert "and 20 more tensors" in trainlab("peek", file, "--tensors", 0).stdout


def test_peek_writes_strict_json(trainlab, file):
    seen = json.loads(trainlab("peek", file, "--json").stdout, parse_constant=pytest.fail)
    assert seen["scalars"] == {"epoch": 4, "best": "inf"}
    assert seen["config"] == {"hidden_dim": 256}
    assert seen["tensors"]["model.blocks.3.weight"]["shape"] == [256, 256]
    assert seen["grade"] == "harmless"


def test_peek_goes_on_after_a_file_that_is_none(trainlab, file, tmp_path):
    (tmp_path / "page.pt").write_text("<html>sign in</html>")
    done = trainlab("peek", tmp_path / "page.pt", file)
    assert done.exit_code == 2
    assert "is an HTML page, not a checkpoint" in done.stderr
    assert "epoch 4" in done.stdout


def test_peek_shows_what_a_hostile_file_would_run(trainlab, tmp_path):
    from .corpus import as_zip, payloads

    as_zip(payloads()["os.system"], tmp_path / "a.pt")
    done = trainlab("peek", tmp_path / "a.pt")
    assert done.exit_code == 0
    assert "dangerous: os.system" in done.stdout


def test_verify_tells_good_damaged_missing_and_unverifiable(trainlab, file, tmp_path):
    assert trainlab("verify", file).exit_code == 0
    torch.save({"a": torch.ones(3)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    assert trainlab("verify", tmp_path / "legacy.pt").exit_code == 0
    assert trainlab("verify", tmp_path / "legacy.pt", "--strict").exit_code == 1
    (tmp_path / "log.pt").write_text("loss 3.1")
    assert trainlab("verify", tmp_path / "log.pt").exit_code == 1
    assert "no checkpoint at all" in trainlab("verify", "--help").stdout
    missing = trainlab("verify", file.with_name("epoch_5.pt"), file)
    assert missing.exit_code == 2
    assert "did you mean 'epoch_4.pt'?" in missing.stderr
    damage(file)
    done = trainlab("verify", file)
    assert done.exit_code == 1
    assert "does not have the stored CRC" in done.stdout
    file.write_bytes(file.read_bytes()[:5000])
    cut = trainlab("verify", file)
    assert cut.exit_code == 1
    assert f"`trainlab salvage {file} -o saved.pt` takes out what is left" in cut.stdout


def test_salvage_says_what_it_saved(trainlab, file, tmp_path):
    done = trainlab("salvage", file, "-o", tmp_path / "saved.pt")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (
        0,
        f"{file}: 20 of 20 tensors saved, 20 of them with a good CRC",
    )
    assert torch.load(tmp_path / "saved.pt")["epoch"] == 4
    damage(file)
    done = trainlab("salvage", file, "-o", tmp_path / "weights.safetensors")
    assert done.exit_code == 1
    assert "19 of 20 tensors saved" in done.stdout
    assert "lost: model.blocks." in done.stdout
    assert trainlab("salvage", file, "-o", tmp_path / "a.txt").exit_code == 2
    assert "-o" in trainlab("salvage", file).stderr


def test_diff_leaves_as_diff_does(trainlab, file, tmp_path):
    assert trainlab("diff", file, file).exit_code == 0
    content = torch.load(file)
    content["model"]["blocks.1.weight"] *= 3
    content["epoch"] = 5
    torch.save(content, tmp_path / "b.pt")
    done = trainlab("diff", file, tmp_path / "b.pt", "--values")
    assert done.exit_code == 1
    assert "epoch: 4 → 5" in done.stdout
    assert "model.blocks.1.weight: moved by 2 of its norm" in done.stdout
    assert trainlab("diff", file, tmp_path / "c.pt").exit_code == 2


def test_a_manifest_is_written_and_compared(trainlab, file, tmp_path):
    done = trainlab("manifest", file.parent)
    assert done.stdout.strip() == str(file.parent / "trainlab-manifest.json")
    assert trainlab("manifest", file.parent, "--against", file.parent).exit_code == 0
    damage(file)
    done = trainlab("manifest", file.parent, "--against", file.parent)
    assert done.exit_code == 1
    assert "changed: epoch_4.pt" in done.stdout
    assert trainlab("manifest", file.parent, "--against", file.parent, "-o", tmp_path / "x").exit_code == 2


def test_audit_compares_with_what_is_expected(trainlab, file):
    done = trainlab(
        "audit", file.parent, "--expect", "epoch=400", "hidden_dim=768", "files=epoch_4.pt,train.log"
    )
    assert done.exit_code == 1
    assert "verdict: FAIL" in done.stdout
    assert "the furthest checkpoint is epoch 4, not 400" in done.stdout
    assert "width 256" in done.stdout
    assert "train.log" in done.stdout
    assert " 1 facts" not in done.stdout
    assert trainlab("audit", file.parent, "--expect", "epoch=4", "--expect", "hidden_dim=256").exit_code == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--expect", "epoch"], "an expectation is given as NAME=VALUE"),
        (["--expect", "epok=3"], "did you mean 'epoch'?"),
        (["--expect", "epoch=many"], "expect's 'epoch' is a number above 0"),
    ],
)
def test_a_mistaken_expectation_is_told(trainlab, file, args, told):
    done = trainlab("audit", file.parent, *args)
    assert done.exit_code == 2
    assert told in done.stderr


def test_audit_of_nothing_did_not_run(trainlab, tmp_path):
    done = trainlab("audit", tmp_path)
    assert done.exit_code == 2
    assert "there is no checkpoint" in done.stderr
    assert trainlab("audit", "--expect", "epoch=3").exit_code == 2


@pytest.mark.parametrize("command", ["peek", "verify", "salvage", "diff", "manifest", "audit"])
def test_help_teaches(trainlab, command):
    text = trainlab(command, "--help").stdout
    assert f"  trainlab {command} " in text
    assert "Exit code" in text
    assert f"trainlab {command}" in trainlab("--help").stdout or command == "manifest"


def test_no_command_loads_torch(file, fresh_modules, tmp_path):
    out = tmp_path / "saved.pt"

    def loaded(*args):
        return fresh_modules(
            "from trainlab.cli import main\nfrom click.testing import CliRunner\n"
            f"done = CliRunner().invoke(main, {[str(each) for each in args]})\n"
            "assert done.exit_code == 0, done.output\n"
        )

    heavy = {"torch", "matplotlib.pyplot", "pandas", "papermill", "seaborn", "IPython", "ipywidgets"}
    assert not loaded("peek", file, "--json") & {*heavy, "numpy", "yaml"}
    assert not loaded("verify", file) & {*heavy, "numpy"}
    assert not loaded("salvage", file, "-o", out) & {*heavy, "numpy"}
    assert not loaded("diff", file, out) & heavy
    assert not loaded("manifest", file.parent) & heavy
    assert not loaded("audit", file.parent) & heavy
