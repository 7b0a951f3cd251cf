"""Layout that the groups of the launch form share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from explorer.templates import render_macro


@contextmanager
def titled_group(title: str) -> Iterator[None]:
    """A group of fields below a heading."""
    with gr.Column(elem_classes="cxr-group"):
        gr.HTML(
            render_macro("pages/launch/layout.html.j2", "heading", title=title),
            apply_default_css=False,
        )
        yield
