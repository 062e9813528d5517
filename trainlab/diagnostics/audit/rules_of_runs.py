"""Rules of `audit` over runs: how far they came, what is missing, what logs and outputs say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainlab.diagnostics.audit.facts import (
    Fact,
    Short,
    claims_short,
    missing_between,
    other_models,
    promised,
    saved_elsewhere,
    short_of,
    torn_newest,
)
from trainlab.diagnostics.audit.limits import AuditLimits
from trainlab.diagnostics.audit.result import AuditResult
from trainlab.diagnostics.audit.telling import (
    age_text,
    counted,
    look_elsewhere,
    place_text,
    run_text,
    told,
)
from trainlab.finding import Evidence, Outcome, rule
from trainlab.subjects.checkfile.shown import bytes_text

__all__ = [
    "all_is_there",
    "got_far_enough",
    "logs_are_true",
    "newest_is_whole",
    "no_gaps",
    "not_nested",
    "nothing_to_explain",
    "outputs_are_right",
]


@rule("AUD002", "Training got as far as expected")
def got_far_enough(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: the furthest epoch and iteration in the files of each run, against those that are expected.

    Why: a file named ``last`` says nothing of how far the run came; what it was saved at stands inside it.

    Fix: look for the run's other files, on the machine that trained too; else resume from the furthest.
    """
    wanted = [
        (what, meant) for what, meant in (("epoch", r.expect_epoch), ("iter", r.expect_iter)) if meant > 0
    ]
    if not wanted:
        return Outcome.skip("no epoch or iter is expected, e.g. expect epoch=400")
    facts, silent, well = [], [], []
    for what, meant in wanted:
        facts += _behind(r, short_of(r, what))
        reached = [r.reached(files, what) for files in r.runs().values()]
        known = [i for i in reached if i is not None]
        if not known:
            silent.append(what)
        well += [f"{r.file_name[i]} holds {what} {r.counts(what)[i]}" for i in known[:2]]
        if not facts and not silent:
            well.append(f"{len(known)} of {len(reached)} runs say their {what}, expected is {meant}")
    if facts:
        return told(
            Outcome.fail, limits, facts, f"the furthest checkpoint {_of_run(r)}is {facts[0].unit} {facts[0].seen}, not {facts[0].meant}",
            look_elsewhere(r),
        )  # fmt: skip
    if silent:
        text = f"no file that can be loaded says its {' or '.join(silent)}"
        return (
            Outcome.fail(text, fix=look_elsewhere(r))
            if not r.good()
            else Outcome.warn(text, fix=f"save {' and '.join(silent)} beside the weights")
        )
    return Outcome.ok("; ".join(well))


