"""Any batch can be handed over, and every module is heard."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from trainlab.errors import SubjectError
from trainlab.visit import call, device_of, tensors, visit, watch

# --- call


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(2, 2)

    def forward(self, x, tau, *, scale=1.0):
        return self.lin(x) * tau * scale


class Anything(nn.Module):
    def forward(self, *args, **kwargs):
        return args, kwargs


class Whole(nn.Module):
    def forward(self, batch):
        return batch


class Point(NamedTuple):
    x: object
    tau: object


@dataclass(frozen=True)
class Frozen:
    x: object
    tau: object


X, TAU = torch.ones(3, 2), torch.tensor(2.0)
AS_TWO = [(X, TAU), [X, TAU], Point(X, TAU), {"tau": TAU, "x": X}, UserDict(x=X, tau=TAU), Frozen(X, TAU)]


@pytest.mark.parametrize("batch", AS_TWO, ids=lambda b: type(b).__name__)
def test_a_batch_says_by_its_type_how_it_is_handed_over(batch):
    model = TwoInputs()
    assert torch.equal(call(model, batch), model(X, TAU))


@pytest.mark.parametrize("batch", [X, Frozen(X, TAU), ([X, TAU],), ({"x": X},), pack_sequence([X, X[:1]])])
def test_a_batch_is_handed_over_whole_where_forward_wants_it_so(batch):
    got = call(Whole(), batch)
    assert type(got) is type(batch[0] if type(batch) is tuple else batch)
    assert [t.tolist() for t in tensors(got).values()] == [t.tolist() for t in tensors(batch).values()]


def test_open_keywords_take_mappings_and_dataclasses():
    assert call(Anything(), {"a": 1, "b": {"c": [X]}})[1].keys() == {"a", "b"}
    assert call(Anything(), Frozen(1, 2)) == ((), {"x": 1, "tau": 2})


def test_a_batch_encoding_is_taken(bert):
    transformers = pytest.importorskip("transformers")
    model, batch = bert
    encoding = transformers.BatchEncoding({**batch, "attention_mask": torch.ones(2, 6)})
    with visit(model):
        assert call(model, encoding).last_hidden_state.shape == (2, 6, 16)


NO_FIT = "  try:  a dict whose keys are forward's parameters, or a tuple of them in order"
REFUSED = {
    "mistyped": (
        {"x": X, "tua": TAU},
        "the batch has 'tua', which TwoInputs.forward does not take",
        "  seen: the batch holds: x, tua; forward takes: x, tau, scale",
        "  try:  did you mean 'tau'?",
    ),
    "unknown": (
        {"x": X, "tau": TAU, "target": X},
        "the batch has 'target', which TwoInputs.forward does not take",
        "  seen: the batch holds: x, tau, target; forward takes: x, tau, scale",
        "  try:  leave 'target' out of the batch, or hand it over whole, in a tuple: (batch,)",
    ),
    "missing": (
        {"x": X},
        "the batch does not fit TwoInputs.forward: missing a required argument: 'tau'",
        "  seen: the batch holds: x; forward takes: x, tau, scale",
        NO_FIT,
    ),
    "too many": (
        (X, TAU, X),
        "the batch does not fit TwoInputs.forward: too many positional arguments",
        "  seen: the batch holds: 3 in a row; forward takes: x, tau, scale",
        NO_FIT,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_batch_that_does_not_fit_is_refused_before_it_runs(case):
    model, heard = TwoInputs(), []
    batch, *message = REFUSED[case]
    with pytest.raises(SubjectError) as caught, watch(model, lambda *a: heard.append(a)):
        call(model, batch)
    assert str(caught.value) == "\n".join(message)
    assert not heard


def test_what_forward_raises_rises_unchanged():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call(TwoInputs(), (torch.ones(3, 5), TAU))


def test_tensors_are_moved_to_the_models_device_and_the_batch_is_left_alone():
    model = nn.Module()
    model.weight = nn.Parameter(torch.empty(2, device="meta"))
    model.forward = lambda batch: batch
    batch = {"deep": [torch.empty(2, device="meta"), 3]}
    got = call(model, (batch,))
    assert got is not batch
    assert got["deep"] is not batch["deep"]
    assert got["deep"][0].is_meta
    with pytest.raises(
        SubjectError,
        match=r"has no weights: its parameters are on the meta device\n  seen: a batch with values in '0\.deep\[0\]'",
    ):
        call(model, ({"deep": [torch.ones(2)]},))


def test_device_is_that_of_the_first_real_weights():
    offloaded = nn.Sequential(nn.Linear(1, 1, device="meta"), nn.Linear(1, 1))
    assert device_of(offloaded) == torch.device("cpu")
    assert device_of(offloaded[0]) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")


# --- watch


def test_every_call_is_heard_in_order_with_its_keywords(portrait):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = TwoInputs()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.two(self.act(x), tau=3))

    model, x, heard = Twice(), torch.randn(1, 2), []
    model.act.register_forward_hook(lambda *_: None)
    before = portrait(model)
    with watch(model, lambda *args: heard.append(args)):
        output = model(x)
    assert portrait(model) == before
    assert [h[0] for h in heard] == ["act", "two.lin", "two", "act", ""]
    assert heard[0][1] is model.act
    assert heard[0][2][0] is x
    assert heard[2][2][1] == {"tau": 3}
    assert heard[-1][3] is output
    model(x)
    assert len(heard) == 5


def test_hooks_are_gone_when_the_listener_raises(portrait):
    model = nn.Sequential(nn.ReLU())
    before = portrait(model)

    def deaf(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), watch(model, deaf):
        model(torch.ones(1))
    assert portrait(model) == before


def test_a_watched_output_is_the_unwatched_one(bert):
    model, batch = bert
    with visit(model, seed=0):
        plain = call(model, batch).last_hidden_state
        with watch(model, lambda *_: None):
            watched = call(model, batch).last_hidden_state
    assert torch.equal(plain, watched)
