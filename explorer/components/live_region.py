"""A region of the page that is patched, not replaced, when its content changes.

Scroll position, focus, selected text, opened folds and the values under the pointer survive a
redraw, and nothing flickers. Elements are matched by ``id`` or ``data-key`` among their siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from explorer.templates import render

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}
"""Options of a page's own events: no API endpoint, no progress overlay, and of several changes in a
row only the last is answered."""


def after(triggers: Sequence[Any]) -> Any:
    """One event for several triggers; a handler is attached to it with ``then``.

    If an ``always_last`` handler is triggered again while it runs, it is started again when it
    ends, and Gradio 6.31 then starts every other handler of that trigger too. Two slow handlers of
    one trigger would keep each other running for ever. A handler attached here is started alone.

    Args:
        triggers: Events of components, such as ``field.change``.
    """
    return gr.on(triggers, None, js="() => []", api_visibility="private", show_progress="hidden")


_ON_LOAD = """
const region = element.querySelector('.cxr-live');
const show = () => window.cxr.patch(region, props.value || '');
window.cxr.listen(region, (detail) => trigger('click', detail));
watch('value', show);
show();
"""


def live(value: str = "", **options: Any) -> gr.HTML:
    """A region of HTML that is updated in place and reports clicks in it.

    An element with ``data-act`` (a button, or an element with ``tabindex="0"``) fires ``click``
    with all its ``data-*`` attributes as event data: ``event.act``, ``event.run``, …. With
    ``data-confirm="question"`` the user is asked first. An element with ``data-beside="ID"`` is
    shown under the element of that id, if that is visible. ``data-address='{"run": "…"}'`` on the
    outermost element writes these keys into the page's address while the region is visible.

    Args:
        value: The first content; handlers return later ones.
        **options: As for ``gr.HTML``.
    """
    return gr.HTML(
        value=value,
        html_template=render("components/live_region.html.j2"),
        js_on_load=_ON_LOAD,
        apply_default_css=False,
        **options,
    )
