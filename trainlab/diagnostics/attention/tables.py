"""From measured calls to the columns of the result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from trainlab.diagnostics.attention.call import Call, Missed
from trainlab.diagnostics.attention.measuring import Layout, Measured, write_rms

__all__ = ["Seen", "missed_table", "tables"]


@dataclasses.dataclass
class Seen:
    """One call: what is known of it without its tensors, and what was measured."""

    module: str
    facts: dict[str, Any]
    layout: Layout
    measured: Measured
    projected: bool = False

    @classmethod
    def of(cls, module: str, call: Call, layout: Layout, measured: Measured) -> Seen:
        """Takes down what the result says of a call."""
        site = call.site.rpartition("site-packages/")[2]
        facts: dict[str, Any] = {"kernel": call.kernel, "site": site, "scale": call.scale}
        if call.q is not None and call.k is not None:
            batch, heads, queries, depth = call.q.shape
            key_heads, keys = call.k.shape[1:3]
        else:
            assert call.weights is not None
            batch, heads, queries, keys = call.weights.shape
            key_heads, depth = heads, 0
        facts |= {
            "batch": batch,
            "heads": heads,
            "key_heads": key_heads,
            "queries": queries,
            "keys": keys,
            "depth": depth,
        }
        return cls(module, facts, layout, measured)

    @property
    def real(self) -> int:
        """Queries of all entries that are no padding."""
        return int(self.facts["batch"] * self.facts["queries"] - self.measured.counts["padding"])

    def project(self, weight: Tensor) -> None:
        """Its heads write through an output projection, (out, head, value depth)."""
        if self.measured.gram is not None:
            self.measured.heads["write"] = write_rms(self.measured.gram, weight)
            self.measured = dataclasses.replace(self.measured, gram=None)  # large where heads are wide
            self.projected = True


def tables(seen: Sequence[Seen]) -> dict[str, Any]:
    """The tables ``call`` and ``head``, and the flat arrays."""
    calls = [{**each.facts, **each.measured.counts, **_laid_out(each.layout)} for each in seen]
    heads = [
        {
            **each.measured.heads,
            "call": np.full(each.facts["heads"], number),
            "number": np.arange(each.facts["heads"]),
            "projected": np.full(each.facts["heads"], each.projected),
        }
        for number, each in enumerate(seen)
    ]
    found: dict[str, Any] = {f"call_{name}": _column([call[name] for call in calls]) for name in calls[0]}
    found |= {f"head_{name}": np.concatenate([head[name] for head in heads]) for name in heads[0]}
    found["call_name"] = _numbered([each.module for each in seen])
    for name in ("thumbnail", "receive", "framewise", "likeness"):
        arrays: list[np.ndarray | None] = [getattr(each.measured, name) for each in seen]
        none = np.zeros(0, np.float32)
        found[name] = np.concatenate([none, *(array.ravel() for array in arrays if array is not None)])
    return found


def _laid_out(layout: Layout) -> dict[str, Any]:
    fields = dataclasses.asdict(layout)
    del fields["why"]
    return {"layout": fields.pop("kind"), **fields}


def _column(values: list[Any]) -> Any:
    return tuple(values) if isinstance(values[0], str) else np.array(values)


def _numbered(modules: Sequence[str]) -> tuple[str, ...]:
    """Names with ``#2`` … where a module attends again."""
    times: Counter[str] = Counter()
    names = []
    for module in modules:
        times[module] += 1
        names.append(module if times[module] == 1 else f"{module}#{times[module]}")
    return tuple(names)


def missed_table(missed: Iterable[Missed]) -> dict[str, Any]:
    """The table ``missed``."""
    return {
        "missed_kernel": tuple(each.kernel for each in missed),
        "missed_module": tuple(each.module for each in missed),
        "missed_count": np.array([each.count for each in missed], np.int64),
        "missed_attends": np.array([each.attends for each in missed], bool),
        "missed_why": tuple(each.why for each in missed),
    }
