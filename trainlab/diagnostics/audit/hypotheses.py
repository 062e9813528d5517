"""What may have happened? Each hypothesis with the facts that speak for it and against it, ranked by their number.

No probabilities: a fact counts one, whatever it is; facts that a hypothesis excludes count against it. What is left
of a hypothesis with nothing for it is not told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from trainlab.diagnostics.audit.facts import (
    claims_short,
    missing_between,
    other_models,
    promised,
    saved_elsewhere,
    short_of,
    torn_newest,
    wrong_sizes,
)
from trainlab.diagnostics.audit.result import AuditResult
from trainlab.subjects.checkfile.shown import bytes_text

__all__ = ["Hypothesis", "hypotheses"]

LATER = 60.0  # seconds between two files that were not written together
FETCHED = ("git-LFS", "HTML", "XML", "download", "begins with zeros")


@dataclass
class Hypothesis:
    """What may have happened, why one may think so, and where to look next."""

    text: str
    then: str
    evidence: list[str] = field(default_factory=list)
    against: int = 0

    @property
    def support(self) -> int:
        """Facts for it, less those against it."""
        return len(self.evidence) - self.against


def hypotheses(r: AuditResult) -> list[Hypothesis]:
    """Every hypothesis that something speaks for, the best supported first."""
    found = [
        _another_run(r),
        _another_place(r),
        _stopped(r),
        _cut_while_writing(r),
        _not_fetched(r),
        _removed(r),
        _other_log(r),
    ]
    return sorted((each for each in found if each.support > 0), key=lambda each: -each.support)


def _behind(r: AuditResult) -> list[str]:
    facts = [
        f"{r.file_name[s.file]} holds {s.what} {s.seen}, {s.meant} was expected"
        for s in [*short_of(r, "epoch"), *short_of(r, "iter")]
    ]
    return facts + [
        f"{s.line} says {s.what} {s.meant}, the furthest file holds {s.seen}" for s in claims_short(r)
    ]


def _another_run(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "these are another run's checkpoints (a test run or an old one), not those of the run that was meant",
        f"look on the machine that trained, where its log was written, for a folder of the same name as {r.root}",
    )
    models = [(what, fact) for what in ("width", "depth") for fact in other_models(r, what)[:1]]
    it.evidence += [f"{fact.where} has {what} {fact.seen}, not {fact.meant}" for what, fact in models]
    it.evidence += [
        f"{r.file_name[i]} has {bytes_text(r.file_bytes[i])}, not {bytes_text(r.expect_size)}"
        for i in wrong_sizes(r, 1.5)[:1]
    ]
    if it.evidence:
        it.evidence += _behind(r)[:2]
    it.evidence += [
        f"the config in {r.file_name[s.file]} plans {r.file_planned[s.file]} epochs, not {s.meant}"
        for s in [*short_of(r, "epoch"), *claims_short(r)][:1]
        if s.what == "epoch" and 0 < r.file_planned[s.file] < s.meant - 1
    ]
    return it


def _another_place(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "the checkpoints were saved in another place: a relative path was taken from another working folder",
        "look in the working folder of the command that trained, and for the path that the log names",
    )
    it.evidence += [
        f"{folder} has {twice} twice" for folder, twice in zip(r.nested_folder, r.nested_twice, strict=True)
    ][:1]
    it.evidence += [
        f"{fact.where} says {fact.meant} was saved, which is not here" for fact in saved_elsewhere(r)[:1]
    ]
    if it.evidence or promised(r):
        it.evidence += [
            f"{fact.where} says {fact.meant!r}, and there is {fact.seen}" for fact in promised(r)[:1]
        ]
        it.evidence += [
            f"{s.line} says {s.what} {s.meant}, the furthest file holds {s.seen}" for s in claims_short(r)[:1]
        ]
    return it


def _stopped(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "the run stopped before its end",
        "look at the end of its log, and resume from the last whole checkpoint",
    )
    behind = [*short_of(r, "epoch"), *short_of(r, "iter")]
    finished = [i for i, kind in enumerate(r.claim_kind) if kind == "finished"]
    it.evidence += [
        f"{r.claim_log[i]}:{r.claim_line[i]} says {r.claim_text[i]!r}" for i in _ending_errors(r)
    ][:2]
    if behind:
        it.evidence.append(
            f"the furthest file, {r.file_name[behind[0].file]}, holds {behind[0].what} {behind[0].seen} of {behind[0].meant}"
        )
        logs = [s for s in claims_short(r) if s.meant >= behind[0].meant - 1]
        it.against += len(finished) + len(logs)
        if r.claim_log and not finished and not logs:
            it.evidence.append("no log says that it came further")
    return it


def _ending_errors(r: AuditResult) -> list[int]:
    """The errors that a log ends in, by index: what it counts after one, or completes, was not stopped by it."""
    found = []
    for i, kind in enumerate(r.claim_kind):
        same = [j for j, log in enumerate(r.claim_log) if log == r.claim_log[i] and j != i]
        counted = any(r.claim_kind[j] != "error" and r.claim_line[j] > r.claim_line[i] for j in same)
        complete = any(
            r.claim_kind[j] == "finished"
            or (r.claim_kind[j] == "epoch" and r.claim_value[j] == r.claim_of[j])
            for j in same
        )
        if kind == "error" and not counted and not complete:
            found.append(i)
    return found


def _cut_while_writing(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "a file was cut off while it was written: the process was killed, or the disk was full",
        "resume from the last whole checkpoint; take the tensors out of the torn one with tl.salvage; look at df and dmesg",
    )
    it.evidence += [f"{r.file_name[i]}, the newest, {_is(r, i)}" for i, _ in torn_newest(r)][:3]
    words = ("space left", "quota", "Killed", "SIGTERM", "SIGKILL", "CANCELLED", "TIME LIMIT")
    lines = [
        i
        for i, kind in enumerate(r.claim_kind)
        if kind == "error" and any(word in r.claim_text[i] for word in words)
    ]
    it.evidence += [
        f"{r.claim_log[i]}:{r.claim_line[i]} says {r.claim_text[i]!r}" for i in lines if it.evidence
    ][:1]
    return it


def _not_fetched(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "files were not copied or downloaded whole",
        "fetch them again (git lfs pull, rsync --checksum), then audit with verify=true",
    )
    newest = {i for i, _ in torn_newest(r)}
    it.evidence += [
        f"{r.file_name[i]} {_is(r, i)}" for i in r.bad() if any(word in r.file_trouble[i] for word in FETCHED)
    ][:5]
    it.evidence += [
        f"{r.file_name[i]} {_is(r, i)}, and newer files are whole"
        for i in r.bad()
        if i not in newest and r.file_state[i] == "cut"
    ][:5]
    return it


def _removed(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "checkpoints were deleted or overwritten, by a clean-up or by a second run in the same folder",
        "look into the trash, snapshots and the second copy; give each run a folder of its own",
    )
    for run, what, missing, _ in missing_between(r):
        more = ", …" if len(missing) > 4 else ""
        name = "this run" if run == "." else run
        it.evidence.append(f"{name} has no {what} {', '.join(map(str, missing[:4]))}{more}")
    # alone it says nothing: a copy writes epoch_10 before epoch_5
    for files in r.runs().values() if it.evidence or _behind(r) else ():
        epochs = r.counts("epoch")
        known = sorted((i for i in files if epochs[i] >= 0), key=lambda i: r.file_time[i])
        back = [
            (a, b)
            for a, b in pairwise(known)
            if epochs[b] < epochs[a] and r.file_time[b] - r.file_time[a] > LATER
        ]
        # a best one is copied later than it was made
        back = [(a, b) for a, b in back if r.file_named_epoch[b] >= 0]
        it.evidence += [
            f"{r.file_name[b]} (epoch {epochs[b]}) is newer than {r.file_name[a]} (epoch {epochs[a]})"
            for a, b in back[:1]
        ]
    return it


def _other_log(r: AuditResult) -> Hypothesis:
    it = Hypothesis(
        "the log is not the log of these checkpoints",
        "compare its first lines (config, paths, start) with the config in the file",
    )
    for s in claims_short(r):
        log = s.line.partition(":")[0]
        written = next(r.claim_time[i] for i, each in enumerate(r.claim_log) if each == log)
        if r.file_time[s.file] - written > LATER:
            it.evidence.append(f"{log} was last written before {r.file_name[s.file]}")
        if 0 < r.file_planned[s.file] < s.meant - 1:
            it.evidence.append(
                f"{log} counts to {s.meant}, the config in {r.file_name[s.file]} plans {r.file_planned[s.file]}"
            )
    return it


def _is(r: AuditResult, i: int) -> str:
    trouble = r.file_trouble[i]
    return trouble if trouble.startswith(("its ", "begins", "holds", "cut", "record")) else f"is {trouble}"
