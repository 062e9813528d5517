"""Pages and reports: a notebook is executed on a subject, and what it found is read back without a kernel.

`report` executes a page strictly (`trainlab report` is the same from a terminal), `sweep` does so for many
checkpoints and writes an index; inside a page `glue` keeps an examination, and `read` takes it out again.
"""

from __future__ import annotations

from trainlab.report.gluing import glue, read
from trainlab.report.indexing import Index, Row, index, row, sweep
from trainlab.report.page import Parameter, bind, parameters, template
from trainlab.report.running import Report, ReportError, report

__all__ = [
    "Index",
    "Parameter",
    "Report",
    "ReportError",
    "Row",
    "bind",
    "glue",
    "index",
    "parameters",
    "read",
    "report",
    "row",
    "sweep",
    "template",
]
