"""Results are plain, last, and come back as they went."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainlab.errors import ResultError, UsageError
from trainlab.result import Result, column, write_whole


class Record(Result, kind="record", schema=2):
    number: float
    word: str | None
    flags: tuple[bool, ...]
    grid: np.ndarray
    layer_name: tuple[str, ...] = column("layer")
    layer_value: np.ndarray = column("layer")
    added_later: int = 7


def make(**changes) -> Record:
    fields = {
        "number": 1.5,
        "word": "a",
        "flags": (True, False),
        "grid": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layer_name": ("x", "y"),
        "layer_value": np.array([1.0, np.nan]),
    }
    return Record(**{**fields, **changes})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
arrays = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "u8", "?", "c8"]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
)


@given(scalars, st.lists(scalars).map(tuple), arrays)
def test_everything_survives_strict_json(word, flags, grid):
    record = make(word=word, flags=flags, grid=grid)
    again = Record.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
    assert again == record
    assert again.grid.dtype.newbyteorder("=") == grid.dtype.newbyteorder("=")
    np.testing.assert_array_equal(again.grid, grid)
    assert [type(item) for item in again.flags] == [type(item) for item in flags]


def test_save_and_load(tmp_path):
    record = make(number=math.inf)
    path = record.save(tmp_path / "r.json")
    assert Record.load(path) == record
    assert list(tmp_path.iterdir()) == [path], "nothing else is left in the folder"


def test_arrays_are_read_only_copies():
    mine = np.zeros((2, 3))
    record = make(grid=mine)
    mine[0, 0] = 1
    assert record.grid[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        record.grid[0, 0] = 2


def test_equality_sees_every_value():
    assert make() == make()
    assert make() != make(layer_value=np.array([1.0, 2.0]))
    assert make() != make(grid=np.arange(6, dtype=np.float64).reshape(2, 3))
    assert make() != 3


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.array(["a"]), np.array([None]), (1, [2]), object()])
def test_what_may_not_be_kept(value):
    with pytest.raises(
        ResultError, match=r"Record\.word cannot be kept in a result\n  seen: .*\n  try:  use None, bool"
    ):
        make(word=value)


def test_numpy_scalars_become_plain():
    assert type(make(number=np.float32(2)).number) is float
    assert type(make(flags=(np.bool_(True),)).flags[0]) is bool


def test_columns_must_fit():
    with pytest.raises(ResultError, match="columns of table 'layer' in Record differ in length"):
        make(layer_value=np.zeros(3))


def test_rows_and_frame():
    assert make().rows("layer")[0] == {"name": "x", "value": 1.0}
    frame = make().frame()
    assert list(frame.columns) == ["name", "value"]
    assert len(frame) == 2
    with pytest.raises(UsageError, match=r"no table 'layers'\n  try:  did you mean 'layer'\?"):
        make().rows("layers")


def test_old_files_open_and_newer_ones_give_advice():
    stored = make().to_dict()
    del stored["data"]["added_later"]
    assert Record.from_dict({**stored, "schema": 1}).added_later == 7
    with pytest.raises(
        ResultError,
        match=r"newer trainlab\n  seen: schema 3, this version knows up to 2\n  try:  pip install -U",
    ):
        Record.from_dict({**stored, "schema": 3})
    del stored["data"]["number"]
    with pytest.raises(ResultError, match="lacks number"):
        Record.from_dict(stored)


def test_a_brief_is_marked_and_refused():
    brief = make(grid=np.arange(20.0)).brief()
    assert brief["brief"] is True
    assert brief["data"]["grid"] == {"shape": [20], "min": 0.0, "mean": 9.5, "max": 19.0, "nonfinite": 0}
    with pytest.raises(ResultError, match="is a brief, which leaves values out"):
        Record.from_dict(brief)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no result"),
        ('{"kind": "x", "schema": 1, "data": {}}', "not a 'record' result"),
    ],
)
def test_foreign_files(tmp_path, content, words):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=words):
        Record.load(path)
    with pytest.raises(ResultError, match="there is no file"):
        Record.load(tmp_path / "other.json")


def test_saving_into_no_folder(tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        make().save(tmp_path / "none" / "r.json")


def test_it_shows_itself_and_escapes():
    record = make(word="<script>alert(1)</script>", layer_name=("<b>", "y"))
    html = record._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "2×3 float32" in repr(record)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = write_whole(tmp_path / "out.txt", b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
