"""Restrict the classes that a run folder's configuration can name to an allow-list and trusted packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from fexgan_lit.utils.errors import UserError

#: The allowed values of `_target_` in the configuration of a run folder, which is data and not code.
TARGETS = (
    "fexgan_lit.systems.fexgan.system.FExGAN",
    "fexgan_lit.systems.ganimation.system.GANimation",
    "fexgan_lit.systems.landmark_label.system.LandmarkLabel",
    "fexgan_lit.systems.attgan.AttGAN",
    "fexgan_lit.systems.bridge.Bridge",
    "fexgan_lit.systems.landmark_fusion.LandmarkFusion",
    "fexgan_lit.systems.lgp_gan.LGPGAN",
    "fexgan_lit.systems.mien.system.Mien",
    "fexgan_lit.systems.motion_texture.system.MotionTexture",
    "fexgan_lit.systems.pix2pix.Pix2Pix",
    "fexgan_lit.systems.stargan.system.StarGAN",
    "fexgan_lit.training.callbacks.AdversarialCut",
    "fexgan_lit.training.callbacks.LinearDecay",
)


#: Packages that the user trusts in this process; such a configuration may also name their classes.
_TRUSTED: set[str] = set()


#: Names in run folders of version 0.1, and their current names.
ALIASES = {
    "fexgan_lit.callbacks.AdversarialCut": "fexgan_lit.training.callbacks.AdversarialCut",
    "fexgan_lit.callbacks.LinearDecay": "fexgan_lit.training.callbacks.LinearDecay",
}


def trust(packages: Iterable[str]) -> None:
    """Allow configurations of run folders to name classes of these packages, in this process."""
    _TRUSTED.update(packages)


def load_target(name: str) -> Any:
    """Import the class that a `_target_` names.

    Raises:
        UserError: the name is neither in `TARGETS` nor in a trusted package (nothing is imported then), or the class
            does not exist.
    """
    name = ALIASES.get(name, name)
    package, _, _ = name.partition(".")
    if name not in TARGETS and package not in _TRUSTED:
        raise UserError(
            f"_target_: {name} is refused, since a run folder may come from somebody else. trust=[{package}] allows "
            f"the code of {package} to run; without it, a run folder may only name {', '.join(TARGETS)}"
        )
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_: {name}: there is no such class ({error})") from error


def foreign_packages(values: Any) -> list[str]:
    """Return the packages of all classes, and of the layout, in a configuration that are not in `TARGETS`.

    Transforms of albumentations (`dataset.augmentation`) are always trusted.
    """
    names = targets_in(values)
    layout = str((values.get("dataset") or {}).get("layout") or "")
    names += [layout] if "." in layout else []
    return sorted(
        {name.partition(".")[0] for name in names if ALIASES.get(name, name) not in TARGETS} - {"albumentations"}
    )


def targets_in(values: Any) -> list[str]:
    """Return every `_target_` in a configuration, at any depth."""
    if isinstance(values, Mapping):
        here = [str(values["_target_"])] if "_target_" in values else []
        return here + [name for value in values.values() for name in targets_in(value)]
    return [name for value in values for name in targets_in(value)] if isinstance(values, list) else []
