"""The probe of `timesteps`: numbers worked out otherwise, and every objective."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainlab.diagnostics.timesteps import diagnostic
from trainlab.diagnostics.timesteps.accumulating import estimate, strata
from trainlab.diagnostics.timesteps.objectives import noise_of
from trainlab.diagnostics.timesteps.schedules import SCHEDULES, Schedule
from trainlab.diagnostics.timesteps.sweep import places_of
from trainlab.errors import NotApplicable, SubjectError, UsageError
from trainlab.examples import tiny
from trainlab.student import student

probe = diagnostic.probe


class Gaussian(nn.Module):
    """The posterior mean of Gaussian data of mean 0 and a given deviation, as each kind of answer states it."""

    def __init__(self, kind="x0", schedule="straight", steps=0, deviation=0.5):
        super().__init__()
        self.kind, self.mix, self.variance = kind, Schedule(schedule, steps).mix, deviation**2
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        a, b = (torch.as_tensor(each, dtype=x.dtype)[:, None] for each in self.mix(t.double().numpy()))
        clean = a * self.variance / (a**2 * self.variance + b**2) * x
        noise = b / (a**2 * self.variance + b**2) * x
        return {
            "x0": clean,
            "edm": clean,
            "epsilon": noise,
            "v": a * noise - b * clean,
            "flow": noise - clean,
        }[self.kind]


def gaussian_batch(clips, steps=0, deviation=0.5, seed=5, width=24):
    rng = torch.Generator().manual_seed(seed)
    x = deviation * torch.randn(clips, width, generator=rng)
    return {"x": x, "t": torch.zeros(clips, dtype=torch.int64 if steps else torch.float32)}


def least_loss(kind, a, b, variance):
    gain = {"epsilon": a**2, "v": (a**2 + b**2) ** 2, "flow": (a + b) ** 2}.get(kind, b**2)
    return gain * variance / (a**2 * variance + b**2)


# --- numbers


def test_a_sweep_is_what_a_loop_over_single_clips_gives():
    subjects = tiny.healthy()
    model, clips = subjects["model"], subjects["batch"]["target"][:5]
    batch = {name: each[:5] for name, each in subjects["batch"].items()}
    result = probe(model, batch, objective="forcing", levels=4, samples=10, seed=3)
    assert result.draws == 2
    at = np.linspace(0, 1, 4)
    total, count = np.zeros((4, 4)), np.zeros((4, 4))
    with torch.no_grad():
        for clip in range(5):
            for draw in range(2):
                noise = noise_of(clips.shape[1:], 3, clip, draw)
                for level in range(4):
                    places = places_of(FakeTask, level, clip, draw, 3)
                    tau = torch.tensor(at[places], dtype=torch.float32)
                    wide = tau[:, None, None, None]
                    x = (1 - wide) * clips[clip] + wide * noise
                    error = (model(x[None], tau[None])[0] - clips[clip]).double().square().mean((1, 2, 3))
                    for frame in range(4):
                        total[places[frame], frame] += error[frame]
                        count[places[frame], frame] += 1
    assert (count == 10).all()
    np.testing.assert_allclose(result.grid("cell_mean")[0, 0], total / count, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result.level_mean, total.sum(1) / 40, rtol=1e-6)
    np.testing.assert_allclose(result.frame_mean, total.sum(0) / 40, rtol=1e-6)


class FakeTask:
    at, frames, per_frame = np.zeros(4), 4, True


@pytest.mark.parametrize(
    ("kind", "schedule", "steps"),
    [
        ("x0", "straight", 0),
        ("epsilon", "linear", 100),
        ("v", "cosine", 0),
        ("flow", "straight", 0),
        ("edm", "karras", 0),
    ],
)
def test_the_posterior_mean_of_gaussian_data_loses_what_its_formula_says(kind, schedule, steps):
    model, batch = Gaussian(kind, schedule, steps), gaussian_batch(400, steps)
    settings = {} if kind == "edm" else {"schedule": schedule}
    result = probe(model, batch, objective=kind, steps=steps, levels=8, samples=400, level="t", **settings)
    a, b = Schedule(schedule, steps).mix(result.levels())
    expected = least_loss(kind, a, b, 0.25)
    assert (np.abs(result.level_mean - expected) <= 4 * result.level_se + 1e-6).all()
    np.testing.assert_allclose(result.level_ideal, expected, rtol=0.06, atol=1e-6)
    assert (result.level_mean <= result.trivial() * 1.05).all()


def test_a_known_answer_on_paper():
    class Half(nn.Module):  # answers half of its input
        def forward(self, x, t):
            return x / 2

    batch = {"x": torch.full((4, 3, 2), 2.0), "t": torch.zeros(4)}
    result = probe(Half(), batch, objective="x0", levels=3, samples=4)
    np.testing.assert_allclose(result.level_mean[0], 1.0)  # (1 − 2)² at level 0
    np.testing.assert_allclose(result.level_zero, 4.0)
    np.testing.assert_allclose(result.level_average, 0.0)
    np.testing.assert_allclose(result.grid("frame_copy")[0, 0, 1:], 0.0)


def test_standard_errors_cover():
    """Clips differ, and draws of one clip are alike: 95 % intervals by clips hold the truth, those by samples would not."""
    rng = np.random.default_rng(0)
    clips, draws, trials = 12, 8, 4000
    values = 1 + rng.normal(size=(trials, 1, clips)) + 0.5 * rng.normal(size=(trials, draws, clips))
    found = estimate(values.transpose(1, 0, 2)[:, :, None, :], (2,))
    covered = np.abs(found.mean - 1) <= student(clips - 1) * found.se
    assert 0.94 <= covered.mean() <= 0.965
    naive = values.reshape(trials, -1).std(1) / math.sqrt(clips * draws)
    assert (np.abs(found.mean - 1) <= 1.96 * naive).mean() < 0.7


def test_standard_errors_of_real_losses_cover():
    model, batch = Gaussian(), gaussian_batch(16 * 150)
    inside = []
    for trial in range(150):
        part = {name: each[16 * trial : 16 * trial + 16] for name, each in batch.items()}
        result = probe(model, part, objective="x0", levels=4, samples=16, seed=trial)
        a, b = Schedule("straight").mix(result.levels())
        inside.append(
            np.abs(result.level_mean - least_loss("x0", a, b, 0.25))[1:] <= result.margin("level_mean")[1:]
        )
    assert np.mean(inside) >= 0.94


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "karras"])
@pytest.mark.parametrize("steps", [0, 50])
@pytest.mark.parametrize("convention", ["1 is noise", "1 is clean"])
def test_a_schedule_finds_its_own_levels_again(name, steps, convention):
    schedule = Schedule(name, steps, convention)
    told = schedule.grid(9)
    a, b = schedule.mix(told)
    assert (np.diff(b) > 0).all()
    if schedule.preserving:
        np.testing.assert_allclose(a**2 + b**2, 1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(schedule.told_at(b / a), told, atol=1e-6)


# --- the same noise


@pytest.fixture(scope="module")
def gauss():
    return probe(Gaussian(), gaussian_batch(24), objective="x0", levels=5, samples=48)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_how_many_go_into_a_call_changes_nothing(gauss, rows):
    again = probe(Gaussian(), gaussian_batch(24), objective="x0", levels=5, samples=48, rows=rows)
    np.testing.assert_allclose(again.unit_loss, gauss.unit_loss, rtol=1e-6)


def test_other_clips_in_the_batch_change_nothing(gauss):
    few = {name: each[:9] for name, each in gaussian_batch(24).items()}
    again = probe(Gaussian(), few, objective="x0", levels=5, samples=18)
    np.testing.assert_allclose(again.unit_loss[0], gauss.unit_loss[0][:, :9], rtol=1e-6)


def test_two_checkpoints_with_the_same_weights_do_not_differ_in_the_last_digit(tmp_path):
    model, batch = tiny.healthy().values()
    for name in ("a", "b"):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    other = tiny.sick("uniform_attention")["model"]
    torch.save(other.state_dict(), tmp_path / "c.pt")
    files = [tmp_path / f"{name}.pt" for name in "abc"]
    result = probe(model, batch, ckpts=files, objective="forcing", levels=4, samples=16)
    assert result.checkpoint_name == ("a", "b", "c")
    change, margin = result.change(0, 1)
    assert not change.any()
    assert not margin.any()
    change, margin = result.change(1, 2)
    assert (change > margin).any()
    assert probe(model, batch, ckpts=tmp_path, objective="forcing", levels=4, samples=16) == result


def test_it_draws_until_the_error_is_small_enough():
    kind = {"objective": "x0", "levels": 5}
    reached = probe(Gaussian(), gaussian_batch(1), samples=8, se=0.05, **kind)
    assert reached.draws > 8
    assert reached.stopped == "the standard error that was asked for is reached"
    assert np.nanmax(reached.level_se[1:] / reached.level_mean[1:]) <= 0.05
    spent = probe(Gaussian(), gaussian_batch(24), samples=24, se=1e-6, budget=100, **kind)
    assert spent.stopped == "the budget of 100 losses a cell is spent"
    alike = probe(nn_constant(), gaussian_batch(8), samples=8, se=1e-6, budget=10**6, **kind)
    assert alike.stopped.startswith("clips differ more than noise draws")


def nn_constant():
    class Constant(nn.Module):
        def forward(self, x, t):
            return 0 * x

    return Constant()


def test_of_a_single_clip_the_draws_are_the_units():
    result = probe(Gaussian(), gaussian_batch(1), objective="x0", levels=4, samples=12)
    assert (result.unit, result.draws) == ("noise draw", 12)
    assert (result.level_units == 12).all()
    assert (result.level_se[1:-1] > 0).all()


# --- objectives


def test_the_convention_is_a_setting():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Gaussian("flow")

        def forward(self, x, t):
            return -self.inner(x, 1 - t)

    batch = gaussian_batch(16)
    noise = probe(Gaussian("flow"), batch, objective="flow", levels=5, samples=16)
    clean = probe(Told(), batch, objective="flow", levels=5, samples=16, convention="1 is clean")
    np.testing.assert_allclose(clean.level_mean, noise.level_mean, rtol=1e-5)
    np.testing.assert_allclose(clean.level_at, 1 - noise.level_at)


def test_an_edm_network_is_the_inside_of_its_denoiser():
    class Network(nn.Module):
        def forward(self, x, noise_level):
            sigma = (4 * noise_level).exp()[:, None]
            total = (sigma**2 + 0.25).sqrt()
            noisy = x * total
            denoised = 0.25 / (0.25 + sigma**2) * noisy
            skip, out = 0.25 / total**2, sigma * 0.5 / total
            return (denoised - skip * noisy) / out

    batch = gaussian_batch(8)
    whole = probe(Gaussian("edm", "karras"), batch, objective="edm", levels=6, samples=8)
    inside = probe(Network(), {"x": batch["x"]}, objective="edm_network", levels=6, samples=8)
    np.testing.assert_allclose(inside.level_mean, whole.level_mean, rtol=1e-3, atol=1e-8)


class Level(nn.Module):
    """The posterior mean of clips that are one Gaussian number everywhere."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x, t):
        a, b = 1 - t[:, None], t[:, None].clamp(min=1e-6)
        clean = (a / (a**2 + b**2 / x.shape[1]) * x.mean(1, keepdim=True)).expand_as(x)
        noise = (x - a * clean) / b
        return {"x0": clean, "epsilon": noise, "v": a * noise - b * clean, "flow": noise - clean}[self.kind]


