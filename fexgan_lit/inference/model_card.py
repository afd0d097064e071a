"""The README.md of a shared run: metadata for the Hub, the evaluation, and the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from omegaconf import DictConfig, OmegaConf

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import RECONSTRUCTION_LIMIT, RunResult, read_result
from fexgan_lit.utils.tables import escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem

LIBRARY = "fexgan_lit"
#: Files of `python -m fexgan_lit.evaluate`, if written to the run folder or to `evaluation` in it.
EVALUATION = ("evaluation.md", "evaluation.json")
_TAGS = ["facial-expression-synthesis", "image-to-image", "gan", "pytorch"]
#: License of weights trained on drawn characters (that of the package), and of weights under their data set's terms.
_FREE, _OTHER = "apache-2.0", "other"


def model_card(
    loaded: LoadedSystem, name: str = "user/name", license: str | None = None, tags: list[str] | None = None
) -> ModelCard:
    """Make the model card of a run.

    Args:
        loaded: the run.
        name: name of the repository, for the example and the index of results.
        license: license identifier of the Hub; None uses the package's for the cartoon studio, else `other`.
        tags: tags in addition to those of every run.
    """
    result = read_result(loaded.folder)
    data = ModelCardData(
        license=license or (_FREE if loaded.run.dataset.layout_name == "studio_cartoon" else _OTHER),
        library_name=LIBRARY,
        pipeline_tag="image-to-image",
        tags=sorted({*_TAGS, loaded.name, *(tags or [])}),
        metrics=sorted(final_metrics(result)) or None,
        model_name=name,
        eval_results=_results(loaded, result) or None,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(loaded, name, result)}")


def final_metrics(result: RunResult | None) -> dict[str, float]:
    """Return the final metrics without the stage prefix: `ssim`, not `final/val/ssim`."""
    known = {} if result is None else result.metrics
    return {key.rpartition("/")[2]: value for key, value in known.items() if key != RECONSTRUCTION_LIMIT}


def evaluation_file(folder: Path, name: str) -> Path | None:
    """Return the path of a run's evaluation file, or None."""
    places = (folder / name, folder / "evaluation" / name)
    return next((place for place in places if place.is_file()), None)


def shared_config(folder: Path) -> DictConfig:
    """Return the run's configuration with absolute paths replaced by null."""

    def without_places(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_places(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [without_places(inner) for inner in value]
        is_place = isinstance(value, str) and (value.startswith(("/", "~", "\\")) or value[1:3] in (":\\", ":/"))
        return None if is_place else value

    tree: Any = without_places(OmegaConf.to_container(RunFolder(folder).read_config(), resolve=True))
    tree["run"] = None
    return OmegaConf.create(tree)


def _results(loaded: LoadedSystem, result: RunResult | None) -> list[EvalResult]:
    """Return the final metrics for the Hub's index."""
    data = loaded.run.dataset.name
    return [
        EvalResult(
            task_type="image-to-image", dataset_type=data, dataset_name=data, metric_type=key, metric_value=value
        )
        for key, value in final_metrics(result).items()
    ]


def _body(loaded: LoadedSystem, name: str, result: RunResult | None) -> str:
    config, affects = OmegaConf.to_yaml(shared_config(loaded.folder)), escaped(", ".join(loaded.affects))
    return "\n".join([
        f"# {loaded.name}, {loaded.image_size} px, trained on {loaded.run.dataset.name}", "",
        "Changes the expression of a face. Trained and shared with fexgan_lit "
        f"{result.version if result and result.version else __version__}.", "",
        "```python", "from fexgan_lit import load", "",
        f'system = load("{name}")',
        f'face = system.synthesize("face.png", affect={json.dumps(loaded.affects[-1])}, strength=0.7)', "```", "",
        f"Affects in index order: {affects}. It reads {', '.join(sorted(loaded.reads))}.", "",
        *_evaluation(loaded.folder, result),
        "## Recipe", "", *_run_lines(result), "```yaml", config.rstrip(), "```", "",
        "## Use", "",
        "Faces it generates are not photographs. Say so where they are shown, and do not attribute words or feelings "
        "to people who did not agree.", "",
    ])  # fmt: skip


def _evaluation(folder: Path, result: RunResult | None) -> list[str]:
    """Return the final metrics of training, and the report of `evaluate` if the run has one."""
    lines = ["## Evaluation", ""]
    if result is not None and result.metrics:
        lines += ["At the end of training:", "", "| metric | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in result.metrics.items()]
        lines.append("")
    report = evaluation_file(folder, EVALUATION[0])
    if report is not None:
        text = report.read_text(encoding="utf-8")
        # headings one level down, below this heading
        lines += [f"##{line}" if line.startswith("#") else line for line in text.splitlines()] + [""]
    return lines if len(lines) > 2 else [*lines, "This run has no metrics.", ""]


def _run_lines(result: RunResult | None) -> list[str]:
    if result is None:
        return []
    return [
        f"{result.iteration} iterations, {result.seconds / 60:.1f} minutes on {result.machine} with torch "
        f"{result.torch}.", "",
    ]  # fmt: skip
