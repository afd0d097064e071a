"""Weight files as Keras writes them, filled by the formula whose answers the official networks gave once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fexgan_lit import convert as command
from fexgan_lit import load
from fexgan_lit.convert import convert_settings, write_run
from fexgan_lit.runs.keras.convert import ConvertSettings
from fexgan_lit.runs.keras.mapping import discriminator_slots, fill_slots
from fexgan_lit.runs.keras.reading import read_units
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.networks import Discriminator
from fexgan_lit.utils.errors import UserError
from tests.systems.test_official_answers import (
    AFFECT,
    IMAGE,
    LABELS,
    LOG_SIGMA,
    MU,
    REAL,
    FormulaWeights,
    agree,
    formula_image,
)

#: A layer: kind, what Keras would call it, shape of its kernel.
Layer = tuple[str, str, tuple[int, ...]]
ENCODER: list[Layer] = [
    ("dense", "dense_4", (7, 16384)),
    ("conv", "sequential_12", (4, 4, 4, 128)),
    *(("norm", f"sequential_{13 + n}", shape) for n, shape in enumerate([
        (4, 4, 128, 256), (4, 4, 256, 512), (4, 4, 512, 512), (4, 4, 512, 512), (4, 4, 512, 512), (4, 4, 512, 128),
    ])),
    ("dense", "mu", (128, 128)),
    ("dense", "sigma", (128, 128)),
]  # fmt: skip
DECODER: list[Layer] = [
    ("dense", "dense_5", (7, 64)),
    ("dense", "dense_7", (128, 256)),
    ("dense", "dense_6", (64, 256)),
    *(("norm", f"sequential_{19 + n}", shape) for n, shape in enumerate([
        *[(4, 4, 512, 512)] * 4, (4, 4, 256, 512), (4, 4, 128, 256),
    ])),
    ("transposed", "conv2d_transpose_6", (4, 4, 3, 128)),
]  # fmt: skip
DISCRIMINATOR: list[Layer] = [
    ("conv", "conv2d_40", (4, 4, 3, 64)),
    ("norm", "conv2d_41", (4, 4, 64, 128)),
    ("norm", "conv2d_42", (4, 4, 128, 512)),
    ("dense", "real", (131072, 1)),
    ("dense", "multiclass", (131072, 7)),
]


def weights_of(layer: Layer, fill: FormulaWeights) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a layer by the formula, with the names that Keras gives them."""
    kind, name, shape = layer
    yield f"{name}/kernel:0", fill.kernel(*shape).numpy()
    if kind in ("dense", "transposed"):
        yield f"{name}/bias:0", fill.small(shape[-1] if kind == "dense" else shape[-2]).numpy()
    if kind == "norm":
        n = shape[-2] if name in {layer[1] for layer in DECODER} else shape[-1]
        norm = f"batch_normalization_{name.rpartition('_')[2]}"
        yield f"{norm}/gamma:0", (1 + 0.1 * fill.array(n)).astype(np.float32)
        yield f"{norm}/beta:0", fill.small(n).numpy()
        yield f"{norm}/moving_mean:0", fill.small(n).numpy()
        yield f"{norm}/moving_variance:0", (1 + 0.1 * np.abs(fill.array(n))).astype(np.float32)


def write_keras(path: Path, layers: Sequence[Layer], saved: bool) -> None:
    """As `model.save` (all below model_weights, with layers that have no weights) or as `save_weights` writes it."""
    fill = FormulaWeights()
    with h5py.File(path, "w") as file:
        if saved:
            file.attrs["keras_version"], file.attrs["backend"], file.attrs["model_config"] = (
                "2.15.0",
                "tensorflow",
                "{}",
            )
            file.create_group("optimizer_weights").create_dataset("noise", data=np.ones((4, 4)))
        group = file.create_group("model_weights") if saved else file
        names = ["input_3", *(name for _, name, _ in layers), "flatten_1"]
        group.attrs["layer_names"] = np.array(names, "S")
        for name in ("input_3", "flatten_1"):
            group.create_group(name).attrs["weight_names"] = np.array([], "S1")
        for layer in layers:
            own = group.create_group(layer[1])
            arrays = dict(weights_of(layer, fill))
            own.attrs["weight_names"] = np.array(list(arrays), "S")
            for name, array in arrays.items():
                own[name] = array


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("keras")
    write_keras(home / "encoder.h5", ENCODER, saved=True)
    write_keras(home / "decoder.h5", DECODER, saved=True)
    write_keras(home / "discriminator.h5", DISCRIMINATOR, saved=False)
    return {f"keras_{name}": str(home / f"{name}.h5") for name in ("encoder", "decoder", "discriminator")}


@torch.no_grad()
def test_converted_files_answer_as_the_official_networks_did(files, tmp_path):
    write_run(ConvertSettings(**files), tmp_path / "run")
    system = load(tmp_path / "run").system
    latent = system.encode(formula_image(), LABELS)
    agree(latent.mu[:, ::16], MU)
    agree(latent.s[:, ::16], LOG_SIGMA)
    z = torch.from_numpy(np.sin(0.11 * np.arange(256)).reshape(2, 128).astype(np.float32))
    agree(system.decode(z, LABELS)[0, :, 5::40, 7::40].permute(1, 2, 0), IMAGE)
    realness, affect = system.discriminate(formula_image())
    agree(realness.sigmoid(), REAL)
    agree(affect.softmax(1), AFFECT)
    said = (tmp_path / "run" / "report.md").read_text()
    assert "encoder.h5 | 65.7" in said
    assert str(tmp_path) not in said, "a report that travels names no folder of this machine"


