"""Which classes a configuration may name: its own for what a user writes, an allow-list for what a run folder holds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from fexgan_lit.utils.errors import UserError

#: The only names a `_target_` may have in a config that arrives in a run folder: it is data, not code.
TARGETS = (
    "fexgan_lit.systems.fexgan.system.FExGAN",
    "fexgan_lit.systems.ganimation.system.GANimation",
    "fexgan_lit.systems.landmark_label.system.LandmarkLabel",
    "fexgan_lit.systems.stargan.system.StarGAN",
    "fexgan_lit.training.callbacks.AdversarialCut",
    "fexgan_lit.training.callbacks.LinearDecay",
)


#: Packages whose classes such a config may name, too, since the user said so in this process.
_TRUSTED: set[str] = set()


#: Names in run folders of version 0.1, and what they are called now.
ALIASES = {
    "fexgan_lit.callbacks.AdversarialCut": "fexgan_lit.training.callbacks.AdversarialCut",
    "fexgan_lit.callbacks.LinearDecay": "fexgan_lit.training.callbacks.LinearDecay",
}


def trust(packages: Iterable[str]) -> None:
    """Let configurations of run folders name classes of these packages, in this process."""
    _TRUSTED.update(packages)


def load_target(name: str) -> Any:
    """The class that a `_target_` names.

    Raises:
        UserError: the name is neither in `TARGETS` nor of a trusted package, and nothing of it is imported; or there is
            no such class.
    """
    name = ALIASES.get(name, name)
    package, _, _ = name.partition(".")
    if name not in TARGETS and package not in _TRUSTED:
        raise UserError(
            f"_target_: {name} is refused; the configuration of a run folder may only name {', '.join(TARGETS)}. "
            f"trust=[{package}] lets it name classes of {package}, whose code then runs"
        )
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_: {name}: there is no such class ({error})") from error


def foreign_packages(values: Any) -> list[str]:
    """The packages of all classes, and of the layout of a data set, that a configuration names besides `TARGETS`.

    Transforms of albumentations (`dataset.augmentation`) need no trust.
    """
    names = targets_in(values)
    layout = str((values.get("dataset") or {}).get("layout") or "")
    names += [layout] if "." in layout else []
    return sorted(
        {name.partition(".")[0] for name in names if ALIASES.get(name, name) not in TARGETS} - {"albumentations"}
    )


def targets_in(values: Any) -> list[str]:
    """Every `_target_` of a configuration, however deep."""
    if isinstance(values, Mapping):
        here = [str(values["_target_"])] if "_target_" in values else []
        return here + [name for value in values.values() for name in targets_in(value)]
    return [name for value in values for name in targets_in(value)] if isinstance(values, list) else []
