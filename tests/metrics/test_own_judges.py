from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.judges.external import (
    ExternalJudgeSettings,
    OwnAffectJudge,
    OwnIdentityJudge,
    OwnUnitJudge,
)
from fexgan_lit.metrics.judges.files import declared, is_torchscript, load_own_judge, own_judge
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, PLACES, make_frames

SECTION = "metrics.affect_judge"


class Corners(nn.Module):
    """Names the affect of a stand-in face by its brightest place, classes in the order `order` of `AFFECTS`."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        masks = torch.zeros(len(order), 32, 32)
        for row, affect in enumerate(order):
            top, left = PLACES[affect]
            masks[row, top : top + 8, left : left + 8] = 1 / 64
        self.register_buffer("masks", masks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 5.0 * torch.einsum("bhw,khw->bk", images.mean(dim=1), self.masks)


def script(module: nn.Module, path, channels: int = 3, size: int = 32):
    torch.jit.trace(module.eval(), torch.zeros(2, channels, size, size)).save(str(path))
    return path


def settings(path=None, **changes) -> ExternalJudgeSettings:
    given = {"classes": list(AFFECTS), "input_size": 32, "range": [-1.0, 1.0]} | changes
    return ExternalJudgeSettings(path=None if path is None else str(path), **given)


def verdicts(judge: OwnAffectJudge) -> np.ndarray:
    frames = make_frames(3, seed=4)
    return judge.read(frames.floats(np.arange(len(frames)), 32), batch_size=7).affect.numpy()


def test_classes_in_another_order_give_the_same_verdicts(tmp_path):
    truth = make_frames(3, seed=4).affect
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        path = script(Corners(order), tmp_path / "judge.pt")
        names = [AFFECTS[k] for k in order]
        judge = OwnAffectJudge.of(load_own_judge(settings(path, classes=names), SECTION), AFFECTS)
        assert np.array_equal(verdicts(judge), truth)


def test_aliases_and_further_classes_are_sorted_out():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    judge = own_judge(module, settings(classes=["Happy", "contempt", "surprised", "neutral", "Sad"]))
    own = OwnAffectJudge.of(judge, AFFECTS)
    assert own.columns == [0, 3, 4, 2]
    assert own.unused == ("contempt",)
    assert "contempt are left out" in own.describe()
    assert own.read(torch.zeros(2, 3, 32, 32)).affect_logits.shape == (2, 4)


def test_a_judge_of_other_affects_is_refused():
    judge = own_judge(Corners(), settings(classes=["joy", "neutral", "fear", "anger"]))
    with pytest.raises(UserError, match="does not know sadness, surprise"):
        OwnAffectJudge.of(judge, AFFECTS)
    twice = own_judge(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), settings(classes=[*AFFECTS, "happy"]))
    with pytest.raises(UserError, match="has one affect twice"):
        OwnAffectJudge.of(twice, AFFECTS)


def test_probabilities_become_logits_over_the_data_affects():
    class Fixed(nn.Module):
        def forward(self, images):
            return images.new_tensor([[0.1, 0.2, 0.3, 0.0, 0.4]]).repeat(len(images), 1)

    declaration = settings(classes=[*AFFECTS, "contempt"], output="probabilities")
    logits = OwnAffectJudge.of(own_judge(Fixed(), declaration), AFFECTS).read(torch.zeros(2, 3, 8, 8)).affect_logits
    torch.testing.assert_close(logits.softmax(1)[0], torch.tensor([1, 2, 3, 0]) / 6, atol=1e-6, rtol=1e-5)


class Spy(nn.Module):
    """Keeps what it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return images.flatten(1)[:, :4]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1.0, -1.0, 0.0]),
        ({"range": [0.0, 255.0]}, [255.0, 0.0, 127.5]),
        ({"range": [0.0, 1.0], "mean": [0.5, 0.5, 0.25], "std": [0.5, 0.25, 0.5]}, [1.0, -2.0, 0.5]),
        ({"colour": "bgr"}, [0.0, -1.0, 1.0]),
        ({"colour": "grey", "range": [0.0, 1.0]}, [0.299 + 0.5 * 0.114]),
    ],
)
def test_pictures_reach_it_as_declared(changes, expected):
    spy = Spy()
    picture = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    own_judge(spy, settings(**changes)).raw(picture)
    assert spy.seen.shape == (1, len(expected), 32, 32)
    assert spy.seen[0, :, 7, 9].tolist() == pytest.approx(expected, abs=1e-5)


