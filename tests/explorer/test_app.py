import socket

import gradio as gr
import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.runs.store import open_store
from core.workspace import Workspace
from explorer import app

PUBLIC = {"submit", "runs", "run", "stop", "resume", "delete", "export"}


def test_only_the_documented_endpoints_are_public(workspace: Workspace) -> None:
    blocks = app.build(workspace)
    named = blocks.get_api_info()["named_endpoints"]
    assert {name.strip("/") for name in named} >= PUBLIC
    listeners = [fn for fn in blocks.fns.values() if fn.api_visibility == "public"]
    for listener in listeners:
        assert listener.api_name, f"{listener.fn} is public without a name"
    assert len(listeners) == len(named)


def test_no_event_keeps_two_handlers_running(workspace: Workspace) -> None:
    """Two slow handlers of one event would start each other for ever: see ``after``."""
    blocks = app.build(workspace)
    handlers: dict[tuple[str, str], set[int]] = {}
    for listener in blocks.fns.values():
        slow = listener.fn is not None and listener.trigger_mode == "always_last"
        for block, event in listener.targets if slow else ():
            part = blocks.blocks.get(block)
            # What follows a state, a load or another handler is started alone.
            if part is not None and event != "load" and not isinstance(part, gr.State):
                handlers.setdefault((str(part.elem_id or block), event), set()).add(listener._id)
    assert ("page-saliency", "select") in handlers
    assert not {event: found for event, found in handlers.items() if len(found) > 1}


def test_pages_are_in_their_order(workspace: Workspace) -> None:
    config = app.build(workspace).get_config_file()
    tabs = [c["props"]["id"] for c in config["components"] if c["type"] == "tabitem"]
    assert tabs == list(app.PAGES)


def test_the_disclaimer_is_on_the_page(workspace: Workspace) -> None:
    config = app.build(workspace).get_config_file()
    texts = [str(c["props"].get("value", "")) for c in config["components"]]
    assert any("For research and education, not for clinical use" in text for text in texts)


def test_the_address_opens_the_page_it_names() -> None:
    def opened(**query: str) -> tuple[str, dict[str, dict[str, object]]]:
        tabs, *inboxes = app.open_address(query)
        filled = dict(zip(app.PAGES, inboxes, strict=True))
        return tabs.selected, {k: v for k, v in filled.items() if "serial" in v}

    assert opened() == ("launch", {})
    assert opened(run="abc") == ("runs", {"runs": {"serial": 0, "run": "abc"}})
    page, wanted = opened(run="abc", tab="launch")
    assert page == "launch"
    assert wanted["runs"]["run"] == "abc"
    assert opened(tab="nonsense")[0] == "launch"


def test_the_app_creates_the_store(workspace: Workspace) -> None:
    app.build(workspace)
    store = open_store(workspace, create=False)
    before = store.version()
    store.create(RunSpec())
    assert store.version() != before


def test_the_next_port_is_used_if_one_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.free_port("127.0.0.1", port) > port


def test_a_host_of_another_machine_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="--host"):
        app.free_port("203.0.113.7", 7860, tries=2)
