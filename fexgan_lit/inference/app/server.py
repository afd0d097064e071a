"""The web server of the page: routes of requests to handlers."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.inference.app.config import LOOPBACK, ExploreSettings
from fexgan_lit.inference.app.security import MOST_WORDS, Guard
from fexgan_lit.inference.app.session import GONE, GoneError
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import without_paths

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from fastapi import FastAPI, Request, Response

    from fexgan_lit.inference.app.session import Session

PAGE = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: Seconds between checks whether the server has started, and the longest wait for open requests when it stops.
_POLL_S, _PATIENCE_S = 0.01, 3.0
#: Largest number of active and waiting requests of each kind.
MOST_STILLS, MOST_FILMS, MOST_UPLOADS = 128, 2, 4
#: Largest number of worker threads for each kind, and the seconds within which a body must arrive.
_THREADS, _BODY_S = 10, 120
_LOG = logging.getLogger(__name__)


def add_page(app: FastAPI, session: Session, settings: ExploreSettings) -> None:
    """Add the page, its routes and a `Guard` to `app`."""
    from fastapi import Response

    from fexgan_lit.inference.app import handlers as answers

    files = {path.name: path for path in PAGE.iterdir() if path.suffix in _TYPES}
    app.add_middleware(Guard, is_private=settings.is_private)

    @app.get("/")
    def page() -> Response:
        return Response(files["index.html"].read_bytes(), media_type="text/html")

    @app.get("/page/{name}")
    def part(name: str) -> Response:
        if name not in files:
            return Response(status_code=404)
        return Response(files[name].read_bytes(), media_type=_TYPES[files[name].suffix])

    app.get("/api/about")(session.about)
    app.get("/api/faces")(partial(answers.gallery, session))
    stills, films, pictures = Room(MOST_STILLS, 1), Room(MOST_FILMS, 10), Room(MOST_UPLOADS, 2)
    asked = {
        "paint": (answers.paint, stills), "read": (answers.read, stills), "source": (answers.source, stills),
        "characters": (answers.characters, stills), "map": (answers.expression_map, stills),
        "save": (answers.save, stills), "crop": (answers.crop, pictures), "photo": (answers.photo, films),
        "preview": (answers.preview, films), "export": (answers.export, films),
    }  # fmt: skip
    for name, (answer, room) in asked.items():
        app.post(f"/api/{name}")(_answering(partial(answer, session), room))
    app.post("/api/upload")(_receiving(partial(answers.receive, session), pictures))


class Room:
    """A limit on active and waiting requests of a kind; further requests are told to retry later.

    Args:
        most: largest number of requests.
        again_s: seconds after which a client should retry.
    """

    def __init__(self, most: int, again_s: int) -> None:
        self.most = most
        self.again_s = again_s
        self.taken = 0
        self._threads: CapacityLimiter | None = None

    async def answer(
        self, body: Awaitable[bytes | UserError], request: Request, work: Callable[[Any], Any]
    ) -> Response:
        """Run `work` on the body in a thread; the event in `GONE` is set if the client disconnects."""
        import anyio
        from anyio import to_thread
        from fastapi.responses import JSONResponse

        self._threads = self._threads or anyio.CapacityLimiter(min(self.most, _THREADS))
        gone, content = threading.Event(), None
        GONE.set(gone)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone.set()

        self.taken += 1
        try:
            with anyio.move_on_after(_BODY_S):
                content = await body
            if content is None:
                return JSONResponse({"error": f"The request did not arrive within {_BODY_S} s."}, 408)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                answer = await to_thread.run_sync(_told, lambda: work(content), limiter=self._threads)
                tasks.cancel_scope.cancel()
        finally:
            self.taken -= 1
        return answer

    def busy(self) -> Response | None:
        """Return the response to a request above the limit (status 503), or None if there is room."""
        from fastapi.responses import JSONResponse

        if self.taken < self.most:
            return None
        words = {"error": "The page is busy with other requests; try again in a moment."}
        return JSONResponse(words, 503, {"retry-after": str(self.again_s)})


def _answering(answer: Callable[[Any], Any], room: Room) -> Callable[..., Any]:
    """Return a route handler that parses JSON; it responds with JSON or a file."""

    async def handle(request: Request) -> Response:
        message = f"expected at most {MOST_WORDS >> 10} KiB of JSON"
        return room.busy() or await room.answer(
            _body(request, MOST_WORDS, message), request, lambda body: answer(_parsed(body))
        )

    return _typed_for_fastapi(handle)


def _receiving(receive: Callable[[bytes], Any], room: Room) -> Callable[..., Any]:
    """Return a route handler for an image's bytes; it stops reading at the size limit."""

    async def handle(request: Request) -> Response:
        from fexgan_lit.inference.app.requests import MOST_BYTES, too_large

        message = too_large(_declared(request) or MOST_BYTES + 1)
        return room.busy() or await room.answer(
            _body(request, MOST_BYTES, message), request, lambda body: receive(_whole(body))
        )

    return _typed_for_fastapi(handle)


