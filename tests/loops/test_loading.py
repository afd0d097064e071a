"""Loops are loaded while nobody waits, and a run goes on without them."""

from __future__ import annotations

import importlib
import logging
from concurrent.futures import Future

import pytest

from fexgan_lit import loops


@pytest.fixture
def future(monkeypatch):
    """What is known of the loops, to be set."""
    known: Future[bool] = Future()
    monkeypatch.setattr(loops, "loading", lambda: known)
    return known


@pytest.mark.parametrize("found", [True, False])
def test_they_come_until_they_are_there_or_cannot_be_had(future, found):
    assert not loops.are_ready()
    assert loops.are_coming()
    future.set_result(found)
    assert loops.are_ready() == loops.are_coming() == found


def test_without_gnu_openmp_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(loops, "openmp", lambda: None)
    monkeypatch.setattr(loops, "in_a_thread", lambda task: pytest.fail("there is nothing to load"))
    assert loops.loading.__wrapped__().result() is False


def test_a_numba_that_cannot_compile_them_ends_no_run(monkeypatch, caplog):
    def fail(name):
        raise RuntimeError("no such target")

    monkeypatch.setattr(importlib, "import_module", fail)
    with caplog.at_level(logging.WARNING):
        assert loops._load() is False
    assert "training goes on without compiled loops: no such target" in caplog.text


def test_all_loops_are_loaded(monkeypatch):
    loaded = []
    monkeypatch.setattr(importlib, "import_module", loaded.append)
    assert loops._load()
    assert loaded == ["fexgan_lit.loops.minimal", "fexgan_lit.loops.patches", "fexgan_lit.loops.norm"]