@pytest.mark.parametrize("kind", ["x0", "epsilon", "v", "flow"])
def test_the_objective_is_guessed_by_what_the_answers_resemble(kind):
    x = torch.randn(32, 1, generator=torch.Generator().manual_seed(0)).expand(32, 24)
    result = probe(Level(kind), {"x": x, "t": torch.zeros(32)}, levels=4, samples=32)
    assert result.objective == kind
    assert f"resemble {kind}" in result.why


def test_weights_stand_beside_the_unweighted():
    steps = {"steps": 100, "schedule": "cosine", "levels": 6, "samples": 8}
    result = probe(
        Gaussian("epsilon", "cosine", 100),
        gaussian_batch(8, 100),
        objective="epsilon",
        weighting="min_snr",
        **steps,
    )
    a, b = Schedule("cosine", 100).mix(result.levels())
    snr = a**2 / b**2
    np.testing.assert_allclose(result.level_weighted, result.level_mean * np.minimum(snr, 5) / snr)


class Bigram(nn.Module):
    """Logits that know how often a token follows another, and nothing else."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.arange(25.0).view(5, 5) / 10)

    def forward(self, input_ids):
        return {"logits": self.table[input_ids]}


def test_a_language_model_loses_nats_by_position_within_its_length():
    ids = torch.randint(5, (8, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[4:, 5:] = 0
    model = Bigram()
    result = probe(model, {"input_ids": ids, "attention_mask": mask}, objective="lm")
    loss = nn.functional.cross_entropy(
        model.table[ids[:, :-1]].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    ).view(8, 6)
    assert result.length == (4, 6)
    short, long = result.grid("frame_mean")[0]
    np.testing.assert_allclose(long, loss[:4].detach().mean(0), rtol=1e-6)
    np.testing.assert_allclose(short[:4], loss[4:, :4].detach().mean(0), rtol=1e-6)
    assert np.isnan(short[4:]).all()
    np.testing.assert_allclose(result.level_zero, math.log(5))
    assert probe(model, {"input_ids": ids}).objective == "lm"


def test_labels_that_are_shifted_already_are_not_shifted_again():
    ids = torch.randint(5, (6, 8), generator=torch.Generator().manual_seed(0))
    whole = probe(Bigram(), {"input_ids": ids})
    shifted = probe(Bigram(), {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}, objective="lm")
    np.testing.assert_allclose(shifted.frame_mean, whole.frame_mean, rtol=1e-6)


def test_the_next_frame_is_compared_with_copying():
    class Same(nn.Module):
        def forward(self, frames):
            return frames

    frames = torch.randn(6, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0)).cumsum(1)
    result = probe(Same(), frames)
    assert result.objective == "next_frame"
    expected = (frames[:, 1:] - frames[:, :-1]).square().mean((0, 2, 3, 4))
    np.testing.assert_allclose(result.frame_mean, expected, rtol=1e-5)
    np.testing.assert_allclose(result.frame_copy, expected, rtol=1e-5)


def test_masked_frames_do_not_count():
    class Same(nn.Module):
        def forward(self, x, t):
            return x

    x = torch.randn(6, 4, 3)
    x[3:, 2:] = 1e6
    batch = {"x": x, "t": torch.zeros(6), "lengths": torch.tensor([4, 4, 4, 2, 2, 2])}
    result = probe(Same(), batch, objective="x0", levels=3, samples=6)
    assert result.length == (2, 4)
    assert np.nanmax(result.level_mean) < 10
    assert (result.grid("frame_count")[0, 0] == [9, 9, 0, 0]).all()


def test_many_lengths_are_grouped_by_powers_of_two():
    assert strata(np.array([3, 5, 5, 9])).tolist() == [3, 5, 5, 9]
    assert sorted(set(strata(np.arange(1, 40)).tolist())) == [1, 2, 4, 8, 16, 32, 64]


def own_loss(model, batch, *, tau, noise):
    wide = tau[:, :, None, None, None]
    return (model((1 - wide) * batch["target"] + wide * noise, tau) - batch["target"]).square()


def test_your_own_loss_is_called_with_the_axes_that_it_names():
    model, batch = tiny.healthy().values()
    settings = {"levels": 4, "samples": 16}
    mine = probe(model, batch, loss=own_loss, **settings)
    ours = probe(model, batch, objective="forcing", **settings)
    np.testing.assert_allclose(mine.cell_mean, ours.cell_mean, rtol=1e-5)
    np.testing.assert_allclose(mine.told_ratio, ours.told_ratio[:2], rtol=1e-4)
    assert mine.why == "loss=own_loss, called with tau, noise"


def test_your_own_loss_may_draw_its_own_noise():
    def loss(model, batch, t, generator):
        x = batch["x"]
        noise = torch.randn(x.shape, generator=generator)
        return (model((1 - t[:, None]) * x + t[:, None] * noise, t) - x).square().mean(1)

    first = probe(Gaussian(), gaussian_batch(12), loss=loss, levels=4, samples=24)
    again = probe(Gaussian(), gaussian_batch(12), loss=loss, levels=4, samples=24)
    assert first == again
    assert first.draws == 2
    assert first.level_mean[0] < 1e-9
    assert first.level_mean[-1] == pytest.approx(0.25, rel=0.2)


def test_a_shortcut_model_is_asked_for_every_step_size():
    class Straight(nn.Module):
        def forward(self, x, t, dt):
            return torch.ones_like(x)

    batch = {"x": torch.randn(6, 4), "t": torch.zeros(6)}
    result = probe(Straight(), batch, objective="flow", levels=4, samples=6)
    assert result.step_size.tolist() == [2.0**-power for power in range(7, -1, -1)]
    np.testing.assert_allclose(result.step_mean, 0)


# --- words


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"objective": "epsilo"}, UsageError, "did you mean 'epsilon'"),
        ({"objective": "x0", "schedule": "cosin"}, UsageError, "did you mean 'cosine'"),
        ({"objective": "x0", "convention": "1 is clear"}, UsageError, "did you mean '1 is clean'"),
        ({"weighting": "min-snr"}, UsageError, "did you mean 'min_snr'"),
        ({"level": "tt"}, UsageError, "did you mean 't'"),
        ({"clean": "xx"}, UsageError, "the batch has no entry 'xx'"),
        ({"levels": 1}, UsageError, "too few levels"),
        ({"frame_axis": 4}, UsageError, "no axis of x"),
    ],
)
def test_what_is_mistyped_is_told(settings, error, says):
    with pytest.raises(error) as raised:
        probe(Gaussian(), gaussian_batch(4), **settings)
    assert says in str(raised.value)


def test_what_is_missing_is_told():
    with pytest.raises(SubjectError, match="a batch is needed"):
        diagnostic.examine(model=Gaussian())
    with pytest.raises(SubjectError, match="nothing tells along what"):
        probe(nn.Linear(24, 24), gaussian_batch(4)["x"])
    with pytest.raises(SubjectError, match="needs an argument of forward that takes the level"):
        probe(nn.Linear(24, 24), gaussian_batch(4)["x"], objective="x0")
    with pytest.raises(SubjectError, match="gives no number for each clip"):
        probe(Gaussian(), gaussian_batch(4), loss=lambda model, batch: batch["x"].mean())
    with pytest.raises(NotApplicable, match="one clip"):
        probe(Bigram(), {"input_ids": torch.zeros(1, 4, dtype=torch.int64)})
    with pytest.raises(SubjectError, match="no output of the model is shaped as the data"):
        probe(Narrow(), gaussian_batch(4), objective="x0")


class Narrow(nn.Module):
    def forward(self, x, t):
        return x[:, :3]
