from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainlab.subjects.runlog.opening import open_log

LOGS = Path(os.environ.get("TRAINLAB_LOGS", Path(__file__).parents[3] / "shared/data/logs"))


@pytest.fixture(scope="session")
def opened():
    """Opens a file of the folder of real logs, once; skips where the folder is not there."""
    logs = {}

    def open_one(name: str):
        path = LOGS / name
        if not path.exists():
            pytest.skip(f"{path} is not here: set TRAINLAB_LOGS to the folder of real logs")
        if name not in logs:
            logs[name] = open_log(path, progress=False)
        return logs[name]

    return open_one


@pytest.fixture
def logged(tmp_path):
    """Writes a log and opens it: ``logged(text)``."""

    def write_and_open(text: str | bytes, name: str = "train.log", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_log(path, progress=False, **options)

    return write_and_open
