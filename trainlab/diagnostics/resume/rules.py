"""What the rules of `resume` say: is all there, do the counts agree, and is the resumed run the same run?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainlab.diagnostics.resume.mending import SAVE, mend
from trainlab.diagnostics.resume.result import ResumeResult
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["RULES", "ResumeLimits", "inconsistent"]


@dataclass(frozen=True)
class ResumeLimits:
    """Thresholds; counts are in steps, shares have no unit."""

    # A count is written before or after it is raised, so two that agree may be one apart.
    counts_apart: float = 1
    # Steps that a grad scaler may skip on overflow: the optimizer then lags behind the run's count.
    skipped_share_max: float = 0.02
    # Two rates that were set by one schedule are the same float; this leaves room for a cast to float32.
    rate_apart: float = 1e-6
    # Most batches per optimizer step that a count which is a multiple of another can stand for.
    accumulation_max: float = 64


@rule("RES001", "Holds what a resume needs")
def complete(r: ResumeResult, _: ResumeLimits) -> Outcome:
    """What: looks for model, optimizer, scheduler, grad scaler, average, random streams and data position.

    Why: whatever is not in the file starts anew, and the loss seldom tells.
    Fix: add the missing part to what is saved, and load it back.
    """
    gone = [i for i, status in enumerate(r.part_status) if status == "missing"]
    if not gone:
        there = [name for name, s in zip(r.part_name, r.part_status, strict=True) if s == "present"]
        return Outcome.ok(f"holds {', '.join(there)}")
    names = [r.part_name[i] for i in gone]
    evidence = [Evidence(r.part_name[i], f"missing: {r.part_detail[i]}") for i in gone]
    fix = "; ".join(SAVE[name] for name in names)
    if any(r.part_essential[i] for i in gone):
        return Outcome.fail(
            f"lacks {_and(names)}: a run that loads it goes on as another one", *evidence, fix=fix
        )
    how = "only if it sets the schedule from the count" if "scheduler" in names else "but not bit by bit"
    return Outcome.warn(f"lacks {_and(names)}: a run that loads it goes on, {how}", *evidence, fix=fix)


@rule("RES002", "Counts agree")
def counts_agree(r: ResumeResult, limits: ResumeLimits) -> Outcome:
    """What: compares the run's own iter and epoch with the steps that optimizer and scheduler have taken.

    Why: an optimizer that has taken 4 steps in a file that says iter 15000 was made anew, 4 steps before.
    Fix: load the optimizer and the scheduler where the count is loaded.
    """
    if len(r.counter_name) < 2:
        return Outcome.skip("the file holds no two counts to compare")
    own, kept = _counts(r, "steps"), _counts(r, "optimizer")
    odd: list[Evidence] = []
    doubtful: list[Evidence] = []
    notes: list[str] = []
    epochs = max(_counts(r, "epochs").values(), default=0.0)
    led = any(_optimizer_agrees(r, limits, c, t) for c in own.values() for t in kept.values())
    summed = any(_near(sum(kept.values()), count, limits) for count in own.values())
    for name, taken in kept.items():
        verdicts = [_optimizer_agrees(r, limits, count, taken) for count in own.values()]
        if not own and taken < epochs - limits.counts_apart:
            odd.append(Evidence(name, _whole(taken), _whole(epochs), "steps, one an epoch at least"))
        if not verdicts or any(verdicts) or summed:
            continue
        leader, count = next(iter(own.items()))
        several = _multiple(max(taken, count), min(taken, count), limits)
        if several and led:  # a critic may take five steps for each of its generator's
            continue
        if several and taken < count and not r.accumulation:
            doubtful.append(Evidence(name, _whole(taken), _whole(count), "steps"))
            notes.append(f"{leader} is {several} × {name}")
        else:
            odd.append(Evidence(name, _whole(taken), _whole(count), "steps"))
    for name, taken in _counts(r, "scheduler").items():
        others = [*own.values(), *kept.values(), *_counts(r, "epochs").values()]
        if others and not any(_near(taken, c, limits) or _per_epoch(taken, c, r) for c in others) and not any(
            _optimizer_agrees(r, limits, c, taken) for c in own.values()
        ):  # fmt: skip
            odd.append(Evidence(name, _whole(taken), _whole(others[0]), "steps"))
    if odd:
        said = ", ".join(f"{n} {v:g}" for n, v in {**own, **_counts(r, "epochs")}.items()) or "the file"
        text = f"{said}, but " + ", ".join(f"{e.where} {e.value}" for e in odd)
        return Outcome.fail(f"{text}: a fresh start in disguise", *odd, fix=_reload(odd))
    if doubtful:
        return Outcome.warn(
            f"{notes[0]}: several batches per step, or an optimizer that began anew on the way",
            *doubtful,
            fix="store the number of batches per step in the config as 'accumulation', or load the optimizer when resuming",
        )
    listed = ", ".join(f"{n} {v:g}" for n, v in zip(r.counter_name, r.counter_value.tolist(), strict=True))
    if not own and not (kept and _counts(r, "scheduler")):
        return Outcome.skip(f"only counts that need not be alike: {listed}")
    return Outcome.ok(listed)


@rule("RES003", "Learning rate agrees with the schedule")
def rate_agrees(r: ResumeResult, limits: ResumeLimits) -> Outcome:
    """What: compares the optimizer's rate with the one that its scheduler set last, and its peak with the config's.

    Why: a scheduler that is made anew sets the rate back to its start, and a rate set by hand is undone by the
    scheduler's next step.
    Fix: make the scheduler first, then load the optimizer and the scheduler.
    """
    if not r.rate_name:
        return Outcome.skip("the file holds no optimizer")
    known = np.isfinite(r.rate_scheduler)
    if not known.any():
        return Outcome.skip(f"no scheduler to compare with: lr {r.rate_optimizer[0]:.4g}")
    apart = [
        Evidence(f"lr of {r.rate_name[i]}", r.rate_optimizer[i].item(), r.rate_scheduler[i].item())
        for i in np.flatnonzero(known)
        if not _same_rate(r.rate_optimizer[i], r.rate_scheduler[i], limits)
    ]
    if apart:
        return Outcome.fail(
            f"the optimizer's lr is {apart[0].value:.4g}, its scheduler set {apart[0].limit:.4g}",
            *apart,
            fix="make the scheduler first; then optimizer.load_state_dict(…), then scheduler.load_state_dict(…), and set no lr after",
        )
    base = r.rate_base[np.isfinite(r.rate_base)]
    if (
        np.isfinite(r.rate_config)
        and len(base)
        and not any(_same_rate(b, r.rate_config, limits) for b in base)
    ):
        return Outcome.warn(
            f"the schedule is built on lr {base[0]:.4g}, the stored config says {r.rate_config:.4g}",
            Evidence(f"base lr of {r.rate_name[0]}", base[0].item(), r.rate_config),
            fix="an optimizer that is loaded keeps its own rates: change the rate in its param_groups and in the scheduler, or begin a new run",
        )
    return Outcome.ok(f"lr {r.rate_optimizer[known][0]:.4g}, as the scheduler set it")


@rule("RES004", "Optimizer has a history")
def optimizer_has_history(r: ResumeResult, _: ResumeLimits) -> Outcome:
    """What: looks for state of every parameter in the optimizer, and for moments that are not all zeros.

    Why: an optimizer that was made anew before the save has the right keys and none of the history.
    Fix: save the optimizer that trains, and load it before the first step.
    """
    if not r.optimizer_name:
        return Outcome.skip("the file holds no optimizer: see RES001")
    if not r.optimizer_keeps.any():
        return Outcome.skip("plain SGD keeps no history")
    run = max(_counts(r, "steps").values(), default=0.0)
    begun = run > 0 or max(_counts(r, "epochs").values(), default=0.0) > 0
    lacking = []
    for i, name in enumerate(r.optimizer_name):
        total, filled, moving = (
            int(column[i]) for column in (r.optimizer_parameters, r.optimizer_filled, r.optimizer_moving)
        )
        if not r.optimizer_keeps[i]:
            continue
        if filled == 0 or moving == 0:
            what = "no state" if filled == 0 else "moments that are all zeros"
            if not begun:
                return Outcome.skip(f"{name} holds {what}, as before the first step")
            return Outcome.fail(
                f"{name} holds {what} after {run:g} steps: it is a fresh one"
                if run
                else f"{name} holds {what}: it is a fresh one",
                Evidence(f"{name}: parameters with a history", moving, total),
                fix="save the very optimizer that takes the steps, and load it before the first: optimizer.load_state_dict(ckpt['optimizer'])",
            )
        if filled < total:
            lacking.append(
                (Evidence(f"{name}: parameters with state", filled, total), r.optimizer_lacking[i])
            )
    if lacking:
        names = lacking[0][1]
        return Outcome.warn(
            f"the optimizer holds no state for {names}",
            *(evidence for evidence, _ in lacking),
            fix=f"fine if {names.split(',')[0]} is frozen or was never used; otherwise it was added without its state",
        )
    return Outcome.ok(f"history for all {int(r.optimizer_parameters.sum())} parameters")


@rule("RES005", "Config in use is the stored one")
def config_kept(r: ResumeResult, _: ResumeLimits) -> Outcome:
    """What: compares the config or the arguments now in use with those in the file.

    Why: another rate, batch size, seed or schedule length makes another run of it, whatever is loaded.
    Fix: use the stored values, or call it a new run.
    """
    if not r.config_given:
        return Outcome.skip(r.config_reason)
    by_effect = {
        effect: [
            Evidence(name, now, stored)
            for name, stored, now, kind in zip(
                r.setting_name, r.setting_stored, r.setting_now, r.setting_effect, strict=True
            )
            if kind == effect
        ]
        for effect in ("breaks", "unknown", "harmless")
    }
    breaks, unknown, harmless = by_effect.values()
    aside = f"; {len(harmless)} harmless differences" if harmless else ""
    if breaks:
        shown = ", ".join(f"{e.where} {e.limit} → {e.value}" for e in breaks[:3])
        more = f" and {len(breaks) - 3} more" if len(breaks) > 3 else ""
        return Outcome.fail(
            f"{shown}{more}{aside}",
            *breaks,
            *unknown,
            fix="use the stored values: " + " ".join(f"{e.where}={e.limit}" for e in breaks[:6]),
        )
    if unknown:
        return Outcome.warn(
            f"{_and([e.where for e in unknown[:4]])} differ{'' if len(unknown) > 1 else 's'}{aside}",
            *unknown,
            fix="see whether the next step computes with it; if it does, use the stored value",
        )
    return Outcome.ok(f"{r.setting_same} settings are the same{aside}")


@rule("RES006", "Replay equals the uninterrupted run bit by bit")
def replay_equal(r: ResumeResult, _: ResumeLimits) -> Outcome:
    """What: runs on, and from the saved file, and compares every loss and the final state bit by bit.

    Where they part, pieces of the uninterrupted run are carried over into the other; the smallest set that makes
    them equal is to blame.
    Why: it is the only proof that a run goes on; weights alone give losses that look alike.
    Fix: save and load the piece that is named.
    """
    if r.replay_reason:
        return Outcome.skip(r.replay_reason)
    steps = len(r.step_uninterrupted)
    if not np.isfinite(r.step_uninterrupted).any():
        return Outcome.warn(
            "no loss is finite, so equal losses prove nothing",
            fix="begin from a checkpoint whose losses are finite",
        )
    if not r.replay_repeatable:
        return Outcome.warn(
            "the uninterrupted run, run twice, parts from itself: nothing can be compared with it",
            fix="keep state in the object that start() returns, not in globals; torch.use_deterministic_algorithms(True); no clock, no set order",
        )
    if r.replay_disturbed:
        return Outcome.fail(
            "saving changes the run: it goes on otherwise than without the save",
            fix="let save() leave the model's mode, its device and the random streams as they were",
        )
    parted = r.first_difference()
    where = (
        f"the losses part at step {parted} of {steps}"
        if parted
        else f"all {steps} losses are equal, but the final state is not"
    )
    if not r.replay_equal and not r.replay_explained:
        return Outcome.fail(
            f"{where}, and nothing that could be carried over explains it",
            *_evidence(r, r.piece_name),
            fix="look for what lies outside the state of start(): globals, closures, gradients of a half-done accumulation",
        )
    if not r.replay_equal:
        blamed = r.culprits()
        return Outcome.fail(
            f"{where}: {_and(blamed)} {_are(blamed)} not restored",
            *_evidence(r, blamed),
            fix="; ".join(mend(r, name) for name in blamed),
        )
    lost = [
        name
        for name, loaded, used in zip(r.piece_name, r.piece_loaded, r.piece_used, strict=True)
        if loaded == "differs" and used and name != "other values"
    ]
    if lost:
        return Outcome.warn(
            f"{steps} losses and the final state are equal, but {_and(lost)} {_are(lost)} not restored, "
            "and may tell later",
            *_evidence(r, lost),
            fix="; ".join(mend(r, name) for name in lost),
        )
    return Outcome.ok(f"{steps} losses and the final state are equal bit by bit")


RULES = (complete, counts_agree, rate_agrees, optimizer_has_history, config_kept, replay_equal)


def inconsistent(r: ResumeResult, limits: ResumeLimits) -> set[str]:
    """The parts that are there but contradict others, for a picture: what RES002, RES003 and RES004 object to."""
    found = set()
    verdicts = [counts_agree(r, limits), rate_agrees(r, limits), optimizer_has_history(r, limits)]
    counts, rate, history = (finding.level.value in ("warn", "fail") for finding in verdicts)
    if counts:
        roles = dict(zip(r.counter_name, r.counter_role, strict=True))
        found |= {roles[item.where] for item in verdicts[0].evidence if item.where in roles}
    if rate:
        found.add("scheduler")
    if history:
        found.add("optimizer")
    return found


def _counts(r: ResumeResult, role: str) -> dict[str, float]:
    rows = zip(r.counter_name, r.counter_role, r.counter_value.tolist(), strict=True)
    return {name: value for name, kind, value in rows if kind == role}


def _optimizer_agrees(r: ResumeResult, limits: ResumeLimits, run: float, taken: float) -> bool:
    """Does the optimizer stand where the run does, batches per step and skipped steps allowed for?"""
    each = max(r.accumulation, 1)
    if _near(taken, run, limits) or _near(taken, run / each, limits):
        return True
    scaled = any(
        n == "grad scaler" and s == "present" for n, s in zip(r.part_name, r.part_status, strict=True)
    )
    return scaled and any(0 <= c - taken <= limits.skipped_share_max * c for c in (run, run / each))


def _multiple(more: float, less: float, limits: ResumeLimits) -> int:
    """How many times the lesser count the other is, where that is a small whole number; else 0."""
    times = round(more / less) if less > 1 else 0
    return times if 2 <= times <= limits.accumulation_max and abs(more - times * less) < times else 0


def _near(one: float, other: float, limits: ResumeLimits) -> bool:
    return abs(one - other) <= limits.counts_apart


def _per_epoch(taken: float, count: float, r: ResumeResult) -> bool:
    """Several processes step one scheduler, so its count may be a whole multiple of the run's."""
    kept = _counts(r, "optimizer").values()
    return count in kept and count > 0 and 2 <= taken / count <= 1024 and taken % count == 0


def _same_rate(one: float, other: float, limits: ResumeLimits) -> bool:
    return bool(abs(one - other) <= limits.rate_apart * max(abs(one), abs(other)))


def _reload(odd: list[Evidence]) -> str:
    names = ["scheduler" if "last_epoch" in item.where else "optimizer" for item in odd]
    return "; ".join(
        f"{name}.load_state_dict(ckpt['{name}']) where the count is loaded, after {name} is made"
        for name in dict.fromkeys(names)
    )


def _evidence(r: ResumeResult, names: tuple[str, ...] | list[str]) -> list[Evidence]:
    rows = zip(r.piece_name, r.piece_where, r.piece_loaded, r.piece_ended, strict=True)
    return [
        Evidence(f"{name} ({where})", f"{_told(loaded)} after loading, {_told(ended)} at the end")
        for name, where, loaded, ended in rows
        if name in names and {loaded, ended} != {"same"}
    ]


def _told(state: str) -> str:
    return {"hidden": "cannot be compared"}.get(state, state)


def _whole(count: float) -> float:
    return int(count) if count == int(count) else count


def _are(names: tuple[str, ...] | list[str]) -> str:
    return "are" if len(names) > 1 or names[0].endswith("s") else "is"


def _and(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
