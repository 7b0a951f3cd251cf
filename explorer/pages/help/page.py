"""Help page: first steps, glossary, notebooks and documentation."""

from __future__ import annotations

import gradio as gr
from markupsafe import Markup

from core.formatting import DISCLAIMER
from core.workspace import STYLES
from explorer.components.live_region import live
from explorer.context import Context
from explorer.pages.help import documents
from explorer.templates import render_macro

TITLE = "Help"


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the page, which never changes."""
    live(content(), elem_id="help", css_template=(STYLES / "help.css").read_text("utf-8"))


def content() -> Markup:
    """The page as HTML."""
    return render_macro(
        "pages/help/page.html.j2",
        "content",
        notebooks=documents.notebooks(),
        documents=documents.pages(),
        disclaimer=DISCLAIMER,
    )
