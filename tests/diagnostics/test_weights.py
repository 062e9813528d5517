"""`weights`: every number beside an independent computation, planted faults by name, healthy models left alone."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.diagnostics.weights import diagnostic, probe
from trainlab.diagnostics.weights.limits import WeightsLimits
from trainlab.diagnostics.weights.measuring import CHUNK, measure
from trainlab.diagnostics.weights.names import role_of
from trainlab.diagnostics.weights.singular import Spectrum, spectrum
from trainlab.errors import NotApplicable, SubjectError, UsageError
from trainlab.finding import Level
from trainlab.subjects import Checkpoint, open_checkpoint
from trainlab.subjects.checkpoint import outline
from trainlab.testing import check_diagnostic


def checkpoint(weights, path="step.pt", **metadata):
    return Checkpoint(
        Path(path), "torch", "model", None, metadata, outline(weights), {}, lambda: dict(weights)
    )


def look(weights, **settings):
    return probe(checkpoint(weights), **settings)


def judge(weights, **settings):
    return diagnostic.judge(look(weights, **settings))


def normal(*shape, seed=0, scale=0.02):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.fixture
def stack():
    """Twelve healthy layers and what goes with them."""
    weights = {"embed.weight": normal(300, 32, seed=99)}
    for layer in range(12):
        weights |= {
            f"blocks.{layer}.norm.weight": 1 + normal(32, seed=layer + 200),
            f"blocks.{layer}.norm.bias": torch.zeros(32),
            f"blocks.{layer}.up.weight": normal(64, 32, seed=layer),
            f"blocks.{layer}.down.weight": normal(32, 64, seed=layer + 100),
        }
    return weights | {"head.weight": normal(300, 32, seed=98), "bn.num_batches_tracked": torch.tensor(7)}


def moved(weights):
    return {
        name: each + 0.1 * normal(*each.shape, seed=i + 1000).to(each.dtype)
        if each.is_floating_point()
        else each
        for i, (name, each) in enumerate(weights.items())
    }


def test_contract():
    check_diagnostic(diagnostic)


class TestNumbers:
    """Against numpy, on the whole tensor at once."""

    SHAPES = (
        (),
        (0,),
        (3, 0),
        (1,),
        (17,),
        (1, 9),
        (9, 1),
        (24, 40),
        (300, 7),
        (8, 3, 5, 5),
        (1, 6, 4),
        (2, 1, 3, 1, 4),
    )
    DTYPES = (
        torch.float32,
        torch.float64,
        torch.bfloat16,
        torch.float16,
        torch.int8,
        torch.bool,
        torch.complex64,
    )

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_every_dtype_and_shape(self, shape, dtype):
        tensor = normal(*shape, scale=3.0) if shape else normal(1, scale=3.0)[0]
        tensor = tensor.to(dtype) if dtype is not torch.complex64 else torch.complex(tensor, tensor + 1)
        if tensor.numel() > 3:
            tensor.view(-1)[::4] = 0
        r = look({"x.weight": tensor})
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        x = real.to(torch.float64).numpy().ravel()
        assert r.tensor_elements[0] == tensor.numel()
        assert r.tensor_nan[0] == r.tensor_inf[0] == 0
        if not x.size:
            assert np.isnan(r.tensor_mean[0])
            assert np.isnan(r.tensor_norm[0])
            assert r.tensor_zeros[0] == 0
            return
        np.testing.assert_allclose(r.tensor_mean[0], x.mean(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(r.tensor_std[0], x.std(), rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(r.tensor_rms[0], np.sqrt((x**2).mean()), rtol=1e-12)
        np.testing.assert_allclose(r.tensor_norm[0], np.linalg.norm(x), rtol=1e-12)
        assert (r.tensor_min[0], r.tensor_max[0], r.tensor_zeros[0]) == (x.min(), x.max(), (x == 0).mean())
        core = tensor.squeeze()
        matrix = real.reshape(len(core), -1) if core.ndim > 1 else None
        if matrix is None:
            assert r.tensor_rows[0] == r.tensor_columns[0] == 0
            assert np.isnan(r.tensor_spectral[0])
            return
        m = matrix.to(torch.float64).numpy()
        assert (r.tensor_rows[0], r.tensor_columns[0]) == m.shape
        lengths = np.linalg.norm(m, axis=1)
        np.testing.assert_allclose(r.tensor_row_peak[0], lengths.max() / np.median(lengths[lengths > 0]))
        assert r.tensor_dead_columns[0] == (np.linalg.norm(m, axis=0) == 0).sum()
        if dtype.is_floating_point:
            s = np.linalg.svd(m, compute_uv=False)
            share = s[s > 0] / s.sum()
            np.testing.assert_allclose(r.tensor_spectral[0], s[0], rtol=1e-10)
            np.testing.assert_allclose(r.tensor_stable_rank[0], (s**2).sum() / s[0] ** 2, rtol=1e-10)
            np.testing.assert_allclose(
                r.tensor_effective_rank[0], np.exp(-(share * np.log(share)).sum()), rtol=1e-5
            )
            assert r.tensor_spectral_error[0] == 0
            known = r.spectrum_rank[0] > 0
            np.testing.assert_allclose(
                r.spectrum[0][known], s[r.spectrum_rank[0][known] - 1], rtol=1e-5, atol=1e-6 * s[0]
            )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    def test_quantiles_are_right_to_a_bin(self, dtype):
        tensor = (normal(400, 500, scale=1.0) + 0.3).to(dtype)
        r = look({"x.weight": tensor})
        x = np.sort(tensor.double().numpy().ravel())
        for level, found in zip(r.quantile_level, r.quantile[0], strict=True):
            exact = x[int(level * x.size)]
            assert abs(found - exact) <= 0.008 * abs(exact) + 1e-3
        low, high = r.quantile[0][0], r.quantile[0][-1]
        counted, _ = np.histogram(x, bins=60, range=(low, high))
        assert np.abs(r.histogram[0] - counted / x.size).sum() < 0.06
        assert r.histogram[0].sum() == pytest.approx(0.999, abs=2e-3)

    def test_quantiles_at_the_edge_of_every_range(self):
        for x in (
            torch.tensor([1e300, -1e300, 0.0], dtype=torch.float64),
            torch.full((5,), -2.5),
            torch.zeros(4),
        ):
            r = look({"x": x})
            assert np.isfinite(r.quantile).all() or x.abs().max() > 1e38
            assert np.isfinite(r.histogram).all()
        assert (look({"x": torch.full((5,), -2.5)}).quantile == -2.5).all()

    def test_what_is_not_finite_is_counted_and_left_out(self):
        x = normal(20, 30)
        x[3, 4], x[5, 6], x[7, 8] = float("nan"), float("inf"), float("-inf")
        r = look({"x.weight": x})
        good = x[x.isfinite()].double().numpy()
        assert (r.tensor_nan[0], r.tensor_inf[0]) == (1, 2)
        np.testing.assert_allclose(r.tensor_mean[0], good.mean())
        np.testing.assert_allclose(r.tensor_norm[0], np.linalg.norm(good))
        assert (r.tensor_min[0], r.tensor_max[0]) == (good.min(), good.max())
        assert np.isnan(r.tensor_spectral[0])

    def test_nothing_finite(self):
        r = look({"x.weight": torch.full((4, 4), float("nan")), "y.weight": normal(4, 4)})
        assert np.isnan(r.tensor_mean[0])
        assert r.tensor_nan[0] == 16
        assert diagnostic.judge(r)["WGT001"].level is Level.FAIL

    @pytest.mark.parametrize("shape", [(3, CHUNK + 5), (CHUNK // 2 + 3, 5), (2 * CHUNK + 1,)], ids=str)
    def test_blocks_cover_a_tensor_that_is_larger_than_one(self, shape):
        x = normal(*shape)
        found = measure(x)
        np.testing.assert_allclose(found.squares, (x.double() ** 2).sum())
        if len(shape) > 1:
            np.testing.assert_allclose(found.row_squares, (x.double() ** 2).sum(dim=1))
            np.testing.assert_allclose(found.column_squares, (x.double() ** 2).sum(dim=0))
        assert found.counts.sum() == x.numel()

    def test_a_view_that_is_not_contiguous(self):
        x = normal(40, 24)
        plain = normal(6, 5, 4, 3)
        r = look(
            {
                "a.weight": x.T,
                "b.weight": plain.to(memory_format=torch.channels_last),
                "c.weight": x[::2, ::3],
            }
        )
        whole = look({"a.weight": x.T.contiguous(), "b.weight": plain, "c.weight": x[::2, ::3].contiguous()})
        for field in ("norm", "spectral", "row_peak", "effective_rank", "rows", "columns"):
            np.testing.assert_allclose(
                getattr(r, f"tensor_{field}"), getattr(whole, f"tensor_{field}"), rtol=1e-12
            )

    def test_the_largest_singular_value_of_a_large_matrix_and_its_error(self, monkeypatch):
        monkeypatch.setattr("trainlab.diagnostics.weights.singular.EXACT_WORK", 0)
        for seed, (rows, columns) in enumerate([(300, 500), (700, 200), (400, 400)]):
            x = normal(rows, columns, seed=seed)
            if seed == 1:
                x += 5 * torch.outer(normal(rows), normal(columns, seed=7))
            found, exact = spectrum(x), np.linalg.svd(x.double().numpy(), compute_uv=False)
            assert not found.whole
            assert np.isnan(found.effective_rank)
            assert found.error <= 0.02
            assert abs(found.values[0] / exact[0] - 1) <= max(found.error, 1e-5)
            assert found.values[0] <= exact[0] * (1 + 1e-5)

    def test_the_effective_rank_on_paper(self):
        assert Spectrum(np.ones(4), 0.0, whole=True).effective_rank == pytest.approx(4)
        assert Spectrum(np.array([1.0, 0.0]), 0.0, whole=True).effective_rank == pytest.approx(1)
        assert np.isnan(Spectrum(np.zeros(3), 0.0, whole=True).effective_rank)

    def test_dead_rows_and_columns_by_brute_force(self):
        x = normal(50, 40)
        x[[3, 7]] = 0
        x[11] *= 1e-5
        x[:, 9] = 0
        r = look({"x.weight": x})
        lengths = np.linalg.norm(x.numpy(), axis=1)
        assert r.tensor_dead_rows[0] == (lengths <= 1e-3 * np.sqrt((lengths**2).mean())).sum() == 3
        assert (r.tensor_dead_columns[0], r.tensor_dead_at[0]) == (1, "rows 3, 7, 11; columns 9")
        assert look({"x.weight": x}, tiny=1e-8).tensor_dead_rows[0] == 2

    def test_subnormal_numbers_of_each_dtype(self):
        x = torch.tensor([0.0, 1.0, 3e-5, -3e-6, 1e-4])
        r = look({"half": x.half(), "single": x, "tiny": torch.tensor([1e-40, 1.0])})
        np.testing.assert_allclose(r.tensor_subnormal, [2 / 5, 0, 1 / 2])

    def test_change_by_brute_force(self):
        a, b = normal(30, 20), normal(30, 20, seed=1)
        b[:12] = a[:12]
        b[20, 3] = a[20, 3]
        r = look({"x.weight": b}, earlier=checkpoint({"module.x.weight": a}, "old.pt"))
        x, y = a.double().numpy(), b.double().numpy()
        np.testing.assert_allclose(r.tensor_change[0], np.linalg.norm(y - x) / np.linalg.norm(x), rtol=1e-12)
        assert r.tensor_moved[0] == (x != y).mean()
        assert r.tensor_unmoved_rows[0] == pytest.approx(12 / 30)
        rest = y - (x * y).sum() / (x * x).sum() * x
        np.testing.assert_allclose(r.tensor_turn[0], np.linalg.norm(rest) / np.linalg.norm(y - x), rtol=1e-8)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_weight_decay_alone_is_told_from_gradients(self, dtype):
        decayed = normal(64, 64).to(dtype)
        start = decayed.clone()
        for _ in range(300):
            decayed = decayed * (1 - 1e-2)
        r = look({"x.weight": decayed}, earlier=checkpoint({"x.weight": start}, "old.pt"))
        assert r.tensor_turn[0] < 0.01 if dtype is torch.float32 else r.tensor_turn[0] < 0.3
        r = look(
            {"x.weight": start + 0.01 * normal(64, 64, seed=3)},
            earlier=checkpoint({"x.weight": start}, "old.pt"),
        )
        assert r.tensor_turn[0] > 0.9 or np.isnan(r.tensor_turn[0])

    def test_a_file_saved_in_half_precision_has_not_moved(self):
        x = normal(30, 20)
        earlier = checkpoint({"x.weight": x, "y.weight": x}, "old.pt")
        r = look({"x.weight": x.bfloat16(), "y.weight": x.bfloat16() * 2}, earlier=earlier)
        assert list(r.tensor_moved) == [0, 1]
        r = look(
            {"x.weight": torch.full((3, 3), float("nan"))},
            earlier=checkpoint({"x.weight": torch.full((3, 3), float("nan"))}, "old.pt"),
        )
        assert r.tensor_moved[0] == 0

    def test_from_zero_the_change_is_infinite(self):
        r = look({"x.weight": normal(4, 4)}, earlier=checkpoint({"x.weight": torch.zeros(4, 4)}, "old.pt"))
        assert np.isinf(r.tensor_change[0])
        assert r.tensor_moved[0] == 1

    def test_tied_and_copied(self):
        x, y = normal(30, 8), normal(30, 8, seed=1)
        r = look(
            {"a.weight": x, "b.weight": x, "c.weight": x.clone(), "d.weight": y, "e.weight": x.reshape(8, 30)}
        )
        assert r.tensor_tied_to == ("", "a.weight", "", "", "")
        assert r.tensor_copy_of == ("", "", "a.weight", "", "")

    def test_what_cannot_be_measured_is_named(self):
        extra = {
            "x._extra_state": {"scale": 1},
            "s": torch.eye(3).to_sparse(),
            "m": torch.empty(3, device="meta"),
        }
        r = look({"x.weight": normal(4, 4), **extra})
        assert r.tensor_name == ("x.weight",)
        assert len(r.unmeasured) == 3
        assert "meta device" in r.unmeasured[2]
        with pytest.raises(NotApplicable, match="no tensor"):
            look({"s": torch.eye(3).to_sparse()})

    def test_float8_is_read(self):
        x = normal(16, 16, scale=1.0).to(torch.float8_e4m3fn)
        r = look({"x.weight": x})
        np.testing.assert_allclose(r.tensor_norm[0], x.double().norm())


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("transformer.wte.weight", (50, 8), "embedding"),
        ("embeddings.word_embeddings.weight", (50, 8), "embedding"),
        ("pos_embed", (1, 17, 8), "embedding"),
        ("model.embed_tokens.weight", (50, 8), "embedding"),
        ("patch_embed.proj.weight", (8, 3, 4, 4), "weight"),
        ("cls_token", (1, 1, 8), "vector"),
        ("ln.weight", (8,), "gain"),
        ("fc.weight", (1, 8), "vector"),
        ("fc.bias", (8,), "bias"),
        ("lstm.bias_ih_l0", (8,), "bias"),
        ("attn.in_proj_weight", (24, 8), "weight"),
        ("attn.relative_position_bias_table", (49, 4), "weight"),
        ("bn.running_var", (8,), "buffer"),
        ("rotary_emb.inv_freq", (8,), "buffer"),
    ],
)
def test_roles(name, shape, role):
    assert role_of(name, torch.zeros(shape)) == role
    assert role_of(name, torch.zeros(shape, dtype=torch.int64)) == "integer"


class TestPlanted:
    """Each fault by the right rule, with the tensor's own name; nothing else fails."""

    def blamed(self, findings, code, name, level=Level.FAIL):
        finding = findings[code]
        assert finding.level is level, str(findings)
        assert any(name in item.where for item in finding.evidence), str(finding)
        assert finding.fix
        others = {f.code for f in findings if f.level in (Level.WARN, Level.FAIL)} - {code}
        assert not others, str(findings)

    def test_healthy(self, stack):
        findings = judge(stack, earlier=checkpoint(moved(stack), "old.pt"))
        assert {f.level for f in findings} == {Level.OK}, str(findings)

    def test_one_nan(self, stack):
        stack["blocks.5.up.weight"][3, 4] = float("nan")
        self.blamed(judge(stack), "WGT001", "blocks.5.up.weight")

    def test_an_infinite_mask_is_no_fault(self, stack):
        mask = torch.full((8, 8), float("-inf")).triu(1)
        assert judge(stack | {"attn_mask": mask})["WGT001"].level is Level.OK
        assert judge(stack | {"attn_mask": mask * 0})["WGT001"].level is Level.FAIL

    def test_a_zeroed_layer(self, stack):
        stack["blocks.5.up.weight"].zero_()
        self.blamed(judge(stack), "WGT002", "blocks.5.up.weight")
        at_start = diagnostic.judge(probe(checkpoint(stack, step=0)))
        self.blamed(at_start, "WGT002", "blocks.5.up.weight", Level.WARN)

    def test_a_dead_gain(self, stack):
        stack["blocks.2.norm.weight"].zero_()
        self.blamed(judge(stack), "WGT002", "blocks.2.norm.weight")

    def test_a_constant_matrix(self, stack):
        stack["blocks.5.up.weight"].fill_(0.02)
        findings = judge(stack)
        assert "blocks.5.up.weight" in findings["WGT002"].text
        assert "blocks.5.up.weight" in findings["WGT006"].text

    def test_never_moved(self, stack):
        old = moved(stack) | {"blocks.7.down.weight": stack["blocks.7.down.weight"].clone()}
        findings = judge(stack, earlier=checkpoint(old, "old.pt"))
        self.blamed(findings, "WGT003", "blocks.7.down.weight", Level.WARN)

    def test_only_decayed(self, stack):
        old = moved(stack) | {"blocks.7.down.weight": stack["blocks.7.down.weight"] * 1.1}
        findings = judge(stack, earlier=checkpoint(old, "old.pt"))
        self.blamed(findings, "WGT003", "blocks.7.down.weight", Level.WARN)

    def test_nothing_moved(self, stack):
        finding = judge(stack, earlier=checkpoint(stack, "old.pt"))["WGT003"]
        assert finding.level is Level.FAIL
        assert "optimizer" in finding.fix

    @pytest.mark.parametrize(("count", "level"), [(10, Level.WARN), (40, Level.FAIL)])
    def test_dead_rows(self, stack, count, level):
        stack["blocks.5.up.weight"][:count] *= 1e-6
        findings = judge(stack)
        self.blamed(findings, "WGT004", "blocks.5.up.weight", level)
        assert "rows 0, 1, 2, 3, 4 …" in findings["WGT004"].text

    def test_dead_columns(self, stack):
        stack["blocks.5.up.weight"][:, 4:9] = 0
        self.blamed(judge(stack), "WGT004", "columns 4, 5, 6, 7, 8", Level.WARN)

    @pytest.mark.parametrize(("factor", "level"), [(1e3, Level.FAIL), (40, Level.WARN), (1e-3, Level.WARN)])
    def test_a_layer_far_from_its_siblings(self, stack, factor, level):
        stack["blocks.9.up.weight"] *= factor
        findings = judge(stack)
        self.blamed(findings, "WGT005", "blocks.9.up.weight", level)

    def test_a_blown_up_layer_without_siblings(self):
        weights = {
            "0.weight": normal(32, 16),
            "2.weight": normal(32, 32, seed=1) * 1e3,
            "4.weight": normal(8, 32, seed=2),
        }
        self.blamed(judge(weights), "WGT005", "2.weight")

    def test_a_huge_number(self, stack):
        stack["blocks.3.norm.bias"][4] = 5e3
        self.blamed(judge(stack), "WGT005", "blocks.3.norm.bias", Level.WARN)

    def test_rank_one(self, stack):
        stack["blocks.4.up.weight"] = torch.outer(normal(64, seed=5), normal(32, seed=6)) * 50
        self.blamed(judge(stack), "WGT006", "blocks.4.up.weight")

    def test_a_copy(self, stack):
        stack["blocks.4.up.weight"] = stack["blocks.3.up.weight"].clone()
        findings = judge(stack)
        self.blamed(findings, "WGT007", "blocks.4.up.weight", Level.WARN)
        assert findings["WGT007"].evidence[0].value == "same bits as blocks.3.up.weight"

    def test_an_embedding_and_its_head_may_be_one(self, stack):
        tied = judge(stack | {"head.weight": stack["embed.weight"]})
        assert "1 tied" in tied["WGT007"].text
        assert judge(stack | {"head.weight": stack["embed.weight"].clone()})["WGT007"].level is Level.OK

    def test_embedding_rows(self, stack):
        stack["embed.weight"][17] *= 1e3
        self.blamed(judge(stack), "WGT008", "row 17 of embed.weight", Level.WARN)

    def test_zero_embedding_rows(self, stack):
        stack["embed.weight"][200:] = 0
        self.blamed(judge(stack), "WGT008", "embed.weight", Level.WARN)

    def test_a_padding_row_is_no_fault(self, stack):
        stack["embed.weight"][0] = 0
        assert judge(stack).verdict is Level.OK

    def test_embedding_rows_that_no_token_trains(self, stack):
        old = moved(stack)
        old["embed.weight"][60:] = stack["embed.weight"][60:]
        self.blamed(judge(stack, earlier=checkpoint(old, "old.pt")), "WGT008", "embed.weight", Level.WARN)

    def test_half_precision_at_its_edges(self):
        large = {"a.bias": torch.tensor([4e4, 1.0]).half(), "b.weight": normal(8, 8)}
        finding = diagnostic.judge(look(large), weight_max=1e6)["WGT009"]
        assert finding.level is Level.WARN
        assert finding.evidence[0].where == "a.bias"
        low = {"a.weight": normal(32, 32, scale=5e-5).half(), "b.weight": normal(32, 32)}
        self.blamed(judge(low), "WGT009", "a.weight", Level.WARN)

    def test_thresholds_are_the_callers(self, stack):
        stack["blocks.9.up.weight"] *= 40
        assert diagnostic.judge(look(stack), sibling_ratio_max=50)["WGT005"].level is Level.OK
        assert dataclasses.fields(WeightsLimits)


