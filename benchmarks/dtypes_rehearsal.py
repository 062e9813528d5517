"""Does the rehearsal do what CUDA's autocast would? `python -m benchmarks.dtypes_rehearsal`

Three questions, each with an oracle that shares nothing with `trainlab.diagnostics.dtypes.rehearsal`:

1. Every op of every architecture of the study, in order, in float16 and bfloat16: has its output the dtype that
   CUDA's lists prescribe for the inputs it got? The lists are read by other code here, and held against the ops
   that the compiled library registers for CUDA; the rule is worked out by casting the inputs by hand and running
   the op without autocast. The order of modules and ops is that of stock CPU autocast.
2. torch's own tests of CUDA autocast: has each op's output the dtype that they expect?
3. Stock CPU autocast afterwards, also after an error inside: is each op registered as before, and are its outputs
   the same, to the bit?

It exits with 1 where an answer is no.
"""

from __future__ import annotations

import sys
import time
import types
import unittest
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.dtypes_study.zoo import ZOO
from trainlab.diagnostics.dtypes.rehearsal import rehearse_cuda
from trainlab.visit import call, map_tensors, tensors, visit
from trainlab.visit.ops import Op, Run, ops

LISTS = {"LOWER_PRECISION_FP": "low", "FP32": "fp32", "FP32_SET_OPT_DTYPE": "out", "PROMOTE": "promote"}
# Registered for CUDA by code, not by a list; norm's list holds signatures
BY_CODE = {"norm.Scalar": "fp32", "norm.ScalarOpt_dim": "fp32", "binary_cross_entropy": "banned"}
CUDNN = {"cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn"}
# Composites that no list shows; the ops that they are made of are listed
MADE_OF = {"square": "fp32", "cross_entropy_loss": "fp32", "rpow": "fp32", "nll_loss_nd": "fp32"}
RECURRENT = dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "half")
registrations = torch._C._dispatch_get_registrations_for_dispatch_key  # noqa: SLF001
dump = torch._C._dispatch_dump  # noqa: SLF001
DTYPES = (torch.float16, torch.bfloat16)
Row = tuple[str, str, str]


class Regions(nn.Module):
    """Code that says `cuda`, a region without autocast inside, a nested one with it."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.middle, self.outlet = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x.to("cuda")) + torch.zeros(8, device="cuda")
        with torch.autocast("cuda", enabled=False):
            x = self.middle(x.float())
            with torch.amp.autocast("cuda"):
                x = x @ x.mT
        return self.outlet(x @ x.new_ones(x.shape[-1], 8, device="cuda:0"))


class Losses(nn.Module):
    """What training scripts compute after the model: losses, norms, products, sums."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> list[Tensor]:
        out = self.inlet(x)
        target = torch.arange(len(x)) % 6
        # fmt: off
        return [
            F.cross_entropy(out, target), F.nll_loss(out, target), F.mse_loss(out, x), F.l1_loss(out, x),
            F.binary_cross_entropy_with_logits(out, x.sigmoid()), F.smooth_l1_loss(out, x), F.huber_loss(out, x),
            F.kl_div(out.log_softmax(-1), x.softmax(-1), reduction="batchmean"), out.norm(), out.norm(dim=1),
            out.sum(), out.sum(0), out.prod(1), out.cumsum(0), out.cumprod(0), out.mean(), out.std(), out.var(1),
            out**2, 2**out, out.square(), out.exp(), out.abs().log1p(), out.abs().rsqrt(), out.tan(), out.sqrt(),
            torch.atan2(out, x), torch.addcmul(x, out, out), torch.dot(out[0], x[0]), torch.cdist(out, x),
            torch.linalg.vector_norm(out), torch.logsumexp(out, 0), F.softplus(out), F.gelu(out), F.silu(out),
            F.cosine_similarity(out, x), F.normalize(out), torch.einsum("ij,kj->ik", out, x), out @ x.mT,
            F.interpolate(out[None, None], scale_factor=2.0), F.layer_norm(out, (6,)), out.softmax(-1), out / 3,
            torch.cat([out, x]), torch.stack([out, x]), torch.where(x > 0, out, x),
        ]
        # fmt: on


