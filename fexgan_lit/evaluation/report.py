"""Write an evaluation: evaluation.json, evaluation.md, the table as CSV and LaTeX, figures and logger tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.evaluation.figures import standings_figure
from fexgan_lit.evaluation.summary import Difference, Row, differences, standings
from fexgan_lit.evaluation.tables import as_latex, differences_table, long_form, metrics_of, standings_table
from fexgan_lit.inference.animation.video import write_gif
from fexgan_lit.metrics.registry import AUGMENTATION, DISCRIMINATOR_METRICS, GROUPS, metric_info
from fexgan_lit.metrics.statistics import CONFIDENCE, draw_resamples
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.loggers.build import close_loggers, log_numbers, log_picture, log_table, make_loggers
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.tables import TextTable, escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    import numpy as np
    from PIL import Image
    from rich.console import Console

    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.measure import Scores
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.runs.config import LoggerSettings


#: Columns of the printed table, as far as they were measured; the files hold all metrics.
HEADLINE = (
    "ssim", "psnr", "lpips", "sharpness", "fid", "fd_effnet", "fd_judge", "inception_score", "is_judge", "acd", "acd_i",
    "judge_affect_accuracy", "trained_judge_affect_accuracy", "mixture_seen", "mixture_share_error", "au_error",
    "landmark_error", "control_linearity", "intensity_error", "judge_identity_accuracy", "rank1",
    "identity_cosine", "harmonic_mean",
)  # fmt: skip

#: The most columns of a printed table; a terminal has no room for more.
_COLUMNS = 5


@dataclass
class Findings:
    """The results of an evaluation.

    Attributes:
        title: title of the report.
        command: the command that made the evaluation.
        where: description of the pairs.
        rows: standings, ceiling first, floor second.
        differences: paired differences between systems.
        judges: one line per judge.
        recipes: how each metric was computed, by metric.
        notes: remarks, by subject.
        seed: seed of pairs and resamples.
        reading: how to read the cells of the standings.
        pictures: figures, by name.
        films: frames (T, H, W, 3) uint8 RGB and frames per second, by name.
        captions: captions of pictures and films, by name.
        tables: further tables, shown below the standings.
        breakdowns: tables for the files only, such as metrics by affect and by identity.
        warnings: warnings about weak judges.
    """

    title: str
    command: str
    where: str
    rows: list[Row]
    differences: list[Difference]
    judges: list[str]
    recipes: dict[str, str]
    notes: dict[str, str]
    seed: int
    reading: str
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    films: dict[str, tuple[np.ndarray, Fraction]] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    tables: list[TextTable] = field(default_factory=list)
    breakdowns: list[TextTable] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, scores: Sequence[Scores], methods: Sequence[Trained], judges: JudgePanel, settings: EvaluationSettings, *,
        title: str, command: str, where: str, over: str = "pairs", notes: Mapping[str, str],
    ) -> Findings:  # fmt: skip
        """Compare the scores of all methods.

        Args:
            scores: scores of N values each; those of the true frames come first.
            methods: the systems, whose names follow the title.
            judges: the judges.
            settings: the settings of the evaluation.
            title: the beginning of the title.
            command: the command that made the evaluation.
            where: description of the N values.
            over: what the N values are of.
            notes: remarks, by subject.
        """
        N = len(next(iter(scores[0].columns.values())))
        resamples = draw_resamples(N, settings.bootstrap, settings.seed)
        rows = standings(scores, resamples)
        return cls(
            title=f"{title} {', '.join(dict.fromkeys(method.name for method in methods))}",
            command=command,
            where=where,
            rows=rows,
            differences=differences(rows, resamples),
            judges=judges.describe(),
            recipes={name: recipe for s in scores for name, recipe in s.recipes.items()},
            notes=dict(notes),
            seed=settings.seed,
            reading=f"In brackets: {CONFIDENCE:.0%} intervals over the {over}. ± is the standard deviation between "
            "seeds.",
            warnings=judges.warnings(),
        )

    def add(self, name: str, picture: Image.Image, caption: str) -> None:
        """Add a figure with its caption; a slash, which a file name cannot have, becomes _."""
        name = name.replace("/", "_")
        self.pictures[name], self.captions[name] = picture, caption

    def draw_standings(
        self, over: str = "pairs", ceiling: str = "the true frames", floor: str = "the untouched sources"
    ) -> None:  # fmt: skip
        """Add the figure of the standings."""
        caption = f"One dot per seed; bars are intervals over the {over}. Green: {ceiling}; dotted: {floor}."
        self.add("standings", standings_figure(self.rows, self.headline_metrics()), caption)

    def headline_metrics(self) -> list[str]:
        """Return the columns of the printed table that were measured."""
        there = metrics_of(self.rows)
        enlarged = [metric for metric in there if metric_info(metric).group == AUGMENTATION]
        return [*(metric for metric in HEADLINE if metric in there), *enlarged]

    def headline(self) -> TextTable:
        """Return the table that is printed first."""
        lines = [self.reading, *self.judges, *(f"warning: {warning}" for warning in self.warnings)]
        return standings_table(self.rows, self.headline_metrics()[:_COLUMNS], "Standings", lines)

    def printed(self) -> list[TextTable]:
        """Return the tables for the terminal: the headline, the differences and the tables of the protocol."""
        found, metrics = [self.headline()], self.headline_metrics()
        for start in range(_COLUMNS, len(metrics), _COLUMNS):
            columns = metrics[start : start + _COLUMNS]
            found.append(standings_table(self.rows, columns, "Standings, continued"))
        if self.differences:
            shown = [m for m in self.headline_metrics() if any(d.metric == m for d in self.differences)]
            found.append(differences_table(self.differences, shown))
        return [*found, *self.tables]

    def all_tables(self) -> list[TextTable]:
        """Return the printed tables, one table per group of metrics, and the breakdowns."""
        there = metrics_of(self.rows)
        found = self.printed()
        for group in GROUPS:
            chosen = [
                metric for metric in there if metric_info(metric).group == group and metric not in DISCRIMINATOR_METRICS
            ]
            if set(chosen) - set(self.headline_metrics()):
                found.append(standings_table(self.rows, chosen, group[0].upper() + group[1:]))
        return [*found, *self.breakdowns]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of evaluation.json."""
        differences = [
            {"metric": d.metric, "first": d.first, "second": d.second, **vars(d.interval)} for d in self.differences
        ]
        return {
            "fexgan_lit": __version__,
            "command": self.command,
            "pairs": self.where,
            "seed": self.seed,
            "confidence": CONFIDENCE,
            "rows": [row.as_dict() for row in self.rows],
            "differences": differences,
            "judges": self.judges,
            "warnings": self.warnings,
            "recipes": self.recipes,
            "notes": self.notes,
            "tables": [
                {"title": t.title, "header": t.header, "rows": t.rows} for t in (*self.tables, *self.breakdowns)
            ],
        }

    def markdown(self) -> str:
        """Return the text of evaluation.md."""
        notes = [f"- {escaped(subject)}: {escaped(note)}" for subject, note in self.notes.items()]
        recipes = [f"- `{name}`: {recipe}" for name, recipe in self.recipes.items()]
        files = [*(f"{name}.png" for name in self.pictures), *(f"{name}.gif" for name in self.films)]
        pictures = [
            f"## {name.replace('_', ' ')}\n\n{self.captions.get(name, '')}\n\n![{name}](figures/{file})\n"
            for file in files
            for name in [file.rpartition(".")[0]]
        ]
        return "\n".join([
            f"# {escaped(self.title)}\n",
            f"- command: `{self.command}`",
            f"- {escaped(self.where)}; seed {self.seed}; fexgan_lit {__version__}",
            *(f"- {escaped(line)}" for line in self.judges),
            "",
            *(table.markdown() for table in self.all_tables()),
            *(["## Notes\n", *notes, ""] if notes else []),
            *pictures,
            "## How each number was made\n",
            *recipes,
            "",
        ])  # fmt: skip