class TestWords:
    """What a person reads."""

    def test_nothing_in_common(self, stack):
        with pytest.raises(UsageError, match="no tensor in common") as caught:
            look(stack, earlier=checkpoint({"other": torch.ones(3)}, "old.pt"))
        assert "same model" in caught.value.fix

    def test_absent_tensors_are_named(self, stack):
        old = {**stack, "gone.weight": torch.ones(2), "head.weight": torch.ones(2, 2)}
        assert look(stack, earlier=checkpoint(old, "old.pt")).absent == ("head.weight", "gone.weight")

    def test_paths(self, stack, tmp_path):
        torch.save({"model": stack, "iter": 40}, tmp_path / "b.pt")
        torch.save({"model": moved(stack), "iter": 10}, tmp_path / "a.pt")
        examination = diagnostic.examine(ckpt=str(tmp_path / "b.pt"), earlier=str(tmp_path / "a.pt"))
        assert examination.verdict is Level.OK
        assert examination.result.step == 40
        assert examination.result.earlier == str(tmp_path / "a.pt")
        with pytest.raises(UsageError, match="compared with itself"):
            diagnostic.examine(ckpt=str(tmp_path / "b.pt"), earlier=str(tmp_path / "b.pt"))
        with pytest.raises(SubjectError, match="there is no file"):
            diagnostic.examine(ckpt=str(tmp_path / "b.pt"), earlier=str(tmp_path / "c.pt"))

    def test_without_spectra(self, stack):
        findings = judge(stack, spectra=False)
        assert findings["WGT006"].level is Level.SKIP
        assert "nothing to draw" not in str(findings)

    def test_views_of_a_sick_model_with_many_layers(self, stack):
        weights = {
            f"{part}.{name}": each for part, (name, each) in itertools.product("abcdef", stack.items())
        }
        weights["c.blocks.5.up.weight"] = normal(64, 32) * float("nan")
        old = {
            name: each * 0.9 + 0.01 if each.is_floating_point() else each for name, each in weights.items()
        }
        result = look(weights, earlier=checkpoint(old, "old.pt"))
        for view in diagnostic.views:
            picture = diagnostic.plot(result, view.name)
            assert len(picture.png()) > 10_000
        with pytest.raises(UsageError, match="no tensor"):
            diagnostic.plot(result, "values", tensor="a.blocks.5.up.wieght")


