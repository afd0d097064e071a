"""Draw docs/images/counterfactual.jpg: `python docs/counterfactual.py FACEKIT` (a checkout, or the .npz)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fexgan_lit.expression import AFFECTS
from fexgan_lit.synthetic import CartoonStudio, HumanStudio
from fexgan_lit.synthetic.base import Studio
from fexgan_lit.synthetic.prototypes import prototype

SIZE = 128


def strip(studio: Studio, person: str) -> np.ndarray:
    """(SIZE, 7 * SIZE, 3): one moment of `person` with every affect."""
    table = studio.table()
    moment = int(np.flatnonzero((table["identity"] == person) & (table["affect"] == "neutral"))[1])
    return np.concatenate([studio.render_as(moment, prototype(affect)) for affect in AFFECTS], axis=1)


def main() -> None:
    """Two rows of each cast."""
    cartoon = CartoonStudio(identities=8, takes=1, frames=3, size=SIZE, head_motion=12.0)
    human = HumanStudio(identities=10, takes=1, frames=3, size=SIZE, head_motion=12.0, facekit=sys.argv[1])
    rows = [strip(cartoon, "nora"), strip(cartoon, "otis"), strip(human, "freja"), strip(human, "mateo")]
    target = Path(__file__).parent / "images" / "counterfactual.jpg"
    Image.fromarray(np.concatenate(rows)).save(target, quality=88)


if __name__ == "__main__":
    main()
