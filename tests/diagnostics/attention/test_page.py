"""The page of `attention`, by our runner, on a Hugging Face folder."""

from __future__ import annotations

import re

import pytest
import torch

from trainlab.errors import NotApplicable
from trainlab.report import report

TEXT = "who attends to whom"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A report on a model of 4 layers and 12 heads that reads 512 tokens, with its tokenizer beside it."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("gpt")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([TEXT], tokenizers.trainers.BpeTrainer(vocab_size=60, show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"n_embd": 96, "n_layer": 4, "n_head": 12, "n_positions": 512, "vocab_size": 60}
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(folder)
    ids = tokenizer.encode(" ".join([TEXT] * 200)).ids[:512]
    torch.save({"input_ids": torch.tensor([ids])}, folder / "batch.pt")
    given = {"ckpt": folder, "batch": str(folder / "batch.pt")}
    return report("attention", given, out=folder / "out.ipynb", html=True, progress=False)


def test_a_folder_of_weights_and_tokenizer_is_all_that_it_needs(done):
    (examination,) = done.examinations
    r = examination.result
    assert r.coverage() == "4 attention kernels heard, 4 recorded"
    assert len(r.token) == 512
    assert "".join(r.token).replace("␣", " ").startswith(TEXT)


def test_it_is_small_and_whole(done):
    assert done.path.stat().st_size < 3e6
    page = done.path.with_suffix(".html").read_text()
    assert len(page) < 3e6
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert page.count('src="data:image/png;base64,') == 10


def test_what_it_stores_is_slim(done):
    r = done.examinations[0].result
    assert not r.call_kept.any()
    assert r.kept_q.size == 0
    assert r.thumbnails(3).shape == (12, 32, 32)
    assert len(r.received(3)) == 12
    large = type(r).slim(r)
    assert large == r


def test_a_large_array_is_left_out_and_said_so(done, monkeypatch):
    monkeypatch.setattr("trainlab.diagnostics.attention.result.PAGE", 1000)
    slim = done.examinations[0].result.slim()
    assert slim.thumbnail.size == 0
    with pytest.raises(NotApplicable, match="too large for the page"):
        slim.thumbnails(0)
