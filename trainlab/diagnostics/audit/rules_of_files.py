"""Rules of `audit` over single files: whole, the right model, the right size, rightly named."""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.audit.facts import Fact, other_models, without_optimizer, wrong_sizes
from trainlab.diagnostics.audit.limits import AuditLimits
from trainlab.diagnostics.audit.result import BAD, AuditResult
from trainlab.diagnostics.audit.telling import counted, look_elsewhere, told
from trainlab.finding import Outcome, rule
from trainlab.subjects.checkfile.shown import bytes_text, count_text

__all__ = ["files_are_whole", "model_is_the_one", "names_are_true", "sizes_fit"]


@rule("AUD001", "Every file is a whole checkpoint")
def files_are_whole(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: each file is opened: is it a checkpoint, with its end and all of its records?

    With ``verify``, its bytes are compared with the checksums that were stored with them.

    Why: a torn file, an error page or a git-LFS pointer under the name of a checkpoint is found out when it is needed.

    Fix: copy it again from where it was written, or take the one before; `trainlab salvage` gets whole tensors out.
    """
    bad = r.bad()
    if not r.file_name:
        return Outcome.skip("there is no checkpoint here")
    checked = sum(crc == "good" for crc in r.file_crc)
    crc = (
        f", {checked} with good checksums"
        if any(r.file_crc)
        else ", checksums not compared (verify=true does)"
    )
    if not bad:
        return Outcome.ok(
            f"{counted(len(r.file_name), 'file')} can be opened and {'is' if len(r.file_name) == 1 else 'are'} whole{crc}"
        )
    fixes = list(dict.fromkeys(r.file_fix[i] for i in bad if r.file_fix[i]))
    torn = [r.file_name[i] for i in bad if r.file_state[i] in ("cut", "damaged")]
    if torn and not any("salvage" in fix for fix in fixes):
        fixes.append(f"copy it again, or tl.salvage({torn[0]!r}) for the tensors that are whole")
    facts = [Fact(r.file_name[i], r.file_trouble[i]) for i in bad]
    return told(
        Outcome.fail,
        limits,
        facts,
        f"{len(bad)} of {counted(len(r.file_name), 'file')} cannot be loaded whole",
        "; ".join(fixes[:4]),
    )


@rule("AUD004", "Width and depth are as meant")
def model_is_the_one(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: the width and depth of each file's model, against what is expected and against its own config.

    Both are told by the config and the shapes; without expectation, the files of one run are compared.

    Why: a small model under the name of the big one loads, runs and answers: only its answers are worse.

    Fix: find the file of the model that was meant; check the config that the run was started with.
    """
    facts = [
        Fact(each.where, f"{what} {each.seen} {each.unit}", each.meant)
        for what in ("width", "depth")
        for each in other_models(r, what)
    ]
    facts += [Fact(r.file_name[i], text) for i, text in enumerate(r.file_config) if text]
    known = [
        (what, values[values > 0]) for what, values in (("width", r.file_width), ("depth", r.file_depth))
    ]
    silent = [
        what
        for (what, values), meant in zip(known, (r.expect_width, r.expect_depth), strict=True)
        if meant > 0 and not len(values)
    ]
    if facts:
        which = list(dict.fromkeys(fact.where for fact in facts))
        first = facts[0]
        what = f"{first.seen}, not {first.meant}" if first.meant is not None else str(first.seen)
        text = f"{which[0]} holds another model: {what}" + (
            f"; {len(which) - 1} more" if len(which) > 1 else ""
        )
        return told(
            Outcome.fail,
            limits,
            facts,
            text,
            look_elsewhere(r, "and check the config that the run was started with"),
        )
    if silent:
        return Outcome.warn(
            f"no file tells its {' or '.join(silent)}", fix="store the config in the checkpoint"
        )
    said = [f"{what} {', '.join(map(str, np.unique(values)[:4]))}" for what, values in known if len(values)]
    return (
        Outcome.ok(f"{' and '.join(said)} in {counted(len(r.good()), 'file')}")
        if said
        else Outcome.skip("no file tells its width or depth")
    )


@rule("AUD005", "Sizes are what the parameters imply")
def sizes_fit(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: bytes on disk against those that the tensors need, and against the expected size.

    Also each file against its siblings: does one lack the optimizer that the others have?

    Why: a file much smaller than meant holds less, a smaller model or no optimizer; one much bigger than its tensors
    holds what they were cut from: torch saves the whole storage of a slice.

    Fix: compare parameters and optimizer with the run that was meant; ``.clone()`` slices before saving.
    """
    good = [i for i in r.good() if r.file_implied_bytes[i] >= 0]
    if not good:
        return Outcome.skip("no file tells what its tensors need")
    facts = [
        Fact(r.file_name[i], bytes_text(r.file_bytes[i]), bytes_text(r.expect_size))
        for i in wrong_sizes(r, limits.size_factor)
    ]
    wasteful = [
        i for i in good
        if r.file_bytes[i] > limits.waste_factor * r.file_implied_bytes[i]
        and r.file_bytes[i] - r.file_implied_bytes[i] > limits.waste_bytes
    ]  # fmt: skip
    short = [i for i in good if r.file_bytes[i] < 0.98 * r.file_implied_bytes[i]]
    bare = without_optimizer(r)
    others = [
        Fact(
            r.file_name[i],
            bytes_text(r.file_bytes[i]),
            f"{bytes_text(r.file_implied_bytes[i])} for its tensors",
        )
        for i in (*short, *wasteful)
    ]
    others += [Fact(r.file_name[i], "no optimizer", r.file_optimizer[other]) for i, other in bare]
    if facts:
        i = wrong_sizes(r, limits.size_factor)[0]
        text = f"{r.file_name[i]} has {bytes_text(r.file_bytes[i])} where {bytes_text(r.expect_size)} is expected: {_makeup(r, i)}"
        return told(Outcome.fail, limits, facts + others, text, _why_small(r, i))
    if others:
        fix = (
            "copy it again"
            if short
            else "clone() tensors that are slices before saving"
            if wasteful
            else "save the optimizer too, or resume from another file"
        )
        text = (
            f"{others[0].where}: {others[0].seen}, not {others[0].meant}"
            if not wasteful or short
            else f"{others[0].where} has {others[0].seen}, and needs {others[0].meant}"
        )
        return told(Outcome.fail if short else Outcome.warn, limits, others, text, fix)
    i = max(good, key=lambda each: r.file_bytes[each])
    return Outcome.ok(f"the largest, {r.file_name[i]}, has {bytes_text(r.file_bytes[i])}: {_makeup(r, i)}")


@rule("AUD011", "Names say what is inside")
def names_are_true(r: AuditResult, limits: AuditLimits) -> Outcome:
    """What: the epoch or iteration in a file's name against the one stored in it.

    Why: a file that was renamed, or saved by a loop that counts anew after a resume, is taken for what its name says.

    Fix: trust what is inside; rename the file.
    """
    facts, named = [], 0
    for i, name in enumerate(r.file_name):
        inside = [int(each) for each in (r.file_epoch[i], r.file_iter[i]) if each >= 0]
        for what, said, own in (
            ("epoch", r.file_named_epoch[i], r.file_epoch[i]),
            ("iter", r.file_named_iter[i], r.file_iter[i]),
        ):
            # "checkpoint-7" may count either, and each may start at 0 or 1
            against = inside if what == "iter" else [int(own)] if own >= 0 else []
            if said < 0 or not against or r.file_state[i] in BAD:
                continue
            named += 1
            if all(abs(said - each) > 1 for each in against):
                facts.append(Fact(name, f"{what} {own if own >= 0 else against[0]}", f"{what} {said}"))
    if facts:
        text = f"{facts[0].where} holds {facts[0].seen}" + (
            f"; {len(facts) - 1} more" if len(facts) > 1 else ""
        )
        return told(Outcome.warn, limits, facts, text, "trust what is inside, and rename the file")
    return (
        Outcome.ok(f"{named} numbers in names are those inside")
        if named
        else Outcome.skip("no name has an epoch or iteration that the file tells too")
    )


def _makeup(r: AuditResult, i: int) -> str:
    """What a file's bytes are made of."""
    if r.file_parameters[i] < 0:
        return f"tensors of {bytes_text(r.file_implied_bytes[i])}, no model"
    weights = f"{count_text(r.file_parameters[i])} parameters take {bytes_text(r.file_weights_bytes[i])}"
    if r.file_optimizer_bytes[i]:
        return f"{weights}, {r.file_optimizer[i] or 'the optimizer'} {bytes_text(r.file_optimizer_bytes[i])}"
    return f"{weights}, no optimizer is in it"


def _why_small(r: AuditResult, i: int) -> str:
    ratio = r.expect_size / max(int(r.file_bytes[i]), 1)
    if not r.file_optimizer_bytes[i] and 2.3 < ratio < 3.7:
        return "the size fits weights without AdamW's two moments: find the file that holds the optimizer, or do without a resume"
    if ratio > 1:
        return f"nothing of it is cut off: it holds a smaller model, or less beside it; {look_elsewhere(r)}"
    return "see with `trainlab peek` what else is in it"
