"""Convert the weight files of encoder, decoder and discriminator to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.expression import AFFECTS, normalise_affect
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options

if TYPE_CHECKING:
    from fexgan_lit.runs.keras.mapping import Slot
    from fexgan_lit.systems.base import ExpressionSystem

NETWORKS = ("encoder", "decoder", "discriminator")
#: The data set that the authors trained each model on.
TRAINED_ON = {"fexgan": "ferg", "fexgan_meta": "mhfed"}


@dataclass
class ConvertSettings(Options):
    """The options of `convert`; `conf/convert.yaml` explains each field."""

    keras_encoder: str | None = None
    keras_decoder: str | None = None
    keras_discriminator: str | None = None
    model: dict[str, Any] = field(default_factory=lambda: {"name": "fexgan"})
    affects: list[str] | None = None
    trained_on: str | None = None
    root: str | None = None
    half: bool = False
    out: str | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The file of each network."""
        return {name: Path(str(getattr(self, f"keras_{name}"))).expanduser() for name in NETWORKS}

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.model["name"])

    @property
    def classes(self) -> list[str]:
        """The affects in order of their class indices; by default those of the official networks."""
        return list(AFFECTS) if self.affects is None else [normalise_affect(name) for name in self.affects]

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = [
            f"keras_{name} is missing; expected the .h5 file of the {name}"
            for name in NETWORKS
            if not getattr(self, f"keras_{name}")
        ]
        if self.name not in TRAINED_ON:
            found.append(f"model={self.name}: expected one of {', '.join(TRAINED_ON)}")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            found.append(f"affects={self.affects}: expected two or more different names, in the order of the classes")
        return found


def run_config(settings: ConvertSettings) -> DictConfig:
    """Return the configuration of a run that would have trained these networks.

    Raises:
        UserError: the data set does not exist.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from fexgan_lit.utils.hydra import conf_folder

    dataset, size = settings.trained_on or TRAINED_ON[settings.name], settings.model.get("image_size", 128)
    overrides = [f"model={settings.name}", f"dataset={dataset}", f"dataset.image_size={size}"]
    try:
        if GlobalHydra.instance().is_initialized():  # the command was composed by Hydra
            cfg = compose("train", overrides)
        else:
            with initialize_config_dir(str(conf_folder()), version_base="1.3"):
                cfg = compose("train", overrides)
    except HydraException as error:
        raise UserError(f"trained_on={dataset}: expected a data set, such as ferg, mhfed or folder") from error
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    tree["model"] |= settings.model
    tree["dataset"] |= {"root": settings.root, "affects": settings.classes}
    tree["data"] = {"affects": settings.classes}
    return OmegaConf.create(tree)


def converted(config: DictConfig, files: Mapping[str, Path]) -> ExpressionSystem:
    """Build the system of `config` with the weights of `files`.

    Raises:
        UserError: a file is not a Keras weight file, or its layers do not fit.
    """
    from fexgan_lit.runs.build import build_system
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.runs.keras.mapping import fill_slots
    from fexgan_lit.runs.keras.reading import read_units

    settings = train_settings(config)
    system = build_system(settings, config.data.affects)
    slots = slots_of(system)
    for name, path in files.items():
        others = {other: slots[other] for other in slots if other != name}
        fill_slots(slots[name], read_units(path), path, name, others)
    return system.eval()


def slots_of(system: Any) -> dict[str, Sequence[Slot]]:
    """Return the slots of each network."""
    from fexgan_lit.runs.keras.mapping import decoder_slots, discriminator_slots, encoder_slots

    return {
        "encoder": encoder_slots(system.average.encoder),
        "decoder": decoder_slots(system.average.decoder),
        "discriminator": discriminator_slots(system.discriminator),
    }
