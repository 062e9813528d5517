"""Training into a folder: checkpoints that resume, logs that people and programs read, a picture, a recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import digits
from trainlab.examples.digits.evaluation import evaluate, strip
from trainlab.examples.digits.log import Log
from trainlab.examples.digits.run import Run
from trainlab.examples.digits.twins import LATE, check_twin, plant
from trainlab.progress import track
from trainlab.result import write_whole

__all__ = ["train"]

RECIPE = """\
# What a checkpoint of this run needs to come alive, so that `-p ckpt PATH` is all that a report is given.
model = "trainlab.examples.digits:build"
batch = "trainlab.examples.digits:one_batch"
"""


def train(
    out_dir: str | Path,
    *,
    steps: int | None = None,
    seed: int = 0,
    twin: str | None = None,
    config: Mapping[str, object] | None = None,
) -> Path:
    """Trains a run into a folder, or finds it there already.

    Writes ``step_0000.pt``, one checkpoint every ``save_every`` steps and ``last.pt``, the logs ``train.log`` and
    ``log.jsonl``, a picture ``strip.png``, the recipe ``trainlab.toml`` and, last, the config ``run.json``. A folder that
    holds a finished run of the same config is left as it is. About 50 ms a step on one CPU core.

    Args:
        out_dir: The run's folder; it is made.
        steps: How many steps; the config's own where left out.
        seed: Of the model's init, the clips and the noise.
        twin: A fault, a key of `TWINS` or `SLIPS`; None trains the healthy model.
        config: More settings by name, see `Config`.

    Returns:
        The path of ``last.pt``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        UsageError: An unknown setting or twin.
        TrainlabError: The loss stopped being finite.
    """
    settings = replace(Config.of(config), seed=seed, twin=twin)
    if steps is not None:
        settings = replace(settings, steps=steps)
    if twin is not None:
        check_twin(twin)
    folder = Path(out_dir)
    last = folder / "last.pt"
    if last.exists() and finished(folder) == asdict(settings):
        return last
    glyphs = digits(held_out=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)
    write_whole(folder / "trainlab.toml", RECIPE.encode())
    run, log = Run.start(settings), Log(folder, settings.steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one hardly helps a model this small, and waits long on a busy machine
    try:
        _run(run, log, glyphs, folder)
    finally:
        torch.set_num_threads(threads)
    # Written last: its presence says that the run is whole.
    write_whole(folder / "run.json", json.dumps(asdict(settings), indent=1).encode())
    return last


def _run(run: Run, log: Log, glyphs: torch.Tensor, folder: Path) -> None:
    settings, twin = run.config, run.config.twin
    save_checkpoint(run.state(len(glyphs)), folder / "step_0000.pt")
    for _ in track(range(settings.steps), label=f"digits: train {twin or 'healthy'}"):
        numbers = run.step(glyphs)
        log.write(run.iter, run.epoch(len(glyphs)), numbers)
        if run.iter % settings.save_every == 0 and run.iter < settings.steps:
            save_checkpoint(run.state(len(glyphs)), folder / f"step_{run.iter:04d}.pt")
    if twin in LATE:
        plant(run.model, twin)
    log.say(str(evaluate(run.model, settings)))
    strip(run.model, settings).savefig(folder / "strip.png")
    save_checkpoint(run.state(len(glyphs)), folder / f"step_{run.iter:04d}.pt")
    save_checkpoint(run.state(len(glyphs)), folder / "last.pt")


def finished(folder: Path) -> object:
    """The config of the finished run in a folder; None where there is none."""
    record = folder / "run.json"
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else None


def save_checkpoint(state: Mapping[str, object], path: Path) -> None:
    """Writes a checkpoint, so that ``path`` is never half a file."""
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    part.replace(path)
