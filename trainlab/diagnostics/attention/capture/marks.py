"""What is known of the tensors of a model while it runs, carried from op to op."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trainlab.diagnostics.attention.capture.tags import Tags, moves, same_view
from trainlab.visit.ops import Op

__all__ = ["Mark", "Marks", "Softmax", "explain", "key_axes", "version"]

_KINDS = (
    "composed",
    "scores",
    "exp",
    "features",
    "spread",
)  # of two, the one that is likelier to become weights
_JOINS = frozenset(("cat", "concat", "pad", "stack"))
_DROPOUT = frozenset(("alpha_dropout", "dropout", "dropout_", "feature_dropout", "native_dropout"))
_INVERSES = ("cholesky", "inv", "linalg", "matrix_exp", "solve")
_RANDOM = ("bernoulli", "exponential", "multinomial", "normal", "poisson", "rand", "uniform")


@dataclass(slots=True)
class Softmax:
    """One softmax: where it ran and what became of it.

    Attributes:
        module: Qualified name of the module.
        shape: Of its output.
        keys: How many of its numbers sum to 1.
        why: Why it is no attention, as far as is known.
        scored: What it was given is a product of two activations.
        weighs: It is none by ``why``, and still met something as the weights of several queries would.
        attends: It is attention for certain, recorded or not.
        met: The weights that were confirmed, by address and shape, and the memory that they were in.
    """

    module: str
    shape: torch.Size
    keys: int
    why: str = ""
    scored: bool = False
    weighs: bool = False
    attends: bool = False
    met: dict[object, Callable[[], object]] = field(default_factory=dict)


@dataclass(slots=True)
class Mark:
    """What is known of a tensor.

    Attributes:
        kind: ``weights``, from a softmax; ``scores``, from a product of two activations; ``composed``, from a product
            with scores or weights; ``exp``, from an exponential; ``features``, straight from a linear layer;
            ``spread``, weights times values that are still to be summed over the keys.
        learned: Of scores: both activations come from layers.
        softmaxes: Of weights; several where they were added up.
        keys: Of weights, a tensor on meta of the same shape, whose strides are 0 but for the axis of keys.
        clean: Of weights, the same before dropout; None where there was none.
        scores: Of weights as the softmax made them, what it was given, and which version of it.
        pair: Of what is spread, the weights and the values.
    """

    kind: str
    learned: bool = False
    softmaxes: tuple[Softmax, ...] = ()
    keys: Tensor | None = None
    clean: Tensor | None = None
    scores: tuple[weakref.ref[Tensor], int] | None = None
    pair: tuple[Tensor, Tensor] | None = None


def explain(mark: Mark, why: str) -> None:
    """Says why weights are none, unless that is known."""
    for softmax in mark.softmaxes:
        softmax.why = softmax.why or why


def key_axes(keys: Tensor) -> list[int]:
    """Along which axes a mark's ``keys`` run."""
    return [axis for axis in range(keys.dim()) if keys.stride(axis) and keys.shape[axis] > 1]


def _along(shape: torch.Size, axis: int) -> Tensor:
    keys = torch.empty(shape[axis] if shape else 1, device="meta")
    return keys.view([-1 if each == axis else 1 for each in range(len(shape))] or -1).expand(shape or 1)


