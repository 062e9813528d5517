"""Sites: what breaks outside autocast, where the odd dtype comes from, and the fix that was run."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from torch import nn

from trainlab.diagnostics.dtypes import fixes as fixes_module
from trainlab.diagnostics.dtypes.fixes import find_fix, native_error
from trainlab.diagnostics.dtypes.sites import find_sites
from trainlab.diagnostics.dtypes.sites_tensors import reference_dtype, tensor_rows
from trainlab.errors import SubjectError
from trainlab.visit import visit

both = pytest.mark.parametrize("fake", [True, False], ids=["fake", "real"])


def sites(model, batch, **settings):
    with visit(model):
        return find_sites(model, batch, **settings)


def mended(model, batch):
    return find_fix(model, batch, sites(model, batch))


def codes(mending):
    return [change.code for change in mending.changes]


def chain():
    """Three linear layers; the second is half."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].half()
    return model


class Written(nn.Module):
    """An accumulator in half that float32 is added to, and an assignment that casts by itself."""

    def forward(self, x):
        total = torch.zeros(x.shape, dtype=torch.half)
        total += x
        total[0] = x[0]
        return total


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x.half()).abs()


class Wrong(nn.Module):
    """A dtype error, then an error of another kind."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4).half()

    def forward(self, x):
        return self.first(x) @ torch.ones(5, 5)


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.half))

    def forward(self, x):
        if x.dtype != self.weight.dtype:
            message = f"wants {self.weight.dtype}"
            raise ValueError(message)
        return x * self.weight


@functools.lru_cache
def kept_mask(size):
    return torch.ones(size, size).tril()


class Keeping(nn.Module):
    """Keeps a mask beyond the run, outside the module."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return kept_mask(4) @ self.layer(x)


class Casting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        narrow = x.half()
        return self.layer(narrow)


# --- sites -----------------------------------------------------------------------------------------------


@both
def test_every_crash_is_listed_and_not_only_the_first(fake):
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Linear(4, 4).half(), nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()
    )
    found = sites(model, torch.randn(2, 4), fake=fake)
    assert [(site.module, site.op, site.dtypes) for site in found.crashes] == [
        ("1", "linear", ("float32", "float16", "float16")),
        ("3", "linear", ("float32", "bfloat16", "bfloat16")),
    ]
    assert found.crashes[0].error == native_error(model, torch.randn(2, 4))
    assert [[cause.name for cause in site.causes] for site in found.crashes] == [["1"], ["3"]]
    assert found.reference == torch.float32


@both
def test_a_clean_model_has_none(fake):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Softmax(-1))
    found = sites(model, torch.randn(2, 4), fake=fake)
    assert found.sites == found.odd == ()
    assert found.evidence == ("known rule" if fake else "ran on CPU")


@both
def test_an_operator_without_a_half_kernel_is_gone_past_and_gives_what_half_would(fake):
    found = sites(Fourier(), torch.randn(2, 8), fake=fake)
    (site,) = found.crashes
    assert (site.op, site.error) == ("fft_rfft", "Unsupported dtype Half")
    assert [(cause.kind, cause.op) for cause in site.causes] == [("line", "half")]
    assert site.file == __file__


@both
def test_what_is_written_in_place_keeps_its_dtype(fake):
    found = sites(Written(), torch.randn(2, 4), fake=fake)
    assert [(site.kind, site.op) for site in found.sites] == [("narrows", "add_"), ("narrows", "setitem")]


@both
def test_a_module_that_refuses_its_input_in_python_is_a_site_of_its_own(fake):
    lstm = nn.LSTM(4, 4).half()
    (site,) = sites(nn.Sequential(nn.Linear(4, 4), lstm), torch.randn(3, 4), fake=fake).crashes
    assert (site.module, site.op) == ("1", "LSTM")
    assert site.error.startswith(
        "RNN input dtype (torch.float32) does not match weight dtype (torch.float16)"
    )
    (site,) = sites(nn.Sequential(nn.Linear(4, 4), Picky()), torch.randn(3, 4), fake=fake).crashes
    assert (site.module, site.op, site.error) == ("1", "Picky", "wants torch.float16")


