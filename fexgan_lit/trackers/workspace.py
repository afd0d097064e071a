"""From the plain sections of a dashboard to a W&B workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fexgan_lit.trackers.directions import direction
from fexgan_lit.trackers.panels import Panel, Section, logarithmic


def build_workspace(
    sections: Sequence[Section], *, name: str, entity: str, project: str, group: str | None = None
) -> Any:
    """A `wandb_workspaces.workspaces.Workspace` that is not saved yet.

    Args:
        sections: what it shows.
        name: of the view.
        entity: user or team.
        project: of the runs.
        group: shows the runs of this sweep alone; None shows all.
    """
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        name=name, entity=entity, project=project,
        sections=[
            ws.Section(name=section.name, panels=[to_panel(panel) for panel in section.panels], is_open=True)
            for section in sections
        ],
        settings=ws.WorkspaceSettings(x_axis="iteration"),
        # seeds of one setting are one line with a band
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("setting")], filters=ws.And(ws.Metric("Group") == group) if group else ""
        ),
    )  # fmt: skip


def to_panel(panel: Panel) -> Any:
    """The panel in W&B's own classes."""
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
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=_columns(panel))


def _columns(panel: Panel) -> list[Any]:
    """The axes of a parallel plot: options first, then results with the better end on top."""
    import wandb_workspaces.reports.v2 as wr

    column = wr.ParallelCoordinatesPlotColumn
    options = [column(metric=wr.Config(name), log=logarithmic(name) or None) for name in panel.options]
    results = [
        column(metric=wr.SummaryMetric(key), inverted=direction(key) == "minimize" or None) for key in panel.keys
    ]
    return [*options, *results]
