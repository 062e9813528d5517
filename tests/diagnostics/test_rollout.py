from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import trainlab as tl
from trainlab.diagnostics.rollout import RolloutLimits, RolloutResult, probe
from trainlab.diagnostics.rollout.continuing import denoise
from trainlab.diagnostics.rollout.example import NextFrame, example, squares
from trainlab.diagnostics.rollout.measuring import cosines, cutoff, energies, frequencies
from trainlab.errors import MissingExtraError, NotApplicable, SubjectError, UsageError
from trainlab.finding import Findings, Level
from trainlab.testing import fingerprint


class Answers(nn.Module):
    """Answers with what it is given at birth."""

    def __init__(self, future: torch.Tensor) -> None:
        super().__init__()
        self.future = future

    def rollout(self, context: torch.Tensor, frames: int) -> torch.Tensor:
        return self.future[:, :frames]


def answered(clips: torch.Tensor, future: torch.Tensor, *, context: int = 4, **settings) -> RolloutResult:
    return probe(Answers(future), clips, context=context, **settings)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def judge(r: RolloutResult, **limits: float) -> Findings:
    return tl.rollout.judge(r, **limits)


# --- numbers worked out on paper


def test_psnr_is_that_of_the_error_over_the_range() -> None:
    clips = squares(3)
    r = answered(clips, clips[:, 4:] + 0.1)
    np.testing.assert_allclose(r.frame_psnr, 20.0, atol=1e-5)  # 10 log10(1 / 0.1²)
    twice = answered(2 * clips - 1, 2 * clips[:, 4:] - 1 + 0.1)
    assert (twice.low, twice.high) == (-1, 1)
    np.testing.assert_allclose(twice.frame_psnr, 20 + 20 * np.log10(2), atol=1e-5)
    np.testing.assert_allclose(r.frame_brightness, 0.1, atol=1e-6)
    np.testing.assert_allclose(twice.frame_brightness, 0.05, atol=1e-6)
    np.testing.assert_allclose(r.frame_contrast, 1.0, atol=1e-6)


def test_psnr_pools_the_clips() -> None:
    clips = squares(2)
    future = clips[:, 4:].clone()
    future[0] += 0.1
    r = answered(clips, future)
    np.testing.assert_allclose(r.frame_psnr, 10 * np.log10(1 / 0.005), atol=1e-5)
    np.testing.assert_allclose(r.clip_psnr[0], 20.0, atol=1e-5)
    assert np.isposinf(r.clip_psnr[1]).all()


