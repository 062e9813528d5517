"""The record that a room ends with; whoever fills it in gets the verbs: judge, examine, plot, panel."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from matplotlib.figure import Figure, SubFigure

from trainlab.errors import NotApplicable, UsageError, did_you_mean
from trainlab.figure import Picture, house_style, message
from trainlab.finding import Finding, Findings, Level, Rule, limits_of
from trainlab.markup import Html, badge, block, paragraph, table
from trainlab.result import Result
from trainlab.subjects import SUBJECT_NAMES, Subjects, checkpoints_in, resolve

if TYPE_CHECKING:
    import pandas as pd

    from trainlab.panel import Panel

__all__ = ["Diagnostic", "Examination", "View"]

P = ParamSpec("P")
R = TypeVar("R", bound=Result)
L = TypeVar("L")

Knobs = Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class View(Generic[R]):
    """One picture of a result.

    Attributes:
        name: How a caller asks for it.
        title: What it shows, as a person would say it.
        draw: ``draw(result, figure, **knobs)`` draws on the (sub)figure it is handed and returns nothing; it
            raises `NotApplicable` where the result holds nothing to draw.
        knobs: Its settings in ipywidgets' abbreviations, or a function that reads them off a result; each
            starts at the default in the signature of ``draw``.
        size: Width and height of the picture in inches.
    """

    name: str
    title: str
    draw: Callable[..., None]
    knobs: Knobs | Callable[[R], Knobs] = dataclasses.field(default_factory=dict)
    size: tuple[float, float] = (7.2, 4.0)

    def knobs_for(self, result: R) -> dict[str, object]:
        """The knobs that this view has for this result."""
        return dict(self.knobs(result) if callable(self.knobs) else self.knobs)

    @property
    def start(self) -> dict[str, Any]:
        """Where each knob starts: the defaults in the signature of ``draw``."""
        return {name: p.default for name, p in list(inspect.signature(self.draw).parameters.items())[2:]}

    def paint(self, result: R, figure: Figure | SubFigure, **knobs: object) -> None:
        """Draws on the figure, in the house style; says why where there is nothing to draw."""
        for knob in knobs:
            if knob not in self.start:
                raise UsageError(
                    f"view {self.name!r} has no knob {knob!r}", fix=did_you_mean(knob, self.start)
                )
        try:
            with house_style():
                self.draw(result, figure, **knobs)
        except NotApplicable as reason:
            message(figure, reason.what)


@dataclasses.dataclass(frozen=True)
class Diagnostic(Generic[P, R, L]):
    """A diagnostic: a question, a probe that gathers, rules that judge and views that show.

    Attributes:
        name: Its one word; also the name of its page.
        question: What it answers, ending in a question mark.
        probe: ``probe(model, batch, *, settings…) -> Result``; subjects are asked for by their reserved names.
        result: The class that the probe returns.
        limits: A frozen dataclass of thresholds, each with a default.
        rules: What `rule` made, in the order of the report.
        views: The pictures; the first is the one that shows when none is asked for.
        rerun: Settings of the probe that a panel offers beside Run, in ipywidgets' abbreviations.
        example: Makes tiny subjects, so that a page run bare has something to show.
    """

    name: str
    question: str
    probe: Callable[P, R]
    result: type[R]
    limits: type[L]
    rules: tuple[Rule[R, L], ...]
    views: tuple[View[R], ...]
    rerun: Mapping[str, object]
    example: Callable[[], Mapping[str, object]]

    def __post_init__(self) -> None:
        codes = [rule.code for rule in self.rules]
        names = [view.name for view in self.views]
        faults = {
            "name is not an identifier": not self.name.isidentifier(),
            "question does not end in a question mark": not self.question.endswith("?"),
            f"result's kind is not {self.name!r}": self.result.kind != self.name,
            "rules are missing": not codes,
            "rules share a code": len(set(codes)) < len(codes),
            "rules differ in their three letters": len({code[:3] for code in codes}) > 1,
            "views are missing": not names,
            "views share a name": len(set(names)) < len(names),
            "limits is not a dataclass": not dataclasses.is_dataclass(self.limits),
        }
        faults |= {
            f"rerun names {knob!r}, which is no setting of the probe": knob not in self.settings
            for knob in self.rerun
        }
        for fault, found in faults.items():
            if found:
                raise UsageError(
                    f"diagnostic {self.name!r}: {fault}", fix="correct the record at the end of its file"
                )

    @property
    def settings(self) -> dict[str, Any]:
        """The probe's settings with their defaults: every parameter that is not a subject."""
        parameters = inspect.signature(self.probe).parameters
        return {name: p.default for name, p in parameters.items() if name not in SUBJECT_NAMES}

    def judge(self, result: R, **limits: object) -> Findings:
        """Applies every rule to a result.

        Args:
            result: What the probe returned, now or long ago.
            **limits: Thresholds to use instead of the defaults, e.g. ``variation_min=0.02``.

        Raises:
            UsageError: There is no such limit.
        """
        if not isinstance(result, self.result):
            raise UsageError(f"{self.name} judges what its own probe returns", seen=type(result).__name__)
        chosen = limits_of(self.limits, self.name, limits)
        return Findings(tuple(rule(result, chosen) for rule in self.rules))

    def resolve(self, **given: Any) -> Subjects:
        """Opens the subjects that the probe asks for; with nothing given at all, the example's.

        Args:
            **given: Subjects by name (``model``, ``batch``, ``ckpt`` …) as objects or strings, and ``trust``
                and ``device``.
        """
        trust = bool(given.pop("trust", False))
        device = given.pop("device", None) or None  # a page's "" is not given
        return resolve(self.probe, given, example=self.example, trust=trust, device=device)

    def examine(
        self,
        subjects: Subjects | None = None,
        /,
        *,
        limits: Mapping[str, object] | None = None,
        **given: Any,
    ) -> Examination:
        """Probes and judges; where the diagnostic does not apply, every rule is a skip that says why.

        Args:
            subjects: What `resolve` returned; or name them in ``given``, as objects or strings.
            limits: Thresholds to use instead of the recipe's and the defaults.
            **given: Settings of the probe, and subjects where none were resolved.

        Raises:
            TrainlabError: A subject cannot be opened, or a name is not known.
        """
        subjects, settings = self._sorted(subjects, given)
        recipe = self._recipe_limits(subjects)
        chosen = {**recipe, **(limits or {})}
        limits_of(self.limits, self.name, chosen)  # a mistyped limit is told before the probe runs, not after
        result: R | None = None
        try:
            result = self.probe(**subjects, **settings)  # type: ignore[call-arg]
            findings = self.judge(result, **chosen)
        except NotApplicable as reason:
            text = str(reason)
            findings = Findings(tuple(Finding(r.code, r.title, Level.SKIP, text) for r in self.rules))
        return Examination(self, result, findings, dict(subjects.origin), subjects.example)

    def plot(
        self, result: R, view: str | None = None, *, figure: Figure | SubFigure | None = None, **knobs: Any
    ) -> Figure | SubFigure:
        """Draws one view of a result.

        Args:
            result: What the probe returned.
            view: Its name; the first by default.
            figure: Draw on this (sub)figure of yours instead of on a new picture.
            **knobs: The view's settings.

        Returns:
            The figure: a `Picture` that shows itself, or your own.

        Raises:
            UsageError: There is no such view or knob.
        """
        views = {item.name: item for item in self.views}
        if view is not None and view not in views:
            raise UsageError(f"{self.name} has no view {view!r}", fix=did_you_mean(view, views))
        chosen = views[view] if view is not None else self.views[0]
        target = Picture(*chosen.size, alt=f"{self.name}: {chosen.title}") if figure is None else figure
        chosen.paint(result, target, **knobs)
        return target

    def panel(
        self,
        subjects: Subjects | None = None,
        /,
        *,
        limits: Mapping[str, object] | None = None,
        **given: Any,
    ) -> Panel:
        """Makes the widget: Run probes again, every other knob only redraws.

        Args:
            subjects: What `resolve` returned; or name them in ``given``, as objects or strings.
            limits: Thresholds to use instead of the defaults.
            **given: Subjects, and settings of the probe to start with. A folder or a glob as ``ckpt`` gives the
                panel a chooser among its files.
        """
        from trainlab.panel import Panel, PanelView

        files = checkpoints_in(given.get("ckpt"))
        if files or hasattr(given.get("log"), "every"):  # opened at each Run: one that is torn hides no other
            run = functools.partial(self.examine, limits=limits, **given)
            settings, example = given, False
        else:
            opened, settings = self._sorted(subjects, given)
            run = functools.partial(self.examine, opened, limits=limits, **settings)
            example = opened.example

        def views(examination: Examination) -> list[PanelView]:
            result = examination.result
            if result is None:
                return []
            return [
                PanelView(
                    v.name, v.title, functools.partial(v.paint, result), v.knobs_for(result), v.start, v.size
                )
                for v in self.views
            ]

        def to_json(examination: Examination) -> str:
            if examination.result is None:
                raise UsageError("there is no result to save", fix="give subjects that the diagnostic fits")
            return json.dumps(examination.result.to_dict(), allow_nan=False, indent=1)

        return Panel(
            title=_title(self.name, example=example),
            question=self.question,
            run=run,
            rerun={"ckpt": files, **self.rerun} if files else self.rerun,
            views=views,
            findings=lambda examination: examination.findings,
            to_json=to_json,
            start={knob: settings.get(knob, self.settings[knob]) for knob in self.rerun}
            | {"ckpt": files[-1] if files else None},
            every=getattr(given.get("log"), "every", 0.0),
        )

    def _sorted(self, subjects: Subjects | None, given: Mapping[str, Any]) -> tuple[Subjects, dict[str, Any]]:
        """Parts what was given into subjects, opened, and settings of the probe."""
        known = {*self.settings, *(() if subjects is not None else (*SUBJECT_NAMES, "trust", "device"))}
        for name in given:
            if name not in known:
                raise UsageError(f"{self.name} has no setting {name!r}", fix=did_you_mean(name, known))
        settings = {name: value for name, value in given.items() if name in self.settings}
        rest = {name: value for name, value in given.items() if name not in settings}
        return (self.resolve(**rest) if subjects is None else subjects), settings

    def _recipe_limits(self, subjects: Subjects) -> Mapping[str, object]:
        recipe = subjects.recipe
        if recipe is None:
            return {}
        for name in difflib.get_close_matches(self.name, recipe.limits, cutoff=0.8):
            if name != self.name:
                raise UsageError(f"{recipe.path} has limits for {name!r}", fix=f"did you mean {self.name!r}?")
        return recipe.limits.get(self.name, {})

    def __getattr__(self, name: str) -> Any:
        """What else a room makes public: ``tl.timesteps.Recorder``."""
        room = sys.modules.get(f"trainlab.diagnostics.{self.__dict__.get('name')}")
        if name in getattr(room, "__all__", ()):
            return getattr(room, name)
        raise AttributeError(f"{self.__dict__.get('name', 'a diagnostic')} has no {name!r}")

    def __repr__(self) -> str:
        rules = "\n".join(f"  {rule.code}  {rule.title}" for rule in self.rules)
        views = ", ".join(view.name for view in self.views)
        return f"{self.name}: {self.question}\n{rules}\n  views: {views}"

    def _repr_html_(self) -> str:
        rules = table(
            [{"code": rule.code, "checks that": rule.title, "because": rule.why} for rule in self.rules]
        )
        views = paragraph("views: " + ", ".join(f"{view.name} ({view.title})" for view in self.views))
        return block(f"{self.name}: {self.question}", [rules, views])


