"""Starts JupyterLab, Voila and chromium on loopback, for the tests in this folder and the latency benchmark."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

import trainlab

ROOT = Path(trainlab.__file__).parents[1]
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
LAB = (
    "jupyterlab --no-browser --ip=127.0.0.1 --allow-root --expose-app-in-browser --IdentityProvider.token= "
    "--ServerApp.disable_check_xsrf=True --ServerApp.port_retries=0"
)
VOILA = "voila --no-browser --Voila.ip=127.0.0.1 --port_retries=0 --show_tracebacks=True"

# By command and not by click: a click on the menu is lost now and then.
RUN_ALL = """async theme => {
    const app = window.jupyterapp;
    await app.restored;
    await app.commands.execute('apputils:change-theme', {theme});
    const page = app.shell.currentWidget;
    await page.context.ready;
    await page.sessionContext.ready;
    await page.sessionContext.session.kernel.info;
    await app.commands.execute('notebook:run-all-cells');
}"""


def environment(home: Path) -> dict[str, str]:
    """Config, data and runtime folders of the servers' own; this interpreter is their only kernel."""
    spec = home / "data" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    config = home / "config" / "labconfig"
    config.mkdir(parents=True)
    # JupyterLab would ask whether it may fetch news
    news = {"@jupyterlab/apputils-extension:announcements": True}
    (config / "page_config.json").write_text(json.dumps({"disabledExtensions": news}))
    # every cell is in the page at once, not only those that are scrolled to
    whole = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    (config / "default_setting_overrides.json").write_text(json.dumps(whole))
    return {
        **os.environ,
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }


@contextmanager
def serve(command: str, ready: str, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """Serves the pages in a folder on a free port of loopback; yields the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = Path(env["HOME"]) / f"server_{port}.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command.split(), f"--port={port}"],
            cwd=folder,
            env=env,
            stdout=output,
            stderr=output,
        )
    try:
        _wait(url + ready, server, log)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if server.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server did not answer:\n{log.read_text()}")


@contextmanager
def browser() -> Iterator[Any]:
    """A headless chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


def write_page(path: Path, *cells: str) -> Path:
    """Writes a page of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def run_page(tab: Any, lab: str, name: str, theme: str = "JupyterLab Light") -> None:
    """Opens a page in JupyterLab, waits for its session and runs every cell."""
    tab.goto(f"{lab}/doc/tree/{name}")
    tab.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context")
    tab.evaluate(RUN_ALL, theme)
