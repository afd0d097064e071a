"""face-api's networks: the same answers as the package's own JavaScript, and archives that are something else."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit.evaluation.config import EvaluationSettings, MetricSettings
from fexgan_lit.evaluation.measure import judge_bench
from fexgan_lit.metrics.judges import face_api_weights
from fexgan_lit.metrics.judges.external import ExternalJudge, ExternalJudgeSettings
from fexgan_lit.metrics.judges.face_api import ExpressionNet, IdentityNet
from fexgan_lit.metrics.judges.face_api_weights import convert_archive, face_api_judges, face_crop, weights_file
from fexgan_lit.metrics.judges.panel import JudgePanel
from fexgan_lit.utils.errors import UserError
from tests.commands import run_here
from tests.metrics.face_api_archive import EXPRESSION, IDENTITY, package_files, pictures, write_archive
from tests.metrics.faces import make_frames, make_moving_frames

#: Answers of face-api 1.7.15 (its bundle with TensorFlow.js, cpu backend, on Node 20) to `pictures`.
ANSWERS = json.loads((Path(__file__).parent / "face_api_answers.json").read_text())
FILES = package_files()
OURS = ExternalJudgeSettings()
WHOLE = ([0.0, 0.0, 1.0, 1.0], "a test")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("npm") / "face-api.tgz", FILES)


@pytest.fixture(scope="module")
def cache(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    convert_archive(archive, folder)
    return folder


def judges_in(cache: Path, **crops: list[float]) -> dict[str, ExternalJudge]:
    own = {slot: ExternalJudgeSettings(crop=crops.get(slot)) for slot in ("affect", "identity")}
    return face_api_judges(str(cache), WHOLE, **own)


def check_answers(judges: dict[str, ExternalJudge], prefix: str = "") -> None:
    for slot, name, size in (("affect", "expression", ExpressionNet.size), ("identity", "identity", IdentityNet.size)):
        wanted = torch.tensor(ANSWERS[prefix + name])
        images = torch.from_numpy(pictures(size)[: len(wanted)]).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = judges[slot].raw(images)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_answers_are_those_of_the_packages_javascript(cache):
    check_answers(judges_in(cache))


def test_the_published_weights_answer_as_in_javascript(tmp_path):
    place = os.environ.get("FEXGAN_LIT_FACE_API")
    if place is None:
        pytest.skip("FEXGAN_LIT_FACE_API does not name face-api-1.7.15.tgz from npm")
    convert_archive(Path(place), tmp_path)
    check_answers(judges_in(tmp_path), "published_")


def without(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: {key: content for key, content in files.items() if key != name}


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: files | {name: change(files[name])}


MANIFEST = f"{EXPRESSION}-weights_manifest.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed("package/package.json", lambda c: c.replace(b".15", b".14")), "holds @vladmandic/face-api 1.7.14"),
        (changed("package/package.json", lambda c: c.replace(b"face-api", b"human")), "holds @vladmandic/human 1.7.15"),
        (without("package/package.json"), "6 files without package.json"),
        (changed("package/package.json", lambda c: b"[" * 9), "7 files without package.json"),
        (without("package/LICENSE"), "lacks package/LICENSE"),
        (without(f"{IDENTITY}.bin"), f"lacks {IDENTITY}.bin"),
        (changed(f"{IDENTITY}.bin", lambda c: c[:-1]), "does not fit the weights"),
        (changed(f"{IDENTITY}.bin", lambda c: c + b"\0"), "bytes of weights, its manifest lists"),
        (changed(MANIFEST, lambda c: c[:-1]), "does not fit the weights"),
        (changed(MANIFEST, lambda c: c.replace(b"uint8", b"uint4")), "does not fit the weights"),
        (changed(MANIFEST, lambda c: c.replace(b'"min": ', b'"min": NaN, "max": ')), "not finite"),
        (changed(MANIFEST, lambda c: c.replace(b"[3, 3, 3, 32]", b"[3, 3, 32, 3]")), r"dense0.conv0.weight is \(3, 32"),
        (changed(MANIFEST, lambda c: c.replace(b"[3, 3, 3, 32]", b"[27, 32]")), "is of another network"),
        (changed(MANIFEST, lambda c: c.replace(b"[3, 3, 3, 32]", b"[-3, -3, 3, 32]")), "does not fit the weights"),
        (changed(MANIFEST, lambda c: c.replace(b"fc/weights", b"fc/moments")), "is of another network"),
        (lambda files: files | {f"{EXPRESSION}.bin": files[f"{IDENTITY}.bin"]}, "bytes of weights, its manifest lists"),
    ],
)  # fmt: skip
def test_other_and_damaged_archives_are_named_and_leave_nothing(tmp_path, change, words):
    place = write_archive(tmp_path / "face-api.tgz", change(FILES))
    with pytest.raises(UserError, match=words):
        convert_archive(place, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_files_that_are_no_archive_are_named(tmp_path, archive, monkeypatch):
    contents = {
        "text.tgz": b"no archive",
        "zipped.tgz": gzip.compress(b"no tar"),
        "cut.tgz": archive.read_bytes()[:9999],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "nowhere.tgz", "."):
        with pytest.raises(UserError, match=r"not a readable .tgz archive \(.+\); expected https://registry"):
            convert_archive(tmp_path / name, tmp_path / "cache")
    monkeypatch.setattr(face_api_weights, "MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match="more than 1 MiB"):
        convert_archive(archive, tmp_path / "cache")


def test_weights_that_are_not_there_come_with_the_two_commands(tmp_path, cache):
    with pytest.raises(UserError, match="does not exist") as error:
        judges_in(tmp_path)
    fetch, prepare = (line.strip() for line in str(error.value).splitlines()[1:])
    assert fetch == "curl -O https://registry.npmjs.org/@vladmandic/face-api/-/face-api-1.7.15.tgz"
    assert prepare == (
        f"python -m fexgan_lit.prepare judge=face_api archive=face-api-1.7.15.tgz dataset.cache_dir={tmp_path}"
    )
    for damage in (lambda content: content[:1000], lambda content: content[:8] + content[8:].replace(b"fc.", b"gc.")):
        place = weights_file(tmp_path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(damage(weights_file(cache).read_bytes()))
        with pytest.raises(UserError, match="write it again:\n  curl"):
            judges_in(tmp_path)


def bench(cache: Path, frames, **options) -> JudgePanel:
    data = SimpleNamespace(
        train=frames, val=frames, key="k", config=SimpleNamespace(layout_name="folder", cache_dir=str(cache))
    )
    test_set = SimpleNamespace(data=data, image_size=32)
    return judge_bench(test_set, MetricSettings(external="face_api", **options), lambda name: lambda done, total: None)


def test_the_slots_of_affect_and_identity_are_filled_and_measured(cache):
    frames = make_frames(2)
    panel = bench(cache, frames)
    images = frames.floats(np.arange(len(frames)), 32)
    assert panel.affect.columns == [1, 0, 2, 6], "joy, neutral, sadness, surprise among the network's outputs"
    hits = panel.affect.read(images).affect.numpy() == frames.affect
    assert panel.affect.affect_accuracy == pytest.approx(hits.mean()), "the ceiling on true frames"
    assert panel.identity.rank1 is not None
    torch.testing.assert_close(panel.embed(images).norm(dim=1), torch.ones(len(images)))
    affect, *_, identity = panel.describe()
    part = r"an independent \w+ judge of the part 0.15, 0.2, 0.85, 0.9 \(fixed for data sets without landmarks\)"
    for line, words in ((affect, "expression"), (identity, "identity")):
        assert f"the {words} network of face-api 1.7.15 (weights " in line
        assert re.search(part, line)
    assert "its classes anger, fear, disgust are left out" in affect


def test_grey_and_tiny_frames_are_judged(cache):
    judges = judges_in(cache, affect=[0.4, 0.4, 0.41, 0.41])
    for images in (torch.zeros(1, 1, 8, 8).expand(1, 3, 8, 8), torch.rand(1, 3, 1, 1)):
        assert judges["affect"].raw(images).shape == (1, 7)
        assert judges["identity"].raw(images).shape == (1, 128)


def test_an_affect_that_it_does_not_know_is_refused(cache):
    frames = replace(make_frames(1), affects=("contempt", "neutral", "sadness", "surprise"))
    with pytest.raises(UserError, match=r"expression network of face-api.* does not know contempt"):
        bench(cache, frames)


def test_the_crop_is_the_mean_box_of_the_landmarks_or_fixed_or_the_users(cache):
    assert face_crop("ferg", make_frames(1))[0] == [0.2, 0.25, 0.8, 0.9]
    frames = make_moving_frames(3)
    corners = np.array([[[-0.5, -0.4], [0.5, 0.6]], [[-0.3, -0.2], [0.7, 0.8]], [[np.nan, 0], [0, 0]]])  # (3, 2, 2)
    frames = replace(frames, landmarks=np.repeat(corners, 34, axis=1).astype(np.float32))
    box, origin = face_crop("mhfed", frames)
    assert box == pytest.approx([0.25, 0.3, 0.85, 0.9], abs=1e-3), "0.3..0.8 and 0.35..0.85, and a tenth on each side"
    assert "landmarks" in origin
    judges = judges_in(cache, identity=[0.1, 0.2, 0.3, 0.4])
    assert judges["identity"].describe("identity").endswith("of the part 0.1, 0.2, 0.3, 0.4 (your crop)")
    assert judges["affect"].settings.crop == WHOLE[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"external": "nosuch"}, "metrics.external=nosuch: expected face_api, or null"),
        ({"affect_judge": ExternalJudgeSettings(path="x.pt")}, "metrics.affect_judge.path cannot be given too"),
        ({"identity_judge": ExternalJudgeSettings(input_size=8)}, "metrics.identity_judge.input_size cannot be given"),
        ({"affect_judge": ExternalJudgeSettings(crop=[0.5, 0, 0.5, 1])}, "affect_judge.crop: [0.5, 0, 0.5, 1];"),
        ({"identity_judge": ExternalJudgeSettings(crop=[0, 0, 1, 1.1])}, "expected [left, top, right, bottom] in 0..1"),
        ({"identity_judge": ExternalJudgeSettings(crop=[0, 1])}, "metrics.identity_judge.crop: [0, 1];"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_named(options, words):
    (problem,) = MetricSettings(**{"external": "face_api"} | options).problems()
    assert words in problem


def test_a_protocol_without_judges_refuses_it():
    settings = EvaluationSettings(run="x", protocol="augmentation", metrics=MetricSettings(external="face_api"))
    assert any("asks no judge" in problem for problem in settings.problems())


def test_an_action_unit_judge_and_crops_go_with_it():
    own = ExternalJudgeSettings(crop=[0, 0, 0.5, 0.5])
    units = ExternalJudgeSettings(path="units.onnx")
    assert MetricSettings(external="face_api", affect_judge=own, identity_judge=own, au_judge=units).problems() == []


def test_prepare_writes_the_cache_once_and_says_how_to_use_it(tmp_path, archive, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("prepare", "judge=face_api", f"archive={archive}", "dataset.cache_dir=kept")
    assert done.returncode == 0, done.stderr
    assert "python -m fexgan_lit.evaluate run=RUN_DIR metrics.external=face_api" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"], "no empty folder of a report"
    assert (tmp_path / "kept/judges/face_api/LICENSE").read_bytes() == FILES["package/LICENSE"]
    check_answers(judges_in(tmp_path / "kept"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("judge=face_api",), "curl -O https://registry.npmjs.org"),
        (("judge=nosuch", "archive=x.tgz"), "judge=nosuch: expected face_api"),
        (("judge=face_api", "archive=x.tgz", "files=DIR"), "files=DIR: judge= and archive= go with"),
    ],
)
def test_mistakes_of_prepare_are_named(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    done = run_here("prepare", *options)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []
