"""The small rooms of the kernel: errors, progress, figures, markup."""

from __future__ import annotations

import io

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from trainlab.errors import MissingExtraError, TrainlabError, did_you_mean
from trainlab.figure import Picture, house_style, message
from trainlab.markup import Html, block, number, table
from trainlab.progress import heard_by, track


def test_an_error_says_what_seen_try():
    error = TrainlabError("the door is shut", seen="a key\nand a lock", fix="turn the key")
    assert str(error) == "the door is shut\n  seen: a key\n        and a lock\n  try:  turn the key"
    assert str(TrainlabError("only this")) == "only this"


def test_missing_extra_tells_the_command():
    error = MissingExtraError("sklearn", extra="demo", purpose="the digits example")
    assert isinstance(error, ImportError)
    assert "pip install 'trainlab[demo]'" in str(error)


def test_did_you_mean():
    assert did_you_mean("pears", ["pairs", "train"]) == "did you mean 'pairs'?"
    assert did_you_mean("zzz", ["b", "a"]) == "one of: a, b"
    assert did_you_mean("zzz", map(str, range(20))).endswith(" … and 8 more")
    assert did_you_mean("zzz", []) == "there are none"


def test_progress_is_heard_by_a_panel():
    heard = []
    with heard_by(lambda *event: heard.append(event)):
        assert list(track("ab", label="letters")) == ["a", "b"]
    assert heard == [(0, 2, "letters"), (1, 2, "letters"), (2, 2, "letters")]


def test_progress_is_silent_when_quick(capsys):
    assert list(track(iter(range(3)), label="quick", total=3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_picture_shows_itself_at_twice_the_density():
    picture = Picture(4, 3, alt="a line")
    picture.add_subplot().plot([1, 2])
    data, metadata = picture._repr_mimebundle_()
    assert Image.open(io.BytesIO(data["image/png"])).size == (800, 600)
    assert metadata["image/png"] == {"width": 400, "height": 300}
    assert data["text/plain"] == "<Picture: a line>"
    assert picture.svg().startswith(b"<?xml")


def test_the_house_style_stays_in_the_house():
    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


def test_a_name_with_dollars_is_no_formula():
    with house_style():
        picture = Picture()
        picture.add_subplot().set_title("$\\frac{a$ <b>")
        assert picture.png()


def test_message_takes_the_place_of_a_drawing():
    picture = Picture()
    picture.add_subplot().plot([1, 2])
    message(picture, "nothing to draw")
    assert [text.get_text() for text in picture.axes[0].texts] == ["nothing to draw"]
    assert picture.pixels == (720, 100)  # a strip, on a page that has more to show
    own = Figure(figsize=(4, 3))
    message(own, "a sentence that is longer than the figure of theirs is wide")
    assert own.get_size_inches().tolist() == [4, 3]
    assert "\n" in own.axes[0].texts[0].get_text()


def test_a_table_aligns_escapes_and_counts():
    html = table([{"a": 1.23456, "b": "<x>"}] * 5, limit=2)
    assert "1.235" in html
    assert "&lt;x&gt;" in html
    assert "and 3 more rows" in html
    assert html.count("text-align:right") == 3
    assert table([]) == ""
    assert block("<t>", [Html("<p>"), "<q>"]).count("<p>") == 1
    assert number(None) == ""


@pytest.mark.parametrize("module", ["matplotlib.pyplot", "seaborn", "pandas"])
def test_pictures_need_no_pyplot(module, fresh_modules):
    code = "from trainlab.figure import Picture; Picture().png()"
    assert module not in fresh_modules(code)
