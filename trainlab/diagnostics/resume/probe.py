"""From a checkpoint, and a training loop where one is named, to a result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from trainlab.diagnostics.resume.contents import contents
from trainlab.diagnostics.resume.example import loop_of
from trainlab.diagnostics.resume.inventory import counters, optimizers, parts, rates
from trainlab.diagnostics.resume.loop import open_loop
from trainlab.diagnostics.resume.parts import recognise
from trainlab.diagnostics.resume.replay import nothing_replayed, replay
from trainlab.diagnostics.resume.result import ResumeResult
from trainlab.diagnostics.resume.settings import compare, read_config
from trainlab.errors import UsageError
from trainlab.subjects import Checkpoint

__all__ = ["probe"]

Named = str | Callable[..., Any]


def probe(
    ckpt: Checkpoint,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] = "",
    step: Named = "",
    start: Named = "",
    save: Named = "",
    steps: int = 6,
    needs: str = "",
) -> ResumeResult:
    """Looks into a checkpoint for all that a resume needs and, given a training loop, resumes it and compares.

    The file is read weights-only. The random streams of the process are left as found; a loop is the caller's
    own code, and what else it changes in the process stays changed.

    Args:
        ckpt: The checkpoint; the replay begins from it.
        config: The config now in use: a mapping, a .json, .yaml or .toml file, or arguments as they are typed,
            ``--lr 3e-4 --batch-size 8``. Compared with the one that the file stores.
        step: ``step(state, n)`` takes n steps and returns their losses: ``package.module:step``,
            ``path/file.py:step`` or the function.
        start: ``start(path)`` makes the state, new for None and from a saved file otherwise; ``start`` in the
            module of ``step`` by default.
        save: ``save(state, path)`` writes the checkpoint; ``save`` in the module of ``step`` by default.
        steps: Steps before the save and after it. More of them tell pieces that act late, such as a schedule.
        needs: Parts that this run needs, with commas between, where file and config cannot tell: ``RNG numpy, EMA``.

    Raises:
        SubjectError: The file is damaged or holds code; the loop lacks a function, or one of them failed.
        UsageError: ``steps`` is less than 1, or ``needs`` names no part.
    """
    if steps < 1:
        raise UsageError("a replay takes at least one step", seen=f"steps={steps}", fix="steps=6")
    content = contents(ckpt)
    stored = recognise(content)
    kept = ckpt.config or {}
    if not stored.averages:
        stored.averages += [name for name in ckpt.others if "ema" in name.lower()]
    loop = open_loop(step, start, save) if step else loop_of(ckpt)
    return ResumeResult(
        path=str(ckpt.path),
        format=ckpt.format,
        **parts(stored, ckpt.tensors, ckpt.key, kept, needs),
        **counters(stored, kept),
        **rates(stored, kept),
        **optimizers(stored, ckpt.tensors),
        **_compared(kept, config),
        **(replay(loop, ckpt.path, steps) if loop else nothing_replayed(NO_LOOP)),
    )


NO_LOOP = (
    "no training loop was named: step='package.module:step', with start and save beside it, proves the resume"
)


def _compared(stored: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The columns of a result that the config in use decides."""
    reason = "" if config else "no config in use was given: config= a file, a dict or the arguments as typed"
    if config and not stored:
        reason = "the file stores no config to compare with: save 'config' with the rest"
    differences, same = compare(stored, read_config(config)) if not reason else ([], 0)
    return {
        "config_given": not reason,
        "config_reason": reason,
        "setting_same": same,
        "setting_name": tuple(each.name for each in differences),
        "setting_stored": tuple(each.stored for each in differences),
        "setting_now": tuple(each.now for each in differences),
        "setting_effect": tuple(each.effect for each in differences),
    }
