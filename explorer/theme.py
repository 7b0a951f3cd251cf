"""The explorer's Gradio theme: Gradio's variables refer to those of the explorer's style sheet.

``assets/styles/explorer.css`` defines every colour for the dark and for the light theme; here
Gradio's names refer to them. Fonts are those of the system: no page loads anything from another
host.
"""

from __future__ import annotations

import inspect
from typing import Any

import gradio as gr

from core.workspace import SCRIPTS, STYLES

STYLE = STYLES / "explorer.css"
SCRIPT = SCRIPTS / "explorer.js"

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

_COLOURS = {
    "body_background_fill": "ground",
    "body_text_color": "ink",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "panel",
    "background_fill_secondary": "ground",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "border_color_accent_subdued": "line",
    "color_accent_soft": "raised",
    "link_text_color": "accent",
    "link_text_color_active": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_visited": "accent",
    "code_background_fill": "raised",
    "block_background_fill": "panel",
    "block_border_color": "line",
    "block_info_text_color": "muted",
    "block_label_background_fill": "panel",
    "block_label_border_color": "line",
    "block_label_text_color": "muted",
    "block_title_text_color": "ink",
    "panel_background_fill": "panel",
    "panel_border_color": "line",
    "accordion_text_color": "ink",
    "table_text_color": "ink",
    "table_border_color": "line",
    "table_even_background_fill": "panel",
    "table_odd_background_fill": "panel",
    "table_row_focus": "raised",
    "checkbox_background_color": "field",
    "checkbox_background_color_focus": "field",
    "checkbox_background_color_hover": "field",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "edge",
    "checkbox_border_color_focus": "accent",
    "checkbox_border_color_hover": "accent",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "field",
    "checkbox_label_background_fill_hover": "raised",
    "checkbox_label_background_fill_selected": "chosen",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_selected": "accent",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "input_background_fill": "field",
    "input_background_fill_focus": "field",
    "input_background_fill_hover": "field",
    "input_border_color": "line",
    "input_border_color_focus": "accent",
    "input_border_color_hover": "edge",
    "input_placeholder_color": "muted",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-strong",
    "button_primary_border_color": "accent",
    "button_primary_text_color": "on-accent",
    "button_primary_text_color_hover": "on-accent",
    "button_secondary_background_fill": "raised",
    "button_secondary_background_fill_hover": "line",
    "button_secondary_border_color": "line",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "button_cancel_background_fill": "panel",
    "button_cancel_background_fill_hover": "raised",
    "button_cancel_border_color": "bad",
    "button_cancel_text_color": "bad",
    "button_cancel_text_color_hover": "bad",
    "error_background_fill": "panel",
    "error_border_color": "bad",
    "error_text_color": "bad",
    "error_icon_color": "bad",
}

_MEASURES = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_radius": "8px",
    "block_label_border_width": "0px",
    "block_title_text_weight": "500",
    "block_title_text_size": "13px",
    "block_info_text_size": "12.5px",
    "body_text_size": "14px",
    "input_text_size": "14px",
    "input_padding": "7px 10px",
    "input_radius": "6px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "checkbox_label_padding": "6px 10px",
    "checkbox_label_text_size": "14px",
    "checkbox_label_border_width": "1px",
    "checkbox_label_shadow": "none",
    "form_gap_width": "0px",
    "layout_gap": "14px",
    "container_radius": "8px",
    "button_large_padding": "9px 18px",
    "button_large_radius": "6px",
    "button_large_text_size": "15px",
    "button_small_radius": "6px",
    "button_medium_radius": "6px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_transition": "background-color .12s",
}


def theme() -> gr.themes.Base:
    """The Gradio theme; its light and its dark variables refer to those of the style sheet."""
    values: dict[str, Any] = {**_MEASURES, "color_accent": "var(--cxr-accent)"}
    for name, variable in _COLOURS.items():
        values[name] = values[f"{name}_dark"] = f"var(--cxr-{variable})"
    base = gr.themes.Base(
        font=[gr.themes.Font(name) for name in _FONT],
        font_mono=[gr.themes.Font(name) for name in _MONO],
        radius_size="md",
        spacing_size="md",
        text_size="md",
    )
    known = inspect.signature(base.set).parameters  # not all variables have one for dark
    themed: gr.themes.Base = base.set(**{k: v for k, v in values.items() if k in known})
    return themed
