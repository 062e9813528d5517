"""Servers and a browser for the tests in this folder; skipped, with the reason, where one is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import servers

# What the browser may complain of without the page being at fault, with the reason.
BENIGN = (
    # Voila's own template names Font Awesome on a CDN, and the tests have no network
    "at https://cdn.jsdelivr.net/npm/@fortawesome/",
    # ipywidgets' manager looks for the kernel of a page that was opened without one, panel or not
    "Cannot read properties of null (reading 'kernel')",
)


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Where the servers look for pages."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """The environment that servers and kernels run in."""
    return servers.environment(tmp_path_factory.mktemp("jupyter"))


@pytest.fixture(scope="session")
def lab(folder, environment) -> Iterator[str]:
    """The address of a JupyterLab."""
    needs("jupyterlab")
    with servers.serve(servers.LAB, "/api/status", folder, environment) as url:
        yield url


@pytest.fixture(scope="session")
def voila(folder, environment) -> Iterator[str]:
    """The address of a Voila."""
    needs("voila")
    with servers.serve(servers.VOILA, "/", folder, environment) as url:
        yield url


@pytest.fixture(scope="session")
def chromium():
    """A headless browser."""
    needs("playwright")
    if servers.CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with servers.browser() as browser:
        yield browser


@pytest.fixture
def open_tab(chromium):
    """Makes tabs; the test fails when the console of one holds an error that is not listed as benign."""
    errors: list[str] = []
    contexts = []

    def heard(message):
        if message.type == "error":
            errors.append(f"{message.text} at {message.location['url']}")

    def tab(**options):
        context = chromium.new_context(viewport={"width": 1400, "height": 1000}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield tab
    for context in contexts:
        context.close()
    assert [text for text in errors if not any(known in text for known in BENIGN)] == []


@pytest.fixture
def page(open_tab):
    """A fresh tab."""
    return open_tab()


@pytest.fixture
def run_all(page, lab, folder) -> Callable[..., None]:
    """Writes a page of these cells, opens it in JupyterLab and runs it."""

    def run(name: str, *cells: str, theme: str = "JupyterLab Light") -> None:
        servers.write_page(folder / name, *cells)
        servers.run_page(page, lab, name, theme)

    return run
