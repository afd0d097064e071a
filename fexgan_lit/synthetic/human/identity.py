"""Parameters of a person: the shape of the head, skin, eyes, hair and clothes as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.synthetic.population import RGB


@dataclass(frozen=True)
class Identity:
    """One person. Colours are sRGB 0..255; other numbers are 0..1 unless stated otherwise.

    Attributes:
        shape: standard deviations of the first identity modes of the model.
        iris: colour of the eyes.
        lips: colour of the lips; `lip_gloss`: strength of their highlights.
        blush: redness of cheeks, nose and ears; `shadow`: dark rings under the eyes.
        age: depth of the wrinkles at rest.
        shine: oiliness of the skin; `makeup`: eyeliner and lipstick.
        brow_width: cm; `brow_arch`, `brow_height`: cm up; `brow_length`: cm beyond the usual outer end.
        stubble: darkness of the shaved beard; `beard`: length of beard hair in cm; `moustache_only`: no beard below.
        lids: lowering of the upper lids at rest.
        scalp_cover: visible density of the hair roots from above.
        hair: style, a key of `styles.STYLES`; `hair_shine`: strength of its highlights.
        hair_cut: factors on length and curls of the style, and whether its parting is mirrored.
        clothes: tee, hoodie, shirt, turtleneck or crew; `trim`: whether the collar of a tee has the accent colour.
        shoulders: -1 narrow to 1 broad.
        glasses: none, round or square.
        wall: two colours of the wall; `slope`: direction (right, down) in which the first becomes the second.
        light: gain, horizontal offset and warmth in addition to those of a take, see `FaceState.light`.
    """

    name: str
    shape: tuple[float, ...] = ()
    skin: RGB = (222, 176, 150)
    lips: RGB = (180, 96, 92)
    iris: RGB = (92, 120, 140)
    hair_colour: RGB = (60, 40, 28)
    brow_colour: RGB = (50, 34, 24)
    cloth: RGB = (70, 84, 110)
    accent: RGB = (220, 216, 208)
    blush: float = 0.4
    shadow: float = 0.2
    age: float = 0.1
    shine: float = 0.3
    makeup: float = 0.0
    lip_gloss: float = 0.3
    freckles: float = 0.0
    brow_width: float = 0.42
    brow_arch: float = 0.2
    brow_height: float = 0.0
    brow_length: float = 0.0
    brow_density: float = 0.9
    stubble: float = 0.0
    beard: float = 0.0
    moustache_only: bool = False
    lashes: float = 0.4
    lids: float = 0.1
    scalp_cover: float = 0.9
    hair: str = "crop"
    hair_shine: float = 1.0
    hair_cut: tuple[float, float, bool] = (1.0, 1.0, False)
    clothes: str = "tee"
    trim: bool = False
    shoulders: float = 0.0
    glasses: str = "none"
    wall: tuple[RGB, RGB] | None = None
    slope: tuple[float, float] = (0.0, 0.0)
    light: tuple[float, float, float] = (1.0, 0.0, 0.0)
