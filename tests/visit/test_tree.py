"""Nested batches and outputs are walked, named and rebuilt."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from trainlab.visit import call, map_tensors, tensors, visit


class Point(NamedTuple):
    x: object
    tau: object


@dataclass(frozen=True)
class Frozen:
    x: object
    tau: object


@dataclass(frozen=True, slots=True)
class Slotted:
    x: object
    note: str = "kept"


X = torch.ones(3, 2)


def test_tensors_are_named_by_their_path():
    a, b, c, d, e = (torch.full((1,), float(i)) for i in range(5))
    tree = ({"hidden": [0, a], "n": 3}, Point(b, None), Frozen(c, "text"), [d, {"k": e}])
    assert tensors(tree) == {"0.hidden[1]": a, "1.x": b, "2.x": c, "3[0]": d, "3[1].k": e}
    assert tensors(a) == {"": a}
    assert tensors("text") == {}


@pytest.mark.parametrize(
    "tree",
    [
        X,
        (X, [X, 3], "text"),
        Point(X, None),
        Frozen(X, [X]),
        Slotted(X),
        OrderedDict(b=X, a={"c": X}),
        UserDict(x=X),
        MappingProxyType({"x": X}),
        torch.max(X, dim=0),
        pack_sequence([X, X[:1]], enforce_sorted=False),
        [],
    ],
    ids=lambda tree: type(tree).__name__,
)
def test_mapping_keeps_structure_and_types_and_leaves_the_tree_alone(tree):
    before = {name: value.clone() for name, value in tensors(tree).items()}
    mapped = map_tensors(tree, lambda _, t: t + 1)
    assert type(mapped) is type(tree)
    assert tensors(mapped).keys() == before.keys()
    for name, value in tensors(mapped).items():
        assert torch.equal(value, before[name] + 1)
        assert torch.equal(tensors(tree)[name], before[name])


def test_mapping_gives_the_paths():
    assert map_tensors({"a": [X]}, lambda path, _: path) == {"a": ["a[0]"]}


def test_hugging_face_outputs_keep_their_attributes():
    outputs = pytest.importorskip("transformers.modeling_outputs", exc_type=ImportError)
    output = outputs.BaseModelOutput(last_hidden_state=X, hidden_states=(X, X))
    assert list(tensors(output)) == ["last_hidden_state", "hidden_states[0]", "hidden_states[1]"]
    mapped = map_tensors(output, lambda _, t: t * 2)
    assert type(mapped) is type(output)
    assert torch.equal(mapped.last_hidden_state, X * 2)
    assert torch.equal(mapped["hidden_states"][1], X * 2)
    assert torch.equal(output.last_hidden_state, X)


def test_a_packed_sequence_keeps_its_lengths_and_can_be_run():
    packed = pack_sequence([torch.randn(3, 2), torch.randn(1, 2)])
    mapped = map_tensors(packed, lambda _, t: t.clone())
    assert list(tensors(packed)) == ["data"]
    assert mapped.batch_sizes is packed.batch_sizes
    model = nn.LSTM(2, 2)
    with visit(model):
        assert torch.equal(call(model, mapped)[0].data, model(packed)[0].data)


def test_what_is_no_tensor_is_shared():
    leaf = object()
    assert map_tensors({"a": [leaf, X]}, lambda _, t: t)["a"][0] is leaf
