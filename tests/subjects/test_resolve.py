from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from trainlab.errors import SubjectError, UsageError
from trainlab.subjects import Subjects, open_checkpoint, resolve

RECIPE = (
    'model = "shop:build"\nbatch = "shop:one_batch"\nloss = "shop:mean_error"\n[limits.variation]\nmin = 0.1'
)


def probe(model, batch, *, pairs=3):
    return model, batch


def fails(function, **given):
    with pytest.raises(SubjectError) as caught:
        resolve(function, given)
    return str(caught.value)


def test_with_a_recipe_the_checkpoint_is_all_that_is_given(ckpt, net, write, same):
    file = write("trainlab.toml", RECIPE)
    subjects = resolve(probe, {"ckpt": str(ckpt), "model": "", "batch": None}, device="cpu")
    assert list(subjects) == ["model", "batch"]
    assert same(subjects["model"], net)
    assert subjects["batch"]["x"].shape == (4, 8)
    assert probe(**subjects) == (subjects["model"], subjects["batch"])
    assert (subjects.example, subjects.recipe.path) == (False, file)
    assert subjects.recipe.limits == {"variation": {"min": 0.1}}
    assert subjects.origin["model"].startswith(
        f"shop:build(config) as {file} says with weights from {ckpt} (6 tensors"
    )
    assert subjects.origin["batch"] == f"shop:one_batch(config, device) (x (4, 8)), as {file} says"


def test_what_is_given_wins_over_the_recipe(ckpt, write):
    write("trainlab.toml", RECIPE)
    x = torch.ones(3, 8)
    subjects = resolve(probe, {"ckpt": ckpt, "batch": x, "model": "shop:Net"})
    assert subjects["batch"] is x
    assert subjects.origin["batch"] == "Tensor, as given ((3, 8))"
    assert subjects.origin["model"].startswith("shop:Net(hidden, depth) with weights")


def test_objects_pass_through(net):
    x = torch.ones(1, 8)
    subjects = resolve(probe, {"model": net, "batch": x})
    assert (subjects["model"], subjects["batch"]) == (net, x)
    assert dict(subjects.origin) == {
        "model": "Net, 162 parameters, as given",
        "batch": "Tensor, as given ((1, 8))",
    }


def test_the_batch_goes_where_the_model_is(net):
    assert resolve(probe, {"model": net.to("meta"), "batch": torch.ones(1, 8)})["batch"].is_meta


def test_only_what_is_asked_for_is_opened(ckpt):
    def weights_only(ckpt, *, top=3):
        return ckpt

    subjects = resolve(weights_only, {"ckpt": ckpt, "model": "no.such:model", "batch": "no.such:batch"})
    assert subjects["ckpt"].metadata["iter"] == 4000
    assert subjects.origin["ckpt"].startswith(f"{ckpt} (6 tensors")
    assert resolve(weights_only, {"ckpt": open_checkpoint(ckpt)})["ckpt"].path == ckpt


def test_an_optional_subject_is_left_out_where_nothing_names_it(ckpt, write):
    def optional(ckpt, model=None, loss=None):
        return ckpt, model, loss

    assert list(resolve(optional, {"ckpt": ckpt})) == ["ckpt"]
    write("trainlab.toml", RECIPE)
    assert list(resolve(optional, {"ckpt": ckpt})) == ["ckpt", "model", "loss"]


def test_losses(ckpt, write):
    def with_loss(loss):
        return loss

    a, b = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])
    square = resolve(with_loss, {"loss": "shop:Square"})
    assert square["loss"](a, b) == 2.5
    assert square.origin["loss"] == "shop:Square()"
    assert resolve(with_loss, {"loss": "torch.nn:MSELoss"})["loss"](a, b) == 2.5
    assert resolve(with_loss, {"loss": nn.functional.mse_loss})["loss"] is nn.functional.mse_loss
    file = write("trainlab.toml", RECIPE)
    subjects = resolve(with_loss, {"ckpt": ckpt})
    assert subjects["loss"](a, b) == 1.5
    assert subjects.origin["loss"] == f"shop:mean_error, as {file} says"
    assert "the loss shop:number cannot be called" in fails(with_loss, loss="shop:number")


def test_fresh(ckpt, net):
    def against_init(model, fresh, batch=None):
        return model, fresh

    subjects = resolve(against_init, {"ckpt": ckpt, "model": "shop:build"})
    assert not torch.equal(subjects["fresh"].head.weight, subjects["model"].head.weight)
    assert subjects.origin["fresh"] == "the model at init (seed 0)"
    given = resolve(against_init, {"model": net})
    assert given["fresh"] is None
    assert given.origin["fresh"] == "none: the model cannot be rebuilt"
    assert resolve(against_init, {"model": net, "fresh": net})["fresh"] is net


def test_optional_fresh():
    def against_init(fresh=None, batch=None):
        return fresh

    assert list(resolve(against_init, {"batch": torch.ones(1)})) == ["batch"]


