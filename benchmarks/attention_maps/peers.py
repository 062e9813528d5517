"""What the field's tools show of the same models, as they come: the same truth, no model edited."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.judge import Verdict
from benchmarks.attention_maps.truth import difference
from trainlab.visit import call, visit

__all__ = ["PEERS", "peers"]

Shown = Callable[[Subject, object], list[Tensor]]
KINDS = ("hand-written", "fused", "torch.nn", "Hugging Face", "timm")


def asked(subject: Subject, batch: object) -> list[Tensor]:
    """All that `output_attentions=True` returns of the model as it is loaded by default."""
    return _asked(subject.model, batch)


def asked_of_eager(subject: Subject, batch: object) -> list[Tensor]:
    """The same of a model that was loaded anew, with eager attention."""
    assert subject.eager is not None
    return _asked(subject.eager, batch)


def _asked(model: nn.Module, batch: object) -> list[Tensor]:
    assert isinstance(batch, dict)
    with visit(model, seed=0):
        output: Any = call(model, {**batch, "output_attentions": True})
        for part in ("vision_model_output", "text_model_output"):
            output = {**output, **{f"{part}.{k}": v for k, v in (output.get(part) or {}).items()}}
    found: list[Tensor] = []
    for name, value in output.items():
        if "attentions" in name and value is not None:
            found += [map_ for map_ in value if isinstance(map_, Tensor)]
    return found


def bertviz(subject: Subject, batch: object) -> list[Tensor]:
    """What bertviz can draw of what the model returns: layers of one shape, of one text."""
    from bertviz.util import format_attention

    maps = asked(subject, batch)
    layers = [format_attention([map_[entry : entry + 1] for map_ in maps]) for entry in range(len(maps[0]))]
    return list(torch.stack(layers, 1))


def extracted(subject: Subject, batch: object) -> list[Tensor]:
    """All that timm's AttentionExtract gives, by whichever of its two methods gives more."""
    from timm.utils import AttentionExtract

    found: list[list[Tensor]] = [[]]
    for method in ("fx", "hook"):
        try:
            found.append(list(AttentionExtract(copy.deepcopy(subject.model), method=method)(batch).values()))
        except Exception:  # noqa: BLE001 - it names what it cannot do by raising whatever fx raises
            continue
    return max(found, key=len)


def traced(subject: Subject, batch: object) -> list[Tensor]:
    """Every tensor that torchlens saves of a forward."""
    import torchlens

    args, kwargs = (
        ((), batch) if isinstance(batch, dict) else (batch if isinstance(batch, tuple) else (batch,), {})
    )
    with redirect_stdout(StringIO()):
        trace = torchlens.trace(copy.deepcopy(subject.model).eval(), args, kwargs)
    return [layer.out for layer in trace.layer_list if isinstance(layer.out, Tensor) and layer.out.ndim >= 2]


PEERS: dict[str, tuple[Shown, str, Sequence[str]]] = {
    "output_attentions=True": (asked, "transformers", ("Hugging Face",)),
    "the same, loaded anew as eager": (asked_of_eager, "transformers", ("Hugging Face",)),
    "bertviz": (bertviz, "bertviz", ("Hugging Face",)),
    "timm AttentionExtract": (extracted, "timm", ("timm",)),
    "torchlens": (traced, "torchlens", KINDS[:-1]),
}


def shows(case: Case, shown: Shown) -> bool:
    """Whether a peer shows every map of a case exactly, in any order, among whatever else it shows."""
    subject = case.built()
    for batch in subject.batches:
        assert case.truth is not None
        true = case.truth(subject, batch)
        try:
            given = shown(subject, batch)
        except Exception:  # noqa: BLE001 - a peer that raises shows nothing
            return False
        if not all(any(difference(map_, wanted) <= case.within for map_ in given) for wanted in true):
            return False
    return True


def peers(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """The share of models each peer is exact on, beside ours, by kind; only what the bars ask exactly is compared."""
    kinds = [kind for kind in KINDS if any(v.case.kind == kind for v in verdicts)]
    parts = {
        k: [v for v in verdicts if v.case.kind == k and v.case.expects == "exact" and not v.skipped]
        for k in kinds
    }
    lines = [("exact maps, as it comes", *kinds)]
    lines.append(("trainlab", *(f"{sum(v.exact for v in part)}/{len(part)}" for part in parts.values())))
    for name, (shown, package, of) in PEERS.items():
        if find_spec(package) is None:
            lines.append((f"{name}: not installed", *("" for _ in kinds)))
            continue
        cells = [
            f"{sum(shows(v.case, shown) for v in part)}/{len(part)}" if k in of else "–"
            for k, part in parts.items()
        ]
        lines.append((name, *cells))
    return lines
