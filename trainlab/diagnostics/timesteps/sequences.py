"""Losses that have positions but no noise level: the next token, the next frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainlab.diagnostics.timesteps.baselines import mean_of_others
from trainlab.diagnostics.timesteps.objectives import Losses, Told
from trainlab.diagnostics.timesteps.reading import Reading, first_like
from trainlab.errors import SubjectError
from trainlab.visit import call, tensors

__all__ = ["Language", "NextFrame"]

VOCABULARY = 2**15  # about so many logits a token, until the first call tells
IGNORED = -100  # the label that Hugging Face's and torch's losses pass over


@dataclass
class NextFrame:
    """A model that gives at each frame the next one: mean squared error against the frame that came."""

    reading: Reading
    per_frame: bool = False
    draws: bool = False
    at_once: bool = False

    def __post_init__(self) -> None:
        self.at, self.share, self.weight = np.zeros(1), np.zeros(1), np.ones(1)
        if self.reading.axis is None:
            raise SubjectError("next_frame needs frames", seen=f"data {tuple(self.reading.clean.shape)}", fix="frame_axis=1")  # fmt: skip
        self.frames = self.reading.frames - 1
        mask = self.reading.mask
        clips, self.size = len(self.reading.clean), self.reading.clean[0].numel()
        self.valid = np.ones((self.frames, clips), bool) if mask is None else mask[:, 1:].numpy().T

    def losses(self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None) -> Losses:  # noqa: ARG002
        """``loss`` of each frame from the second on; ``own`` and ``previous`` as in `Denoising`."""
        clean = self.reading.clean[rows]
        answer = first_like(call(model, self.reading.rows(rows) | {self.reading.entry: clean}), clean)
        guess, truth, before = self._but_last(answer), self._but_first(clean), self._but_last(clean)
        by_frame = self.reading.by_frame
        loss = by_frame((guess - truth.to(guess.device)).square())
        return {"loss": loss, "own": loss, "previous": by_frame((guess - before.to(guess.device)).square())}

    def baselines(self) -> dict[str, np.ndarray]:
        """``zero``, ``average`` of the other clips, and ``copy`` of the frame before."""
        clean = self.reading.clean.detach().cpu().double()
        truth, before = self._but_first(clean), self._but_last(clean)
        errors = {
            "zero": truth,
            "average": truth - self._but_first(mean_of_others(self.reading)),
            "copy": truth - before,
        }
        found = {name: self.reading.by_frame(each.square()).numpy().T[None] for name, each in errors.items()}
        return found | {"ideal": np.full_like(found["zero"], np.nan)}

    def _but_first(self, clips: Tensor) -> Tensor:
        return clips.narrow(self.reading.axis or 1, 1, self.frames)

    def _but_last(self, clips: Tensor) -> Tensor:
        return clips.narrow(self.reading.axis or 1, 0, self.frames)


@dataclass
class Language:
    """A causal language model: cross-entropy in nats at every position.

    Position 0 is the prediction of the second token. Labels of −100 and positions that the attention mask leaves out
    do not count. Labels that are the tokens themselves are shifted, as Hugging Face does; those that are shifted
    already are taken as they are.
    """

    reading: Reading
    per_frame: bool = False
    draws: bool = False
    at_once: bool = False

    def __post_init__(self) -> None:
        self.at, self.share, self.weight = np.zeros(1), np.zeros(1), np.ones(1)
        tokens, target = self.reading.clean, self.reading.target
        labels = self.reading.others.get("labels", target)
        if not isinstance(labels, Tensor) or labels.shape != tokens.shape:
            labels = tokens
        known = labels[:, :-1] != IGNORED
        self.shifted = bool((labels[:, :-1] == tokens[:, 1:])[known].all()) and not torch.equal(
            labels, tokens
        )
        mask = self.reading.mask
        counts = torch.ones(tokens.shape, dtype=torch.bool) if mask is None else mask
        if not self.shifted:
            labels, counts = labels[:, 1:], counts[:, 1:]
        self.labels = labels
        self.valid = (counts & (labels.cpu() != IGNORED)).numpy().T
        self.frames = labels.shape[1]
        self.vocabulary, self.size = 0, VOCABULARY * self.frames

    def losses(self, model: nn.Module, rows: Tensor, places: Tensor, draw: int, told: Told | None) -> Losses:  # noqa: ARG002
        """``loss`` of each position, in nats."""
        tokens = self.reading.clean[rows]
        inputs = {name: value for name, value in self.reading.rows(rows).items() if name != "labels"}
        output = call(model, inputs | {self.reading.entry: tokens})
        logits = _logits(output, tokens)
        self.vocabulary, self.size = logits.shape[-1], logits[0].numel()
        logits = logits[:, : self.frames].float().transpose(1, 2)
        labels = self.labels[rows].to(logits.device)
        return {"loss": cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").double()}

    def baselines(self) -> dict[str, np.ndarray]:
        """``zero`` logits: log of the vocabulary; ``average``: how often the other clips hold the token, add one."""
        labels = self.labels.cpu().clamp(min=0)
        size = max(self.vocabulary, int(labels.max()) + 1)
        weight = torch.as_tensor(self.valid.T.astype(np.float64))
        counts = torch.zeros(len(labels), size, dtype=torch.float64).scatter_add_(1, labels, weight)
        others = counts.sum(0) - counts + 1
        average = -(others / others.sum(1, keepdim=True)).log().gather(1, labels).numpy().T[None]
        nothing = np.full_like(average, np.nan)
        return {
            "zero": np.full_like(average, np.log(size)),
            "average": average,
            "copy": nothing,
            "ideal": nothing,
        }


def _logits(output: object, tokens: Tensor) -> Tensor:
    found = {name: each for name, each in tensors(output).items() if each.is_floating_point()}
    for each in found.values():
        if each.ndim == 3 and each.shape[:2] == tokens.shape:
            return each
    raise SubjectError(
        "no output of the model has logits at every position",
        seen=", ".join(f"{name or 'output'} {tuple(each.shape)}" for name, each in found.items())
        or "no floating output",
        fix="give a loss= of your own, which returns one number for each position",
    )
