"""The failed distillation of the users' story, written as such a run writes it: each of its numbers is told by a rule."""

from __future__ import annotations

import numpy as np
import pytest

from trainlab.diagnostics.curves import diagnostic
from trainlab.finding import Level
from trainlab.subjects.runlog.opening import open_log

TOTAL, LAST = 103_600, 52_000
IDLE = 16  # lines of noise after each that says something


def story():
    """One line of numbers a 100 steps, sixteen of noise after each."""
    rng = np.random.default_rng(0)
    lines = ["[2026-03-01 10:00:00] Starting knowledge distillation: student 120M, teacher 1.3B"]
    for step in range(0, LAST + 1, 100):
        loss = 12.5 + max(0.0, 12.5 * (1 - step / 500)) + rng.normal(0, 0.02)
        parts = {
            "loss": f"{loss:.4f}",
            "lm_loss": "10.8249" if step == 0 else "0.0000",
            "kd_loss": f"{rng.uniform(30, 40):.4f}",
            "feature_loss": f"{rng.uniform(150, 200):.4f}",
            "attention_loss": f"{rng.uniform(90, 140):.4f}",
            "curriculum_weight": f"{0.0672 * min(1, step / 51_000):.4f}",
            "perplexity": "485165195.41",
        }
        told = " | ".join(f"{name}: {value}" for name, value in parts.items())
        lines.append(f"step {step}/{TOTAL} ({100 * step / TOTAL:.1f}%) | {told}")
        lines += [
            f"[rank0] W0301 shard cache miss: reloading shard {rng.integers(9999)} (worker {k})"
            for k in range(IDLE)
        ]
    lines.append(f"Early stopping triggered at step {LAST}: no improvement for 50 evaluations")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    path = tmp_path_factory.mktemp("story") / "distill.log"
    path.write_text(story())
    return diagnostic.judge(diagnostic.probe(open_log(path)))


def evidence(finding):
    return " ".join(map(str, finding.evidence))


def test_the_log_is_a_distillation_that_failed(findings):
    assert findings.verdict is Level.FAIL


def test_kd_is_30_to_40(findings):
    assert findings["CRV013"].level is Level.WARN
    low, high = _range(findings["CRV013"], "kd_loss")
    assert 30 <= low < 31
    assert 39 < high <= 40


def test_feature_is_150_to_200(findings):
    low, high = _range(findings["CRV013"], "feature_loss")
    assert 150 <= low < 154
    assert 196 < high <= 200


def test_attention_is_90_to_140(findings):
    low, high = _range(findings["CRV013"], "attention_loss")
    assert 90 <= low < 94
    assert 136 < high <= 140


def _range(finding, name):
    unit = next(each.unit for each in finding.evidence if each.where == name)
    return tuple(float(part) for part in unit.split(",")[0].split("–"))


def test_a_part_outside_its_band_is_named(tmp_path):
    path = tmp_path / "distill.log"
    path.write_text(story())
    result = diagnostic.probe(open_log(path), bands={"kd_loss": (0.5, 5.0)})
    found = diagnostic.judge(result)["CRV013"]
    assert found.level is Level.WARN
    assert found.text.startswith("kd_loss is 3")
    assert found.text.endswith("outside its band from 0.5 to 5")


def test_the_language_loss_vanished_after_step_0(findings):
    found = findings["CRV012"]
    assert found.level is Level.FAIL
    assert found.text == "lm_loss is 0 after step 0, from 10.82"
    assert "distill.log:2" in evidence(found)


def test_the_curriculum_weight_is_0_0672_at_half_the_run(findings):
    found = findings["CRV014"]
    assert found.level is Level.FAIL
    assert found.text == "curriculum_weight is 0.0672 at 50.2 % of the run where 0.502 is meant"


def test_it_was_stopped_early_at_50_2_percent(findings):
    assert findings["CRV016"].text.startswith("stopped early at 50.2 % of 103,600 steps")
    assert "distill.log" in evidence(findings["CRV016"])


def test_perplexity_485_million_is_exp_20(findings):
    found = findings["CRV015"]
    assert found.level is Level.FAIL
    assert found.text.startswith("perplexity is 485,165,195 in 100 % of its points: exactly exp(20), a clamp")


def test_the_plateau_at_12_5_goes_from_step_500_to_52_000(findings):
    found = findings["CRV004"]
    assert found.level is Level.FAIL
    assert found.text.startswith("loss stays at 12.5 from step 500 to step 52,000")


def test_noise_hides_it(findings):
    found = findings["CRV019"]
    assert found.level is Level.WARN
    assert "94" in found.text
    assert "shard cache miss" in evidence(found)