@rule("AUD003", "What the logs claim is on the disk")
def logs_are_true(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: what each log says was reached, saved and completed, against the checkpoints that it speaks of.

    Why: "Epoch 400/400: 100%" tells that a loop came to its end, not that anything was saved, nor that it lies here.

    Fix: look in the working folder of the command that wrote the log, on the machine where it ran.
    """
    if not r.claim_log:
        return Outcome.skip(
            "no log that counts epochs or steps lies beside the checkpoints (*.log, *.out, *log*.txt, *log*.jsonl)"
        )
    short, lost, gone = claims_short(r), promised(r), saved_elsewhere(r)
    facts = [
        Fact(s.line, f"{s.what} {s.seen} in {r.file_name[s.file]}", f"{s.what} {s.meant}") for s in short
    ]
    behind = {s.line.partition(":")[0] for s in short}
    finished = [i for i, kind in enumerate(r.claim_kind) if kind == "finished" and r.claim_log[i] in behind]
    facts += [Fact(f"{r.claim_log[i]}:{r.claim_line[i]}", repr(r.claim_text[i])) for i in finished]
    facts += [Fact(each.where, f"{each.meant}: {each.seen}") for each in (*lost, *gone)]
    logs = len(set(r.claim_log))
    if not facts:
        said = [
            f"{r.claim_text[i]!r} ({r.claim_log[i]})"
            for i, kind in enumerate(r.claim_kind)
            if kind in ("epoch", "iter")
        ]
        return Outcome.ok(
            f"{logs} {'log claims' if logs == 1 else 'logs claim'} no more than the files hold"
            + (f": {said[0]}" if said else "")
        )
    quoted = [
        r.claim_text[i]
        for i, kind in enumerate(r.claim_kind)
        if kind in ("epoch", "finished", "iter") and r.claim_log[i] in behind
    ]
    if short:
        text = f"the log says {' and '.join(repr(each) for each in quoted[:2])}, and the furthest file holds {short[0].what} {short[0].seen}"
    elif lost:
        text = f"the log says {lost[0].meant!r}, and no checkpoint can be loaded"
    else:
        text = f"the log says that {gone[0].meant} was saved, and it is not here"
    serious = lost or any(s.finished or s.seen < s.meant / 2 for s in short)
    return told(Outcome.fail if serious else Outcome.warn, limits, facts, text, look_elsewhere(r))


@rule("AUD006", "Checkpoints come without a gap")
def no_gaps(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: between the first and the last checkpoint of a run, is there one at every expected (or usual) distance?

    Why: a gap is a save that failed, a file that was deleted or one that was not copied.

    Fix: look whether the log says that it was saved, and in the second copy.
    """
    facts = [
        Fact(run_text(run), f"no {what} {_listed(missing)}", f"every {apart}")
        for run, what, missing, apart in missing_between(r)
    ]
    regular = [
        f"{run_text(run)}: every {r.step(files, what)} {'epochs' if what == 'epoch' else 'iterations'}"
        for run, files in r.runs().items()
        for what in [next((each for each in ("epoch", "iter") if r.step(files, each)), "")]
        if what and len(files) > 2
    ]
    if facts:
        expected = r.expect_every_epochs > 0 or r.expect_every_iters > 0
        text = f"{facts[0].where}: {facts[0].seen}, where one is saved {facts[0].meant}"
        return told(
            Outcome.fail if expected else Outcome.warn,
            limits,
            facts,
            text,
            "see in the log whether they were saved; look in the second copy, and for a clean-up job",
        )
    return (
        Outcome.ok("; ".join(regular[:4]))
        if regular
        else Outcome.skip("no run has three checkpoints at equal distances")
    )


@rule("AUD007", "No folder is nested in itself")
def not_nested(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: does a path to a checkpoint go through the same folders twice, ``experiments/x/experiments/x``?

    Why: that happens when a relative path is taken from another working folder than was meant: there are then two
    places, and what reads the one does not see what was written to the other.

    Fix: look in both, move the files to the outer one, and give the run an absolute path.
    """
    facts = [
        Fact(folder, f"{count} {'checkpoint' if count == 1 else 'checkpoints'}")
        for folder, count in zip(r.nested_folder, r.nested_files, strict=True)
    ]
    if facts:
        text = f"the path {facts[0].where} goes through {r.nested_twice[0]} twice: {facts[0].seen} there"
        return told(
            Outcome.warn,
            limits,
            facts,
            text,
            f"look in the outer {r.nested_twice[0]} and in the working folder of the run; give it an absolute path",
        )
    return (
        Outcome.ok(f"{counted(len(r.file_name), 'file')}, no path goes through the same folders twice")
        if r.file_name
        else Outcome.skip("there is no checkpoint here")
    )


@rule("AUD008", "The newest file is whole")
def newest_is_whole(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: of each run, can the file that was written last be loaded?

    Why: it is the one that a resume takes by itself; a process killed while saving leaves it torn.

    Fix: resume from the last whole one; save under another name first and rename, so that a file is whole or not there.
    """
    torn = torn_newest(r)
    if not r.file_name:
        return Outcome.skip("there is no checkpoint here")
    if not torn:
        newest = int(np.argmax(r.file_time))
        return Outcome.ok(
            f"{r.file_name[newest]}, the newest of {counted(len(r.file_name), 'file')}, is whole"
        )
    facts = [
        Fact(
            r.file_name[new], r.file_trouble[new], "whole" if old is None else f"{r.file_name[old]} is whole"
        )
        for new, old in torn
    ]
    new, old = torn[0]
    left = (
        "no other of its run can be loaded"
        if old is None
        else f"{r.file_name[old]} {place_text(r, old)}is the last that can be loaded"
    )
    salvage = (
        f"tl.salvage({r.file_name[new]!r}) takes its whole tensors out"
        if r.file_state[new] != "no checkpoint"
        else r.file_fix[new] or "fetch it again"
    )
    fix = f"{salvage}; to avoid it, save under another name and rename"
    return told(
        Outcome.fail,
        limits,
        facts,
        f"{r.file_name[new]}, the newest, cannot be loaded; {left}",
        fix if old is None else f"resume from {r.file_name[old]}; {fix}",
    )


@rule("AUD009", "Everything expected is there")
def all_is_there(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: the files that ``expect`` names, how many checkpoints there are, and their bytes in all.

    Why: what was not copied is missed months later.

    Fix: copy what is missing from where it was written.
    """
    facts = [
        Fact(name, "missing", "there")
        for name, found in zip(r.wanted_name, r.wanted_found, strict=True)
        if not found
    ]
    here = [i for i, state in enumerate(r.file_state) if state != "no checkpoint"]
    total = int(r.file_bytes[here].sum()) if here else 0
    if 0 < r.expect_count != len(here):
        facts.append(Fact(r.root, f"{len(here)} checkpoints", str(r.expect_count)))
    if (
        r.expect_total > 0
        and not r.expect_total / limits.size_factor <= total <= r.expect_total * limits.size_factor
    ):
        facts.append(Fact(r.root, f"{bytes_text(total)} in all", bytes_text(r.expect_total)))
    if facts:
        text = "; ".join(
            f"{fact.where} is missing" if fact.seen == "missing" else f"{fact.seen}, not {fact.meant}"
            for fact in facts[:3]
        )
        return told(Outcome.fail, limits, facts, text, look_elsewhere(r))
    if r.expect_count <= 0 and r.expect_total <= 0 and not r.wanted_name:
        return Outcome.skip(
            "no files, count or total are expected, e.g. expect files=training.log count=80 total=80GB"
        )
    return Outcome.ok(
        f"{len(here)} checkpoints, {bytes_text(total)} in all, {len(r.wanted_name)} named files found"
    )


@rule("AUD010", "Outputs were made with the right file")
def outputs_are_right(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: where outputs (samples, inference, predictions …) are newer than the newest checkpoint, is that the one meant?

    Why: inference takes what it finds, and does not say that it is epoch 4 of a smaller model.

    Fix: make them again with the right file; print path, epoch and width of what is loaded.
    """
    if not r.output_folder:
        return Outcome.skip(
            "no folder of outputs lies beside the checkpoints (outputs, samples, inference, predictions …)"
        )
    good = r.good()
    # a log's claim alone may be of a run that still trains
    doubts = [
        f"{s.what} {s.seen}, not {s.meant}"
        for s in (*short_of(r, "epoch"), *short_of(r, "iter"), *(s for s in claims_short(r) if s.finished))
    ]
    doubts += [
        f"{what} {each.seen}, not {each.meant}"
        for what in ("width", "depth")
        for each in other_models(r, what)[:1]
    ]
    doubts = list(dict.fromkeys(doubts))
    newest = max((r.file_time[i] for i in good), default=-np.inf)
    made = [i for i, last in enumerate(r.output_last) if last > newest]
    facts = [
        Fact(r.output_folder[i], f"{r.output_files[i]} files, the last {age_text(r, r.output_last[i])} ago")
        for i in made
    ]
    if made and not good:
        return told(
            Outcome.warn,
            limits,
            facts,
            f"{r.output_folder[made[0]]} was made with a checkpoint that is not here",
            "find the file that they were made with",
        )
    if made and doubts:
        i = max(good, key=lambda each: r.file_time[each])
        only = "the only checkpoint" if len(good) == 1 else "the newest checkpoint"
        text = f"{r.output_folder[made[0]]} is newer than {only}, {r.file_name[i]}, which is not the one meant: {'; '.join(doubts[:3])}"
        return told(
            Outcome.fail,
            limits,
            facts,
            text,
            f"do not use {r.output_folder[made[0]]}; make it again with the file that was meant, and print epoch and width of what is loaded",
        )
    return Outcome.ok(
        f"{len(r.output_folder)} folders of outputs, and nothing is wrong with the files that they may be made with"
    )


@rule("AUD012", "Nothing is left to explain")
def nothing_to_explain(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: what may have happened, ranked by how many facts speak for it, less those that speak against it.

    Why: the facts above seldom stand alone; together they say where to look.

    Fix: look where the first hypothesis says; the table of hypotheses has the facts for each.
    """
    if not r.hypothesis_text:
        logs, outputs = counted(len(set(r.claim_log)), "log"), counted(len(r.output_folder), "folder")
        return Outcome.ok(f"{counted(len(r.file_name), 'file')}, {logs} and {outputs} of outputs agree")
    evidence = [
        Evidence(text, int(n), unit="fact" if n == 1 else "facts")
        for text, n in zip(r.hypothesis_text, r.hypothesis_support, strict=True)
    ]
    text = f"the likeliest: {r.hypothesis_text[0]} ({r.hypothesis_evidence[0]})"
    return Outcome.warn(text, *evidence[: limits.evidence_max], fix=r.hypothesis_next[0])


def _listed(places: Sequence[int]) -> str:
    return ", ".join(map(str, places[:8])) + (f", … {len(places)} in all" if len(places) > 8 else "")


def _behind(r: AuditResult, short: Sequence[Short]) -> list[Fact]:
    return [Fact(r.file_name[s.file], s.seen, s.meant, s.what) for s in short]


def _of_run(r: AuditResult) -> str:
    runs = r.runs()
    late = {r.file_run[s.file] for s in (*short_of(r, "epoch"), *short_of(r, "iter"))}
    return "" if len(runs) == 1 else f"of {len(late)} of {len(runs)} runs ({min(late)}) "
