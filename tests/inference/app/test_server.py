"""The server without a browser: addresses, limits, refusals."""

from __future__ import annotations

import json
import logging
import socket
import threading

import pytest

from fexgan_lit.inference.app import handlers, server
from fexgan_lit.inference.app import requests as uploads
from fexgan_lit.inference.app.config import ExploreSettings, explore_settings
from fexgan_lit.inference.app.security import MOST_WORDS
from fexgan_lit.inference.app.server import add_page, free_port
from fexgan_lit.utils.errors import UserError
from tests.inference.app.pictures import bomb, encoded, halves

BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
def client(session):
    return page_of(session("fexgan"))


def page_of(session):
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_page(app, session, ExploreSettings())
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_the_page_and_its_parts_load_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    names = [path.name for path in server.PAGE.iterdir()]
    assert {"index.html", "app.js", "style.css", "icon.svg"} <= set(names)
    for name in names:
        part = client.get(f"/page/{name}")
        assert part.status_code == 200
        assert "http://" not in part.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in part.text
    for outside in ("/page/..%2f..%2fexplore.py", "/page/server.py", "/explore.py", "/gradio_api/upload", "/docs"):
        assert client.get(outside).status_code == 404


def test_uploads_are_judged_by_content(client, tmp_path):
    taken = client.post("/api/upload", content=encoded(halves()), headers=BYTES)
    assert taken.status_code == 200
    assert taken.json()["faces"][0]["id"].startswith("upload:")
    for data, reason in ((b"text", "not a PNG"), (bomb(), "more than the 40 megapixels"), (b"", "empty file")):
        refused = client.post("/api/upload", content=data, headers=BYTES)
        assert refused.status_code == 400
        assert reason in refused.json()["error"]
    assert not list(tmp_path.iterdir())


def test_a_long_body_is_not_read_to_its_end(client, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 1000)
    declared = client.post("/api/upload", content=bytes(2000), headers=BYTES)
    assert "MiB; expected at most" in declared.json()["error"]
    read = []

    def endless():
        for _ in range(50):
            read.append(1)
            yield bytes(100)

    undeclared = client.post("/api/upload", content=endless(), headers=BYTES)
    assert undeclared.status_code == 400
    long = client.post("/api/paint", content=b" " * (MOST_WORDS + 1), headers={"content-type": "application/json"})
    assert "256 KiB of JSON" in long.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"\xff", b"[" * 100_000, b'{"face": 3}', b"null", b'{"face": "cast:zoe"}',
        b'{"face": "cast:nora", "weights": {"joy": 1' + b"0" * 400 + b"}}",
        b'{"face": "cast:nora", "weights": {"joy": 1' + b"0" * 5000 + b"}}",
        b'{"face": "cast:nora", "weights": {"\\ud800": 1}}', b'{"face": "cast:\\ud800"}', b'{"face": "\\ud800"}',
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_nonsense_is_a_users_mistake(client, body):
    answer = client.post("/api/paint", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("room", "name", "other"), [("MOST_FILMS", "preview", "paint"), ("MOST_STILLS", "paint", "map")]
)
def test_who_comes_to_a_full_room_is_asked_to_come_again(session, monkeypatch, room, name, other):
    entered, leave = threading.Event(), threading.Event()

    def slow(session, tree):
        entered.set()
        assert leave.wait(60)
        return {"done": True}

    monkeypatch.setattr(server, room, 1)
    monkeypatch.setattr(handlers, name, slow)
    monkeypatch.setattr(handlers, "paint" if other == "paint" else "expression_map", lambda session, tree: {})
    client, answers = page_of(session("fexgan")), []
    first = threading.Thread(target=lambda: answers.append(client.post(f"/api/{name}", json={})))
    first.start()
    assert entered.wait(60)
    refused = client.post(f"/api/{name}", json={})
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
    assert "The page is busy" in refused.json()["error"]
    assert client.post(f"/api/{other}", json={}).status_code == (200 if room == "MOST_FILMS" else 503)
    leave.set()
    first.join()
    assert answers[0].json() == {"done": True}
    assert client.post(f"/api/{name}", json={}).status_code == 200, "there is room again"


def test_a_film_that_nobody_waits_for_is_not_painted_to_its_end(session, monkeypatch):
    import anyio

    one = session("fexgan")
    painted, paint = [], one.app_models[0].paint
    monkeypatch.setattr(one.app_models[0], "paint", lambda *given: painted.append(1) or paint(*given))
    keyframes = [{"time": time, "weights": {affect: 1}} for time, affect in ((0, "joy"), (7.9, "fear"))]
    film = json.dumps({"face": "cast:nora", "keyframes": keyframes, "fps": 30}).encode()
    arriving = [{"type": "http.request", "body": film, "more_body": False}]
    scope = {"type": "http", "method": "POST", "path": "/api/preview", "raw_path": b"/api/preview", "query_string": b"",
             "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]}  # fmt: skip

    async def receive():
        if arriving:
            return arriving.pop()
        while not painted:
            await anyio.sleep(0.001)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    anyio.run(page_of(one).app, scope, receive, send)
    assert 0 < len(painted) < 60, "four frames at a time, 238 in all"


def test_an_internal_error_says_nothing_of_the_machine(client, monkeypatch, caplog):
    from fexgan_lit.inference.app.session import Session

    def broken(self, *_):
        raise OSError("/home/me/secret")

    monkeypatch.setattr(Session, "source_face", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/api/paint", json={"face": "cast:nora"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "The request failed; the terminal shows why."}
    assert "/home/me/secret" in caplog.text


def test_a_film_comes_as_a_file(client):
    keyframes = [{"time": 0, "weights": {"neutral": 1}}, {"time": 0.5, "weights": {"joy": 1}}]
    answer = client.post("/api/export", json={"face": "cast:nora", "keyframes": keyframes, "fps": 4, "format": "gif"})
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["content-disposition"] == 'attachment; filename="expression.gif"'
    assert answer.content[:4] == b"GIF8"


def test_a_port_in_use(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port={port} on host=127.0.0.1 cannot be used: Address already in use"):
            free_port(ExploreSettings(port=port))
    assert free_port(ExploreSettings(port=0)) > 0
    with pytest.raises(UserError, match=r"host=192\.0\.2\.1 is not an address of this machine"):
        free_port(ExploreSettings(host="192.0.2.1"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 70000}, "port=70000: expected a number from 1 to 65535, or 0"),
        ({"port": "many"}, "port=many"),
        ({"host": " "}, "host is empty"),
        ({"device": "tpu"}, "device=tpu: expected one of auto, cpu"),
    ],
)
def test_options_that_cannot_be_used(values, message):
    with pytest.raises(UserError, match=message):
        explore_settings(values)


def test_who_can_reach_the_page():
    assert ExploreSettings().is_private
    assert not ExploreSettings(host="192.168.0.2").is_private
    assert not ExploreSettings(share=True).is_private


def test_sharing_without_gradio_names_the_extra(monkeypatch):
    monkeypatch.setattr("fexgan_lit.inference.app.config.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"share=true: Gradio is not installed; pip install 'fexgan_lit\[share\]'"):
        explore_settings({"share": True})
    assert not explore_settings({"share": False}).share
