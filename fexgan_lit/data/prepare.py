"""The steps of `prepare`: frames from videos, landmarks, checks, and the pack."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.data.config import STUDIOS, DatasetConfig
from fexgan_lit.utils.console import Stages, stages
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hardware import cores
from fexgan_lit.utils.hydra import out_trouble

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.data.checks.run import Diagnosis
    from fexgan_lit.data.packing.pack import Pack, Progress
    from fexgan_lit.data.streaming.config import PackSettings
    from fexgan_lit.data.table import Drop, FrameTable


@dataclass(frozen=True)
class Material:
    """A data set between the steps of `prepare` before the checks.

    Attributes:
        config: settings in use: the user's, changed by the steps for videos and landmarks.
        drops: frames lost before indexing.
        faceless: frames in use without a detected face, and the reasons.
        notes: sentences on the steps before indexing.
    """

    config: DatasetConfig
    drops: tuple[Drop, ...] = ()
    faceless: tuple[Drop, ...] = ()
    notes: tuple[str, ...] = ()


def check_files_option(files: str | None, settings: DatasetConfig) -> None:
    """Raise a UserError for `files=DIR` if the frames are files already or nothing can be written there."""
    if files and settings.layout_name not in STUDIOS:
        raise UserError(
            f"files={files}: the frames of dataset={settings.name} are files already; only the frames of a studio "
            f"({', '.join(STUDIOS)}) can be written."
        )
    if files:
        from fexgan_lit.data.datasets.synthetic import check_export, make_studio

        if trouble := out_trouble(files, "files"):
            raise UserError(trouble)
        check_export(make_studio(settings), Path(files).expanduser())


def check_chunks(chunks: PackSettings, settings: DatasetConfig) -> None:
    """Raise a UserError if the root is a chunked pack already, or chunks cannot be written to the place given."""
    from fexgan_lit.data.streaming.storage import holds_chunks, store_of
    from fexgan_lit.data.streaming.writer import check_place, check_writer

    if holds_chunks(settings.root):
        raise UserError(
            f"dataset.root={settings.root} is a chunked pack, which needs no preparation: train with it, or prepare "
            "the frames from which it was made."
        )
    if chunks.format == "litdata":
        check_writer()
        check_place(store_of(str(chunks.to)))


def streamed(used: DatasetConfig, chunks: PackSettings) -> DatasetConfig:
    """Return the settings that read the chunks of a pack made with `used`."""
    from fexgan_lit.data.streaming.storage import absolute_root

    return replace(used, root=absolute_root(str(chunks.to)), annotations=None)


def write_pack(diagnosis: Diagnosis, chunks: PackSettings, command: str, console: Console) -> None:
    """Write the pack as chunks to `chunks.to` if training would accept it, and print the command that streams it."""
    from fexgan_lit.data.streaming.storage import store_of
    from fexgan_lit.data.streaming.writer import write_chunks

    if not diagnosis.trainable:
        text = f"  chunks   not written to {chunks.to}: training would not start with them"
        console.print(text, markup=False, soft_wrap=True)
        return
    with stages(console) as stage:
        written = write_chunks(
            diagnosis.pack, diagnosis.config, store_of(str(chunks.to)), chunks, stage("writing chunks")
        )
    geometry, there = written.facts.geometry, "were there already" if written.reused else "written"
    size = f"{geometry.chunks} of {geometry.chunk_bytes(0) / 1e6:.3g} MB"
    for word, text in (("chunks", f"{size} {there}: {written.place}"), ("stream", command)):
        console.print(f"  {word:<9}{text}", markup=False, soft_wrap=True)


def write_files(folder: Path, settings: DatasetConfig, console: Console) -> None:
    """Write the studio's frames as files in MH-FED's layout with ground truth, and print the options to read them."""
    from fexgan_lit.data.datasets.synthetic import export_studio, make_studio

    with stages(console) as stage:
        csv = export_studio(make_studio(settings), folder, cores(settings.workers), stage("writing files"))
    console.print(f"\n  files      {folder}, ground truth in {csv.name}; to read them, use", markup=False)
    console.print(f"             dataset=mhfed dataset.root={folder} dataset.annotations={csv}", markup=False)


def examine_dataset(settings: DatasetConfig, folder: Path, overrides: list[str], console: Console) -> Diagnosis:
    """Pack and check the data set, write the report to `folder`, and return the diagnosis."""
    from fexgan_lit.data.checks.report import print_diagnosis, write_report
    from fexgan_lit.data.checks.run import examine
    from fexgan_lit.data.datasets.labels import has_affects

    with stages(console) as stage:
        material = with_landmarks(from_videos(Material(settings), stage), stage)
        pack, refusal = open_pack(material.config, stage("packing frames"))
        drops = (*material.drops, *(drop for drop in pack.table.drops if not is_own_file(drop.path, material.config)))
        table = replace(pack.table, drops=drops, notes=(*material.notes, *pack.table.notes))
        diagnosis = examine(
            replace(pack, table=table), material.config, refusal, material.faceless, stage("looking at frames")
        )
    command = train_command(overrides, settings, material.config)
    if not has_affects(pack.table.affects):
        command += " model=ganimation"  # it needs no affects
    write_report(folder, diagnosis, command)
    print_diagnosis(console, diagnosis, folder, command)
    return diagnosis


def dataset_settings(cfg: DictConfig) -> DatasetConfig:
    """Return the validated `dataset` group.

    Raises:
        UserError: one message that lists every invalid value.
    """
    from fexgan_lit.utils.options import typed

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    settings = typed(DatasetConfig, tree["dataset"], "dataset", problems)
    problems += [] if problems else settings.problems()
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return settings


def is_own_file(path: str, config: DatasetConfig) -> bool:
    """Return whether a path below the root is the CSV in use or a file that the splitting of clips writes there."""
    from fexgan_lit.data.videos.extract import ANNOTATIONS, RECORDS

    if config.root is None or config.annotations is None:
        return False
    root = Path(config.root).expanduser()
    kept_by_splitting = (RECORDS, ANNOTATIONS) if (root / RECORDS).is_dir() else ()
    return path in kept_by_splitting or (root / path).resolve().is_relative_to(
        Path(config.annotations).expanduser().resolve()
    )


def from_videos(material: Material, stage: Stages) -> Material:
    """Split the clips of `dataset.videos`, if there are any, and continue with their frames."""
    config = material.config
    if config.videos is None:
        return material
    from fexgan_lit.data.videos.extract import extract_videos

    made = extract_videos(config, stage("splitting clips"))
    note = f"{made.frames} frames of {len(made.clips)} clips in {config.videos} were written to {made.root}"
    # the layout `folder` accepts any affects; MH-FED's layout would ignore those outside its list
    frames = replace(
        config, videos=None, root=str(made.root), annotations=str(made.annotations), layout="folder",
        pattern=DatasetConfig.pattern,
    )  # fmt: skip
    return replace(material, config=frames, drops=made.drops, notes=(note, *made.notes))


def with_landmarks(material: Material, stage: Stages) -> Material:
    """Detect landmarks with `dataset.detector` if the data set has none, and continue with the new annotations."""
    config = material.config
    if config.detector is None or config.layout_name in STUDIOS:
        return material
    from fexgan_lit.data.datasets import index_dataset
    from fexgan_lit.expression import LANDMARK_COLUMNS

    table = index_dataset(config)
    if LANDMARK_COLUMNS[0] in table.frame:
        note = f"dataset.detector={config.detector} was not needed: the data set has landmarks"
        return replace(material, notes=(*material.notes, note))
    from fexgan_lit.data.faces.detect import detect_landmarks

    found = detect_landmarks(table, config, stage("finding landmarks"))
    path = found.annotations if config.annotations is None else merge_annotations(table, found.annotations)
    changed = replace(config, annotations=str(path), detector=None)
    note = f"{config.detector} found landmarks in {found.found} of {len(table)} frames: {path}"
    notes = (*material.notes, note, *found.notes)
    return replace(material, config=changed, faceless=found.missing, notes=notes)


def merge_annotations(table: FrameTable, found: Path) -> Path:
    """Write a CSV of the detector's rows joined with the user's annotations of the same frames; return its path."""
    import pandas as pd

    from fexgan_lit.data.datasets.annotations import AU_SCALE
    from fexgan_lit.expression import AU_COLUMNS, POSE_COLUMNS

    rows = pd.read_csv(found, dtype={"path": str})
    columns = ("take", "frame", "time_s", "intensity", *POSE_COLUMNS, *AU_COLUMNS)
    there = {name.lower() for name in rows}
    own = table.frame[["path", *(name for name in columns if name in table.frame and name not in there)]]
    units = [name for name in AU_COLUMNS if name in own]
    own = own.assign(**{name: own[name] * AU_SCALE for name in units})
    text = rows.merge(own, on="path", how="left").to_csv(index=False)
    merged = found.with_name(f"{found.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.csv")
    write_atomic(merged, text)
    return merged


def open_pack(config: DatasetConfig, progress: Progress) -> tuple[Pack, str]:
    """Return the pack, and the reason why training would refuse it (empty if it would not).

    Raises:
        UserError: there is nothing to report on, for example no frames.
    """
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.datasets.labels import NothingToPairError
    from fexgan_lit.data.open import open_dataset

    try:
        pack = open_dataset(config, progress)
    except NothingToPairError as error:
        return pack_anyway(error.table, config, progress), str(error)
    try:
        # the pack exists: this tests only sampler and split, without pairs if there are no affects
        FrameDataModule(config, pairing="none").setup()
    except UserError as error:
        return pack, str(error)
    return pack, ""


def pack_anyway(table: FrameTable, config: DatasetConfig, progress: Progress) -> Pack:
    """Return the pack of frames that cannot be trained on, so that the report can show what is missing."""
    from fexgan_lit.data.datasets.annotations import join_annotations
    from fexgan_lit.data.open import pack_files

    if config.annotations is not None:
        table = join_annotations(table, Path(config.annotations).expanduser())
    return pack_files(table, config, progress)


def train_command(overrides: list[str], asked: DatasetConfig, used: DatasetConfig) -> str:
    """Return the command that trains on the data set: the user's overrides, and the options that preparing changed."""
    own = [o for o in overrides if o.lstrip("+").startswith("dataset")]
    names = ("videos", "detector", "root", "annotations", "layout", "pattern")
    changed = [name for name in names if getattr(asked, name) != getattr(used, name)]
    kept = [o for o in own if o.lstrip("+").partition("=")[0] not in {f"dataset.{name}" for name in changed}]
    # Hydra parses the braces of a pattern as a mapping unless they are quoted
    values = {name: f'"{used.pattern}"' if name == "pattern" else getattr(used, name) for name in changed}
    if used.layout == used.name and asked.layout is None:
        values.pop("layout", None)
    new = [f"dataset.{name}={value}" for name, value in values.items() if value is not None]
    return " ".join(["python -m fexgan_lit.train", *(shlex.quote(o) for o in (*kept, *new))])
