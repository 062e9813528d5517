"""Hostile files: nothing runs, nothing is imported, everything is flagged, nothing takes long."""

from __future__ import annotations

import gc
import sys
import time
import zipfile

import pytest

from trainlab.errors import SubjectError
from trainlab.subjects.checkfile import Grade, peek
from trainlab.subjects.checkfile.grading import grade

from . import corpus

PAYLOADS = corpus.payloads()


@pytest.fixture(autouse=True)
def _only_ours():
    """Keeps the collector from walking through all of torch while a bomb is defused."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def peek_in_time(path):
    """A peek, and its repr, that took less than a second; the better of two, as others use the cores too."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        seen = peek(path)
        assert repr(seen)
        times.append(time.process_time() - begin)
        if times[-1] < 1:
            return seen
    raise AssertionError(f"it took {min(times):.2f} s")


@pytest.mark.parametrize("container", corpus.CONTAINERS)
def test_no_payload_runs_and_every_one_is_flagged(tmp_path, monkeypatch, container):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "trainlab_canary.py").write_text("open('hostile-was-run', 'w')")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    corpus.CONTAINERS[container](corpus.whole(b"}"), path)
    peek(path).refusal()  # our own modules
    modules = set(sys.modules)
    assert len(PAYLOADS) >= 40
    for name, body in PAYLOADS.items():
        corpus.CONTAINERS[container](body, path)
        seen = peek_in_time(path)
        wanted = Grade.NEEDS_ALLOWING if name in corpus.UNKNOWN else Grade.DANGEROUS
        assert seen.grade is wanted, (name, seen.globals)
        assert "do not load it" in seen.refusal() or name in corpus.UNKNOWN
    assert set(sys.modules) == modules
    assert {each.name for each in tmp_path.iterdir()} == {"a.pt", "lib"}


@pytest.mark.parametrize("name", corpus.BOMBS)
@pytest.mark.parametrize("container", ["zip", "legacy", "pickle"])
def test_bombs_are_bounded(tmp_path, name, container):
    path = tmp_path / "a.pt"
    corpus.CONTAINERS[container](corpus.BOMBS[name](), path)
    if (name, container) == ("decimal", "pickle"):
        with pytest.raises(SubjectError, match="a text file"):
            peek(path)
        return
    seen = peek_in_time(path)
    if name == "many steps":
        assert seen.grade is Grade.DANGEROUS


def test_a_small_record_of_gigabytes_is_not_inflated(tmp_path):
    path = tmp_path / "a.pt"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("a/data.pkl", "w", force_zip64=True) as record,
    ):
        for _ in range(40):
            record.write(bytes(2**23))
    assert any("cannot be read" in note for note in peek_in_time(path).notes)


def test_an_enum_is_no_gadget_and_a_module_is():
    assert grade("my.code", "Colour.RED") is Grade.NEEDS_ALLOWING
    assert grade("torch.serialization", "os") is Grade.DANGEROUS
    assert grade("torch", "FloatStorage") is Grade.HARMLESS
    assert grade("anything", "f.__globals__") is Grade.DANGEROUS
