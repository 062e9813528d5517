"""Matrix products, however they are written: which axis is summed over, and what is query, key and depth."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from trainlab.visit.ops import Op

__all__ = ["PRODUCTS", "Meeting", "letters", "meetings", "operands", "ordered"]

PRODUCTS = frozenset(("matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "linear", "sparse_mm"))
_LEAD = "".join(
    map(chr, range(0x3B1, 0x3CA))
)  # letters for axes that have none, none of which an equation uses


class Meeting(NamedTuple):
    """A product seen from one of its operands, which may be weights that meet values.

    Attributes:
        weights, values: The operands.
        key: The axis of the weights that is summed over.
        query: The axis of the weights that says whose they are.
        weights_order, values_order, out_order: Axes of the two and of the product, brought into the order
            (lead…, query, key), (lead…, key, depth), (lead…, query, depth); None is an axis of size 1 put in.
    """

    weights: Tensor
    values: Tensor
    key: int
    query: int
    weights_order: tuple[int | None, ...]
    values_order: tuple[int | None, ...]
    out_order: tuple[int | None, ...]


def operands(op: Op) -> tuple[Tensor, Tensor] | None:
    """The two tensors that are multiplied; None where there are not two."""
    args = op.args[1] if len(op.args) == 2 and isinstance(op.args[1], list | tuple) else op.args  # einsum
    given = [each for each in (*args, *op.kwargs.values()) if isinstance(each, Tensor)]
    first, *rest = given[1:3] if op.name in ("addmm", "baddbmm") else given[:2]
    if len(rest) != 1 or (op.name == "einsum" and len(given) != 2):
        return None
    return (rest[0], first) if op.name == "rmatmul" else (first, rest[0])


def letters(op: Op, pair: tuple[Tensor, Tensor]) -> tuple[str, str, str] | None:
    """The product as einsum writes it, a letter for each axis: left, right, out; None where that cannot be told."""
    left, right = (_LEAD[-each.dim() :] if each.dim() else "" for each in pair)
    if op.name == "einsum":
        return _of_equation(op.args[0], pair)
    if op.name == "linear":
        return (left[:-1] + "j", "kj", left[:-1] + "k") if right else None
    if len(left) < 2 or len(right) < 2:
        return None
    lead = max(left[:-2], right[:-2], key=len)
    return left[:-2] + "ij", right[:-2] + "jk", lead + "ik"


def _of_equation(equation: object, pair: tuple[Tensor, Tensor]) -> tuple[str, str, str] | None:
    if not isinstance(equation, str) or "->" not in equation:
        return None
    inputs, out = equation.replace(" ", "").split("->")
    named = [term.replace("...", "") for term in (*inputs.split(","), out)]
    if len(named) != 3 or any(len(set(term)) != len(term) for term in named):
        return None
    spare = [each.dim() - len(term) for each, term in zip(pair, named, strict=False)]
    left, right, out = (
        term.replace("...", _LEAD[-count:] if count else "")
        for term, count in zip((*inputs.split(","), out), (*spare, max(spare)), strict=True)
    )
    return left, right, out


def meetings(op: Op, pair: tuple[Tensor, Tensor]) -> list[Meeting]:
    """The product from either side, where it is one of queries × keys with keys × depth."""
    found = letters(op, pair)
    if found is None:
        return []
    left, right, out = found
    sides = _meeting(left, pair[0], right, pair[1], out), _meeting(right, pair[1], left, pair[0], out)
    return [each for each in sides if each is not None]


def _meeting(w: str, weights: Tensor, v: str, values: Tensor, out: str) -> Meeting | None:
    """Summed over are the keys; of the weights alone are the queries, of the values alone is the depth."""
    keys = [each for each in w if each in v and each not in out]
    queries = [each for each in w if each in out and each not in v]
    depths = [each for each in v if each in out and each not in w]
    if len(keys) != 1 or not queries or any(each not in out and each != keys[0] for each in w + v):
        return None
    sizes = dict(zip(w, weights.shape, strict=True))
    # heads that share values are of the weights alone too; queries are more, or stand nearer to the keys
    queries = [each for each in queries if each not in _LEAD] or queries
    query = max(queries, key=lambda each: (sizes[each], -abs(w.index(each) - w.index(keys[0]))))
    depth = depths[-1] if depths else ""
    lead = [each for each in out if each not in (query, depth)]

    def order(term: str, *last: str) -> tuple[int | None, ...]:
        return tuple(term.index(each) if each and each in term else None for each in (*lead, *last))

    places = order(w, query, keys[0]), order(v, keys[0], depth), order(out, query, depth)
    return Meeting(weights, values, w.index(keys[0]), w.index(query), *places)


def ordered(tensor: Tensor, order: tuple[int | None, ...]) -> Tensor:
    """The axes in this order, those that vmap put in front before them; None is an axis of size 1 put in."""
    axes = [axis for axis in order if axis is not None]
    extra = tensor.dim() - len(axes)
    tensor = tensor.permute(*range(extra), *(axis + extra for axis in axes))
    for place, axis in enumerate(order):
        if axis is None:
            tensor = tensor.unsqueeze(extra + place)
    return tensor
