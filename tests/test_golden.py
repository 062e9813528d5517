"""Results of every schema that was ever released open for ever, and are judged as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainlab.catalogue import installed

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_an_old_result_opens_and_is_judged_as_it_was(path):
    room = installed()[path.stem.rsplit("-", 1)[0]]
    findings = room.judge(room.result.load(path))
    assert f"{findings}\n" == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("name", list(installed()))
def test_every_schema_has_its_golden_file(name):
    schemas = range(1, installed()[name].result.schema + 1)
    missing = [
        f"{name}-{schema}.json" for schema in schemas if not (GOLDEN / f"{name}-{schema}.json").exists()
    ]
    assert not missing, "save an example's result there, and the text of its findings beside it as .txt"
