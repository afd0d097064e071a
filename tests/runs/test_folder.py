"""A run folder from elsewhere is data: what of it is refused, and what does not count."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import operator
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import read_metrics
from fexgan_lit.runs.weights import load_system
from fexgan_lit.systems.checkpoints import check_fits
from fexgan_lit.training.fit import check_steps
from fexgan_lit.utils.errors import UserError

#: What may be in place of a configuration, and what is said of it.
NO_CONFIGURATIONS = {
    "garbage": (b"{{{: [", "line 1: invalid YAML"),
    "tag": (b"seed: 1\nrun: !!python/object/apply:os.getcwd []\n", "line 2: invalid YAML .*constructor"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "utf-16": ("seed: 1\n".encode("utf-16"), "not UTF-8 text, at byte 0"),
    "nul": (b"seed: 1\nname: a\0b\n", "invalid YAML"),
    "tab": (b"seed: 1\ndata:\n\taffects: []\n", "line 3: invalid YAML"),
    "key twice": (b"seed: 1\nseed: 2\n", "line 2: invalid YAML .*duplicate key seed"),
    "deep": (b"a: " + b"[" * 100_000, "line 1: invalid YAML .*(nesting|levels)"),
    "aliases": (b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121)),
                "line 2: invalid YAML .*an alias"),
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
    kept = OmegaConf.to_container(RunFolder.shipped("cartoon").read_config())
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
        ("dataset", {"detector": "foo"}, r"dataset\.detector=foo: expected mediapipe, or null"),
        ("model", {"width": 1e-9}, r"model\.width=1e-09: expected 1/64 to 16"),
        ("model", {"width": 1e5}, r"model\.width=100000\.0: expected 1/64 to 16"),
        ("data", {"affects": "joy"}, r"data\.affects: expected a list of names, found 'joy'"),
        ("data", {"affects": ["joy", "joy"]}, r"data\.affects: a name occurs twice"),
        ("data", {"affects": []}, r"data\.affects: expected one name or more"),
        ("data", {"train_frames": "many"}, r"data\.train_frames='many': expected a whole number"),
        ("data", {"framing": [0, 0, 0]}, r"data\.framing=\[0, 0, 0\]: expected three numbers, the last above 0"),
        ("data", {"framing": "wide"}, r"data\.framing='wide': expected three numbers"),
        ("data", {"largest_units": {"AU01": 1}}, r"data\.largest_units=.*expected a number for each of the 17 units"),
        ("callbacks", {"linear_decay": 3}, r"callbacks\.linear_decay: 3; expected a mapping"),
    ],
)
def test_wrong_names_and_facts_of_a_run_folder_are_named(section, changes, message):
    config = RunFolder.shipped("cartoon").read_config()
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
    with pytest.raises(UserError, match=r"metrics\.csv is not a table of a training run"):
        read_metrics(tmp_path / "metrics.csv")


@pytest.fixture
def copied(tmp_path):
    """A copy of the run that comes with the package."""
    return RunFolder(shutil.copytree(RunFolder.shipped("cartoon").path, tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.fill_(math.nan), "numbers that are not finite"),
        (lambda weight: weight.index_fill(0, torch.tensor([0]), math.inf), "numbers that are not finite"),
        (lambda weight: weight.to(torch.int32), r"is of type torch\.int32, expected torch\.float32"),
    ],
)
def test_weights_that_give_flat_faces_are_refused(copied, change, message):
    path = copied.weights / "decoder.safetensors"
    state = load_file(path)
    name = next(name for name, value in state.items() if value.ndim == 4)
    save_file(state | {name: change(state[name]).contiguous()}, path)
    with pytest.raises(UserError, match=rf"decoder\.safetensors: {re.escape(name)} .*{message}"):
        load_system(copied.path)


def test_a_checkpoint_of_numbers_that_are_none_is_refused():
    system = load_system(RunFolder.shipped("cartoon").path)
    weights = system.state_dict()
    name = next(iter(weights))
    checkpoint = {"state_dict": weights | {name: weights[name] * math.nan}, "iteration": 1}
    with pytest.raises(UserError, match=f"{re.escape(name)} holds numbers that are not finite"):
        check_fits(checkpoint, system, resume=False)


def test_going_on_with_fewer_iterations_than_are_done_is_refused(copied, tmp_path):
    torch.save({"state_dict": {}, "iteration": 7}, tmp_path / "last.ckpt")
    settings = train_settings(copied.read_config())
    for most in (7, 8):
        settings.trainer.max_steps = most
        check_steps(settings, tmp_path / "last.ckpt")
    settings.trainer.max_steps = 6
    with pytest.raises(UserError, match=r"max_steps=6: .*last\.ckpt is at iteration 7; expected 7 or more"):
        check_steps(settings, tmp_path / "last.ckpt")
