"""Hair styles as numbers: where hair grows, how long it is, how it is combed and how it curls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from fexgan_lit.synthetic.human.identity import Identity


@dataclass(frozen=True)
class Lock:
    """One kind of hair on a part of the scalp.

    Attributes:
        region: all, top, sides, fringe, or bun and tail, which grow from the knot and not from the scalp.
        length: cm, at the top and at the lower rim of the scalp.
        comb: direction of the strands along the scalp: down, forward, back, aside, part, knot, out.
        lift: 0 is flat, 1 is upright.
        comb_pull, gravity: bending of a strand towards the comb direction and the ground, per step.
        wave, turns: radius in cm and turns per cm of curls.
        clump: 0..1, how much strands of a lock converge at their tips.
        frizz: random offset of the tips in cm.
        strands, guides: number of strands, and of locks.
        steps: points per strand.
        layer: thickness in cm over which the roots of the lock are distributed.
    """

    region: str = "all"
    length: tuple[float, float] = (3.0, 1.0)
    comb: str = "down"
    lift: float = 0.4
    comb_pull: float = 0.35
    gravity: float = 0.05
    wave: float = 0.0
    turns: float = 0.1
    clump: float = 0.4
    frizz: float = 0.15
    strands: int = 12000
    guides: int = 700
    steps: int = 10
    layer: float = 0.3


@dataclass(frozen=True)
class Style:
    """A hair style.

    Attributes:
        locks: its parts.
        hairline: cm that the front hairline is above the usual one; `temples`: cm that it recedes above the temples.
        part: x in cm of the parting.
        knot: position in cm where strands are gathered.
        clear_face: whether strands are kept off the face.
    """

    locks: tuple[Lock, ...]
    hairline: float = 0.0
    temples: float = 0.0
    part: float = 0.0
    knot: tuple[float, float, float] = (0.0, 12.0, -7.0)
    clear_face: bool = True


_SHORT_SIDES = Lock(
    region="sides",
    length=(1.8, 0.7),
    comb="down",
    lift=0.30,
    comb_pull=0.3,
    clump=0.3,
    strands=14000,
    guides=900,
    steps=5,
)

_SLEEK = Lock(
    length=(19.0, 19.0),
    comb="knot",
    lift=0.12,
    comb_pull=0.75,
    gravity=0.0,
    wave=0.02,
    turns=0.1,
    clump=0.3,
    frizz=0.1,
    strands=20000,
    guides=1200,
    steps=16,
    layer=0.35,
)

STYLES: MappingProxyType[str, Style] = MappingProxyType(
    {
        "buzz": Style(
            (
                Lock(
                    length=(0.55, 0.35),
                    comb="forward",
                    lift=0.7,
                    comb_pull=0.1,
                    gravity=0.0,
                    clump=0.1,
                    strands=34000,
                    steps=3,
                ),
            ),
            temples=0.6,
        ),
        "crop": Style(
            (
                _SHORT_SIDES,
                Lock(
                    region="top",
                    length=(4.2, 2.4),
                    comb="forward",
                    lift=0.62,
                    comb_pull=0.22,
                    wave=0.12,
                    turns=0.15,
                    clump=0.6,
                    frizz=0.3,
                    strands=16000,
                    guides=420,
                    steps=8,
                ),
            ),
            temples=0.5,
        ),
        "aside": Style(
            (
                _SHORT_SIDES,
                Lock(
                    region="top",
                    length=(6.6, 2.0),
                    comb="part",
                    lift=0.50,
                    comb_pull=0.24,
                    gravity=0.10,
                    wave=0.12,
                    turns=0.08,
                    clump=0.55,
                    frizz=0.25,
                    strands=18000,
                    guides=500,
                    steps=11,
                    layer=0.4,
                ),
            ),
            part=3.2,
            temples=0.7,
        ),
        "quiff": Style(
            (
                _SHORT_SIDES,
                Lock(
                    region="top",
                    length=(6.8, 3.4),
                    comb="back",
                    lift=0.65,
                    comb_pull=0.22,
                    gravity=0.02,
                    wave=0.2,
                    turns=0.1,
                    clump=0.6,
                    frizz=0.3,
                    strands=17000,
                    guides=420,
                    steps=11,
                    layer=0.5,
                ),
            ),
            temples=1.0,
        ),
        "long": Style(
            (
                Lock(
                    length=(36.0, 31.0),
                    comb="part",
                    lift=0.30,
                    comb_pull=0.42,
                    gravity=0.16,
                    wave=0.28,
                    turns=0.045,
                    clump=0.55,
                    frizz=0.5,
                    strands=22000,
                    guides=700,
                    steps=30,
                    layer=0.8,
                ),
            ),
            part=-0.8,
        ),
        "waves": Style(
            (
                Lock(
                    length=(27.0, 20.0),
                    comb="part",
                    lift=0.45,
                    comb_pull=0.35,
                    gravity=0.14,
                    wave=0.55,
                    turns=0.13,
                    clump=0.75,
                    frizz=0.7,
                    strands=22000,
                    guides=480,
                    steps=30,
                    layer=1.0,
                ),
            ),
            part=1.8,
        ),
        "bob": Style(
            (
                Lock(
                    length=(20.0, 11.0),
                    comb="part",
                    lift=0.30,
                    comb_pull=0.42,
                    gravity=0.16,
                    wave=0.08,
                    turns=0.05,
                    clump=0.35,
                    frizz=0.25,
                    strands=22000,
                    guides=900,
                    steps=20,
                    layer=0.8,
                ),
                Lock(
                    region="fringe",
                    length=(6.2, 6.2),
                    comb="forward",
                    lift=0.55,
                    comb_pull=0.3,
                    gravity=0.12,
                    wave=0.05,
                    turns=0.1,
                    clump=0.35,
                    frizz=0.2,
                    strands=5000,
                    guides=260,
                    steps=12,
                ),
            ),
        ),
        "curls": Style(
            (
                Lock(
                    length=(15.0, 12.0),
                    comb="part",
                    lift=0.5,
                    comb_pull=0.25,
                    gravity=0.16,
                    wave=0.55,
                    turns=0.33,
                    clump=0.75,
                    frizz=0.9,
                    strands=16000,
                    guides=560,
                    steps=30,
                    layer=1.2,
                ),
            ),
            part=1.0,
        ),
        "afro": Style(
            (
                Lock(
                    length=(4.0, 3.0),
                    comb="out",
                    lift=1.0,
                    comb_pull=0.05,
                    gravity=0.0,
                    wave=0.36,
                    turns=0.8,
                    clump=0.25,
                    frizz=0.8,
                    strands=22000,
                    guides=2600,
                    steps=15,
                    layer=0.6,
                ),
            ),
            temples=0.2,
        ),
        "bun": Style(
            (
                _SLEEK,
                Lock(
                    region="bun",
                    length=(14.0, 14.0),
                    comb="knot",
                    lift=0.0,
                    comb_pull=0.0,
                    gravity=0.0,
                    wave=0.1,
                    turns=0.1,
                    frizz=0.25,
                    strands=7000,
                    guides=500,
                    steps=16,
                    layer=0.5,
                ),
                Lock(
                    region="fringe",
                    length=(5.6, 5.6),
                    comb="forward",
                    lift=0.5,
                    comb_pull=0.3,
                    gravity=0.12,
                    wave=0.05,
                    turns=0.1,
                    clump=0.45,
                    frizz=0.25,
                    strands=4200,
                    guides=200,
                    steps=12,
                ),
            ),
            knot=(0.0, 15.6, -3.6),
        ),
        "tail": Style(
            (
                _SLEEK,
                Lock(
                    region="tail",
                    length=(27.0, 27.0),
                    comb="knot",
                    lift=0.0,
                    comb_pull=0.0,
                    gravity=0.1,
                    wave=0.5,
                    turns=0.06,
                    clump=0.6,
                    frizz=0.6,
                    strands=6000,
                    guides=160,
                    steps=26,
                    layer=0.5,
                ),
            ),
            knot=(0.0, 10.0, -9.8),
            hairline=0.3,
        ),
        "ring": Style(
            (
                Lock(
                    region="sides",
                    length=(2.2, 1.2),
                    comb="down",
                    lift=0.35,
                    comb_pull=0.3,
                    gravity=0.08,
                    wave=0.1,
                    turns=0.1,
                    frizz=0.3,
                    strands=14000,
                    guides=700,
                    steps=6,
                ),
            ),
            hairline=20.0,
        ),
        "mane": Style(
            (
                Lock(
                    length=(18.0, 12.0),
                    comb="back",
                    lift=0.50,
                    comb_pull=0.34,
                    gravity=0.16,
                    wave=0.35,
                    turns=0.11,
                    clump=0.65,
                    frizz=0.4,
                    strands=22000,
                    guides=420,
                    steps=24,
                    layer=0.8,
                ),
            ),
            temples=0.8,
        ),
        "bald": Style((), hairline=20.0),
    }
)


def style_of(who: Identity) -> Style:
    """Return the hair style of a person, with the length, curls and parting of `Identity.hair_cut`."""
    style, (length, curls, mirrored) = STYLES[who.hair], who.hair_cut
    locks = [
        replace(lock, length=(length * lock.length[0], length * lock.length[1]), wave=curls * lock.wave)
        for lock in style.locks
    ]
    return replace(style, locks=tuple(locks), part=-style.part if mirrored else style.part)