@both
def test_an_error_that_is_not_over_dtypes_rises_as_it_is(fake):
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sites(Wrong(), torch.randn(2, 4), fake=fake)


@both
def test_a_float64_table_that_widens_everything_in_silence_is_told(fake):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("shift", torch.zeros(4, dtype=torch.float64))

        def forward(self, x):
            return self.layer(x) + self.shift

    (site,) = sites(Shifted(), torch.randn(2, 4), fake=fake).sites
    assert (site.kind, site.op, site.error) == ("promotes", "add", "")
    assert [(cause.kind, cause.name) for cause in site.causes] == [("buffer", "shift")]


def test_a_float32_island_in_a_half_model_is_meant():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            wide = x.float()
            return self.weight * (x * wide.pow(2).mean(-1, keepdim=True).rsqrt()).to(x.dtype)

    assert sites(Norm().bfloat16(), torch.randn(2, 4).bfloat16()).sites == ()


def test_a_model_that_looks_at_its_values_is_run_for_real_and_says_so():
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4).half()

        def forward(self, x):
            return self.layer(x) if x.sum() > -1e9 else x

    found = sites(Early(), torch.randn(2, 4), fake=True)
    assert found.evidence == "ran on CPU"
    assert found.fallback.startswith("DataDependentOutputException")
    assert [site.module for site in found.crashes] == ["layer"]


def test_masks_are_computed_for_real():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, mask):
            return self.layer(x) if bool(mask.all()) else x

    found = sites(Masked(), (torch.randn(2, 4), torch.tensor([True, True])), fake=True)
    assert found.evidence == "known rule"


def test_small_models_are_run_for_real_and_large_ones_fake():
    assert sites(nn.Linear(4, 4), torch.randn(2, 4)).evidence == "ran on CPU"
    assert sites(nn.Linear(1000, 10_000), torch.randn(2, 1000)).evidence == "known rule"


