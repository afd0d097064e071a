"""Searches: the space, the same trials after an interruption, pruned and failed trials."""

from __future__ import annotations

import shutil

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

optuna = pytest.importorskip("optuna")

from fexgan_lit.runs.result import RESULT, read_result  # noqa: E402
from fexgan_lit.runs.sweeps.search import trial_name  # noqa: E402
from fexgan_lit.runs.sweeps.space import make_dimension, make_space  # noqa: E402
from fexgan_lit.utils.errors import UserError  # noqa: E402

SEARCH = (
    "sweep=optuna", "sweep.objectives=[maximize:ssim]",
    "~sweep.space.model", "sweep.startup=2", "trainer.max_steps=2",
)  # fmt: skip


def params(folder) -> list[dict]:
    study = optuna.load_study(study_name="fexgan_lit", storage=f"sqlite:///{folder / 'study.db'}")
    return [(trial.params, trial.values, trial.state.name) for trial in study.trials]


def test_an_interrupted_search_asks_for_the_trials_of_an_uninterrupted_one(train, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(*SEARCH, "sweep.trials=3", f"hydra.sweep.dir={whole}").code == 0
    # as after a kill: asked for and half-done, and asked for and ended without being told
    shutil.copytree(whole, stopped)
    shutil.rmtree(next(stopped.glob("trial-0002*")))
    study = optuna.load_study(study_name="fexgan_lit", storage=f"sqlite:///{stopped / 'study.db'}")
    (last,) = stopped.glob("trial-0001*")
    (last / RESULT).unlink()
    assert (last / "checkpoints" / "last.ckpt").is_file()
    reopened = study.trials[1]
    optuna.delete_study(study_name="fexgan_lit", storage=f"sqlite:///{stopped / 'study.db'}")
    study = optuna.create_study(
        study_name="fexgan_lit", storage=f"sqlite:///{stopped / 'study.db'}", directions=["maximize"]
    )
    first = params(whole)[0]
    distributions = reopened.distributions
    for state, trial_params, values in (
        (optuna.trial.TrialState.COMPLETE, first[0], first[1]),
        (optuna.trial.TrialState.RUNNING, reopened.params, None),
    ):
        study.add_trial(
            optuna.trial.create_trial(state=state, params=trial_params, distributions=distributions, values=values)
        )
    ended = train(*SEARCH, "sweep.trials=3", f"hydra.sweep.dir={stopped}")
    assert ended.code == 0, ended.err
    assert "1 finished before, 1 resume from a checkpoint, 1 to start" in ended.out
    assert params(stopped) == params(whole)
    assert {state for _, _, state in params(whole)} == {"COMPLETE"}
    assert sorted(p.name for p in stopped.glob("trial*")) == sorted(p.name for p in whole.glob("trial*"))

    record = yaml.safe_load((whole / "sweep.yaml").read_text())
    assert record["kind"] == "optuna"
    assert record["objectives"] == {"final/val/ssim": "maximize"}
    assert record["axes"]["loss.alpha"] == "tag(log, interval(0.01, 10))"
    values = record["runs"][next(whole.glob("trial-0000*")).name]
    assert values == pytest.approx(first[0])
    config = yaml.safe_load((next(whole.glob("trial-0000*")) / "config.yaml").read_text())
    assert config["loss"]["alpha"] == values["loss.alpha"]


def test_a_failed_trial_is_tried_again_and_the_search_goes_on(train, the_sweep):
    options = (*SEARCH, "~sweep.space.loss", "~sweep.space.optimizer", "dataset.batch_size=choice(4,4000)")
    ended = train(*options, "sweep.trials=4")
    states = [state for _, _, state in params(the_sweep())]
    statuses = [read_result(folder).status for folder in sorted(the_sweep().glob("trial*"))]
    assert states == [{"finished": "COMPLETE", "failed": "RUNNING"}[status] for status in statuses]
    assert {"finished", "failed"} == set(statuses)
    assert ended.code == 1
    again = train(*options, "sweep.trials=4")
    assert f"{statuses.count('failed')} failed before and are tried again" in again.out
    assert len(params(the_sweep())) == 4


REFUSED = {
    "a system without the weights": (
        ["model=ganimation"],
        ["model=ganimation has no loss.alpha, loss.beta, loss.gamma", "'~sweep.space.loss.beta'", "loss.lambda_cycle"],
    ),
    "an objective that needs the judge": (
        ["metrics.judge=false", "~sweep.space.model"],
        ["final/val/fd_judge", "metrics.judge=false"],
    ),
    "several at once without a launcher": (["sweep.jobs=2", "metrics.judge=true"], ["hydra/launcher=joblib"]),
    "misspelt option": (["sweep.trails=3"], ["sweep.trails", "Did you mean sweep.trials?"]),
    "impossible options": (
        ["sweep.trials=0", "sweep.sampler=best", "sweep.objectives=[fd]", "sweep.pruning.quantile=2"],
        ["sweep.trials=0", "sweep.sampler=best", "minimize:METRIC", "sweep.pruning.quantile=2"],
    ),
    "an impossible end": (["loss.alpha=interval(-1,1)"], ["loss.alpha=-1"]),
    "searched and given": (["loss.alpha=1"], ["loss.alpha: given one value", "'~sweep.space.loss.alpha'"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_search_that_cannot_be_used_starts_nothing(mistake, train, tmp_path):
    options, named = REFUSED[mistake]
    ended = train("sweep=optuna", *options, small=False)
    assert ended.code == 2
    assert [word for word in named if word not in ended.err] == []
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


DISTRIBUTIONS = {
    "a=interval(0.5,2)": optuna.distributions.FloatDistribution(0.5, 2),
    "a=interval(1,2)": optuna.distributions.FloatDistribution(1.0, 2.0),
    "a=tag(log, interval(0.01, 10))": optuna.distributions.FloatDistribution(0.01, 10, log=True),
    "a=int(interval(1,10))": optuna.distributions.IntDistribution(1, 10),
    "a=choice(0.25,mean)": optuna.distributions.CategoricalDistribution(["0.25", "mean"]),
    "a=1,2": optuna.distributions.CategoricalDistribution(["1", "2"]),
    "a=range(1,6,2)": optuna.distributions.CategoricalDistribution(["1", "3", "5"]),
}


@pytest.mark.parametrize("text", DISTRIBUTIONS)
def test_the_grammar_means_what_it_says(text):
    dimension = make_dimension(text, OverridesParser.create())
    assert dimension.distribution == DISTRIBUTIONS[text]
    assert dimension.option == "a"


@pytest.mark.parametrize(
    "text", ["a=3", "a=interval(2,1)", "a=tag(log,interval(0,1))", "a=tag(lgo,interval(1,2))", "a=range(1,1)"]
)
def test_impossible_dimensions_are_named(text):
    with pytest.raises(UserError, match="a="):
        make_dimension(text, OverridesParser.create())


def test_the_command_line_changes_the_space():
    config = OmegaConf.create(
        {"model": {"name": "m"}, "loss": {"alpha": 1.0, "beta": 1.0, "new": 1.0},
         "sweep": {"space": {"loss": {"alpha": "interval(0,1)", "beta": "interval(0,2)"}}}}
    )  # fmt: skip
    arguments = ["sweep.trials=3", "loss.alpha=choice(1,2)", "sweep.space.loss.beta=interval(3,4)", "+extra=1,2"]
    constant, space = make_space(config, arguments, OverridesParser.create())
    assert constant == ["sweep.trials=3"]
    assert {d.option: d.text for d in space} == {
        "loss.alpha": "choice(1,2)", "loss.beta": "interval(3,4)", "extra": "1,2",
    }  # fmt: skip
    assert space[[d.option for d in space].index("extra")].override("1") == "+extra=1"


def test_trial_names_are_folders():
    name = trial_name(3, {"loss.alpha": 0.51349, "optimizer.lr": 1e-5, "model.kind": "a/b"})
    assert name == "trial-0003_alpha-0.513_kind-a-b_lr-1e-05"
