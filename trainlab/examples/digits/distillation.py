"""A sick twin whose fault is in its code: distillation, with a projector made in the teacher's half precision.

It trains without complaint, since autocast casts whatever goes into a linear layer. The first evaluation outside
autocast raises ``mat1 and mat2 must have the same dtype, but got Half and Float``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from trainlab.examples.digits import data
from trainlab.examples.digits.config import Config
from trainlab.examples.digits.model import DigitDynamics
from trainlab.examples.digits.training import save_checkpoint
from trainlab.progress import track
from trainlab.result import write_whole

__all__ = ["Distilled", "build", "distil", "one_batch"]

RECIPE = """\
# What a checkpoint of this run needs to come alive, so that `-p ckpt PATH` is all that a report is given.
model = "trainlab.examples.digits.distillation:build"
batch = "trainlab.examples.digits.distillation:one_batch"
"""


def build(config: Mapping[str, object] | None = None) -> Distilled:
    """Builds the model that a checkpoint's config describes, with fresh weights.

    Args:
        config: Settings by name, see `Config`; what is left out has its default.
    """
    return Distilled(Config.of(config))


def one_batch(config: Mapping[str, object] | None = None) -> dict[str, Tensor]:
    """Four held-out clips, see `trainlab.examples.digits.one_batch`: half precision is slow on a CPU."""
    return data.one_batch(config, count=4)


class Distilled(nn.Module):
    """A student that corrects its answer by a hint from a frozen teacher in float16.

    Args:
        config: Of the student; the teacher has two blocks, for a CPU's sake.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        pixels = config.size**2
        self.student = DigitDynamics(config)
        self.teacher = DigitDynamics(replace(config, depth=2)).half().requires_grad_(False)
        # The fault: it belongs to the student, and should be float32.
        self.projector = nn.Linear(pixels, config.dim, dtype=self.teacher.place.dtype)
        self.correction = nn.Linear(config.dim, pixels)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        """Predicts the clean frames; arguments and result as for `DigitDynamics`."""
        with torch.autocast(x.device.type, enabled=False):  # the teacher is half on purpose
            guess = self.teacher(x.half(), tau.half()).flatten(2)  # (batch, frame, pixel)
        hint = self.projector(guess.to(self.projector.weight.dtype))
        predicted: Tensor = self.student(x, tau) + self.correction(hint.relu()).view_as(x)
        return predicted


def distil(out_dir: str | Path, *, steps: int = 20, seed: int = 0) -> Path:
    """Trains the twin under autocast (bfloat16) into a folder: ``last.pt`` and the recipe ``trainlab.toml``.

    A folder that holds such a checkpoint is left as it is. About 0.1 s a step on one CPU core.

    Args:
        out_dir: The run's folder; it is made.
        steps: How many.
        seed: Of the weights, the clips and the noise.

    Returns:
        The path of ``last.pt``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    last = Path(out_dir) / "last.pt"
    if last.exists():
        return last
    last.parent.mkdir(parents=True, exist_ok=True)
    config = Config(steps=steps, seed=seed, autocast=True)
    rng, glyphs = torch.Generator().manual_seed(seed), data.digits(held_out=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Distilled(config)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in track(range(steps), label="digits: train distillation"):
        batch = data.draw(glyphs, config.batch, config, rng)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(batch["x"], batch["tau"])
        torch.autograd.backward(mse_loss(predicted.float(), batch["target"]))
        optimizer.step()
        optimizer.zero_grad()
    write_whole(last.parent / "trainlab.toml", RECIPE.encode())
    save_checkpoint({"model": model.state_dict(), "iter": steps, "config": asdict(config)}, last)
    return last
