"""`python -m fexgan_lit.evaluate`: measure trained systems on the same frames and write the tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig, OmegaConf

from fexgan_lit.runs.folder import run_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import out_trouble, results_folder, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.report import Findings


def evaluate(cfg: DictConfig) -> None:
    """Evaluate the runs in `cfg`, print the tables and write the files."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.evaluation.config import evaluation_settings
    from fexgan_lit.utils.version import __version__

    if cfg.out and (trouble := out_trouble(str(cfg.out))):
        raise UserError(trouble)
    settings, logger = evaluation_settings(cfg)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log file has room for the tables
    console.print(f"[bold]fexgan_lit {__version__}[/]  evaluate {', '.join(settings.places)}\n", soft_wrap=True)

    from fexgan_lit.evaluation.report import log_findings, write_findings

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = shlex.join(["python", "-m", "fexgan_lit.evaluate", *HydraConfig.get().overrides.task])
    findings = find(settings, command, console)
    write_findings(findings, folder)
    left = log_findings(findings, settings, logger, folder, console)
    for table in findings.printed():
        console.print(table.rich())
    for subject, note in findings.notes.items():
        console.print(f"  {subject}: {note}", markup=False, soft_wrap=True)
    console.print(f"\n  report     {folder}/evaluation.md (.json, .csv, .tex)", markup=False, soft_wrap=True)
    console.print(f"  pictures   {folder}/figures", markup=False, soft_wrap=True)
    for line in left:
        console.print(f"  upload     {line}", markup=False, soft_wrap=True)


def find(settings: EvaluationSettings, command: str, console: Console) -> Findings:
    """Evaluate by the protocol in the settings."""
    from fexgan_lit.evaluation.methods import open_methods
    from fexgan_lit.evaluation.protocols.augmentation import find_augmentation
    from fexgan_lit.evaluation.protocols.classifier import require_network
    from fexgan_lit.evaluation.protocols.clips_report import find_clips
    from fexgan_lit.evaluation.protocols.complex import find_complex
    from fexgan_lit.evaluation.protocols.intensity import find_intensity
    from fexgan_lit.evaluation.protocols.photographs import find_photographs
    from fexgan_lit.evaluation.protocols.quality import find_quality
    from fexgan_lit.evaluation.protocols.transfer import find_transfer
    from fexgan_lit.evaluation.protocols.unseen import find_unseen
    from fexgan_lit.evaluation.test_set import common_ground
    from fexgan_lit.utils.console import stages

    if settings.protocol == "augmentation":
        require_network(settings.augmentation.network)  # fails before faces are generated, which takes minutes
    with stages(console) as stage:
        methods = open_methods(settings, stage("opening runs"))
        if settings.protocol == "photographs":
            return find_photographs(methods, settings, command, stage)
        ground = common_ground(methods, settings, stage("preparing frames"))
        measure = {
            "quality": find_quality, "augmentation": find_augmentation, "clips": find_clips, "complex": find_complex,
            "intensity": find_intensity, "transfer": find_transfer, "unseen": find_unseen,
        }[settings.protocol]  # fmt: skip
        return measure(methods, ground, settings, command, stage)


def evaluation_folder(out: str | None, run: str | None, runs: Sequence[str] | str) -> str:
    """Return the output folder: `out`, or a new folder under outputs/ whose name ends with the time."""
    given = runs if isinstance(runs, list | ListConfig) else [str(runs)]  # runs=outputs/RUN is runs=[outputs/RUN]
    places = [*([run] if run else []), *given]
    return results_folder(out, "evaluate", run_name(places[0]) if len(places) == 1 else f"{len(places)}_runs")


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_evaluation_folder", evaluation_folder, use_cache=True, replace=True)
    run_command(evaluate, "evaluate")


if __name__ == "__main__":
    main()
