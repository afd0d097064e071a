"""The server without a browser: addresses, limits, refusals."""

from __future__ import annotations

import logging
import socket

import pytest

from fexgan_lit.inference.app import requests as uploads
from fexgan_lit.inference.app import server
from fexgan_lit.inference.app.config import ExploreSettings, explore_settings
from fexgan_lit.inference.app.security import MOST_WORDS
from fexgan_lit.inference.app.server import add_page, free_port
from fexgan_lit.utils.errors import UserError
from tests.inference.app.pictures import bomb, encoded, halves

BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
def client(session):
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_page(app, session("fexgan"), ExploreSettings())
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
    assert taken.json()["id"].startswith("upload:")
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


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"face": 3}', b"null", b'{"face": "cast:zoe"}'])
def test_nonsense_is_a_users_mistake(client, body):
    answer = client.post("/api/paint", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_an_internal_error_says_nothing_of_the_machine(client, monkeypatch, caplog):
    from fexgan_lit.inference.app.session import Session

    def broken(self, *_):
        raise OSError("/home/me/secret")

    monkeypatch.setattr(Session, "source_face", broken)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/api/paint", json={"face": "cast:nora"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "That failed; the terminal says why."}
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
    with pytest.raises(UserError, match=r"host=192\.0\.2\.1 is no address of this machine"):
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
