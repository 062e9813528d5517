"""Which lines say that something happened: an error, the end, a resume, a step that was skipped."""

from __future__ import annotations

import re

__all__ = ["event_of"]

# the first that fits
_KINDS = {
    "traceback": re.compile(rb"Traceback \(most recent call last"),
    "oom": re.compile(rb"out of memory|OutOfMemoryError|oom-kill|OOM[ -]?[Kk]ill|CUBLAS_STATUS_ALLOC_FAILED"),
    "overflow": re.compile(rb"(?i)gradient overflow|overflow detected|OVERFLOW!|overflow\. skipping|inf/nan in grad"),
    "skipped": re.compile(rb"(?i)\bskip(?:ping|ped) (?:the |this )?(?:step|update|batch|iteration)\b"),
    "completed": re.compile(
        rb"(?i)\btraining (?:is |has |was )?(?:been )?(?:complete|completed|finished|done)\b|\b(?:finished|completed|done|end of) training\b"
        rb"|\bmax_(?:epochs|steps)=\d+`? reached"
    ),
    "early_stop": re.compile(rb"(?i)\bearly[ _-]?stop(?:ping|ped)?\b(?! ?(?:patience|:|=|counter))|\bstopping early\b"),
    "resume": re.compile(rb"(?i)\bresum(?:ed|ing)\b|\brestor(?:ed|ing) (?:from|checkpoint|states)|\bload(?:ed|ing) (?:model )?checkpoint\b(?! shards)"),
    "killed": re.compile(rb"SIGTERM|SIGKILL|CANCELLED AT|DUE TO TIME LIMIT|\bKilled\b|KeyboardInterrupt|Segmentation fault"),
    "error": re.compile(rb"^[\w.\[\] :]{0,40}(?:Error|Exception)\b|\bERROR\b|No space left on device|Disk quota exceeded|NCCL (?:error|WARN)"),
    "saved": re.compile(rb"(?i)\b(?:sav(?:ed|ing)|wrote|written)\b.{0,80}(?:checkpoint|model|weights|state|\.pth?\b|\.ckpt|\.safetensors)"),
    "warning": re.compile(rb"(?i)\bwarn(?:ing)?\b|\w+Warning:"),
}  # fmt: skip
# one of these is in every line that tells an event; to look for them is quicker than the patterns are
_WORDS = (b"traceback", b"memory", b"oom", b"cublas", b"overflow", b"nan in", b"skip", b"training", b"reached", b"early", b"resum", b"restor",
          b"checkpoint", b"sigterm", b"sigkill", b"cancelled", b"time limit", b"killed", b"interrupt", b"segm", b"error", b"exception", b"no space",
          b"quota", b"nccl", b"sav", b"wrote", b"written", b"warn")  # fmt: skip
_QUOTED = re.compile(
    rb"^\s*(?:#|//|\"\"\"|def |if |print|raise |except|return|File \")|logger?\.\w+\(|print\(|\bself\.|^[+]+ |\braise \w"
)


def event_of(line: bytes) -> str | None:
    """The kind of event that a line tells, or None; lines of source code tell none."""
    small = line.lower()
    if not any(word in small for word in _WORDS):
        return None
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.search(line)), None)
    return None if kind is None or _QUOTED.search(line) else kind