MODELS: dict[str, Callable[[], tuple[nn.Module, object]]] = {
    **{each.name: each.build for each in ZOO},
    "regions": lambda: (Regions().eval(), torch.randn(2, 5, 6)),
    "losses": lambda: (Losses().eval(), torch.randn(5, 6)),
}


# --- 1. the lists ------------------------------------------------------------------------------------------


def listed_rules() -> dict[str, str]:
    """The rule of each op by its bare name, read line by line and held against what is registered for CUDA."""
    text = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text(encoding="utf-8")
    rules, current = dict(BY_CODE), None
    for line in text.splitlines():
        if line.startswith("#define "):
            current = LISTS.get(line.removeprefix("#define AT_FORALL_").split("(")[0])
        elif current and line.startswith("  _("):
            name = line.split("(")[1].split(")")[0].replace(", ", ".")
            rules[name] = current
    registered = registrations("AutocastCUDA")
    assert {name.removeprefix("aten::") for name in registered} - CUDNN == set(rules)
    return {**{name.split(".")[0]: rule for name, rule in rules.items()}, **MADE_OF, **RECURRENT}


def prescribed(op: Op, rule: str | None, low: torch.dtype) -> str:
    """The dtypes of the op's outputs where its inputs are cast by hand and no autocast is on."""
    args, kwargs = op.args, op.kwargs
    taken = [each for each in tensors((args, kwargs)).values() if each.is_floating_point()]
    if not torch.is_autocast_enabled("cuda") or (
        rule == "out" and any(isinstance(each, torch.dtype) for each in kwargs.values())
    ):
        rule = None
    if rule == "promote":
        rule = "fp32" if any(each.dtype == torch.float32 for each in taken) else "low"
    to = {"low": low, "fp32": torch.float32, "out": torch.float32, "half": torch.float16}.get(rule or "")

    def by_hand(_: str, value: Tensor) -> Tensor:
        casts = to is not None and value.is_floating_point() and value.dtype != torch.float64
        return value.detach().to(to) if casts else value.detach().clone()

    try:
        with torch.autocast("cuda", enabled=False), torch.no_grad():
            return written(op.func(*map_tensors(list(args), by_hand), **map_tensors(dict(kwargs), by_hand)))
    except RuntimeError:
        return "raises"


def written(out: object) -> str:
    return " ".join(str(each.dtype).removeprefix("torch.") for each in tensors(out).values())


def trace(build: Callable[[], tuple[nn.Module, object]], dtype: torch.dtype) -> tuple[list[Row], list[Row]]:
    """What ran, and what should have."""
    rules = listed_rules()
    ran: list[Row] = []
    should: list[Row] = []
    model, batch = build()

    def around(op: Op, run: Run) -> object:
        low = torch.get_autocast_dtype("cuda")
        # a custom function runs its own ops, which are heard
        wanted = None if op.name.endswith(".apply") else prescribed(op, rules.get(op.name), low)
        out, said = None, "raises"
        try:
            out = run()
            said = written(out)
            return out
        finally:
            ran.append((op.module, op.name, said))
            should.append((op.module, op.name, said if wanted is None else wanted))

    with visit(model), rehearse_cuda(dtype), ops(model, around):
        try:
            call(model, batch)
        except RuntimeError:
            assert ran[-1][2] == "raises"
    return ran, should


def order(build: Callable[[], tuple[nn.Module, object]], dtype: torch.dtype) -> list[tuple[str, str]]:
    """Modules and ops in the order of stock CPU autocast, up to where it raises: its lists clash elsewhere."""
    heard = []
    model, batch = build()

    def around(op: Op, run: Run) -> object:
        try:
            return run()
        finally:
            heard.append((op.module, op.name))

    # torch's attention asks for CUDA's autocast alone before it takes a fused path
    unfused = patch.object(torch, "is_autocast_enabled", lambda *_: True)
    with suppress(RuntimeError), visit(model), unfused, torch.autocast("cpu", dtype), ops(model, around):
        call(model, batch)
    return heard


