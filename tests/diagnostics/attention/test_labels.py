from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from trainlab.diagnostics.attention.labels import clean, labels_of
from trainlab.diagnostics.attention.picture import picture_of
from trainlab.errors import SubjectError, UsageError


class Words:
    """A tokenizer, as far as labels need one."""

    def convert_ids_to_tokens(self, ids):
        return [f"word{i}" for i in ids]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (
            ["Hello", "Ġworld", "ĠcafÃ©", "Ċ", "ĊĊ", "ĉ", "ĠĠ"],
            ["Hello", "␣world", "␣café", "⏎", "⏎⏎", "⇥", "␣␣"],
        ),
        (["Ġ", "âĪ", "ĳ"], ["␣", r"\xe2\x88", r"\x91"]),  # ∑ in two tokens
        (["<|endoftext|>", "Ġthe"], ["<|endoftext|>", "␣the"]),
        (["<｜begin▁of▁sentence｜>", "Ġthe"], ["<｜begin␣of␣sentence｜>", "␣the"]),
        (["<s>", "▁The", "▁", "<0x0A>", "<0xE2>", "é"], ["<s>", "␣The", "␣", "⏎", "<0xE2>", "é"]),
        (["[CLS]", "play", "##ing", "[SEP]"], ["[CLS]", "play", "##ing", "[SEP]"]),
        (["a</w>", "ph", "oto</w>", "</w>"], ["a␣", "ph", "oto␣", "</w>"]),
        ([" the", "New York", "a ", "\n", "  ", ""], ["␣the", "New York", "a␣", "⏎", "␣␣", ""]),
        (["Łódź", "naïve", "日本"], ["Łódź", "naïve", "日本"]),  # letters of their own, not of bytes
        (["\x1b[31m", "\u202e", "\ud800", "<b>&"], [r"\x1b[31m", r"\u202e", r"\ud800", "<b>&"]),
    ],
)
def test_labels_read_as_text_and_stay_as_many(stored, shown):
    assert list(clean(stored)) == shown


def test_every_byte_of_gpt_2_comes_back():
    from tokenizers.pre_tokenizers import ByteLevel

    text = "Größe ∑ 日本 🙂 a\tb" + "".join(map(chr, range(33, 700)))
    (stored, _), *_ = ByteLevel(add_prefix_space=True, use_regex=False).pre_tokenize_str(text)
    (shown,) = clean([stored])
    assert shown == clean([f" {text}"])[0]
    assert shown.startswith("␣Größe ∑ 日本 🙂 a⇥b!")


def test_labels_come_from_a_list_a_tokenizer_or_a_file(tmp_path):
    batch = {"attention_mask": torch.ones(2, 3, dtype=torch.int64), "input_ids": torch.arange(6).view(2, 3)}
    assert labels_of(None, batch) == labels_of("", batch) == ()
    assert labels_of(["a", "Ġb"], batch) == ("a", "␣b")
    assert labels_of([["a", "b"], ["c", "d"]], batch) == ("a", "b")
    assert labels_of(Words(), batch) == ("word0", "word1", "word2")
    assert labels_of(Words(), (torch.tensor([[7, 8]]), torch.ones(1, 2))) == ("word7", "word8")
    (tmp_path / "words.txt").write_text("a\nĠb\n\nc\n", encoding="utf-8")
    assert labels_of(str(tmp_path / "words.txt"), batch) == ("a", "␣b", "", "c")


def test_a_tokenizer_that_lies_beside_the_weights_is_read(tmp_path):
    vocabulary = {"[UNK]": 0, "the": 1, "cat": 2}
    stored = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    batch = {"input_ids": torch.tensor([[1, 2, 9]])}
    assert labels_of(None, batch, tmp_path) == ("the", "cat", "<9>")
    assert labels_of(tmp_path / "tokenizer.json", batch) == ("the", "cat", "<9>")
    assert labels_of(None, {"x": torch.ones(2, 3)}, tmp_path) == ()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert labels_of(None, batch, tmp_path) == ()
    with pytest.raises(SubjectError, match="cannot be read as a tokenizer"):
        labels_of(tmp_path / "tokenizer.json", batch)


def test_wrong_labels_are_refused_in_words():
    with pytest.raises(UsageError, match="labels are a list of strings"):
        labels_of([1, 2], {})
    with pytest.raises(UsageError, match="labels are a list of strings"):
        labels_of(3, {})
    with pytest.raises(SubjectError, match="no file of labels nowhere"):
        labels_of("nowhere.txt", {})
    with pytest.raises(SubjectError, match="the batch has none") as error:
        labels_of(Words(), {"x": torch.ones(2, 3)})
    assert "x float32" in str(error.value)


@pytest.mark.parametrize(
    ("shape", "frames", "height", "width"),
    [
        ((2, 3, 32, 48), 1, 32, 48),
        ((2, 1, 224, 112), 1, 96, 48),
        ((2, 224, 224, 3), 1, 96, 96),
        ((2, 4, 1, 8, 8), 4, 8, 8),
        ((2, 3, 16, 8, 8), 16, 8, 8),
        ((2, 5, 8, 8, 3), 5, 8, 8),
        ((2, 64, 3, 100, 100), 64, 45, 45),
        ((2, 16, 7, 7), 1, 7, 7),
    ],
)
def test_pictures_are_found_in_any_order_of_axes(shape, frames, height, width):
    values = torch.linspace(-1, 1, int(np.prod(shape))).view(shape)
    found = picture_of({"mask": torch.zeros(2, 1, 9, 9), "ids": torch.ones(2, 3), "x": values})
    assert found.dtype == np.uint8
    assert found.shape == (frames, height, width, 3)
    assert (found.min(), found.max()) == (0, 255)


def test_colours_stay_and_other_channels_are_averaged():
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0] = 1.0
    np.testing.assert_array_equal(picture_of(image)[0, 0, 0], [255, 0, 0])
    latent = torch.zeros(1, 4, 1, 2)
    latent[0, 0, 0, 1] = 4.0
    np.testing.assert_array_equal(picture_of((latent,))[0, 0], [[0, 0, 0], [255, 255, 255]])
    assert picture_of(torch.full((1, 3, 2, 2), torch.nan)).max() == 0
    assert picture_of(torch.zeros(2, 5)).size == 0
