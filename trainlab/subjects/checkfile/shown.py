"""How a peek, a verification, a salvage and a difference are written for a person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.grading import Grade
from trainlab.subjects.checkfile.stubs import brief

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.peek import Peek
    from trainlab.subjects.checkfile.roles import OptimizerInfo, SchedulerInfo

__all__ = [
    "brief", "bytes_text", "count_text", "lines_html", "listed", "peek_dict", "peek_html", "peek_text",
]  # fmt: skip

ROWS = 12  # tensors shown in text
NODES = 10_000  # values written as JSON


def bytes_text(size: float) -> str:
    """A size for a person: ``63.1 MB``."""
    if size < 1000:
        return f"{size:.0f} bytes"
    return _scaled(size / 1000, (" kB", " MB", " GB"))


def count_text(count: float) -> str:
    """A number of elements for a person: ``9.8 M``."""
    return _scaled(count, ("", " k", " M", " G"))


def _scaled(value: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}{units[-1]}" if value < 1000 else f"{value:.0f}{units[-1]}"


def listed(names: Sequence[str], limit: int) -> str:
    """The first names of many, and how many there are."""
    return ", ".join(names[:limit]) + (f" … {len(names)} in all" if len(names) > limit else "")


def lines_html(text: str, rows: Sequence[Mapping[str, object]] = (), *, limit: int = 40) -> str:
    """Lines as a title with paragraphs under it, and a table."""
    from trainlab.markup import block, paragraph, table

    title, *lines = text.split("\n")
    return block(title, [*(paragraph(line.strip()) for line in lines), table(rows, limit=limit)])


def _optimizer_text(info: OptimizerInfo) -> str:
    rates = _rates(info.lr)
    steps = "" if info.steps is None else " to ".join(f"{each:g}" for each in dict.fromkeys(info.steps))
    parts = (
        info.kind,
        rates,
        f"step {steps}" if steps else "",
        f"{info.tensors} tensors of state, {bytes_text(info.nbytes)}" if info.tensors else "no state",
        f"{info.missing} parameters without state" if info.missing else "",
    )
    return ", ".join(part for part in parts if part)


def _rates(rates: Sequence[float]) -> str:
    return f"lr {', '.join(f'{each:.4g}' for each in dict.fromkeys(rates))}" if rates else ""


def _facts(peek: Peek) -> Iterator[tuple[str, str]]:
    for name, tensors in peek.weights.items():
        numel = sum(peek.tensors[each].numel for each in tensors)
        dtypes = ", ".join(dict.fromkeys(peek.tensors[each].dtype for each in tensors))
        yield f"weights {name}".strip(), f"{len(tensors)} tensors, {count_text(numel)} elements, {dtypes}"
    if peek.scalars:
        values = islice(peek.scalars.items(), 16)
        yield "values", ", ".join(f"{name} {brief(value, 40)}" for name, value in values)
    if peek.config:
        settings = islice(peek.config.items(), 16)
        yield "config", ", ".join(f"{name}={brief(value, 24)}" for name, value in settings)
    for optimizer in peek.optimizers:
        yield f"optimizer {optimizer.name}".strip(), _optimizer_text(optimizer)
    for each in peek.schedulers:
        parts = (each.kind, f"last epoch {each.last_epoch}", _rates(each.last_lr))
        yield f"scheduler {each.name}".strip(), ", ".join(part for part in parts if part)
    for grade in (Grade.DANGEROUS, Grade.NEEDS_ALLOWING):
        names = list(dict.fromkeys(each.name for each in peek.globals if each.grade is grade))
        if names:
            yield str(grade), listed(names, 12)
    for note in peek.notes:
        yield "note", note


def _title(peek: Peek) -> str:
    return f"{peek.path} ({peek.format}): {bytes_text(peek.size)}, {len(peek.tensors)} tensors"


def peek_text(peek: Peek, rows: int = ROWS) -> str:
    """A peek in lines, with so many of its tensors."""
    lines = [_title(peek), *(f"  {name}: {text}" for name, text in _facts(peek))]
    shown = list(islice(peek.tensors.values(), rows))
    width = max((len(each.name) for each in shown), default=0)
    lines += [f"  {each.name:<{width}}  {each.dtype} {list(each.shape)}" for each in shown]
    if len(peek.tensors) > rows:
        lines.append(f"  … and {len(peek.tensors) - rows} more tensors")
    return "\n".join(lines)


def peek_dict(peek: Peek) -> dict[str, Any]:
    """A peek as strict JSON values: numbers that JSON lacks as words, objects in short."""
    left = [NODES]
    return {
        "path": str(peek.path),
        "format": peek.format,
        "bytes": peek.size,
        "parameters": peek.parameters,
        "grade": str(peek.grade),
        "cut": peek.cut,
        "weights": {name: len(tensors) for name, tensors in peek.weights.items()},
        "scalars": _strict(peek.scalars, left),
        "config": _strict(peek.config, left),
        "optimizers": [_strict(_fields(each), left) for each in peek.optimizers],
        "schedulers": [_strict(_fields(each), left) for each in peek.schedulers],
        "globals": [
            {"name": each.name, "grade": str(each.grade), "record": each.record} for each in peek.globals
        ],
        "notes": list(peek.notes),
        "tensors": {
            name: {"dtype": each.dtype, "shape": list(each.shape), "bytes": each.nbytes, "crc": each.crc}
            for name, each in peek.tensors.items()
        },
    }


def _fields(record: OptimizerInfo | SchedulerInfo) -> dict[str, Any]:
    """The fields of a record by name."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _strict(value: Any, left: list[int], depth: int = 20) -> Any:
    """The value with nothing in it that JSON lacks; what is nested without end is told in short (``left``: values)."""
    left[0] -= 1
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping) and left[0] > 0 and depth:
        return {str(key): _strict(each, left, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)) and left[0] > 0 and depth:
        return [_strict(each, left, depth - 1) for each in value]
    return brief(value, 200)


def peek_html(peek: Peek) -> str:
    """A peek as a table of facts and one of tensors."""
    from trainlab.markup import block, table

    facts = [{"what": name, "seen": text} for name, text in _facts(peek)]
    rows = [
        {
            "tensor": name,
            "dtype": each.dtype,
            "shape": str(list(each.shape)),
            "elements": each.numel,
            "where": each.where,
        }
        for name, each in peek.tensors.items()
    ]
    return block(_title(peek), [table(facts), table(rows, limit=40)])
