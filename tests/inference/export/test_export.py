"""Exported networks answer as those they came from, for any batch; what cannot be exported is said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from torch import nn

from fexgan_lit import export as command
from fexgan_lit.inference.export import int8
from fexgan_lit.inference.export.config import ExportSettings
from fexgan_lit.inference.export.int8 import readers_of
from fexgan_lit.inference.export.onnx import open_session, run_session
from fexgan_lit.inference.export.write import (
    accept,
    answers,
    chosen_parts,
    greatest_difference,
    write_onnx_files,
    write_safetensors,
    write_torch_files,
)
from fexgan_lit.systems.export import Exported, Input
from fexgan_lit.utils.errors import UserError

MODELS = (
    "fexgan",
    "ganimation",
    "stargan",
    "landmark_label",
    "lgp_gan",
    "mien",
    "bridge",
    "landmark_fusion",
    "motion_texture",
)
#: Systems whose layers occur in the others.
ALIKE = ("pix2pix", "us_gan", "attgan")


def silent(name: str) -> None:
    """Told of every part."""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """The command in this process: exit code, what it said, the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*options: str):
        monkeypatch.setattr(sys, "argv", ["export.py", "out=result", *options])
        code = 0
        try:
            command.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split()), tmp_path / "result"

    return run


# ---------------------------------------------------------------------- what the parts are


def test_the_generator_part_is_what_synthesize_does(loaded):
    from fexgan_lit.expression import Expression

    for model in (*MODELS, *ALIKE):
        system = loaded(model).system
        part = system.export_modules()["generator"]
        inputs = part.draw(3)
        if "landmarks" in inputs:
            inputs["landmarks"] = torch.from_numpy(loaded(model).references.frames.landmarks[:3])
        fields = {name: inputs[name] for name in ("affect", "aus", "landmarks") if name in inputs}
        own = {name.removeprefix("source_"): inputs[name] for name in inputs if name.startswith("source_")}
        shown = Expression(**own) if own else None
        direct = system.synthesize(inputs["image"], shown, Expression(**fields))
        assert torch.allclose(answers(part, inputs)[0], direct, atol=1e-6), model


def test_discriminator_parts_say_what_the_system_says(loaded):
    system = loaded().system
    part = system.export_modules()["discriminator"]
    inputs = part.draw(2)
    realness, affect = system.discriminate(inputs["image"])
    assert torch.allclose(answers(part, inputs)[0], realness)
    assert torch.allclose(answers(part, inputs)[1], affect)


@pytest.mark.parametrize(
    ("told", "names"), [("source", ["image", "affect", "source_affect"]), ("none", ["image", "affect"])]
)
def test_other_encoders_of_fexgan(told, names):
    from fexgan_lit.expression import Expression
    from fexgan_lit.systems.fexgan.config import FExGANSettings
    from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
    from fexgan_lit.systems.fexgan.system import FExGAN
    from fexgan_lit.systems.optimizers import DualOptimizerSettings

    model = FExGANSettings(image_size=32, width=0.05, latent_size=8, encoder_label=told)
    system = FExGAN(model, FExGANLossSettings(), DualOptimizerSettings(), ["a", "b", "c"]).eval()
    parts = system.export_modules()
    assert list(parts["generator"].inputs) == names
    inputs = parts["generator"].draw(2)
    shown = Expression(affect=inputs["source_affect"]) if told == "source" else None
    direct = system.synthesize(inputs["image"], shown, Expression(affect=inputs["affect"]))
    assert torch.allclose(answers(parts["generator"], inputs)[0], direct, atol=1e-6)
    mu, s = answers(parts["encoder"], parts["encoder"].draw(2))
    assert mu.shape == s.shape == (2, 8)


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("model", "part"),
    [("fexgan", "discriminator"), ("stargan", "critic"), ("landmark_label", "geometry_discriminator")],
)
def test_torch_programs(loaded, tmp_path, model, part):
    """The ONNX files below are written from such programs, of all generators."""
    (written,) = write_torch_files(chosen_parts(loaded(model).system, [part]), tmp_path, silent)
    assert written.part == part
    assert written.difference < 1e-5


@pytest.fixture(scope="module")
def onnx_export(loaded, tmp_path_factory) -> tuple[str, Path]:
    """What the command says and leaves for the whole of FExGAN."""
    folder, said = tmp_path_factory.mktemp("onnx"), io.StringIO()
    settings = ExportSettings(run=str(loaded().folder), opset=18)
    command.export_run(settings, folder, Console(file=said, width=200, soft_wrap=True))
    return said.getvalue(), folder