def test_ssim_is_that_of_its_definition() -> None:
    """Wang et al. 2004, formula 13, in a window of 7 × 7 that goes over the inner pixels."""
    clips = torch.rand(1, 3, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    future = (clips[:, 2:] + 0.2 * noise(1, 1, 1, 12, 10)).double()
    x, y = clips[0, 2, 0].double().numpy(), future[0, 0, 0].numpy()
    values = []
    for i in range(3, 9):
        for j in range(3, 7):
            a, b = x[i - 3 : i + 4, j - 3 : j + 4].ravel(), y[i - 3 : i + 4, j - 3 : j + 4].ravel()
            covariance = np.cov(a, b)
            first, second = 0.01**2, 0.03**2
            values.append(
                (2 * a.mean() * b.mean() + first)
                * (2 * covariance[0, 1] + second)
                / ((a.mean() ** 2 + b.mean() ** 2 + first) * (np.trace(covariance) + second))
            )
    r = answered(clips, future, context=2)
    assert r.ssim_window == 7
    assert r.frame_ssim[0] == pytest.approx(np.mean(values), abs=1e-6)


def test_cosines_keep_energy_and_know_their_frequency() -> None:
    rows = cosines(12)
    np.testing.assert_allclose(rows @ rows.T, np.eye(12), atol=1e-12)
    wave = np.cos(2 * np.pi * 0.25 * (np.arange(12) + 0.5))  # a quarter of a cycle a pixel
    power = (rows @ wave) ** 2
    assert frequencies(12, 1)[:, 0][power.argmax()] == 0.25
    assert power.max() == pytest.approx((wave**2).sum())


def test_sharpness_of_a_gaussian_blur_is_its_transfer() -> None:
    """With mirrored edges a blur multiplies each cosine by what it makes of it: exactly, whatever is in the frame."""
    clips = torch.from_numpy(np.random.default_rng(0).random((2, 5, 1, 20, 16)))
    sigma = 0.8
    blurred = gaussian_filter(clips[:, 4:].numpy(), (0, 0, 0, sigma, sigma), mode="reflect")
    r = answered(clips, torch.from_numpy(blurred))
    taps = np.arange(-3, 4)  # four standard deviations, as gaussian_filter cuts it
    kernel = np.exp(-(taps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    down, across = (np.cos(np.pi * np.arange(n)[:, None] * taps / n) @ kernel for n in (20, 16))
    truth = clips[:, 4, 0].numpy()
    power = ((cosines(20) @ truth @ cosines(16).T) ** 2).sum(0)
    high = frequencies(20, 16) >= r.cutoff
    transferred = power * (down[:, None] * across[None]) ** 2
    assert r.frame_sharpness[0] == pytest.approx(transferred[high].sum() / power[high].sum(), rel=1e-9)


def test_the_cutoff_leaves_a_tenth_above() -> None:
    clips = np.random.default_rng(0).random((2, 3, 1, 32, 32))
    edge = cutoff(clips)
    power = ((cosines(32) @ clips @ cosines(32).T) ** 2).sum((0, 1, 2))
    power[0, 0] = 0
    above = power[frequencies(32, 32) >= edge].sum() / power.sum()
    assert above == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("speed", [2, 3, 4])
def test_motion_of_a_square_goes_with_its_speed(speed: int) -> None:
    """Moving by v uncovers v columns and covers as many: 2 · v · side · grey², for v up to its side."""
    slow, fast = (squares(1, 8, 32, speed=v, seed=3) for v in (1, speed))
    r = answered(slow, fast[:, 4:] * 1.0)
    side, grey = int((slow[0, 0, 0].amax(0) > 0).sum()), float(slow.max())
    found = energies(fast.double().numpy(), 1, 0.0, label="test")
    np.testing.assert_allclose(found.motion, 2 * speed * side * grey**2, rtol=1e-5)
    np.testing.assert_allclose(
        r.frame_motion[1:], speed, rtol=1e-5
    )  # the first is the jump from the other clip


def test_jerk_of_even_motion_is_nothing_and_of_known_places_is_known() -> None:
    """A frame that is one coarse cosine times a(t): the third difference is that of a(t) itself."""
    wave = np.outer(cosines(16)[2], cosines(16)[1])
    places = np.random.default_rng(0).standard_normal(200)
    even = np.arange(200) ** 2 / 200.0  # constant acceleration has no third difference

    def clip(a: np.ndarray) -> np.ndarray:
        return (a[:, None, None] * wave)[None, :, None]

    found = energies(clip(places), 1, 0.0, label="test")
    assert np.isnan(found.jerk[0, :2]).all()
    np.testing.assert_allclose(found.jerk[0, 2:], np.diff(places, n=3) ** 2, atol=1e-12)
    np.testing.assert_allclose(energies(clip(even), 1, 0.0, label="test").jerk[0, 2:], 0, atol=1e-18)


def test_jerk_is_on_its_scale() -> None:
    """White places have 1, white velocities 0.6: (1 + 9 + 9 + 1) / 10 / 2 and (1 + 4 + 1) / 10."""
    wave = torch.from_numpy(np.outer(cosines(8)[1], cosines(8)[0]))
    draws = noise(1, 4000).double()
    for series, expected in ((draws, 1.0), (draws.cumsum(1), 0.6)):
        clips = (series[:, :, None, None] * wave)[:, :, None]
        r = answered(clips, clips[:, 4:])
        assert np.nanmean(r.frame_truth_jerk) == pytest.approx(expected, rel=0.1)
        np.testing.assert_allclose(r.frame_jerk, r.frame_truth_jerk)


def test_copying_is_measured_beside() -> None:
    clips = squares(3)
    copied = clips[:, 3:4].expand(-1, 8, -1, -1, -1)
    r = answered(clips, copied)
    for name in ("psnr", "ssim", "sharpness", "motion", "jerk", "brightness", "contrast"):
        np.testing.assert_array_equal(getattr(r, f"frame_{name}"), getattr(r, f"frame_copy_{name}"))
    assert r.gain() == 0
    assert answered(clips, clips[:, 4:]).gain() == np.inf


# --- ways to roll out


def test_the_next_frame_is_appended_and_given_again() -> None:
    e = example()
    model, clips = e["model"], e["batch"]["video"]
    r = probe(**e, horizon=3)
    past = clips[:, :4]
    for _ in range(3):
        past = torch.cat([past, model(past)], 1)
    np.testing.assert_allclose(r.predicted, past[:, 4:].detach().numpy().astype(np.float16), atol=1e-3)
    assert r.method == "next frames of NextFrame.forward"
    assert r.method_reason == "forward needs nothing but frames"


class Shifted(nn.Module):
    """Answers with a frame for each that it is given, the one after it: here the same, brighter by a tenth."""

    def forward(self, x):
        self.seen = x.shape[1]
        return x + 0.1


def test_as_many_frames_as_were_given_are_each_the_next() -> None:
    clips = squares(2)
    model = Shifted()
    r = probe(model, clips, window=3)
    np.testing.assert_allclose(r.predicted[:, 2], (clips[:, 3] + 0.3).numpy(), atol=2e-3)


class Chunks(nn.Module):
    def forward(self, x):
        return x[:, -1:].repeat(1, 5, 1, 1, 1) * torch.arange(1, 6).view(1, 5, 1, 1, 1)


def test_several_frames_are_all_taken() -> None:
    clips = squares(2)
    r = probe(Chunks(), clips, horizon=7)
    top = r.predicted.max((2, 3, 4)) / clips[:, 3].amax((1, 2, 3)).numpy()[:, None]
    np.testing.assert_allclose(top, np.tile([1, 2, 3, 4, 5, 5, 10], (2, 1)), rtol=1e-2)


class Ideal(nn.Module):
    """Diffusion forcing that knows the answer: any frame at a level above 0 is the wave equation's next."""

    def forward(self, x, tau):
        clean = NextFrame()
        with torch.no_grad():
            clean.mix.weight.zero_()
            clean.mix.bias.zero_()
            clean.mix.weight[0, 0, 1, 1] = -1
            clean.mix.weight[0, 1, 1, 0] = clean.mix.weight[0, 1, 1, 2] = 1
        return torch.cat(
            [x[:, :-1], torch.where(tau[:, -1:, None, None, None] > 0, clean(x[:, :-1]), x[:, -1:])], 1
        )


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_diffusion_forcing_ends_on_the_clean_answer(steps: int) -> None:
    r = probe(Ideal(), {"x": noise(2, 12, 1, 16, 16), "target": squares(2)}, steps=steps)
    assert r.method.startswith("diffusion forcing")
    assert "tau" in r.method_reason
    assert r.video.startswith("target")
    assert r.frame_psnr.min() > 100
    assert judge(r).verdict is Level.OK


def test_denoising_steps_are_those_on_paper() -> None:
    """Three steps of a model that answers with tau itself: from z, a third of the way to 1, half to 2/3, all to 1/3."""
    asked = []

    def clean(x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        asked.append((x[:, -1:].clone(), tau[0].clone()))
        return torch.full_like(x, float(tau[0, -1]))

    past = torch.zeros(1, 2, 1, 2, 2)
    frame = denoise(clean, past, 3, torch.Generator().manual_seed(5))
    z = torch.randn((1, 1, 1, 2, 2), generator=torch.Generator().manual_seed(5))
    for (_, tau), level in zip(asked, (1.0, 2 / 3, 1 / 3), strict=True):
        torch.testing.assert_close(tau, torch.tensor([0, 0, level]))
    first = 1 / 3 + 2 / 3 * z
    for (x, _), expected in zip(asked, (z, first, 1 / 3 + first / 2), strict=True):
        torch.testing.assert_close(x, expected)
    torch.testing.assert_close(frame, torch.full_like(frame, 1 / 3))


def copier(model, context, frames):
    return context[:, -1:].repeat(1, frames, 1, 1, 1)


def test_sample_by_name_by_itself_or_of_the_model(tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def sample(model, context, frames):\n    return context[:, -1:].repeat(1, frames, 1, 1, 1)\n"
    )
    clips = squares(2)
    for sample in (f"{file}:sample", copier):
        r = probe(nn.Linear(2, 2), clips, sample=sample)
        assert r.gain() == 0
        assert "given" in r.method_reason
    r = probe(Answers(clips[:, 4:]), clips)
    assert (r.method, r.method_reason) == (
        "Answers.rollout",
        "the model has a method rollout(context, frames)",
    )
    assert probe(Answers(clips[:, 4:]), clips, sample="rollout").gain() == np.inf


def test_channels_first_clips_reach_the_model_as_they_are() -> None:
    clips = squares(2, 9).repeat(1, 1, 3, 1, 1).transpose(1, 2)
    seen = []

    def mine(model, context, frames):
        seen.append(context.shape)
        return context[:, :, -1:].repeat(1, 1, frames, 1, 1)

    r = probe(nn.Linear(2, 2), clips, sample=mine)
    assert seen == [(2, 3, 4, 16, 16)]
    assert r.shape == "3×16×16"
    assert r.video.endswith("channels first by its shape")
    assert r.gain() == 0
    plain = probe(nn.Linear(2, 2), clips.transpose(1, 2), sample=copier)
    np.testing.assert_allclose(plain.frame_psnr, r.frame_psnr)


@pytest.mark.parametrize(
    ("scale", "shift", "expected"),
    [(1, 0, (0, 1)), (2, -1, (-1, 1)), (255, 0, (0, 255)), (6, -3, None)],
)
def test_the_range_is_guessed_from_the_truth(scale: float, shift: float, expected) -> None:
    clips = squares(2, seed=4)
    clips = scale * clips / clips.max() + shift
    r = probe(Shifted(), clips)
    assert (r.low, r.high) == (expected or (-3, 3))
    assert r.range_reason
    given = probe(Shifted(), clips, low=-4, high=300)
    assert (given.low, given.high, given.range_reason) == (-4, 300, "as given")


def test_one_seed_is_one_rollout_and_the_model_is_left_as_found() -> None:
    model = tl.rollout.example()["model"]
    model.drop = nn.Dropout(0.5)
    noisy_model = nn.Module()
    noisy_model.rollout = lambda context, frames: context[:, -1:] + torch.rand(4, frames, 1, 16, 16)
    clips = squares(4)
    before = fingerprint(model)
    first, again, other = (probe(noisy_model, clips, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert not np.array_equal(first.predicted, other.predicted)
    probe(model, clips)
    assert fingerprint(model) == before


def test_batch_and_answer_are_left_alone_by_whoever_writes_in_place() -> None:
    def hasty(model, context, frames):
        return context.mul_(0)[:, -1:].repeat(1, frames, 1, 1, 1)

    clips = squares(2).double()
    before = clips.clone()
    probe(nn.Linear(2, 2), clips, sample=hasty)
    assert torch.equal(clips, before)
    future = torch.full_like(clips[:, 4:], torch.inf)
    answered(clips, future)
    assert future.isinf().all()


def test_a_rollout_that_explodes_is_measured() -> None:
    clips = squares(2)
    r = answered(clips, clips[:, 4:] * 10.0 ** torch.arange(0, 32, 4)[:, None, None, None])
    assert np.isfinite(r.predicted).all()
    assert judge(r)["ROL002"].level is Level.FAIL
    assert judge(r)["ROL007"].level is Level.FAIL
    assert len(tl.rollout.plot(r, "curves").png()) > 3000


def test_what_is_kept_is_bounded() -> None:
    clips = torch.rand(9, 3, 1, 600, 600, generator=torch.Generator().manual_seed(0))
    r = probe(nn.Linear(1, 1), clips, context=2, sample=copier, clips=3)
    assert r.clips == 3
    assert r.truth.size <= 2**20
    assert r.thinned == 2
    assert r.truth.shape == (2, 3, 1, 300, 300)
    np.testing.assert_allclose(r.truth[1, 0, 0], clips[1, 0, 0, ::2, ::2], atol=1e-3)


# --- what does not fit


class Told(nn.Module):
    def forward(self, x, action):
        return x


class Label(nn.Module):
    def forward(self, x):
        return x.mean((2, 3, 4))


class Few(nn.Module):
    """Has places for 4 frames and no more."""

    def forward(self, x):
        return x + torch.zeros(4, 1, 1, 1)[: x.shape[1]]


def test_errors_say_what_to_do(tmp_path) -> None:
    clips = squares(2)
    with pytest.raises(NotApplicable, match="the batch holds no video"):
        probe(Shifted(), {"x": torch.rand(2, 3)})
    with pytest.raises(NotApplicable, match="leave 0 to predict after 12"):
        probe(Shifted(), clips, context=12)
    with pytest.raises(NotApplicable, match="it is not known how Told is rolled out") as told:
        probe(Told(), clips)
    assert "sample=" in str(told.value)
    with pytest.raises(NotApplicable, match="one number everywhere"):
        probe(Shifted(), torch.zeros(2, 8, 1, 8, 8))
    with pytest.raises(SubjectError, match="the batch is not finite"):
        probe(Shifted(), torch.full((2, 8, 1, 8, 8), torch.nan))
    with pytest.raises(SubjectError, match="Label answers with no frames"):
        probe(Label(), clips)
    with pytest.raises(SubjectError, match="returned no 8 frames"):
        probe(Shifted(), clips, sample=lambda model, context, frames: context)
    with pytest.raises(SubjectError, match="and 8 frames failed: ZeroDivisionError"):
        probe(Shifted(), clips, sample=lambda model, context, frames: 1 / 0)
    with pytest.raises(SubjectError, match="Few after 5 frames failed") as few:
        probe(Few(), clips)
    assert "window=4" in str(few.value)
    assert probe(Few(), clips, window=4).horizon == 8
    with pytest.raises(UsageError, match="cannot be rolled out by 'nxt'") as mistyped:
        probe(Shifted(), clips, sample="nxt")
    assert "did you mean 'next'" in str(mistyped.value)
    for settings, message in (
        ({"steps": 0}, "steps is 1 or more"),
        ({"layout": "frames"}, "no layout"),
        ({"video": "vidoe"}, "no entry 'vidoe'"),
        ({"low": 1, "high": 0}, "the value range is empty"),
    ):
        with pytest.raises(UsageError, match=message):
            probe(Shifted(), clips, **settings)


def test_a_missing_library_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingExtraError, match="scikit-image") as missing:
        probe(**example())
    assert "trainlab[video]" in str(missing.value)


# --- each rule on hand-made results


@pytest.fixture(scope="module")
def well() -> RolloutResult:
    return probe(**example())


def test_each_rule_stays_quiet_and_fires(well: RolloutResult) -> None:
    assert {f.level for f in judge(well)} == {Level.OK}
    count = well.horizon
    late = np.arange(count) >= 5
    fires: dict[str, dict[str, object]] = {
        "ROL001": {"frame_nonfinite": late.astype(np.int64)},
        "ROL002": {"frame_psnr": np.where(late, 14.9, 20.0)},
        "ROL003": {"frame_psnr": well.frame_copy_psnr + 0.4},
        "ROL004": {"frame_sharpness": np.where(late, 0.2, 1.0)},
        "ROL005": {"frame_motion": np.where(late, 4.1, 1.0)},
        "ROL006": {"frame_jerk": well.frame_truth_jerk + np.where(late, 0.31, 0)},
        "ROL007": {"frame_contrast": np.where(late, 0.69, 1.0)},
        "ROL008": {"clip_motion": np.where(late, 0.009, 1.0) * np.ones((well.clips, 1))},
    }
    for code, fields in fires.items():
        finding = judge(dataclasses.replace(well, **fields))[code]
        assert finding.level is Level.FAIL, code
        assert finding.fix, code
        assert "+6" in f"{finding.text} {finding.evidence}" or code == "ROL003", code


def test_blur_in_the_first_four_frames_is_let_pass(well: RolloutResult) -> None:
    early = dataclasses.replace(well, frame_sharpness=np.where(np.arange(well.horizon) < 4, 0.1, 0.5))
    assert judge(early)["ROL004"].level is Level.OK
    assert judge(early, sharp_after=2)["ROL004"].level is Level.FAIL
    short = probe(**example(), horizon=2)
    blurred = dataclasses.replace(short, frame_sharpness=np.array([0.9, 0.1]))
    assert judge(blurred)["ROL004"].level is Level.FAIL


def test_frames_behind_the_copy_and_one_frozen_clip_are_warnings(well: RolloutResult) -> None:
    behind = well.frame_psnr.copy()
    behind[0] = well.frame_copy_psnr[0] - 1
    assert judge(dataclasses.replace(well, frame_psnr=behind), psnr_min=0)["ROL003"].level is Level.WARN
    still = well.clip_motion.copy()
    still[1, -2:] = 0
    assert (
        judge(dataclasses.replace(well, clip_motion=still), frozen_share_max=0.5)["ROL008"].level
        is Level.WARN
    )
    still[1] = 1
    still[1, -1] = 0
    assert judge(dataclasses.replace(well, clip_motion=still))["ROL008"].level is Level.OK


def test_a_truth_that_stands_still_asks_for_nothing() -> None:
    still = squares(2)[:, :1].repeat(1, 10, 1, 1, 1)
    findings = judge(answered(still, still[:, 4:] + 0.01))
    assert [f.code for f in findings if f.level is Level.SKIP] == ["ROL003", "ROL005", "ROL006", "ROL008"]
    assert findings.verdict is Level.OK


def test_a_rollout_that_is_all_nan_is_told_once() -> None:
    clips = squares(2)
    findings = judge(answered(clips, torch.full_like(clips[:, 4:], torch.nan)))
    assert findings["ROL001"].level is Level.FAIL
    assert {f.level for f in findings[1:]} == {Level.SKIP}


def test_limits_have_the_defaults_that_the_issue_names() -> None:
    assert (RolloutLimits().psnr_min, RolloutLimits().sharp_after) == (15.0, 4)


# --- pictures


@pytest.mark.parametrize("view", ["strip", "curves", "frame"])
def test_pictures_of_shapes(view: str) -> None:
    for clips in (
        squares(1, 6, 8),
        squares(2, 30, 8).repeat(1, 1, 3, 1, 2),
        squares(3, 5, 4).repeat(1, 1, 2, 1, 1),
    ):
        future = clips[:, 4:] + 0.1
        future[0, -1] = torch.nan
        r = answered(clips, future, layout="frames first")
        assert len(tl.rollout.plot(r, view).png()) > 3000


def test_the_strip_says_which_frames_it_shows() -> None:
    clips = squares(2, 20)
    r = answered(clips, clips[:, 4:] + 0.1)
    words = [text.get_text() for text in tl.rollout.plot(r, "strip", first=5).axes[0].texts]
    assert [word for word in words if word.startswith("+")] == [f"+{i}" for i in range(5, 15)]
    assert words.count("20.0 dB") == 10
    assert "context" not in words
    assert "frame +7: 20.0 dB" in tl.rollout.plot(r, "frame", frame=7).get_suptitle()
