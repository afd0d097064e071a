"""Affects as patterns of facial action units, after EMFACS, exaggerated as in cartoons."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.expression import ACTION_UNITS

AU_COLUMN = MappingProxyType({unit: column for column, unit in enumerate(ACTION_UNITS)})

#: Intensity of each action unit at the apex of an affect.
PROTOTYPES = MappingProxyType(
    {
        "anger": {4: 1.0, 5: 0.9, 7: 0.8, 10: 0.6, 23: 0.5, 25: 1.0},
        "disgust": {6: 0.2, 9: 0.6, 10: 1.0, 15: 1.0, 17: 1.0},
        "fear": {1: 1.0, 2: 0.5, 4: 0.8, 5: 1.0, 20: 1.0, 25: 0.9, 26: 0.55},
        "joy": {6: 0.85, 12: 1.0, 25: 0.9},
        "neutral": {},
        "sadness": {1: 1.0, 4: 0.5, 15: 1.0, 17: 0.7},
        "surprise": {1: 1.0, 2: 1.0, 5: 0.85, 25: 0.9, 26: 1.0},
    }
)


def prototype(affect: str) -> NDArray[np.float64]:
    """Return the action units (17,) of `affect` at its apex, in the order of `ACTION_UNITS`; zeros if it is unknown."""
    units = np.zeros(len(ACTION_UNITS))
    for unit, strength in PROTOTYPES.get(affect, {}).items():
        units[AU_COLUMN[unit]] = strength
    return units
