"""How tokens lie in images and video, and which of them an attention is about."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import isqrt
from typing import Self

import torch
from torch import Tensor, nn

from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring.chunks import hidden, sizes, unweighted
from trainlab.errors import UsageError
from trainlab.visit import tensors

__all__ = ["Grid", "Layout", "guess_grid", "place"]

PREFIX = 16  # most leading tokens (CLS, registers) that are taken for a prefix unasked
NAMES = {
    "time": re.compile(r"time|tempor", re.IGNORECASE),
    "space": re.compile(r"space|spati", re.IGNORECASE),
}
CROSS = re.compile(r"cross|encoder_att|encdecatt", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the tokens of a call are.

    Attributes:
        kind: ``space``, ``time``, ``joint``, ``cross`` or ``sequence``; see `AttentionResult.call_layout`.
        prefix: Leading tokens that are not on the grid.
        frames: Frames of the grid, 0 where there is none.
        height: Rows of places in a frame.
        width: Places in a row.
        why: Why it is a sequence, where it could have been something else.
    """

    kind: str = "sequence"
    prefix: int = 0
    frames: int = 0
    height: int = 0
    width: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Frames × height × width of a batch entry's tokens, behind a prefix; ``prefix`` is None where it is not known."""

    frames: int
    height: int
    width: int
    prefix: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``8x4x4`` (frames × height × width), ``14x14`` (an image), ``1+8x14x14`` (one token before them).

        Raises:
            UsageError: It is none of these.
        """
        match = re.fullmatch(r"(?:(\d+)\s*\+\s*)?(?:(\d+)\s*[x×]\s*)?(\d+)\s*[x×]\s*(\d+)", text.strip())
        if match is None or "0" in match.groups()[1:]:
            raise UsageError(
                "this is no grid of tokens",
                seen=repr(text),
                fix="frames x height x width, as in '8x4x4', '14x14' for an image, '1+14x14' behind a CLS token",
            )
        prefix, frames, height, width = match.groups()
        return cls(int(frames or 1), int(height), int(width), None if prefix is None else int(prefix))

    def __str__(self) -> str:
        frames = f"{self.frames}x" if self.frames > 1 else ""
        return f"{f'{self.prefix}+' if self.prefix else ''}{frames}{self.height}x{self.width}"


def guess_grid(model: nn.Module, batch: object) -> tuple[Grid | None, str]:
    """How do the tokens of a batch lie, by its pictures and the model's patches?

    Args:
        model: Its first strided convolution, pixel unshuffle, or linear layer over patches says how large a patch is.
        batch: As the model takes it.

    Returns:
        The grid or None, and why, in words.
    """
    pictures = {name: t for name, t in tensors(batch).items() if t.ndim in (4, 5) and t.is_floating_point()}
    if not pictures:
        return None, "the batch has no images or video"
    modules = dict(model.named_modules())
    # a linear layer may be as wide as patches are by chance: what can only make patches goes first
    ordered = sorted(modules, key=lambda path: isinstance(modules[path], nn.Linear))
    for name, picture in pictures.items():
        for path in ordered:
            if found := _patches(modules[path], picture):
                return (
                    found,
                    f"{name or 'batch'} {tuple(picture.shape)} in the patches of {path or 'the model'}",
                )
    name, picture = next(iter(pictures.items()))
    return None, f"no layer makes patches of {name or 'the batch'} {tuple(picture.shape)}"


def _patches(module: nn.Module, picture: Tensor) -> Grid | None:
    """The grid that a module cuts a picture into, if it makes patches of it."""
    for axis in range(picture.ndim - 3, 0, -1):  # of the channels: of video before or after the frames
        channels = picture.shape[axis]
        frames = picture.shape[3 - axis] if picture.ndim == 5 else 1
        lengths = [frames, *picture.shape[-2:]]
        steps = _steps(module, channels)
        if steps is not None and all(n % step == 0 for n, step in zip(lengths, steps, strict=True)):
            return Grid(*(n // step for n, step in zip(lengths, steps, strict=True)))
    return None


def _steps(module: nn.Module, channels: int) -> tuple[int, int, int] | None:
    """Frames, rows and columns of a module's patches, if it makes patches of so many channels."""
    if (
        isinstance(module, (nn.Conv2d, nn.Conv3d))
        and module.in_channels == channels
        and max(module.stride) > 1
    ):
        return (*(1,) * (3 - len(module.stride)), *module.stride)  # type: ignore[return-value]
    if isinstance(module, nn.PixelUnshuffle):
        return 1, module.downscale_factor, module.downscale_factor
    if isinstance(module, nn.Linear) and module.in_features % channels == 0:
        side = isqrt(module.in_features // channels)
        if side > 1 and side**2 * channels == module.in_features:
            return 1, side, side
    return None


def place(grid: Grid | None, count: int, call: Call, cached: dict[str, int] | None = None) -> Layout:
    """What are the tokens of a call?

    Divided space-time attention is known by its sizes: tokens of one frame for each frame, or of one place for each
    place. Where both fit, causal attention is over time; then the module's name decides (``time``, ``temporal``,
    ``space``, ``spatial``).

    Args:
        grid: Of the batch's tokens, if known.
        count: Entries of the model's batch.
        call: The call.
        cached: By module how many keys its last self-attention had; kept up from call to call. Where a call has as many
            and its queries besides, its queries are the last tokens of a sequence.
    """
    size, cached = sizes(call), {} if cached is None else cached
    if CROSS.search(call.module):
        return Layout("cross")
    if size.queries != size.keys:
        if cached.get(call.module) != size.keys - size.queries and not _goes_on(call):
            return Layout("cross")
        cached[call.module] = size.keys
        return Layout()
    cached[call.module] = size.keys
    if grid is None:
        return Layout()
    places = grid.height * grid.width
    found = []
    for kind, tokens, folded, shape in (
        ("joint", grid.frames * places, 1, (grid.frames, grid.height, grid.width)),
        ("space", places, grid.frames, (1, grid.height, grid.width)),
        ("time", grid.frames, places, (grid.frames, 1, 1)),
    ):
        prefix = size.keys - tokens
        known = (
            (0, grid.prefix)
            if grid.prefix is not None
            else range(1 if kind == "time" else min(tokens, PREFIX + 1))
        )
        if prefix in known and size.entries % (count * folded) == 0 and (kind == "joint" or grid.frames > 1):
            found.append(Layout(kind, prefix, *shape))
    if len(found) > 1 and _causal(call):
        return next(layout for layout in found if layout.kind == "time")
    named = [layout for layout in found if layout.kind in NAMES and NAMES[layout.kind].search(call.module)]
    if len(found) == 1 or len(named) == 1:
        return (named or found)[0]
    if found:
        return Layout(
            why=f"{call.module}: {size.keys} tokens may be the places of a frame or the frames of a place"
        )
    return Layout()


def _goes_on(call: Call) -> bool:
    """Whether queries are the last of the keys: the first sees nothing behind its place there, and the last the last."""
    size = sizes(call)
    if not 1 < size.queries < size.keys or call.mask is None:
        return False
    rows = torch.tensor([0, size.queries - 1], device=call.mask.device)
    unseen, start = hidden(replace(call, causal=False), slice(0, 1), rows, size.keys)
    if unseen is None or start:
        return False
    behind = unseen[:, :, 0, size.keys - size.queries + 1 :]
    return bool(behind.all() and not unseen[:, :, 1, -1].any())


def _causal(call: Call) -> bool:
    """Whether every query sees nothing behind it."""
    size = sizes(call)
    device = (call.k if call.k is not None else call.weights).device  # type: ignore[union-attr]
    rows = torch.arange(size.queries, device=device)
    given = None if call.weights is None else unweighted(call, slice(0, 1), rows)
    unseen, _ = hidden(replace(call, causal=False), slice(0, 1), rows, size.keys, given)
    ahead = rows[:, None] < rows
    return call.causal or (unseen is not None and bool(unseen[..., ahead].all()))
