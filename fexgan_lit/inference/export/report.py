"""export.md and export.json: inputs, outputs and accuracy of every file, and the accuracy and speed of 8 bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.inference.export.config import TOLERANCE, Written
from fexgan_lit.systems.base import exportable
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from fexgan_lit.inference.export.int8 import Int8Report
    from fexgan_lit.inference.loaded_system import LoadedSystem


def write_record(
    folder: Path, loaded: LoadedSystem, written: Sequence[Written], about: dict[str, Any], int8: Int8Report | None
) -> None:
    """Write export.json and export.md beside the files.

    Args:
        folder: folder of the files.
        loaded: the exported run.
        written: the files.
        about: format, opset if there is one, versions.
        int8: report on the 8-bit generator, or None.
    """
    facts = {
        "system": loaded.name, "image_size": loaded.image_size, "affects": list(loaded.affects), **about,
        "files": {each.path.name: _file_facts(each, loaded) for each in written},
        "int8": None if int8 is None else int8.plain(),
    }  # fmt: skip
    write_atomic(folder / "export.json", json.dumps(facts, indent=1) + "\n")
    write_atomic(folder / "export.md", _page(loaded, written, about, int8))


def _file_facts(each: Written, loaded: LoadedSystem) -> dict[str, Any]:
    from fexgan_lit.inference.export.write import tensor_shapes

    facts: dict[str, Any] = {"difference_from_pytorch": each.difference}
    if each.path.suffix == ".safetensors":
        return facts | {"tensors": tensor_shapes(each.path)}
    part = exportable(loaded.system).export_modules()[each.part]
    inputs = {name: {"shape": ["batch", *i.shape], "meaning": i.meaning} for name, i in part.inputs.items()}
    return facts | {"inputs": inputs, "outputs": dict(part.outputs)}


def _page(loaded: LoadedSystem, written: Sequence[Written], about: dict[str, Any], int8: Int8Report | None) -> str:
    said = ", ".join(f"{name} {value}" for name, value in about.items() if name != "format")
    lines = [
        f"# {loaded.name}, {loaded.image_size} px, as {about['format']}", "",
        f"Written by fexgan_lit {__version__} ({said}). Affects in index order: {', '.join(loaded.affects)}.", "",
        "| file | MB | greatest difference from PyTorch |", "|---|---|---|",
        *(f"| {each.path.name} | {each.megabytes:.2f} | {each.difference:.1e} |" for each in written), "",
        f"Differences above {TOLERANCE:g} are refused.", "",
        *_interfaces(loaded, written),
    ]  # fmt: skip
    if int8:
        lines += ["## generator in 8 bits", "", *(f"- {line}." for line in int8_sentences(int8)), ""]
    return "\n".join(lines)


def _interfaces(loaded: LoadedSystem, written: Sequence[Written]) -> list[str]:
    """Return the inputs and outputs of each network as Markdown tables."""
    parts, lines = exportable(loaded.system).export_modules(), []
    for each in written:
        if each.path.suffix == ".safetensors":
            continue
        part = parts[each.part]
        lines += [f"## {each.part}", "", "| | name | shape | meaning |", "|---|---|---|---|"]
        lines += [
            f"| in | {n} | batch x {' x '.join(map(str, i.shape))} | {i.meaning} |" for n, i in part.inputs.items()
        ]
        lines += [f"| out | {name} | | {meaning} |" for name, meaning in part.outputs.items()]
        lines.append("")
    return lines


def int8_sentences(report: Int8Report) -> list[str]:
    """Describe size, accuracy and speed of the 8-bit generator in one sentence each."""
    exact, small = report.megabytes
    read = [
        f"The {name} classifies {b:.1%} of the images as the target affect, {a:.1%} of the float images"
        for name, (a, b) in report.read_as_asked.items()
    ]
    speed = [
        f"Batch {batch}: {spread.median:.2f} times as fast (quartiles {spread.low:.2f} to {spread.high:.2f}, threads: "
        f"{report.threads}, in turns)"
        for batch, spread in report.faster.items()
    ]
    return [
        f"{small:.2f} MB instead of {exact:.2f} MB",
        f"SSIM to the float images {report.ssim[0]:.4f} (worst {report.ssim[1]:.4f}), PSNR {report.psnr[0]:.1f} dB "
        f"(worst {report.psnr[1]:.1f} dB), over {report.images} images: {report.origin}",
        *read,
        *speed,
    ]
