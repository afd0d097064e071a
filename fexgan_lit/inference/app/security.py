"""What every request must pass, and what every answer carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fexgan_lit.inference.app.config import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Of a request that is no picture, bytes.
MOST_WORDS = 256 << 10
#: What Gradio itself asks of a server it has started.
_STARTED = "/gradio_api/startup-events"
#: Nothing from elsewhere is loaded, nothing inline is run, nobody frames the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}


class Guard:
    """Lets through requests for this page from this page alone.

    Refused are addresses that the page does not have (the many others that Gradio would answer, uploads to disk among
    them), requests that another site sent, and, where only this machine should reach the page, names for it that a
    browser can only have from a foreign name server.

    Args:
        app: what answers.
        is_private: whether only this machine should reach the page.
    """

    def __init__(self, app: ASGIApp, is_private: bool) -> None:
        self.app = app
        self.is_private = is_private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name not in _HEADERS]
                message = {**message, "headers": [*kept, *_HEADERS.items()]}
            await send(message)

        trouble = self.trouble(scope)
        if trouble is None:
            await self.app(scope, receive, dressed)
            return
        await dressed({"type": "http.response.start", "status": trouble, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def trouble(self, scope: Scope) -> int | None:
        """The status to refuse a request with; None where it may pass."""
        path, headers = scope["path"], dict(scope["headers"])
        if not (path == "/" or path == _STARTED or path.startswith(("/page/", "/api/"))):
            return 404
        host = headers.get(b"host", b"").decode("latin-1")
        if self.is_private and host_name(host) not in LOOPBACK:
            return 403
        if headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none") and path != "/":
            return 403
        # a type that no form of another site can send without asking first
        if scope["method"] == "POST" and headers.get(b"content-type") not in (
            b"application/json",
            b"application/octet-stream",
        ):
            return 415
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without the port and the brackets of IPv6.

    >>> host_name("[::1]:7860"), host_name("localhost:7860")
    ('::1', 'localhost')
    """
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
