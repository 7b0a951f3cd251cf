"""The explorer: its pages in order, what an address opens, and the server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from core.errors import ConfigurationError
from core.experiments.tune.background import BackgroundTunings
from core.formatting import DISCLAIMER
from core.runs.scheduler import Scheduler
from core.runs.store import open_store
from core.workspace import Workspace
from explorer.components.model_cache import model_cache
from explorer.context import Context
from explorer.page import Page
from explorer.pages.compare import page as compare
from explorer.pages.data import page as data
from explorer.pages.help import documents
from explorer.pages.help import page as help
from explorer.pages.launch import page as launch
from explorer.pages.paper import page as paper
from explorer.pages.runs import page as runs
from explorer.pages.saliency import page as saliency
from explorer.server import change_events, gradio_api, runs_json
from explorer.server.hit_rates import BackgroundHitRates
from explorer.server.store_version import StoreVersion
from explorer.templates import render
from explorer.theme import STYLE, theme

PAGES: dict[str, ModuleType] = {
    "launch": launch,
    "runs": runs,
    "compare": compare,
    "saliency": saliency,
    "data": data,
    "paper": paper,
    "help": help,
}
"""The pages by their names in the address, in the order of the tabs."""

HOUR = 3600
PLOTLY = Mount("/plotly", StaticFiles(packages=[("plotly", "package_data")]))
"""Serves ``plotly.min.js`` from the package plotly, for the charts."""


def build(workspace: Workspace) -> gr.Blocks:
    """Build the explorer's pages for a workspace; its store is created if there is none.

    Raises:
        StoreError: The store cannot be created or read.
    """
    store = open_store(workspace, create=True)
    with gr.Blocks(
        title="CXR PEFT Explorer",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(HOUR, 24 * HOUR),  # packed exports for download
    ) as blocks:
        gr.HTML(
            render("app.html.j2", disclaimer=DISCLAIMER),
            apply_default_css=False,
            js_on_load=change_events.POLL_SCRIPT,
        )
        gradio_api.publish(store, workspace)
        with gr.Row(elem_classes="cxr-unseen"):
            pulses = {
                name: gr.HTML(
                    apply_default_css=False, js_on_load=change_events.listener_script(name)
                )
                for name in PAGES
            }
        inboxes = {name: gr.State(None) for name in PAGES}
        with gr.Tabs(elem_id="pages") as tabs:
            context = Context(workspace, store, blocks, tabs, inboxes, pulses)
            for name, page in PAGES.items():
                with gr.Tab(page.TITLE, id=name, elem_id=f"page-{name}") as tab:
                    page.build(context, tab)
                tab.select(None, js="() => window.cxr.opened()")

        blocks.load(
            _open_address,
            outputs=[tabs, *inboxes.values()],
            api_visibility="private",
            show_progress="hidden",
        )
    return blocks


def open_address(query: Mapping[str, str]) -> list[Any]:
    """Open the page that an address names, and send it the request in the address.

    Args:
        query: Keys of the address: ``?tab=…``, ``?run=…``, ``?tuning=…``, ``?compare=a,b``,
            ``?saliency=run``, ``?spec=…``.

    Returns:
        The selected tab, and the requests for the inboxes of all pages.
    """
    requests: dict[str, Any] = {}
    if query.get("spec"):
        requests["launch"] = {"settings": query["spec"]}
    if query.get("run") or query.get("tuning"):
        requests["runs"] = {key: query[key] for key in ("run", "tuning") if query.get(key)}
    if query.get("compare"):
        requests["compare"] = {"runs": [run for run in query["compare"].split(",") if run]}
    if query.get("saliency"):
        requests["saliency"] = {"run": query["saliency"], "study": query.get("study")}
    page = query.get("tab")
    if page not in PAGES:
        page = next(
            (name for name in ("saliency", "compare", "runs") if name in requests), "launch"
        )
    inboxes = [{"serial": 0, **requests[name]} if name in requests else gr.skip() for name in PAGES]
    return [gr.Tabs(selected=page), *inboxes]


def _open_address(request: gr.Request) -> list[Any]:
    return open_address(dict(request.query_params))


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    browser: bool = True,
    slots: int = 1,
    resume_lost: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the explorer, start queued runs and run tunings until interrupted.

    Running runs continue; tunings continue at the next start.

    Args:
        workspace: Place of the runs.
        host: Address to listen on; the default is reachable from this machine only.
        port: Port to listen on, or the next free one.
        browser: Open a browser window.
        slots: Runs at the same time on each device.
        resume_lost: Queue runs again whose process has died, a few times.
        ready: Called with a message that contains the address once the page is served.

    Raises:
        ConfigurationError: No port is free, or the host is not one of this machine's.
        StoreError: The store cannot be created or read.
    """
    blocks = build(workspace)
    store = open_store(workspace, create=False)
    scheduler = Scheduler(store, workspace, slots=max(1, slots), resume_lost=resume_lost)
    scheduler.step()
    scheduler.start()
    tunings = BackgroundTunings(store, workspace)
    tunings.start()
    rates = BackgroundHitRates(store, model_cache(workspace, store))
    rates.start()
    try:
        version = StoreVersion(store)
        routes = [
            runs_json.route(runs_json.Listing(store, version)),
            change_events.route(version),
            documents.route(),
        ]
        port = free_port(host, port)
        url = show(blocks, host=host, port=port, browser=browser, routes=routes)
        ready(
            f"The explorer is at {url} (workspace {workspace.root}). Press Ctrl-C to stop it; "
            "running runs continue."
        )
        blocks.block_thread()
    finally:
        rates.stop()
        tunings.stop()
        scheduler.stop()
        blocks.close(verbose=False)


def show(
    blocks: gr.Blocks,
    *,
    host: str,
    port: int,
    browser: bool = False,
    routes: Sequence[BaseRoute] = (),
) -> str:
    """Serve the pages that ``build`` made, with the explorer's theme, and return at once.

    Args:
        blocks: The pages.
        host: Address to listen on.
        port: Port to listen on.
        browser: Open a browser window.
        routes: Further routes of the server.

    Returns:
        Its address.
    """
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        quiet=True,
        prevent_thread_lock=True,
        share=False,
        ssr_mode=False,
        run_history=False,
        _frontend=False,  # otherwise Gradio exits if its page takes more than three seconds
        theme=theme(),
        css_paths=STYLE,
        footer_links=["api"],
        max_file_size="128mb",  # an image of 6,000 × 6,000 px with 16 bits has 72
        app_kwargs={"middleware": [Middleware(Page)], "routes": [PLOTLY, *routes]},
    )
    return str(url)


def free_port(host: str, first: int, tries: int = 100) -> int:
    """The first free port of a host, from ``first`` on.

    Raises:
        ConfigurationError: None of the ports is free, or the host is not one of this machine's.
    """
    problem: OSError | None = None
    for port in range(first, min(first + tries, 65536)):
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return port
        except OSError as error:
            problem = error
    raise ConfigurationError(
        f"No port from {first} on can be opened on {host} ({problem}).",
        "Choose another address with --host and --port.",
    )
