"""Three lines of Python: every kind of image in, the same kind out, and mistakes that say what to do."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fexgan_lit
from fexgan_lit import load
from fexgan_lit.data.frames import to_float
from fexgan_lit.expression import Expression
from fexgan_lit.inference import loaded_system as api
from fexgan_lit.inference.faces import FACES, from_files
from fexgan_lit.inference.images import as_batch, pillow_pixels
from fexgan_lit.runs import weights as hub
from fexgan_lit.runs.folder import SHIPPED, RunFolder
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import make_run

S = 32


@pytest.fixture(scope="session")
def loaded(tmp_path_factory, cache):
    """The system of a tiny untrained run, by model; the runs are made when first asked for."""
    home, made = tmp_path_factory.mktemp("api"), {}

    def get(model: str = "fexgan") -> api.LoadedSystem:
        if model not in made:
            made[model] = load(make_run(home / model, model))
        return made[model]

    return get


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# ---------------------------------------------------------------------- images


def test_every_kind_of_image_gives_the_same_face_in_its_own_kind(loaded, tmp_path):
    system, pixels = loaded(), noise(S, S, 3)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    tensor = to_float(pixels[None])
    as_array = system.synthesize(pixels, "joy")
    assert as_array.dtype == np.uint8
    assert as_array.shape == (S, S, 3)
    assert np.array_equal(np.asarray(system.synthesize(Image.fromarray(pixels), "joy")), as_array)
    assert np.array_equal(np.asarray(system.synthesize(tmp_path / "face.png", "joy")), as_array)
    assert np.array_equal(np.asarray(system.synthesize(str(tmp_path / "face.png"), "joy")), as_array)
    assert np.array_equal(system.synthesize(pixels[None], "joy"), as_array[None])
    one, batch = system.synthesize(tensor[0], "joy"), system.synthesize(tensor, "joy")
    assert one.shape == (3, S, S)
    assert torch.equal(one, batch[0])
    direct = system.system.synthesize(tensor, None, system.system.expression([system.affects.index("joy")]))
    assert torch.allclose(batch, direct, atol=1e-6)


def test_a_picture_of_any_size_becomes_its_central_square():
    wide = np.zeros((S, 3 * S, 3), np.uint8)
    wide[:, S : 2 * S] = noise(S, S, 3)
    batch, _ = as_batch(Image.fromarray(wide), S)
    assert torch.equal(batch, to_float(wide[None, :, S : 2 * S]))
    assert as_batch(noise(2, 50, 40, 3), S)[0].shape == (2, 3, S, S)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_a_file_and_what_pillow_opens_are_turned_alike(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((40, 40, 3), np.uint8)
    half[:20] = 255  # light above, and on the right once it is turned
    Image.fromarray(half).save(tmp_path / f"a.{kind}", exif=exif)
    of_file = as_batch(tmp_path / f"a.{kind}", S)[0]
    assert torch.equal(of_file, as_batch(Image.open(tmp_path / f"a.{kind}"), S)[0])
    assert of_file[..., S * 3 // 4 :].min() > 0.9 > -0.9 > of_file[..., : S // 4].max()


def test_pillow_images_of_less_usual_kinds():
    clear = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    assert pillow_pixels(clear).max() == 0, "what is transparent lies on black, as in training"
    assert pillow_pixels(Image.new("L", (4, 4), 77)).tolist() == np.full((4, 4, 3), 77).tolist()
    assert pillow_pixels(Image.fromarray(np.full((4, 4), 65535, np.uint16))).min() == 255
    assert pillow_pixels(Image.new("CMYK", (4, 4), (0, 0, 0, 255))).max() <= 1
    turned = Image.fromarray(noise(4, 6, 3))
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert np.array_equal(pillow_pixels(turned), np.rot90(noise(4, 6, 3), -1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "NumPy image of type float32"),
        (np.zeros((4, 4), np.uint8), "shape \\(4, 4\\): expected a file"),
        (torch.zeros(3, 16, 16), "here S = 32"),
        (torch.zeros(0, 3, S, S), "here S = 32"),
        (torch.full((3, S, S), 255.0), "values from 255 to 255: expected \\[-1, 1\\]"),
        (torch.full((3, S, S), float("nan")), "values from nan"),
        (42, "image of type int: expected a file"),
        ("nowhere.png", "nowhere.png: cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(loaded, image, message):
    with pytest.raises(UserError, match=message):
        loaded().synthesize(image, "joy")


def test_a_text_file_called_png_and_a_gif_are_named(loaded, tmp_path):
    (tmp_path / "note.png").write_text("no picture")
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "film.gif")
    for name in ("note.png", "film.gif"):
        with pytest.raises(UserError, match=f"{name}: not a PNG"):
            loaded().synthesize(tmp_path / name, "joy")


def test_a_picture_too_large_to_decode_is_refused():
    with pytest.raises(UserError, match="20000x10000 pixels: expected 1 pixel to 100 megapixels"):
        pillow_pixels(Image.new("1", (20000, 10000)))


# ---------------------------------------------------------------------- wishes


def test_strength_and_blends_reach_the_network(loaded):
    system, image = loaded(), torch.rand(2, 3, S, S) * 2 - 1
    told = torch.zeros(2, len(system.affects))
    told[:, system.affects.index("anger")], told[:, system.affects.index("sadness")] = 0.3, 0.4
    made = system.synthesize(image, {"angry": 0.6, "sadness": 0.8}, strength=0.5)
    direct = system.system.decode(system.system.encode(image, told).mu, told)
    assert torch.allclose(made, direct, atol=1e-6)


def test_units_set_what_affects_mean(loaded):
    system, image = loaded("ganimation"), torch.rand(1, 3, S, S) * 2 - 1
    meant = system.system.expression([system.affects.index("joy")]).aus * 0.5
    meant[:, 1] = 0.9  # AU2 is the second unit
    from fexgan_lit.expression import Expression

    direct = system.system.synthesize(image, None, Expression(aus=meant))
    assert torch.allclose(system.synthesize(image, "joy", 0.5, units={"AU2": 0.9}), direct, atol=1e-6)
    assert not torch.equal(system.synthesize(image, units={2: 0.9}), system.synthesize(image, units={2: 0.1}))


@pytest.mark.parametrize("model", ["landmark_label", "motion_texture"])
def test_landmarks_are_known_of_the_runs_own_faces_alone(loaded, model):
    system = loaded(model)
    face = system.faces["nora"]
    assert not np.array_equal(system.synthesize(face, "joy"), system.synthesize(face, "fear"))
    with pytest.raises(UserError, match="landmarks, which are not known for this image"):
        system.synthesize(noise(S, S, 3), "joy")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"affect": "hapy"}, "Did you mean 'joy'"),
        ({}, "no target expression"),
        ({"affect": "joy", "strength": float("nan")}, "strength=nan"),
        ({"affect": {"joy": -1}}, "expected a number, 0 to 10"),
        ({"affect": {"AU12": 1}}, "expected one of anger"),
        ({"affect": "joy", "units": {12: 0.5}}, "fexgan reads no action units"),
        ({"affect": "joy", "source_affect": "calm"}, "'calm' is not an affect"),
    ],
)
def test_wishes_that_mean_nothing(loaded, wish, message):
    with pytest.raises(UserError, match=message):
        loaded().synthesize(noise(S, S, 3), **wish)
    with pytest.raises(UserError, match="affects go in affect="):
        loaded("ganimation").synthesize(noise(S, S, 3), units={"joy": 0.5})


# ---------------------------------------------------------------------- reading and drawing


def test_classify_gives_probabilities_of_one_or_many(loaded):
    system, pixels = loaded(), noise(3, S, S, 3)
    verdict = system.system.classify(to_float(pixels))
    many = system.classify(pixels)
    assert [reading.realness for reading in many] == pytest.approx(verdict.realness.sigmoid().tolist(), abs=1e-5)
    assert list(many[1].affects.values()) == pytest.approx(verdict.affect[1].softmax(0).tolist(), abs=1e-5)
    assert system.classify(pixels[1]).affects == pytest.approx(many[1].affects, abs=1e-5)
    assert loaded("stargan").classify(pixels[0]).realness is None
    with pytest.raises(UserError, match="discriminator of ganimation does not classify affects"):
        loaded("ganimation").classify(pixels[0])


def test_sampling_repeats_by_seed_and_needs_a_prior(loaded):
    system = loaded()
    first, again, other = (system.sample(2, "joy", prior="normal", seed=seed) for seed in (1, 1, 2))
    assert [np.array_equal(a, b) for a, b in zip(first, again, strict=True)] == [True, True]
    assert not np.array_equal(first[0], other[0])
    with pytest.raises(UserError, match="has no fitted prior"):
        system.sample(1, "joy")
    with pytest.raises(UserError, match="stargan has no latent code"):
        loaded("stargan").sample(1, "joy")


# ---------------------------------------------------------------------- runs


def test_faces_are_those_beside_the_weights_or_of_the_data(loaded, tmp_path):
    system = loaded()
    assert sorted(system.faces) == ["nora", "tariq"]
    kept = tmp_path / "kept"
    hub.save_weights(system.system, kept / "weights")
    (kept / "config.yaml").write_text((system.folder / "config.yaml").read_text())
    (kept / "faces").mkdir()
    Image.fromarray(noise(64, 64, 3)).save(kept / "faces" / "ada.png")
    assert list(load(kept).faces) == ["ada"]
    assert load(kept).faces["ada"].size == (S, S)


def test_half_precision_weights_load_as_float32(loaded, tmp_path):
    system = load(loaded().folder)
    system.system.average.encoder.blocks[1][1].running_var.data[0] = 1e6  # more than float16 holds
    files = hub.save_weights(system.system, tmp_path / "weights", torch.float16)
    (tmp_path / "config.yaml").write_text((system.folder / "config.yaml").read_text())
    assert sum(f.stat().st_size for f in files) < 0.6 * sum(
        (system.folder / "weights" / f.name).stat().st_size for f in files
    )
    half = load(tmp_path)
    assert {p.dtype for p in half.system.average.parameters()} == {torch.float32}
    assert half.system.average.encoder.blocks[1][1].running_var[0] == 1e6
    image = torch.rand(2, 3, S, S) * 2 - 1
    off = (half.synthesize(image, "joy") - system.synthesize(image, "joy")).abs().max()
    assert 0 < off < 0.02


def test_a_place_that_is_no_run(tmp_path):
    with pytest.raises(
        UserError, match=r"no such folder or checkpoint; models of the package: mien_128, mien, cartoon, attgan"
    ):
        load(tmp_path / "gone")
    with pytest.raises(UserError, match="it has no config"):
        load(tmp_path)
    with pytest.raises(UserError, match="device=tpu: expected one of auto, cpu"):
        load(tmp_path, device="tpu")


def test_a_model_of_the_package_has_a_name_that_a_folder_takes_over(monkeypatch, tmp_path):
    assert load("mien_128").folder == load().folder
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cartoon").mkdir()
    with pytest.raises(UserError, match="cartoon is not a run folder"):
        load("cartoon")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_of_the_package_shows_what_is_asked(name):
    loaded = load(name)
    system, sources = loaded.system, from_files(load("cartoon").folder / FACES, loaded.image_size, None, loaded.affects)
    neutral, joy = (loaded.affects.index(affect) for affect in ("neutral", "joy"))
    points = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    shown, wanted = (
        Expression(
            Expression.of_affects([k], len(loaded.affects)).affect, system.expression([k]).aus,
            points + move if "landmarks" in system.reads else None,
        )
        for k, move in ((neutral, 0.0), (joy, 0.1))
    )  # fmt: skip
    source = sources.images[:1]
    made = system.synthesize(source, shown, wanted)
    assert made.shape == source.shape
    assert made.isfinite().all()
    assert 0.01 < (made - source).abs().mean() < 0.5, "another expression of the same picture"


def test_the_shipped_model_is_named_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("fexgan_lit.runs.folder.__file__", str(tmp_path / "runs" / "folder.py"))
    with pytest.raises(UserError, match="the model that comes with the package is missing"):
        RunFolder.shipped()


UNUSED = """
import sys, fexgan_lit
assert "torch" not in sys.modules
import fexgan_lit.data.transforms
assert "albumentations" not in sys.modules
"""


def test_what_is_not_used_is_not_imported():
    subprocess.run([sys.executable, "-c", UNUSED], check=True, timeout=100)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        fexgan_lit.lod  # noqa: B018
    assert (Path(fexgan_lit.__file__).parent / "py.typed").is_file(), "users' type checkers look for it"


def test_the_examples_in_the_docstrings(loaded):
    system = loaded()
    names = {"run": system.folder, "system": system, "image": system.faces["nora"]}
    done = doctest.testmod(api, extraglobs=names)
    assert done.attempted >= 7
    assert not done.failed
