"""The notebooks in docs/notebooks without Jupyter: read, run, and turn into pages.

`python docs/notebook.py` runs them in a temporary folder and stores what they show, pictures as small JPEGs.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"


def read(path: Path) -> dict[str, Any]:
    """The notebook: a mapping with a list of `cells`."""
    return json.loads(path.read_text(encoding="utf-8"))


def text_of(source: str | list[str]) -> str:
    """The text of a cell or of an output, which a notebook may keep as a list of lines."""
    return source if isinstance(source, str) else "".join(source)


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that are run, in their order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], names: dict[str, Any]) -> list[Any]:
    """Run every code cell in the namespace `names`; what each shows: its last expression, or None."""
    shown = []
    for number, cell in enumerate(code_cells(notebook), 1):
        tree = ast.parse(text_of(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102 (our own notebooks)
        expression = compile(ast.Expression(last.value), f"cell {number}", "eval") if last is not None else None
        shown.append(None if expression is None else eval(expression, names))  # noqa: S307
    return shown


def output(value: Any, number: int) -> dict[str, Any]:
    """What a notebook stores of a value that cell `number` shows."""
    data = {"text/plain": repr(value)}
    if hasattr(value, "save"):  # a Pillow image
        file = io.BytesIO()
        value.save(file, "JPEG", quality=85)
        data = {"image/jpeg": base64.b64encode(file.getvalue()).decode()}
    return {"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}}


def to_markdown(notebook: dict[str, Any], name: str) -> str:
    """The page of a notebook: its text, its code, what is stored of its outputs, and a link to the file."""
    parts = []
    for cell in notebook["cells"]:
        source = text_of(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown for entry in cell["outputs"] for shown in _shown(entry["data"])]
    return "\n\n".join([*parts, f"[Download the notebook]({name})"]) + "\n"


def _shown(data: dict[str, Any]) -> list[str]:
    pictures = [kind for kind in data if kind.startswith("image/")]
    if pictures:
        return [f'<img alt="output" src="data:{kind};base64,{text_of(data[kind]).strip()}">' for kind in pictures]
    return [f"```text\n{text_of(data['text/plain'])}\n```"]


def main() -> None:
    """Run all notebooks and store what they show."""
    here = Path.cwd()
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                shown = run(notebook, {"__name__": "__main__"})
            finally:
                os.chdir(here)
        for number, (cell, value) in enumerate(zip(code_cells(notebook), shown, strict=True), 1):
            cell["execution_count"] = number
            cell["outputs"] = [] if value is None else [output(value, number)]
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
