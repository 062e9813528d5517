"""The parts that a panel is made of: knobs from ipywidgets' abbreviations, and layouts that never clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from traitlets import TraitError, Unicode

from trainlab.errors import UsageError

__all__ = ["LIVE", "Image", "Knobs", "caption", "close", "roomy", "wrapping"]

# A slider's handle has no accessible name in ipywidgets and no trait that could give it one, so the live
# widget (never the static page) brings these lines. They name every handle after the label beside it, also
# in the knobs of a view that is chosen later.
LIVE = """<style onload="
  const panel = this.closest('.trainlab-panel');
  const name = () => panel.querySelectorAll('.widget-slider').forEach(slider =>
    slider.querySelector('.noUi-handle')?.setAttribute('aria-label', slider.querySelector('label').textContent));
  new MutationObserver(name).observe(panel, {childList: true, subtree: true});
  name();
">
  .trainlab-panel .widget-html-content { line-height: 1.4; min-width: 0; overflow-wrap: break-word; }
  .trainlab-panel td:last-child, .trainlab-panel button { overflow-wrap: anywhere; }
  .trainlab-panel .widget-image { border-radius: 4px; }
  .trainlab-panel .widget-slider { height: auto; align-items: center; }
  .trainlab-panel .slider-container { flex: 1 0 140px; }
  .trainlab-panel .widget-slider .widget-label {
    flex-shrink: 1; height: auto; line-height: 1.3; min-width: min-content; white-space: normal; }
  .trainlab-panel .widget-toggle-button { height: auto; line-height: 1.3; padding: 5px 10px; white-space: normal; }
</style>"""


class Knobs:
    """A row of labelled controls, made from ipywidgets' abbreviations.

    Args:
        abbreviations: What each control is.
        start: Where controls start.
        kept: What a reader had set in their place before; taken over where it still fits.
        moved: Is told of every change.
    """

    def __init__(
        self,
        abbreviations: Mapping[str, object],
        start: Mapping[str, object],
        kept: Mapping[str, object],
        moved: Callable[[object], None],
    ) -> None:
        self._controls = {name: _control(name, what, start) for name, what in abbreviations.items()}
        for name, control in self._controls.items():
            usual = control.value
            if name in kept and not _takes(control, kept[name]):
                control.value = usual
            control.observe(moved, names="value")
        self.row = widgets.HBox(
            list(self._controls.values()), layout=wrapping(grid_gap="2px 20px", align_items="center")
        )

    @property
    def values(self) -> dict[str, Any]:
        """What every control is set to."""
        return {name: control.value for name, control in self._controls.items()}


class Image(widgets.Image):  # type: ignore[misc]
    """An image that may have a tooltip: ipywidgets' own then reads a description, lacks it, and does not show."""

    description = Unicode("").tag(sync=True)


def _control(name: str, abbreviation: object, start: Mapping[str, object]) -> Any:
    try:
        control = widgets.interactive.widget_from_abbrev(abbreviation)
    except (ValueError, TraitError):
        control = None
    if control is None:
        raise UsageError(
            f"no control can be made for {name!r}",
            seen=repr(abbreviation),
            fix="give (min, max, step), a list or dict of choices, True or False, a number or a text",
        )
    if name in start and not _takes(control, start[name]):
        raise UsageError(
            f"{name!r} cannot start at {start[name]!r}",
            seen=f"its knob is {abbreviation!r}",
            fix="widen the knob, or start inside it",
        )
    control.description = name.replace("_", " ")
    control.style.description_width = "initial"  # ipywidgets cuts labels off otherwise
    control.layout.width, control.layout.max_width = "auto", "calc(100% - 4px)"
    if isinstance(control, widgets.FloatSlider):
        control.readout_format = ".4g"
    if isinstance(control, widgets.Checkbox):
        control.indent = False
    if isinstance(control, widgets.Text):
        control.continuous_update = False  # half a word is not yet a setting
    return control


def _takes(control: Any, value: object) -> bool:
    """Sets a control's value; False where it cannot have it."""
    try:
        control.value = value
    except TraitError:
        return False
    return bool(control.value == value)  # sliders clip in silence


def close(controls: Sequence[Any]) -> None:
    """Forgets controls and all that is inside them; ipywidgets keeps what is not closed for ever."""
    for control in controls:
        close(getattr(control, "children", ()))
        if hasattr(control, "style"):
            control.style.close()
        control.layout.close()
        control.close()


def roomy(**layout: str) -> widgets.Layout:
    """A layout that grows with what it holds: ipywidgets' own would show a scroll bar or cut it off."""
    return widgets.Layout(**{"overflow": "visible", "min_width": "0", **layout})


def wrapping(**layout: str) -> widgets.Layout:
    """The same for a row that goes on below where it is full."""
    return roomy(**{"display": "flex", "flex_flow": "row wrap", **layout})


def caption(text: str) -> widgets.HTML:
    """A line over a group of controls; the text is ours and no caller's."""
    return widgets.HTML(f'<div style="font-weight:600;margin:10px 0 0 0">{text}</div>')