def _typed_for_fastapi(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Annotate `handle` with the type itself, because FastAPI would look up its name in this module."""
    from fastapi import Request

    handle.__annotations__ = {"request": Request}
    return handle


async def _body(request: Request, most: int, message: str) -> bytes | UserError:
    """Read the body, or return an error with `message` if it is longer than `most` bytes."""
    if (_declared(request) or 0) > most:
        return UserError(message)
    parts, held = [], 0
    async for part in request.stream():
        held += len(part)
        if held > most:
            return UserError(message)
        parts.append(part)
    return b"".join(parts)


def _declared(request: Request) -> int | None:
    """Return the length in the content-length header, or None."""
    said = request.headers.get("content-length", "")
    return int(said[:19]) if said.isdecimal() else None  # limits the number of digits


def _whole(body: bytes | UserError) -> bytes:
    if isinstance(body, UserError):
        raise body
    return body


def _parsed(body: bytes | UserError) -> Any:
    try:
        return json.loads(_whole(body))
    except (ValueError, RecursionError) as error:
        raise UserError("expected JSON") from error


def _told(answer: Callable[[], Any]) -> Response:
    """Call `answer` and return its response: 400 for a UserError, 500 without details for any other error."""
    from fastapi import Response
    from fastapi.responses import JSONResponse

    try:
        found = answer()
    except GoneError:
        return Response(status_code=503)  # the client has disconnected
    except UserError as error:
        # JSON may contain a lone surrogate, which cannot be encoded
        message = without_paths(str(error)).encode("utf-8", "replace").decode()
        return JSONResponse({"error": message}, status_code=400)
    except Exception:
        _LOG.exception("a request of the page failed")
        return JSONResponse({"error": "The request failed; the terminal shows why."}, status_code=500)
    if isinstance(found, tuple):
        data, kind, name = found
        return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
    return JSONResponse(found)


# ---------------------------------------------------------------------- starting the server


def free_port(settings: ExploreSettings) -> int:
    """Return the port of the settings if it is free, or any free port if it is 0.

    Raises:
        UserError: the port is in use or not permitted, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except PermissionError as error:
            raise UserError(f"port={settings.port}: ports below 1024 need special rights; try port=7860") from error
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise UserError(
                    f"host={settings.host} is not an address of this machine; expected 127.0.0.1 or 0.0.0.0"
                ) from error
            raise UserError(
                f"port={settings.port} on host={settings.host} cannot be used: {error.strerror}. Another page may "
                f"use it; try port={settings.port + 1 if settings.port < 65535 else 7860}, or port=0 for any free port"
            ) from error
        return int(probe.getsockname()[1])


def keep_to_itself(folder: Path) -> None:
    """Configure Gradio, before it is imported, to send no telemetry and to keep its files in `folder`."""
    os.environ.update({"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder), "HF_HUB_OFFLINE": "1"})
    for name in ("no_proxy", "NO_PROXY"):  # Gradio sends requests to its own server
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))


def start(session: Session, settings: ExploreSettings, port: int) -> Any:
    """Serve the page in a thread.

    Returns:
        The server, with its addresses ``local_url`` and ``share_url``; ``close()`` stops it.

    Raises:
        UserError: another process took the port meanwhile.
    """
    if settings.share:
        return share(session, settings, port)
    from fastapi import FastAPI

    app = FastAPI(title="fexgan_lit explore", docs_url=None, redoc_url=None, openapi_url=None)
    add_page(app, session, settings)
    return Served(app, settings.host, port)


class Served:
    """A page that is served by a thread.

    Attributes:
        local_url: the address of the page.
        share_url: None; only Gradio's server has a public address.

    Raises:
        UserError: another process took the port meanwhile.
    """

    share_url = None

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        import uvicorn

        self.local_url = f"http://{host}:{port}/"
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise UserError(f"port={port} was taken while the page was starting; try again, or port=0")
            time.sleep(_POLL_S)

    def close(self, verbose: bool = False) -> None:
        """Stop the server; active requests have 3 s to finish."""
        self._server.should_exit = True
        self._thread.join(timeout=_PATIENCE_S)


def share(session: Session, settings: ExploreSettings, port: int) -> Any:
    """Serve the page through Gradio's public tunnel. Importing Gradio takes seconds, so only `share=true` does it.

    Raises:
        UserError: another process took the port meanwhile.
    """
    keep_to_itself(session.folder)
    os.environ.pop("HF_HUB_OFFLINE")
    from gradio import Server

    app = Server(title="fexgan_lit explore", docs_url=None, redoc_url=None, openapi_url=None)
    add_page(app, session, settings)
    try:
        app.launch(
            server_name=settings.host, server_port=port, share=True, prevent_thread_lock=True, quiet=True,
            show_error=False, ssr_mode=False, run_history=False, enable_monitoring=False, num_workers=0,
            mcp_server=False, pwa=False, inbrowser=False, _frontend=False,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"port={port} was taken while the page was starting; try again, or port=0") from error
    return app.get_blocks()
