"""Trained judges on disk: weights and facts under a key, checked before they are trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.files import write_atomic

T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """The place of one judge: a dataclass with the field `net`, facts in the others and `from_cache`.

    Attributes:
        folder: of the cache, below ``judges/``.
        name: of its two files, ``<name>.safetensors`` and ``<name>.json``.
        key: what the judge was trained on and how; one under another key is not taken.
    """

    folder: Path
    name: str
    key: str

    @classmethod
    def of(cls, cache_dir: str | Path, name: str, parts: list[Any]) -> Shelf:
        """The place for what `parts`, plain values, identify."""
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return cls(Path(cache_dir) / "judges" / key[:12], name, key)

    def taken_or_trained(self, rebuild: Callable[[dict[str, Any], dict[str, Tensor]], T], train: Callable[[], T]) -> T:
        """What lies here, made by `rebuild` from facts and weights; else what `train` gives, which is put here.

        Raises:
            UserError: the cache folder cannot be written.
        """
        found = self.load(rebuild)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # before the training: a read-only cache is said at once
            trained = train()
            self.save(trained)
        except OSError as error:
            raise UserError(
                f"The judge cannot be stored in the cache folder {self.folder}: {error.strerror or error}. "
                "Choose a cache folder that can be written and has a few MB free."
            ) from error
        return trained

    def save(self, judge: Any) -> None:
        """Write weights, then facts with the weights' checksum; each appears whole or not at all."""
        from safetensors.torch import save

        weights = save({name: tensor.cpu().contiguous() for name, tensor in judge.net.state_dict().items()})
        facts = {f.name: getattr(judge, f.name) for f in fields(judge) if f.name not in {"net", "from_cache"}}
        facts |= {"key": self.key, "sha256": hashlib.sha256(weights).hexdigest()}
        write_atomic(self.folder / f"{self.name}.safetensors", weights)
        write_atomic(self.folder / f"{self.name}.json", (json.dumps(facts, indent=2) + "\n").encode())

    def load(self, rebuild: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T | None:
        """What lies here; None when it is missing, incomplete, altered or of another key."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            weights = (self.folder / f"{self.name}.safetensors").read_bytes()
            facts = json.loads((self.folder / f"{self.name}.json").read_bytes())
            if facts.pop("key") != self.key or facts.pop("sha256") != hashlib.sha256(weights).hexdigest():
                return None
            return rebuild(facts, load(weights))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
            # Whatever is wrong with a stored judge, training it again mends it; the caller sees from_cache=False.
            return None
