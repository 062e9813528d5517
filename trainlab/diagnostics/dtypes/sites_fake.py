"""Run a model without computing: shapes and dtypes are followed, and kernels are asked on tiny tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from trainlab.diagnostics.dtypes.sites_again import ERRORS, LEVELS, again, is_in_place
from trainlab.diagnostics.dtypes.sites_causes import CASTS
from trainlab.diagnostics.dtypes.sites_tensors import floats, held_tensors
from trainlab.visit import map_tensors, tensors
from trainlab.visit.ops import Op, Run

__all__ = ["FakeRun"]

Answer = tuple[torch.dtype | None, Exception | None]
_PASSES: Answer = (None, None)
SMALL = 8
"""The longest axis of a tensor that a kernel is asked on first: most say the same to dtypes whatever the sizes."""
LARGE = 2**20
"""Numbers in a tensor, above which no memory is taken for it."""
_NOTHING = torch.empty(0)
_LOG = logging.getLogger("torch._subclasses.fake_tensor")


class FakeRun:
    """Inside it, what weights and floating inputs go into has shapes and dtypes and no values.

    Masks, positions and constants are computed for real: models look at them, and may keep them for later runs.
    A fake tensor follows rules that are laxer than the kernels: it lets most mixtures of dtypes pass. So wherever
    dtypes other than float32 are in play, `ask` asks the kernel itself, once for each kind of call.

    To be entered within a `visit`.

    Attributes:
        batch: The batch to call the model with.
    """

    def __init__(self, model: nn.Module, batch: object) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.answers: dict[object, Answer] = {}
        self.stack = ExitStack()
        self.random = torch.Generator().manual_seed(0)
        self.batch = map_tensors(batch, lambda _, tensor: self._fake(tensor))
        self._give_weights(model)
        self.weights = {id(each.tensor) for each in held_tensors(model)}
        self.fakes: dict[int, Tensor] = {}
        self.results: dict[object, tuple[Tensor, torch.device]] = {}

    def __enter__(self) -> Self:
        self.stack.enter_context(self.mode)
        self.stack.callback(_LOG.setLevel, _LOG.level)
        _LOG.setLevel(logging.CRITICAL)  # what cannot be run fake is told by what rises
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def _fake(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() and not tensor.is_meta:
            return tensor.clone()
        if tensor.is_meta:  # stands for one on the CPU
            return FakeTensor(self.mode, tensor.detach(), torch.device("cpu"))
        return self.mode.from_tensor(tensor)

    def _give_weights(self, model: nn.Module) -> None:
        """Puts fake tensors in the place of those on the meta device; the visit puts them back."""
        without = [each for each in (*model.parameters(), *model.buffers()) if each.is_meta]
        fakes = {id(each): self._fake(each) for each in without}
        held = [each for module in model.modules() if fakes for each in vars(module).values()]
        for each in held:  # _parameters, _buffers, and lists such as nn.LSTM's _flat_weights
            places = (
                each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
            )
            for place, value in places:
                if id(value) in fakes:
                    each[place] = fakes[id(value)]

    def perform(self, op: Op, run: Run) -> object:
        """Performs a call, fake where a weight or a floating input goes into it.

        A model repeats its layers, and the rules of fake tensors are slow: what a call gave once, it gives again.
        """
        given = tensors((op.args, op.kwargs)).values()
        if not any(isinstance(each, FakeTensor) or id(each) in self.weights for each in given):
            with unset_fake_temporarily():
                return run()
        if op.opaque or op.name.endswith(".apply"):
            return run()
        key = None if is_in_place(op.name) else _kind(op)
        if key in self.results:
            return FakeTensor(self.mode, *self.results[key])
        args, kwargs = map_tensors((tuple(op.args), op.kwargs), self._fake_weight)
        result = run(args, kwargs)
        given = tensors((args, kwargs)).values()
        if key and isinstance(result, FakeTensor) and not any(result is each for each in given):
            with unset_fake_temporarily():
                alike = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device="meta")
            self.results[key] = alike, result.device
        return result

    def _fake_weight(self, _: str, tensor: Tensor) -> Tensor:
        """A weight's stand-in, made once; the weight itself would be looked through at each call."""
        if id(tensor) not in self.weights:
            return tensor
        if id(tensor) not in self.fakes:
            self.fakes[id(tensor)] = self._fake(tensor)
        return self.fakes[id(tensor)]

    def ask(self, op: Op) -> Answer:
        """Whether the kernel takes the dtypes of a call.

        Returns:
            The error that it raises over them, and the level at which the call passes (see `again`); None twice
            where it takes them, or raises for another reason.
        """
        if op.name in CASTS or op.name.endswith(".apply") or not _in_doubt(op):
            return _PASSES
        key = _kind(op)
        if key not in self.answers:
            with unset_fake_temporarily():
                self.answers[key] = self._answer(op)
        return self.answers[key]

    def _answer(self, op: Op) -> Answer:
        error = self._error(op, self._small, op.func) and self._error(op, self._whole, op.func)
        if error is None:
            return _PASSES  # cut to size, arguments may have failed to fit each other
        for real in (self._small, self._whole):
            for level in LEVELS:

                def call_again(*args: Any, level: torch.dtype | None = level, **kwargs: Any) -> object:
                    return again(op.name, args, kwargs, level, lambda args, kwargs: op.func(*args, **kwargs))

                if self._error(op, real, call_again) is None:
                    return level, error
        return _PASSES

    def _error(
        self, op: Op, real: Callable[[Tensor], Tensor], function: Callable[..., object]
    ) -> Exception | None:
        """What a function raises on the arguments of a call, made real."""
        args, kwargs = map_tensors((tuple(op.args), op.kwargs), lambda _, tensor: real(tensor))
        try:
            function(*args, **kwargs)
        except ERRORS as error:
            return error.with_traceback(None)
        return None

    def _small(self, tensor: Tensor) -> Tensor:
        return self._laid_out(tensor, [min(size, SMALL) for size in tensor.shape])

    def _whole(self, tensor: Tensor) -> Tensor:
        if (
            tensor.numel() > LARGE
        ):  # takes no memory; what is this large is a weight, and those are contiguous
            return torch.ones((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
        return self._laid_out(tensor, tensor.shape)

    def _laid_out(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Random numbers (zeros for integers) whose axes lie in memory in the order of the tensor's own.

        Kernels take other paths, which check other things, for tensors that are not contiguous.
        """
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
        sizes = [shape[axis] for axis in order]
        if tensor.is_floating_point():
            flat = torch.rand(sizes, generator=self.random).to(tensor.device, tensor.dtype)
        else:
            flat = torch.zeros(sizes, dtype=tensor.dtype, device=tensor.device)
        return flat.permute([order.index(axis) for axis in range(tensor.dim())])


def _in_doubt(op: Op) -> bool:
    """Whether dtypes could matter: one is not float32, or a number could be too large for float32."""
    dtypes = {each.dtype for each in floats((op.args, op.kwargs))}
    numbers = [each for each in (*op.args, *op.kwargs.values()) if type(each) is float]
    return bool(dtypes - {torch.float32}) or (bool(dtypes) and any(abs(each) > 1e38 for each in numbers))


def _kind(op: Op) -> object:
    """What two calls share that get the same answer: function, dtypes, shapes, layout, everything else in full."""
    given = tensors((op.args, op.kwargs))
    rest = map_tensors((tuple(op.args), op.kwargs), lambda *_: _NOTHING)
    autocast = torch.is_autocast_enabled(), torch.is_autocast_enabled("cpu")
    return (
        op.func,
        autocast,
        repr(([(each.dtype, each.shape, each.stride()) for each in given.values()], rest)),
    )