def test_data_is_handed_on():
    def reads(data):
        return data

    assert dict(resolve(reads, {"data": [1, 2]})) == {"data": [1, 2]}


def test_nothing_given_takes_the_example_and_says_so(net):
    subjects = resolve(
        probe, {"ckpt": "", "model": None}, example=lambda: {"model": net, "batch": 1, "more": 2}
    )
    assert dict(subjects) == {"model": net, "batch": 1}
    assert subjects.example
    assert subjects.origin["model"] == "the built-in example"
    assert repr(subjects).startswith("Subjects (the built-in example)\n  model: the built-in example")

    def against_init(model, fresh):
        return model, fresh

    assert resolve(against_init, {}, example=lambda: {"model": net})["fresh"] is None


def test_an_example_never_stands_in_for_a_forgotten_batch(net):
    with pytest.raises(SubjectError, match="a batch is needed, and none was given") as caught:
        resolve(probe, {"model": net}, example=lambda: {"model": net, "batch": 1})
    assert "seen: given: model" in str(caught.value)
    assert "batch= a tensor, tuple or dict, 'package.module:callable', a file" in str(caught.value)
    assert "or name it in trainlab.toml" in str(caught.value)


def test_what_is_missing(ckpt):
    assert "a model is needed, and none was given\n  seen: given: nothing" in fails(probe)
    assert "does not say which model it belongs to" in fails(probe, ckpt=ckpt)
    assert "a ckpt is needed" in fails(lambda ckpt: ckpt, batch=torch.ones(1))
    assert "a model is needed" in fails(lambda fresh: fresh, batch=torch.ones(1))


def test_names_that_are_no_subject():
    with pytest.raises(UsageError, match="there is no subject 'modle'") as caught:
        resolve(probe, {"modle": 1})
    assert caught.value.fix == "did you mean 'model'?"


def test_trust_is_needed_for_code(project):
    torch.save({"model": nn.Linear(8, 2)}, project / "a.pt")
    x = torch.ones(1, 8)
    assert "holds code" in fails(probe, ckpt=project / "a.pt", batch=x)
    assert resolve(probe, {"ckpt": project / "a.pt", "batch": x}, trust=True)["model"](x).shape == (1, 2)


def test_batch_files_in_a_recipe_start_from_its_folder(ckpt, write, project, monkeypatch):
    write("trainlab.toml", 'model = "shop.py:build"\nbatch = "data/one.pt"\npaths = ["."]')
    (project / "data").mkdir()
    torch.save({"x": torch.ones(2, 8)}, project / "data" / "one.pt")
    monkeypatch.chdir(project.parent)
    assert resolve(probe, {"ckpt": ckpt})["batch"]["x"].shape == (2, 8)


def test_a_spec_as_a_table_in_a_recipe(ckpt, write):
    write("trainlab.toml", 'model = "shop:build"\nbatch = {x = {shape = [2, 8]}}')
    subjects = resolve(probe, {"ckpt": ckpt})
    assert subjects["batch"]["x"].shape == (2, 8)
    assert subjects.origin["batch"].startswith("a spec (x (2, 8)), as")


def test_hostile_strings_never_become_markup():
    hostile = "<script>alert(1)</script>"
    html = Subjects({"model": 1}, {"model": hostile})._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_importing_subjects_leaves_torch_out(fresh_modules):
    assert "torch" not in fresh_modules("import trainlab.subjects")


def test_the_log_beside_a_checkpoint_or_above_it(project):
    def reads(log):
        return log

    (project / "runs" / "a").mkdir(parents=True)
    torch.save({"model": {"w": torch.ones(2)}}, project / "runs" / "a" / "step_4.pt")
    (project / "runs" / "train.log").write_text("".join(f"step {i} loss {1 / i:.3f}\n" for i in range(1, 9)))
    found = resolve(reads, {"ckpt": project / "runs" / "a" / "step_4.pt"})
    assert len(found["log"].loss) == 8
    assert "train.log, beside the checkpoint" in found.origin["log"]
    (project / "runs" / "b").mkdir()  # what lies below a folder above is another run's
    (project / "runs" / "train.log").rename(project / "runs" / "b" / "train.log")
    assert "a log is needed" in fails(reads, ckpt=project / "runs" / "a" / "step_4.pt")


def test_a_folder_of_checkpoints_for_a_probe_that_compares_them(project):
    def compares(ckpt, ckpts=None):
        return ckpt, ckpts

    (project / "run").mkdir()
    for step in (1, 2, 3):
        torch.save({"model": {"w": torch.ones(2)}, "iter": step}, project / "run" / f"step_{step}.pt")
    found = resolve(compares, {"ckpt": project / "run"})
    assert found["ckpt"].path.name == "step_3.pt"
    assert [path.name for path in map(Path, found["ckpts"])] == ["step_1.pt", "step_2.pt", "step_3.pt"]
    assert "ckpts" not in resolve(compares, {"ckpt": project / "run" / "step_2.pt"})
