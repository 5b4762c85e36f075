"""Puts the page's own style and script before Gradio's scripts in the document that its server sends.

Gradio's `head=` reaches the document only after it has chosen language and colours, which the script has to say first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FIRST_SCRIPT = b"<script"


@dataclass(slots=True)
class Head:
    """ASGI middleware: inserts `html` before the first script of an HTML document."""

    app: ASGIApp
    html: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def collect(message: Message) -> None:
            """Holds an HTML document back until it is whole; its length changes."""
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            whole = body.replace(_FIRST_SCRIPT, self.html.encode() + _FIRST_SCRIPT, 1)
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            if body:
                headers.append((b"content-length", str(len(whole)).encode()))
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, collect)


def _is_page(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    return headers.get(b"content-type", b"").startswith(b"text/html") and b"content-encoding" not in headers