def test_a_fake_run_leaves_nothing_fake_behind():
    kept_mask.cache_clear()
    model, batch = Keeping(), torch.randn(4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert sites(model, batch, fake=True).evidence == "known rule"
    assert type(kept_mask(4)) is torch.Tensor
    assert native_error(model, batch) == ""
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_values_is_checked_and_left_on_meta():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    model[0].half()
    found = sites(model, torch.randn(2, 4))
    assert [site.module for site in found.crashes] == ["0"]
    assert all(each.is_meta for each in model.parameters())


def test_a_model_without_values_that_looks_at_them_is_refused():
    class Early(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(SubjectError, match="Early has no values"):
        sites(Early(4, 4, device="meta"), torch.randn(2, 4))


def test_autocast_around_the_probe_does_not_hide_the_crash():
    with torch.autocast("cpu", torch.bfloat16):
        assert len(sites(chain(), torch.randn(2, 4)).crashes) == 1
        assert native_error(chain(), torch.randn(2, 4))


# --- fixes -----------------------------------------------------------------------------------------------


def test_the_fix_of_a_module_names_it_and_leaves_the_model_as_found():
    model = chain()
    mending = mended(model, torch.randn(2, 4))
    assert codes(mending) == ["model.get_submodule('1').to(torch.float32)"]
    assert mending.native_error == native_error(model, torch.randn(2, 4))
    assert not mending.last_resort
    assert [each.dtype for each in model.parameters()] == [torch.float32] * 2 + [torch.half] * 2 + [
        torch.float32
    ] * 2


def test_no_fix_is_looked_for_where_the_native_run_passes():
    mending = mended(nn.Linear(4, 4), torch.randn(2, 4))
    assert (mending.native_error, mending.changes, mending.runs) == ("", (), 1)


def test_a_single_parameter_a_buffer_a_plain_tensor_and_an_input():
    class Tabled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("table", torch.eye(4))
            self.plain = torch.eye(4)

        def forward(self, x):
            return self.layer(x) @ self.table @ self.plain

    def fix(spoil, batch=None):
        model = Tabled()
        spoil(model)
        return codes(mended(model, {"x": torch.randn(2, 4)} if batch is None else batch))

    assert fix(lambda model: setattr(model.layer.weight, "data", model.layer.weight.data.half())) == [
        "model.get_parameter('layer.weight').data = model.get_parameter('layer.weight').data.to(torch.float32)"
    ]
    assert fix(lambda model: setattr(model, "table", model.table.double())) == [
        "model.table = model.table.to(torch.float32)"
    ]
    assert fix(lambda model: setattr(model, "plain", model.plain.half())) == [
        "model.plain = model.plain.to(torch.float32)"
    ]
    assert fix(lambda _: None, {"x": torch.randn(2, 4).half()}) == [
        "batch['x'] = batch['x'].to(torch.float32)"
    ]
    assert fix(lambda _: None, torch.randn(2, 4).double()) == ["batch = batch.to(torch.float32)"]
    (code,) = fix(lambda _: None, (torch.randn(2, 4).half(),))
    assert code.startswith("batch = trainlab.visit.map_tensors(batch, ")


def test_an_explicit_cast_is_fixed_where_it_is_written():
    (code,) = codes(mended(Casting(), torch.randn(2, 4)))
    assert code.startswith(f"{__file__}:")
    assert code.endswith(": narrow = x.half()  →  narrow = x.to(torch.float32)")


def test_several_causes_are_mended_together_and_no_more_than_needed():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Linear(4, 4).half(), nn.ReLU(), nn.Linear(4, 4).double(), nn.Linear(4, 4)
    )
    assert set(codes(mended(model, torch.randn(2, 4)))) == {
        "model.get_submodule('1').to(torch.float32)",
        "model.get_submodule('3').to(torch.float32)",
    }


def test_the_one_float32_layer_of_a_half_model_goes_to_half():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).requires_grad_(False).bfloat16()
    model[2].float()
    assert codes(mended(model, torch.randn(2, 4).bfloat16())) == [
        "model.get_submodule('2').to(torch.bfloat16)"
    ]


def test_casting_the_whole_model_is_the_last_resort_and_called_so(monkeypatch):
    monkeypatch.setattr(fixes_module._Trial, "least", lambda *_: [])
    mending = mended(chain(), torch.randn(2, 4))
    assert codes(mending) == ["model.to(torch.float32)"]
    assert mending.last_resort


def test_nothing_is_offered_that_did_not_pass(monkeypatch):
    monkeypatch.setattr(fixes_module, "_set_right", lambda *_: None)
    mending = mended(chain(), torch.randn(2, 4))
    assert mending.changes == ()
    assert mending.native_error


# --- the table -------------------------------------------------------------------------------------------


def test_the_table_tells_the_odd_ones_from_a_frozen_teacher():
    model = nn.ModuleDict({
        "student": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
        "teacher": nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).half().requires_grad_(False),
        "projector": nn.Linear(4, 4).half(),
    })  # fmt: skip
    assert reference_dtype(model) == torch.float32
    rows = {row.name: row for row in tensor_rows(model)}
    assert [name for name, row in rows.items() if row.odd] == ["projector.weight", "projector.bias"]
    assert rows["teacher.0.weight"].note == "frozen, as all of 'teacher' is"
    assert "Attempting to unscale FP16 gradients" in rows["projector.weight"].note
    assert rows["student.0.weight"].note == ""
    assert (rows["projector.weight"].dtype, rows["projector.weight"].elements) == ("float16", 16)


def test_gradscaler_does_refuse_what_the_note_says():
    weight = nn.Parameter(torch.ones(4, dtype=torch.half))
    optimizer, scaler = torch.optim.SGD([weight], 0.1), torch.amp.GradScaler("cpu")
    torch.autograd.backward(scaler.scale((weight.float() ** 2).sum()))
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"), warnings.catch_warnings():
        scaler.step(optimizer)
