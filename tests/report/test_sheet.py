"""The HTML file reads with the network off, and runs nothing."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from trainlab.report import report
from trainlab.report.sheet import to_html

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ADDRESS = re.compile(
    r"""(?:src|href)\s*=\s*["']?(?!data:|\#)([^"'\s>]+)|url\(\s*["']?(?!data:)([^)]+)|@import"""
)


def _notebook(*bundles):
    state = {
        "abc": {
            "model_name": "X",
            "model_module": "@jupyter-widgets/base",
            "model_module_version": "2",
            "state": {},
        }
    }
    widgets = {
        "application/vnd.jupyter.widget-state+json": {"state": state, "version_major": 2, "version_minor": 0}
    }
    outputs = [new_output("display_data", data=bundle) for bundle in bundles]
    cells = [new_markdown_cell("# A title"), new_code_cell("x", outputs=outputs)]
    return new_notebook(cells=cells, metadata={"title": "a <b> · FAIL", "widgets": widgets})


def test_it_names_no_address_and_runs_no_script():
    page = to_html(
        _notebook({"text/html": "<b>Verdict</b>"}, {"image/png": PNG, "text/plain": "<Picture: loss>"})
    )
    assert ADDRESS.findall(page) == []
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "<title>a &lt;b&gt; · FAIL</title>" in page
    assert "<b>Verdict</b>" in page
    assert f"data:image/png;base64,{PNG[:40]}" in page.replace("\n", "")
    assert 'alt="&lt;Picture: loss&gt;"' in page


@pytest.mark.parametrize("kind", ["text/html", "image/png", "text/plain"])
def test_what_reads_offline_is_preferred_to_a_live_widget(kind):
    value = PNG if kind == "image/png" else "Verdict"
    page = to_html(_notebook({"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}, kind: value}))
    assert value[:40] in page
    assert "widget-view" not in page


def test_a_report_brings_its_html(spread_page, checkpoint):
    done = report(spread_page, {"ckpt": checkpoint("fail")}, html=True, progress=False)
    page = done.html.read_text()
    assert "it is fail" in page
    assert "<title>spread · fail.pt · FAIL</title>" in page
    assert ADDRESS.findall(page) == []
    assert nbformat.read(done.path, as_version=4).metadata.title == "spread · fail.pt · FAIL"