def architectures() -> int:
    """Prints a line a model and returns how many differ."""
    print(f"{'model':20}{'dtype':10}{'ops':>6}{'lower':>7}{'float32':>9}  differing")
    wrong = 0
    for name, build in MODELS.items():
        for dtype in DTYPES:
            ran, should = trace(build, dtype)
            different = [f"{a} but {b[2]}" for a, b in zip(ran, should, strict=True) if a != b]
            if name != "regions":  # it says cuda
                pairs = zip(order(build, dtype), ran, strict=False)
                different += ["another order"] * any(place != row[:2] for place, row in pairs)
            low = str(dtype).removeprefix("torch.")
            counts = [sum(kind in row[2] for row in ran) for kind in (low, "float32")]
            print(f"{name:20}{low:10}{len(ran):6}{counts[0]:7}{counts[1]:9}  {'; '.join(different) or '-'}")
            wrong += bool(different)
    return wrong


# --- 2. torch's own tests --------------------------------------------------------------------------------


def torch_lists(name: str) -> dict[str, list[tuple]]:
    """The ops and arguments that torch tests autocast with: ``AutocastTestLists`` or ``AutocastCPUTestLists``."""
    stand_in = types.ModuleType(
        "torch.testing._internal.common_utils"
    )  # the real one wants packages of a developer
    stand_in.TEST_WITH_ROCM, stand_in.TestCase = False, unittest.TestCase
    real = sys.modules.setdefault(stand_in.__name__, stand_in)
    from torch.testing._internal import autocast_test_lists

    if real is stand_in:
        del sys.modules[stand_in.__name__]
    torch.manual_seed(0)
    lists = vars(getattr(autocast_test_lists, name)(torch.device("cpu")))
    return {key: value for key, value in lists.items() if isinstance(value, list)}


def calls(lists: dict[str, list[tuple]], low: torch.dtype) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Each list, op, and a call of it, with the lower dtype in place of the tests' own."""
    for listed, rows in lists.items():
        for row in rows:
            name, args = row[0], row[1]
            kwargs = next((each for each in row[2:] if isinstance(each, dict)), {})
            places = (torch, torch._C._nn, torch._C._linalg, Tensor)  # noqa: SLF001
            place = next((p for p in places if hasattr(p, name)), None)
            place = place or next(p for p in places if hasattr(p, f"linalg_{name}"))
            if isinstance(args, str):  # einsum's equation
                args = (args, *row[2])

            def of_low(_: str, value: Tensor) -> Tensor:
                return value.to(low) if value.dtype in DTYPES else value

            def perform(
                place: object = place, name: str = name, args: tuple = args, kwargs: dict = kwargs
            ) -> object:
                return getattr(place, name)(*map_tensors(list(args), of_low), **kwargs)

            yield listed, name, perform


def tested_by_torch() -> int:
    """Prints what torch's tests of CUDA expect and get; returns how many differ."""
    wrong, count = 0, 0
    for dtype in DTYPES:
        for listed, name, perform in calls(torch_lists("AutocastTestLists"), dtype):
            kind = listed.split("_")[-1]
            if name.startswith(("cudnn", "__", "einsum")) or kind not in ("fp16", "fp32", "banned"):
                continue
            with rehearse_cuda(dtype):
                try:
                    out = next(iter(tensors(perform()).values())).dtype
                except RuntimeError as error:
                    out = "banned" if "unsafe to autocast" in str(error) else str(error)
            wanted = {"fp16": dtype, "fp32": torch.float32, "banned": "banned"}[kind]
            count += 1
            if out != wanted:
                wrong += 1
                print(f"  {name} in {dtype}: {out}, but {wanted} by torch's tests")
    print(f"torch's own tests of CUDA autocast: {count - wrong} of {count} outputs as expected")
    return wrong


# --- 3. afterwards ---------------------------------------------------------------------------------------


SHAPES = ((4,), (4, 4), (2, 4, 4), (2, 3, 4, 4), (2, 3, 4, 4, 4))


