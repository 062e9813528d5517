"""The distillation twin: it trains under autocast, its evaluation crashes, and the room says how to mend it."""

from __future__ import annotations

import pytest
import torch

from trainlab.diagnostics.dtypes.fixes import find_fix, native_error
from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.examples.digits.distillation import distil
from trainlab.subjects import load_batch, load_model
from trainlab.visit import call, visit, without_target

ERROR = "mat1 and mat2 must have the same dtype, but got Half and Float"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The checkpoint of a run of two steps."""
    return distil(tmp_path_factory.mktemp("runs") / "distillation", steps=2)


@pytest.fixture(scope="module")
def subjects(run):
    model = load_model("trainlab.examples.digits.distillation:build", ckpt=str(run))
    batch = load_batch("trainlab.examples.digits.distillation:one_batch")
    return model, without_target(model, batch)[0]


def test_it_trains_under_autocast_and_crashes_without(run, subjects):
    model, batch = subjects
    saved = torch.load(run, weights_only=True)
    assert saved["iter"] == 2
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert saved["model"]["projector.weight"].dtype == torch.float16
    with visit(model), torch.autocast("cpu", torch.bfloat16):
        assert call(model, batch).isfinite().all()
    assert native_error(model, batch) == ERROR


def test_the_room_names_the_place_and_a_fix_that_was_run(subjects):
    model, batch = subjects
    with visit(model):
        found = find_sites(model, batch)
    assert [(site.module, site.op, site.error) for site in found.crashes] == [("correction", "linear", ERROR)]
    assert "projector" in [cause.name for cause in found.crashes[0].causes]
    mending = find_fix(model, batch, found)
    assert [change.code for change in mending.changes] == [
        "model.get_submodule('projector').to(torch.float32)"
    ]


def test_a_finished_run_is_left_as_it_is(run):
    before = run.stat().st_mtime_ns
    assert distil(run.parent, steps=2) == run
    assert run.stat().st_mtime_ns == before
    assert (
        'model = "trainlab.examples.digits.distillation:build"' in (run.parent / "trainlab.toml").read_text()
    )
