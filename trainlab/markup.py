"""HTML that reads anywhere: escaped, script-free, inline styles only, colours inherited from the page.

JupyterLab strips ``<style>`` and ``<script>`` from an untrusted notebook and a report has no network, so
everything a reader needs is in the tags themselves; text takes the theme's own colour, light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Html", "badge", "block", "number", "paragraph", "table"]

_CELL = "padding:3px 12px 3px 0;text-align:{align};vertical-align:top;border:none"
_HEAD = "padding:3px 12px 3px 0;text-align:{align};font-weight:600;border:none;border-bottom:1px solid #8888"


class Html(str):
    """Text that is already markup, and must not be escaped again."""

    __slots__ = ()


def number(value: object) -> str:
    """How a value is written for a person: four significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def badge(text: str, colour: str) -> Html:
    """A word on a coloured ground; white on these grounds has a contrast of at least 4.5."""
    style = f"background-color:{colour};color:#ffffff;font-weight:600;padding:1px 8px;border-radius:4px;white-space:nowrap"
    return Html(f'<span style="{style}">{html.escape(text)}</span>')


def paragraph(text: str) -> Html:
    """One paragraph; line breaks are kept."""
    return Html(f'<p style="margin:4px 0">{_inner(text)}</p>')


def table(rows: Sequence[Mapping[str, object]], *, limit: int | None = None) -> Html:
    """A table with a column per key; numbers stand to the right.

    Args:
        rows: One mapping per row, all with the keys of the first.
        limit: Show this many rows, and say how many are left out.
    """
    if not rows:
        return Html("")
    shown = rows if limit is None else rows[:limit]
    right = {key for key in rows[0] if all(isinstance(row[key], (int, float)) for row in shown)}
    align = {key: "right" if key in right else "left" for key in rows[0]}
    head = "".join(f'<th style="{_HEAD.format(align=align[key])}">{_inner(key)}</th>' for key in rows[0])
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_CELL.format(align=align[key])}{_keep(row[key])}">{_inner(row[key])}</td>'
            for key in align
        )
        + "</tr>"
        for row in shown
    )
    more = len(rows) - len(shown)
    foot = paragraph(f"… and {more} more rows") if more else ""
    return Html(
        f'<table style="border-collapse:collapse;margin:4px 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}'
    )


def block(title: str, parts: Iterable[str]) -> Html:
    """A titled block; parts are markup, or text that is escaped."""
    style = "color:inherit;line-height:1.4;margin:6px 0"
    heading = f'<div style="font-weight:600;margin:0 0 4px 0">{_inner(title)}</div>' if title else ""
    return Html(f'<div style="{style}">{heading}{"".join(_inner(part) for part in parts)}</div>')


def _keep(value: object) -> str:
    """A code or a number is not broken in two."""
    return ";white-space:nowrap" if len(number(value)) <= 12 else ""


def _inner(value: object) -> str:
    if isinstance(value, Html):
        return value
    return html.escape(number(value)).replace("\n", "<br>")
