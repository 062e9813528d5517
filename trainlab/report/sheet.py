"""One self-contained HTML file of an executed page: no script, no network, nothing that is not in the file."""

from __future__ import annotations

from typing import Any

__all__ = ["POLICY", "to_html"]

# the browser itself keeps the promise, also for markup that a cell has put out
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"

# nbconvert's own JupyterLab sheet without its scripts: each names an address on the network
_TEMPLATE = f"""
{{% extends 'lab/index.html.j2' %}}
{{% block html_head_js %}}<meta http-equiv="Content-Security-Policy" content="{POLICY}">{{% endblock %}}
{{% block jupyter_widgets %}}{{% endblock %}}
{{% block html_head_js_mathjax %}}{{% endblock %}}
{{% block html_head_js_mermaidjs %}}{{% endblock %}}
{{% block footer_js %}}{{% endblock %}}
{{% block body_loop %}}
<p style="font:600 1.4em var(--jp-content-font-family);margin:16px 16px 0 92px">{{{{ nb.metadata.get('title', '') | escape_html }}}}</p>
{{{{ super() }}}}
{{% endblock %}}
{{% block data_png scoped %}}
<div class="jp-RenderedImage jp-OutputArea-output">
<img alt="{{{{ output.data.get('text/plain', '') | escape_html }}}}" style="max-width:100%;height:auto"
{{%- set width = output | get_metadata('width', 'image/png') -%}}
{{%- if width is not none %}} width="{{{{ width | escape_html }}}}"{{% endif %}}
src="data:image/png;base64,{{{{ output.data['image/png'] | escape_html }}}}">
</div>
{{% endblock %}}
"""

_PRIORITY = [
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
]


def to_html(notebook: Any) -> str:
    """Writes an executed notebook as HTML: pictures inside, HTML and PNG before a widget's live view."""
    import nbformat
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config({"NbConvertBase": {"display_data_priority": _PRIORITY}})
    exporter = HTMLExporter(
        config=config, raw_template=_TEMPLATE, embed_images=True, exclude_anchor_links=True
    )
    metadata = {key: value for key, value in notebook.metadata.items() if key != "widgets"}
    still = nbformat.from_dict({**notebook, "metadata": metadata})
    return str(exporter.from_notebook_node(still)[0])
