"""Many checkpoints: a report each, and an index that opens no kernel."""

from __future__ import annotations

import re

import pytest

from trainlab.errors import PageError, UsageError
from trainlab.report import index, sweep


def test_a_sweep_writes_a_report_each_and_an_index(spread_page, checkpoint, tmp_path):
    names = ["ok", "fail", "warn", "no verdict"]
    heard = []
    result = sweep(
        spread_page,
        [checkpoint(name, f"runs/{name}.pt") for name in names],
        html=True,
        progress=False,
        heard=heard.append,
    )
    assert [row.verdict for row in result.rows] == ["ok", "fail", "warn", "error"]
    assert list(result.rows) == heard
    assert result.rows[1].headline == "SPR001 it is fail"
    assert "'no verdict' is not a valid Level" in result.rows[3].headline
    assert result.rows[0].findings == {"SPR001": "ok", "SPR002": "skip"}
    assert sorted(path.name for path in (tmp_path / "spread-reports").iterdir()) == sorted(
        ["index.html"] + [f"spread-{name}.{kind}" for name in names for kind in ("ipynb", "html")]
    )
    page = result.path.read_text()
    assert re.findall('href="(.*?)"', page) == [f"spread-{name}.html".replace(" ", "%20") for name in names]
    assert "1 error, 1 fail, 1 warn, 1 ok" in page


def test_an_index_over_old_reports_opens_no_kernel(spread_page, checkpoint, tmp_path, fresh_modules):
    done = sweep(spread_page, [checkpoint("fail"), checkpoint("ok")], out=tmp_path / "all", progress=False)
    paths = [str(row.path) for row in done.rows]
    loaded = fresh_modules(
        f"from trainlab.report import index\nrows = index({paths}, {str(tmp_path / 'again.html')!r}).rows\n"
        "assert [row.verdict for row in rows] == ['fail', 'ok'], rows"
    )
    assert not loaded & {"torch", "papermill", "IPython", "nbclient", "nbconvert", "jupyter_client"}
    assert 'href="all/spread-fail.ipynb"' in (tmp_path / "again.html").read_text()


def test_an_index_reads_as_text_frame_and_html(spread_page, checkpoint):
    rows = sweep(spread_page, [checkpoint("fail"), checkpoint("ok")], progress=False)
    assert repr(rows).splitlines()[0] == "fail   fail.pt  SPR001 it is fail"
    frame = rows.frame()
    assert list(frame.columns) == ["subject", "verdict", "headline", "SPR001", "SPR002", "path"]
    assert list(frame["SPR001"]) == ["fail", "ok"]
    assert 'href="spread-reports/spread-fail.ipynb"' in rows._repr_html_()


def test_reports_of_checkpoints_with_one_name_do_not_replace_each_other(spread_page, checkpoint):
    paths = [checkpoint("ok", "a/last.pt"), checkpoint("fail", "b/last.pt")]
    rows = sweep(spread_page, [*paths, paths[0]], progress=False).rows
    assert [(row.path.name, row.verdict) for row in rows] == [
        ("spread-a-last.ipynb", "ok"),
        ("spread-b-last.ipynb", "fail"),
    ]
    rows = sweep(spread_page, [paths[0], checkpoint("warn", "a/last.ckpt")], progress=False).rows
    assert len({row.path for row in rows}) == 2


def test_a_html_file_of_an_earlier_run_is_not_linked(spread_page, checkpoint):
    path = checkpoint("ok")
    assert sweep(spread_page, [path], html=True, progress=False).rows[0].html is not None
    path.write_text("fail")
    (row,) = sweep(spread_page, [path], progress=False).rows
    assert (row.verdict, row.html) == ("fail", None)


def test_several_reports_need_a_folder(spread_page, checkpoint):
    with pytest.raises(UsageError, match="several reports need a folder") as error:
        sweep(spread_page, [checkpoint("ok")], out="all.ipynb")
    assert "try:  -o all" in str(error.value)


def test_a_hostile_name_is_escaped(spread_page, checkpoint):
    rows = sweep(spread_page, [checkpoint("ok", "<img src=x onerror=alert(1)>.pt")], progress=False)
    assert "<img" not in rows.path.read_text()


def test_nothing_runs_when_one_checkpoint_is_missing(spread_page, checkpoint, tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint gone.pt"):
        sweep(spread_page, [checkpoint("ok"), "gone.pt"])
    assert not (tmp_path / "spread-reports").exists()


def test_what_was_never_executed_is_an_error_in_the_index(make_page, tmp_path):
    (row,) = index([make_page("1")]).rows
    assert (row.verdict, row.headline, row.subject) == ("error", "holds no examination", "spread")
    with pytest.raises(PageError, match="there is no notebook"):
        index([tmp_path / "gone.ipynb"])
