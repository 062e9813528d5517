"""No blank page: what was executed is read in an untrusted notebook, an export and a file, all without a kernel."""

from __future__ import annotations

import re

import nbformat
import pytest
import servers

pytestmark = pytest.mark.browser

# opens a page without starting a kernel for it
OPEN = """async path => {
    const app = window.jupyterapp;
    await app.restored;
    const off = {shouldStart: false, canStart: false, autoStartDefault: false};
    const page = await app.commands.execute(
        'docmanager:open', {path, factory: 'Notebook', kernelPreference: off});
    await page.context.ready;
    await page.revealed;
}"""


@pytest.fixture(scope="module")
def panel_page(folder, environment):
    """A page with a panel, a table of findings and a picture, executed the way papermill does; never trusted."""
    from nbclient import NotebookClient

    path = servers.write_page(
        folder / "static.ipynb",
        "from wave_panel import panel\nshown = panel()\nshown",
        "shown._findings",
        "print(shown)",
    )
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, timeout=120)
    client.km = client.create_kernel_manager()
    client.start_new_kernel(env=environment)
    client.start_new_kernel_client()
    client.execute(cleanup_kc=True)
    for cell in notebook.cells:
        cell.metadata.pop("trusted", None)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def report_page(folder):
    """The variation page, run bare on its example, and its one-file form."""
    from trainlab.report import report

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # tiny subjects; more threads only get in each other's way
        return report("variation", out=folder / "report.ipynb", html=True, progress=False)


def open_without_kernel(page, lab, path):
    page.goto(f"{lab}/lab?reset")
    page.wait_for_function("window.jupyterapp?.restored")
    page.evaluate(OPEN, path.name)
    assert page.evaluate("!window.jupyterapp.shell.currentWidget.sessionContext.session")


def big_pictures(page):
    """How many pictures of a view are on the page and really decoded."""
    return page.evaluate(
        "[...document.querySelectorAll('.jp-OutputArea-output img')].filter(i => i.naturalWidth > 400).length"
    )


def test_a_panel_is_read_in_an_untrusted_notebook_without_a_kernel(page, lab, panel_page):
    open_without_kernel(page, lab, panel_page)
    output = page.locator(".jp-OutputArea-output").first
    output.get_by_text("Does the output move when the input does").wait_for()
    page.wait_for_timeout(300)
    words = output.inner_text()
    for word in ("variation", "FAIL", "WAV002", "frequency = 2", "Fix: look at blocks.3"):
        assert word in words
    assert big_pictures(page) == 1
    everything = page.locator(".jp-Notebook").inner_text()
    assert "VBox(" not in everything
    assert "Loading widget" not in everything
    assert "verdict: FAIL" in everything  # the terminal's form


def test_the_report_is_read_in_an_untrusted_notebook_without_a_kernel(page, lab, report_page, tmp_path):
    open_without_kernel(page, lab, report_page.path)
    page.get_by_text("looked at").first.wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "untrusted.png")
    words = page.locator(".jp-Notebook").inner_text()
    assert re.search(r"\b(OK|WARN|FAIL)\b", words)
    assert "VAR001" in words
    assert "VBox(" not in words
    assert page.locator("table.dataframe, table").count() >= 2
    assert big_pictures(page) >= 3


@pytest.fixture
def offline(open_tab):
    """A tab without network that counts what it asked for."""
    asked = []

    def refuse(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    page = open_tab()
    page.route("**/*", refuse)
    page.asked = asked
    return page


def test_the_one_file_form_needs_no_network(offline, report_page, tmp_path):
    offline.goto(report_page.html.as_uri())
    offline.wait_for_timeout(300)
    offline.screenshot(path=tmp_path / "one_file.png", full_page=True)
    assert offline.asked == []
    words = offline.locator("body").inner_text()
    assert "VAR001" in words
    assert re.search(r"\b(OK|WARN|FAIL)\b", words)
    assert offline.evaluate("document.querySelectorAll('script').length") == 0
    assert offline.evaluate("[...document.images].filter(i => i.naturalWidth > 400).length") >= 3
    assert offline.locator("table").count() >= 2


def test_the_one_file_form_of_a_panel_is_no_blank(offline, panel_page, tmp_path):
    from trainlab.report.sheet import to_html

    sheet = tmp_path / "panel.html"
    sheet.write_text(to_html(nbformat.read(panel_page, 4)))
    offline.goto(sheet.as_uri())
    offline.wait_for_timeout(300)
    assert offline.asked == []
    assert "WAV002" in offline.locator("body").inner_text()
    assert offline.evaluate("[...document.images].filter(i => i.naturalWidth > 400).length") == 1


def test_plain_nbconvert_shows_the_report_offline(open_tab, report_page, tmp_path):
    from nbconvert import HTMLExporter

    sheet = tmp_path / "plain.html"
    sheet.write_text(HTMLExporter().from_filename(str(report_page.path))[0])
    # its own template asks for require.js and MathJax; without them the page must still be read
    context = open_tab(offline=True, java_script_enabled=False)
    context.goto(sheet.as_uri())
    words = context.locator("body").inner_text()
    assert "VAR001" in words
    assert re.search(r"\b(OK|WARN|FAIL)\b", words)
    assert context.locator("main img, body img").count() >= 3
    assert context.locator("table").count() >= 2
