"""A region of the page that is patched, not replaced, when its content changes.

What a user touches (scroll, focus, selected text, an opened fold, a hovered curve) survives a
redraw, and nothing flickers. Elements are matched by ``id`` or ``data-key`` among their siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}
"""Settings of a page's own events: no endpoint of an API, no veil over what is being computed, and
of several changes in a row the last is answered."""


def after(triggers: Sequence[Any]) -> Any:
    """One event for several, to hang a handler on with ``then``.

    An ``always_last`` handler whose trigger comes again while it runs is started anew when it ends,
    and Gradio 6.31 then starts every other handler of that trigger too. Two slow handlers of one
    trigger so keep each other running for ever. What hangs on this event is started alone.

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


def live(value: str = "", **settings: Any) -> gr.HTML:
    """Make a region of HTML that updates in place and reports what is activated in it.

    An element with ``data-act`` (a button, or anything with ``tabindex="0"``) fires ``click`` with
    all its ``data-*`` attributes as event data: ``event.act``, ``event.run``, …. With
    ``data-confirm="question"`` the user is asked first. An element with ``data-beside="ID"`` is
    shown under the element of that id, if that is visible. ``data-address='{"run": "…"}'`` on the
    outermost element writes these keys into the page's address while the region is visible.

    Args:
        value: The first content; a handler returns the next.
        **settings: As for ``gr.HTML``.
    """
    return gr.HTML(
        value=value,
        html_template='<div class="cxr-live"></div>',
        js_on_load=_ON_LOAD,
        apply_default_css=False,
        **settings,
    )
