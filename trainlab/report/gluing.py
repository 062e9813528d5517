"""An examination goes into a notebook as one output, and comes out again without a kernel."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from trainlab.errors import PageError, UsageError
from trainlab.report.page import open_page

if TYPE_CHECKING:
    from trainlab.diagnostic import Examination

__all__ = ["MIME", "glue", "glued", "read"]

MIME = "application/vnd.trainlab.examination+json"


def glue(examination: Examination) -> None:
    """Keeps an examination in this notebook: shows it as HTML and text, and stores it whole beside them.

    Args:
        examination: What ``tl.variation.examine(…)`` returned.
    """
    from IPython.display import display

    if not hasattr(examination, "findings"):
        raise UsageError(
            "glue keeps an examination", seen=type(examination).__name__, fix="glue(tl.variation.examine(…))"
        )
    display(_Glued(examination))


def read(path: str | os.PathLike[str]) -> list[Examination]:
    """Takes the examinations out of an executed page; opens no kernel and needs no papermill.

    Args:
        path: An ``.ipynb`` that `report`, `sweep`, papermill or Jupyter has executed and saved.

    Raises:
        PageError: It is not a notebook, or nothing was glued into it.
        UsageError: Its diagnostic is not installed here.
        ResultError: It was written by a newer trainlab.
    """
    from trainlab.catalogue import installed
    from trainlab.diagnostic import Examination

    payloads = glued(open_page(path))
    if not payloads:
        raise PageError(
            f"{os.fspath(path)} holds no examination",
            seen="no output of the type that glue writes",
            fix="execute the page first: trainlab report PAGE CKPT, or run it in Jupyter and save it",
        )
    rooms = installed()
    return [Examination.from_dict(payload, rooms[payload["diagnostic"]]) for payload in payloads]


def glued(notebook: Any) -> list[dict[str, Any]]:
    """The stored examinations of an open notebook, as plain JSON, in the order of its cells."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


class _Glued:
    """Shows an examination, and carries its data under our own MIME type."""

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        # NaN would become the word "nan" on its way into the notebook: refuse it here, where it is born
        self.data = json.loads(json.dumps(examination.to_dict(), allow_nan=False))

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {
            MIME: self.data,
            "text/html": self.examination._repr_html_(),
            "text/plain": str(self.examination),
        }

    def __repr__(self) -> str:
        return str(self.examination)
