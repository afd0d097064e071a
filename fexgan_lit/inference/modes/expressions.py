"""`mode=expressions`: every source image with every named expression of a library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.inference.conditions import target_expression
from fexgan_lit.inference.config import LIBRARY
from fexgan_lit.inference.library import chosen_expressions, read_library
from fexgan_lit.inference.modes.transform import write_columns
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession


@dataclass
class ExpressionOptions(Options):
    """Named expressions.

    Attributes:
        library: the YAML file; see `fexgan_lit.inference.library`.
        expressions: `all`, a name, or names.
    """

    library: str = LIBRARY
    expressions: Any = "all"


def expressions(session: GenerationSession, options: ExpressionOptions) -> None:
    """Generate every face with every named expression, as PNG and on a sheet; with `paste=true` also pasted back.

    Raises:
        UserError: the library or a name is invalid, or an expression has action units, which the run does not read.
    """
    path = Path(options.library).expanduser()
    library = read_library(path, session.system.affects)
    chosen = chosen_expressions(library, options.expressions, path)
    if "aus" not in session.system.reads:
        unread = [name for name, spec in chosen.items() if spec.units]
        if unread and (options.expressions != "all" or len(unread) == len(chosen)):
            raise UserError(
                f"expressions={options.expressions}: {', '.join(unread)} of {path} asks for action units, which "
                f"{session.loaded.name} does not read; ganimation, mien and bridge do"
            )
        if unread:
            session.say(f"left out: {', '.join(unread)}, since {session.loaded.name} reads no action units")
        chosen = {name: spec for name, spec in chosen.items() if not spec.units}
    for name, spec in chosen.items():
        session.console.print(f"    {name}: {spec.label}", markup=False)
    wanted = [target_expression(session, spec) for spec in chosen.values()]
    labels = [session.marked(name, 0.0, asked) for name, asked in zip(chosen, wanted, strict=True)]
    write_columns(session, wanted, [file_name(name) for name in chosen], labels, "the faces with each named expression")
