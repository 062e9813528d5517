"""TensorBoard event files: every point, exactly; checksums; damage; several files of one run."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.runlog.crc32c import masked_crc32c
from trainlab.subjects.runlog.event_decoding import decode_events
from trainlab.subjects.runlog.event_files import EventReader, looks_like, read, read_events

from . import binary_writers as w


def many(count: int = 300) -> tuple[bytes, dict[str, list[tuple[int, float, float]]]]:
    """A file of tags of equal and other lengths, with steps of one to three bytes, and what is in it."""
    rng = np.random.default_rng(0)
    written, told = [w.version()], {}
    for step in range(0, count * 100, 100):
        for tag in ("train/loss", "valid/loss", "lr"):
            value, wall = struct.unpack("<f", struct.pack("<f", rng.normal()))[0], 1.7e9 + step / 7
            written.append(w.event(w.scalar(tag, value), step=step, wall=wall))
            told.setdefault(tag, []).append((step, wall, value))
    return b"".join(written), told


def points(found, tag):
    return list(zip(*(column.tolist() for column in found.points[tag][1:]), strict=True))


def test_the_checksum_is_that_of_rfc_3720():
    # appendix B.4: 32 bytes of zeros give 8A9136AA, 32 of ones 62A8AB43
    for byte, crc in ((0x00, 0x8A9136AA), (0xFF, 0x62A8AB43)):
        expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert masked_crc32c(np.full((1, 32), byte, np.uint8))[0] == expected  # one row: looked up by places
        assert (masked_crc32c(np.full((40, 32), byte, np.uint8)) == expected).all()  # many: by columns


def test_every_point_is_read():
    data, told = many()
    found = decode_events(data)
    assert list(found.points) == ["train/loss", "valid/loss", "lr"]
    for tag, expected in told.items():
        assert points(found, tag) == expected
    assert found.points["valid/loss"][0][:2].tolist() == [3, 6]  # record 1 is the version
    assert not found.notes
    assert (found.records, found.end, found.rest) == (901, len(data), 0)


def test_several_scalars_in_one_record_and_the_same_tag_twice():
    rows = [
        w.event(w.scalar("a", step), w.scalar("b", -step), w.scalar("a", 7), step=step) for step in range(20)
    ]
    found = decode_events(b"".join(rows))
    assert found.points["b"][3].tolist() == [-float(step) for step in range(20)]
    assert found.points["a"][3].tolist() == [value for step in range(20) for value in (float(step), 7.0)]


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize(
    ("dtype", "content"),
    [
        (1, w.nested(4, struct.pack("<f", 1.5))), (1, w.nested(5, struct.pack("<f", 1.5))), (1, w.single(5, 1.5)),
        (2, w.nested(4, struct.pack("<d", 1.5))), (2, w.nested(6, struct.pack("<d", 1.5))), (2, w.double(6, 1.5)),
        (19, w.nested(4, struct.pack("<e", 1.5))), (19, w.integer(13, 0x3E00)), (14, w.integer(13, 0x3FC0)),
        (14, w.nested(4, b"\xc0\x3f")),
    ],
)  # fmt: skip
def test_tensors_of_one_float(dtype, content, count):
    found = decode_events(
        b"".join(w.event(w.tensor("loss", dtype, content), step=step) for step in range(count))
    )
    assert points(found, "loss") == [(step, 1.7e9, 1.5) for step in range(count)]


@pytest.mark.parametrize(
    ("dtype", "content", "value"),
    [
        (3, w.integer(7, -3), -3), (3, w.nested(4, struct.pack("<i", -3)), -3), (9, w.integer(10, 2**40), 2**40),
        (9, w.nested(10, w.varint(-1)), -1), (10, w.integer(11, 1), 1), (23, w.integer(17, 5), 5), (1, b"", 0),
    ],
)  # fmt: skip
def test_tensors_of_one_integer(dtype, content, value):
    found = decode_events(w.event(w.tensor("count", dtype, content, sizes=(1, 1)), step=4))
    assert points(found, "count") == [(4, 1.7e9, float(value))]


def test_what_is_no_scalar_is_stepped_over():
    values = [
        w.tensor("vector", 1, w.nested(4, struct.pack("<2f", 1, 2)), sizes=(2,)),
        w.tensor("picture", 7, w.nested(8, b"png"), plugin="images"),
        w.nested(1, "histogram") + w.nested(5, w.double(1, 0.5)),
    ]
    found = decode_events(
        b"".join(w.event(value, step=1) for value in values) + w.event(w.scalar("loss", 1), step=1)
    )
    assert list(found.points) == ["loss"]
    assert not found.notes


def test_odd_values_are_exact():
    odd = [float("nan"), float("inf"), float("-inf"), 0.0, 1e-45, -0.0]
    steps = [-5, 2**40, 0, 1, 127, 128]
    rows = [
        w.event(w.scalar("x", value), step=step, wall=0.5)
        for value, step in zip(odd * 3, steps * 3, strict=True)
    ]
    found = decode_events(b"".join(rows))
    number, step, wall, value = found.points["x"]
    assert np.array_equal(value, np.array(odd * 3, np.float32).astype(float), equal_nan=True)
    assert step.tolist() == steps * 3
    assert set(wall) == {0.5}
    assert number.tolist() == list(range(1, 19))


def test_fields_in_another_order_are_read_too():
    summary = w.nested(5, w.nested(1, w.single(2, 2.5) + w.nested(1, "loss")))
    rows = [w.tfrecord(w.double(1, 3.0) + summary + w.integer(2, step)) for step in range(100, 120)]
    assert points(decode_events(b"".join(rows)), "loss") == [(step, 3.0, 2.5) for step in range(100, 120)]


def test_texts_and_hyperparameters_are_config(tmp_path):
    text = w.tensor(
        "args/text_summary", 7, w.nested(8, json_text := '{"lr": 0.1, "model": {"depth": 3}}'), plugin="text"
    )
    pairs = [("lr", w.double(2, 0.5)), ("name", w.nested(3, "adam")), ("amp", w.integer(4, 1))]
    start = b"".join(w.nested(1, w.nested(1, name) + w.nested(2, value)) for name, value in pairs)
    hparams = w.nested(1, "_hparams_/session_start_info") + w.metadata("hparams", w.nested(3, start))
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(w.version() + w.event(text) + w.event(hparams) + w.event(w.scalar("loss", 1)))
    assert read(path, b"").config == {
        "args/lr": 0.1,
        "args/model/depth": 3,
        "lr": 0.5,
        "name": "adam",
        "amp": True,
    }
    assert json_text in decode_events(path.read_bytes()).config.values()


class TestDamage:
    def test_a_tail_that_is_cut_off_is_told(self, tmp_path):
        data, told = many(20)
        path = tmp_path / "events.out.tfevents.1"
        path.write_bytes(data[:-5])
        log = read(path, b"")
        assert len(log["lr"]) == len(told["lr"]) - 1
        assert len(log["train/loss"]) == len(told["train/loss"])
        assert any("are no whole record: cut off" in note for note in log.notes)

    def test_a_record_with_a_wrong_checksum_is_left_out_and_told(self):
        data, told = many(20)
        at = data.index(b"lr") + 4
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        found = decode_events(broken)
        assert points(found, "lr") == told["lr"][1:]
        assert found.notes == ["1 records with a wrong checksum are left out, the first is 4"]

    def test_reading_goes_on_behind_a_hole(self):
        data, told = many(20)
        at = len(data) // 2
        broken = data[:at] + bytes(200) + data[at + 200 :]
        found = decode_events(broken)
        assert any("are damaged and left out" in note for note in found.notes)
        assert 50 < sum(len(each[0]) for each in found.points.values()) < 60
        assert points(found, "lr")[-1] == told["lr"][-1]

    def test_no_scalars_is_an_error_that_tells_what_was_seen(self, tmp_path):
        path = tmp_path / "events.out.tfevents.1"
        path.write_bytes(w.version())
        with pytest.raises(SubjectError, match="holds no TensorBoard scalar") as caught:
            read(path, b"")
        assert "1 records" in caught.value.seen

    def test_pointers_in_a_folder_are_named(self, tmp_path):
        (tmp_path / "events.out.tfevents.1").write_bytes(
            b"version https://git-lfs.github.com/spec/v1\nsize 9\n"
        )
        with pytest.raises(SubjectError, match="holds no TensorBoard scalar") as caught:
            read_events([tmp_path / "events.out.tfevents.1"])
        assert "git lfs pull" in caught.value.seen

    def test_what_else_bears_the_name_is_not_taken_for_an_event_file(self, tmp_path):
        assert looks_like(tmp_path, w.version())
        for other in (
            b"",
            b"version https://git-lfs.github.com/spec/v1\n",
            b"<html></html>",
            bytes(100),
            w.version()[1:],
        ):
            assert not looks_like(tmp_path, other)

    def test_no_change_of_bytes_makes_it_raise_or_hang(self):
        data, _ = many(12)
        rng = np.random.default_rng(3)
        for _ in range(150):
            broken = bytearray(data[: rng.integers(1, len(data) + 1)])
            for at in rng.integers(0, len(broken), rng.integers(0, 6)):
                broken[at] = rng.integers(0, 256)
            found = decode_events(bytes(broken))
            assert found.end <= len(broken)
            assert sum(len(each[0]) for each in found.points.values()) <= 36

    def test_no_message_with_a_right_checksum_makes_it_raise(self):
        rng = np.random.default_rng(4)
        message = (
            w.double(1, 5.0) + w.integer(2, 3) + w.nested(5, w.nested(1, w.tensor("a", 1, w.single(5, 1.0))))
        )
        for _ in range(300):
            broken = bytearray(message)
            for at in rng.integers(0, len(broken), rng.integers(1, 5)):
                broken[at] = rng.integers(0, 256)
            found = decode_events(w.tfrecord(bytes(broken)) * 10)
            assert found.records == 10


class TestOfARun:
    def test_several_files_are_spliced_in_the_order_in_which_they_began(self, tmp_path):
        def file(name, steps, wall, value):
            rows = (w.event(w.scalar("loss", value), step=step, wall=wall + step) for step in steps)
            (tmp_path / name).write_bytes(
                w.tfrecord(w.double(1, wall) + w.nested(3, "brain.Event:2")) + b"".join(rows)
            )
            return tmp_path / name

        later = file("events.out.tfevents.10.a", range(60, 120), 2e9, 2)
        first = file("events.out.tfevents.9.b", range(100), 1e9, 1)
        log = read_events([later, first])
        assert log["loss"].step.tolist() == list(range(120))
        assert log["loss"].value.tolist() == [1] * 60 + [2] * 60
        assert [event.kind for event in log.events] == ["resume"]

    def test_every_tag_keeps_its_own_steps(self, tmp_path):
        rows = [w.event(w.scalar("loss", 1), step=step) for step in range(0, 5000, 10)]
        for epoch in range(5):
            rows.insert((epoch + 1) * 100, w.event(w.scalar("val/loss", 2), step=epoch))
        (tmp_path / "events").write_bytes(b"".join(rows))
        log = read(tmp_path / "events", b"")
        assert log["val/loss"].step.tolist() == [0, 1, 2, 3, 4]
        assert log["val/loss"].split == "val"
        assert log["loss"].step.tolist() == list(range(0, 5000, 10))

    def test_parts_give_what_the_whole_gives(self, tmp_path):
        data, _ = many(40)
        reader = EventReader(tmp_path / "events")
        for start in range(0, len(data), 333):
            reader.take(data[start : start + 333])
        (tmp_path / "events").write_bytes(data)
        whole, parts = read(tmp_path / "events", b""), reader.finish()
        for name in whole.series:
            for column in ("value", "step", "time", "line"):
                assert np.array_equal(getattr(whole[name], column), getattr(parts[name], column))
