"""Which layer of a file goes where: by shape, and by order among those of one shape."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from fexgan_lit.errors import UserError
from fexgan_lit.keras_weights.reading import Unit
from fexgan_lit.keras_weights.slots import Shapes, Slot

_SHOWN = 4


def fill_slots(
    slots: Sequence[Slot], units: Sequence[Unit], path: Path, what: str, others: Mapping[str, Sequence[Slot]]
) -> None:
    """Put every layer of the file `path` into its slot; nothing is changed unless all fit.

    Args:
        slots: of the network, in order.
        units: of the file, in order.
        path: for messages.
        what: name of the network.
        others: slots of the other networks by name, to say where a file was given for another.

    Raises:
        UserError: layers that are missing, have another shape, or belong nowhere, by name.
    """
    pairs, missing, surplus = matched(slots, units)
    if missing or surplus:
        raise UserError(_trouble(missing, surplus, path, what, _whose(units, others)))
    for slot, unit in pairs:
        slot.fill(unit.arrays)


def matched(slots: Sequence[Slot], units: Sequence[Unit]) -> tuple[list[tuple[Slot, Unit]], list[Slot], list[Unit]]:
    """Slots with the layers of their shapes, in order; slots without a layer; layers without a slot."""
    waiting: dict[Shapes, deque[Unit]] = defaultdict(deque)
    for unit in units:
        waiting[unit.shapes].append(unit)
    pairs, missing = [], []
    for slot in slots:
        if waiting[slot.shapes]:
            pairs.append((slot, waiting[slot.shapes].popleft()))
        else:
            missing.append(slot)
    left = {id(unit) for queue in waiting.values() for unit in queue}
    return pairs, missing, [unit for unit in units if id(unit) in left]


def _whose(units: Sequence[Unit], others: Mapping[str, Sequence[Slot]]) -> str | None:
    """The other network that the file is of, if it is."""
    for name, slots in others.items():
        _, missing, surplus = matched(slots, units)
        if not missing and not surplus:
            return name
    return None


def _trouble(missing: Sequence[Slot], surplus: Sequence[Unit], path: Path, what: str, whose: str | None) -> str:
    if whose:
        return f"{path} holds the {whose}; expected the {what}. Give it as keras_{whose}="
    lines = [f"{path} does not hold the {what} of the official networks:"]
    lines += [f"  - {slot.name}: missing; expected {_shapes(slot.shapes)}" for slot in missing[:_SHOWN]]
    lines += [f"  - {unit.name}: {_shapes(unit.shapes)} fits nowhere" for unit in surplus[:_SHOWN]]
    hidden = max(0, len(missing) - _SHOWN) + max(0, len(surplus) - _SHOWN)
    lines += [f"  - and {hidden} more"] if hidden else []
    return "\n".join(
        [*lines, "docs/official_weights.md lists every layer; affects=[...] changes the number of classes"]
    )


def _shapes(shapes: Shapes) -> str:
    """`(4, 4, 3, 64) and 4 x (64)`."""
    kernel, vectors = shapes[0], shapes[1:]
    text = f"({', '.join(map(str, kernel))})"
    return f"{text} and {len(vectors)} x ({vectors[0][0]})" if vectors else text
