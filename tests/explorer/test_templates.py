"""Templates escape values, keep markup, and fail on missing values."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from core.errors import DataError
from explorer.templates import FOLDER, environment, error_message, render_macro


def test_every_template_compiles() -> None:
    names = [str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.html.j2")]
    assert "pages/launch/preview.html.j2" in names
    for name in names:
        environment().get_template(name)


def test_text_is_escaped_and_markup_is_kept() -> None:
    template = "pages/launch/preview.html.j2"
    kept = render_macro(template, "error_panel", message=Markup("<b>x</b>"))
    assert "<b>x</b>" in kept
    escaped = render_macro(template, "error_panel", message="<b>x</b>")
    assert "&lt;b&gt;x" in escaped


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="message"):
        render_macro("pages/launch/preview.html.j2", "error_panel")


def test_an_error_can_name_the_field_it_is_shown_under() -> None:
    error = DataError("No folder.", "Give one.")
    assert 'data-beside="data-root"' in error_message(error, "data-root")
    assert "data-beside" not in error_message(error)
