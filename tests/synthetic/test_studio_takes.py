"""The script both studios act by: takes, moments, counterfactual frames, boxes, and frames as files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.datasets.synthetic import export_studio, make_studio
from fexgan_lit.data.open import open_dataset
from fexgan_lit.data.packing.sources import StudioSource
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.synthetic import CartoonStudio
from fexgan_lit.synthetic.regions import BOX_COLUMNS, region_boxes
from fexgan_lit.synthetic.takes import Take
from fexgan_lit.utils.errors import UserError


def test_a_whole_take_has_sixty_frames_a_second():
    frame = CartoonStudio(1, 1, None, 32, take_seconds=1.5).table()
    assert (frame.groupby("affect").size() == 90).all()
    one = frame[frame["affect"] == "joy"]
    np.testing.assert_allclose(np.diff(one["time_s"]), 1 / 60)
    assert (one["frame"].to_numpy() == np.arange(90)).all()


def test_kept_frames_are_frames_of_the_whole_take():
    whole, few = CartoonStudio(1, 1, None, 32), CartoonStudio(1, 1, 5, 32)
    kept = few.table().query("affect == 'joy'")["frame"].tolist()
    assert kept == [0, 18, 36, 53, 71]
    start = 3 * 72  # anger, disgust and fear come first
    assert (few.render(3 * 5 + 2) == whole.render(start + 36)).all()


def test_a_take_goes_from_neutral_to_the_apex_and_back_smoothly():
    frame = CartoonStudio(1, 2, None, 32).table()
    for (_, affect, _), take in frame.groupby(["identity", "affect", "take"]):
        strength = take["intensity"].to_numpy()
        if affect == "neutral":
            assert (strength == 0).all()
            continue
        assert strength[0] == strength[-1] == 0
        assert strength.max() == pytest.approx(1, abs=1e-3)
        assert np.abs(np.diff(strength)).max() < 0.12
        rising = np.diff(strength) > 0
        assert (np.diff(rising.astype(int)) == 1).sum() <= 1  # one rise, one fall


def test_affects_of_a_take_share_everything_but_the_muscles():
    frame = CartoonStudio(2, 2, 6, 32, head_motion=5.0).table()
    moments = frame.groupby(["identity", "take", "frame"])
    for column in ("yaw", "pitch", "roll", "time_s"):
        assert (moments[column].nunique() == 1).all()
    assert moments["au12"].max().max() > 0.8
    # and takes differ from one another
    assert frame.groupby(["take", "frame"])["yaw"].first().nunique() > 10


def test_the_blink_shuts_the_eyes_for_a_moment():
    takes = [Take((0, k), seconds=1.2, head_motion=1.0) for k in range(200)]
    rest = np.zeros(17)  # AU45 is the last of the 17 action units
    shut = np.array([[take.perform(t, rest).units[:, -1].mean() for t in np.linspace(0, 1, 72)] for take in takes])
    assert 0.25 < (shut.max(axis=1) > 0.9).mean() < 0.45
    assert (shut > 0.5).sum(axis=1).max() / 60 < 0.25  # seconds


def test_boxes_hold_eyes_and_mouth_and_nothing_more():
    table = CartoonStudio(2, 1, 4, 64).table()
    points = table[list(LANDMARK_COLUMNS)].to_numpy().reshape(-1, 68, 2)
    boxes = table[list(BOX_COLUMNS)].to_numpy().reshape(-1, 2, 4)
    for region, inside, outside in ((0, (19, 24, 36, 45), (33, 51)), (1, (48, 54, 57), (30, 8))):
        left, top, right, bottom = boxes[:, region].T
        for k in inside:
            x, y = points[:, k].T
            assert ((left < x) & (x < right) & (top < y) & (y < bottom)).all()
        for k in outside:
            assert ((points[:, k, 1] < top) | (points[:, k, 1] > bottom)).all()
    square = np.zeros((1, 68, 2))
    square[0, 48:68] = np.linspace(10, 20, 20)[:, None]
    np.testing.assert_allclose(region_boxes(square, 64)[0, 1], [8.5, 8.5, 21.5, 21.5])


def test_every_moment_has_a_strong_frame_of_every_affect():
    frame = CartoonStudio(2, 2, 6, 32, exact=0.7).table()
    strong = frame[(frame["intensity"] >= 0.7) | (frame["affect"] == "neutral")]
    per_moment = strong.groupby(["identity", "take", "frame"])["affect"]
    assert (per_moment.nunique() == 7).all()
    assert len(per_moment) == 2 * 2 * 6
    assert (per_moment.size() == 7).all()  # and no more than one of each
    assert len(set(frame["path"])) == len(frame)


def test_takes_that_cannot_be_filmed_say_what_to_change():
    with pytest.raises(UserError, match=r"set take_seconds to 3\.33"):
        CartoonStudio(1, 1, 200, 32)
    with pytest.raises(UserError, match="take_seconds"):
        CartoonStudio(1, 1, 2, 32, take_seconds=0.0)
    with pytest.raises(UserError, match="exact"):
        CartoonStudio(1, 1, 2, 32, exact=1.5)


@pytest.mark.parametrize(("workers", "options"), [(1, {}), (2, {"population": "random", "framing": "random"})])
def test_frames_as_files_are_read_back_with_their_truth(tmp_path, workers, options):
    studio = CartoonStudio(2, 1, 3, 32, **options)
    seen = []
    csv = export_studio(studio, tmp_path / "cast", workers, lambda done, count: seen.append((done, count)))
    assert seen[-1] == (42, 42)
    config = DatasetConfig(name="mhfed", root=str(tmp_path / "cast"), annotations=str(csv))
    back, truth = index_dataset(config).frame, studio.table()
    back = back.sort_values(["identity", "affect", "frame"]).reset_index(drop=True)
    truth = truth.sort_values(["identity", "affect", "frame"]).reset_index(drop=True)
    assert (back["take"] == 0).all()
    np.testing.assert_allclose(back[list(AU_COLUMNS)], truth[list(AU_COLUMNS)], atol=1e-4)
    np.testing.assert_allclose(back[list(LANDMARK_COLUMNS)], truth[list(LANDMARK_COLUMNS)], atol=0.006)
    first = back["path"][0]
    image = cv2.imread(str(tmp_path / "cast" / first))[..., ::-1]
    row = int(np.flatnonzero(studio.table()["path"] == truth["path"][0])[0])
    assert (image == studio.render(row)).all()


def test_a_broken_off_export_goes_on_and_another_studio_is_refused(tmp_path):
    studio = CartoonStudio(1, 1, 2, 32)
    export_studio(studio, tmp_path)
    victim, kept = sorted(tmp_path.rglob("*.png"))[:2]
    victim.unlink()
    stamp = kept.stat().st_mtime_ns
    export_studio(studio, tmp_path)
    assert victim.exists()
    assert kept.stat().st_mtime_ns == stamp
    for other in ({"seed": 5}, {"population": "random"}, {"framing": "random"}):
        with pytest.raises(UserError, match="other settings"):
            export_studio(CartoonStudio(1, 1, 2, 32, **other), tmp_path)


def test_few_frames_of_a_character_are_rendered_by_one_worker(tmp_path):
    rows = np.arange(63)
    assert StudioSource(CartoonStudio(3, 1, 3, 32), rows, 32).together == 21
    assert StudioSource(CartoonStudio(3, 1, 3, 32), rows[rows % 21 < 9], 32).together == 9  # three affects
    assert StudioSource(CartoonStudio(3, 5, 12, 32), np.arange(1260), 32).together == 1


def test_a_population_is_packed_frame_by_frame_and_split_by_person(tmp_path):
    config = DatasetConfig(
        name="studio_cartoon", population="random", framing="random", identities=5, takes=1, frames=3, image_size=32,
        batch_size=4, split="identity", cache_dir=str(tmp_path),
    )  # fmt: skip
    pack, data = open_dataset(config), FrameDataModule(config)
    data.setup()
    studio = make_studio(config)
    table = studio.table()
    assert data.table.frame["path"].tolist() == table["path"].tolist()
    for row in (0, 50, 104):
        assert (pack.images[row] == studio.render(row)).all()
    people = table["identity"].to_numpy()
    assert len(set(people[data.val.rows])) == 1
    assert not set(people[data.val.rows]) & set(people[data.train.rows])
