"""A run folder from elsewhere is data: what of it is refused, and what does not count."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator

import pytest
from omegaconf import OmegaConf

from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import read_metrics
from fexgan_lit.utils.errors import UserError

#: What may be in place of a configuration, and what is said of it.
NO_CONFIGURATIONS = {
    "garbage": (b"{{{: [", "line 1: no YAML"),
    "tag": (b"seed: 1\nrun: !!python/object/apply:os.getcwd []\n", "line 2: no YAML .*constructor"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "utf-16": ("seed: 1\n".encode("utf-16"), "not UTF-8 text, at byte 0"),
    "nul": (b"seed: 1\nname: a\0b\n", "no YAML"),
    "tab": (b"seed: 1\ndata:\n\taffects: []\n", "line 3: no YAML"),
    "key twice": (b"seed: 1\nseed: 2\n", "line 2: no YAML .*duplicate key seed"),
    "deep": (b"a: " + b"[" * 100_000, "line 1: no YAML .*(nesting|levels)"),
    "aliases": (b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121)),
                "line 2: no YAML .*an alias"),
    "huge": (b"a: '" + b"x" * (9 << 20), "more than 8 MiB"),
    "list": (b"- 1\n", "expected a mapping, found list"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_CONFIGURATIONS)
def test_a_damaged_configuration_is_refused_with_file_and_line(tmp_path, kind):
    content, message = NO_CONFIGURATIONS[kind]
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"config\.yaml.*{message}"):
        RunFolder(tmp_path).read_config()


#: What no value of a configuration should be, wherever it stands.
STRAY = ([1], {5: [None]}, "a" * 5000, True, 10**400)


#: Where it is put: every section, and values that something looks into.
PLACES = (
    "dataset", "model", "loss", "optimizer", "trainer", "metrics", "logger", "callbacks", "data", "sweep",
    "data.affects", "data.identities", "callbacks.linear_decay", "callbacks.linear_decay._target_",
    "dataset.augmentation", "metrics.inception_weights", "optimizer.lr",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_value_of_a_run_folder_is_taken_on_trust(place):
    kept = OmegaConf.to_container(RunFolder.shipped().read_config())
    *parents, last = place.split(".")
    for value in STRAY:
        tree = copy.deepcopy(kept)
        functools.reduce(operator.getitem, parents, tree)[last] = value
        with contextlib.suppress(UserError):  # a message or settings, no traceback
            train_settings(OmegaConf.create(tree))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("dataset", {"name": "../../x"}, r"dataset\.name=\.\./\.\./x: expected a plain word"),
        ("model", {"name": "a/b"}, r"model\.name=a/b: expected a plain word"),
        ("data", {"affects": "joy"}, r"data\.affects: expected a list of names, found 'joy'"),
        ("data", {"affects": ["joy", "joy"]}, r"data\.affects: a name is there twice"),
        ("data", {"affects": []}, r"data\.affects: expected one name or more"),
        ("data", {"train_frames": "many"}, r"data\.train_frames='many': expected a whole number"),
        ("callbacks", {"linear_decay": 3}, r"callbacks\.linear_decay: 3; expected a mapping"),
    ],
)
def test_wrong_names_and_facts_of_a_run_folder_are_named(section, changes, message):
    config = RunFolder.shipped().read_config()
    for key, value in changes.items():
        config[section][key] = value
    with pytest.raises(UserError, match=message):
        train_settings(config)


def test_a_run_folder_does_not_choose_where_to_write(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"dataset: {{cache_dir: {tmp_path / 'elsewhere'}}}\n")
    assert RunFolder(tmp_path).read_config().dataset.cache_dir is None
    (tmp_path / "own" / "packs").mkdir(parents=True)  # where training kept its packs
    config.write_text(f"dataset: {{cache_dir: {tmp_path / 'own'}}}\n")
    assert RunFolder(tmp_path).read_config().dataset.cache_dir == str(tmp_path / "own")


@pytest.mark.parametrize("content", [bytes(range(256)), b"iteration,a\n1,x\n", b"a,b\n1,2\n", b"iteration\n1,2,3\n"])
def test_a_metrics_csv_that_is_none_is_named(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv is no table that training wrote"):
        read_metrics(tmp_path / "metrics.csv")
