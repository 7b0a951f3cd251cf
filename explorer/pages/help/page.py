"""Help: where do I begin, and what do the words mean?"""

from __future__ import annotations

import html
from collections.abc import Iterable

import gradio as gr

from core.formatting import DISCLAIMER
from core.workspace import STYLES
from explorer.components.live_region import live
from explorer.context import Context
from explorer.pages.help import documents
from explorer.pages.help.documents import Text

TITLE = "Help"

STEPS = (
    ("Launch", "Choose backbone, data, method and label fraction; what it costs stands beside it. "
     "Start the 60-second example to see the rest with something in it."),
    ("Runs", "Curves as they grow. Close the browser, or the explorer itself: a run goes on."),
    ("Compare", "Two to six runs on the same test studies, with intervals and a verdict in words."),
    ("Saliency", "Where each model looks on one radiograph, and who is right where the "
     "truth is known."),
    ("Paper", "The study’s 18 tasks: what it published, and what your own runs say to that."),
)  # fmt: skip

WORDS = (
    ("AUROC", "The chance that a study with the finding gets a higher score than one without it: "
     "0.5 is guessing, 1 is perfect. Means are over findings that have both kinds of study."),
    ("Label fraction", "The share of the training patients whose labels a run may use. Whole "
     "patients are drawn, so that no patient stands on both sides."),
    ("Full fine-tuning", "Every weight of the backbone trains."),
    ("Linear probe", "Only the classifier trains, on features that stay as they are."),
    ("LoRA", "The backbone stays frozen; beside the query and value matrices of each block trains "
     "a product of two thin ones. Its rank is their width, alpha divided by rank its weight."),
    ("Verdict", "A difference counts when its interval, over patients or over seeds, leaves out "
     "zero. One seed shows what happened once."),
    ("Saliency map", "What moved the answer, as one method sees it. It is no proof that the model "
     "saw the finding; the scores against boxes and the sanity check say how far to trust it."),
    ("Energy inside, pointing", "The share of a map that lies in the true box, and whether its "
     "peak does. Compare both with a bell in the middle, which knows nothing."),
)  # fmt: skip


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the page, which never changes."""
    live(content(), elem_id="help", css_template=(STYLES / "help.css").read_text("utf-8"))


def content() -> str:
    """The page's HTML."""
    steps = "".join(f"<li><b>{name}</b>: {_plain(text)}</li>" for name, text in STEPS)
    words = "".join(f"<dt>{word}</dt><dd>{_plain(text)}</dd>" for word, text in WORDS)
    return (
        '<div class="cxr-help"><div>'
        f"{_panel('Where to begin', f'<ol>{steps}</ol>')}"
        f"{_panel('Tutorial notebooks', _notebooks(documents.notebooks()))}</div><div>"
        f"{_panel('What the words mean', f'<dl>{words}</dl>')}"
        f"{_panel('Documentation', _pages(documents.pages()))}"
        f"{_panel('Limits', f'<p>{DISCLAIMER}. Nothing leaves this machine.</p>')}</div></div>"
    )


def _panel(title: str, body: str) -> str:
    return f'<section class="cxr-panel"><h3>{title}</h3>{body}</section>' if body else ""


def _notebooks(texts: Iterable[Text]) -> str:
    items = "".join(
        f'<article><a href="{one.address}" target="_blank"><b>{html.escape(one.title)}</b></a>'
        f'<p class="cxr-small">You will learn {html.escape(one.about)}</p>'
        f'<p class="cxr-small cxr-muted">Takes {html.escape(one.takes)}. '
        f'Step through it: <code class="cxr-mono">jupyter lab notebooks/{one.name}</code></p>'
        "</article>"
        for one in texts
    )
    return items or (
        "<p>They lie in the project’s folder <code>notebooks/</code>, which is not here.</p>"
    )


def _pages(texts: Iterable[Text]) -> str:
    items = "".join(
        f'<li><a href="{one.address}" target="_blank">{html.escape(one.title)}</a></li>'
        for one in texts
    )
    return f"<ul>{items}</ul>" if items else ""


def _plain(text: str) -> str:
    return html.escape(text, quote=False)
