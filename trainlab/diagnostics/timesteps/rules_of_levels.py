"""Is the model told the level that it was trained with, and does it listen?"""

from __future__ import annotations

import numpy as np

from trainlab.diagnostics.timesteps.limits import TimestepsLimits
from trainlab.diagnostics.timesteps.result import TimestepsResult
from trainlab.diagnostics.timesteps.rules_of_frames import copies, frame_stands_out, later_frames
from trainlab.diagnostics.timesteps.schedules import CONVENTIONS
from trainlab.diagnostics.timesteps.wording import failing, knows_nothing, level_name, told
from trainlab.finding import Evidence, Outcome, rule

__all__ = ["index_right", "listens", "schedule_right", "swapped"]

FRAMES = (copies, later_frames, frame_stands_out)  # where frames are broken, no level suits them


@rule("TIM003", "Levels mean what they are said to mean")
def swapped(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the same noisy inputs, the model told the opposite level: 1 − tau for tau, timesteps counted from the end.

    Why: a model that was trained with 1 for clean and is used with 1 for noise gives plausible, blurred nonsense.
    Fix: tell it the other way round wherever it is used, or say convention= here if only this page has it wrong.
    """
    row = told(r, "swapped")
    if (reason := _cannot(r, row)) or row is None:
        return Outcome.skip(reason)
    name, other = level_name(r), CONVENTIONS[r.convention == CONVENTIONS[0]]
    evidence = _evidence(r, row, "told the opposite", limits.preferred_ratio)
    if _preferred(r, row, limits.preferred_ratio):
        return Outcome.fail(
            f"trained with the opposite meaning: told the opposite {name}, the model loses {r.told_ratio[row]:.2g} of what it "
            f"loses as “{r.convention}”",
            evidence,
            fix=f"hand {_opposite(r)} to the model, in sampling and evaluation; or say convention='{other}' if the code does so already",
        )
    if r.told_moved[row] <= limits.listens_min:
        return Outcome.skip(f"the model hardly listens to {name}: see TIM006")
    return Outcome.ok(f"told the opposite {name}, it loses {r.told_ratio[row]:.3g} times as much", evidence)


@rule("TIM004", "Timesteps are counted from the right one")
def index_right(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the same noisy inputs, the model told the next timestep, and the one before.

    Why: an index that starts at 1 in training and at 0 in sampling costs a little at every step and is never noticed.
    Fix: add or take away 1 where the model is used, or train with the index that the sampler uses.
    """
    more, less = told(r, "one more"), told(r, "one less")
    if not r.steps:
        return Outcome.skip("levels are continuous: there is no index")
    reason = _cannot(r, more) or _swapped_first(r, limits) or _frames_first(r, limits)
    if reason or more is None or less is None:
        return Outcome.skip(reason)
    if (schedule := _other_schedule(r, limits)) is not None:
        return Outcome.skip(f"the model suits {r.told_name[schedule]} better: see TIM005")
    name, ratio = level_name(r), r.told_ratio
    best, away, shift = (more, less, 1) if ratio[more] < ratio[less] else (less, more, -1)
    evidence = _evidence(r, best, f"told {name} {shift:+d}", limits.shifted_ratio)
    # an index off by one likes one side and dislikes the other; one that is merely blurred likes both or neither
    if _preferred(r, best, limits.shifted_ratio) and not r.told_low[away] <= 1:
        return Outcome.fail(
            f"off by one: told {name} {shift:+d}, the model loses {ratio[best]:.3g} of what it does now, and {ratio[away]:.3g} told {-shift:+d}",
            evidence,
            fix=f"training counted {name} {'one higher' if shift > 0 else 'one lower'} than the sampler: hand the model {name} {shift:+d}, "
            "or train with the sampler's index",
        )
    return Outcome.ok(
        f"told {name} +1 it loses {ratio[more]:.4g}, told −1 {ratio[less]:.4g} of its loss", evidence
    )


@rule("TIM005", "The noise schedule is that of training")
def schedule_right(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: the same noisy inputs, the model told the level that other known schedules have at that ratio of signal to noise.

    Why: a model that was trained under a cosine schedule and is sampled under a linear one is told the wrong amount of
    noise at every step but the ends.
    Fix: use the schedule that the model likes better, or say schedule= if only this page has it wrong.
    """
    rows = _schedules(r)
    if not rows:
        return Outcome.skip(
            "no other schedule could be tried: the loss is your own, a log, or has no schedule"
        )
    if reason := _cannot(r, rows[0]) or _swapped_first(r, limits) or _frames_first(r, limits):
        return Outcome.skip(reason)
    best = min(rows, key=lambda row: r.told_ratio[row])
    name = r.told_name[best].removeprefix("schedule ")
    evidence = _evidence(r, best, f"told as by {name}", limits.preferred_ratio)
    if _other_schedule(r, limits) is not None:
        return Outcome.fail(
            f"trained under another schedule: told as by {name}, the model loses {r.told_ratio[best]:.3g} of what it does as by {r.schedule}",
            evidence,
            fix=f"sample and evaluate with the {name} schedule, or say schedule='{name}' here if the code does so already",
        )
    return Outcome.ok(f"of {len(rows)} other schedules none suits it better; {name} is the nearest", evidence)


@rule("TIM006", "Listens to the level")
def listens(r: TimestepsResult, limits: TimestepsLimits) -> Outcome:
    """What: how far any loss moves when the model is told a level half a range away.

    Why: a model that does not listen denoises all levels with one average; what it was trained on did not tell it the level
    of each sample.
    Fix: follow the level from the data loader to the modulation that it should steer; see that it is of the same sample.
    """
    row = told(r, "half a range off")
    if (reason := _cannot(r, row)) or row is None:
        return Outcome.skip(reason)
    name, moved = level_name(r), float(r.told_moved[row])
    evidence = Evidence(
        f"change of the loss when told {name} half a range off", moved, limits.listens_min, "of the loss"
    )
    if moved <= limits.listens_min:
        exactly = "not at all" if moved == 0 else f"{moved:.1%}"
        return Outcome.fail(
            f"the model ignores {name}: told half a range off, its loss moves {exactly}",
            evidence,
            fix=f"see that {name} reaches the layers (their modulation may be stuck at its zero init), and that training hands "
            f"each sample its own {name}",
        )
    return Outcome.ok(f"told half a range off, its loss moves by {moved:.2g} of itself", evidence)


def _cannot(r: TimestepsResult, row: int | None) -> str:
    """Why nothing can be said of what the model is told; empty where something can."""
    if r.source == "log":
        return "a log tells nothing of other levels"
    if row is None:
        return "the model takes no level"
    if knows_nothing(r):
        return "the model answers no better than trivially, whatever it is told: see TIM010"
    if not np.isfinite(r.told_ratio[row]):
        return "the losses are not finite: see TIM001"
    return ""


def _swapped_first(r: TimestepsResult, limits: TimestepsLimits) -> str:
    row = told(r, "swapped")
    wrong = row is not None and _preferred(r, row, limits.preferred_ratio)
    return "the levels are the wrong way round: see TIM003" if wrong else ""


def _frames_first(r: TimestepsResult, limits: TimestepsLimits) -> str:
    found = failing(r, limits, FRAMES)
    return f"some frames are broken at any level: see {found}" if found else ""


def _schedules(r: TimestepsResult) -> list[int]:
    return [row for row, name in enumerate(r.told_name) if name.startswith("schedule ")]


def _other_schedule(r: TimestepsResult, limits: TimestepsLimits) -> int | None:
    """The row of the schedule that the model likes better than its own, if there is one."""
    best = min(_schedules(r), key=lambda row: r.told_ratio[row], default=None)
    return best if best is not None and _preferred(r, best, limits.preferred_ratio) else None


def _preferred(r: TimestepsResult, row: int, ratio: float) -> bool:
    """Whether the model loses less when told so, by more than chance; of a single unit, whose interval is unknown, clearly less."""
    high = r.told_high[row] if np.isfinite(r.told_high[row]) else r.told_ratio[row] + 0.1
    return bool(high < ratio)


def _evidence(r: TimestepsResult, row: int, what: str, limit: float) -> Evidence:
    where = f"loss when {what} ({r.told_low[row]:.3g} … {r.told_high[row]:.3g})"
    return Evidence(where, float(r.told_ratio[row]), limit, "of the loss")


def _opposite(r: TimestepsResult) -> str:
    name = level_name(r)
    return f"{r.steps - 1} − {name}" if r.steps else f"1 − {name}"
