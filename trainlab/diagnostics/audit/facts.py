"""Where what is there and what was meant part: each fact is one place, told once, for rules and hypotheses alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from trainlab.diagnostics.audit.result import BAD, AuditResult

__all__ = [
    "Fact",
    "Short",
    "claims_short",
    "missing_between",
    "other_models",
    "promised",
    "saved_elsewhere",
    "short_of",
    "torn_newest",
    "without_optimizer",
    "wrong_sizes",
]

FINISHED = 0.999


@dataclass(frozen=True)
class Fact:
    """A file or folder, what was found there and what was meant to be."""

    where: str
    seen: float | str
    meant: float | str | None = None
    unit: str = ""


@dataclass(frozen=True)
class Short:
    """A run that is behind: the file that got furthest, how far, how far it should be, and who says so."""

    file: int
    what: str
    seen: int
    meant: int
    line: str = ""
    finished: bool = False


def short_of(r: AuditResult, what: str) -> list[Short]:
    """The runs that did not come as far as expected. Epochs are counted from 0 or 1, so one less is as good."""
    meant = r.expect_epoch if what == "epoch" else r.expect_iter
    found = []
    for files in r.runs().values() if meant > 0 else ():
        far = r.reached(files, what)
        if far is not None and r.counts(what)[far] < meant - 1:
            found.append(Short(far, what, int(r.counts(what)[far]), meant))
    return found


def claims_short(r: AuditResult) -> list[Short]:
    """What logs say was reached and no file shows.

    A log that is still being written is ahead of the last checkpoint by up to the distance between two.
    """
    found = []
    finished = {log for log, kind in zip(r.claim_log, r.claim_kind, strict=True) if kind == "finished"}
    for i, kind in enumerate(r.claim_kind):
        if kind not in ("epoch", "iter"):
            continue
        files = r.spoken_for(r.claim_log[i])
        far = r.reached(files, kind)
        claimed = int(r.claim_value[i])
        if far is None or claimed <= 0:
            continue
        seen = int(r.counts(kind)[far])
        apart = max((r.step(run, kind) for run in r.runs().values() if far in run), default=0)
        done = r.claim_log[i] in finished or claimed >= FINISHED * r.claim_of[i] > 0
        if claimed - seen > max(apart, 1):
            found.append(Short(far, kind, seen, claimed, _line(r, i), finished=done))
    return found


def promised(r: AuditResult) -> list[Fact]:
    """Logs that say the training is complete while no checkpoint that they speak of can be loaded."""
    good = set(r.good())
    return [
        Fact(_line(r, i), "no checkpoint that loads", r.claim_text[i])
        for i, kind in enumerate(r.claim_kind)
        if kind == "finished" and not good & set(r.spoken_for(r.claim_log[i]))
    ]


def saved_elsewhere(r: AuditResult) -> list[Fact]:
    """Checkpoints that a log says were saved last, and that are not here; a name alone is looked for."""
    names = {PurePosixPath(name).name for name in r.file_name}
    return [
        Fact(_line(r, i), "not here", path)
        for i, path in enumerate(r.claim_path)
        if path and PurePosixPath(path.replace("\\", "/")).name not in names
    ]


def other_models(r: AuditResult, what: str) -> list[Fact]:
    """Files whose width or depth is not the expected one; without expectation, not that of most files of the run."""
    meant = r.expect_width if what == "width" else r.expect_depth
    sizes, told = (r.file_width, r.file_width_from) if what == "width" else (r.file_depth, r.file_depth_from)
    found = []
    for files in r.runs().values():
        known = [i for i in files if sizes[i] > 0]
        wanted = meant
        if meant <= 0:
            counts = Counter(int(sizes[i]) for i in known)
            size, count = counts.most_common(1)[0] if counts else (-1, 0)
            wanted = size if len(known) >= 3 and count > len(known) / 2 else -1
        found += [
            Fact(r.file_name[i], int(sizes[i]), wanted, f"({told[i]})")
            for i in known
            if 0 < wanted != sizes[i]
        ]
    return found


def wrong_sizes(r: AuditResult, factor: float) -> list[int]:
    """The last files of runs whose size is not the expected one, by index."""
    if r.expect_size <= 0:
        return []
    found = []
    for files in r.runs().values():
        good = [i for i in files if r.file_state[i] not in BAD]
        last = r.reached(files) if r.reached(files) is not None else r.reached(files, "iter")
        if last is None:
            last = max(good, key=lambda i: r.file_bytes[i], default=None)
        if last is not None and not r.expect_size / factor <= r.file_bytes[last] <= r.expect_size * factor:
            found.append(last)
    return found


def missing_between(r: AuditResult) -> list[tuple[str, str, list[int], int]]:
    """Runs with a gap: the run, what is counted, what is missing and the usual distance.

    Iterations are looked at only where epochs are not saved at equal distances.
    """
    found = []
    for run, files in r.runs().items():
        what = next((each for each in ("epoch", "iter") if r.step(files, each)), "epoch")
        missing = r.gaps(files, what)
        if missing:
            found.append((run, what, missing, r.step(files, what)))
    return found


def torn_newest(r: AuditResult) -> list[tuple[int, int | None]]:
    """Runs whose newest file cannot be loaded, with the last one that can."""
    found = []
    for files in r.runs().values():
        newest = max(files, key=lambda i: (r.file_time[i], r.counts("epoch")[i], r.counts("iter")[i]))
        if r.file_state[newest] in BAD:
            good = [i for i in files if r.file_state[i] not in BAD]
            last = max(
                good, key=lambda i: (r.counts("epoch")[i], r.counts("iter")[i], r.file_time[i]), default=None
            )
            found.append((newest, last))
    return found


def _line(r: AuditResult, claim: int) -> str:
    line = int(r.claim_line[claim])
    return f"{r.claim_log[claim]}:{line}" if line else r.claim_log[claim]


def without_optimizer(r: AuditResult) -> list[tuple[int, int]]:
    """Numbered files without the optimizer that most numbered files of their run have, each with one that has it."""
    found = []
    for files in r.runs().values():
        numbered = [
            i
            for i in files
            if r.file_state[i] not in BAD and max(r.file_named_epoch[i], r.file_named_iter[i]) >= 0
        ]
        having = [i for i in numbered if r.file_optimizer[i]]
        if len(having) > len(numbered) / 2:
            # at step 0 an optimizer has no state yet
            begun = [i for i in numbered if max(r.file_named_epoch[i], r.file_named_iter[i]) > 0]
            found += [(i, having[0]) for i in begun if not r.file_optimizer[i]]
    return found
