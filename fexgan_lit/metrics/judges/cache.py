"""The cache of judges: keyed by data and options, verified before use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fexgan_lit.metrics.judges.affect import JUDGE_VERSION, Judge, JudgeNet, JudgeRecipe, train_judge
from fexgan_lit.metrics.judges.fitting import Progress, working_size
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """Cache entry of one judge, a dataclass with the fields `net`, `from_cache` and plain values.

    Attributes:
        folder: folder below ``judges/`` of the cache.
        name: stem of its two files, ``<name>.safetensors`` and ``<name>.json``.
        key: hash of training data and options; files with another key are ignored.
    """

    folder: Path
    name: str
    key: str

    @classmethod
    def of(cls, cache_dir: str | Path, name: str, parts: list[Any]) -> Shelf:
        """Return the entry for `parts`, plain values that identify a judge."""
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return cls(Path(cache_dir) / "judges" / key[:12], name, key)

    def taken_or_trained(self, rebuild: Callable[[dict[str, Any], dict[str, Tensor]], T], train: Callable[[], T]) -> T:
        """Load the judge with `rebuild` from its plain values and weights, or call `train` and store the result.

        Raises:
            UserError: the cache folder is not writable.
        """
        found = self.load(rebuild)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # a read-only cache fails before the training
            trained = train()
            self.save(trained)
        except OSError as error:
            raise UserError(
                f"The judge cannot be stored in the cache folder {self.folder}: {error.strerror or error}. "
                "Choose a writable cache folder with a few MB of free space."
            ) from error
        return trained

    def save(self, judge: Any) -> None:
        """Write the weights, then the plain values with the weights' checksum; each file is written atomically."""
        from safetensors.torch import save

        weights = save({name: tensor.cpu().contiguous() for name, tensor in judge.net.state_dict().items()})
        facts = {f.name: getattr(judge, f.name) for f in fields(judge) if f.name not in {"net", "from_cache"}}
        facts |= {"key": self.key, "sha256": hashlib.sha256(weights).hexdigest()}
        write_atomic(self.folder / f"{self.name}.safetensors", weights)
        write_atomic(self.folder / f"{self.name}.json", (json.dumps(facts, indent=2) + "\n").encode())

    def load(self, rebuild: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T | None:
        """Load the judge; return None if it is missing, incomplete, altered or has another key."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            weights = (self.folder / f"{self.name}.safetensors").read_bytes()
            facts = json.loads((self.folder / f"{self.name}.json").read_bytes())
            if facts.pop("key") != self.key or facts.pop("sha256") != hashlib.sha256(weights).hexdigest():
                return None
            return rebuild(facts, load(weights))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
            # Retraining repairs any broken judge; the caller sees from_cache=False.
            return None


def load_or_train_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    recipe: JudgeRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Judge:
    """Load the affect judge of a data set from ``cache_dir/judges/``, or train and store it if missing or broken.

    Args:
        train: the training split.
        held_out: frames for the evaluation of the judge, or None.
        image_size: size in pixels of the frames to judge.
        cache_dir: folder of the cache; created if missing.
        key: identifies the data and its split, for example the hash of the pack and the split's seed.
        seed: seed of the training.
        recipe: training options.
        device: device of the training and of the judge.
        progress: called after every training step; never called for a judge from the cache.

    Raises:
        UserError: the cache folder is not writable.
    """
    recipe = recipe or JudgeRecipe()

    def train_it() -> Judge:
        return train_judge(
            train, held_out, image_size=image_size, seed=seed, recipe=recipe, device=device, progress=progress
        )

    shelf = _shelf(train, image_size, cache_dir, key, seed, recipe)
    return shelf.taken_or_trained(_rebuild, train_it).to(device)


def kept_judge(
    train: FrameSet,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    recipe: JudgeRecipe | None = None,
) -> Judge | None:
    """Return the judge from the cache, or None where `load_or_train_judge` would train one."""
    return _shelf(train, image_size, cache_dir, key, seed, recipe or JudgeRecipe()).load(_rebuild)


def _shelf(train: FrameSet, image_size: int, cache_dir: str | Path, key: str, seed: int, recipe: JudgeRecipe) -> Shelf:
    parts = [JUDGE_VERSION, key, image_size, seed, train.affects, train.identities, asdict(recipe)]
    return Shelf.of(cache_dir, "judge", parts)


def _rebuild(facts: dict[str, Any], state: dict[str, torch.Tensor]) -> Judge:
    recipe = JudgeRecipe(**facts["recipe"] | {"widths": tuple(facts["recipe"]["widths"])})
    size = working_size(facts["image_size"], recipe)
    with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
        net = JudgeNet(len(facts["affects"]), len(facts["identities"]), size, recipe.widths)
    net.load_state_dict(state, strict=True)
    known = {"affects": tuple(facts["affects"]), "identities": tuple(facts["identities"]), "recipe": asdict(recipe)}
    return Judge(**{**facts, **known, "net": net.freeze(), "from_cache": True})
