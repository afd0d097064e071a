"""`python -m fexgan_lit.export`: export a trained run's networks to other formats, or the run as a portable folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.runs.folder import run_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import results_folder, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.inference.export.config import ExportSettings, Written
    from fexgan_lit.inference.export.int8 import Int8Report
    from fexgan_lit.inference.export.write import Told
    from fexgan_lit.inference.loaded_system import LoadedSystem


def export(cfg: DictConfig) -> None:
    """Write the files selected in `cfg`, and a record of them."""
    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console

    from fexgan_lit.inference.output import check_out
    from fexgan_lit.utils.version import __version__

    console = Console(highlight=False, soft_wrap=True)
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_out(cfg.out, folder)
    settings = export_settings(cfg)
    console.print(f"[bold]fexgan_lit {__version__}[/]  export {settings.format}\n")
    export_run(settings, folder, console)
    console.print(f"\n  written to {folder}, with export.md and export.json", markup=False)


def export_settings(cfg: DictConfig) -> ExportSettings:
    """Return the validated options.

    Raises:
        UserError: one message that lists every invalid value, or a package is not installed.
    """
    from fexgan_lit.inference.export.config import ExportSettings
    from fexgan_lit.utils.options import checked_options

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = checked_options(ExportSettings, tree, "export")
    if settings.format == "onnx":
        from fexgan_lit.inference.export.onnx import check_opset, require_onnx

        require_onnx()
        check_opset(settings.opset)
    return settings


def export_run(settings: ExportSettings, folder: Path, console: Console) -> None:
    """Write the networks of the run in `settings` to `folder`, and print their difference from PyTorch.

    Raises:
        UserError: the run or a part does not exist, or a file cannot be written or differs from PyTorch too much.
    """
    from fexgan_lit.inference.export.report import write_record
    from fexgan_lit.inference.loaded_system import load

    loaded = load(settings.run)
    console.print(f"  run: {loaded.folder}, {loaded.name}, {loaded.image_size} px", markup=False)

    def told(name: str) -> None:
        if console.is_terminal:
            console.print(f"  writing {name} ...", style="dim")

    written = write_files(settings, loaded, folder, told)
    for each in written:
        console.print(
            f"  {each.path.name:<32} {each.megabytes:8.2f} MB   greatest difference from PyTorch {each.difference:.1e}",
            markup=False,
        )
    int8 = write_int8_file(loaded, folder, console) if settings.int8 else None
    write_record(folder, loaded, written, versions(settings, written), int8)


def write_files(settings: ExportSettings, loaded: LoadedSystem, folder: Path, told: Told) -> list[Written]:
    """Write the files of the chosen format."""
    from fexgan_lit.inference.export import write as writing

    if settings.format == "run":
        return writing.write_run(loaded, folder, settings.half, settings.faces)
    if settings.format == "safetensors":
        return writing.write_safetensors(loaded.system, settings.parts, folder, told, settings.half)
    parts = writing.chosen_parts(loaded.system, settings.parts)
    if settings.int8 and "generator" not in parts:
        raise UserError(f"int8=true needs the generator, but parts={settings.parts} leaves it out")
    if settings.format == "torch":
        return writing.write_torch_files(parts, folder, told)
    return writing.write_onnx_files(parts, folder, settings.opset, told)


def write_int8_file(loaded: LoadedSystem, folder: Path, console: Console) -> Int8Report:
    """Write the 8-bit generator beside the float one, and print its loss of accuracy."""
    from fexgan_lit.inference.export.int8 import measure_int8, readers_of, real_inputs, write_int8
    from fexgan_lit.inference.export.report import int8_sentences

    source, path = folder / "generator.onnx", folder / "generator_int8.onnx"
    inputs = real_inputs(loaded)
    scaling, measured = inputs.split()
    write_int8(source, path, scaling)
    report = measure_int8(source, path, measured, readers_of(loaded))
    console.print(f"  {path.name}", markup=False)
    for line in int8_sentences(report):
        console.print(f"    {line}", markup=False)
    return report


def versions(settings: ExportSettings, written: Sequence[Written]) -> dict[str, Any]:
    """Return the format and the versions of the packages that wrote the files."""
    import torch

    about: dict[str, Any] = {"format": settings.format, "torch": torch.__version__}
    if settings.format == "onnx":
        import onnxruntime

        from fexgan_lit.inference.export.onnx import opset_of

        about |= {"opset": opset_of(written[0].path), "onnxruntime": onnxruntime.__version__}
    return about


def export_folder(out: str | None, form: str, run: str | None) -> str:
    """Return the folder of the files: `out`, or a new folder under outputs/."""
    return results_folder(out, "export", form, run_name(run))


def main() -> None:
    """Run the command."""
    OmegaConf.register_new_resolver("fexgan_export_folder", export_folder, use_cache=True, replace=True)
    run_command(export, "export")


if __name__ == "__main__":
    main()