def test_wrong_outputs_are_said():
    def answering(answer):
        class Fake(nn.Module):
            def forward(self, images):
                return answer(images)

        return own_judge(Fake(), settings())

    cases = {
        "returns 3 numbers per image, but its declaration has 4": lambda x: x.mean(dim=(2, 3)),
        "shape \\(2, 3, 32\\)": lambda x: x.mean(dim=3),
        "shape \\(1, 4\\) for 2 images": lambda x: torch.zeros(1, 4),
        "returns a tuple": lambda x: (x, x),
        "not finite": lambda x: torch.full((len(x), 4), float("nan")),
        "Check input_size and colour": lambda x: x @ torch.zeros(7, 7),
    }
    for message, answer in cases.items():
        with pytest.raises(UserError, match=message):
            OwnAffectJudge.of(answering(answer), AFFECTS)
    pooled = own_judge(nn.AdaptiveAvgPool2d(1), settings(classes=["1", "2", "4"]))  # (B, 3, 1, 1) is as good
    assert pooled.raw(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_action_units_by_number_on_their_scale_others_unknown():
    class Units(nn.Module):
        def forward(self, images):
            return images.new_tensor([[2.5, 7.0, -1.0]]).repeat(len(images), 1)

    own = OwnUnitJudge.of(own_judge(Units(), settings(classes=["AU12_r", "au01", "45"], scale=5.0)))
    aus = own.read(torch.zeros(3, 3, 16, 16))
    assert aus.shape == (3, 17)
    known = dict(zip(ACTION_UNITS, aus[0].tolist(), strict=True))
    assert (known[12], known[1], known[45]) == (0.5, 1.0, 0.0)
    assert aus[0].isnan().sum() == 14
    assert 2 in own.missing
    with pytest.raises(UserError, match="'smile' is not an action unit"):
        OwnUnitJudge.of(own_judge(Units(), settings(classes=["smile", "1", "2"])))
    with pytest.raises(UserError, match="none of the action units"):
        OwnUnitJudge.of(own_judge(Units(), settings(classes=["27", "28", "43"])))


def test_identity_embeddings_have_length_one(tmp_path):
    path = script(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6)), tmp_path / "faces.pt", size=16)
    given = ExternalJudgeSettings(path=str(path), input_size=16, range=[0.0, 1.0])
    own = OwnIdentityJudge.of(load_own_judge(given, "metrics.identity_judge", needs_classes=False))
    torch.testing.assert_close(own.embed(torch.rand(4, 3, 32, 32)).norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_a_file_beside_the_judge_declares_it_and_options_count_more(tmp_path, ending):
    path = script(Corners(), tmp_path / "judge.pt")
    content = {"classes": list(AFFECTS), "input_size": 48, "range": [0, 1]}
    written = json.dumps(content) if ending == "json" else yaml.safe_dump(content)
    path.with_suffix(f".{ending}").write_text(written)
    found = declared(ExternalJudgeSettings(path=str(path), input_size=32))
    assert (found.classes, found.input_size, found.range) == (list(AFFECTS), 32, [0, 1])
    judge = OwnAffectJudge.of(load_own_judge(ExternalJudgeSettings(path=str(path), input_size=32), SECTION), AFFECTS)
    assert np.array_equal(verdicts(judge), make_frames(3, seed=4).affect)


def test_action_units_may_be_declared_as_numbers_and_options_restore_a_default(tmp_path):
    (tmp_path / "units.yaml").write_text("classes: [12, 1]\ncolour: bgr\nscale: 5\n")
    found = declared(ExternalJudgeSettings(path=str(tmp_path / "units.onnx"), colour="rgb"))
    assert (found.classes, found.colour, found.scale, found.output) == (["12", "1"], "rgb", 5.0, "logits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("klasses: [joy]", "klasses"),
        ("- joy", "expected a mapping"),
        ("input_size: big", "input_size='big'"),
        ("a: [", "line 2: invalid YAML"),
    ],
)
def test_a_declaration_that_means_nothing_is_said(tmp_path, text, message):
    (tmp_path / "judge.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        declared(ExternalJudgeSettings(path=str(tmp_path / "judge.pt")))


def test_every_problem_of_a_declaration_is_named():
    found = "\n".join(ExternalJudgeSettings(range=[1.0, 0.0], std=[1.0], colour="cmyk", scale=0.0).problems(SECTION))
    for name in ("range", "colour", "scale", "input_size", "classes"):
        assert f"{SECTION}.{name}" in found
    assert "occurs twice" in settings(classes=["joy", "joy"]).problems()[0]
    assert "expected 1 numbers" in settings(colour="grey", mean=[0.5, 0.5, 0.5]).problems()[0]
    assert settings().problems() == []


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_are_refused_unread(tmp_path):
    mark, path = tmp_path / "exploded", tmp_path / "judge.pt"
    for write in (
        lambda: torch.save({"net": Bomb(mark)}, path),
        lambda: torch.save({"net": Bomb(mark)}, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Bomb(mark))),
        lambda: torch.save(Corners().state_dict(), path),
    ):
        write()
        with pytest.raises(UserError, match=r"(?s)neither TorchScript nor ONNX.*torch.jit.trace"):
            load_own_judge(settings(path), SECTION)
    assert not mark.exists()


