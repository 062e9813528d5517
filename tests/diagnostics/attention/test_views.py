from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import SubFigure

from benchmarks.attention_page import FETCHED
from tests.diagnostics.attention.pictures import (
    LABELS,
    VIEW,
    Stack,
    attended,
    blank,
    digits,
    drawn,
    image,
    words,
)
from trainlab.diagnostics.attention.probe import probe
from trainlab.diagnostics.attention.result import AttentionResult
from trainlab.diagnostics.attention.views import VIEWS
from trainlab.diagnostics.attention.views_drawing import NOTHING, blocks, short_names
from trainlab.errors import UsageError
from trainlab.figure import Picture
from trainlab.panel.controls import Knobs


@pytest.fixture(scope="module")
def results() -> dict[str, AttentionResult]:
    nan = attended(40)
    thumbnail = nan.thumbnail.copy()
    thumbnail[:1024] = np.nan
    broken = {
        name: np.full_like(value, np.nan)
        for name, value in vars(nan).items()
        if name.startswith("head_") and isinstance(value, np.ndarray) and value.dtype == np.float64
    }
    return {
        "text": attended(len(LABELS), labels=LABELS),
        "long": attended(300, depth=1),
        "sampled": attended(40, rows=16),
        "image": attended(17, causal=False, grid="1+4x4"),
        "clip": attended(2 * 3 * 4 + 2, causal=False, grid="2+2x3x4"),
        "digits": digits(),
        "one token": attended(1, depth=1, heads=1),
        "nothing kept": attended(40, keep_mb=0.0),
        "slim": attended(40).slim(),
        "not finite": dataclasses.replace(
            nan, thumbnail=thumbnail, receive=np.full_like(nan.receive, np.nan), **broken
        ),
        "many": blank(200, 64, 5),
        "no head of its own": blank(1, 1, 1),
    }


@pytest.mark.parametrize("view", VIEW)
def test_every_view_draws_every_result(view: str, results: dict[str, AttentionResult]) -> None:
    for r in results.values():
        knobs = VIEW[view].knobs_for(r)
        controls = Knobs(knobs, VIEW[view].start, {}, print)  # each starts at a choice that it has
        assert controls.values == {name: VIEW[view].start[name] for name in knobs}
        assert drawn(r, view).axes


