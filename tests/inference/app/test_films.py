"""Keyframes to frames to files."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field

import av
import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.expression import Expression
from fexgan_lit.inference.animation.keyframes import read_keys
from fexgan_lit.inference.app.animation import (
    Film,
    driver,
    exported,
    frames_of,
    painted,
    read_film,
    record,
    side_by_side,
    wanted_frames,
)
from fexgan_lit.inference.app.requests import FaceRequest
from fexgan_lit.inference.app.session import Session
from fexgan_lit.utils.errors import UserError
from tests.conftest import AFFECTS

JOY, ANGER = FaceRequest({"joy": 1.0}), FaceRequest({"anger": 1.0})


@dataclass
class Painter:
    """Paints the weight of joy as brightness."""

    size: int = 32
    batches: list[int] = field(default_factory=list)

    def wanted(self, asked: FaceRequest) -> Expression:
        return Expression.blend(asked.weights, AFFECTS)

    def paint(self, wanted: Expression) -> torch.Tensor:
        self.batches.append(len(wanted.affect))
        return wanted.affect[:, 3, None, None, None].expand(-1, 3, self.size, self.size) * 2 - 1


def keys(*times: float) -> list[dict]:
    return [{"time": time, "weights": {"joy": k % 2}} for k, time in enumerate(times)]


def test_frames_lie_between_the_keyframes():
    film = Film((0.0, 1.0, 3.0), (ANGER, JOY, ANGER), fps=4, ease="linear")
    assert film.count == 13
    assert [film.place(frame) for frame in (0, 1, 4, 6, 12)] == [(0, 0), (0, 0.25), (1, 0), (1, 0.25), (1, 1)]
    smooth = Film((0.0, 1.0), (ANGER, JOY), fps=4)
    assert [smooth.place(frame)[1] for frame in range(5)] == [0, 0.15625, 0.5, 0.84375, 1]  # 3 s² - 2 s³


def test_the_expression_of_every_frame():
    wanted = wanted_frames(Film((0.0, 1.0), (ANGER, JOY), fps=4, ease="linear"), Painter())
    assert torch.equal(wanted.affect[:, 3], torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    assert torch.equal(wanted.affect[:, 0], torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_a_film_lets_others_paint_in_between(tmp_path):
    session, painter = Session([], tmp_path), Painter()
    for _ in painted(Film((0.0, 2.0), (ANGER, JOY), fps=5), painter, session):
        with session.painting():  # would wait for ever were it held
            pass
    assert painter.batches == [4, 4, 3]


def test_reading_what_the_page_sends():
    film = read_film({"keyframes": keys(1, 2, 4.5), "fps": 10, "ease": "linear"}, AFFECTS)
    assert film.times == (0, 1, 3.5)
    assert (film.fps, film.ease, film.count) == (10, "linear", 36)
    again = read_film(json.loads(json.dumps(record(film))), AFFECTS)
    assert again == film


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "A film needs 2 to 32 keyframes"),
        ({"keyframes": keys(0)}, "A film needs 2 to 32 keyframes"),
        ({"keyframes": keys(*range(33))}, "A film needs 2 to 32 keyframes"),
        ({"keyframes": keys(0, 2, 1)}, "out of order: 1 s comes after 2 s"),
        ({"keyframes": keys(0, 1, 1)}, "out of order"),
        ({"keyframes": keys(0, 31)}, "expected 0 to 30"),
        ({"keyframes": [{"weights": {}}, {"time": 1}]}, "time of a keyframe: expected a number"),
        ({"keyframes": keys(0, 1), "fps": 1}, "frames a second is 1; expected 2 to 30"),
        ({"keyframes": keys(0, 1), "ease": "bounce"}, "expected smooth or linear"),
        ({"keyframes": keys(0, 20), "fps": 30}, "601 frames; expected at most 240"),
    ],
)
def test_films_that_are_refused(tree, message):
    with pytest.raises(UserError, match=message):
        read_film(tree, AFFECTS)


@pytest.fixture
def shot(tmp_path):
    film = Film((0.0, 1.0), (ANGER, JOY), fps=10, ease="linear")
    session = Session([], tmp_path)
    return film, [frames_of(film, painter, session) for painter in (Painter(), Painter(64))], tmp_path


def test_two_systems_side_by_side(shot):
    _, films, _ = shot
    assert side_by_side(films).shape == (11, 256, 512, 3)


def test_gif(shot):
    film, films, folder = shot
    picture = Image.open(io.BytesIO(exported(film, films, "gif", folder)))
    assert (picture.size, picture.n_frames) == ((512, 256), 11)
    durations = []
    for frame in range(picture.n_frames):
        picture.seek(frame)
        durations.append(picture.info["duration"])
    assert sum(durations) == 1100
    assert not list(folder.iterdir())


def test_mp4(shot):
    film, films, folder = shot
    with av.open(io.BytesIO(exported(film, films, "mp4", folder))) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert clip.streams.video[0].average_rate == 10
    assert len(frames) == 11
    assert frames[0].mean() < 10
    assert frames[-1].mean() > 245
    assert not list(folder.iterdir())


def test_frames_as_the_systems_paint_them(shot):
    film, films, folder = shot
    with zipfile.ZipFile(io.BytesIO(exported(film, films, "png", folder))) as archive:
        names = archive.namelist()
        last = np.asarray(Image.open(io.BytesIO(archive.read("system_2/0010.png"))))
        kept = json.loads(archive.read("film.json"))
    assert len(names) == 24
    assert (last.shape, last.min()) == ((64, 64, 3), 255)
    assert kept["keyframes"][1] == {"time": 1.0, "weights": {"joy": 1.0}, "units": {}}


def test_keyframes_drive_the_command_line_too(tmp_path):
    film = Film((0.0, 0.5), (FaceRequest({"joy": 0.5, "fear": 0.25}), FaceRequest(units={12: 0.75})), ease="linear")
    (tmp_path / "film.yaml").write_text(driver(film))
    keys = read_keys(tmp_path / "film.yaml", AFFECTS)
    assert [(key.time, key.ease) for key in keys] == [(0, "linear"), (0.5, "linear")]
    assert keys[0].wish.affects == {"joy": 0.5, "fear": 0.25}
    assert keys[1].wish.units == {12: 0.75}
    assert driver(Film((0.0, 1.0), (FaceRequest({"joy": 1.0}, {12: 1.0}), JOY))) is None
    assert driver(Film((0.0, 1.0), (FaceRequest(), JOY))) is None
