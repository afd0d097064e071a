"""`conf/experiment/<name>.yaml`: write the options in which a run differs from the default, and check the result."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.sweeps.record import flatten, is_under, unflatten
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder

Tree = dict[str, Any]

#: Local paths and facts that a run recorded; these are not published.
UNPUBLISHED = (
    "run", "data", "name", "sweep", "logger", "dataset.root", "dataset.manifest", "dataset.videos",
    "dataset.annotations", "dataset.facekit", "dataset.cache_dir", "dataset.workers", "metrics.inception_weights",
    "trainer.threads",
)  # fmt: skip
#: Path options among them that the user has to give to reproduce the run.
GIVEN_BY_HAND = (
    "dataset.root", "dataset.manifest", "dataset.videos", "dataset.annotations", "dataset.facekit",
    "metrics.inception_weights",
)  # fmt: skip
_DEFAULT_MODEL, _DEFAULT_DATASET = "fexgan", "studio_cartoon"


def composed(overrides: Sequence[str], more: Path | None = None, resolve: bool = True) -> Tree:
    """Compose the configuration of `python -m fexgan_lit.train OVERRIDES`.

    Args:
        overrides: overrides as on the command line.
        more: an additional configuration folder, as with --config-dir.
        resolve: whether to resolve interpolations.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.initialize import initialize_config_dir

    known, kept = GlobalHydra.instance(), copy.copy(GlobalHydra.instance().hydra)
    known.clear()  # the running command has initialized Hydra for its own configuration
    path = [f"hydra.searchpath=[file://{more.resolve()}]"] if more is not None else []
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            tree: Any = OmegaConf.to_container(compose("train", [*path, *overrides]), resolve=resolve)
    finally:
        known.clear()
        known.hydra = kept
    return tree


def as_trained(tree: Tree, affects: Sequence[str]) -> Tree:
    """Fill the presets into a composed configuration, as a run does when it writes its config.

    The networks are built on the meta device, so this takes milliseconds at every size.

    Raises:
        UserError: the configuration is invalid.
    """
    import torch

    from fexgan_lit.runs.build import build_system

    settings = train_settings(OmegaConf.create(tree))
    with torch.device("meta"):
        system = build_system(settings, affects)
    return tree | {"model": tree["model"] | asdict(system.settings), "loss": tree["loss"] | asdict(system.loss_weights)}


def choices(tree: Tree) -> dict[str, str]:
    """Return the config groups in which a configuration differs from the default."""
    defaults = {"model": _DEFAULT_MODEL, "dataset": _DEFAULT_DATASET}
    chosen = {group: (tree.get(group) or {}).get("name") for group in defaults}
    return {
        group: name
        for group, name in chosen.items()
        if name and name != defaults[group] and (conf_folder() / group / f"{name}.yaml").is_file()
    }


def difference(wanted: Tree, affects: Sequence[str]) -> Tree:
    """Return, nested, the values of a run's configuration that differ from the default with the same groups."""
    groups = choices(wanted)
    plain, references = _default(tuple(f"{group}={name}" for group, name in groups.items()))
    changed = _disagreeing(wanted, plain, affects)
    # an interpolated value, such as model.image_size, mostly follows from the value it refers to
    following = [key for key in changed if "${" in str(references.get(key))]
    if not following:
        return unflatten(changed)
    alone = {key: value for key, value in changed.items() if key not in following}
    try:
        left = _disagreeing(wanted, composed_with(overlay_text("overlay", groups, unflatten(alone), ())), affects)
    except UserError:  # some of them must be given, such as the number of random characters
        return unflatten(changed)
    return unflatten({key: value for key, value in changed.items() if key in alone or key in left})


@functools.lru_cache(maxsize=16)
def _default(groups: tuple[str, ...]) -> tuple[Tree, Tree]:
    """Return what the groups compose to, and the unresolved values by dotted name; callers must not change either."""
    return composed(groups), flatten(composed(groups, resolve=False))


def _disagreeing(wanted: Tree, plain: Tree, affects: Sequence[str]) -> Tree:
    """Return the values of `wanted`, by dotted name, that differ from `plain` with and without presets filled in."""
    raw, filled = flatten(plain), flatten(as_trained(plain, affects))
    return {
        key: value
        for key, value in flatten(wanted).items()
        if not is_under(key, UNPUBLISHED)
        and not any(key in known and _same(value, known[key]) for known in (raw, filled))
    }


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def overlay_text(name: str, groups: Mapping[str, str], values: Tree, about: Sequence[str]) -> str:
    """Return the overlay as YAML: groups, name and values, with the lines of `about` as comments at the top."""
    chosen = [{f"override /{group}": option} for group, option in groups.items()]
    body: Tree = ({"defaults": chosen} if chosen else {}) | {"name": name} | values
    comments = "\n".join(f"# {line}" for line in about)
    return f"# @package _global_\n{comments}\n{OmegaConf.to_yaml(OmegaConf.create(body))}"


def composed_with(text: str, overrides: Sequence[str] = ()) -> Tree:
    """Compose the overlay `text` followed by `overrides`."""
    with tempfile.TemporaryDirectory() as folder:
        # a file of the same name in conf/ would take precedence, so the name must be unique
        place = Path(folder) / "experiment" / "overlay_under_test.yaml"
        place.parent.mkdir()
        place.write_text(text, encoding="utf-8")
        return composed([f"experiment={place.stem}", *overrides], Path(folder))


def disagreements(text: str, wanted: Tree, affects: Sequence[str], overrides: Sequence[str] = ()) -> list[str]:
    """Describe where the overlay `text`, followed by `overrides`, differs from `wanted`.

    Args:
        text: YAML text of a file in conf/experiment.
        wanted: configuration of a run.
        affects: class names of the run's data.
        overrides: overrides that follow the experiment on the command line.
    """
    plain = composed_with(text, overrides)
    given = flatten(as_trained(plain, affects))
    return [
        f"{key} is {value}, the overlay gives {given.get(key, 'nothing')}"
        for key, value in _disagreeing(wanted, plain, affects).items()
    ]
