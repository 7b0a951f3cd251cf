"""The controls of the Saliency page: choices on the left, uploads and downloads below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.saliency.methods.registry import SALIENCY_METHODS, method_title
from explorer.components import study_list, viewer
from explorer.components.live_region import live
from explorer.pages.saliency import download
from explorer.pages.saliency.view import DEFAULT_LAYER, NONE

FILTERS = {"all": "All", "present": "With the finding", "marked": "With box or mask"}


@dataclass(frozen=True)
class Controls:
    """The choices of the page."""

    run: gr.Dropdown
    others: gr.Dropdown
    finding: gr.Dropdown
    which: gr.Radio
    order: gr.Dropdown
    study: gr.Dropdown
    method: gr.Dropdown
    layer: gr.Dropdown
    difference: gr.Dropdown
    listed: gr.State
    upload: gr.State

    @classmethod
    def layout(cls) -> Controls:
        """Lay out the controls where this is called."""
        return cls(
            run=gr.Dropdown([], label="Run", elem_id="saliency-run"),
            others=gr.Dropdown(
                [],
                label="Compare with",
                info="Up to five more runs on the same study.",
                multiselect=True,
                max_choices=viewer.MAX_VIEWS - 1,
                elem_id="saliency-others",
            ),
            finding=gr.Dropdown([], label="Finding", elem_id="saliency-finding"),
            which=gr.Radio(
                [(title, name) for name, title in FILTERS.items()],
                value="present",
                label="Studies",
                elem_id="saliency-which",
            ),
            order=gr.Dropdown(
                study_list.orders([]), value="listed", label="Order", elem_id="saliency-order"
            ),
            study=gr.Dropdown([], label="Study", allow_custom_value=True, elem_id="saliency-study"),
            method=gr.Dropdown(
                [(method_title(name), name) for name in SALIENCY_METHODS],
                value=next(iter(SALIENCY_METHODS)),
                label="Method",
                elem_id="saliency-method",
            ),
            layer=gr.Dropdown([DEFAULT_LAYER], value="", label="Layer", elem_id="saliency-layer"),
            difference=gr.Dropdown(
                [NONE],
                value="",
                label="Difference map",
                info="Where the map of one run is higher than that of another.",
                visible=False,
                elem_id="saliency-apart",
            ),
            listed=gr.State([]),
            upload=gr.State(None),
        )

    @property
    def filters(self) -> list[Any]:
        """Inputs that determine which studies are listed."""
        return [self.run, self.others, self.finding, self.which, self.order, self.study]

    @property
    def choices(self) -> list[Any]:
        """Outputs that change with the run and the filters."""
        return [self.run, self.others, self.finding, self.study, self.order, self.listed]

    @property
    def selection(self) -> list[Any]:
        """Inputs that determine what is shown."""
        return [
            self.run, self.others, self.study, self.finding, self.method, self.layer,
            self.difference, self.upload,
        ]  # fmt: skip


@dataclass(frozen=True)
class UploadPanel:
    """Uploads of images, and downloads of maps."""

    upload: gr.UploadButton
    keep: gr.Button
    saves: dict[str, gr.Button]
    file: gr.DownloadButton
    message: gr.HTML
    similarity: gr.HTML

    @classmethod
    def layout(cls) -> UploadPanel:
        """Lay out the panel where this is called."""
        upload = gr.UploadButton(
            "Open your own image", size="sm", min_width=80, elem_id="saliency-upload"
        )
        similarity = live(elem_id="saliency-likeness")
        keep = gr.Button(
            "Keep the image", size="sm", visible=False, min_width=80, elem_id="saliency-keep"
        )
        with gr.Row():
            saves = {
                kind: gr.Button(
                    f"Save {title}", size="sm", min_width=80, elem_id=f"saliency-{kind}"
                )
                for kind, title in download.KINDS.items()
            }
        file = gr.DownloadButton(
            "Download as zip", size="sm", visible=False, variant="primary", elem_id="saliency-file"
        )
        return cls(upload, keep, saves, file, live(elem_id="saliency-said"), similarity)