def write_findings(findings: Findings, folder: Path) -> None:
    """Write all files of `findings` to `folder`; the text files are written atomically."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, picture in findings.pictures.items():
        picture.save(folder / "figures" / f"{name}.png")
    for name, (frames, rate) in findings.films.items():
        write_gif(folder / "figures" / f"{name}.gif", frames, rate)
    table = long_form(findings.rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_atomic(folder / "evaluation.csv", table)
    write_atomic(folder / "evaluation.tex", as_latex(findings.rows, findings.headline_metrics()))
    write_atomic(folder / "evaluation.json", json.dumps(findings.as_dict(), indent=2, allow_nan=False) + "\n")
    write_atomic(folder / "evaluation.md", findings.markdown())


def log_findings(
    findings: Findings, settings: EvaluationSettings, logger: LoggerSettings, folder: Path, console: Console
) -> list[str]:
    """Send everything to the loggers in the settings; `logger=csv` writes the files only.

    Returns:
        Commands that the user still has to run, such as the upload of an offline run.

    Raises:
        UserError: the logger's package or key is missing.
    """
    if logger.names == ["csv"] and not logger.own:
        return []
    options: dict[str, Any] = {"evaluation": asdict(settings), "command": findings.command, "recipes": findings.recipes}
    _, *loggers = make_loggers(logger, RunFolder(folder), options, None, console)  # the files stand in for metrics.csv
    try:
        numbers = {
            f"evaluation/{row.name}/{metric}": figure.mean
            for row in findings.rows
            for metric, figure in row.figures.items()
        }
        log_numbers(loggers, numbers, 0)
        table = long_form(findings.rows).astype(object).where(lambda cells: cells.notna(), None)
        log_table(loggers, "tables/every_figure", list(table.columns), table.values.tolist())
        for table in findings.all_tables():
            log_table(loggers, f"tables/{table.title}", table.header, table.rows)
        for name, picture in findings.pictures.items():
            log_picture(loggers, f"figures/{name}", picture, 0, findings.captions.get(name, ""))
    finally:
        left = close_loggers(loggers)
    return left
