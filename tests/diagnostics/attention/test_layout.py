"""How tokens lie: grids read, grids guessed, and what each call is about."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.diagnostics.attention.by_hand import random_call
from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.measuring import Grid, Layout, guess_grid, place
from trainlab.errors import UsageError
from trainlab.examples.digits import build, one_batch


@pytest.mark.parametrize(
    ("text", "grid", "back"),
    [
        ("8x4x4", Grid(8, 4, 4), "8x4x4"),
        ("14x14", Grid(1, 14, 14), "14x14"),
        ("1+14x14", Grid(1, 14, 14, 1), "1+14x14"),
        (" 5 + 8 × 14 x 12", Grid(8, 14, 12, 5), "5+8x14x12"),
        ("0+2x3", Grid(1, 2, 3, 0), "2x3"),
    ],
)
def test_a_grid_is_read_and_written(text: str, grid: Grid, back: str) -> None:
    assert Grid.parse(text) == grid
    assert str(grid) == back


@pytest.mark.parametrize("text", ["", "14", "14x", "0x4", "1x2x3x4", "a+2x2", "2x2+1"])
def test_what_is_no_grid_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no grid of tokens"):
        Grid.parse(text)


@pytest.mark.parametrize(
    ("model", "shape", "grid"),
    [
        (nn.Conv2d(3, 8, 16, 16), (2, 3, 224, 192), Grid(1, 14, 12)),
        (nn.Conv2d(3, 8, 4, 4), (2, 5, 3, 16, 16), Grid(5, 4, 4)),
        (nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16)), (2, 3, 8, 64, 64), Grid(4, 4, 4)),
        (nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16)), (2, 8, 3, 64, 64), Grid(4, 4, 4)),
        (nn.PixelUnshuffle(4), (2, 3, 16, 32), Grid(1, 4, 8)),
        (nn.Linear(16 * 3, 8), (2, 3, 16, 16), Grid(1, 4, 4)),
        (nn.Sequential(nn.Linear(64, 8), nn.Conv2d(4, 8, 2, 2)), (2, 4, 32, 32), Grid(1, 16, 16)),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 32, 32), None),
        (nn.Conv2d(3, 8, 16, 16), (2, 7), None),
    ],
)
def test_the_grid_is_guessed_from_patches_and_pictures(
    model: nn.Module, shape: tuple[int, ...], grid: Grid | None
) -> None:
    found, why = guess_grid(model, {"x": torch.zeros(shape)})
    assert found == grid
    assert why


def call(entries: int, queries: int, keys: int = 0, module: str = "blocks.0.attn", **more: object) -> Call:
    made = random_call(
        entries=entries, heads=1, key_heads=1, queries=queries, keys=keys or queries, depth=2, **more
    )
    return Call(**{name: getattr(made, name) for name in Call.__slots__} | {"module": module})


VIDEO = Grid(8, 4, 4)
CAUSAL_MASK = torch.ones(1, 1, 16, 16).tril().bool()


@pytest.mark.parametrize(
    ("grid", "made", "layout"),
    [
        (None, call(2, 9), Layout("sequence")),
        (None, call(2, 9, 5), Layout("cross")),
        (None, call(2, 9, module="decoder.cross_attn"), Layout("cross")),
        (VIDEO, call(2, 128), Layout("joint", 0, 8, 4, 4)),
        (VIDEO, call(2, 129), Layout("joint", 1, 8, 4, 4)),
        (VIDEO, call(16, 16), Layout("space", 0, 1, 4, 4)),
        (VIDEO, call(16, 17), Layout("space", 1, 1, 4, 4)),
        (VIDEO, call(32, 8), Layout("time", 0, 8, 1, 1)),
        (VIDEO, call(32, 9), Layout("sequence")),
        (VIDEO, call(2, 200), Layout("sequence")),
        (VIDEO, call(2, 16), Layout("sequence")),
        (Grid(8, 4, 4, 40), call(2, 168), Layout("joint", 40, 8, 4, 4)),
        (Grid(1, 14, 14), call(2, 197), Layout("joint", 1, 1, 14, 14)),
        (Grid(1, 56, 56), call(128, 49), Layout("sequence")),
        (Grid(16, 4, 4), call(32, 16, causal=True), Layout("time", 0, 16, 1, 1)),
        (Grid(16, 4, 4), call(32, 16, mask=CAUSAL_MASK), Layout("time", 0, 16, 1, 1)),
        (Grid(16, 4, 4), call(32, 16, module="blocks.0.temporal_attn"), Layout("time", 0, 16, 1, 1)),
        (Grid(16, 4, 4), call(32, 16, module="blocks.0.space"), Layout("space", 0, 1, 4, 4)),
    ],
)
def test_a_call_is_placed_by_its_sizes(grid: Grid | None, made: Call, layout: Layout) -> None:
    assert place(grid, 2, made) == layout


def test_what_sizes_cannot_tell_stays_a_sequence_and_says_so() -> None:
    layout = place(Grid(16, 4, 4), 2, call(32, 16))
    assert layout.kind == "sequence"
    assert layout.why == "blocks.0.attn: 16 tokens may be the places of a frame or the frames of a place"


def test_queries_behind_a_cache_are_the_last_of_a_sequence() -> None:
    cached: dict[str, int] = {}
    steps = [(9, 9), (1, 10), (1, 11), (3, 14), (1, 14), (1, 9)]
    kinds = [place(None, 2, call(2, q, k), cached).kind for q, k in steps]
    assert kinds == ["sequence"] * 4 + ["cross"] * 2
    assert (
        place(None, 2, call(2, 1, 10, module="decoder.cross_attn"), {"decoder.cross_attn": 9}).kind == "cross"
    )


def test_a_mask_may_say_that_queries_are_the_last_of_the_keys() -> None:
    staircase = torch.ones(1, 1, 3, 11).tril(8).bool()
    assert place(None, 2, call(2, 3, 11, mask=staircase)).kind == "sequence"
    padded = staircase & (torch.arange(11) > 2)
    assert place(None, 2, call(2, 3, 11, mask=padded)).kind == "sequence"
    for mask in (
        torch.ones(1, 1, 3, 11).bool(),
        torch.arange(11)[None, None, None] < 4,
        torch.zeros(1, 1, 3, 11),
    ):
        assert place(None, 2, call(2, 3, 11, mask=mask)).kind == "cross"


def test_the_digits_demo_is_video() -> None:
    batch = one_batch(count=2)
    grid, why = guess_grid(build(), batch)
    assert grid == Grid(16, 4, 4)
    assert why == "x (2, 16, 1, 16, 16) in the patches of embed"