def arguments(name: str, shape: tuple[int, ...]) -> list[object]:
    """Something for each argument that has no default: tensors of one shape, small numbers."""
    packet, _, overload = name.removeprefix("aten::").partition(".")
    given: list[object] = []
    for each in getattr(getattr(torch.ops.aten, packet), overload or "default")._schema.arguments:  # noqa: SLF001
        if each.has_default_value() or each.kwarg_only:
            break
        kind = str(each.type)
        tensor = torch.rand(shape) + torch.eye(4) * 4 if len(shape) > 1 else torch.rand(shape)
        index = torch.zeros(shape, dtype=torch.int64)
        known = {
            "Tensor": index if each.name in ("index", "indices", "target") else tensor,
            "int": 0,
            "float": 0.5,
        }
        known |= {"bool": False, "str": "constant", "List[Tensor]": [tensor, tensor], "number": 2}
        known |= {"List[int]": [1] * max(len(shape) - 2, 1), "List[Optional[Tensor]]": [torch.tensor([1])]}
        given.append(known.get(kind))
    return given


def stock() -> tuple[dict[str, str], dict[str, list[object]]]:
    """How each op of both lists is registered, and what CPU autocast makes of calls: outputs, or the error."""
    names = sorted(set(registrations("AutocastCPU")) | set(registrations("AutocastCUDA")))
    registered = {name: dump(name) for name in names}
    outputs: dict[str, list[object]] = {}
    performed: dict[str, tuple[torch.dtype, Callable[[], object]]] = {}
    for dtype in DTYPES:
        for lists in ("AutocastCPUTestLists", "AutocastTestLists"):
            for index, (_, name, perform) in enumerate(calls(torch_lists(lists), dtype)):
                performed[f"{name} {lists} {index} {dtype}"] = dtype, perform
        for name in names:
            packet, _, overload = name.removeprefix("aten::").partition(".")
            op = getattr(getattr(torch.ops.aten, packet), overload or "default")
            for shape in SHAPES:
                torch.manual_seed(0)
                performed[f"{packet} {overload} {shape} {dtype}"] = (
                    dtype,
                    partial(op, *arguments(name, shape)),
                )
    for key, (dtype, perform) in performed.items():
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype):
            try:
                outputs[key] = [each.clone() for each in tensors(perform()).values()]
            except (RuntimeError, TypeError, IndexError, ValueError) as error:
                outputs[key] = [str(error)]
    return registered, outputs


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
    return one == other


def unchanged() -> int:
    """Prints how many ops and calls are as before; returns how many are not."""
    registered, outputs = stock()
    with rehearse_cuda(torch.float16):
        inside, _ = stock()
    try:
        with rehearse_cuda(torch.bfloat16):
            raise KeyError  # noqa: TRY301
    except KeyError:
        registered_after, outputs_after = stock()
    moved = [name for name in registered if registered[name] != registered_after[name]]
    # lstsq leaves part of the rank unwritten where there are many matrices: it differs from itself
    differing = [
        key
        for key, out in outputs.items()
        if not key.startswith("linalg_lstsq")
        and not all(same(*pair) for pair in zip(out, outputs_after[key], strict=True))
    ]
    ran = {key.split()[0] for key, out in outputs.items() if any(isinstance(each, Tensor) for each in out)}
    changed = sum(registered[name] != inside[name] for name in registered)
    print(
        f"stock CPU autocast afterwards: {len(registered) - len(moved)} of {len(registered)} ops registered as before"
    )
    print(
        f"  ({changed} differ inside), {len(outputs) - len(differing)} of {len(outputs)} calls of {len(ran)} ops the same"
    )
    return len(moved) + len(differing) + (changed == 0)


def cost() -> None:
    """Prints what entering costs, and what the rehearsal adds to a forward."""
    begun = time.perf_counter()
    for _ in range(20):
        with rehearse_cuda(torch.float16):
            pass
    print(f"entering and leaving: {(time.perf_counter() - begun) / 20 * 1e3:.1f} ms")
    model, x = nn.Sequential(*[nn.Linear(8, 8) for _ in range(50)]), torch.randn(2, 8)
    seconds = []
    for around in (lambda: torch.autocast("cpu", torch.bfloat16), lambda: rehearse_cuda(torch.bfloat16)):
        with around(), torch.no_grad():
            model(x)
            begun = time.perf_counter()
            for _ in range(20):
                model(x)
            seconds.append((time.perf_counter() - begun) / 1000)
    print(
        f"a small linear: {seconds[1] / seconds[0]:.1f} times stock autocast ({(seconds[1] - seconds[0]) * 1e6:.0f} µs more)"
    )


def main() -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wrong = architectures() + tested_by_torch() + unchanged()
    cost()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
