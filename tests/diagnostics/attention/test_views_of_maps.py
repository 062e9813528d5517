from __future__ import annotations

import numpy as np
import pytest

from tests.diagnostics.attention.pictures import LABELS, attended, digits, drawn, image, words
from trainlab.diagnostics.attention.measuring import rollout, weights
from trainlab.diagnostics.attention.views_drawing import readable
from trainlab.diagnostics.attention.views_of_maps import _means
from trainlab.errors import UsageError


def test_a_tile_is_the_exact_map() -> None:
    r = attended(100)
    picture = drawn(r, "map", call=1, head=1, first_query=30, first_key=20, size=16)
    exact = weights(r, 1, 1, 0, queries=slice(30, 46), keys=slice(20, 36))
    assert f"the largest weight here is {exact.max():.3g}" in words(picture)
    assert picture.axes[0].images[0].get_extent() == [19.5, 35.5, 45.5, 29.5]
    grey = image(picture.axes[0])[..., :3].std(-1) < 0.02
    assert (grey == (exact == 0)).all()
    window = picture.axes[1].patches[0]
    assert (window.get_x(), window.get_y(), window.get_width()) == (20, 30, 16)


def test_a_large_tile_is_shown_as_exact_means() -> None:
    values = np.arange(35.0).reshape(5, 7)
    means = _means(values, 2)
    assert means.shape == (3, 4)
    assert means[0, 0] == values[:2, :2].mean()
    assert means[2, 3] == values[4, 6]
    assert means[2, 0] == values[4, :2].mean()
    picture = drawn(attended(300, depth=1), "map", size=1024)
    assert "the mean of 2 × 2 weights" in words(picture)
    assert image(picture.axes[0]).shape[:2] == (150, 150)


def test_early_queries_do_not_leave_a_causal_map_in_the_dark() -> None:
    r = attended(100)
    exact = weights(r, 0, 1, 0)
    top = float(np.median(exact[32:].max(1)))
    picture = drawn(r, "map", head=1)
    assert f"Colours end at {top:.3g}" in words(picture)
    assert "the first 32 queries left aside" in words(picture).replace("\n", " ")
    assert picture.axes[-1].get_ylim() == pytest.approx((0, top))
    assert drawn(r, "map", head=1, scale="0 to 1").axes[-1].get_ylim() == (0, 1)
    assert "Colours end" not in words(drawn(r, "map", head=1, scale="0 to 1"))


def test_rollout_leaves_the_token_itself_aside() -> None:
    r = attended(40)
    exact = rollout(r, 0, 30)[-1]
    picture = drawn(r, "rollout", position=30)
    said = words(picture).replace("\n", " ")
    assert f"The token itself keeps {exact[30]:.3g}, at least 0.25 of it" in said
    assert f"of {1 - exact[30]:.3g}" in said
    assert np.delete(exact, 30).max() == pytest.approx(picture.axes[1].patches[0].get_width())


def test_rollout_says_why_it_is_refused() -> None:
    assert "divided in space and time: a token's way leads through both" in words(
        drawn(digits(), "rollout")
    ).replace("\n", " ")


def test_what_is_not_kept_is_said() -> None:
    r = attended(40, keep_mb=0.0)
    assert "keep_mb=" in words(drawn(r, "map"))
    assert "not kept" in words(drawn(r, "row"))
    assert "not kept" in words(drawn(r, "rollout"))


def test_a_row_names_its_largest_weights() -> None:
    r = attended(len(LABELS), labels=LABELS)
    exact = weights(r, 1, 0, 0)
    said = words(drawn(r, "row", call=1, position=4))
    assert "query 4 _a_ to keys" in said
    for key in range(4):
        assert f"{exact[4, key]:.3g}" in said
    turned = words(drawn(r, "row", call=1, position=4, direction="key to queries"))
    assert "key 4 _a_ from queries" in turned
    assert f"{exact[5, 4]:.3g}" in turned
    assert "They hold 1 of 1;" in said
    with pytest.raises(UsageError, match="no call 9"):
        drawn(r, "row", call=9)


def test_the_query_is_framed_on_the_picture() -> None:
    r = attended(2 * 3 * 4 + 2, causal=False, grid="2+2x3x4")
    picture = drawn(r, "row", position=2 + 12 + 4 + 3)  # frame 1, row 1, column 3
    frames = picture.axes[0].images
    left, _, _, top = frames[2].get_extent()  # each frame is a picture and a veil
    square = picture.axes[0].patches[0]
    assert (square.get_x() - left, square.get_y() - top) == pytest.approx((3, 1))
    assert "query frame 1, row 1, column 3 to keys" in words(picture)
    exact = weights(r, 0, 0, 0, queries=slice(21, 22))[0]
    assert f"on the prefix: {exact[:2].sum():.3g}" in words(picture)


def test_the_pictures_of_a_clip_lie_behind_its_weights() -> None:
    r = digits()
    space = r.call_layout.index("space")
    picture = drawn(r, "row", call=space, position=0)
    behind, over = picture.axes[0].images[:2]
    assert np.asarray(behind.get_array()).shape == r.picture.shape[1:3]
    assert behind.get_extent() == over.get_extent()


def test_letters_that_no_font_has_are_boxes() -> None:
    assert readable("a🙂") in {"a▯", "a🙂"}
    assert readable("␣é⏎$") == "␣é⏎$"
    said = words(drawn(attended(len(LABELS), labels=LABELS), "map"))
    assert "3 $x$" in said
    assert "…" in said
