"""The page that carries the explorer: what is added to Gradio's, and what it may load."""

from __future__ import annotations

import re
from typing import Any

from explorer.theme import SCRIPT

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'self'",
    )
)
"""Content Security Policy: the browser itself refuses to load anything from another host."""

SECURITY = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every page that the explorer serves."""

_EARLY = """
<style>
html[data-cxr="dark"], html[data-cxr="dark"] body { background: #0e1217; color: #e4e9f0 }
html[data-cxr="light"], html[data-cxr="light"] body { background: #f4f6f8; color: #18212d }
</style>
"""
_PROMOTION = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')


class Page:
    """ASGI middleware that serves the explorer's page.

    It puts the explorer's script into the head, where it sets the theme before anything is drawn,
    removes the tags that point at other hosts, and sends a policy that forbids loading from them.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http" or scope["path"] not in ("", "/"):
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def rewrite(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts)
            headers = [one for one in start["headers"] if one[0] != b"content-length"]
            if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                body = dress(body.decode()).encode()
                headers += [(k.encode(), v.encode()) for k, v in SECURITY.items()]
            headers.append((b"content-length", str(len(body)).encode()))
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, rewrite)


def dress(html: str) -> str:
    """Add the explorer's script and first colours to Gradio's page; drop what points outside."""
    html = _PROMOTION.sub("", html)
    script = f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"
    return html.replace("<head>", f"<head>{_EARLY}{script}", 1)
