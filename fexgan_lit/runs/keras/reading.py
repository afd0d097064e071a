"""The layers of a Keras 2 weight file, in order: what `model.save` and `save_weights` write as HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import h5py

#: Of one array; the largest of the published ones has 4.2 million values.
_MOST_VALUES = 1 << 26


@dataclass(frozen=True, eq=False)
class Unit:
    """A kernel and the vectors that follow it: its bias, or those of the BatchNorm after it.

    Attributes:
        name: of the kernel in the file, for messages.
        arrays: float32; the first is the kernel.
    """

    name: str
    arrays: tuple[np.ndarray, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the arrays."""
        return tuple(array.shape for array in self.arrays)


def read_units(path: Path) -> list[Unit]:
    """The layers with weights of a file, in the order in which the network was built.

    Layer names do not matter; what `layer_names` and `weight_names` list is read in that order.

    Raises:
        UserError: no HDF5 file, none of Keras 2, or with arrays that are missing, not finite or elsewhere.
    """
    import h5py

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            return _units(_arrays(_layers(file, path), path))
    except OSError as error:
        raise UserError(f"{path} is no whole HDF5 file, as Keras writes with the ending .h5 ({error})") from error


def _layers(file: h5py.File, path: Path) -> h5py.Group:
    """The group that lists the layers: `model_weights` of `model.save`, the root of `save_weights`."""
    import h5py

    group = _inside(file, "model_weights") or file
    if isinstance(group, h5py.Group) and _listed(group, "layer_names"):
        return group
    newer = " It looks like one of Keras 3, which is laid out in another way." if "layers" in file else ""
    raise UserError(
        f"{path} lists no layers (attribute layer_names); expected a file that Keras 2 wrote with model.save or "
        f"save_weights.{newer}"
    )


def _inside(group: h5py.Group, place: str) -> Any:
    """What lies at `place` in this very file, or None; links, which may lead to other files, are not followed."""
    import h5py

    node: Any = group
    for part in place.split("/"):
        linked = isinstance(node, h5py.Group) and node.get(part, getclass=True, getlink=True)
        if linked is not h5py.HardLink:
            return None
        node = node[part]
    return node


def _listed(group: h5py.Group, name: str) -> list[str]:
    """The strings of an attribute; Keras splits long lists over `name0`, `name1`, ..."""
    keys = [name] if name in group.attrs else []
    while f"{name}{len(keys)}" in group.attrs:
        keys.append(f"{name}{len(keys)}")
    entries = [entry for key in keys for entry in np.asarray(group.attrs[key]).ravel().tolist()]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _arrays(layers: h5py.Group, path: Path) -> list[tuple[str, np.ndarray]]:
    """Every weight with its name in the file, in order."""
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
        raise UserError(f"{path} lists these, but does not hold them: {', '.join(missing[:4])}{more}; it is damaged")
    return found


def _values(node: Any, name: str, path: Path) -> np.ndarray:
    """A weight as float32.

    Raises:
        UserError: it is no array of numbers, too large, not finite, or its values lie in another file.
    """
    import h5py

    if not isinstance(node, h5py.Dataset):
        raise UserError(f"{path}: {name} is no array; expected floats")
    if node.dtype.kind != "f" or node.size > _MOST_VALUES or node.is_virtual or node.external:
        raise UserError(f"{path}: {name} is {node.dtype} of shape {node.shape}; expected floats kept in this file")
    array = np.asarray(node[()], np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds values that are not finite; the file is damaged or training diverged")
    return array


def _units(arrays: Sequence[tuple[str, np.ndarray]]) -> list[Unit]:
    """Kernels with the vectors after them; vectors before the first kernel stand alone."""
    groups: list[list[tuple[str, np.ndarray]]] = []
    for name, array in arrays:
        if array.ndim > 1 or not groups:
            groups.append([])
        groups[-1].append((name, array))
    return [Unit(group[0][0], tuple(array for _, array in group)) for group in groups]
