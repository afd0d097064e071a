"""`mode=animate`: faces that follow a driver, as videos, frames and a contact strip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit.data.frames import resize_batch, to_float, to_uint8
from fexgan_lit.data.images import EXTENSIONS as IMAGES
from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect, rows_of
from fexgan_lit.inference.animation.drivers import Driver, driver_problem, read_driver
from fexgan_lit.inference.animation.keyframes import EXTENSIONS, FPS, keyed_beat, keyed_expressions, read_keys
from fexgan_lit.inference.animation.stills import frame_driver, image_driver
from fexgan_lit.inference.animation.timeline import FASTEST, SLOWEST, Beat, Play, beat, cards, value_cards
from fexgan_lit.inference.animation.video import enlarged, gif_note, write_gif, write_mp4
from fexgan_lit.inference.modes.transform import write_columns
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

_INSTEAD = (
    "A run that reads affects follows a take of its own data, driver=IDENTITY/AFFECT/TAKE; for other drivers give the "
    "affect they show with affect=. Action units and landmarks can only drive runs of systems that read them"
)
#: Number of frames on the contact strip.
MOMENTS = 8
#: Landmarks at the outer eye corners; their distance is the unit of transferred motion.
_EYE_CORNERS = (36, 45)


@dataclass
class AnimateOptions(Options):
    """The driver of the animation.

    Attributes:
        driver: IDENTITY/AFFECT[/TAKE] of the run's data, a CSV, an image, a video file, or keyframes in YAML.
        still: one frame drives: `picture`, the result alone, or `ramp`, a film of a second from rest to it; None means
            a picture for an image, and the whole take for IDENTITY/AFFECT.
        rest: an image of the person of an image driver at rest.
        fps: frames per second; None uses the driver's rate, and 25 for keyframes and ramps.
        au_scale: value of a full action unit in a CSV, 1 or 5; None detects it.
        affect: affect of a driver without labels, for runs that read affects.
    """

    driver: str | None = None
    still: str | None = option(None, choices=("picture", "ramp"))
    rest: str | None = None
    fps: float | None = option(None, f"{SLOWEST:g} to {FASTEST:g} frames a second", at_least=SLOWEST, at_most=FASTEST)
    au_scale: float | None = option(None, "1 or 5", choices=(1.0, 5.0))
    affect: str | None = None

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if not self.driver:
            return [
                "driver= is missing: IDENTITY/AFFECT[/TAKE] of the run's data, a CSV, an image, a video, or keys.yaml"
            ]
        problem = driver_problem(self.driver)
        found = [problem] if problem else []
        path = Path(self.driver)
        if self.still is not None and path.suffix and not self.is_image:
            found.append(
                f"still={self.still}: only an image or IDENTITY/AFFECT is one frame, driver={self.driver} is not"
            )
        if self.rest is not None and not self.is_image:
            found.append(
                f"rest={self.rest}: it shows the person of an image driver at rest, driver={self.driver} is none"
            )
        elif self.rest is not None and not Path(self.rest).expanduser().is_file():
            found.append(f"rest={self.rest}: there is no such file")
        return found

    @property
    def is_image(self) -> bool:
        """Whether the driver is an image file."""
        return Path(str(self.driver)).suffix.lower() in IMAGES

    @property
    def one_frame(self) -> str | None:
        """What one frame makes, `picture` or `ramp`; None for other drivers."""
        return self.still or ("picture" if self.is_image else None)


def animate(session: GenerationSession, options: AnimateOptions) -> None:
    """Animate every face with the driver: NAME.mp4, NAME.gif, frames/NAME/*.png and strip.png; or see `_picture`."""
    path, settings = Path(str(options.driver)).expanduser(), session.settings
    if settings.annotations is not None and settings.images is None and not options.is_image:
        raise UserError(f"annotations={settings.annotations}: it describes images; give images= or an image as driver=")
    if options.one_frame == "picture":
        _picture(session, _read(session, options))
        return
    play = _keyed(session, path, options) if path.suffix.lower() in EXTENSIONS else _driven(session, options)
    write_films(session, play)


def write_films(session: GenerationSession, play: Play) -> None:
    """Write the films and frames of every face, and the strip."""
    tact = play.beat
    if note := gif_note(len(tact.times), tact.rate):
        session.say(note)
    session.output.measured["film"] = {
        "frames": len(tact.times), "frames_a_second": round(float(tact.rate), 4),
        "seconds": round(len(tact.times) / float(tact.rate), 4),
    }  # fmt: skip
    chosen = np.linspace(0, len(tact.times) - 1, min(MOMENTS, len(tact.times))).round().astype(int)
    rows = [_animate_one(session, play, number)[chosen] for number in range(len(session.sources))]
    _strip(session, play, chosen, rows)


def _read(session: GenerationSession, options: AnimateOptions) -> Driver:
    """Read a driver that is a clip, a table, a video or one frame, and print its notes."""
    if Path(str(options.driver)).expanduser().is_file():  # what no file tells is missed before minutes of a film
        told = ["aus", "landmarks", *(["affect"] if options.affect is not None else [])]
        session.check(Expression(**dict.fromkeys(told, torch.zeros(1))), _INSTEAD)
    text, affects = str(options.driver), session.system.affects
    if options.is_image:
        rest = None if options.rest is None else Path(options.rest).expanduser()
        given = image_driver(session, Path(text).expanduser(), rest)
    elif options.one_frame:
        given = frame_driver(session, text)
    else:
        given = read_driver(session, text, options.fps, options.au_scale)
    for note in given.notes:
        session.say(note)
    if given.affect is None and options.affect is not None:
        labels = [options.affect] * len(given.times)
        if options.one_frame and "neutral" in affects:
            labels[0] = "neutral"
        chosen = [affects.index(resolve_affect(label, affects)) for label in labels]
        given = replace(given, affect=np.eye(len(affects), dtype=np.float32)[chosen])
    return given


def _picture(session: GenerationSession, driver: Driver) -> None:
    """Give every face the expression of one frame: driver.png, faces/NAME/*.png and sheet.png."""
    last = [rows_of(_wanted(session, driver, number), [-1]) for number in range(len(session.sources))]
    wanted = Expression.stack(last)
    session.check(wanted, _INSTEAD)
    if driver.pictures is not None:
        session.output.picture("driver.png", Image.fromarray(driver.pictures[-1]), f"the driver, {driver.name}")
    write_columns(session, [wanted], [file_name(driver.name)], [driver.name], f"the faces driven by {driver.name}")


def _driven(session: GenerationSession, options: AnimateOptions) -> Play:
    """Read a driver, and resample it at a steady rate."""
    given = _read(session, options)
    if options.one_frame:
        rate = Fraction(options.fps or FPS).limit_denominator(1001)
        moments = np.arange(round(rate) + 1) / float(rate)
        tact = Beat(
            moments, rate, f"one frame drives: a ramp of a second, {len(moments)} frames at {float(rate):g} per second"
        )
    else:
        tact = beat(given.times, options.fps)
    if tact.note:
        session.say(tact.note)
    driver = given.at(tact)
    return Play(driver.name, tact, partial(_wanted, session, driver), partial(_above, driver))


def _keyed(session: GenerationSession, path: Path, options: AnimateOptions) -> Play:
    """Read keyframes.

    Raises:
        UserError: keys that cannot be used, or options that belong to other drivers.
    """
    for name in ("affect", "au_scale"):
        if getattr(options, name) is not None:
            raise UserError(
                f"{name}={getattr(options, name)}: keyframes define the expressions themselves; leave it out"
            )
    keys = read_keys(path, session.system.affects)
    tact = keyed_beat(keys, options.fps)
    wanted = keyed_expressions(session, keys, tact.times, lambda asked: session.check(asked, _INSTEAD))
    session.say(f"{len(keys)} keys, {len(tact.times)} frames at {float(tact.rate):.4g} per second")
    return Play(path.stem, tact, wanted, lambda chosen, side: cards(wanted(0), session.system.affects, chosen, side))


def _animate_one(session: GenerationSession, play: Play, number: int) -> np.ndarray:
    """Write frames and videos of one face; return the frames (T, S, S, 3) uint8."""
    name, tact = session.sources.names[number], play.beat
    wanted = play.wanted(number)
    session.check(wanted, _INSTEAD)
    frames = to_uint8(session.paint(np.full(len(tact.times), number), wanted, f"animating {name}"))
    place = file_name(name)
    for moment, pixels in enumerate(frames):
        session.output.face(f"frames/{place}/{moment:04d}", pixels, name, wanted, moment)
    film, rate = enlarged(frames), f"{float(tact.rate):.4g} frames per second"
    write_mp4(session.output.path(f"{place}.mp4", f"{name} following {play.name}, {rate}"), film, tact.rate)
    write_gif(session.output.path(f"{place}.gif", f"{name} following {play.name}"), film, tact.rate)
    return frames


def _wanted(session: GenerationSession, driver: Driver, number: int) -> Expression:
    """Return the target expressions of face `number` at T times, in the fields the run reads and the driver has."""
    reads, given = session.system.reads, {}
    if "affect" in reads and driver.affect is not None:
        given["affect"] = torch.from_numpy(driver.affect)
    if "aus" in reads and driver.aus is not None:
        moved = torch.from_numpy(driver.aus).clamp(0, 1)
        given["aus"] = torch.where(moved.isnan(), session.own("aus")[number], moved)
    if session.system.fuses_landmarks and driver.landmarks is not None:
        given["landmarks"] = torch.from_numpy(driver.landmarks).float()
    elif "landmarks" in reads and driver.landmarks is not None and driver.rest is not None:
        own = session.own("landmarks")[number]
        given["landmarks"] = carried_over(
            torch.from_numpy(driver.landmarks), torch.from_numpy(driver.rest.astype(np.float32)), own
        )
    return Expression(**given)


def carried_over(landmarks: Tensor, rest: Tensor, own: Tensor) -> Tensor:
    """Transfer the motion of one face to another: `own` + ratio * (`landmarks` - `rest`).

    The ratio of the distances between the outer eye corners, at rest, compensates for different face sizes. A face
    driven by itself gets its own landmarks.

    Args:
        landmarks: (T, 68, 2) landmarks of the driver, in any unit.
        rest: (68, 2) landmarks of the driver at rest, in the same unit.
        own: (68, 2) landmarks of the driven face.

    Returns:
        (T, 68, 2) in the unit of `own`.
    """
    widths = [(face[_EYE_CORNERS[1]] - face[_EYE_CORNERS[0]]).norm() for face in (own, rest)]
    return own + widths[0] / widths[1] * (landmarks - rest)


def _strip(session: GenerationSession, play: Play, chosen: np.ndarray, rows: list[np.ndarray]) -> None:
    """Write strip.png: the driver's images, or cards of its strongest values, above the generated images."""
    from fexgan_lit.figures import face_sheet
    from fexgan_lit.figures.layout import cell_side

    side = cell_side(session.system.image_size)
    above = play.above(chosen, side)
    pictures = [*([] if above is None else [above]), *(resize_batch(row, side) for row in rows)]
    labels = [*([] if above is None else [play.name]), *session.sources.names]
    cells = torch.stack([to_float(picture) for picture in pictures])  # (R, M, 3, S, S)
    page = face_sheet(cells, labels, [f"{play.beat.times[moment]:.2f} s" for moment in chosen])
    shows = f"faces following {play.name}" if above is None else f"{play.name} above, the animated faces below"
    session.output.picture("strip.png", page, shows)


def _above(driver: Driver, chosen: np.ndarray, side: int) -> np.ndarray | None:
    """Return images of the driver at the times `chosen`, (M, side, side, 3) uint8; None if it has only landmarks."""
    if driver.pictures is not None:
        return resize_batch(driver.pictures[chosen], side)
    if driver.aus is None:
        return None
    return value_cards(driver.aus[chosen], [f"AU{unit}" for unit in ACTION_UNITS], driver.aus, side)