def test_a_pickle_in_the_dress_of_torchscript_is_not_run(tmp_path):
    mark, path, plain = tmp_path / "exploded", tmp_path / "judge.pt", tmp_path / "plain.pt"
    torch.save({"net": Bomb(mark)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            archive.writestr(name.replace("plain/", "judge/"), source.read(name))
        archive.writestr("judge/code/x.py", "")
        archive.writestr("judge/constants.pkl", pickle.dumps(Bomb(mark)))
    assert is_torchscript(path)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_own_judge(settings(path), SECTION)
    assert not mark.exists()


def test_files_that_are_missing_or_cut_short_are_said(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_own_judge(settings(tmp_path / "none.pt"), SECTION)
    path = script(Corners(), tmp_path / "judge.pt")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="neither TorchScript nor ONNX"):
        load_own_judge(settings(path), SECTION)
    with pytest.raises(UserError, match="input_size: not given"):
        load_own_judge(ExternalJudgeSettings(path=str(path), classes=list(AFFECTS), range=[0.0, 1.0]), SECTION)


def test_onnx_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "judge.onnx"
    path.write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_own_judge(settings(path), SECTION)


def onnx_file(path, batch="batch", channels: int = 3, size: int = 32, outputs: int = 1):
    """A graph that averages each channel's plane into as many numbers."""
    helper = pytest.importorskip("onnx").helper
    pytest.importorskip("onnxruntime")
    kind = 1  # float
    ends = [helper.make_tensor_value_info(f"y{i}", kind, [batch, channels, 1, 1]) for i in range(outputs)]
    nodes = [helper.make_node("GlobalAveragePool", ["x"], [f"y{i}"]) for i in range(outputs)]
    taken = [helper.make_tensor_value_info("x", kind, [batch, channels, size, size])]
    model = helper.make_model(helper.make_graph(nodes, "g", taken, ends), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnx_files_answer_as_declared(tmp_path, batch):
    path = onnx_file(tmp_path / "units.onnx", batch)
    given = settings(path, classes=["1", "2", "4"], range=[0.0, 1.0])
    own = OwnUnitJudge.of(load_own_judge(given, "metrics.au_judge"))
    pictures = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]])[..., None, None].expand(2, 3, 64, 64)
    torch.testing.assert_close(own.read(pictures)[:, :3], torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]))


def test_onnx_files_that_do_not_fit_are_said(tmp_path):
    cases = {
        "2 outputs": {"outputs": 2},
        "the input is tensor\\(float\\) of shape": {"size": 48},
        "expected tensor\\(float\\) of shape \\(batch, 3, 32, 32\\)": {"channels": 1},
        "with a free batch size or 1": {"batch": 4},
    }
    for message, changes in cases.items():
        with pytest.raises(UserError, match=message):
            load_own_judge(settings(onnx_file(tmp_path / "judge.onnx", **changes)), SECTION)
    (tmp_path / "judge.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_own_judge(settings(tmp_path / "judge.onnx"), SECTION)


def test_a_judge_that_raises_whatever_it_likes_is_named():
    class Angry(nn.Module):
        def forward(self, pictures):
            raise KeyError

    judge = own_judge(Angry(), ExternalJudgeSettings(classes=["joy", "fear"], input_size=64, range=[0.0, 1.0]))
    with pytest.raises(UserError, match=r"Angry fails on images \(2, 3, 64, 64\): KeyError"):
        judge.check_outputs(2)
