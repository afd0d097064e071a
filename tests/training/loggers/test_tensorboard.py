"""TensorBoard's event file read back: numbers, pictures, tables, options with results."""

from __future__ import annotations

import csv

import pytest

from tests.conftest import TINY, run_train

pytest.importorskip("tensorboard")


def events_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    return events


def test_tensorboard_and_a_logger_of_the_users_own_hold_what_metrics_csv_and_the_report_hold(tmp_path):
    own = ("+logger.mine._target_=lightning.pytorch.loggers.CSVLogger", "+logger.mine.save_dir=mine")
    run_train(tmp_path, *TINY, "logger=[csv,tensorboard]", *own, "trainer.max_steps=4", "trainer.figures_every=2")
    (run,) = tmp_path.glob("outputs/*")
    events = events_of(run)
    ours, theirs = (
        list(csv.DictReader(path.open())) for path in (run / "metrics.csv", *tmp_path.glob("mine/**/metrics.csv"))
    )
    assert {int(row["iteration"]) for row in ours} == {2, 4}
    assert {int(row["step"]) for row in theirs if row["loss/generator"]} == {2, 4}
    for row in ours:
        step = int(row.pop("iteration"))
        for name in (name for name, value in row.items() if value):
            logged = {event.step: event.value for event in events.Scalars(name)}
            assert logged[step] == pytest.approx(float(row[name]), rel=1e-5), name
    pictures = {f"figures/{path.stem}" for path in (run / "figures").glob("*.png")}
    assert pictures | {"progress/affects"} <= set(events.Tags()["images"])
    assert [image.step for image in events.Images("progress/affects")] == [2, 4]
    (text,) = events.Tensors("tables/table1/text_summary")
    table = text.tensor_proto.string_val[0].decode()
    assert "| *FExGAN, FERG-DB, Train (paper)* |" in table or "| FExGAN, FERG-DB, Train (paper) | 0.981 |" in table


def test_options_stand_beside_the_final_numbers(tmp_path):
    from tensorboard.plugins.hparams import plugin_data_pb2

    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.training.loggers.tensorboard import RunTensorBoard

    config = {"loss": {"alpha": 0.5}, "seed": 3, "dataset": {"root": None}}
    logger = RunTensorBoard(tmp_path)
    logger.log_summary(RunFolder(tmp_path), config, 9, {"final/val/ssim": 0.5}, "key")
    logger.finalize("success")
    tags = events_of(tmp_path).summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        tags["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    options = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    assert options == {"loss.alpha": "number_value", "seed": "number_value",
                       "dataset.root": "string_value"}  # fmt: skip
    assert start.hparams["loss.alpha"].number_value == 0.5
    experiment = plugin_data_pb2.HParamsPluginData.FromString(tags["_hparams_/experiment"].plugin_data.content)
    assert [metric.name.tag for metric in experiment.experiment.metric_infos] == ["final/val/ssim"]


def test_a_resumed_run_hides_what_is_computed_again(tmp_path):
    from fexgan_lit.training.loggers.tensorboard import RunTensorBoard

    for resume_at, steps in ((None, (10, 20, 30)), (20, (30, 40))):
        logger = RunTensorBoard(tmp_path, resume_at)
        for step in steps:
            logger.log_metrics({"a": float(step + (resume_at or 0))}, step)
        logger.finalize("success")
    kept = {event.step: event.value for event in events_of(tmp_path).Scalars("a")}
    assert kept == {10: 10.0, 20: 20.0, 30: 50.0, 40: 60.0}
