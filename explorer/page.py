"""Gradio's page with the explorer's additions, and the security headers of all pages."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from explorer.templates import render
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
"""Content Security Policy: the browser refuses to load anything from another host."""

SECURITY = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every page that the explorer serves."""

_PROMOTION = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')


class Page:
    """ASGI middleware that changes Gradio's page.

    It adds the explorer's script to the head, where it sets the theme before the first paint,
    removes the tags that refer to other hosts, and sends a policy that forbids loading from them.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
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
            headers = [
                (name, value) for name, value in start["headers"] if name != b"content-length"
            ]
            if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                body = dress(body.decode()).encode()
                headers += [(name.encode(), value.encode()) for name, value in SECURITY.items()]
            headers.append((b"content-length", str(len(body)).encode()))
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, rewrite)


def dress(html: str) -> str:
    """Add the explorer's script and first colours to Gradio's page; remove links to other hosts."""
    script = Markup(SCRIPT.read_text(encoding="utf-8"))  # noqa: S704 - the project's own file
    head = render("page.html.j2", script=script)
    return _PROMOTION.sub("", html).replace("<head>", head, 1)
