"""The cache of judges: keyed by data and options, verified before use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from fexgan_lit.metrics.judges.fitting import FitRecipe, Progress, working_size
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


T = TypeVar("T")


@dataclass(frozen=True)
class JudgeKind(Generic[T]):
    """A kind of judge: how it is trained, stored in the cache, and built anew.

    Attributes:
        name: stem of the two files of a judge, ``<name>.safetensors`` and ``<name>.json``.
        version: increased whenever the network or its training changes, so that cached judges of older versions are
            ignored.
        judge: dataclass of the judge, with the fields `net`, `from_cache` and plain values.
        recipe: returns the default training options.
        train: trains a judge; see `train_judge`.
        network: returns the network for the plain values of a judge, its training options and its input size.
        facts: returns what identifies training and held-out frames beside the key of their data.
    """

    name: str
    version: int
    judge: Callable[..., T]
    recipe: Callable[[], Any]
    train: Callable[..., T]
    network: Callable[[dict[str, Any], Any, int], nn.Module]
    facts: Callable[[FrameSet, FrameSet | None], Any]

    def load_or_train(
        self,
        train: FrameSet,
        held_out: FrameSet | None,
        *,
        image_size: int,
        cache_dir: str | Path,
        key: str,
        seed: int = 0,
        recipe: FitRecipe | None = None,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> T:
        """Load the judge of a data set from ``cache_dir/judges/``, or train and store it if missing or broken.

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
            ValueError: a judge of this kind cannot be trained on these frames.
            UserError: the cache folder is not writable.
        """
        recipe = recipe or self.recipe()
        mark = self._mark(train, held_out, image_size, key, seed, recipe)
        folder = Path(cache_dir) / "judges" / mark[:12]
        judge: Any = self._read(folder, mark)
        if judge is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)  # a read-only cache fails before the training
                judge = self.train(
                    train, held_out, image_size=image_size, seed=seed, recipe=recipe, device=device, progress=progress
                )
                self._write(judge, folder, mark)
            except OSError as error:
                raise UserError(
                    f"The judge cannot be stored in the cache folder {folder}: {error.strerror or error}. "
                    "Choose a writable cache folder with a few MB of free space."
                ) from error
        return judge.to(device)

    def load(
        self, train: FrameSet, held_out: FrameSet | None = None, *, image_size: int, cache_dir: str | Path, key: str,
        seed: int = 0, recipe: FitRecipe | None = None,
    ) -> T | None:  # fmt: skip
        """Return the judge from the cache, or None where `load_or_train` would train one."""
        mark = self._mark(train, held_out, image_size, key, seed, recipe or self.recipe())
        return self._read(Path(cache_dir) / "judges" / mark[:12], mark)

    def _mark(
        self, train: FrameSet, held_out: FrameSet | None, image_size: int, key: str, seed: int, recipe: FitRecipe
    ) -> str:
        """Return a hash of training data and options; files with another one are ignored."""
        parts = [self.name, self.version, key, image_size, seed, self.facts(train, held_out), asdict(recipe)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _write(self, judge: Any, folder: Path, mark: str) -> None:
        """Write the weights, then the plain values with the weights' checksum; each file is written atomically."""
        from safetensors.torch import save

        weights = save({name: tensor.cpu().contiguous() for name, tensor in judge.net.state_dict().items()})
        facts = {f.name: getattr(judge, f.name) for f in fields(judge) if f.name not in {"net", "from_cache"}}
        facts |= {"key": mark, "sha256": hashlib.sha256(weights).hexdigest()}
        write_atomic(folder / f"{self.name}.safetensors", weights)
        write_atomic(folder / f"{self.name}.json", (json.dumps(facts, indent=2) + "\n").encode())

    def _read(self, folder: Path, mark: str) -> T | None:
        """Load the judge; return None if it is missing, incomplete, altered or has another mark."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            weights = (folder / f"{self.name}.safetensors").read_bytes()
            facts = json.loads((folder / f"{self.name}.json").read_bytes())
            if facts.pop("key") != mark or facts.pop("sha256") != hashlib.sha256(weights).hexdigest():
                return None
            return self._rebuild(facts, load(weights))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
            # Retraining repairs any broken judge; the caller sees from_cache=False.
            return None

    def _rebuild(self, facts: dict[str, Any], state: dict[str, Tensor]) -> T:
        """Return the judge with the plain values `facts` and the weights `state`."""
        recipe = replace(self.recipe(), **facts["recipe"] | {"widths": tuple(facts["recipe"]["widths"])})
        with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
            net: Any = self.network(facts, recipe, working_size(facts["image_size"], recipe))
        net.load_state_dict(state, strict=True)
        # JSON has no tuples; here they are those of names
        names = {k: tuple(v) for k, v in facts.items() if isinstance(v, list) and all(isinstance(x, str) for x in v)}
        return self.judge(**{**facts, **names, "recipe": asdict(recipe), "net": net.freeze(), "from_cache": True})
