"""The contract that every diagnostic keeps, ours and everyone's: ``check_diagnostic(diagnostic)``."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import SubFigure
from torch import nn
from torch.nn.parameter import is_lazy

from trainlab.diagnostic import Diagnostic, Examination
from trainlab.errors import ResultError
from trainlab.figure import Picture
from trainlab.finding import Level
from trainlab.visit import map_tensors

__all__ = ["check_diagnostic", "fingerprint"]

Room = Diagnostic[..., Any, Any]


def check_diagnostic(diagnostic: Room) -> None:
    """Checks a diagnostic against the contract, on its own example.

    The subjects are left bit for bit as they were found, also after an exception; the result survives strict
    JSON; rules and views work on the result alone; each rule gives one finding; each knob can be turned.

    Args:
        diagnostic: The record to check.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """
    subjects: dict[str, Any] = dict(diagnostic.example())
    examination = _probe_leaves_no_trace(diagnostic, subjects)
    _hold(examination.result is not None, "the example gives a result, not a skip")
    result = _survives_json(diagnostic, examination)
    _rules_judge(diagnostic, result)
    _views_draw(diagnostic, result)
    for knob, abbreviation in diagnostic.rerun.items():
        other: dict[str, Any] = {**subjects, knob: _turn(abbreviation, diagnostic.settings[knob])}
        again = diagnostic.examine(**other)
        _hold(len(again.findings) == len(diagnostic.rules), f"each rule judges with {knob}={other[knob]!r}")


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and its process that a probe must leave as it was, as comparable values."""
    state: dict[str, Any] = {
        "rng": torch.get_rng_state().numpy().tobytes(),
        "python rng": random.getstate(),
        "numpy rng": repr(np.random.get_state(legacy=False)),  # noqa: NPY002 - the global stream is what is watched
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    }
    for name, module in model.named_modules():
        hooks = {
            key: len(value)
            for key, value in vars(module).items()
            if key.endswith("_hooks") and value is not None
        }
        state[f"module {name}"] = (id(module), module.training, hooks)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        gradient = None if tensor.grad is None else _bits(tensor.grad)
        state[f"tensor {name}"] = (id(tensor), tensor.requires_grad, _bits(tensor), gradient)
    return state


def _probe_leaves_no_trace(diagnostic: Room, subjects: dict[str, Any]) -> Examination:
    models = {name: subject for name, subject in subjects.items() if isinstance(subject, nn.Module)}
    for model in models.values():
        for index, module in enumerate(model.modules()):
            module.training = index % 2 == 0
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: str, tensor: torch.Tensor) -> torch.Tensor:
        kept.append((tensor, tensor.clone()))
        return tensor

    map_tensors({name: subject for name, subject in subjects.items() if name not in models}, keep)
    before = {name: fingerprint(model) for name, model in models.items()}
    examination = diagnostic.examine(**subjects)
    _same(before, models, "after a probe")
    _hold(all(torch.equal(now, then) for now, then in kept), "the batch is as it was found")

    for model in models.values():

        def stumble(*_: object) -> None:
            raise KeyboardInterrupt

        handle = model.register_forward_hook(stumble)
        broken = {name: fingerprint(other) for name, other in models.items()}
        try:
            diagnostic.examine(**subjects)
        except KeyboardInterrupt:
            _same(broken, models, "after an interrupted probe")
        finally:
            handle.remove()
    return examination


def _survives_json(diagnostic: Room, examination: Examination) -> Any:
    text = json.dumps(examination.to_dict(), allow_nan=False)
    again = Examination.from_dict(json.loads(text), diagnostic)
    _hold(again.result == examination.result.slim(), "what a page keeps of the result survives strict JSON")
    _hold(again.findings.to_dict() == examination.findings.to_dict(), "the findings survive strict JSON")
    whole = json.dumps(examination.result.to_dict(), allow_nan=False)
    result = diagnostic.result.from_dict(json.loads(whole))
    _hold(result == examination.result, "the result survives strict JSON")
    brief = examination.result.brief()
    json.dumps(brief, allow_nan=False)
    try:
        diagnostic.result.from_dict(brief)
    except ResultError:
        return result
    raise AssertionError("from_dict refuses a brief")


def _rules_judge(diagnostic: Room, result: Any) -> None:
    findings = diagnostic.judge(result)
    _hold(
        [f.code for f in findings] == [r.code for r in diagnostic.rules],
        "each rule gives one finding, in order",
    )
    for finding in findings:
        _hold(bool(finding.text), f"{finding.code} says what it looked at")
        well = finding.level in (Level.OK, Level.SKIP)
        _hold(well or bool(finding.fix), f"{finding.code} is {finding.level.value} and offers a fix")


def _views_draw(diagnostic: Room, result: Any) -> None:
    for view in diagnostic.views:
        start = diagnostic.plot(result, view.name)
        _hold(isinstance(start, Picture) and len(start.png()) > 1000, f"view {view.name} shows itself")
        _hold(bool(start.axes), f"view {view.name} draws something")
        for knob, abbreviation in view.knobs_for(result).items():
            other: dict[str, Any] = {knob: _turn(abbreviation, view.start[knob])}
            diagnostic.plot(result, view.name, **other)
        canvas = Picture(16, 6)
        half: SubFigure = canvas.subfigures(1, 2)[0]  # type: ignore[index]
        diagnostic.plot(result, view.name, figure=half)
        _hold(bool(half.axes), f"view {view.name} draws on a subfigure that it is handed")
        canvas.png()
    for table in diagnostic.result._tables():  # noqa: SLF001 - the contract covers every table
        _hold(len(result.frame(table)) == len(result.rows(table)), f"table {table} has a frame")


def _turn(abbreviation: object, current: object) -> object:
    """Another value that a widget made of this abbreviation could take."""
    if isinstance(abbreviation, bool):
        return not abbreviation
    if isinstance(abbreviation, tuple):
        low, high = abbreviation[:2]
        return low if current != low else high
    if isinstance(abbreviation, Mapping):
        abbreviation = list(abbreviation.values())
    if isinstance(abbreviation, list):
        value = abbreviation[-1]
        return value[1] if isinstance(value, tuple) else value
    return abbreviation


def _bits(tensor: torch.Tensor) -> bytes:
    if tensor.is_meta or is_lazy(tensor):
        return b""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _same(before: Mapping[str, Mapping[str, Any]], models: Mapping[str, nn.Module], when: str) -> None:
    for name, model in models.items():
        now = fingerprint(model)
        _hold(now.keys() == before[name].keys(), f"{name} has the parts it had {when}")
        for part, value in now.items():
            _hold(value == before[name][part], f"{name}: {part} is as it was found {when}")


def _hold(condition: bool, law: str) -> None:
    if not condition:
        raise AssertionError(f"the contract is broken: it should hold that {law}")