def test_onnx_of_every_part_of_fexgan(loaded, onnx_export):
    said, folder = onnx_export
    names = ["encoder", "decoder", "discriminator", "generator"]
    record = json.loads((folder / "export.json").read_text())
    assert list(record["files"]) == [f"{name}.onnx" for name in names]
    assert record["opset"] == 18
    assert max(file["difference_from_pytorch"] for file in record["files"].values()) < 1e-4
    assert record["files"]["generator.onnx"]["inputs"]["image"]["shape"] == ["batch", 3, 32, 32]
    assert "generator.onnx" in (folder / "export.md").read_text()
    assert said.count("greatest difference from PyTorch") == 4
    # run here once more, without our own checks
    session = open_session(folder / "generator.onnx", 1)
    image, affect = torch.rand(5, 3, 32, 32) * 2 - 1, torch.eye(7)[:5]
    (face,) = run_session(session, {"image": image, "affect": affect})
    mine = loaded().system.decode(loaded().system.encode(image, affect).mu, affect)
    np.testing.assert_allclose(face.numpy(), mine.numpy(), atol=1e-4)
    assert onnx.load(folder / "encoder.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("model", MODELS[1:])
def test_onnx_of_the_other_generators(loaded, tmp_path, model):
    parts = chosen_parts(loaded(model).system, ["generator"])
    (written,) = write_onnx_files(parts, tmp_path, None, silent)
    assert written.difference < 1e-4


def test_safetensors_with_their_shapes(loaded, call):
    code, said, folder = call(f"run={loaded().folder}", "format=safetensors", "parts=[decoder]")
    assert code == 0, said
    assert [path.name for path in folder.glob("*.safetensors")] == ["decoder.safetensors"]
    tensors = json.loads((folder / "export.json").read_text())["files"]["decoder.safetensors"]["tensors"]
    state = loaded().system.average.decoder.state_dict()
    assert tensors["to_rgb.weight"] == list(state["to_rgb.weight"].shape)
    assert {name for name in state if "num_batches" not in name} == set(tensors)


# ---------------------------------------------------------------------- 8 bits


@pytest.fixture(scope="module")
def generator_file(onnx_export) -> Path:
    return onnx_export[1] / "generator.onnx"


def test_int8_is_smaller_and_measured_on_faces_that_did_not_set_its_scales(
    loaded, generator_file, tmp_path, monkeypatch
):
    system = loaded()
    inputs = int8.real_inputs(system)
    scaling, measured = inputs.split()
    assert set(scaling.face.tolist()) == {0}
    assert set(measured.face.tolist()) == {1}
    assert measured.asked.tolist() == list(range(7))
    assert torch.equal(measured.values["image"][3], system.references.images[1])
    assert torch.equal(measured.values["affect"], torch.eye(7))
    int8.write_int8(generator_file, tmp_path / "small.onnx", scaling)
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path))  # other tests may have had a judge trained for these data
    report = int8.measure_int8(generator_file, tmp_path / "small.onnx", measured, readers_of(system))
    assert report.megabytes[1] < report.megabytes[0]
    types = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert "DequantizeLinear" in types
    assert 0.5 < report.ssim[1] <= report.ssim[0] <= 1
    assert set(report.read_as_asked) == {"discriminator"}, "no judge is in the cache"
    assert set(report.faster) == {1, 16}


def test_a_reader_reads(loaded, generator_file):
    """Shares are of the faces that are read as asked: a reader that always says 3 is right for one affect in 7."""
    inputs = int8.real_inputs(loaded())
    report = int8.measure_int8(generator_file, generator_file, inputs, {"three": lambda f: torch.full((len(f),), 3)})
    assert report.read_as_asked["three"] == pytest.approx((1 / 7, 1 / 7))
    assert report.ssim == pytest.approx((1, 1), abs=1e-4)
    assert report.psnr == pytest.approx((100, 100)), "a file against itself"


# ---------------------------------------------------------------------- trouble


def test_a_file_that_answers_otherwise_is_refused_and_removed(tmp_path):
    part = Exported(nn.Identity(), {"input": Input((2,), "anything")}, {"same": "the input"})
    assert greatest_difference(part, lambda given: [given["input"] + 0.25]) == pytest.approx(0.25)
    assert greatest_difference(part, lambda given: [given["input"] * float("nan")]) == float("inf")
    path = tmp_path / "x.onnx"
    path.write_text("")
    with pytest.raises(UserError, match=r"written to x\.onnx differs from PyTorch's by 0\.25"):
        accept("generator", 0.25, path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("opset=9",), "opset=9 is not available: torch"),
        (("opset=99",), "opset=99 is not available"),
        (("parts=[encodr]",), "parts=encodr: fexgan has encoder, decoder, discriminator, generator"),
        (("format=tflite", "int8=true"), "format=tflite: expected one of onnx, torch, safetensors"),
        (("format=torch", "int8=true"), "int8=True: it belongs to format=onnx"),
        (("parts=[encoder]", "int8=true"), "int8=true needs the generator"),
        (("format=safetensors", "parts=[generator]"), "parts=generator: fexgan has encoder, decoder"),
    ],
)
def test_options_that_cannot_be_used(loaded, call, options, message):
    code, said, folder = call(f"run={loaded().folder}", *options)
    assert code == 2
    assert message in said
    assert not folder.exists(), "no empty folder stays behind"


def test_an_opset_that_onnx_knows_and_onnxruntime_does_not(loaded, call, monkeypatch):
    from fexgan_lit.inference.export import onnx as onnx_files

    def refuse(path, threads=None):
        raise RuntimeError("[ONNXRuntimeError] opset 27 is under development\nmore")

    monkeypatch.setattr(onnx_files, "open_session", refuse)
    code, said, folder = call(f"run={loaded().folder}", "parts=[discriminator]", "opset=18")
    assert code == 2
    assert "discriminator.onnx cannot be written as ONNX that onnxruntime runs with opset=18; expected an older" in said
    assert "under development" in said
    assert not folder.exists()


def test_a_package_that_is_missing_is_named(loaded, call, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    code, said, _ = call(f"run={loaded().folder}")
    assert code == 2
    assert "format=onnx needs onnxscript; install them with pip install 'fexgan_lit[export]'" in said


def test_tampered_weights_are_refused(loaded, call, tmp_path):
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    (run / "config.yaml").write_bytes((loaded().folder / "config.yaml").read_bytes())
    for path in (loaded().folder / "weights").iterdir():
        (run / "weights" / path.name).write_bytes(path.read_bytes()[:-10])
    code, said, _ = call(f"run={run}")
    assert code == 2
    assert "not a complete safetensors file" in said


def test_safetensors_parts_are_compared_too(loaded, tmp_path):
    written = write_safetensors(loaded().system, None, tmp_path, silent)
    assert {each.difference for each in written} == {0.0}
    assert Path(written[0].path).is_file()