def _trained(model, batches, loss, steps=12):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    start = {name: each.clone() for name, each in model.state_dict().items()}
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, *batches(step)).backward()
        optimizer.step()
    return start, model.state_dict()


class TestHealthy:
    """Models of eight kinds: no alarm at init, none after some steps, compared with their init."""

    @staticmethod
    def images(step):
        return normal(8, 3, 16, 16, seed=step, scale=1.0), torch.arange(8) % 4

    @staticmethod
    def tokens(step):
        return (torch.randint(0, 96, (16, 24), generator=torch.Generator().manual_seed(step)),)

    def models(self):
        torch.manual_seed(0)
        transformers = pytest.importorskip("transformers")
        small = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}

        def classify(model, x, y):
            return nn.functional.cross_entropy(model(x), y)

        def language(model, ids):
            return model(input_ids=ids, labels=ids).loss

        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn, self.head = nn.LSTM(48, 32, num_layers=4, batch_first=True), nn.Linear(32, 4)

            def forward(self, x):
                return self.head(
                    self.rnn(x.flatten(2).transpose(1, 2).flatten(1).reshape(8, 16, 48))[0][:, -1]
                )

        flat = nn.Flatten
        yield (
            "mlp",
            nn.Sequential(
                flat(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
            ),
            self.images,
            classify,
        )
        layers = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise((3, 16, 16, 32, 32))
        ]
        yield (
            "cnn",
            nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), flat(), nn.Linear(32, 4)),
            self.images,
            classify,
        )
        yield "lstm", Recurrent(), self.images, classify
        encoder = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True)
        yield (
            "encoder",
            nn.Sequential(
                nn.Unflatten(2, (4, 4)),
                flat(),
                nn.Unflatten(1, (16, 48)),
                nn.TransformerEncoder(encoder, 4),
                flat(),
                nn.Linear(768, 4),
            ),
            self.images,
            classify,
        )
        gpt = transformers.GPT2Config(
            vocab_size=96, n_positions=24, n_embd=32, n_layer=4, n_head=2, bos_token_id=0, eos_token_id=0
        )
        yield "gpt2", transformers.GPT2LMHeadModel(gpt), self.tokens, language
        bert = transformers.BertConfig(vocab_size=96, max_position_embeddings=24, **small)
        yield "bert", transformers.BertForMaskedLM(bert), self.tokens, language
        vit = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=4, **small)
        yield (
            "vit",
            transformers.ViTForImageClassification(vit),
            self.images,
            lambda model, x, y: classify(lambda x: model(x).logits, x, y),
        )
        llama = transformers.LlamaConfig(
            vocab_size=96, max_position_embeddings=24, num_key_value_heads=2, **small
        )
        yield "llama", transformers.LlamaForCausalLM(llama), self.tokens, language

    def test_a_bias_before_a_norm_only_decays(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16 * 14 * 14, 4)
        )
        start = {name: each.clone() for name, each in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-3)
        for step in range(20):
            x, y = self.images(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        result = look(model.state_dict(), earlier=checkpoint(start, "init.pt"))
        assert result.tensor_turn[result.tensor_name.index("0.bias")] < 0.01
        assert diagnostic.judge(result)["WGT003"].level is Level.OK

    def test_no_alarm(self):
        alarms = {}
        for name, model, batches, loss in self.models():
            start, end = _trained(model, batches, loss)
            for when, findings in {
                "init": judge(start),
                "trained": judge(end, earlier=checkpoint(start, "init.pt")),
                "half": judge({n: e.half() if e.is_floating_point() else e for n, e in end.items()}),
            }.items():
                wrong = [str(f) for f in findings if f.level in (Level.WARN, Level.FAIL)]
                # nn.TransformerEncoder clones its layers: at init they are copies, and the rule says so
                if wrong and not (name == "encoder" and when == "init" and "copies" in wrong[0]):
                    alarms[f"{name} {when}"] = wrong
        assert not alarms, "\n".join(itertools.chain(*alarms.values())) + str(list(alarms))


@pytest.mark.parametrize("shape", [(8000, 8000), (64_000_000,)], ids=["square", "flat"])
def test_a_large_file_needs_little_memory(tmp_path, shape):
    """1 GB through the mapping: what is private to the process stays below 200 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    code = """
        import threading, time, sys, torch
        torch.set_num_threads(1)
        from trainlab.diagnostics.weights import diagnostic, probe
        from trainlab.subjects import open_checkpoint

        def private():
            lines = open("/proc/self/status").read().splitlines()
            return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

        probe(**diagnostic.example())
        before, most, on = private(), [0.0], [True]
        def watch():
            while on[0]:
                most[0] = max(most[0], private())
                time.sleep(0.005)
        thread = threading.Thread(target=watch)
        thread.start()
        result = probe(open_checkpoint(sys.argv[1]), spectra=False)
        on[0] = False
        thread.join()
        print(len(result.tensor_name), most[0] - before)
    """
    half = torch.zeros(shape)
    half[..., ::97] = 0.5
    torch.save({f"layers.{i}.weight": half.clone() for i in range(4)}, tmp_path / "large.pt")
    assert (tmp_path / "large.pt").stat().st_size > 1e9
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "large.pt")],
        capture_output=True,
        text=True,
        check=True,
    )
    count, grown = done.stdout.split()
    assert int(count) == 4
    assert float(grown) < 200


def test_the_checkpoint_is_left_as_it_was(tmp_path, stack):
    path = tmp_path / "a.pt"
    torch.save(stack, path)
    before = path.read_bytes()
    ckpt = open_checkpoint(path)
    kept = {name: each.clone() for name, each in ckpt.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    probe(ckpt)
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(kept[name], each) for name, each in ckpt.state_dict().items())
    assert path.read_bytes() == before
