"""What do the logs claim? Told from the few forms in which training loops write of epochs, steps and their end.

==========  ==========================================================================================
kind        what is read as it
==========  ==========================================================================================
epoch       ``Epoch 400/400``, ``epoch: 37``, ``[Epoch 3 of 10]``, ``"epoch": 3.0``; the highest in the file
iter        ``step 15000/15000``, ``iter=300``, ``global_step: 7``, ``"iteration": 12``; the highest
finished    ``Training completed!``, ``finished training``, Lightning's ```max_epochs=400` reached``; the last
saved       ``Saved checkpoint to runs/a/epoch_400.pt``, ``Saving … .pth``; the last
error       ``Traceback``, ``CUDA out of memory``, ``No space left on device``, ``Killed``, ``SIGTERM``; the last
==========  ==========================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Claim", "claims"]

HEAD, TAIL = 2**18, 2**22  # bytes read of a log's beginning and of its end
_OF = r"""(?:["']?\s*[:=#]?\s*\[?\s*)(?P<at>\d[\d,_]*)(?:\.\d+)?(?:\s*(?:/|of)\s*(?P<of>\d[\d,_]*))?"""
_COUNTS = {
    "epoch": re.compile(rf"\bepochs?{_OF}", re.IGNORECASE),
    "iter": re.compile(rf"\b(?:(?:global_|train_)?step|iter|iteration)s?{_OF}", re.IGNORECASE),
}
_MARKS = {
    "finished": re.compile(
        r"\btraining (?:is |has |was )?(?:been )?(?:complete|completed|finished|done)\b|\b(?:finished|completed) training\b"
        r"|\bmax_(?:epochs|steps)=\d+`? reached",
        re.IGNORECASE,
    ),
    "saved": re.compile(
        r"\b(?:sav(?:ed|ing)|wrote|written)\b[^\n\r]*?(?P<path>[\w./\\=+~-]+\.(?:pt|pth|ckpt|safetensors))\b",
        re.IGNORECASE,
    ),
    "error": re.compile(
        r"Traceback \(most recent|out of memory|No space left on device|Disk quota exceeded|\bKilled\b|SIGTERM|SIGKILL"
        r"|CANCELLED AT|Segmentation fault|DUE TO TIME LIMIT"
    ),
}


@dataclass(frozen=True)
class Claim:
    """One thing that a log says.

    Attributes:
        kind: ``epoch``, ``iter``, ``finished``, ``saved`` or ``error``.
        line: The line's number; 0 where the log is too long to count.
        value: The epoch or iteration; -1 in the other kinds.
        of: How many there were to be; -1 where it is not said.
        path: What was saved; "" in the other kinds.
        text: The line.
    """

    kind: str
    line: int
    value: int
    of: int
    path: str
    text: str


def claims(path: Path) -> list[Claim]:
    """What a log claims, at most one claim of each kind; of a long log, its beginning and its end are read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = file.read(TAIL if size <= TAIL else HEAD)
        whole = size <= len(raw)
        if not whole:
            file.seek(size - TAIL)
            raw += b"\n" + file.read()
    if b"\0" in raw[:4096]:
        return []  # no text
    text = raw.decode("utf-8", "replace")
    found: list[Claim] = []
    for kind, pattern in _COUNTS.items():
        counts = [(_number(each["at"]), _number(each["of"]), each.start()) for each in pattern.finditer(text)]
        # a resumed run counts on, and one that starts again starts low: the highest is what it claims
        counts = [each for each in counts if each[1] < 0 or each[0] <= each[1]]
        if counts:
            at, of, place = max(counts, key=lambda each: (each[0], each[1], each[2]))
            found.append(_claim(kind, text, place, whole=whole, at=at, of=of))
    for kind, pattern in _MARKS.items():
        last = max(pattern.finditer(text), key=re.Match.start, default=None)
        if last is not None:
            saved = last["path"] if kind == "saved" else ""
            found.append(_claim(kind, text, last.start(), whole=whole, path=saved))
    return found


def _claim(
    kind: str, text: str, place: int, *, whole: bool, at: int = -1, of: int = -1, path: str = ""
) -> Claim:
    start = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place)) + 1
    ends = [end for end in (text.find("\n", place), text.find("\r", place)) if end >= 0]
    line = text[start : min(ends, default=len(text))].strip()
    # a progress bar is drawn over itself: all its states are one line
    shown = re.sub(r"\s*\|[\s█▏▎▍▌▋▊▉#=-]*\|.*", "", line)
    return Claim(kind, text.count("\n", 0, place) + 1 if whole else 0, at, of, path, shown[:160])


def _number(text: str | None) -> int:
    return int(re.sub(r"\D", "", text)[:15]) if text else -1
