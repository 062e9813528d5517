"""What do the tokens of the first batch entry say, in letters that a person can read?"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from trainlab.errors import SubjectError, UsageError
from trainlab.visit import tensors

__all__ = ["Labels", "Tokenizer", "clean", "labels_of"]


class Tokenizer(Protocol):
    """A tokenizer of transformers, or one that answers as it does."""

    def convert_ids_to_tokens(self, ids: list[int]) -> Sequence[str]:
        """The vocabulary's entry for every id."""


Labels = str | os.PathLike[str] | Sequence[str] | Sequence[Sequence[str]] | Tokenizer


def labels_of(labels: Labels | None, batch: object, folder: Path | None = None) -> tuple[str, ...]:
    """A label for each token of the first batch entry, cleaned; empty where none are known.

    Args:
        labels: A list of labels, or one for each batch entry; a tokenizer; a text file of one label a line, or a
            ``tokenizer.json``. None and "" are not given.
        batch: Where a tokenizer finds the ids: its ``input_ids``, or its first integers in rows.
        folder: The checkpoint; a ``tokenizer.json`` that lies in it is read, where `tokenizers` is installed.

    Raises:
        UsageError: The labels are none of these.
        SubjectError: There is no such file, or the batch has no ids.
    """
    if labels is None or (isinstance(labels, str) and not labels):
        beside = folder / "tokenizer.json" if folder else None
        found = _from_json(beside) if beside and beside.is_file() and _ids(batch) else None
        return clean(found(_ids(batch))) if found else ()
    if isinstance(labels, str | os.PathLike):
        return clean(_from_file(Path(labels), batch))
    given: Any = labels
    if hasattr(given, "convert_ids_to_tokens"):
        return clean(given.convert_ids_to_tokens(_required(batch)))
    each: list[Any] = list(given) if isinstance(given, Sequence) else [None]
    if each and isinstance(each[0], Sequence) and not isinstance(each[0], str):
        each = list(each[0])
    if not all(isinstance(label, str) for label in each):
        raise UsageError(
            "labels are a list of strings, a tokenizer, or a file with a label a line",
            seen=type(labels).__name__,
            fix="labels=tokenizer.convert_ids_to_tokens(input_ids[0])",
        )
    return clean(each)


def _ids(batch: object) -> list[int]:
    """The first row of ids in the batch; empty where there is none."""
    rows = {
        path: t
        for path, t in tensors(batch).items()
        if t.ndim in (1, 2) and not t.is_floating_point() and not t.is_complex() and t.numel()
    }
    named = [t for path, t in rows.items() if path.rsplit(".", 1)[-1] == "input_ids"]
    chosen: Tensor | None = next(iter([*named, *rows.values()]), None)
    return [] if chosen is None else [int(i) for i in chosen.reshape(-1, chosen.shape[-1])[0].tolist()]


def _required(batch: object) -> list[int]:
    if ids := _ids(batch):
        return ids
    raise SubjectError(
        "a tokenizer labels token ids, and the batch has none",
        seen=", ".join(f"{path} {str(t.dtype).removeprefix('torch.')}" for path, t in tensors(batch).items()),
        fix="give the labels as a list of strings",
    )


def _from_file(file: Path, batch: object) -> Sequence[str]:
    if not file.is_file():
        raise SubjectError(
            f"there is no file of labels {file}", fix="a text file with a label a line, or a tokenizer.json"
        )
    if file.suffix != ".json":
        return file.read_text(encoding="utf-8").splitlines()
    if found := _from_json(file):
        return found(_required(batch))
    raise SubjectError(
        f"{file} cannot be read as a tokenizer",
        fix="pip install tokenizers, or give a text file with a label a line",
    )


def _from_json(file: Path) -> Callable[[list[int]], Sequence[str]] | None:
    """What a ``tokenizer.json`` says of ids; None where it cannot be read. Plain data: nothing in it is run."""
    try:
        from tokenizers import Tokenizer as Stored  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        stored = Stored.from_file(str(file))
    except Exception:  # noqa: BLE001 - the library raises this very class
        return None
    return lambda ids: [stored.id_to_token(i) or f"<{i}>" for i in ids]


# --- cleaning

_NAMED_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SHOWN = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥", "▁": "␣", "\u00a0": "␣"})


def _alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes (``bytes_to_unicode``, Radford et al. 2019): printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _alphabet()


def clean(labels: Sequence[str]) -> tuple[str, ...]:
    r"""Labels as a person reads them, as many as came in.

    A space in front is ␣, a line end ⏎, a tab ⇥, whichever way the tokenizer writes them: byte-level BPE (``Ġ``,
    ``Ċ``, and every other letter that stands for a byte: ``Ã©`` is é), SentencePiece (``▁``, ``<0x0A>``), ``</w>``.
    Bytes that are no whole letter show as ``\xe2``. WordPiece's ``##`` and special tokens stay.
    """
    in_bytes = any(label.startswith(("Ġ", "Ċ")) for label in labels)
    return tuple(_readable(_decoded(label) if in_bytes else label) for label in labels)


def _decoded(label: str) -> str:
    if not set(label) <= _BYTES.keys():  # a special token that was added to the vocabulary
        return label
    return bytes(_BYTES[letter] for letter in label).decode("utf-8", "backslashreplace")


def _readable(label: str) -> str:
    if named := _NAMED_BYTE.fullmatch(label):
        byte = int(named[1], 16)
        label = chr(byte) if byte < 128 else label
    if label.endswith("</w>") and label != "</w>":
        label = label.removesuffix("</w>") + "␣"
    bare = label.strip(" ")
    before = len(label) - len(label.lstrip(" ")) if bare else len(label)
    after = len(label) - len(label.rstrip(" ")) if bare else 0
    shown = ("␣" * before + bare + "␣" * after).translate(_SHOWN)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
