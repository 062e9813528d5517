"""What the zoo learns: each task draws batches, and says how well a model does on one it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody writes it

from trainlab.examples.digits.config import Config
from trainlab.examples.digits.data import moving
from trainlab.examples.tiny import blobs

__all__ = ["TASKS", "Task"]

Batch = dict[str, Tensor]
WORDS = 24  # 0 padding, 1 begin, 2 separator, 3 mask, others letters
LENGTH = 40


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        draw: (count, rng) -> what the model is called with, and what it should answer; -100 is not asked.
        good: Score that counts as trained: accuracy, or for pixels the share of the variance explained.
    """

    draw: Callable[[int, torch.Generator], tuple[Batch, Tensor]]
    good: float

    def loss(self, answer: Any, wanted: Tensor) -> Tensor:
        """Cross-entropy, or the mean square where pixels are wanted."""
        answer = getattr(answer, "logits", answer)
        if wanted.is_floating_point():
            return F.mse_loss(answer, wanted)
        return F.cross_entropy(answer.flatten(0, -2), wanted.flatten(), ignore_index=-100)

    def score(self, answer: Any, wanted: Tensor) -> float:
        """See ``good``."""
        answer = getattr(answer, "logits", answer)
        if wanted.is_floating_point():
            return float(1 - (answer - wanted).square().mean() / wanted.var())
        asked = wanted != -100
        return float((answer.argmax(-1) == wanted)[asked].float().mean())


def letters(count: int, length: int, rng: torch.Generator) -> Tensor:
    return torch.randint(4, WORDS, (count, length), generator=rng)


def copying(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """A random word said again and again: what follows is known from the second time on."""
    size = int(torch.randint(8, 14, (), generator=rng))
    word = letters(count, size, rng)
    ids = torch.cat([torch.ones(count, 1, dtype=torch.int64), word.repeat(1, LENGTH // size + 1)], 1)
    wanted = ids[:, 1 : LENGTH + 1].clone()
    wanted[:, :size] = -100
    return {"ids": ids[:, :LENGTH]}, wanted


def spelling(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """Text of 30 words, of which every second one says the last but one again; letters within words can be known."""
    lexicon = letters(30, 5, torch.Generator().manual_seed(7))
    chosen = torch.randint(30, (count, 8), generator=rng)
    chosen[:, 2::2] = chosen[:, 0:-2:2]
    text = torch.cat([torch.full((count, 8, 1), 2), lexicon[chosen]], 2).flatten(1)
    wanted = text[:, 1 : LENGTH + 1].clone()
    wanted[:, [0, 6]] = -100  # which two words these are, nobody can know
    return {"ids": text[:, :LENGTH]}, wanted


def backcopying(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """A chain of letters, each with three followers, but behind a capital (4 to 6) comes the letter before it again.

    Heads that wait for capitals rest on the first token meanwhile: attention sinks, learned (Guo et al. 2024,
    "Active-Dormant Attention Heads").
    """
    follows = torch.randint(7, WORDS, (WORDS, 3), generator=torch.Generator().manual_seed(5))
    ids = torch.ones(count, LENGTH + 1, dtype=torch.int64)
    ids[:, 1] = torch.randint(7, WORDS, (count,), generator=rng)
    capital = torch.rand(ids.shape, generator=rng) < 0.15
    for place in range(2, ids.shape[1]):
        last, before = ids[:, place - 1], ids[:, place - 2]
        step = follows[last, torch.randint(3, (count,), generator=rng)]
        step = torch.where(capital[:, place] & (last > 6), torch.randint(4, 7, (count,), generator=rng), step)
        ids[:, place] = torch.where((last > 3) & (last < 7), before, step)
    return {"ids": ids[:, :-1]}, ids[:, 1:]


def filling(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """The same text with some letters masked; texts differ in length, so that there is padding."""
    text = spelling(count, rng)[0]["ids"]
    text = torch.cat([torch.ones(count, 1, dtype=torch.int64), text], 1)[:, :LENGTH]
    hidden = (torch.rand(text.shape, generator=rng) < 0.2) & (text > 3)
    behind = torch.arange(LENGTH) >= torch.randint(LENGTH - 15, LENGTH + 1, (count, 1), generator=rng)
    wanted = text.masked_fill(~hidden | behind, -100)
    return {"ids": text.masked_fill(hidden, 3).masked_fill(behind, 0)}, wanted


def glyphs(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """One of ten 8×8 drawings somewhere in a noisy 16×16 image: which?"""
    drawings = (torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(3)) > 0.5).float()
    drawings = drawings.repeat_interleave(2, -1).repeat_interleave(2, -2)
    which = torch.randint(10, (count,), generator=rng)
    images = 0.3 * torch.randn(count, 1, 16, 16, generator=rng)
    for row, (top, left) in enumerate(4 * torch.randint(0, 3, (count, 2), generator=rng)):
        images[row, :, top : top + 8, left : left + 8] += drawings[which[row]]
    return {"images": images}, which


def video(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """A blob flies and bounces; the last of five frames is to be painted."""
    clips = moving(blobs(), count, Config(frames=5, size=8, glyph=4), rng)
    return {"video": clips}, clips[:, -1]


def reversing(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """The same letters, the last one first."""
    source = letters(count, 10, rng)
    return _answered(source, source.flip(1))


def sorting(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """The same letters in the order of the alphabet."""
    source = letters(count, 10, rng)
    return _answered(source, source.sort(1).values)


def twice(count: int, rng: torch.Generator) -> tuple[Batch, Tensor]:
    """Of sixteen letters one is there twice: which?"""
    ids = torch.stack([torch.randperm(WORDS - 4, generator=rng)[:16] + 4 for _ in range(count)])
    ids[:, 15] = ids[:, 0]
    order = torch.rand(ids.shape, generator=rng).argsort(1)
    return {"ids": ids.gather(1, order)}, ids[:, 0] - 4


def _answered(source: Tensor, wanted: Tensor) -> tuple[Batch, Tensor]:
    begin = torch.ones(len(source), 1, dtype=torch.int64)
    return {"source": source, "target": torch.cat([begin, wanted[:, :-1]], 1)}, wanted


TASKS = {
    "copying": Task(copying, 0.65), "spelling": Task(spelling, 0.6), "backcopying": Task(backcopying, 0.33), "filling": Task(filling, 0.55),
    "glyphs": Task(glyphs, 0.8), "video": Task(video, 0.25), "reversing": Task(reversing, 0.9),
    "sorting": Task(sorting, 0.8), "twice": Task(twice, 0.8),
}  # fmt: skip
