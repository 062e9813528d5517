"""Panel: the one widget of trainlab. It takes callables and knows no diagnostic.

Two kinds of knob: those beside *Run* are settings of the probe and act when it is pressed; those above the
picture belong to the view and redraw at once, from the result alone. One figure is drawn on again and again:
a new figure per move grew a kernel by 300 MB in 200 moves.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ipywidgets as widgets

from trainlab.errors import NotApplicable, TrainlabError, UsageError
from trainlab.figure import Picture
from trainlab.finding import Findings, Level
from trainlab.markup import Html, badge, block, paragraph
from trainlab.panel.controls import LIVE, Image, Knobs, caption, close, roomy, wrapping
from trainlab.progress import heard_by

__all__ = ["Panel", "PanelView"]

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class PanelView:
    """One picture that a panel can show.

    Attributes:
        name: Tells it from the other views.
        title: What it shows, as the chooser writes it.
        draw: ``draw(figure, **knobs)`` draws on the figure it is handed.
        knobs: Its settings in ipywidgets' abbreviations: ``(min, max, step)``, a list or dict of choices, a
            bool, a number or a text.
        start: Where knobs start; ipywidgets decides for those that are not named.
        size: Width and height of the picture in inches of 100 CSS pixels.
    """

    name: str
    title: str
    draw: Callable[..., None]
    knobs: Mapping[str, object] = dataclasses.field(default_factory=dict)
    start: Mapping[str, object] = dataclasses.field(default_factory=dict)
    size: tuple[float, float] = (7.2, 4.0)


class Panel(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Shows one diagnostic: its verdict, pictures, findings and knobs.

    Every display form stands on its own: the widget where a kernel runs, and a PNG, script-free HTML and text
    where none does. Errors of trainlab are shown in words inside the panel, which stays usable; any other
    error is shown with its traceback and rises.

    Args:
        title: The diagnostic's name; also the name that files are saved under.
        question: What it answers.
        run: ``run(**settings)`` probes again and returns an outcome.
        rerun: The settings beside *Run*, in ipywidgets' abbreviations.
        views: The pictures of an outcome; none where there is nothing to draw.
        findings: What the rules say of an outcome.
        to_json: An outcome as the text of a JSON file.
        start: Where the settings beside *Run* start.
        every: Offer to run again by itself, so many seconds after each run; 0 does not.
        outcome: What ``run`` returned for these settings already; without it, ``run`` is called now.

    Attributes:
        outcome: What the panel shows; None before the first run that came through.
        error: What is wrong right now, where something is.

    Raises:
        UsageError: A setting cannot be made a control of, or starts at a value it cannot have.
    """

    def __init__(
        self,
        *,
        title: str,
        question: str,
        run: Callable[..., R],
        rerun: Mapping[str, object],
        views: Callable[[R], Sequence[PanelView]],
        findings: Callable[[R], Findings],
        to_json: Callable[[R], str],
        start: Mapping[str, object] | None = None,
        outcome: R | None = None,
        every: float = 0.0,
    ) -> None:
        # JupyterLab hands widget messages to a thread of their own, beside the cells
        self._turn = threading.RLock()
        self.outcome: Any = None
        self.error: BaseException | None = None
        self._title, self._question = title, question
        self._run, self._views, self._judge, self._to_json = run, views, findings, to_json
        self._findings: Findings | None = None
        self._shown: dict[str, PanelView] = {}
        self._knobs: dict[str, Knobs] = {}
        self._picture = Picture()
        self._png = b""

        self._settings = Knobs(rerun, start or {}, {}, self._mark_stale)
        self._header = widgets.HTML()
        self._message = widgets.HTML()
        self._chooser = widgets.ToggleButtons(layout=wrapping(display="none"), style={"button_width": "auto"})
        self._chooser.observe(self._redraw, names="value")
        self._knob_box = widgets.VBox(layout=roomy())
        self._image = Image(layout=roomy(max_width="calc(100% - 4px)", height="auto", display="none"))
        self._list = widgets.HTML()
        self._run_button = widgets.Button(
            description="Run", icon="play", tooltip="Probe again with these settings"
        )
        self._run_button.on_click(lambda _: self._rerun())
        self._progress = widgets.HTML()
        self._every, self._timer = every, threading.Timer(every, self._tick)
        self._live = widgets.ToggleButton(
            description="Live",
            icon="refresh",
            tooltip=f"Run again every {every:g} s",
            layout=roomy(width="auto"),
        )
        self._live.layout.display = "flex" if every else "none"
        self._live.observe(self._tick, names="value")
        super().__init__([self._header, self._message, self._body(), widgets.HTML(LIVE)], layout=roomy())
        self.add_class("trainlab-panel")
        self._head()
        if outcome is None:
            with self._told():
                self._show(run(**self._settings.values))
        else:
            self._show(outcome)

    def _body(self) -> widgets.HBox:
        self._name = widgets.Text(
            value=re.sub(r"\W+", "_", self._title.lower()).strip("_") or "panel",
            description="file name",
            style={"description_width": "initial"},
            layout=roomy(width="220px"),
        )
        saves = []
        for what, kind, content in (
            ("result", "json", self._json),
            ("picture", "png", lambda: self._drawn().png()),
            ("picture", "svg", lambda: self._drawn().svg()),
        ):
            button = widgets.Button(description=kind.upper(), icon="download", layout=roomy(width="auto"))
            button.tooltip = f"Save the {what} as a new .{kind} file"
            button.on_click(lambda _, kind=kind, content=content: self._save(f".{kind}", content))
            saves.append(button)
        left = [self._chooser, self._knob_box, self._image]
        right = [
            self._settings.row,
            widgets.HBox(
                [self._run_button, self._live, self._progress], layout=wrapping(align_items="center")
            ),
            self._list,
            caption("Save in the working directory"),
            widgets.HBox([self._name, *saves], layout=wrapping()),
        ]
        # side by side where there is room for both, one below the other where there is not
        columns = [
            widgets.VBox(left, layout=roomy(flex="3 1 480px", grid_gap="4px")),
            widgets.VBox(right, layout=roomy(flex="2 1 340px")),
        ]
        return widgets.HBox(columns, layout=wrapping(grid_gap="8px 28px", align_items="flex-start"))

    # --- the two kinds of knob

    def _rerun(self) -> None:
        """Probes again with the settings as they are; the last outcome stays where that fails."""
        self._run_button.disabled = True
        try:
            with self._told(), heard_by(self._hear()):
                self._show(self._run(**self._settings.values))
        finally:
            self._run_button.disabled = False
            self._progress.value = ""

    def _tick(self, _: object = None) -> None:
        """Runs again, and once more later, until *Live* is off, the panel is closed or something is wrong."""
        self._timer.cancel()
        if not self._live.value or self.comm is None:
            return
        self._rerun()
        if self.error is not None:
            self._live.value = False
            return
        self._timer = threading.Timer(self._every, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _redraw(self, _: object) -> None:
        """Draws the chosen view again from the outcome that is there; the model is not touched."""
        with self._told():
            self._draw()

    def _mark_stale(self, _: object) -> None:
        self._run_button.button_style = "primary"  # what is shown was made with other settings

    def _show(self, outcome: Any) -> None:
        findings, views = self._judge(outcome), self._views(outcome)
        self.outcome, self._findings = outcome, findings
        self._run_button.button_style = ""
        self._list.value = findings._repr_html_()
        self._head()
        self._offer(views)
        self._draw()

    def _offer(self, views: Sequence[PanelView]) -> None:
        """Lists the views of a new outcome; a view and its knobs stay where the reader left them."""
        before, chosen = self._knobs, self._chooser.value
        self._shown = {view.name: view for view in views}
        kept = {name: knobs.values for name, knobs in before.items()}
        self._knobs = {
            view.name: Knobs(view.knobs, view.start, kept.get(view.name, {}), self._redraw) for view in views
        }
        self._knob_box.children = [knobs.row for knobs in self._knobs.values()]
        close([knobs.row for knobs in before.values()])
        self._chooser.unobserve(self._redraw, names="value")
        self._chooser.options = [(view.title, view.name) for view in views]
        self._chooser.value = chosen if chosen in self._shown else next(iter(self._shown), None)
        self._chooser.observe(self._redraw, names="value")
        self._chooser.layout.display = "flex" if len(views) > 1 else "none"

    def _draw(self) -> None:
        name = self._chooser.value
        for other, knobs in self._knobs.items():
            knobs.row.layout.display = "flex" if other == name else "none"
        self._png = b""
        try:
            if name is None:
                return
            view = self._shown[name]
            self._picture.clear()
            self._picture.set_size_inches(view.size)
            self._picture.alt = f"{self._title}: {view.title}"
            view.draw(self._picture, **self._knobs[name].values)
            self._png = self._picture.png(quick=True)
            self._image.value = self._png
            self._image.tooltip = self._picture.alt
            self._image.layout.width = f"{self._picture.pixels[0]}px"
        finally:
            # a picture that does not belong to the knobs above it would lie
            self._image.layout.display = "" if self._png else "none"

    # --- words

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Shows what goes wrong inside; an error that is not trainlab's rises as well."""
        with self._turn:
            self.error = None
            try:
                yield
            except TrainlabError as error:
                self.error = error
            except BaseException as error:
                self.error = error
                raise
            finally:
                self._message.value = _words(self.error)

    def _hear(self) -> Callable[[int, int, str], None]:
        """A listener that shows progress at most 20 times a second, so that it costs the probe nothing."""
        shown = 0.0

        def hear(done: int, total: int, label: str) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.05 and 0 < done < total:
                return
            shown = now
            place = f'value="{done}" max="{total}"' if total else ""
            count = f"{done} / {total}" if total else str(done)
            self._progress.value = (
                f'<progress {place} aria-label="progress" style="width:140px;vertical-align:middle"></progress> '
                f"{html.escape(label)} {count}"
            )

        return hear

    def _head(self) -> None:
        verdict = self._findings.verdict if self._findings else None
        mark = badge(verdict.value.upper(), verdict.colour) if verdict else ""
        self._header.value = Html(
            f'<div style="font-size:1.35em;font-weight:600;margin:2px 0">{html.escape(self._title)} '
            f'<span style="font-size:0.75em">{mark}</span></div>{paragraph(self._question)}'
        )

    # --- files

    def _json(self) -> bytes:
        if self.outcome is None:
            raise UsageError("there is no result to save", fix="press Run, and save when it came through")
        return self._to_json(self.outcome).encode()

    def _drawn(self) -> Picture:
        if not self._png:
            raise UsageError("there is no picture to save", fix="choose a view and knobs that draw one")
        return self._picture

    def _save(self, suffix: str, content: Callable[[], bytes]) -> None:
        """Writes a new file into the working directory; one that is there already is left alone."""
        with self._told():
            name = self._name.value.strip()
            if not name or Path(name).name != name:
                raise UsageError(
                    "a file name is one word or more, without folders", seen=repr(name), fix="e.g. run_a"
                )
            path = Path(name + suffix).resolve()
            written = content()
            try:
                with path.open("xb") as file:
                    file.write(written)
            except FileExistsError:
                raise UsageError(
                    f"{path.name} is there already and was left as it is",
                    seen=path,
                    fix="type another file name",
                ) from None
            except OSError as error:
                raise UsageError(
                    f"{path.name} could not be written", seen=error, fix="type another file name"
                ) from error
        if self.error is None:
            self._message.value = f'<div role="status">{paragraph(f"Saved {path}")}</div>'

    # --- where there is no kernel

    def __repr__(self) -> str:
        parts = [f"{self._title}: {self._question}", str(self.error or ""), str(self._findings or "")]
        return "\n".join(part for part in parts if part)

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = repr(self)
        parts = [Html(self._header.value), Html(_words(self.error)), Html(self._list.value)]
        sizes = {}
        if self._png:
            picture = base64.b64encode(self._png).decode()
            width, height = self._picture.pixels
            bundle["image/png"] = picture
            sizes["image/png"] = {"width": width, "height": height}
            knobs = [f"{name} = {value}" for name, value in self._knobs[self._chooser.value].values.items()]
            parts += [
                paragraph(", ".join([self._chooser.label, *knobs])),
                Html(
                    f'<img src="data:image/png;base64,{picture}" alt="{html.escape(self._picture.alt)}" '
                    f'width="{width}" style="max-width:100%;height:auto">'
                ),
            ]
        bundle["text/html"] = block("", parts)
        return bundle, sizes

    def close(self) -> None:
        """Takes the panel off the page; until then ipywidgets keeps it, and with it the model, alive."""
        close(self.children)
        self.layout.close()
        super().close()


def _words(error: BaseException | None) -> str:
    """An error as a reader wants it: ours in words, anybody else's with its traceback folded away."""
    if error is None:
        return ""
    level = Level.SKIP if isinstance(error, NotApplicable) else Level.FAIL
    trace = ""
    if isinstance(error, TrainlabError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception_only(error)).strip()
        lines = html.escape("".join(traceback.format_exception(error)))
        trace = f'<details><summary>Traceback</summary><pre style="overflow:auto">{lines}</pre></details>'
    style = f"border-left:4px solid {level.colour};padding:4px 12px;margin:4px 0;white-space:pre-wrap"
    return f'<div role="alert" style="{style}">{html.escape(text)}</div>{trace}'
