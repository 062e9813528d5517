"""Does hearing a model change anything: its numbers, its gradients, the process around it, what stays in memory?"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.attention import flex_attention
from torch.nn.modules import activation, transformer
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.forms import LENGTH, WIDTH, Stack, scores
from trainlab.diagnostics.attention.call import Call
from trainlab.diagnostics.attention.capture import capture
from trainlab.visit import tensors, visit

__all__ = ["Harm", "harm", "harmed", "harms", "recompiles"]

FAST_PATH = 1e-6
FUSED = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
"""Modules of torch.nn whose evaluation is fused as a whole, and computed in parts while it is heard."""
OWNERS: tuple[Any, ...] = (
    threading.Thread,
    torch, functional, torch.Tensor, torch.special, nn.Module, nn.MultiheadAttention, nn.TransformerEncoderLayer, torch.overrides,
    activation, transformer, flex_attention,
)  # fmt: skip


class Stop(Exception):  # noqa: N818 - no error of anybody's
    """Raised on purpose."""


@dataclass(frozen=True)
class Harm:
    """What a run under the capture did otherwise than a run without it; every field 0, "" or None is no harm."""

    case: Case
    output: float = 0.0
    gradient: float | None = None
    """None where the model does not train, or draws numbers that no seed sets."""
    random: bool = False
    left: str = ""
    after_error: str = ""
    alive: int = 0
    fused: bool = False
    """Whether the model has a module whose last bits may differ."""

    @property
    def none(self) -> bool:
        """All within the bars."""
        limit = FAST_PATH if self.fused else 0.0
        return (
            self.output <= limit
            and not self.gradient
            and not (self.random or self.left or self.after_error or self.alive)
        )


def ignore(_: Call) -> None:
    """Take a call and do nothing."""


def gap(one: object, other: object) -> float:
    """The largest difference of two nests of tensors; infinite where their shapes or NaNs differ."""
    left, right = tensors(one), tensors(other)
    if left.keys() != right.keys() or any(left[k].shape != right[k].shape for k in left):
        return float("inf")
    worst = 0.0
    for name, tensor in left.items():
        a, b = tensor.detach(), right[name].detach()
        if not torch.equal(a.nan_to_num(), b.nan_to_num()) or not torch.equal(a.isnan(), b.isnan()):
            worst = max(worst, float((a.double() - b.double()).abs().max().nan_to_num(float("inf"))))
    return worst


@contextmanager
def heard_or_not(model: nn.Module, heard: Callable[[Call], None] | None) -> Iterator[None]:
    """Under the capture, or not."""
    if heard is None:
        yield
    else:
        with capture(model, heard):
            yield


def evaluated(
    subject: Subject, batch: object, heard: Callable[[Call], None] | None, *, train: bool
) -> tuple[object, Tensor]:
    """Output and the random state after it."""
    with visit(subject.model, train=train, seed=0), heard_or_not(subject.model, heard):
        output = subject.run(subject.model, batch)
        return output, torch.get_rng_state()


def trained(subject: Subject, batch: object, heard: Callable[[Call], None] | None) -> dict[str, Tensor]:
    """Gradients of the mean square of all outputs, in train mode."""
    with visit(subject.model, train=True, seed=0, grad=True), heard_or_not(subject.model, heard):
        output = tensors(subject.run(subject.model, batch))
        losses = [out.float().square().mean() for out in output.values() if out.requires_grad]
        torch.stack(losses).sum().backward()
        return {name: p.grad.clone() for name, p in subject.model.named_parameters() if p.grad is not None}


def process() -> dict[str, int]:
    """Whatever of torch could be patched and stay so."""
    state = {f"{owner.__name__}.{k}": id(v) for owner in OWNERS for k, v in list(vars(owner).items())}
    state["function modes"] = len(_get_current_function_mode_stack())
    state["dispatch modes"] = len(_get_current_dispatch_mode_stack())
    state["fast path"] = torch.backends.mha.get_fastpath_enabled()
    state["stance"] = hash(torch._dynamo.eval_frame._stance.stance)  # noqa: SLF001
    state["grad"] = torch.is_grad_enabled()
    return state


def changed(before: dict[str, int]) -> str:
    """What is otherwise now."""
    now = process()
    return ", ".join(sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k)))[:200]


def stopped(subject: Subject, batch: object) -> str:
    """What is left after an error in the listener, and after one in the middle of forward."""
    before, said = process(), ""

    def stop(*_: object) -> None:
        raise Stop

    with suppress(Stop), capture(subject.model, stop):
        subject.run(subject.model, batch)
    said += changed(before)
    modules = list(subject.model.modules())
    hooked = modules[len(modules) * 2 // 3]
    if not isinstance(hooked, torch.jit.ScriptModule):  # it refuses hooks
        handle = hooked.register_forward_hook(stop)
        with suppress(Stop), capture(subject.model, ignore):
            subject.run(subject.model, batch)
        handle.remove()
    return said + changed(before)


def kept_alive(subject: Subject, batch: object) -> int:
    """Tensors of calls whose memory outlives the run and is neither the model's nor the batch's."""
    own = (*subject.model.parameters(), *subject.model.buffers(), *tensors(batch).values())
    kept = {tensor.untyped_storage().data_ptr() for tensor in own}
    references: list[StorageWeakRef] = []

    def note(call: Call) -> None:
        its = (call.q, call.k, call.v, call.weights, call.scores, call.out)
        storages = [tensor.untyped_storage() for tensor in its if tensor is not None]
        references.extend(StorageWeakRef(storage) for storage in storages if storage.data_ptr() not in kept)

    with visit(subject.model, seed=0):
        with capture(subject.model, note):
            output = subject.run(subject.model, batch)
        del output
        if not all(reference.expired() for reference in references):
            gc.collect()  # slow beside a large package, so only where it may free something
        return sum(not reference.expired() for reference in references)


def moved(subject: Subject, batch: object) -> float | None:
    """How far gradients move under the capture; None where the model does not train, or never twice the same."""
    try:
        true = trained(subject, batch, None)
    except Exception:  # noqa: BLE001 - it does not train, with or without us
        return None
    worst = gap(true, trained(subject, batch, ignore))
    return None if worst and gap(true, trained(subject, batch, None)) else worst


def harm(case: Case) -> Harm:
    """Run one case with and without the capture."""
    subject = case.built()
    batch = subject.batches[-1]
    plain, state = evaluated(subject, batch, None, train=case.train)
    before = process()
    heard, state_after = evaluated(subject, batch, ignore, train=case.train)
    left = changed(before)
    gradient = moved(subject, batch)
    with visit(subject.model):
        after_error = stopped(subject, batch)
    output, random = gap(plain, heard), not torch.equal(state, state_after)
    fused = any(isinstance(module, FUSED) for module in subject.model.modules())
    return Harm(case, output, gradient, random, left, after_error, kept_alive(subject, batch), fused)


def recompiles() -> list[str]:
    """Compiled models that are traced again in, or after, a run under the capture."""
    from torch._dynamo.utils import counters

    said = []
    x = torch.randn(2, LENGTH, WIDTH)
    fused, written = functional.scaled_dot_product_attention, lambda q, k, v: scores(q, k).softmax(-1) @ v
    for name, attend in (("fused", fused), ("by hand", written)):
        for way in ("torch.compile", "module.compile", "function inside"):
            torch._dynamo.reset()  # noqa: SLF001
            model: Any = Stack(
                torch.compile(attend, backend="eager") if way == "function inside" else attend
            ).eval()
            if way == "torch.compile":
                model = torch.compile(model, backend="eager")
            elif way == "module.compile":
                model.compile(backend="eager")
            with torch.no_grad():
                true = model(x)
                before = {kind: dict(counts) for kind, counts in counters.items()}
                with capture(model, ignore):
                    inside = model(x)
                after = model(x)
            if before != {kind: dict(counts) for kind, counts in counters.items()}:
                said.append(f"{way}, {name}: traced again")
            if not torch.equal(true, after) or not torch.allclose(true, inside, atol=1e-6):
                said.append(f"{way}, {name}: other numbers")
    torch._dynamo.reset()  # noqa: SLF001
    return said


def harms(found: Sequence[Harm]) -> list[tuple[str, ...]]:
    """A line for each kind: how many models ran, trained, and were harmed in which way."""
    lines = [("kind", "models", "unharmed", "output", "trained", "gradient", "random", "left", "after an error", "alive")]  # fmt: skip
    for kind in (*dict.fromkeys(h.case.kind for h in found), "all"):
        part = [h for h in found if kind in {h.case.kind, "all"}]
        counts = (
            len(part), sum(h.none for h in part), sum(h.output > 0 for h in part), sum(h.gradient is not None for h in part),
            sum(bool(h.gradient) for h in part), sum(h.random for h in part), sum(bool(h.left) for h in part),
            sum(bool(h.after_error) for h in part), sum(h.alive > 0 for h in part),
        )  # fmt: skip
        lines.append((kind, *map(str, counts)))
    return lines


def harmed(found: Sequence[Harm]) -> list[str]:
    """Each model that was harmed, and how."""
    lines = []
    for h in found:
        if not h.none:
            facts = {
                field.name: getattr(h, field.name)
                for field in fields(h)
                if field.name not in {"case", "fused"}
            }
            lines.append(f"harm: {h.case.name}: " + ", ".join(f"{k} {v}" for k, v in facts.items() if v))
    return lines
