"""`conf/experiment/<name>.yaml`: the options in which a run differs from the default, and the proof that they do."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fexgan_lit.evaluation.sweep_report.read import flat, incidental
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.sweeps.record import unflatten
from fexgan_lit.utils.hydra import conf_folder

Tree = dict[str, Any]

#: Where things lie on one machine, and what a run found: no part of what is published.
UNPUBLISHED = (
    "run", "data", "name", "sweep", "logger", "dataset.root", "dataset.manifest", "dataset.videos",
    "dataset.annotations", "dataset.facekit", "dataset.cache_dir", "dataset.workers", "metrics.inception_weights",
    "trainer.threads",
)  # fmt: skip
#: Those of them that say which data, and so belong into the command of whoever makes the run again.
GIVEN_BY_HAND = (
    "dataset.root", "dataset.manifest", "dataset.videos", "dataset.annotations", "dataset.facekit",
    "metrics.inception_weights",
)  # fmt: skip
_DEFAULT_MODEL, _DEFAULT_DATASET = "fexgan", "studio_cartoon"


def composed(overrides: Sequence[str], more: Path | None = None, resolve: bool = True) -> Tree:
    """What `python -m fexgan_lit.train OVERRIDES` composes.

    Args:
        overrides: of the command line.
        more: a further configuration folder, as with --config-dir.
        resolve: replace references to other values by those values.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.initialize import initialize_config_dir

    known, kept = GlobalHydra.instance(), copy.copy(GlobalHydra.instance().hydra)
    known.clear()  # a command has initialised Hydra for its own configuration
    path = [f"hydra.searchpath=[file://{more.resolve()}]"] if more is not None else []
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            tree: Any = OmegaConf.to_container(compose("train", [*path, *overrides]), resolve=resolve)
    finally:
        known.clear()
        known.hydra = kept
    return tree


def as_trained(tree: Tree, affects: Sequence[str]) -> Tree:
    """A composed configuration as a run writes it: presets filled in, nothing else changed.

    The networks are built without memory for their weights, so this takes milliseconds at every size.

    Raises:
        UserError: the configuration cannot be used.
    """
    import torch

    from fexgan_lit.runs.build import build_system

    settings = train_settings(OmegaConf.create(tree))
    with torch.device("meta"):
        system = build_system(settings, affects)
    return tree | {"model": tree["model"] | asdict(system.settings), "loss": tree["loss"] | asdict(system.loss_weights)}


def choices(tree: Tree) -> dict[str, str]:
    """The groups a configuration chose, as far as they are not the default."""
    defaults = {"model": _DEFAULT_MODEL, "dataset": _DEFAULT_DATASET}
    chosen = {group: (tree.get(group) or {}).get("name") for group in defaults}
    return {
        group: name
        for group, name in chosen.items()
        if name and name != defaults[group] and (conf_folder() / group / f"{name}.yaml").is_file()
    }


def difference(wanted: Tree, affects: Sequence[str]) -> Tree:
    """The values of a run's configuration that the default with the same groups does not have, nested."""
    groups = choices(wanted)
    plain, references = _default(tuple(f"{group}={name}" for group, name in groups.items()))
    changed = _disagreeing(wanted, plain, affects)
    # a value that refers to another, such as model.image_size, mostly follows when that one is given
    following = [key for key in changed if "${" in str(references.get(key))]
    if not following:
        return unflatten(changed)
    alone = {key: value for key, value in changed.items() if key not in following}
    left = _disagreeing(wanted, composed_with(overlay_text("overlay", groups, unflatten(alone), ())), affects)
    return unflatten({key: value for key, value in changed.items() if key in alone or key in left})


@functools.lru_cache(maxsize=16)
def _default(groups: tuple[str, ...]) -> tuple[Tree, Tree]:
    """What the groups compose to, and by full name the values before references are replaced; not to be changed."""
    return composed(groups), flat(composed(groups, resolve=False))


def _disagreeing(wanted: Tree, plain: Tree, affects: Sequence[str]) -> Tree:
    """The values of `wanted`, by full name, that `plain` has neither as composed nor with presets filled in."""
    raw, filled = flat(plain), flat(as_trained(plain, affects))
    return {
        key: value
        for key, value in flat(wanted).items()
        if not incidental(key, UNPUBLISHED)
        and not any(key in known and _same(value, known[key]) for known in (raw, filled))
    }


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def overlay_text(name: str, groups: Mapping[str, str], values: Tree, about: Sequence[str]) -> str:
    """The overlay as YAML: its groups, its name, its values, and `about` as comments at the top."""
    chosen = [{f"override /{group}": option} for group, option in groups.items()]
    body: Tree = ({"defaults": chosen} if chosen else {}) | {"name": name} | values
    comments = "\n".join(f"# {line}" for line in about)
    return f"# @package _global_\n{comments}\n{OmegaConf.to_yaml(OmegaConf.create(body))}"


def composed_with(text: str, overrides: Sequence[str] = ()) -> Tree:
    """What the overlay `text` composes to, followed by `overrides`."""
    with tempfile.TemporaryDirectory() as folder:
        # under a name that no overlay in conf/ has, which would come first
        place = Path(folder) / "experiment" / "overlay_under_test.yaml"
        place.parent.mkdir()
        place.write_text(text, encoding="utf-8")
        return composed([f"experiment={place.stem}", *overrides], Path(folder))


def disagreements(text: str, wanted: Tree, affects: Sequence[str], overrides: Sequence[str] = ()) -> list[str]:
    """Where the overlay `text`, followed by `overrides`, gives something else than `wanted`; in words.

    Args:
        text: YAML of a file in conf/experiment.
        wanted: a run's configuration.
        affects: class names the run was trained on.
        overrides: that come behind the experiment on the command line.
    """
    plain = composed_with(text, overrides)
    given = flat(as_trained(plain, affects))
    return [
        f"{key} is {value}, the overlay gives {given.get(key, 'nothing')}"
        for key, value in _disagreeing(wanted, plain, affects).items()
    ]
