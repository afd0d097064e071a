"""What passes, what does not, and what no answer may say."""

from __future__ import annotations

import pytest

from fexgan_lit.inference.app.security import Guard, host_name

HERE = {"host": "127.0.0.1:7860"}
JSON = {"content-type": "application/json"}


def trouble(path: str, headers: dict[str, str], method: str = "GET", is_private: bool = True) -> int | None:
    scope = {"type": "http", "path": path, "method": method,
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}  # fmt: skip
    return Guard(None, is_private).trouble(scope)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:1", "[::1]:7860", "localhost"])
def test_names_of_this_machine_pass(host):
    assert trouble("/", {"host": host}) is None


@pytest.mark.parametrize("host", ["evil.example:7860", "127.0.0.1.evil.example", "", "192.168.0.5:7860"])
def test_other_names_are_refused_unless_the_page_is_public(host):
    assert trouble("/api/about", {"host": host}) == 403
    assert trouble("/api/about", {"host": host}, is_private=False) is None


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/config", "/docs", "/monitoring"]
)
def test_nothing_else_of_the_server_answers(path):
    assert trouble(path, HERE) == 404


def test_other_sites_cannot_ask():
    assert trouble("/api/paint", {**HERE, **JSON, "sec-fetch-site": "cross-site"}, "POST") == 403
    assert trouble("/api/paint", {**HERE, "content-type": "text/plain"}, "POST") == 415
    assert trouble("/api/paint", {**HERE, "content-type": "multipart/form-data"}, "POST") == 415
    assert trouble("/api/paint", {**HERE, **JSON, "sec-fetch-site": "same-origin"}, "POST") is None
    assert trouble("/", {**HERE, "sec-fetch-site": "cross-site"}) is None  # a link on another page


def test_host_names():
    assert [host_name(host) for host in ("[::1]:80", "a:1", "a", "")] == ["::1", "a", "a", ""]