def test_the_door_leaves_a_run_of_the_meta_networks_that_generate_takes(files, tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it; put back after the test
    options = [f"{name}={path}" for name, path in files.items()]
    monkeypatch.setattr(sys, "argv", ["convert.py", *options, "model=fexgan_meta", "half=true", "out=meta"])
    command.main()
    assert "use it as run=" in capsys.readouterr().out
    assert sum(f.stat().st_size for f in (tmp_path / "meta" / "weights").iterdir()) < 80e6
    system = load(tmp_path / "meta")
    assert (system.name, system.image_size, system.run.dataset.name) == ("fexgan_meta", 128, "mhfed")
    face = Image.effect_noise((128, 128), 50).convert("RGB")
    told = [system.synthesize(face, "joy", source_affect=shown) for shown in ("neutral", "anger")]
    assert not np.array_equal(*told), "the encoder of FExGAN-Meta is told what the source shows"


# ---------------------------------------------------------------------- files that do not fit


@pytest.fixture
def edited(files, tmp_path):
    """A copy of the discriminator's file, opened for surgery."""
    path = tmp_path / "edited.h5"
    shutil.copyfile(files["keras_discriminator"], path)
    with h5py.File(path, "r+") as file:
        yield file


def take_in(file: h5py.File) -> None:
    file.flush()
    network = Discriminator(FExGANSettings().resolve(), 7)
    path = Path(file.filename)
    file.close()
    fill_slots(discriminator_slots(network), read_units(path), path, "discriminator", {})


def test_untouched_it_fits(edited):
    take_in(edited)


def test_the_order_of_layers_of_different_shapes_does_not_matter(edited):
    edited.attrs["layer_names"] = edited.attrs["layer_names"][::-1]
    take_in(edited)


def test_a_missing_layer_is_named(edited):
    edited.attrs["layer_names"] = np.array([n for n in edited.attrs["layer_names"] if n != b"conv2d_41"])
    with pytest.raises(UserError, match=r"convolution 2: missing; expected \(4, 4, 64, 128\) and 4 x \(128\)"):
        take_in(edited)


def test_a_misshapen_layer_is_named(edited):
    del edited["multiclass/multiclass/kernel:0"], edited["multiclass/multiclass/bias:0"]
    edited["multiclass/multiclass/kernel:0"] = np.zeros((131072, 8), np.float32)
    edited["multiclass/multiclass/bias:0"] = np.zeros(8, np.float32)
    with pytest.raises(UserError) as error:
        take_in(edited)
    assert "affect Dense: missing; expected (131072, 7) and 1 x (7)" in str(error.value)
    assert "multiclass/multiclass/kernel:0: (131072, 8) and 1 x (8) fits nowhere" in str(error.value)


def test_what_is_listed_but_gone_or_elsewhere_is_named(edited, files):
    del edited["real/real/bias:0"]
    with pytest.raises(UserError, match="weights that are missing: real/real/bias:0"):
        take_in(edited)


def test_values_in_another_file_are_not_read(edited, files):
    del edited["real"]
    edited["real"] = h5py.ExternalLink(files["keras_discriminator"], "/real")
    with pytest.raises(UserError, match=r"weights that are missing: real$"):
        take_in(edited)


def test_values_that_are_no_finite_floats(edited):
    edited["real/real/bias:0"][...] = np.nan
    with pytest.raises(UserError, match="real/real/bias:0 has values that are not finite"):
        take_in(edited)


def test_files_of_other_kinds(tmp_path, files):
    path = tmp_path / "x.h5"
    with pytest.raises(UserError, match="there is no such file"):
        read_units(path)
    path.write_text("no HDF5")
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        read_units(path)
    path.write_bytes(Path(files["keras_discriminator"]).read_bytes()[:200_000])
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        read_units(path)
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars")
    with pytest.raises(UserError, match=r"has no list of layers .* of Keras 3"):
        read_units(path)


def test_a_file_given_for_another_network_is_told(files, tmp_path):
    swapped = {**files, "keras_discriminator": files["keras_encoder"], "keras_encoder": files["keras_discriminator"]}
    with pytest.raises(UserError, match="holds the discriminator; expected the encoder"):
        write_run(ConvertSettings(**swapped), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing half done stays behind"


def test_narrower_networks_on_fewer_classes_are_taken_by_their_options(files, tmp_path):
    with pytest.raises(UserError, match=r"label Dense: missing; expected \(3, 16384\)"):
        write_run(ConvertSettings(**files, affects=["joy", "fear", "anger"]), tmp_path / "run")
    with pytest.raises(UserError, match=r"convolution 1: missing; expected \(4, 4, 4, 64\)"):
        write_run(ConvertSettings(**files, model={"name": "fexgan", "width": 0.5}), tmp_path / "run")


def test_options_that_cannot_be_used():
    from omegaconf import OmegaConf

    with pytest.raises(UserError) as error:
        convert_settings(
            OmegaConf.create({"keras_encoder": "e.h5", "model": {"name": "pix2pix"}, "affects": ["joy", "happy"]})
        )
    for part in ("keras_decoder is missing", "keras_discriminator is missing", "model=pix2pix", "affects=['joy'"):
        assert part in str(error.value)