@pytest.mark.parametrize("view", VIEW)
def test_every_knob_can_be_turned(view: str, results: dict[str, AttentionResult]) -> None:
    for name in ("text", "clip", "many"):
        for knob, what in VIEW[view].knobs_for(results[name]).items():
            if isinstance(what, bool):
                choices: list[Any] = [not what]
            elif isinstance(what, tuple):
                choices = list(what[:2])
            else:
                choices = list(what.values() if isinstance(what, dict) else what)[1:][
                    :: max(1, len(what) // 2)
                ]
            for choice in choices:
                picture = Picture(*VIEW[view].size)
                VIEW[view].paint(results[name], picture, **{knob: choice})
                assert picture.axes


def test_views_draw_on_a_part_of_a_figure(results: dict[str, AttentionResult]) -> None:
    for view in VIEWS:
        canvas = Picture(16, 6)
        half: SubFigure = canvas.subfigures(1, 2)[0]  # type: ignore[index]
        view.paint(results["digits"], half)
        assert half.axes
        canvas.png(scale=0.5)


# --- all heads


def test_a_tile_of_the_grid_is_the_heads_thumbnail() -> None:
    r = attended(64, depth=3, heads=2)
    canvas = image(drawn(r, "grid").axes[0])
    assert canvas.shape == (3 * 35, 2 * 35, 4)
    tile, thumbnail = canvas[70:102, 35:67], r.thumbnails(2)[1]
    grey = (np.abs(tile[..., :3] - tuple(int(NOTHING[i : i + 2], 16) / 255 for i in (1, 3, 5))) < 0.01).all(
        -1
    )
    assert (grey == (thumbnail == 0)).all()  # what is behind a query
    brightness = np.where(grey, 0, tile[..., :3].sum(-1))
    assert brightness.argmax() == thumbnail.argmax()


def test_blocks_of_uneven_size_show_no_stripes() -> None:
    r = probe(Stack(1, 1, causal=False), torch.zeros(1, 50, 8))
    assert np.unique(r.thumbnails(0)[0]).size > 1  # some blocks hold two keys
    np.testing.assert_allclose(blocks(r, 0), 1 / 50, rtol=1e-5)


def test_the_heads_of_one_call_go_on_below_each_other() -> None:
    r = attended(40, depth=1, heads=5)
    picture = drawn(r, "grid")
    canvas = image(picture.axes[0])
    assert canvas.shape == (2 * 35, 3 * 35, 4)
    assert (canvas[35:67, 70:, :3] == 1).all()  # there is no sixth
    assert "3 …" in words(picture)


def test_the_grid_says_what_it_does_not_show() -> None:
    r = attended(64)
    row = int(r.head_largest.argmax())
    said = words(drawn(r, "grid")).replace("\n", " ")
    query, key = r.head_largest_query[row], r.head_largest_key[row]
    assert (
        f"Largest single weight that is not shown: {r.head_largest[row]:.3g}, entry {r.head_largest_entry[row]}, query {query} on key {key} in"
        in said
    )
    block = r.thumbnails(int(r.head_call[row]))[r.head_number[row], query // 2, key // 2] / 2
    assert f"the mean of its block is {block:.3g}" in said
    assert r.coverage().replace("\n", " ") in said
    many = words(drawn(blank(200, 64, 5), "grid", calls=24)).replace("\n", " ")
    assert "On other pages: 176 of 200 calls and 48 of 64 heads." in many
    assert "stage.24" in many
    assert "stage.23" not in many


def test_nothing_is_hidden_by_thumbnails_of_every_token() -> None:
    x = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
    assert "Largest single weight" not in words(drawn(probe(Stack(1, 2, causal=True), x), "grid"))


def test_heads_prints_the_field_and_its_standard_error() -> None:
    r = attended(40, rows=16)
    said = words(drawn(r, "heads", statistic="largest weight"))
    for value, error in zip(r.head_peak, r.head_peak_se, strict=True):
        assert f"{value:.2f}\n±{error:.2f}".replace("0.", ".") in said
    assert "Of 16 sampled queries" in said
    assert "±" not in words(drawn(attended(40), "heads"))
    assert set(VIEW["heads"].knobs_for(r)["statistic"]).isdisjoint({"other frames", "prefix"})


def test_calls_with_fewer_heads_leave_their_cells_empty() -> None:
    r = blank(2, 3, 4)
    kept = np.arange(6) != 5
    tables = {
        name: value[kept]
        for name, value in vars(r).items()
        if name.startswith("head_") and isinstance(value, np.ndarray) and len(value) == 6
    }
    fewer = dataclasses.replace(r, call_heads=np.array([3, 2]), thumbnail=r.thumbnail[:80], **tables)
    cells = image(drawn(fewer, "heads").axes[0])
    assert cells[1, 2, 3] == 0
    assert (cells[..., 3] > 0).sum() == 5


def test_received_shows_a_sink() -> None:
    said = words(
        drawn(blank(1, 2, 40, head_sink_key=np.array([7, 9]), head_sink=np.array([0.75, 0.25])), "received")
    )
    assert "7: 0.75" in said
    assert "9: 0.25" in said
    assert "the most that one of 4 keys receives" in words(drawn(blank(1, 2, 2000), "received")).replace(
        "\n", " "
    )


@pytest.mark.parametrize(
    ("view", "knobs"),
    [
        ("grid", {"scale": "each row"}),
        ("grid", {"calls": 99}),
        ("grid", {"heads": -1}),
        ("heads", {"statistic": "entropie"}),
        ("map", {"head": 2}),
        ("map", {"scale": "log"}),
        ("map", {"size": 0}),
        ("map", {"first_query": -5}),
        ("row", {"direction": "up"}),
        ("row", {"position": 40}),
        ("row", {"entry": 0.5}),
        ("received", {"call": "h.0.attn"}),
        ("frames", {"heads": 99}),
        ("types", {"first": -1}),
        ("rollout", {"through": 4}),
    ],
)
def test_a_knob_that_is_not_there_is_told_in_words(
    view: str, knobs: dict[str, object], results: dict[str, AttentionResult]
) -> None:
    with pytest.raises(UsageError, match=f"there is no {next(iter(knobs))}"):
        drawn(results["clip" if view in {"frames", "types"} else "sampled"], view, **knobs)


def test_scores_of_all_sizes_have_plain_ticks() -> None:
    r = blank(2, 2, 4, head_logit=np.array([0.5, 3, 20, 400.0]))
    logit = drawn(r, "depth").axes[0]
    assert {"1", "10", "100"} <= {text.get_text() for text in logit.get_yticklabels()}
    assert not any("$" in text.get_text() for text in logit.get_yticklabels(minor=True))


def test_names_leave_out_what_all_share() -> None:
    names = ("model.h.0.attn", "model.h.1.attn")
    assert short_names(blank(2, 1, 4, call_name=names)) == ["h.0.attn", "h.1.attn"]
    assert short_names(blank(2, 1, 4, call_name=names), 7) == ["h.0", "h.1"]
    deep = ("encoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.1.EncDecAttention")
    assert short_names(blank(2, 1, 4, call_name=deep)) == [
        "encoder.0.0.SelfAttention",
        "decoder.0.1.EncDecAttention",
    ]
    assert short_names(blank(1, 1, 4, call_name=("",))) == ["model"]
    assert short_names(blank(2, 1, 4, call_name=("attn", "attn#2"))) == ["attn", "attn#2"]


# --- video


def test_frames_and_types_speak_of_video_alone() -> None:
    assert "no attention here looks across frames" in words(drawn(attended(40), "frames"))
    assert "no grid" in words(drawn(attended(40), "types"))
    r = digits("uniform_time_attention")
    time = r.call_layout.index("time")
    picture = drawn(r, "frames", call=time)
    shown = [axes for axes in picture.axes if axes.get_title(loc="left").startswith("head")]
    assert len(shown) == r.call_heads[time]
    assert "blocks" in words(picture)
    shares = drawn(r, "types").axes[0]
    widths = sum(bar.get_width() for bar in shares.patches)
    assert widths == pytest.approx(len(r.head_call), rel=1e-3)  # each head's shares add up to 1


# --- the benchmark of page sizes


@pytest.mark.parametrize(
    ("page", "fetches"),
    [
        ('<script src="https://cdn/x.js">', True),
        ("<link rel=stylesheet href='http://cdn/x.css'>", True),
        ('<style>@import url("https://cdn/x.css")</style>', True),
        ("background: url(//cdn/x.png)", True),
        ('<img src="data:image/png;base64,aGVs">', False),
        ('<a href="https://example.org">', False),
        ('<script>import {render} from "https://cdn/x.js"</script>', True),
    ],
)
def test_what_a_page_would_fetch_is_seen(page: str, fetches: bool) -> None:
    assert bool(FETCHED.search(page)) == fetches
