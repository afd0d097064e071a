"""The run folder, which a training run writes and the other commands read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.utils.cache import holds_cache
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_mapping, write_atomic
from fexgan_lit.utils.hydra import stamp

#: Trained models of the package, the default first: a MIEN of random people and cartoon characters at 128 and at 64 px,
#: a FExGAN of the cartoon studio, and other systems of the cartoon studio's characters (experiments/systems).
SHIPPED = (
    "mien_128", "mien", "cartoon", "attgan", "ganimation", "landmark_fusion", "landmark_label", "lgp_gan",
    "motion_texture", "pix2pix", "stargan", "us_gan",
)  # fmt: skip


def is_shipped(place: str | Path) -> bool:
    """Return whether `place` names a model of the package; a file or folder of that name comes first."""
    return place in SHIPPED and not Path(place).exists()


def run_name(run: str | None) -> str:
    """Return the name of a run folder, which `run` or a checkpoint `run` in it is; None is the model in the package."""
    place = Path(run or SHIPPED[0]).expanduser().resolve()
    return place.parent.parent.name if place.is_file() else place.name


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The logged metrics, one row per logged iteration."""
        return self.path / "metrics.csv"

    @property
    def last(self) -> Path:
        """The checkpoint from which the run is resumed."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def weights(self) -> Path:
        """The folder of the portable weights (safetensors)."""
        return self.path / "weights"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report with tables and figures."""
        return self.path / "report.md"

    @classmethod
    def create(cls, path: Path, config: DictConfig) -> RunFolder:
        """Claim `path` for a new run and write its configuration.

        Raises:
            UserError: the folder belongs to another run, or cannot be written.
        """
        run = cls(path)
        if run.config.exists():
            raise UserError(f"{path} already holds a run. Give name=... for a new folder, or run={path} to resume it.")
        run.write_config(config)
        return run

    def write_config(self, config: DictConfig) -> None:
        """Write the resolved configuration, which makes the folder a run folder.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            for folder in (self.path, self.last.parent, self.figures):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config, OmegaConf.to_yaml(config, resolve=True))
        except OSError as error:
            raise UserError(
                f"cannot write the run folder {self.path}: {error.strerror}. "
                "Choose another place with hydra.run.dir=DIR, or make room."
            ) from error

    def discard(self) -> None:
        """Remove the configuration of a run that did not start, and its folders as far as they are empty."""
        for file in (self.config, self.path / ".lock"):
            file.unlink(missing_ok=True)
        for folder in (self.last.parent, self.figures, self.path):
            with contextlib.suppress(OSError):
                folder.rmdir()

    @classmethod
    def at(cls, place: str | Path) -> RunFolder:
        """Return the existing run folder at `place`, which is the folder or a checkpoint file in it.

        Raises:
            UserError: the path does not exist, or is not in a run folder.
        """
        path = Path(place)
        run = cls(path if path.is_dir() else path.parent.parent)
        if not path.exists():
            raise UserError(
                f"run={place}: there is no such folder or checkpoint; models of the package: {', '.join(SHIPPED)}"
            )
        if not run.config.is_file():
            raise UserError(f"run={place}: {run.path} is not a run folder, it has no config.yaml")
        return run

    @classmethod
    def shipped(cls, name: str = SHIPPED[0]) -> RunFolder:
        """Return the run folder of a trained model that the package includes, one of `SHIPPED`.

        Raises:
            UserError: this installation lacks the model.
        """
        run = cls(Path(__file__).parents[1] / "models" / name)
        if not run.config.is_file():
            raise UserError(
                f"the model that comes with the package is missing ({run.path}); expected run=RUN_DIR, a folder that "
                "training wrote, or reinstall the package"
            )
        return run

    @classmethod
    def open(cls, place: str | Path) -> tuple[RunFolder, Path]:
        """Return the run folder and checkpoint of `run=place`: the last checkpoint, or the file `place`.

        Raises:
            UserError: the run folder does not exist, or has no checkpoint yet.
        """
        run = cls.at(place)
        checkpoint = run.last if Path(place).is_dir() else Path(place)
        if not checkpoint.is_file():
            raise UserError(f"run={place}: {checkpoint} is missing; the run was stopped before its first checkpoint")
        return run, checkpoint

    def read_config(self) -> DictConfig:
        """Read the resolved configuration of the run as untrusted data.

        `dataset.cache_dir` is only used if it contains a cache, so that a foreign file cannot choose where to write.

        Raises:
            UserError: the file is damaged, is not a mapping, or contains an interpolation.
        """
        tree = read_mapping(self.config)
        # an interpolation could read environment variables, or name any class when Hydra instantiates it
        if "${" in str(tree):
            raise UserError(
                f"{self.config}: it contains an interpolation ${{...}}; expected plain values, as training writes"
            )
        dataset = tree.get("dataset")
        if isinstance(dataset, dict) and dataset.get("cache_dir") and not holds_cache(str(dataset["cache_dir"])):
            dataset["cache_dir"] = None
        return OmegaConf.create(tree)


def run_folder_name(run: str | None, name: str | None, model: str, dataset: str, seed: int) -> str:
    """Return the folder of a run: that of `run`, or a new one under outputs/ whose name starts with the time.

    Raises:
        UserError: `run` is not a run folder; Hydra would otherwise create a folder of that name.
    """
    if run:
        return str(RunFolder.at(run).path)
    return f"outputs/{stamp()}_{name or f'{model}_{dataset}_seed{seed}'}"


#: Folder of a run with one face of each identity as PNG, for use without the data.
FACES = "faces"


def register_resolver() -> None:
    """Register the resolver `fexgan_run_folder`, which names the run folder in conf/train.yaml."""
    if not OmegaConf.has_resolver("fexgan_run_folder"):
        OmegaConf.register_new_resolver("fexgan_run_folder", run_folder_name, use_cache=True)
