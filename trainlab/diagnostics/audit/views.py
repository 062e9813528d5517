"""Two pictures of `audit`: the files in time, and what is in each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from trainlab.diagnostics.audit.facts import other_models, without_optimizer, wrong_sizes
from trainlab.diagnostics.audit.limits import AuditLimits
from trainlab.diagnostics.audit.result import BAD, AuditResult
from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import ACCENT, INK, MUTED, PALETTE, SECOND, SHADE
from trainlab.subjects.checkfile.shown import bytes_text, count_text

__all__ = ["inventory", "inventory_knobs", "timeline", "timeline_knobs"]

ALL = "all"
AUTO = "auto"
ROWS = 24  # of the inventory, on one page
LARGEST = 320  # points², the area of the largest file
CLAIM = PALETTE[4]
OUTPUT = PALETTE[3]
UNKNOWN = "not told"


def timeline_knobs(r: AuditResult) -> dict[str, object]:
    """What is counted, which run is shown, and whether files stand in their order instead of in time."""
    return {"count": [AUTO, "epoch", "iter"], "run": [ALL, *r.runs()], "in_order": False}


def timeline(
    r: AuditResult, figure: Figure | SubFigure, *, count: str = AUTO, run: str = ALL, in_order: bool = False
) -> None:
    """Draws each file where it was written and how far it is; its area is its size, a cross means torn.

    Args:
        r: The result.
        figure: Where to draw.
        count: ``epoch`` or ``iter``; ``auto`` takes what more files tell.
        run: One run; ``all`` of them.
        in_order: Files at equal distances: a copy has all at one time.
    """
    shown = _of_run(r, run)
    if not shown:
        raise NotApplicable("there is no checkpoint here")
    if count not in (AUTO, "epoch", "iter"):
        raise UsageError(f"files count no {count!r}", fix=did_you_mean(count, (AUTO, "epoch", "iter")))
    more = max(("epoch", "iter"), key=lambda each: (r.counts(each)[shown] >= 0).sum())
    what = more if count == AUTO else count
    shown = sorted(shown, key=lambda i: (r.file_time[i], r.counts(what)[i], r.file_name[i]))
    known = [i for i in shown if r.counts(what)[i] >= 0]
    x = np.full(len(r.file_name), np.nan)
    x[shown] = np.arange(len(shown)) if in_order else _dates(r.file_time[shown])
    axes = figure.add_subplot()
    meant = r.expect_epoch if what == "epoch" else r.expect_iter
    claims = [i for i, kind in enumerate(r.claim_kind) if kind == what] if run == ALL else []
    top = max([1, meant, *(int(r.counts(what)[i]) for i in known), *(int(r.claim_value[i]) for i in claims)])
    low = -0.12 * top  # the lane of the files that do not tell
    y = np.where(r.counts(what) >= 0, r.counts(what), low)
    largest = LARGEST * min(60 / len(shown), 1) ** 0.5
    area = 0.08 * largest + largest * r.file_bytes / max(int(r.file_bytes[shown].max()), 1)
    whole = [i for i in shown if r.file_state[i] not in BAD]
    torn = [i for i in shown if r.file_state[i] in BAD]
    axes.scatter(
        x[whole], y[whole], s=area[whole], color=ACCENT, alpha=0.55, lw=0.8, edgecolor="white", zorder=3
    )
    axes.scatter(
        x[torn], y[torn], s=np.maximum(area[torn], 70), facecolor="none", edgecolor=SECOND, lw=1.2, zorder=4
    )
    axes.scatter(x[torn], y[torn], s=46, marker="x", color=SECOND, lw=2, zorder=5)
    _marks(r, axes, claims, in_order=in_order)
    if meant > 0:
        axes.axhline(meant, color=INK, lw=1, ls=(0, (5, 3)), zorder=1)
        axes.annotate(
            f"expected: {what} {meant}", (0, meant),
            (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="bottom", fontsize=9, color=INK,
        )  # fmt: skip
    if len({r.file_run[i] for i in shown}) == 1:
        _names(r, axes, shown, (x, y), what)
    _scale(axes, what, (low, top), lane=len(known) < len(shown), in_order=in_order)
    broken = f", {len(torn)} cannot be loaded" if torn else ""
    axes.set_title(f"{len(shown)} {'checkpoint' if len(shown) == 1 else 'checkpoints'}{broken}")
    _legend(r, axes, shown, claims, in_order=in_order)


def _scale(axes: Axes, what: str, span: tuple[float, float], *, lane: bool, in_order: bool) -> None:
    """Sets limits and ticks; a lane below zero takes the files that do not tell how far they are."""
    low, top = span
    if lane:
        axes.axhspan(1.6 * low, 0.45 * low, color="#f1f3f5", lw=0, zorder=0)
    axes.set_ylim(1.7 * low if lane else 0.5 * low, 1.12 * top)
    ticks = [each for each in axes.get_yticks() if 0 <= each <= 1.1 * top]
    axes.set_yticks([*ticks, low] if lane else ticks)
    if lane:
        axes.set_yticklabels([*(f"{each:g}" for each in ticks), UNKNOWN])
    axes.set_ylabel("epoch" if what == "epoch" else "iteration")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    if in_order:
        axes.set_xlabel("files, the oldest first")
    else:
        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _marks(r: AuditResult, axes: Axes, claims: Sequence[int], *, in_order: bool) -> None:
    """What the logs say, at the time of their last line, and when outputs were made."""
    if in_order:
        for i in claims:
            axes.axhline(r.claim_value[i], color=CLAIM, lw=1.2, ls=":", zorder=2)
        return
    times, values = _dates(r.claim_time[list(claims)]), r.claim_value[list(claims)]
    axes.scatter(times, values, s=170, marker="D", facecolor="none", edgecolor=CLAIM, lw=1.8, zorder=2.5)
    lane = axes.get_xaxis_transform()
    for name, first, last in zip(r.output_folder, _dates(r.output_first), _dates(r.output_last), strict=True):
        axes.plot([first, last], [0.03, 0.03], color=OUTPUT, lw=5, marker="s", ms=6, transform=lane, zorder=6)
        if len(r.output_folder) <= 3:
            axes.annotate(
                _short(name, 24), (last, 0.03), (-4, 6), xycoords=lane, textcoords="offset points", ha="right",
                fontsize=8, color=INK,
            )  # fmt: skip


def _names(
    r: AuditResult, axes: Axes, shown: Sequence[int], places: tuple[np.ndarray, np.ndarray], what: str
) -> None:
    """Names the file that got furthest, and the newest that cannot be loaded."""
    x, y = places
    torn = [i for i in shown if r.file_state[i] in BAD]
    named = {r.reached(list(shown), what), torn[-1] if torn else None}
    middle = np.nanmean(axes.get_xlim())
    for i in named - {None}:
        assert i is not None
        left = x[i] > middle
        axes.annotate(
            _short(r.file_name[i].rpartition("/")[2], 30), (x[i], y[i]), (-13 if left else 13, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=8, color="#8a2b00" if i in torn else INK, zorder=7,
        )  # fmt: skip


def _legend(
    r: AuditResult, axes: Axes, shown: Sequence[int], claims: Sequence[int], *, in_order: bool
) -> None:
    largest = bytes_text(r.file_bytes[shown].max())
    entries = [
        Line2D([], [], marker="o", ls="", ms=11, color=ACCENT, alpha=0.55, label=f"whole; largest {largest}")
    ]
    if any(r.file_state[i] in BAD for i in shown):
        entries.append(Line2D([], [], marker="x", ls="", ms=7, mew=2, color=SECOND, label="cannot be loaded"))
    if claims:
        style, mark = (":", "") if in_order else ("", "D")
        entries.append(
            Line2D(
                [],
                [],
                marker=mark,
                ls=style,
                ms=8,
                mfc="none",
                mew=1.8,
                color=CLAIM,
                label="what the log says",
            )
        )
    if len(r.output_folder) and not in_order:
        entries.append(Line2D([], [], ls="", marker="s", ms=8, color=OUTPUT, label="outputs made"))
    axes.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, columnspacing=1.6)


def inventory_knobs(r: AuditResult) -> dict[str, object]:
    """Which files are listed, and which page of them."""
    pages = max(-(-len(r.file_name) // ROWS), 1)
    return {"run": [ALL, *r.runs()], "only_trouble": False, "page": (1, max(pages, 2), 1)}


def inventory(
    r: AuditResult, figure: Figure | SubFigure, *, run: str = ALL, only_trouble: bool = False, page: int = 1
) -> None:
    """Lists the files, and shades what is not as it should be.

    Args:
        r: The result.
        figure: Where to draw.
        run: One run; ``all`` of them.
        only_trouble: Leave out what is as it should be.
        page: Which page, where there are more files than fit on one.
    """
    strange = _strange(r)
    shades = {i: strange[i] for i in _of_run(r, run)}
    chosen = [i for i in shades if strange[i] or not only_trouble]
    if not chosen:
        raise NotApplicable(
            "no file is in trouble" if only_trouble and shades else "there is no checkpoint here"
        )
    pages = -(-len(chosen) // ROWS)
    if pages > 1:
        chosen.sort(key=lambda i: not shades[i])  # what matters is on the first page
    page = min(page, pages)
    rows = chosen[(page - 1) * ROWS : page * ROWS]
    cells = [_cells(r, i) for i in rows]
    names = [name for name in cells[0] if any(row[name] for row in cells) or name == "state"]
    axes = figure.add_subplot()
    axes.set_axis_off()
    height = max(len(rows), 10)
    longest = max(len(_short(r.file_name[i])) for i in rows)
    widths = [max(len(name), *(len(row[name]) for row in cells)) + 2.2 for name in names]
    ends = np.cumsum([longest + 1.0, *widths])
    axes.set_xlim(0, ends[-1])
    axes.set_ylim(height + 0.1, -1.4)
    size = float(np.clip(figure.bbox.width / figure.dpi * 72 / ends[-1] * 1.5, 4.5, 9))
    size = min(size, figure.bbox.height / figure.dpi * 72 / (height + 3) * 0.72)
    axes.text(0, -0.6, "file", va="center", fontsize=size, fontweight="bold")
    for name, end in zip(names, ends[1:], strict=True):
        axes.text(end - 0.8, -0.6, name, ha="right", va="center", fontsize=size, fontweight="bold")
    axes.axhline(-0.05, color=MUTED, lw=0.8)
    for y, (i, row) in enumerate(zip(rows, cells, strict=True)):
        axes.text(0, y + 0.5, _short(r.file_name[i]), va="center", fontsize=size)
        for name, begin, end in zip(names, ends[:-1], ends[1:], strict=True):
            if name in shades[i]:
                axes.add_patch(Rectangle((begin + 0.2, y + 0.06), end - begin - 0.4, 0.88, color=SHADE, lw=0))
            bad = name in shades[i]
            axes.text(
                end - 0.8, y + 0.5, row[name], ha="right", va="center", fontsize=size, color="#8a2b00" if bad else INK,
                fontweight="bold" if bad else "normal",
            )  # fmt: skip
        axes.axhline(y + 1, color="#e4e8ec", lw=0.6)
    where = f", page {page} of {pages}" if pages > 1 else ""
    troubled = sum(bool(each) for each in shades.values())
    be = "it" if troubled == 1 else "they"
    trouble = f"; {troubled} not as {be} should be" if troubled else ""
    axes.set_title(f"{len(chosen)} {'file' if len(chosen) == 1 else 'files'}{where}{trouble}")


def _cells(r: AuditResult, i: int) -> dict[str, str]:
    def number(values: np.ndarray) -> str:
        return str(int(values[i])) if values[i] >= 0 else ""

    implied = int(r.file_implied_bytes[i]) if r.file_state[i] not in BAD else -1
    crc = {"unverifiable": "none stored"}.get(r.file_crc[i], r.file_crc[i])
    return {
        "state": r.file_state[i],
        "epoch": number(r.file_epoch),
        "iter": number(r.file_iter),
        "width": number(r.file_width),
        "depth": number(r.file_depth),
        "params": count_text(int(r.file_parameters[i])).replace(" ", "\u2009")
        if r.file_parameters[i] >= 0
        else "",
        "size": bytes_text(int(r.file_bytes[i])),
        "needed": f"{implied / r.file_bytes[i]:.0%}" if implied > 0 and r.file_bytes[i] else "",
        "dtype": r.file_dtypes[i].partition(",")[0],
        "optimizer": r.file_optimizer[i],
        "CRC": crc,
        "age": _age(r.now - float(r.file_time[i])),
    }


def _strange(r: AuditResult) -> list[set[str]]:
    """For each file the cells that are not as they should be."""
    last = {
        what: {r.reached(files, what) for files in r.runs().values()}
        for what, meant in (("epoch", r.expect_epoch), ("iter", r.expect_iter))
        if meant > 0
    }
    other = {what: {fact.where for fact in other_models(r, what)} for what in ("width", "depth")}
    small = wrong_sizes(r, AuditLimits.size_factor)
    bare = [i for i, _ in without_optimizer(r)]
    found: list[set[str]] = []
    for i, state in enumerate(r.file_state):
        said, named = r.file_epoch[i], r.file_named_epoch[i]
        checks = {
            "state": state in BAD,
            "epoch": (min(said, named) >= 0 and abs(said - named) > 1)
            or (i in last.get("epoch", ()) and r.counts("epoch")[i] < r.expect_epoch - 1),
            "iter": i in last.get("iter", ()) and r.counts("iter")[i] < r.expect_iter - 1,
            "width": r.file_name[i] in other["width"],
            "depth": r.file_name[i] in other["depth"],
            "size": i in small,
            "optimizer": i in bare,
            "CRC": r.file_crc[i] == "damaged",
        }
        found.append({name for name, strange in checks.items() if strange})
    return found


def _of_run(r: AuditResult, run: str) -> list[int]:
    runs = r.runs()
    if run != ALL and run not in runs:
        raise UsageError(f"there is no run {run!r}", fix=did_you_mean(run, [ALL, *runs]))
    return list(range(len(r.file_name))) if run == ALL else runs[run]


def _dates(times: np.ndarray) -> np.ndarray:
    return np.array([date2num(datetime.fromtimestamp(each)) for each in times.tolist()])  # type: ignore[no-untyped-call]  # noqa: DTZ006 - local time is meant


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return "now"


def _short(name: str, limit: int = 44) -> str:
    return name if len(name) <= limit else f"…{name[-limit + 1 :]}"
