import asyncio
import re
from typing import Any

from explorer.page import POLICY, Page, dress
from explorer.theme import SCRIPT

GRADIO = (
    "<html><head><meta charset='utf-8'>"
    '<meta property="og:image" content="https://example.org/a.png" />'
    '<meta name="twitter:creator" content="@x" /></head><body></body></html>'
)


def answer(path: str, body: bytes, kind: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The middleware's answer for an application that answers in two parts."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:20], "more_body": True})
        await send({"type": "http.response.body", "body": body[20:]})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Page(app)({"type": "http", "path": path}, None, send))
    parts = [m.get("body", b"") for m in sent if m["type"] == "http.response.body"]
    return dict(sent[0]["headers"]), b"".join(parts)


def test_the_page_refers_to_no_other_host() -> None:
    html = dress(GRADIO).replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://", html)


def test_the_script_runs_before_the_first_paint() -> None:
    html = dress(GRADIO)
    assert SCRIPT.read_text() in html
    assert html.index("cxr-theme") < html.index("charset")


def test_the_page_forbids_loading_from_elsewhere() -> None:
    headers, body = answer("/", GRADIO.encode(), b"text/html; charset=utf-8")
    assert headers[b"content-security-policy"].decode() == POLICY
    assert int(headers[b"content-length"]) == len(body)
    assert body == dress(GRADIO).encode()
    assert "http" not in POLICY


def test_other_answers_are_unchanged() -> None:
    for path, kind in (("/", b"application/json"), ("/assets/x.html", b"text/html")):
        headers, body = answer(path, GRADIO.encode(), kind)
        assert body == GRADIO.encode()
        assert b"content-security-policy" not in headers
