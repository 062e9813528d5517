"""Reads a batch: which of its tensors are inputs, which one is the content, and how samples are swapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.visit import TARGETS, forward_names, map_tensors, tensors, without_target

__all__ = ["Reading", "Source", "read"]


@dataclass(frozen=True)
class Source:
    """One input of the batch.

    Attributes:
        path: Where it lies in the batch, as `tensors` says it; empty where it is no tensor.
        name: What forward calls it.
        role: ``content``, ``input``, ``mask`` or ``target``.
        shape: As text.
        reason: Why it cannot be swapped; empty where it can.
    """

    path: str
    name: str
    role: str
    shape: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """A batch as the probe sees it.

    Attributes:
        inputs: What the model is called with.
        sources: Its inputs, in the order in which forward takes them.
        content: The source that carries the content.
        samples: Size of the batch.
        axis: Which axis of the tensors is the batch.
        target_name: The target's name; empty where there is none.
        target: The target, where the batch brings one.
    """

    inputs: object
    sources: tuple[Source, ...]
    content: Source
    samples: int
    axis: int
    target_name: str
    target: Tensor | None

    @property
    def swappable(self) -> tuple[Source, ...]:
        """The sources that differ between samples."""
        return tuple(source for source in self.sources if not source.reason)

    def swapped(self, order: Tensor, sources: Collection[Source]) -> object:
        """The inputs with the samples of these sources in another order; nothing is changed in place."""
        paths = {source.path for source in sources}

        def swap(path: str, tensor: Tensor) -> Tensor:
            if path not in paths:
                return tensor
            return tensor.index_select(self.axis if tensor.dim() > self.axis else 0, order.to(tensor.device))

        return map_tensors(self.inputs, swap)

    def tensor(self, source: Source) -> Tensor:
        """The values of a source."""
        return tensors(self.inputs)[source.path]


def read(model: nn.Module, batch: object, *, content: str, target: str, axis: int) -> Reading:
    """Sorts a batch into inputs, content and target.

    Args:
        model: Its forward names the inputs, and tells which entries are none.
        batch: As `call` takes it, and beside the inputs perhaps a target.
        content: Name of the input that carries the content; empty for the first argument of forward that has
            more than one number a sample and is no mask.
        target: Name of the target; empty for an entry that forward does not take: one named target, targets,
            label, labels or y, or the last of a tuple that is one longer than forward's arguments.
        axis: Which axis is the batch.

    Raises:
        NotApplicable: There are fewer than two samples, or all are the same.
        UsageError: ``content`` or ``target`` names nothing in the batch.
    """
    names = forward_names(model)
    inputs, target_name, target_value = without_target(model, batch, target)
    found = {path: (_named(path, names, inputs), tensor) for path, tensor in tensors(inputs).items()}
    if not found:
        raise NotApplicable(
            "the batch holds no tensor that samples could be swapped in",
            seen=type(batch).__name__,
            fix="give the batch that the model is trained on: tensors, a tuple or a dict of them",
        )
    order = sorted(found, key=lambda path: _place(found[path][0], names))
    chosen = _content(found, order, content)
    samples = _samples(found[chosen], axis)
    passed = {target_name, target, *TARGETS} - {""}
    sources = []
    for path in order:
        name, tensor = found[path]
        masked = tensor.dtype == torch.bool or "mask" in name
        role = "content" if path == chosen else "target" if name in passed else "mask" if masked else "input"
        reason = _reason(tensor, samples, axis)
        sources.append(Source(path, name, role, "×".join(map(str, tensor.shape)) or "scalar", reason))
        if role == "target" and target_value is None:
            target_name, target_value = name, tensor
    for name, value in _plain_entries(inputs, names):
        sources.append(Source("", name, "input", "number", f"one value for the whole batch: {value}"))
    if all(source.reason for source in sources):
        raise NotApplicable(
            f"all {samples} samples of the batch are the same, so the output cannot tell whether it listens",
            seen="; ".join(f"{source.name}: {source.reason}" for source in sources),
            fix="give a batch of different samples",
        )
    return Reading(
        inputs,
        tuple(sources),
        next(source for source in sources if source.role == "content"),
        samples,
        axis,
        target_name,
        target_value,
    )


def _named(path: str, names: list[str], inputs: object) -> str:
    """What forward calls the tensor at a path: ``x``, ``cond.text``."""
    if path == "":
        return names[0] if names else "input"
    if isinstance(inputs, Mapping):
        return path
    head = re.split(r"[.\[]", path, maxsplit=1)[0]
    if head.isdigit() and int(head) < len(names):
        return names[int(head)] + path[len(head) :]
    return f"input {path}" if head.isdigit() else path


def _place(name: str, names: list[str]) -> int:
    head = re.split(r"[.\[]", name, maxsplit=1)[0]
    return names.index(head) if head in names else len(names)


def _content(found: Mapping[str, tuple[str, Tensor]], order: list[str], content: str) -> str:
    if content:
        named = {name: path for path, (name, _) in found.items()}
        if content not in named:
            raise UsageError(f"the batch has no input {content!r}", fix=did_you_mean(content, named))
        return named[content]
    telling = [p for p in order if found[p][1].dtype != torch.bool and "mask" not in found[p][0]] or order
    wide = [path for path in telling if found[path][1].numel() > max(found[path][1].shape, default=1)]
    # one number a sample is a condition wherever anything richer is there
    several = [path for path in telling if found[path][1].dim() > 1]
    return (wide or several or telling)[0]


def _samples(named: tuple[str, Tensor], axis: int) -> int:
    name, tensor = named
    samples = tensor.shape[axis] if tensor.dim() > axis else 1
    if samples < 2:
        raise NotApplicable(
            "one sample cannot be compared with another",
            seen=f"{name} of shape {tuple(tensor.shape)}: {samples} on axis {axis}, which is taken for the batch",
            fix="give a batch of two or more different samples, or say which axis it is: batch_axis=1",
        )
    return samples


def _reason(tensor: Tensor, samples: int, axis: int) -> str:
    if tensor.dim() == 0:
        return "one value for the whole batch"
    axis = axis if tensor.dim() > axis else 0
    if tensor.shape[axis] != samples:
        return f"{tensor.shape[axis]} on the batch axis, where there are {samples} samples"
    if bool((tensor == tensor.narrow(axis, 0, 1)).all()):
        return "the same for every sample"
    return ""


def _plain_entries(inputs: object, names: list[str]) -> list[tuple[str, object]]:
    """Numbers that stand in the batch as they are, without a tensor."""
    if isinstance(inputs, Mapping):
        entries = [(str(key), value) for key, value in inputs.items()]
    elif isinstance(inputs, tuple | list):
        entries = [(names[i] if i < len(names) else f"input {i}", value) for i, value in enumerate(inputs)]
    else:
        entries = []
    return [(name, value) for name, value in entries if isinstance(value, int | float)]
