"""One interface: every model composes by its name alone, is refused what it cannot read, and is told what it reads."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from fexgan_lit.data.reference import affect_expression, both, frame_expression, reference_rows
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.groups import DiscriminatorMetrics, PixelMetrics
from fexgan_lit.metrics.suite import MetricSuite, ValidationOutput
from fexgan_lit.runs.build import build_system, check_reads
from fexgan_lit.runs.config import train_settings
from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.system import FExGAN
from fexgan_lit.systems.grids import affect_grid, complex_faces
from fexgan_lit.systems.losses import absolute_difference
from fexgan_lit.training.callbacks import LossMonitor, RunProgressBar, TrainingDivergedError
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option
from tests.commands import run_here
from tests.conftest import TINY, write_frames
from tests.metrics.test_measure import AFFECTS, WHOLE, Oracle, frames
from tests.runs.test_config import composed, options
from tests.systems.helpers import NoisePairs, fit, saver

SMALL = ("dataset.image_size=32", "model.width=0.07")
GUIDED = {"fexgan": {"affect"}, "fexgan_meta": {"affect"}, "ganimation": {"aus"}, "stargan": {"affect"},
          "landmark_label": {"affect", "landmarks"}, "lgp_gan": {"affect"}, "pix2pix": {"affect"}, "us_gan": {"affect"},
          "attgan": {"affect"}, "mien": {"aus"}, "bridge": {"aus"},
          "landmark_fusion": {"landmarks"}, "motion_texture": {"landmarks"}}  # fmt: skip


def guided_frames(cells=WHOLE):
    """Frames whose action units and landmarks tell identity (tenths) and affect (hundredths)."""
    data = frames(cells)
    level = (0.1 * data.identity + 0.01 * data.affect).astype(np.float32)
    return replace(
        data, aus=np.repeat(level[:, None], 17, 1), landmarks=np.broadcast_to(level[:, None, None], (len(data), 68, 2))
    )


@pytest.mark.parametrize("model", options("model"))
def test_a_model_brings_its_losses_and_optimizers(model):
    settings = train_settings(composed(f"model={model}", *SMALL))
    assert settings.model.name == model
    assert type(settings.loss) is settings.system.loss_class
    assert type(settings.optimizer) is settings.system.optimizer_class
    assert settings.system.reads == GUIDED[model]


@pytest.mark.parametrize("model", options("model"))
def test_every_model_keeps_the_promises_of_the_base_class(model):
    system: ExpressionSystem = build_system(train_settings(composed(f"model={model}", *SMALL)), AFFECTS).eval()
    batch = NoisePairs(affects=3).batch(0, 0)
    source, target = batch.source_expression(3), batch.target_expression(3)
    made = system.synthesize(batch.source, source, target)
    assert made.shape == batch.source.shape
    assert made.dtype == torch.float32
    assert -1 <= made.min() <= made.max() <= 1
    # of the wanted expression only what is declared is looked at
    only = Expression(**{name: getattr(target, name) for name in system.reads})
    assert torch.equal(made, system.synthesize(batch.source, source, only))
    for name in system.reads:
        with pytest.raises(UserError):
            system.synthesize(batch.source, source, replace(target, **{name: None}))
    outcome = system.validation_step(batch)
    assert outcome.real_realness.shape == outcome.fake_realness.shape == (4,)
    assert system.saved_modules()


def test_a_batch_tells_all_it_knows():
    batch = NoisePairs(affects=3).batch(0, 0)
    source = batch.source_expression(3)
    assert torch.equal(source.affect.argmax(1), batch.source_affect)
    assert source.aus is batch.source_aus
    assert source.landmarks is batch.source_landmarks
    assert batch.target_expression(3).aus is batch.target_aus
    bare = NoisePairs(affects=3, bare=True).batch(0, 0).target_expression(3)
    assert set(bare.known) == {"affect"}


def settings_of(model: str):
    return train_settings(composed(f"model={model}", "dataset=folder", "dataset.root=x", *SMALL))


def test_frames_without_what_is_read_are_refused_with_the_way_out():
    for model, missing in (("ganimation", "action units"), ("landmark_label", "landmarks")):
        with pytest.raises(UserError) as error:
            check_reads(settings_of(model), frames(WHOLE))
        for words in (f"model={model}", f"Add {missing}", "dataset=folder has only affects", "dataset.annotations=FILE",
                      "fexgan_lit.prepare", "dataset.detector=mediapipe"):  # fmt: skip
            assert words in str(error.value)
        check_reads(settings_of(model), guided_frames())
    check_reads(settings_of("fexgan"), frames(WHOLE))


@pytest.mark.parametrize("factor", [5.0, -1.0, float("nan")])
def test_units_off_their_scale_are_refused(factor):
    data = guided_frames()
    with pytest.raises(UserError, match=r"dataset=folder: action units from .*expected intensities in 0\.\.1"):
        check_reads(settings_of("ganimation"), replace(data, aus=(data.aus + 0.9) * factor))


def test_the_door_refuses_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_frames(tmp_path / "data", frames=2)
    tiny = [option for option in TINY if "latent_size" not in option]
    done = run_here("train", *tiny, "model=ganimation", "dataset=mhfed", f"dataset.root={root}", "trainer.max_steps=2")
    assert done.returncode == 2
    assert "model=ganimation reads action units, but dataset=mhfed has only affects" in done.stderr
    assert list(tmp_path.rglob("config.yaml")) == []


def test_in_the_grid_a_cell_asks_for_what_its_strongest_true_frame_shows():
    asked = []

    class Listening(Oracle):
        def synthesize(self, source, source_expression, target):
            asked.append((source_expression, target))
            return super().synthesize(source, source_expression, target)

    grid = affect_grid(Listening(), guided_frames())
    for k, (shown, wanted) in enumerate(asked):
        assert wanted.affect.argmax(1).tolist() == [k, k]
        assert wanted.aus[:, 0].tolist() == pytest.approx([0.01 * k, 0.1 + 0.01 * k])
        assert wanted.landmarks[:, 0, 0].tolist() == pytest.approx([0.01 * k, 0.1 + 0.01 * k])
        assert shown.aus[:, 0].tolist() == pytest.approx([0.02, 0.12]), "the references are neutral"
    complex_faces(Listening(), grid, [("anger", "joy")])
    _, both_at_once = asked[-1]
    assert both_at_once.affect.tolist() == [[1, 1, 0]] * 2
    assert both_at_once.aus[:, 0].tolist() == pytest.approx([0.0, 0.1]), "anger is farther from neutral than joy"


def test_a_cell_without_frames_borrows_the_motion_of_another_identity():
    data = guided_frames({**WHOLE, (1, 1): 0})
    row = reference_rows(data)[1]
    wanted = affect_expression(data, row, 1)
    assert wanted.affect.tolist() == [[0, 1, 0]]
    # identity 1 at rest is 0.12; identity 0 goes from 0.02 to 0.01
    assert wanted.aus[0, 0].item() == pytest.approx(0.11)
    assert wanted.landmarks[0, 5, 1].item() == pytest.approx(0.11)
    nobody = guided_frames({(0, 0): 1, (0, 2): 1, (1, 0): 1, (1, 2): 1})
    wanted = affect_expression(nobody, 1, 1)
    assert wanted.affect.tolist() == [[0, 1, 0]]
    assert wanted.aus[0, 0].item() == pytest.approx(0.02), "an affect nobody shows moves nothing"


def test_two_expressions_at_once_take_the_larger_motion_of_each():
    rest = Expression(torch.eye(3)[2:], torch.full((1, 17), 0.1), torch.zeros(1, 68, 2))
    first = Expression(torch.eye(3)[:1], torch.full((1, 17), 0.5), torch.full((1, 68, 2), -0.2))
    second = Expression(torch.eye(3)[1:2], torch.full((1, 17), 0.3), torch.full((1, 68, 2), 0.1))
    made = both(rest, first, second, strength=2.0)
    assert made.affect.tolist() == [[2, 2, 0]]
    assert made.aus[0, 0].item() == pytest.approx(0.9)
    assert made.landmarks[0, 0, 0].item() == pytest.approx(-0.4)
    assert both(rest, first, second, strength=5.0).aus.max() == 1, "action units end at 1"


def test_what_the_data_set_does_not_know_is_left_out():
    shown = frame_expression(frames(WHOLE), np.array([0, 5]))
    assert set(shown.known) == {"affect"}


class Mute(Oracle):
    """A discriminator without class head or threshold."""

    def validation_step(self, batch):
        made = super().validation_step(batch)
        return ValidationOutput(made.generated, made.real_realness, None, made.fake_realness, None, calibrated=False)


def test_scores_without_threshold_and_missing_heads_stay_out_of_table_1():
    from fexgan_lit.data.pairs import FixedPairLoader, fixed_pairs

    data = frames(WHOLE)
    suite = MetricSuite([PixelMetrics(), DiscriminatorMetrics()])
    for batch in FixedPairLoader(data, fixed_pairs(data), 4, 32):
        suite.add(Mute(), batch)
    assert set(suite.compute()) == {"ssim", "psnr", "sharpness"}


def test_a_diagnosis_is_said_once_and_only_when_it_stays():
    said = []
    trainer = SimpleNamespace(global_step=0, log_every_n_steps=10, train_dataloader=None)
    system = SimpleNamespace(
        device=torch.device("cpu"), log_dict=lambda _: None,
        diagnose=lambda parts: "turn it down" if parts["trouble"] else None,
    )  # fmt: skip
    monitor = LossMonitor(None, SimpleNamespace(print=lambda text, **_: said.append(text)), patience=3)

    def go(looks, trouble):
        parts = {"trouble": trouble, "generator": 0.0}
        for _ in range(10 * looks):
            trainer.global_step += 1
            outputs = {name: torch.tensor(value) for name, value in parts.items()}
            monitor.on_train_batch_end(trainer, system, outputs, None, 0)

    go(2, trouble=1.0)
    go(1, trouble=0.0)
    assert said == []
    assert monitor.problem is None
    go(6, trouble=1.0)
    assert said == ["  iteration 60: turn it down"]
    assert monitor.problem == "turn it down"


class Smallest(ExpressionSystem):
    """A system of one convolution, to be broken by the tests."""

    counted = (True,)

    @dataclass
    class Settings(Options):
        section = "model"
        name: str = "smallest"
        image_size: int = 32

    @dataclass
    class Rate(Options):
        section = "optimizer"
        lr: float = option(1e-3, above=0)

    settings_class, loss_class, optimizer_class = Settings, Options, Rate

    def __init__(self):
        super().__init__({}, {}, {}, ["joy", "fear", "anger", "neutral"])
        self.network = nn.Conv2d(3, 3, 1)

    def configure_optimizers(self):
        return self.with_schedule([torch.optim.Adam(self.network.parameters(), self.optimizer_settings.lr)])

    def training_step(self, batch, batch_idx):
        loss = absolute_difference(self.network(batch.source), batch.target)
        self.manual_backward(loss)
        for counted in self.counted:
            self.step(0, counted=counted)
        return self.returned(loss.detach())

    def returned(self, loss):
        return {"distance": loss}

    def forward(self, source, source_expression, target):
        return self.network(source)

    def validation_step(self, batch, batch_idx=0):
        score = torch.zeros(len(batch))
        return ValidationOutput(self.network(batch.source), score, None, score, None, calibrated=False)


def test_a_system_made_in_python_is_told_everything_wrong_with_its_options():
    model = {"image_size": 33, "width": -1.0, "sigma": "foo"}
    with pytest.raises(UserError) as told:
        FExGAN(model, FExGANLossSettings(alpha=-5), {"lr": -1, "n_critic": 0}, AFFECTS)
    for words in ("model.image_size=33: expected one of 32", "model.width=-1.0", "model.sigma=foo: expected one of",
                  "loss.alpha=-5: expected 0 or more", "optimizer.lr=-1.0", "optimizer.n_critic=0"):  # fmt: skip
        assert words in str(told.value)
    with pytest.raises(UserError, match=r"model\.widht: unknown\. Did you mean model\.width\?"):
        FExGAN({"widht": 1.0}, {}, {}, AFFECTS)
    with pytest.raises(UserError, match=r"model: FExGANLossSettings\(.*\); expected a FExGANSettings or a mapping"):
        FExGAN(FExGANLossSettings(), {}, {}, AFFECTS)


def test_a_system_that_is_not_finished_is_told_what_it_lacks():
    class Half(ExpressionSystem):
        settings_class = optimizer_class = Smallest.Rate
        forward, configure_optimizers = Smallest.forward, Smallest.configure_optimizers

    with pytest.raises(UserError) as told:
        Half({}, {}, {}, AFFECTS)
    lines = str(told.value).splitlines()
    assert lines[0] == "Half lacks, see docs/adding_a_system.md:"
    assert [line.split(":")[0].strip(" -") for line in lines[1:]] == ["loss_class", "training_step", "validation_step"]


@pytest.mark.parametrize("counted", [(), (False,), (True, True)])
def test_a_batch_that_does_not_count_one_step_is_refused_at_once(counted, tmp_path):
    system = Smallest()
    system.counted = counted
    message = rf"Smallest.training_step counted {sum(counted)} optimizer steps in a batch; expected exactly one self"
    with pytest.raises(UserError, match=message):
        fit(system, 8, tmp_path)
    assert system.iteration == 0
    system.counted = (False, True)
    fit(system, 8, tmp_path)
    assert system.iteration == system.trainer.global_step == 8


def test_any_losses_are_watched_and_shown(tmp_path):
    system, said = Smallest(), io.StringIO()
    fit(system, 2, tmp_path, callbacks=[saver(tmp_path, 1).monitor, RunProgressBar(Console(file=said))])
    assert re.search(r"training 2/2 .* distance 0\.\d", said.getvalue())
    with pytest.raises(TrainingDivergedError, match="iteration 4: distance=nan"):
        fit(Smallest(), 4, tmp_path, NoisePairs(bad_from=3), [saver(tmp_path, 1).monitor])


@pytest.mark.parametrize(
    ("returned", "found"),
    [({}, "no loss"), (None, "no loss"), ({"distance": 0.5}, "distance=0.5"), ({"a": torch.zeros(2)}, r"a=tensor")],
)
def test_a_training_step_that_returns_no_scalars_is_refused(returned, found, tmp_path):
    system = Smallest()
    system.returned = lambda loss: returned
    with pytest.raises(UserError, match=f"training_step returned {found}.*; expected a mapping of names to scalar"):
        fit(system, 4, tmp_path, callbacks=[saver(tmp_path, 1).monitor])


def test_images_of_another_shape_are_refused_in_losses_and_metrics(tmp_path):
    system, batch = Smallest(), NoisePairs().batch(0, 0)
    suite = MetricSuite([PixelMetrics()])
    suite.add(system, batch)
    with pytest.raises(UserError, match=r"Smallest.validation_step returned a Tensor; expected a ValidationOutput"):
        suite.add(system, batch, batch.target)
    system.network = nn.Conv2d(3, 1, 1)
    with pytest.raises(UserError, match=r"_step generated images \(4, 1, 32, 32\); expected .*\(4, 3, 32, 32\)"):
        suite.add(system, batch)
    with pytest.raises(UserError, match=r"L1 loss got images of the shapes \(4, 1, .*\) and \(4, 3, .*\)"):
        fit(system, 1, tmp_path)


def test_ganimation_through_the_door(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = [option for option in TINY if "latent_size" not in option]
    few = ("model.residual_blocks=1", "trainer.max_steps=4", "optimizer.n_critic=2")
    done = run_here("train", *tiny, "model=ganimation", *few)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs").iterdir()
    for name in ("affects", "attention", "action_units", "complex"):
        assert (run / "figures" / f"{name}.png").is_file(), name
    report = (run / "report.md").read_text()
    assert "Single action units" in report
    assert "lambda_cond" in report
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "loss/attention_saturated" in header
    from fexgan_lit.runs.weights import load_system

    system = load_system(run)
    joy, rest = (system.expression([system.affects.index(name)]) for name in ("joy", "neutral"))
    assert joy.aus is not None, "the meaning of the affects travels with the weights"
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert not torch.equal(system.synthesize(x, rest, joy), system.synthesize(x, rest, rest))
    assert done.stdout.count("model      ganimation") == 1
