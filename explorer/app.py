"""The explorer: its pages in order, the address they answer to, and the server that shows them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import gradio as gr
from starlette.routing import BaseRoute

from core.errors import ConfigurationError
from core.formatting import DISCLAIMER
from core.runs.scheduler import Scheduler
from core.runs.store import open_store
from core.workspace import Workspace
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
from explorer.server.store_version import StoreVersion
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
"""Every page by its name in the address, in the order of the tabs."""

HOUR = 3600
_TOP = f"""
<div class="cxr-top"><h1>CXR PEFT Explorer</h1>
<p>{DISCLAIMER}.</p>
<button type="button" class="cxr-button" data-theme-toggle title="Switch the theme">
<span data-theme-label>Light</span></button></div>
"""


def build(workspace: Workspace) -> gr.Blocks:
    """Build the explorer's pages on a workspace, making its store if there is none.

    Raises:
        StoreError: The store cannot be made or read.
    """
    store = open_store(workspace, create=True)
    with gr.Blocks(
        title="CXR PEFT Explorer",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(HOUR, 24 * HOUR),  # exports that were packed for a download
    ) as blocks:
        gr.HTML(_TOP, apply_default_css=False, js_on_load=change_events.ON_LOAD)
        gradio_api.publish(store, workspace)
        with gr.Row(elem_classes="cxr-unseen"):
            pulses = {
                name: gr.HTML(apply_default_css=False, js_on_load=change_events.heard_by(name))
                for name in PAGES
            }
        inboxes = {name: gr.State(None) for name in PAGES}
        with gr.Tabs(elem_id="pages") as tabs:
            context = Context(workspace, store, blocks, tabs, inboxes, pulses)
            for name, page in PAGES.items():
                with gr.Tab(page.TITLE, id=name, elem_id=f"page-{name}") as tab:
                    page.build(context, tab)
                tab.select(None, js="() => window.cxr.opened()")

        def follow_address(request: gr.Request) -> list[Any]:
            return opened(dict(request.query_params))

        blocks.load(
            follow_address,
            outputs=[tabs, *inboxes.values()],
            api_visibility="private",
            show_progress="hidden",
        )
    return blocks


def opened(asked: Mapping[str, str]) -> list[Any]:
    """What the address names: ``?tab=…``, ``?run=…``, ``?compare=a,b``, ``?saliency=run``.

    Args:
        asked: The keys of the page's address.

    Returns:
        The selected tab, and what goes into the inbox of each page.
    """
    wanted: dict[str, Any] = {}
    if asked.get("spec"):
        wanted["launch"] = {"settings": asked["spec"]}
    if asked.get("run"):
        wanted["runs"] = {"run": asked["run"]}
    if asked.get("compare"):
        wanted["compare"] = {"runs": [one for one in asked["compare"].split(",") if one]}
    if asked.get("saliency"):
        wanted["saliency"] = {"run": asked["saliency"], "study": asked.get("study")}
    named: list[str] = [
        name for name in ("saliency", "compare", "runs") if name in wanted and name in PAGES
    ]
    page = asked.get("tab") if asked.get("tab") in PAGES else (named or ["launch"])[0]
    inboxes = [{"serial": 0, **wanted[name]} if name in wanted else gr.skip() for name in PAGES]
    return [gr.Tabs(selected=page), *inboxes]


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
    """Show the explorer and start queued runs until interrupted; runs that have begun go on.

    Args:
        workspace: Where runs are kept.
        host: Address to listen on; the default is reached from this machine only.
        port: Port to listen on, or the next free one.
        browser: Open a browser window.
        slots: Runs at the same time on each device.
        resume_lost: Queue again what is found dead, a few times.
        ready: Told the address once the page is served.

    Raises:
        ConfigurationError: No port is free, or the host is not one of this machine's.
        StoreError: The store cannot be made or read.
    """
    blocks = build(workspace)
    store = open_store(workspace, create=False)
    scheduler = Scheduler(store, workspace, slots=max(1, slots), resume_lost=resume_lost)
    scheduler.step()
    scheduler.start()
    try:
        version = StoreVersion(store)
        routes = [
            runs_json.route(runs_json.Listing(store, version)),
            change_events.route(version),
            documents.route(),
        ]
        port = free_port(host, port)
        url = show(blocks, host=host, port=port, browser=browser, routes=routes)
        ready(f"The explorer is at {url} (workspace {workspace.root}). Ctrl-C ends it; runs go on.")
        blocks.block_thread()
    finally:
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
    """Serve what ``build`` made, dressed as the explorer, and return at once.

    Args:
        blocks: The pages.
        host: Address to listen on.
        port: Port to listen on.
        browser: Open a browser window.
        routes: What is served beside the pages.

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
        _frontend=False,  # else Gradio ends where its page takes more than three seconds to answer
        theme=theme(),
        css_paths=STYLE,
        footer_links=["api"],
        max_file_size="128mb",  # a picture of 6,000 × 6,000 px in 16 bit has 72
        app_kwargs={"middleware": [_middleware()], "routes": list(routes)},
    )
    return str(url)


def _middleware() -> Any:
    from starlette.middleware import Middleware

    return Middleware(Page)


def free_port(host: str, first: int, tries: int = 100) -> int:
    """The first free port of a host, from ``first`` on.

    Raises:
        ConfigurationError: None of ``tries`` ports is free, or the host is not this machine's.
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
        "Choose others with --host and --port.",
    )