def version(tensor: Tensor) -> int:
    """How often it has been written to, as far as torch counts."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - no public name


class Marks(Tags[Mark]):
    """Remembers what is known of each tensor, and which follow from weights of the model alone.

    Args:
        model: Its parameters, buffers and other tensors are constants.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._modules = dict(model.named_modules())
        self._constants: Tags[bool] = Tags()
        own = (value for module in model.modules() for value in vars(module).values())
        for value in (*model.parameters(), *model.buffers(), *own):
            if isinstance(value, Tensor):
                self._constants.put(value, True)

    def constant(self, tensor: Tensor) -> bool:
        """Whether it is a weight of the model, or follows from weights alone."""
        return self._constants.get(tensor) is not None

    def weighs(self, tensor: Tensor) -> bool:
        """Whether it is weights or scores: no values."""
        mark = self.get(tensor)
        return mark is not None and mark.kind in ("weights", "scores", "composed")

    def clear(self) -> None:
        """Forgets everything."""
        super().clear()
        self._constants.clear()

    def find_swapped(self, op: Op, inputs: Sequence[Tensor]) -> None:
        """Takes for a constant what stands where the module keeps its weights, as in ``functional_call``."""
        held = getattr(self._modules.get(op.module), "_parameters", {}).values()
        for each in inputs:
            if any(each is value for value in held):
                self._constants.put(each, True)

    def keep_constants(self, op: Op, inputs: Sequence[Tensor], made: object) -> None:
        """Takes note where an op makes a constant, or writes into one."""
        if not all(map(self.constant, inputs)):
            for each in inputs:
                if each is made:
                    self._constants.drop(each)
        # learned queries, once projected, are no table any more; random numbers never were one
        elif op.name != "linear" and not any(word in op.name for word in _RANDOM):
            for each in made if isinstance(made, tuple | list) else (made,):
                if isinstance(each, Tensor):
                    self._constants.put(each, True)

    def softmax(self, op: Op, made: Tensor) -> Softmax:
        """Marks what a softmax makes."""
        given = op.args[0] if op.args else op.kwargs["input"]
        place = 2 if op.name == "masked_softmax" else 1
        dim = op.kwargs.get("dim", op.args[place] if len(op.args) > place else None)
        dim = (-1 if dim is None else int(dim)) % max(made.dim(), 1)
        mark = self.get(given)
        softmax = Softmax(op.module, made.shape, made.shape[dim] if made.dim() else 1)
        softmax.scored = mark is not None and mark.kind == "scores"
        if mark is not None and mark.kind == "features":
            softmax.why = (
                "its scores come straight from a linear layer, as a classifier's, a gate's or a router's do"
            )
        elif self.constant(given):
            softmax.why = "its scores follow from parameters alone"
        scores = None if given is made else (weakref.ref(given), version(given))
        self.put(made, Mark("weights", softmaxes=(softmax,), keys=_along(made.shape, dim), scores=scores))
        return softmax

    def layer(self, op: Op, pair: tuple[Tensor, Tensor], made: Tensor) -> None:
        """Marks what a linear layer makes: features, or heads that are mixed before or after the softmax."""
        given, weight = pair if self.constant(pair[1]) else pair[::-1]
        mark = self.get(given)
        mixes = made.shape == given.shape and any(weight.numel() == size**2 for size in given.shape)
        if mark is not None and mark.kind == "weights":
            if mixes and mark.softmaxes[0].keys ** 2 != weight.numel():
                self._carry_weights(op, made, given, mark)
            else:
                explain(mark, "it met a table, not values computed from the input")
        elif mark is not None and mark.kind in ("scores", "exp") and mixes:
            self.put(made, mark)
        elif given is pair[0] and not self.constant(given) and made.shape[1 if "conv" in op.name else -1] > 1:
            self.put(made, Mark("features"))

    def carry(self, op: Op, inputs: Sequence[Tensor], made: object) -> None:
        """Takes marks through views, casts, dropout and whatever works value by value."""
        marked = [(each, mark) for each in inputs if (mark := self.get(each)) is not None]
        weights = [pair for pair in marked if pair[1].kind == "weights"]
        if (
            isinstance(made, Tensor)
            and self.get(made) is not None
            and not any(made is each for each in inputs)
        ):
            return  # an autograd function, in whose forward it was heard
        if weights:
            source, mark = weights[0]
            together = tuple(each for _, other in weights for each in other.softmaxes)
            if op.name in ("cat", "concat") and len(weights) == len(inputs):
                self._join(made, source, replace(mark, softmaxes=together))
            elif not self._spread(inputs, made):
                self._carry_weights(op, made, source, replace(mark, softmaxes=together))
        elif marked and not any(word in op.name for word in _INVERSES):
            mark = min((mark for _, mark in marked), key=lambda each: _KINDS.index(each.kind))
            same = moves(op) or op.name in _JOINS
            for each in made if isinstance(made, tuple | list) and same else (made,):
                if isinstance(each, Tensor) and (same or each.numel() == marked[0][0].numel()):
                    self.put(each, mark)
        elif op.name in ("exp", "exp2") and isinstance(made, Tensor):
            self.put(made, Mark("exp"))

    def _carry_weights(self, op: Op, made: object, source: Tensor, mark: Mark) -> None:
        keys, clean = mark.keys, mark.clean
        assert keys is not None
        if moves(op) and source is op.args[0]:
            moved = None if clean is None else same_view(op, clean)
            self._put_views(made, same_view(op, keys), moved, replace(mark, scores=None))
            return
        made = made[0] if op.name == "native_dropout" and isinstance(made, tuple) else made
        if not isinstance(made, Tensor) or made.shape != source.shape:
            return
        if op.name in _DROPOUT:
            clean = source if clean is None and made is not source else clean
        elif "out" in op.kwargs or source is not op.args[0]:
            clean = None
        elif clean is not None:
            again = op.func(clean.clone() if made is source else clean, *op.args[1:], **op.kwargs)
            clean = again if isinstance(again, Tensor) else None
        self.put(made, replace(mark, clean=clean))

    def _join(self, made: object, source: Tensor, mark: Mark) -> None:
        """Weights of several softmaxes side by side, not key by key."""
        assert mark.keys is not None
        axes = key_axes(mark.keys)
        if isinstance(made, Tensor) and len(axes) == 1 and made.shape[axes[0]] == source.shape[axes[0]]:
            self.put(made, replace(mark, keys=_along(made.shape, axes[0]), clean=None, scores=None))

    def _put_views(self, made: object, keys: object, clean: object, mark: Mark) -> None:
        if isinstance(made, Tensor) and isinstance(keys, Tensor):
            if made.shape == keys.shape:
                self.put(made, replace(mark, keys=keys, clean=clean if isinstance(clean, Tensor) else None))
        elif isinstance(made, tuple | list) and isinstance(keys, tuple | list):
            for i, each in enumerate(made):
                self._put_views(each, keys[i], clean[i] if isinstance(clean, tuple | list) else None, mark)

    def _spread(self, inputs: Sequence[Tensor], made: object) -> bool:
        """Weights times values element by element, (…, query, key, 1) and (…, 1, key, depth), still to be summed."""
        if (
            not isinstance(made, Tensor)
            or len(inputs) != 2
            or {each.dim() for each in inputs} != {made.dim()}
        ):
            return False
        for weights, values in (inputs, inputs[::-1]) if made.dim() > 2 else ():
            mark, last = self.get(weights), made.shape[-3:]
            if mark is None or mark.kind != "weights" or mark.keys is None or last[0] == 1:
                continue
            if (weights.shape[-3:], values.shape[-3:]) == ((*last[:2], 1), (1, *last[1:])):
                pair = weights.squeeze(-1), values.squeeze(-3)
                clean = None if mark.clean is None else mark.clean.squeeze(-1)
                self.put(pair[0], replace(mark, keys=mark.keys.squeeze(-1), clean=clean))
                self.put(made, Mark("spread", pair=pair))
                return True
        return False
