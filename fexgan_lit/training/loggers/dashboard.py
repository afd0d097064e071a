"""The W&B workspace of a project: sections with panels for the logged keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fexgan_lit.metrics.registry import direction

#: Kinds of panels: curves over iterations, pictures with a slider, a table of one run, parallel coordinates with a line
#: per run, and the importance of each option for one metric.
KINDS = ("lines", "pictures", "table", "parallel", "importance")
#: Default axes of the parallel coordinates without a sweep.
LOSS_WEIGHTS = ("loss.alpha", "loss.beta", "loss.gamma")
#: Prefixes of options that are swept over orders of magnitude and shown on logarithmic axes.
_LOGARITHMIC = ("loss.", "optimizer.lr")


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: one of `KINDS`.
        title: title of the panel.
        keys: names of logged metrics, pictures or tables.
        options: for `parallel`: the config options that are the first axes.
    """

    kind: str
    title: str
    keys: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Panels under one heading."""

    name: str
    panels: tuple[Panel, ...]


def sections(axes: Sequence[str] = LOSS_WEIGHTS) -> tuple[Section, ...]:
    """Return the sections of the workspace from top to bottom.

    Args:
        axes: dotted names of the options in which runs differ, without the seed.
    """
    quality, affect, ssim = "fd_judge", "judge_affect_accuracy", "ssim"
    final = tuple(f"final/val/{name}" for name in (quality, affect, ssim))
    losses = {
        "both networks": ("loss/generator", "loss/discriminator"),
        "reconstruction (gamma)": ("loss/reconstruction",),
        "KL divergence (beta)": ("loss/kl",),
        "adversarial (alpha)": ("loss/binary", "loss/class"),
    }
    validation = {"fd_judge": quality, "affect as asked": affect, "SSIM": ssim}
    pictures = {
        "affects over the iterations": "progress/affects", "affects": "figures/affects",
        "affects and truth": "figures/affects_and_truth", "complex expressions": "figures/complex",
        "samples of the fitted prior": "figures/samples_fitted", "confusion": "figures/confusion",
    }  # fmt: skip
    tables = {"Table 1": "table1", "image quality": "quality", "confusion": "confusion"}
    return (
        Section("Settings", (
            Panel("parallel", "options against results", final, tuple(axes)),
            Panel("importance", "which option decides fd_judge", final[:1]),
        )),
        Section("Validation", tuple(Panel("lines", title, (f"val/{name}",)) for title, name in validation.items())),
        Section("Faces", tuple(Panel("pictures", title, (key,)) for title, key in pictures.items())),
        Section("Tables", tuple(Panel("table", title, (f"tables/{name}",)) for title, name in tables.items())),
        Section("Losses", tuple(Panel("lines", title, keys) for title, keys in losses.items())),
    )  # fmt: skip


def build_workspace(
    sections: Sequence[Section], *, name: str, entity: str, project: str, group: str | None = None
) -> Any:
    """Build a `wandb_workspaces.workspaces.Workspace` without saving it.

    Args:
        sections: sections of the workspace.
        name: name of the view.
        entity: user or team.
        project: project of the runs.
        group: show only the runs of this sweep; None shows all.
    """
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        name=name, entity=entity, project=project,
        sections=[
            ws.Section(name=section.name, panels=[to_panel(panel) for panel in section.panels], is_open=True)
            for section in sections
        ],
        settings=ws.WorkspaceSettings(x_axis="iteration"),
        # the seeds of one setting form one line with a band
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("setting")], filters=ws.And(ws.Metric("Group") == group) if group else ""
        ),
    )  # fmt: skip


def to_panel(panel: Panel) -> Any:
    """Convert a panel to W&B's classes."""
    import wandb_workspaces.reports.v2 as wr

    if panel.kind == "lines":
        return wr.LinePlot(
            title=panel.title, x="iteration", y=list(panel.keys), groupby_aggfunc="mean", groupby_rangefunc="stddev"
        )
    if panel.kind == "pictures":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), mode="gallery", gallery_axis="step")
    if panel.kind == "table":
        return wr.WeavePanelSummaryTable(table_name=panel.keys[0])
    if panel.kind == "importance":
        return wr.ParameterImportancePlot(with_respect_to=panel.keys[0])
    # options first, then results with the better end at the top
    column = wr.ParallelCoordinatesPlotColumn
    options = [column(metric=wr.Config(name), log=name.startswith(_LOGARITHMIC) or None) for name in panel.options]
    results = [
        column(metric=wr.SummaryMetric(key), inverted=direction(key) == "minimize" or None) for key in panel.keys
    ]
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=[*options, *results])
