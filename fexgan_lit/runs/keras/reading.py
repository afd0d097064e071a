"""Read the layers of a Keras 2 weight file (HDF5, written by `model.save` or `save_weights`) in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import h5py

#: The most values of one array; the largest published one has 4.2 million.
_MOST_VALUES = 1 << 26


@dataclass(frozen=True, eq=False)
class Unit:
    """A kernel and the vectors that follow it: its bias and those of the BatchNorm after it.

    Attributes:
        name: name of the kernel in the file, for messages.
        arrays: float32 arrays; the first is the kernel.
    """

    name: str
    arrays: tuple[np.ndarray, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays."""
        return tuple(array.shape for array in self.arrays)


def read_units(path: Path) -> list[Unit]:
    """Read the layers with weights of a file, in the order in which the network was built.

    The order is that of the attributes `layer_names` and `weight_names`; the names themselves do not matter.

    Raises:
        UserError: the file is not HDF5, not written by Keras 2, or has arrays that are missing, not finite or stored in
            other files.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            return _units(_arrays(_layers(file, path), path))
    except OSError as error:
        raise UserError(f"{path} is not a complete HDF5 file; expected a Keras .h5 file ({error})") from error


def _layers(file: h5py.File, path: Path) -> h5py.Group:
    """Return the group that lists the layers: `model_weights` for `model.save`, the root for `save_weights`."""
    import h5py

    group = _inside(file, "model_weights") or file
    if isinstance(group, h5py.Group) and _listed(group, "layer_names"):
        return group
    newer = " It seems to be a file of Keras 3, whose layout differs." if "layers" in file else ""
    raise UserError(
        f"{path} has no list of layers (attribute layer_names); expected a file that Keras 2 wrote with model.save or "
        f"save_weights.{newer}"
    )


def _inside(group: h5py.Group, place: str) -> Any:
    """Return the node at `place`, or None; links are not followed, since they may lead to other files."""
    import h5py

    node: Any = group
    for part in place.split("/"):
        linked = isinstance(node, h5py.Group) and node.get(part, getclass=True, getlink=True)
        if linked is not h5py.HardLink:
            return None
        node = node[part]
    return node


def _listed(group: h5py.Group, name: str) -> list[str]:
    """Return the strings of an attribute; Keras splits long lists into `name0`, `name1`, ..."""
    keys = [name] if name in group.attrs else []
    while f"{name}{len(keys)}" in group.attrs:
        keys.append(f"{name}{len(keys)}")
    entries = [entry for key in keys for entry in np.asarray(group.attrs[key]).ravel().tolist()]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _arrays(layers: h5py.Group, path: Path) -> list[tuple[str, np.ndarray]]:
    """Return every weight with its name in the file, in order."""
    found: list[tuple[str, np.ndarray]] = []
    missing: list[str] = []
    for layer in _listed(layers, "layer_names"):
        group = _inside(layers, layer)
        if group is None:
            missing.append(layer)
            continue
        for weight in _listed(group, "weight_names"):
            name, node = f"{layer}/{weight}", _inside(group, weight)
            if node is None:
                missing.append(name)
            else:
                found.append((name, _values(node, name, path)))
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise UserError(f"{path} is damaged: it lists weights that are missing: {', '.join(missing[:4])}{more}")
    return found


def _values(node: Any, name: str, path: Path) -> np.ndarray:
    """Read a weight as float32.

    Raises:
        UserError: the node is not a float array, is too large, is not finite, or is stored in another file.
    """
    import h5py

    if not isinstance(node, h5py.Dataset):
        raise UserError(f"{path}: {name} is not an array; expected an array of floats")
    if node.dtype.kind != "f" or node.size > _MOST_VALUES or node.is_virtual or node.external:
        raise UserError(f"{path}: {name} is {node.dtype} of shape {node.shape}; expected floats stored in this file")
    array = np.asarray(node[()], np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} has values that are not finite; the file is damaged or training diverged")
    return array


def _units(arrays: Sequence[tuple[str, np.ndarray]]) -> list[Unit]:
    """Group kernels with the vectors after them; vectors before the first kernel form their own unit."""
    groups: list[list[tuple[str, np.ndarray]]] = []
    for name, array in arrays:
        if array.ndim > 1 or not groups:
            groups.append([])
        groups[-1].append((name, array))
    return [Unit(group[0][0], tuple(array for _, array in group)) for group in groups]
