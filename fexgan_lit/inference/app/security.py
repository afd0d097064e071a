"""The checks of every request, and the security headers of every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fexgan_lit.inference.app.config import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Largest size in bytes of a request that is not an upload.
MOST_WORDS = 256 << 10
#: The address that Gradio requests after it has started a server.
_STARTED = "/gradio_api/startup-events"
#: Forbids other origins, inline scripts, and frames around the page.
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
    """ASGI middleware that accepts only requests from the page itself.

    It rejects unknown paths (Gradio would serve many others, including uploads to disk) and requests from other sites.
    If only this machine may reach the page, it also rejects unknown host names, which prevents DNS rebinding.

    Args:
        app: the application.
        is_private: whether only this machine may reach the page.
    """

    def __init__(self, app: ASGIApp, is_private: bool) -> None:
        self.app = app
        self.is_private = is_private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application, or reject it."""
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
        """Return the HTTP status of a rejected request, or None."""
        path, headers = scope["path"], dict(scope["headers"])
        if not (path == "/" or path == _STARTED or path.startswith(("/page/", "/api/"))):
            return 404
        host = headers.get(b"host", b"").decode("latin-1")
        if self.is_private and host_name(host) not in LOOPBACK:
            return 403
        if headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none") and path != "/":
            return 403
        # HTML forms of other sites cannot send these types without a CORS preflight
        if scope["method"] == "POST" and headers.get(b"content-type") not in (
            b"application/json",
            b"application/octet-stream",
        ):
            return 415
        return None


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port and the brackets of IPv6.

    >>> host_name("[::1]:7860"), host_name("localhost:7860")
    ('::1', 'localhost')
    """
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
