"""The judge of the page: taken from the cache, never trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from fexgan_lit.inference.app.model import cached_judge
from fexgan_lit.inference.loaded_system import load
from fexgan_lit.metrics.judges import affect as affect_judges
from fexgan_lit.metrics.judges.affect import kept_judge, load_or_train_judge
from fexgan_lit.utils.cache import cache_root
from tests.metrics.conftest import SMALL
from tests.metrics.faces import make_frames


def test_a_judge_is_found_where_one_was_trained(tmp_path):
    frames, where = make_frames(), {"image_size": 32, "cache_dir": tmp_path, "key": "here", "recipe": SMALL}
    assert kept_judge(frames, **where) is None
    assert not list(tmp_path.iterdir())
    trained = load_or_train_judge(frames, None, **where)
    found = kept_judge(frames, **where)
    assert found.from_cache
    assert found.train_affect_accuracy == trained.train_affect_accuracy
    assert kept_judge(frames, **{**where, "key": "elsewhere"}) is None


def test_nothing_is_prepared_or_trained_for_the_page(runs, tmp_path, monkeypatch):
    folder = runs("fexgan")  # which may be trained only now
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path))
    loaded = load(folder)
    assert cached_judge(loaded) is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "judges").mkdir()
    (tmp_path / "packs").mkdir()
    assert cached_judge(loaded) is None
    assert not list((tmp_path / "judges").iterdir())
    assert not [path for path in (tmp_path / "packs").iterdir() if not path.name.startswith(".")]


def test_the_judge_of_the_runs_data(runs, cache: Path, monkeypatch):
    loaded, asked = load(runs("fexgan")), []
    (cache_root(None) / "judges").mkdir(exist_ok=True)
    monkeypatch.setattr(affect_judges, "kept_judge", lambda train, **where: asked.append((train, where)))
    assert cached_judge(loaded) is None
    ((train, where),) = asked
    assert (train.affects, where["image_size"], where["cache_dir"]) == (loaded.affects, 32, cache)
    assert where["key"].endswith(",".join(loaded.affects))


@pytest.mark.parametrize("root", ["/no/such/place"])
def test_data_that_are_gone_have_no_judge(root, runs, cache):
    loaded = load(runs("fexgan"))
    loaded.run.dataset.name, loaded.run.dataset.layout, loaded.run.dataset.root = "mine", "folder", root
    (cache_root(None) / "judges").mkdir(exist_ok=True)
    assert cached_judge(loaded) is None