@dataclasses.dataclass(frozen=True, repr=False)
class Examination:
    """One look at one subject: the result, the findings and where the subject came from.

    Attributes:
        room: The diagnostic that looked.
        result: What its probe found; None where it did not apply.
        findings: What its rules say.
        origin: A sentence for each subject.
        example: The subject was the diagnostic's own example, not the caller's.
    """

    room: Diagnostic[..., Any, Any]
    result: Any
    findings: Findings
    origin: Mapping[str, str]
    example: bool

    @property
    def diagnostic(self) -> str:
        """The diagnostic's name."""
        return self.room.name

    @property
    def verdict(self) -> Level:
        """The findings' verdict."""
        return self.findings.verdict

    @property
    def title(self) -> str:
        """The diagnostic, and that it looked at its example where it did."""
        return _title(self.diagnostic, example=self.example)

    def plot(self, view: str | None = None, **knobs: Any) -> Figure | SubFigure:
        """Draws one view; a picture that says why where there is no result."""
        if self.result is not None:
            return self.room.plot(self.result, view, **knobs)
        picture = Picture(alt=f"{self.diagnostic}: nothing to draw")
        with house_style():
            message(picture, self.findings[0].text)
        return picture

    def frame(self, table: str | None = None) -> pd.DataFrame:
        """One of the result's tables as a DataFrame; empty where there is no result."""
        import pandas as pd

        return pd.DataFrame() if self.result is None else self.result.frame(table)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values, of the result what a page stores; `from_dict` gives the examination back."""
        return {
            "diagnostic": self.diagnostic,
            "verdict": self.verdict.value,
            "example": self.example,
            "origin": dict(self.origin),
            "findings": self.findings.to_dict(),
            "result": None if self.result is None else self.result.slim().to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], room: Diagnostic[..., Any, Any]) -> Examination:
        """Rebuilds what `to_dict` returned, with the diagnostic of that name."""
        result = None if stored["result"] is None else room.result.from_dict(stored["result"])
        return cls(
            room, result, Findings.from_dict(stored["findings"]), dict(stored["origin"]), stored["example"]
        )

    def __str__(self) -> str:
        origin = [f"  {name}: {text}" for name, text in self.origin.items()]
        return "\n".join([self.title, *origin, str(self.findings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        origin = [paragraph(f"{name}: {text}") for name, text in self.origin.items()]
        heading = Html(
            f"{badge(self.verdict.value.upper(), self.verdict.colour)} {paragraph(self.room.question)}"
        )
        return block(self.title, [heading, *origin, Html(self.findings._repr_html_())])


def _title(name: str, *, example: bool) -> str:
    return f"{name} on its built-in example" if example else name
