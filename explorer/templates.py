"""Jinja templates: ``*.html.j2`` files next to the modules that render them, with autoescape.

A template gets values, never HTML made by hand; charts and other rendered templates are
``Markup`` and are not escaped again.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from core import formatting
from core.errors import CoreError

FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment of all templates; the number formats of ``core.formatting`` are filters."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for name in ("auroc", "points", "number", "share", "duration"):
        templates.filters[name] = getattr(formatting, name)
    templates.filters["words"] = lambda name: str(name).replace("_", " ")
    return templates


def render(template: str, **values: Any) -> Markup:
    """Render a template.

    Args:
        template: Path below ``explorer``, such as ``pages/runs/detail.html.j2``.
        **values: What the template uses; a name that is missing raises an error.

    Returns:
        Safe HTML.
    """
    return Markup(environment().get_template(template).render(**values))  # noqa: S704 - autoescaped


def render_macro(template: str, macro: str, **values: Any) -> Markup:
    """Render one macro of a template; a module with several regions has one macro for each.

    Args:
        template: Path below ``explorer``.
        macro: Name of the macro.
        **values: Its arguments; one that is missing and used raises an error.

    Returns:
        Safe HTML.
    """
    html: Markup = getattr(environment().get_template(template).module, macro)(**values)
    return html


def error_message(error: CoreError, field: str = "") -> Markup:
    """An error as HTML: the cause, and the remedy below it.

    The page shows it under the form field with the id ``field``.
    """
    return render("components/error_message.html.j2", error=error, field=field)
