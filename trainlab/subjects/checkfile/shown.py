"""How a peek, a verification, a salvage and a difference are written for a person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from trainlab.subjects.checkfile.grading import Grade
from trainlab.subjects.checkfile.tensors import TensorInfo

if TYPE_CHECKING:
    from trainlab.subjects.checkfile.peek import Peek
    from trainlab.subjects.checkfile.roles import OptimizerInfo, SchedulerInfo

__all__ = ["brief", "bytes_text", "count_text", "peek_dict", "peek_html", "peek_text"]

ROWS = 12  # tensors shown in text


def bytes_text(size: float) -> str:
    """A size for a person: ``63.1 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return (
                f"{size:.0f} {unit}"
                if unit == "bytes"
                else f"{size:.3g} {unit}"
                if size < 1000
                else f"{size:.0f} {unit}"
            )
        size /= 1000
    return ""


def count_text(count: float) -> str:
    """A number of elements for a person: ``9.8 M``."""
    for unit in ("", " k", " M", " G"):
        if count < 1000 or unit == " G":
            return f"{count:.3g}{unit}"
        count /= 1000
    return ""


def brief(value: Any, limit: int = 60, depth: int = 2) -> str:
    """A value in few characters, whatever it holds: a small pickle can nest lists so that their repr never ends."""
    if isinstance(value, TensorInfo):
        return f"tensor {value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        inner = (
            [f"{key}={brief(each, 24, depth - 1)}" for key, each in list(value.items())[:5]] if depth else []
        )
        text = f"{{{', '.join(inner + ['…'] * (len(value) > len(inner)))}}}"
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = [brief(each, 24, depth - 1) for each in list(value)[:5]] if depth else []
        text = f"[{', '.join(inner + ['…'] * (len(value) > len(inner)))}]"
    else:
        text = (
            f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else repr(value)
        )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _optimizer_text(info: OptimizerInfo) -> str:
    parts = [
        info.kind,
        f"lr {', '.join(f'{each:.4g}' for each in dict.fromkeys(info.lr))}" if info.lr else "",
    ]
    if info.steps:
        low, high = info.steps
        parts.append(f"step {low:g}" if low == high else f"steps {low:g} to {high:g}")
    parts.append(
        f"{info.tensors} tensors of state, {bytes_text(info.nbytes)}" if info.tensors else "no state"
    )
    if info.missing:
        parts.append(f"{info.missing} parameters without state")
    return ", ".join(part for part in parts if part)


def _facts(peek: Peek) -> Iterator[tuple[str, str]]:
    for name, tensors in peek.weights.items():
        numel = sum(peek.tensors[each].numel for each in tensors)
        dtypes = ", ".join(dict.fromkeys(peek.tensors[each].dtype for each in tensors))
        yield f"weights {name}".strip(), f"{len(tensors)} tensors, {count_text(numel)} elements, {dtypes}"
    if peek.scalars:
        yield (
            "values",
            ", ".join(f"{name} {brief(value, 40)}" for name, value in list(peek.scalars.items())[:16]),
        )
    if peek.config:
        yield (
            "config",
            ", ".join(f"{name}={brief(value, 24)}" for name, value in list(peek.config.items())[:16]),
        )
    for optimizer in peek.optimizers:
        yield f"optimizer {optimizer.name}".strip(), _optimizer_text(optimizer)
    for scheduler in peek.schedulers:
        rates = f", lr {', '.join(f'{each:.4g}' for each in scheduler.last_lr)}" if scheduler.last_lr else ""
        yield (
            f"scheduler {scheduler.name}".strip(),
            f"{scheduler.kind}, last epoch {scheduler.last_epoch}{rates}",
        )
    for grade in (Grade.DANGEROUS, Grade.NEEDS_ALLOWING):
        names = list(dict.fromkeys(each.name for each in peek.globals if each.grade is grade))
        if names:
            yield (
                str(grade),
                ", ".join(names[:12]) + (f" … and {len(names) - 12} more" if len(names) > 12 else ""),
            )
    for note in peek.notes:
        yield "note", note


def _title(peek: Peek) -> str:
    return f"{peek.path} ({peek.format}): {bytes_text(peek.size)}, {len(peek.tensors)} tensors"


def peek_text(peek: Peek, rows: int = ROWS) -> str:
    """A peek in lines, with so many of its tensors."""
    lines = [_title(peek)]
    lines += [f"  {name}: {text}" for name, text in _facts(peek)]
    names = list(peek.tensors)
    width = max((len(name) for name in names[:rows]), default=0)
    lines += [
        f"  {name:<{width}}  {peek.tensors[name].dtype} {list(peek.tensors[name].shape)}"
        for name in names[:rows]
    ]
    if len(names) > rows:
        lines.append(f"  … and {len(names) - rows} more tensors")
    return "\n".join(lines)


def peek_dict(peek: Peek) -> dict[str, Any]:
    """A peek as strict JSON values: numbers that JSON lacks as words, objects in short."""
    return {
        "path": str(peek.path),
        "format": peek.format,
        "bytes": peek.size,
        "parameters": peek.parameters,
        "grade": str(peek.grade),
        "cut": peek.cut,
        "weights": {name: len(tensors) for name, tensors in peek.weights.items()},
        "scalars": _strict(peek.scalars),
        "config": _strict(peek.config),
        "optimizers": [_strict(_fields(each)) for each in peek.optimizers],
        "schedulers": [_strict(_fields(each)) for each in peek.schedulers],
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


def _strict(value: Any, depth: int = 20) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping) and depth:
        return {str(key): _strict(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [_strict(each, depth - 1) for each in value]
    return brief(value, 200)


def peek_html(peek: Peek) -> str:
    """A peek as a table of facts and one of tensors."""
    from trainlab.markup import block, table

    facts = [{"what": name, "seen": text} for name, text in _facts(peek)]
    rows = [
        {
            "tensor": name,
            "dtype": info.dtype,
            "shape": str(list(info.shape)),
            "elements": info.numel,
            "where": info.where,
        }
        for name, info in peek.tensors.items()
    ]
    return block(_title(peek), [table(facts), table(rows, limit=40)])
