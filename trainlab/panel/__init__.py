"""Panel: the one widget of trainlab; nothing else imports ipywidgets."""

from __future__ import annotations

from trainlab.panel.panel import Panel, PanelView

__all__ = ["Panel", "PanelView"]
