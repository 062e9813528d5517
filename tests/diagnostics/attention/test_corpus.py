"""The quick part of the study of captured maps; `python -m benchmarks.attention_maps` is the whole."""

from collections import Counter

import pytest
import torch

from benchmarks.attention_maps.case import Case, Subject
from benchmarks.attention_maps.forms import Stack, form_case, scores, stack_truth
from benchmarks.attention_maps.free import attention_free
from benchmarks.attention_maps.harm import harm, recompiles
from benchmarks.attention_maps.judge import judge
from benchmarks.attention_maps.study import LEAST, all_cases, bars
from benchmarks.attention_maps.truth import alike, closed_form, difference, map_of
from trainlab.diagnostics.attention.call import Call

pytestmark = pytest.mark.filterwarnings("ignore")  # what other people's packages say when they are loaded
CASES = {case.name: case for case in all_cases()}
WHOLE = ("hand-written", "fused", "torch.nn", "no softmax")
FORMS = [case.name for case in CASES.values() if case.kind in WHOLE]
TRANSFORMED = [n for n, case in CASES.items() if case.kind == "transformed" and "cache" not in n]
FAMILIES = (
    "bert",
    "deberta-v2",
    "llama",
    "gemma2",
    "bloom",
    "xlnet",
    "t5",
    "swin",
    "perceiver",
    "wavlm",
    "cache: gpt2",
)
TIMM = (
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "xcit_nano_12_p16_224",
    "cait_xxs24_224",
    "resnet10t",
)
OWN_FREE = [case.name for case in attention_free() if case.expects == "nothing"]
HIDDEN = (
    "talking heads", "in a thread: fused", "user's operator", "TorchScript", "keys in chunks (flash, by hand)",
    "sparse matrix product", "longformer", "nystromformer", "DataParallel",
)  # fmt: skip


@pytest.mark.parametrize("name", [*FORMS, *TRANSFORMED, *FAMILIES, *TIMM, *HIDDEN, *OWN_FREE])
def test_heard_as_expected(name):
    verdict = judge(CASES[name])
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    assert verdict.right, verdict.error or verdict.said
    assert not verdict.silent
    assert bars([verdict], partial=True) == []


HARMED = (
    "matmul operator",
    "exp over sum, in place",
    "sdpa, enable_gqa",
    "mha",
    "encoder",
    "encoder, nested tensors",
    "bert",
    "t5",
)


@pytest.mark.parametrize("name", HARMED)
def test_nothing_is_harmed(name):
    found = harm(CASES[name])
    assert found.none, found


def test_compiled_models_are_not_traced_again():
    assert recompiles() == []


def test_the_study_is_large_enough():
    counts = Counter(case.kind for case in CASES.values())
    assert all(counts[kind] >= least for kind, least in LEAST.items())
    assert len(CASES) == len(all_cases()), "two cases go by one name"


# --- the judge itself


def test_maps_are_read_from_calls_as_their_docstring_says():
    q, k = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 6, 3)
    mask = torch.rand(2, 1, 5, 6) < 0.7
    call = Call(0, "", "", "", q=q, k=k, scale=0.3, mask=mask, causal=True)
    raw = torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(2, 1)) * 0.3
    raw = raw.masked_fill(~(mask & torch.ones(5, 6, dtype=torch.bool).tril()), float("-inf"))
    assert difference(map_of(call), raw.softmax(-1).nan_to_num(0)) < 1e-6
    capped = Call(
        0,
        "",
        "",
        "",
        q=q,
        k=k,
        scale=0.3,
        change=lambda s, entries, rows: s.tanh() + entries.view(-1, 1, 1, 1),
    )
    raw = (torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(2, 1)) * 0.3).tanh()
    assert difference(map_of(capped), raw.softmax(-1)) < 1e-6


def test_a_wrong_map_and_a_missing_one_are_seen():
    maps = [torch.rand(2, 4, 5, 5).softmax(-1) for _ in range(3)]
    assert alike(maps, maps, within=1e-5) == (3, 0)
    assert alike(maps[:2], maps, within=1e-5) == (2, 0)
    assert alike([maps[0], maps[1] + 1e-4, maps[2]], maps, within=1e-5) == (2, 1)
    assert alike(maps[::-1], maps, within=1e-5)[0] == 1, "order counts"
    assert difference(maps[0].mT, maps[0]) > 1e-3
    assert difference(maps[0].transpose(0, 1), maps[0]) > 1e-3


def test_a_form_that_is_not_what_it_says_is_refused():
    case = form_case("twice", lambda q, k, v: (2 * scores(q, k)).softmax(-1) @ v)
    with pytest.raises(AssertionError, match="not close"):
        stack_truth()(subject := case.built(), subject.batches[0])


def test_closed_form_agrees_with_torch():
    q, k, v = torch.randn(3, 2, 4, 5, 6).unbind()
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close((closed_form(q, k, causal=True) @ v.double()).float(), fused)


def test_what_raises_is_a_verdict():
    def raising(*_):
        raise RuntimeError("no")

    case = Case(
        "raises", "hand-written", lambda: Subject(Stack(raising), [torch.randn(2, 5, 32)]), stack_truth()
    )
    assert "no" in judge(case).error
    assert not judge(case).right
